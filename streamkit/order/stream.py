"""A stream: a dataset, an order of its samples, and no position.

It maps absolute positions to sample numbers, for any position of any pass, and keeps no state, so
that any number of loaders, threads and processes may ask it anything in any order.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sized
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkit.order.base import Order, Shuffle, checked_epochs, checked_seed
from streamkit.order.chunk_shuffle import ChunkShuffle
from streamkit.order.positions import checked_positions
from streamkit.order.sequential import Sequential

_MAX_IMPLIED_CHUNKS = 1 << 20


class Stream:
    """The samples of a dataset in a shuffled or stored order, over one or many epochs.

    Positions count samples from the start of the stream, over all passes: position p is in epoch
    `p // num_samples`, and each epoch has an order of its own. A pass is `epochs` epochs long; the
    positions after it belong to the next pass, in later epochs' orders.

    Thread-safe and picklable (with its dataset). The order's tables are built when first needed.

    Args:
        dataset: Anything with a length. Its `chunk_sizes`, int `[chunks]`, say how its samples lie
            in storage. Without them it counts as about sqrt(n) chunks (at most 2^20) of equally
            many neighbouring samples, so that neighbours are still read at about the same time.
        shuffle: True for `ChunkShuffle()`, False for stored order, or a shuffle.
        seed: The seed of the order, in [0, 2^64).
        epochs: The epochs of one pass, at least 1; None for a stream without an end.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range, or the dataset is empty.
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        shuffle: bool | Shuffle = True,
        seed: int = 0,
        epochs: int | None = None,
    ):
        if not hasattr(dataset, "__len__"):
            raise TypeError(
                f"a Stream needs a dataset with a length; {type(dataset).__name__} has no __len__"
            )
        self._dataset = dataset
        self._shuffle = _checked_shuffle(shuffle)
        self._seed = checked_seed(seed)
        self._epochs = checked_epochs(epochs)
        self._num_samples = len(dataset)
        if not self._num_samples:
            kind = type(dataset).__name__
            raise ValueError(f"the dataset ({kind}) has no samples: a Stream needs at least one")
        self._order: Order | None = None
        self._lock = threading.Lock()

    @property
    def dataset(self) -> Any:
        """The dataset, as given."""
        return self._dataset

    @property
    def shuffle(self) -> Shuffle:
        """The shuffle: an object also where a bool was given."""
        return self._shuffle

    @property
    def seed(self) -> int:
        """The seed of the order."""
        return self._seed

    @property
    def epochs(self) -> int | None:
        """The epochs of one pass; None for a stream without an end."""
        return self._epochs

    @property
    def num_samples(self) -> int:
        """The samples of one epoch."""
        return self._num_samples

    @property
    def order(self) -> Order:
        """The shuffle bound to the dataset's chunks; bound at the first use."""
        order = self._order
        if order is None:
            with self._lock:
                order = self._order
                if order is None:
                    sizes = _chunk_sizes(self._dataset, self._num_samples)
                    order = self._shuffle.bind(sizes, seed=self._seed, epochs=self._epochs)
                    self._order = order
        return order

    def indices(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Return the number of the sample at each position.

        Args:
            positions: Absolute positions, of any shape, in any pass.

        Returns:
            Sample numbers in `[0, num_samples)`: a new array of the shape of `positions`.

        Raises:
            TypeError: If the positions are not whole numbers.
            ValueError: If a position is negative.
        """
        return self.order.indices(positions)

    def slots(self, positions: ArrayLike) -> NDArray[np.int64] | None:
        """Return the slot of each position; None if rows keep their order of position.

        The rows of a batch are sorted by slot; see `row_order`.
        """
        return self.order.slots(positions)

    def indices_and_slots(
        self, positions: ArrayLike
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return `indices` and `slots` of the same positions, for the price of `indices`."""
        return self.order.indices_and_slots(positions)

    def epoch_of(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Return the epoch of each position, counted over all passes."""
        return np.asarray(checked_positions(positions) // self._num_samples)

    def __len__(self) -> int:
        if self._epochs is None:
            raise TypeError("a Stream with epochs=None has no length: it has no end")
        return self._epochs * self._num_samples

    def __repr__(self) -> str:
        return (
            f"Stream({self._dataset!r}, shuffle={self._shuffle!r}, seed={self._seed}, "
            f"epochs={self._epochs})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())


def _checked_shuffle(shuffle: object) -> Shuffle:
    if isinstance(shuffle, bool | np.bool_):
        return ChunkShuffle() if shuffle else Sequential()
    if isinstance(shuffle, type) or not isinstance(shuffle, Shuffle):
        raise TypeError(
            f"shuffle (={shuffle!r}) must be True, False or a shuffle such as ChunkShuffle(64) "
            "or GlobalShuffle()"
        )
    return shuffle


def _chunk_sizes(dataset: object, num_samples: int) -> NDArray[np.int64]:
    """Return the dataset's chunk sizes, or equal parts of about sqrt(n) samples without any."""
    given = getattr(dataset, "chunk_sizes", None)
    if given is None:
        count = min(math.isqrt(num_samples), _MAX_IMPLIED_CHUNKS)
        sizes = np.full(count, num_samples // count, np.int64)
        sizes[: num_samples % count] += 1
        return sizes
    sizes = np.asarray(given)
    total = int(sizes.sum())
    if total != num_samples:
        raise ValueError(
            f"the dataset's chunk_sizes sum to {total}, and its length is {num_samples}; "
            "they must be equal"
        )
    return sizes
