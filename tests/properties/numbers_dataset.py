"""The numbers 0..n-1 as a dataset in chunks of given sizes; the sample is its own number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamkit.datasets.base import ArraySpec, Dataset, Indices, Place, as_indices


class Numbers(Dataset):
    """A dataset whose batches show which samples were taken."""

    def __init__(self, chunk_sizes: Sequence[int]):
        self._sizes = np.asarray(chunk_sizes, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._sizes.sum())

    @property
    def element_spec(self) -> Any:
        return {"id": ArraySpec((), np.dtype(np.int64))}

    @property
    def chunk_sizes(self) -> Indices:
        return self._sizes

    @property
    def fingerprint(self) -> str:
        return f"numbers {self._sizes.tolist()}"

    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Any]:
        return [{"id": index} for index in indices.tolist()]

    def gather(self, indices: Any, *, at: Place | None = None) -> Any:
        return {"id": as_indices(indices, len(self)).copy()}

    def locate(self, indices: Any) -> Indices:
        ends = np.cumsum(self._sizes)
        return np.unique(np.searchsorted(ends, as_indices(indices, len(self)), side="right"))
