"""What a loader reads: a stream as it is, or a stream over anything with random access."""

from __future__ import annotations

import enum
import warnings
from typing import Any

from streamkit.datasets.sequence import as_dataset
from streamkit.order import Stream
from streamkit.pipeline.options import Batching


class Unset(enum.Enum):
    """The type of an argument that was not given."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset.UNSET


def stream_of(source: Any, **given: Any) -> Any:
    """The source if it is a stream already (it has an order and a dataset), else a stream over it.

    A mixture is one too: what counts is that it maps positions to samples of its dataset.
    """
    given = {name: value for name, value in given.items() if value is not UNSET}
    if hasattr(source, "indices") and hasattr(source, "slots") and hasattr(source, "dataset"):
        if given:
            names = " and ".join(given)
            raise TypeError(
                f"{names} given along with a {type(source).__name__}, to which the order belongs; "
                f"give {names} to the {type(source).__name__}"
            )
        return source
    as_dataset(source)  # says what is wrong with a source that no loader can read
    return Stream(source, **{"epochs": 1, **given})


def bound_anew(stream: Any) -> Any:
    """The same stream with an order of its own, whose locks no thread of a parent process holds."""
    if type(stream) is not Stream:
        return stream
    return Stream(stream.dataset, shuffle=stream.shuffle, seed=stream.seed, epochs=stream.epochs)


def warn_of_slots(stream: Any, batching: Batching) -> None:
    """Warn of rows that a process or a part of a batch would see few chunks in."""
    order = stream.order
    slots = order.num_slots
    if slots is None:
        return
    size, count = batching.batch_size, batching.shard.count
    if count > slots:
        warnings.warn(
            f"{count} processes share a window of {slots} chunks, so several read the same chunks; "
            f"use ChunkShuffle(window={count}) or a multiple of it",
            stacklevel=3,
        )
    if size > slots and order.num_chunks > slots:
        warnings.warn(
            f"batch_size (={size}) is larger than the shuffle's window of {slots} chunks, so rows "
            "of one chunk stand side by side in a batch, and a slice of its rows (a micro-batch) "
            f"sees few chunks; use ChunkShuffle(window={size}), or ignore this if batches are "
            "used whole",
            stacklevel=3,
        )
