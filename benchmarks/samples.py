"""300,000 samples `{x: float32[64], y: int64}`, read as shuffled batches of 256.

The limit is one thread that takes the same rows from two arrays in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import streamkit as sk
from benchmarks.measure import Result, Settings
from benchmarks.reading import Race

Columns = dict[str, NDArray[Any]]
_WRITE_ROWS = 10_000


def run(settings: Settings) -> Iterator[Result]:
    """Race the loader against `np.take`."""
    columns = make_columns(settings.pick(300_000, 3_000))
    with sk.open(_stored(settings.data, columns)) as dataset:
        yield Race(
            "samples x, y",
            dataset,
            256,
            settings.pick(12_000, 50),
            lambda rows: {name: np.take(c, rows, axis=0) for name, c in columns.items()},
            partial(_is_right, columns),
            0.3,
        ).run(settings)


def make_columns(count: int) -> Columns:
    """Stacked samples: x float32 `[count, 64]`, and y int64 `[count]`."""
    x = np.random.default_rng(0).standard_normal((count, 64), dtype=np.float32)
    return {"x": x, "y": np.arange(count)}


def write_columns(writer: sk.DatasetWriter, columns: Columns) -> None:
    """Write stacked samples in batches of ten thousand."""
    for at in range(0, len(columns["y"]), _WRITE_ROWS):
        writer.write_batch({name: c[at : at + _WRITE_ROWS] for name, c in columns.items()})


def _stored(data: Path, columns: Columns) -> Path:
    path = data / f"samples-{len(columns['y'])}"
    if not (path / "index.json").exists():
        with sk.DatasetWriter(path) as writer:
            write_columns(writer, columns)
    return path


def _is_right(columns: Columns, batch: Any, rows: NDArray[np.int64]) -> bool:
    return batch.keys() == columns.keys() and all(
        np.array_equal(batch[name], column[rows]) for name, column in columns.items()
    )
