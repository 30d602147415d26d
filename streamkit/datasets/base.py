"""What a dataset is: random access to samples, one at a time or gathered in batches.

A dataset answers *which bytes*: `len(ds)`, `ds[i]`, `ds.gather(indices)`, how the samples lie in
storage (`chunk_sizes`) and which stored chunks some of them need (`locate`). It knows nothing of
order, position or threads; every method may be called from several threads at once.
"""

from __future__ import annotations

import contextlib
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from streamkit.format.tree import TreeSpec, flatten

Sample = Any
Batch = Any
Indices = NDArray[np.int64]
Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
_SLICE_ROWS = 2**16


class Place(NamedTuple):
    """Where in a run a batch is read, for views whose samples depend on it.

    Attributes:
        seed: The stream's seed.
        epoch: The epoch, from 0.
        step: The loader's step, from 0.
    """

    seed: int
    epoch: int
    step: int


@dataclass(frozen=True)
class ArraySpec:
    """Shape and dtype of one leaf, known without reading data.

    Attributes:
        shape: The leaf's shape; None for an axis whose length varies.
        dtype: Its dtype; None for values that are not arrays (str, bytes, JSON, media).
        kind: "array", "ragged", "str", "bytes", "json", "image", "media" or "pickle".
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any] | None
    kind: str = "array"


class Dataset(ABC):
    """Random access to samples (pytrees of arrays).

    Subclasses implement `__len__`, `element_spec`, `chunk_sizes`, `fingerprint`, `samples`,
    `gather` and `locate`.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @property
    @abstractmethod
    def element_spec(self) -> Any:
        """The tree of one sample with an `ArraySpec` for each leaf, without reading data."""

    @property
    @abstractmethod
    def chunk_sizes(self) -> Indices:
        """Samples per stored chunk, int64 `[chunks]`, in order; their sum is `len(self)`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of content and layout, equal for copies of the dataset."""

    @abstractmethod
    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Sample]:
        """Read samples one tree each, with the Python types that were written.

        Args:
            indices: int64 `[rows]` in `[0, len(self))`.
            at: Where in a run they are read; most datasets ignore it.
        """

    @abstractmethod
    def gather(self, indices: Any, *, at: Place | None = None) -> Batch:
        """Read samples as one batch: the same tree of stacked columns.

        Args:
            indices: Integers `[rows]` in any order, with repeats; negative ones count from the
                end.
            at: Where in a run they are read; most datasets ignore it.

        Returns:
            Fixed columns as fresh, writable arrays `[rows, *shape]`; ragged leaves, str and bytes
            as a list with one value per sample.

        Raises:
            IndexError: An index is out of range.
        """

    @abstractmethod
    def locate(self, indices: Any) -> Indices:
        """Find the stored chunks that samples need: sorted distinct chunk numbers, int64."""

    def gather_batches(
        self,
        batches: Sequence[Indices],
        *,
        places: Sequence[Place] | None = None,
        allocate: Allocate | None = None,
    ) -> list[Batch]:
        """Read many batches at once, which costs less per batch than one call each.

        Args:
            batches: The indices of each batch, int64 `[rows]`.
            places: Where in a run each batch is read.
            allocate: Gives the memory of fixed columns: `allocate(shape, dtype)`.

        Returns:
            One batch each, as `gather` gives it, in memory of its own.
        """
        gathered = [
            self.gather(indices, at=None if places is None else places[number])
            for number, indices in enumerate(batches)
        ]
        if allocate is None:
            return gathered
        try:
            tree = flatten(self.element_spec)[1]
        except TypeError:
            tree = None  # a dataset that learns its structure when it is read
        return [_move(batch, tree, allocate) for batch in gathered]

    def prefix_fingerprint(self, num_samples: int) -> str | None:
        """The fingerprint that the first `num_samples` had before an append, if that is known."""
        return self.fingerprint if num_samples == len(self) else None

    @property
    def bytes_read(self) -> int:
        """Bytes handed out so far, for statistics."""
        return 0

    @overload
    def __getitem__(self, key: SupportsIndex) -> Sample: ...
    @overload
    def __getitem__(self, key: Any) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        """One sample for an integer; a list of samples for a slice, list, array or mask."""
        if isinstance(key, slice):
            # In parts, so that an index that claims too much fails before memory is taken for it.
            numbers = range(*key.indices(len(self)))
            parts = (numbers[i : i + _SLICE_ROWS] for i in range(0, len(numbers), _SLICE_ROWS))
            indices = (np.arange(p.start, p.stop, p.step, dtype=np.int64) for p in parts)
            return [sample for some in indices for sample in self.samples(some)]
        number = None
        if not isinstance(key, (bool, np.bool_)) and not getattr(key, "ndim", 0):
            with contextlib.suppress(TypeError):
                number = operator.index(key)
        if number is None:
            return self.samples(as_indices(key, len(self)))
        if not -len(self) <= number < len(self):
            raise out_of_range(number, len(self))
        return self.samples(np.array([number % len(self)], np.int64))[0]

    def close(self) -> None:  # noqa: B027
        """Let go of files and memory; reading again opens them again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def as_indices(key: Any, length: int) -> Indices:
    """Turn integers or a boolean mask into int64 indices in `[0, length)`.

    Raises:
        TypeError: Not integers and not booleans.
        IndexError: Out of range, or a mask of another length.
    """
    array = np.asarray(key)
    if array.ndim == 0:
        raise TypeError(
            f"indices must be integers, slices, or lists or arrays of them, got {key!r:.80}"
        )
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)  # np.asarray([]) is float64
    if array.ndim != 1:
        raise TypeError(f"indices must have one dimension, got an array of shape {array.shape}")
    if array.dtype.kind == "b":
        if len(array) != length:
            raise IndexError(f"a mask of {len(array)} booleans for a dataset of {length} samples")
        return np.flatnonzero(array).astype(np.int64, copy=False)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"indices must be integers, slices or booleans, got {array.dtype} ({key!r:.80})"
        )
    if array.size == 0:
        return array.astype(np.int64)
    low, high = int(array.min()), int(array.max())
    if low < -length or high >= length:
        raise out_of_range(low if low < -length else high, length)
    indices = array.astype(np.int64, copy=False)
    return np.where(indices < 0, indices + length, indices) if low < 0 else indices


def out_of_range(index: int, length: int) -> IndexError:
    """The error for an index that a dataset does not have."""
    return IndexError(f"index {index} is out of range for a dataset of {length:,} samples")


def _move(batch: Batch, tree: TreeSpec | None, allocate: Allocate) -> Batch:
    """Copy the arrays of a batch into memory that `allocate` gives; lists of values stay."""
    if tree is None:
        _, tree = flatten(batch, batch=True)
    columns = tree.flatten(batch)
    for number, column in enumerate(columns):
        if isinstance(column, np.ndarray):
            columns[number] = allocate(column.shape, column.dtype)
            columns[number][...] = column
    return tree.unflatten(columns)
