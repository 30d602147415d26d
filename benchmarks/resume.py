"""Going on in mid-epoch: from `load_state_dict` to the first batch, at any size.

Each repeat has a new loader, whose construction is shown apart, so that nothing is left over from
the repeat before. The dataset is synthetic: what counts is that no work grows with the samples.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np

import streamkit as sk
from benchmarks.measure import Result, Settings, interleave
from benchmarks.synthetic import Numbers

_BATCH_SIZE = 64
_CASES = ((10**4, 100), (10**8, 100), (10**12, 100), (10**8, 10**5), (10**12, 10**5))
# Between 10^4 and 10^12 samples in as many chunks; work that grew would show as a factor of 10^8.
_FLAT = 2.0


def run(settings: Settings) -> Iterator[Result]:
    """Resume at each size, and compare the smallest with the largest."""
    constructed: dict[str, list[float]] = {}
    runs = {}
    for num_samples, num_chunks in _CASES:
        name = f"resume at {num_samples:.0e} in {num_chunks:.0e} chunks".replace("e+", "e")
        constructed[name] = []
        dataset = Numbers(num_samples, num_chunks)
        runs[name] = partial(_resume, dataset, constructed[name])
    interleave(runs, 1)  # first calls pay for what is imported when it is needed
    seconds = interleave(runs, settings.pick(15, 2))
    milliseconds = {name: 1e3 * median(found) for name, found in seconds.items()}
    for name, value in milliseconds.items():
        yield Result.at_most(
            name, "ms", value, 10, construct_milliseconds=1e3 * median(constructed[name])
        )
    same_chunks = list(milliseconds.values())[:3]
    yield Result.at_most(
        "resume at 1e12 over that at 1e4", "times", same_chunks[2] / same_chunks[0], _FLAT
    )


def _resume(dataset: Numbers, constructed: list[float]) -> float:
    """Go on from the middle of the epoch; returns the seconds until the first batch is there."""
    middle = len(dataset) // 2 // _BATCH_SIZE * _BATCH_SIZE
    saved = sk.Loader(dataset, batch_size=_BATCH_SIZE, seed=1).state_dict()
    state = {**saved, "position": middle}
    begin = time.perf_counter()
    loader = sk.Loader(dataset, batch_size=_BATCH_SIZE, seed=1)
    constructed.append(time.perf_counter() - begin)
    with loader:
        begin = time.perf_counter()
        loader.load_state_dict(state)
        batch = next(iter(loader))
        seconds = time.perf_counter() - begin
        expected = sk.Stream(dataset, seed=1, epochs=1).indices(
            np.arange(middle, middle + _BATCH_SIZE)
        )
        if not np.array_equal(np.sort(batch["index"]), np.sort(expected)):
            raise AssertionError(f"resumed at {middle} of {len(dataset)} with the wrong samples")
    return seconds
