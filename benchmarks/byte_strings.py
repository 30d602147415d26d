"""10,000 byte strings of 110 kB, read as shuffled batches of 64 `bytes`.

The limit is one thread that copies the same strings out of one buffer in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import streamkit as sk
from benchmarks.measure import Result, Settings
from benchmarks.reading import Race

_LENGTH = 110_000


def run(settings: Settings) -> Iterator[Result]:
    """Race the loader against `bytes(memoryview)`."""
    count = settings.pick(10_000, 80)
    data = memoryview(np.random.default_rng(0).bytes(count * _LENGTH))
    strings = [data[at : at + _LENGTH] for at in range(0, len(data), _LENGTH)]

    def is_right(batch: Any, rows: NDArray[np.int64]) -> bool:
        pairs = zip(batch["data"], rows.tolist(), strict=True)
        return all(type(value) is bytes and value == strings[row] for value, row in pairs)

    with sk.open(_stored(settings.data, strings)) as dataset:
        yield Race(
            "byte strings of 110 kB",
            dataset,
            64,
            settings.pick(625, 5),
            lambda rows: {"data": [bytes(strings[row]) for row in rows.tolist()]},
            is_right,
            0.7,
        ).run(settings)


def _stored(data: Path, strings: list[memoryview]) -> Path:
    path = data / f"byte-strings-{len(strings)}"
    if not (path / "index.json").exists():
        with sk.DatasetWriter(path) as writer:
            for string in strings:
                writer.write({"data": bytes(string)})
    return path
