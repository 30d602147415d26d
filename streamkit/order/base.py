"""What an order is: the two protocols that every shuffle and every bound order keep.

A *shuffle* is a small frozen description, such as `ChunkShuffle(window=64)`. Bound to the chunks of
a dataset, a seed and a number of epochs it becomes an *order*: a pure function from positions to
sample numbers that knows no host, thread or file.
"""

from __future__ import annotations

import operator
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkit.order.permutation import MAX_DOMAIN


class Order(Protocol):
    """A bound order. Orders are immutable to their users, thread-safe and picklable.

    Positions are absolute: samples consumed since the start of the stream, over all passes. All
    methods take positions of any shape and return new int64 arrays of that shape; a negative
    position is a `ValueError`, a fractional one a `TypeError`.
    """

    @property
    def num_samples(self) -> int:
        """The samples of one epoch, at least 1."""

    @property
    def num_chunks(self) -> int:
        """The chunks that hold samples."""

    @property
    def num_slots(self) -> int | None:
        """The number of slots, S; None where rows keep their order of position."""

    def indices(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Return the number of the sample at each position."""

    def slots(self, positions: ArrayLike) -> NDArray[np.int64] | None:
        """Return the slot of each position, by which the rows of a batch are sorted; or None."""

    def indices_and_slots(
        self, positions: ArrayLike
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return both at once, for the price of `indices`."""

    def prepare(self, epoch: int) -> None:
        """Build what an epoch needs ahead of its first use, in the calling thread."""


@runtime_checkable
class Shuffle(Protocol):
    """A description of an order: frozen, comparable and picklable."""

    def bind(self, chunk_sizes: ArrayLike, *, seed: int = 0, epochs: int | None = None) -> Order:
        """Bind the shuffle to data.

        Args:
            chunk_sizes: The samples of each chunk in stored order, `[chunks]`; may hold zeros.
            seed: In [0, 2^64).
            epochs: The epochs of one pass, at least 1; None for one pass without an end.

        Raises:
            TypeError: If an argument is not of whole numbers.
            ValueError: If an argument is out of range, or there are no samples.
        """


def checked_chunk_sizes(chunk_sizes: ArrayLike) -> NDArray[np.int64]:
    """Return a copy of the chunk sizes as int64 `[chunks]`, checked as `Shuffle.bind` says."""
    sizes = np.asarray(chunk_sizes)
    if sizes.ndim != 1:
        raise ValueError(f"chunk_sizes must have one dimension, not the shape {sizes.shape}")
    if not sizes.size:
        raise ValueError("there are no chunks: an order needs at least one sample")
    if sizes.dtype.kind not in "iu":
        raise TypeError(f"chunk_sizes must be whole numbers, not {sizes.dtype}")
    if (wrong := np.flatnonzero(sizes < 0)).size:
        first = int(wrong[0])
        raise ValueError(f"chunk_sizes[{first}] (={sizes[first]}) must be >= 0")
    # In float64, whose rounding cannot hide that an int64 sum went past its end.
    total = float(sizes.sum(dtype=np.float64))
    if not total:
        raise ValueError(f"all {sizes.size} chunks are empty: an order needs at least one sample")
    if total > MAX_DOMAIN:
        raise ValueError(f"chunk_sizes hold {total:.3g} samples; an order has at most 2^62")
    return sizes.astype(np.int64)


def checked_seed(seed: int) -> int:
    """Return a seed as a Python int in [0, 2^64), or raise TypeError or ValueError."""
    number = checked_integer("seed", seed)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"seed (={number}) must be in [0, 2^64)")
    return number


def checked_epochs(epochs: int | None) -> int | None:
    """Return a number of epochs >= 1 as a Python int, or None for no end."""
    if epochs is None:
        return None
    number = checked_integer("epochs", epochs)
    if number < 1:
        raise ValueError(f"epochs (={number}) must be >= 1, or None for a stream without an end")
    return number


def checked_integer(name: str, value: object) -> int:
    """Return a Python or NumPy integer as an int; refuse booleans and everything else."""
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} (={value!r}) must be an integer, not {type(value).__name__}")
    try:
        return operator.index(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} (={value!r}) must be an integer, not {kind}") from None
