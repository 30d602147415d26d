"""Anything with `__len__` and `__getitem__` as a dataset.

Lists, torch map-style datasets, Hugging Face datasets, and subclasses of our own datasets that
override `__getitem__`: samples come from `source[i]` (or from `__getitems__`, where the class
that defines it also speaks for its `__getitem__`) and are stacked by `collate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from streamkit.datasets.base import Batch, Dataset, Indices, Place, Sample, as_indices
from streamkit.datasets.collate import collate


def as_dataset(source: Any) -> Dataset:
    """Take a dataset as it is, and wrap any other sequence.

    Args:
        source: A `Dataset`, or an object with `__len__` and `__getitem__`.

    Returns:
        A dataset whose samples are exactly `source[i]`.

    Raises:
        TypeError: The source has no length or no random access.
    """
    if isinstance(source, Dataset):
        overridden = type(source).__getitem__ is not Dataset.__getitem__
        return OverriddenDataset(source) if overridden else source
    if isinstance(source, (str, bytes, Mapping, set, frozenset)):
        raise TypeError(
            f"a source of type {type(source).__name__} has no samples 0, 1, 2, ...; give a list of "
            "samples, a dataset, or a Stream"
        )
    for method in ("__len__", "__getitem__"):
        if not hasattr(source, method):
            raise TypeError(
                f"a source of type {type(source).__name__} has no {method}; the loader needs "
                "random access: a dataset, a Stream, or anything with __len__ and __getitem__"
            )
    return SequenceDataset(source)


class SequenceDataset(Dataset):
    """A sequence read sample by sample; several threads may call its `__getitem__` at once.

    Args:
        source: Has `__len__` and `__getitem__(int)`.
    """

    def __init__(self, source: Any):
        self._source = source
        self._many = _getitems(source)
        self.reads_many = self._many is not None

    def __len__(self) -> int:
        return len(self._source)

    @property
    def element_spec(self) -> Any:
        """Unknown: nothing says what a sequence holds before it is read."""
        raise TypeError(
            f"the element_spec of a {type(self._source).__name__} is not known without reading "
            "data; look at loader.batch(0) instead"
        )

    @property
    def chunk_sizes(self) -> Indices:
        """One chunk: a sequence says nothing about its storage."""
        return np.array([len(self)], dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """The type's name and the length, all that can be known without reading."""
        kind = type(self._source)
        return f"{kind.__module__}.{kind.__qualname__}[{len(self)}]"

    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Sample]:
        """Call `__getitem__` with a Python int for each index."""
        numbers = indices.tolist()
        if self._many is not None:
            return list(self._many(numbers))
        return [self._source[number] for number in numbers]

    def gather(self, indices: Any, *, at: Place | None = None) -> Batch:
        """Stack the samples with `collate`."""
        return collate(self.samples(as_indices(indices, len(self)), at=at))

    def locate(self, indices: Any) -> Indices:
        """The only chunk, 0."""
        return np.zeros(min(1, len(as_indices(indices, len(self)))), dtype=np.int64)


class OverriddenDataset(SequenceDataset):
    """One of our datasets whose subclass overrides `__getitem__`: samples come from there."""

    _source: Dataset

    @property
    def chunk_sizes(self) -> Indices:
        """The chunks of the dataset below."""
        return self._source.chunk_sizes

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the dataset below."""
        return self._source.fingerprint

    def prefix_fingerprint(self, num_samples: int) -> str | None:
        """As the dataset below knows it."""
        return self._source.prefix_fingerprint(num_samples)

    def locate(self, indices: Any) -> Indices:
        """As the dataset below says."""
        return self._source.locate(indices)

    @property
    def bytes_read(self) -> int:
        """The counter of the dataset below."""
        return self._source.bytes_read


def _getitems(source: Any) -> Any:
    """The source's `__getitems__`, unless a subclass overrides only `__getitem__` over it."""
    for kind in type(source).__mro__:
        if "__getitems__" in vars(kind):
            return source.__getitems__
        if "__getitem__" in vars(kind):
            return None
    return None
