"""No shuffle: the samples in stored order, epoch after epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkit.order.base import checked_chunk_sizes, checked_epochs, checked_seed
from streamkit.order.positions import checked_positions


@dataclass(frozen=True)
class Sequential:
    """Read samples in stored order; what `shuffle=False` means."""

    def bind(
        self, chunk_sizes: ArrayLike, *, seed: int = 0, epochs: int | None = None
    ) -> SequentialOrder:
        """Bind to data; see `Shuffle.bind`. The seed is checked, and has no effect."""
        checked_seed(seed)
        checked_epochs(epochs)
        sizes = checked_chunk_sizes(chunk_sizes)
        return SequentialOrder(int(sizes.sum()), int(np.count_nonzero(sizes)))


@dataclass(frozen=True)
class SequentialOrder:
    """The order of `Sequential`: sample `position % num_samples`. See `Order`.

    Attributes:
        num_samples: The samples of one epoch.
        num_chunks: The chunks that hold samples.
    """

    num_samples: int
    num_chunks: int

    @property
    def num_slots(self) -> None:
        """None: rows keep their order of position."""
        return None

    def indices(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Return the number of the sample at each position; see `Order`."""
        return np.asarray(checked_positions(positions) % self.num_samples)

    def slots(self, positions: ArrayLike) -> None:
        """Return None: rows keep their order of position."""
        checked_positions(positions)

    def indices_and_slots(self, positions: ArrayLike) -> tuple[NDArray[np.int64], None]:
        """Return the samples' numbers, and None."""
        return self.indices(positions), None

    def prepare(self, epoch: int) -> None:
        """Do nothing: an epoch needs no table."""
