"""A full shuffle: one permutation of all samples an epoch, in no memory at all.

Every position reads anywhere in the data, so this suits data with cheap random access: memory,
local disks, small samples read once. For chunks that have to be fetched, see `ChunkShuffle`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkit.order.base import checked_chunk_sizes, checked_epochs, checked_seed
from streamkit.order.hashing import derive_key
from streamkit.order.permutation import permute
from streamkit.order.positions import checked_positions, runs_of_periods


@dataclass(frozen=True)
class GlobalShuffle:
    """Shuffle all samples with each other, anew in each epoch, wherever they are stored."""

    def bind(
        self, chunk_sizes: ArrayLike, *, seed: int = 0, epochs: int | None = None
    ) -> GlobalOrder:
        """Bind to data; see `Shuffle.bind`."""
        seed = checked_seed(seed)
        checked_epochs(epochs)
        sizes = checked_chunk_sizes(chunk_sizes)
        return GlobalOrder(int(sizes.sum()), int(np.count_nonzero(sizes)), seed)


@dataclass(frozen=True)
class GlobalOrder:
    """The order of `GlobalShuffle`: a keyed permutation of `[0, num_samples)`. See `Order`.

    Attributes:
        num_samples: The samples of one epoch.
        num_chunks: The chunks that hold samples.
        seed: The seed; the key of an epoch is a hash of both.
    """

    num_samples: int
    num_chunks: int
    seed: int

    @property
    def num_slots(self) -> None:
        """None: rows keep their order of position."""
        return None

    def indices(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Return the number of the sample at each position; see `Order`."""
        array = checked_positions(positions)
        flat = array.reshape(-1)
        out = np.empty_like(flat)
        for epoch, chosen in runs_of_periods(flat, self.num_samples):
            key = derive_key(self.seed, "samples of the dataset", epoch)
            local = flat[chosen] - epoch * self.num_samples
            out[chosen] = permute(local, self.num_samples, key)
        return out.reshape(array.shape)

    def slots(self, positions: ArrayLike) -> None:
        """Return None: rows keep their order of position."""
        checked_positions(positions)

    def indices_and_slots(self, positions: ArrayLike) -> tuple[NDArray[np.int64], None]:
        """Return the samples' numbers, and None."""
        return self.indices(positions), None

    def prepare(self, epoch: int) -> None:
        """Do nothing: an epoch needs no table."""
