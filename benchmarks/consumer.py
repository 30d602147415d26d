"""A consumer whose step takes 1.2 times the assembly of a batch: how long does it wait?

The step is a fixed amount of work, timed by itself beforehand. One kind of step is NumPy, which
lets other threads run; the other is pure Python, which holds the interpreter's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from statistics import median

import numpy as np

import streamkit as sk
from benchmarks.measure import Result, Settings, timed
from benchmarks.reading import prefetch_depth
from benchmarks.tokens import BLOCK_SIZE, make_tokens, store_tokens

_STEP_RATIO = 1.2
_LANES = 4096

Work = Callable[[int], None]


def run(settings: Settings) -> Iterator[Result]:
    """Let both kinds of consumer take small and large batches of tokens."""
    tokens = make_tokens(settings.pick(20_000_000, 600_000))
    with sk.open(store_tokens(settings.data, tokens)) as dataset:
        blocks = sk.TokenBlocks(dataset, BLOCK_SIZE, dtype=None)
        for batch_size in (32, 256):
            make = partial(sk.Loader, blocks, batch_size=batch_size, epochs=None)
            skip = 2 * prefetch_depth(make)
            steps = settings.pick(200_000, 6_400) // batch_size
            assembly = _assembly_seconds(make, skip, steps)
            for kind, work in (("NumPy", _numpy_step()), ("pure-Python", _python_step)):
                amount = _amount(work, _STEP_RATIO * assembly)
                runs = [
                    _waiting(make, partial(work, amount), skip, steps)
                    for _ in range(settings.repeats)
                ]
                share, slower = (median(found) for found in zip(*runs, strict=True))
                yield Result.at_most(
                    f"consumer [{batch_size}, {BLOCK_SIZE}], {kind} step",
                    "% waiting",
                    100 * share,
                    2,
                    assemble_batch_microseconds=1e6 * assembly,
                    seconds_over_steps_alone=slower,
                )


def _assembly_seconds(make: Callable[..., sk.Loader], skip: int, steps: int) -> float:
    """What the threads need for a batch while the consumer does nothing."""
    with make() as loader:
        batches = iter(loader)
        for batch in islice(batches, skip):
            del batch
        before = loader.stats
        for batch in islice(batches, steps):
            del batch
        after = loader.stats
    return (after.assemble_seconds - before.assemble_seconds) / steps


def _waiting(
    make: Callable[..., sk.Loader], step: Callable[[], None], skip: int, steps: int
) -> tuple[float, float]:
    """The share of waiting in a consumer's time, and that time over that of its steps alone."""
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    alone = time.perf_counter() - begin
    with make() as loader:
        batches = iter(loader)
        for _batch in islice(batches, skip):
            step()
        before = loader.stats
        begin = time.perf_counter()
        for _batch in islice(batches, steps):
            step()
        seconds = time.perf_counter() - begin
        after = loader.stats
    return (after.wait_seconds - before.wait_seconds) / seconds, seconds / alone


def _numpy_step() -> Work:
    """Work in units of one lane: exponentials, in pieces that fit the first cache."""
    source = np.linspace(0, 1, _LANES)
    out = np.empty_like(source)

    def work(lanes: int) -> None:
        for _ in range(lanes // _LANES):
            np.exp(source, out=out)
        rest = lanes % _LANES
        np.exp(source[:rest], out=out[:rest])

    return work


def _python_step(turns: int) -> None:
    for _ in range(turns):
        pass


def _amount(work: Work, seconds: float) -> int:
    """How many units of work take this long."""
    amount = 1000
    for _ in range(5):
        took = median(timed(partial(work, amount)) for _ in range(50))
        amount = max(1, round(amount * seconds / took))
    return amount
