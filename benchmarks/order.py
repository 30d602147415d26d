"""The order by itself: indices per second in bulk, memory at 10^12 samples, and the start."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

import streamkit as sk
from benchmarks.measure import Result, Settings, interleave, timed

# Samples and chunks.
_SIZES = ((10**6, 10**2), (10**9, 10**4), (10**12, 10**5))
_FLAT = 1.2
_START_CHUNKS = 10**6


def run(settings: Settings) -> Iterator[Result]:
    """Measure both shuffles at several sizes."""
    yield from _bulk(settings)
    yield from _memory(settings)
    yield from _start(settings)


def _bulk(settings: Settings) -> Iterator[Result]:
    """Indices per second for a million positions at once, with tables that are there already."""
    count = settings.pick(1_000_000, 20_000)
    runs = {}
    for shuffle in (sk.ChunkShuffle(), sk.GlobalShuffle()):
        for num_samples, num_chunks in _SIZES:
            order = shuffle.bind(_chunks(num_samples, num_chunks), seed=1)
            positions = np.arange(num_samples // 2, num_samples // 2 + count) % num_samples
            order.indices(positions[:1])
            name = f"order {type(shuffle).__name__} at {num_samples:.0e}".replace("e+", "e")
            runs[name] = partial(timed, partial(order.indices, positions))
    for name, seconds in interleave(runs, settings.repeats).items():
        yield Result.at_least(name, "M indices/s", count / median(seconds) / 1e6, 10)


def _memory(settings: Settings) -> Iterator[Result]:
    """Peak memory of binding and of ten thousand positions, with as many chunks at each size."""
    num_chunks = settings.pick(10**5, 10**3)
    for shuffle in (sk.ChunkShuffle(), sk.GlobalShuffle()):
        peaks = [
            _peak(shuffle, _chunks(num_samples, num_chunks)) for num_samples in (10**6, 10**12)
        ]
        name = f"order {type(shuffle).__name__} memory"
        yield Result.plain(
            f"{name} at 1e12",
            "MB",
            peaks[1] / 1e6,
            num_chunks=num_chunks,
            bytes_per_chunk=peaks[1] / num_chunks,
        )
        yield Result.at_most(f"{name}, 1e12 over 1e6", "times", peaks[1] / peaks[0], _FLAT)


def _peak(shuffle: sk.ChunkShuffle | sk.GlobalShuffle, chunks: NDArray[np.int64]) -> float:
    """Bytes allocated at the worst moment."""
    positions = np.arange(10_000) + int(chunks.sum()) // 2
    tracemalloc.start()
    shuffle.bind(chunks, seed=1).indices(positions)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def _start(settings: Settings) -> Iterator[Result]:
    """Seconds from nothing to the first batch of indices."""
    first = np.arange(256)
    num_chunks = settings.pick(_START_CHUNKS, 10**3)
    chunks = _chunks(10**10, num_chunks)
    runs = {
        f"order ChunkShuffle start, {num_chunks:,} chunks": partial(
            timed, lambda: sk.ChunkShuffle().bind(chunks, seed=1).indices(first)
        ),
        "order GlobalShuffle start, 1e12 samples": partial(
            timed, lambda: sk.GlobalShuffle().bind(np.array([10**12]), seed=1).indices(first)
        ),
    }
    for name, seconds in interleave(runs, settings.pick(5, 1)).items():
        yield Result.at_most(name, "s", median(seconds), 1)


def _chunks(num_samples: int, num_chunks: int) -> NDArray[np.int64]:
    """Chunks of different sizes that hold `num_samples` together."""
    ends = np.linspace(0, 1, num_chunks + 1) ** 1.01 * num_samples
    return np.round(ends[1:]).astype(np.int64) - np.round(ends[:-1]).astype(np.int64)
