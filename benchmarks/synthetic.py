"""A dataset of any size that stores nothing: a sample is its own number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import streamkit as sk


class Numbers(sk.Dataset):
    """Samples `{"index": int64}` that are their own numbers, in chunks of one size or one more.

    Args:
        num_samples: How many.
        num_chunks: In how many chunks.
    """

    def __init__(self, num_samples: int, num_chunks: int):
        self._num_samples = num_samples
        self._ends = np.arange(num_chunks + 1) * (num_samples // num_chunks)
        self._ends += np.minimum(np.arange(num_chunks + 1), num_samples % num_chunks)

    def __len__(self) -> int:
        return self._num_samples

    @property
    def element_spec(self) -> Any:
        return {"index": sk.ArraySpec((), np.dtype(np.int64))}

    @property
    def chunk_sizes(self) -> NDArray[np.int64]:
        return np.diff(self._ends)

    @property
    def fingerprint(self) -> str:
        return f"numbers-{self._num_samples}-{len(self._ends) - 1}"

    def samples(self, indices: NDArray[np.int64], *, at: sk.Place | None = None) -> list[Any]:
        return [{"index": index} for index in indices.tolist()]

    def gather(self, indices: Any, *, at: sk.Place | None = None) -> Any:
        return {"index": np.array(indices, np.int64)}

    def locate(self, indices: Any) -> NDArray[np.int64]:
        return np.unique(np.searchsorted(self._ends, indices, side="right") - 1)
