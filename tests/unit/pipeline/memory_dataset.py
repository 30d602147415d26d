"""A dataset in memory that counts what is asked of it, and can be told to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamkit.datasets.base import ArraySpec, Dataset, Indices, Place, as_indices


class MemoryDataset(Dataset):
    """Samples `{"x": [i, 2i], "id": i}`, or the columns given.

    Args:
        num_samples: How many.
        chunk: Samples per chunk.
        bad: Indices that cannot be read.
        columns: Other columns: arrays, or lists for ragged ones.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        chunk: int = 10,
        bad: Sequence[int] = (),
        columns: dict[str, Any] | None = None,
        version: str = "v1",
    ):
        ids = np.arange(num_samples)
        self.columns = columns or {"x": np.stack([ids, 2 * ids], axis=1), "id": ids}
        self.num_samples, self.chunk, self.bad = num_samples, chunk, set(bad)
        self.version = version
        self.prefixes: dict[int, str] = {}
        self.places: list[Place | None] = []
        self.hook: Callable[[], None] | None = None

    def __len__(self) -> int:
        return self.num_samples

    @property
    def element_spec(self) -> Any:
        return {
            name: ArraySpec(column.shape[1:], column.dtype)
            if isinstance(column, np.ndarray)
            else ArraySpec((None,), np.dtype(np.int64), "ragged")
            for name, column in self.columns.items()
        }

    @property
    def chunk_sizes(self) -> Indices:
        starts = np.arange(0, self.num_samples, self.chunk)
        return np.diff(np.append(starts, self.num_samples))

    @property
    def fingerprint(self) -> str:
        return f"{self.version}:{self.num_samples}"

    def prefix_fingerprint(self, num_samples: int) -> str | None:
        return self.prefixes.get(num_samples)

    def _check(self, indices: Indices) -> None:
        if self.hook is not None:
            self.hook()
        for index in indices.tolist():
            if index in self.bad:
                raise OSError(f"cannot read {index}")

    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Any]:
        self._check(indices)
        self.places.append(at)
        return [
            {name: column[i] for name, column in self.columns.items()} for i in indices.tolist()
        ]

    def gather(self, indices: Any, *, at: Place | None = None) -> Any:
        indices = as_indices(indices, len(self))
        self._check(indices)
        self.places.append(at)
        return {
            name: column[indices]
            if isinstance(column, np.ndarray)
            else [column[i] for i in indices.tolist()]
            for name, column in self.columns.items()
        }

    def locate(self, indices: Any) -> Indices:
        return np.unique(as_indices(indices, len(self)) // self.chunk)
