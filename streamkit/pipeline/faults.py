"""Bad samples: how they are named, replaced and counted.

A sample is bad when reading or transforming it raises. What stands in its place is a function of
the stream's seed and the position, so that every process, thread count and run agree on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from streamkit.datasets.base import Dataset
from streamkit.errors import SampleError
from streamkit.order.hashing import derive_key, keyed_hash, scale

T = TypeVar("T")

_MAX_SUBSTITUTES = 16


class Cancelled(BaseException):
    """The batch being made is wanted no more; never seen outside of this package."""


def sample_error(
    stage: str, error: BaseException, dataset: Dataset, *, index: int, position: int, step: int
) -> SampleError:
    """Name a bad sample; the original error is the `__cause__`.

    Args:
        stage: What failed: "reading" or "transform".
        error: The original error, with its traceback.
        dataset: Tells the chunk.
        index: The sample's number in the dataset.
        position: Its position in the stream.
        step: The step of its batch.
    """
    named = SampleError(
        f"{stage} failed for sample {index} ({_chunk(dataset, index)}) at position {position}, "
        f"step {step}: {_shown(error)}",
        index=index,
        position=position,
    )
    named.__cause__ = error
    return named


def batch_error(stage: str, error: BaseException, *, position: int, step: int) -> SampleError:
    """Name a failure that belongs to a whole batch and to no one sample of it."""
    named = SampleError(
        f"{stage} failed for the batch at position {position}, step {step}: {_shown(error)}",
        position=position,
    )
    named.__cause__ = error
    return named


def substitute(
    seed: int, position: int, dataset: Dataset, read: Callable[[int], T], failed: SampleError
) -> tuple[int, T]:
    """Find a sample to stand in for a bad one: the first good one of a keyed sequence.

    Args:
        seed: The stream's seed.
        position: The bad sample's position.
        dataset: Where the substitute comes from.
        read: Reads (and transforms) the sample of an index; raises if it is bad too.
        failed: The bad sample's error.

    Returns:
        The substitute's index, and what `read` gave for it.

    Raises:
        SampleError: None of 16 candidates was good.
    """
    attempts = np.arange(_MAX_SUBSTITUTES, dtype=np.int64)
    hashes = keyed_hash(derive_key(seed, "replace", position), attempts)
    for index in scale(hashes, len(dataset)).tolist():
        try:
            return index, read(index)
        except Exception:  # the next candidate may be good
            continue
    raise SampleError(
        f"{failed}; none of {_MAX_SUBSTITUTES} samples tried in its place was good either",
        index=failed.index,
        position=failed.position,
    ) from failed.__cause__


def too_many(bad: SampleError, allowed: int) -> SampleError:
    """The error of one bad sample more than `max_errors`."""
    error = SampleError(
        f"{bad}; this is one bad sample more than max_errors={allowed} allows",
        index=bad.index,
        position=bad.position,
    )
    error.__cause__ = bad.__cause__
    return error


def _chunk(dataset: Dataset, index: int) -> str:
    try:
        chunks = dataset.locate(np.array([index], dtype=np.int64)).tolist()
    except Exception:  # the message must not hide the error it is about
        return "its chunk is not known"
    return "chunk " + ", ".join(map(str, chunks))


def _shown(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
