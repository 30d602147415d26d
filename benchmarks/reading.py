"""The race between a whole `Loader` and a limit that takes the same rows in the same order.

The rows are worked out from the stream's public arithmetic, not from the loader, and a pass
outside the clock compares every row of every batch with the data. That pass also warms the page
cache and has all frames verified.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import streamkit as sk
from benchmarks.measure import Result, Settings, interleave

Indices = NDArray[np.int64]
_SETTLED_SECONDS = 0.05


@dataclass(frozen=True)
class Race:
    """A loader, and what it is measured against.

    Attributes:
        case: What is measured.
        dataset: What the loader reads, shuffled, without an end.
        batch_size: Rows of a batch.
        steps: Batches timed in each repeat.
        limit: Makes the batch of some rows, int64 `[batch_size]`, from memory.
        is_right: Whether a batch holds just these rows.
        target: The least ratio; None to show it only.
    """

    case: str
    dataset: sk.Dataset
    batch_size: int
    steps: int
    limit: Callable[[Indices], object]
    is_right: Callable[[Any, Indices], bool]
    target: float | None

    def loader(self, **options: Any) -> sk.Loader:
        """A new loader at the start of the stream."""
        return sk.Loader(
            self.dataset, batch_size=self.batch_size, shuffle=True, epochs=None, **options
        )

    def run(self, settings: Settings) -> Result:
        """Check the rows, then time both sides in turn."""
        depth = prefetch_depth(self.loader)
        # Batches made before the clock starts would count as free work: twice the depth is skipped.
        skip = 2 * depth
        rows = rows_of(self.dataset, self.batch_size, skip + self.steps)
        self.check(rows)
        assembly: list[float] = []

        def ours() -> float:
            with self.loader() as loader:
                batches = iter(loader)
                for batch in islice(batches, skip):
                    del batch
                before = loader.stats
                begin = time.perf_counter()
                for _batch in islice(batches, self.steps):
                    pass
                seconds = time.perf_counter() - begin
                after = loader.stats
            made = after.assemble_seconds - before.assemble_seconds
            assembly.append(made / self.steps)
            return seconds

        def limit() -> float:
            begin = time.perf_counter()
            for chosen in rows[skip:]:
                _batch = self.limit(chosen)  # held until the next is there, as the loop above does
            return time.perf_counter() - begin

        seconds = interleave({"ours": ours, "limit": limit}, settings.repeats)
        return Result.against(
            self.case,
            "samples/s",
            self.steps * self.batch_size,
            seconds["ours"],
            seconds["limit"],
            target=self.target,
            figures={
                "batch_microseconds": 1e6 * median(seconds["ours"]) / self.steps,
                "limit_batch_microseconds": 1e6 * median(seconds["limit"]) / self.steps,
                "assemble_batch_microseconds": 1e6 * median(assembly),
                "prefetch_depth_batches": depth,
            },
        )

    def check(self, rows: Indices) -> None:
        """Compare all batches with the data.

        Raises:
            AssertionError: A batch does not hold its rows.
        """
        with self.loader() as loader:
            for step, (chosen, batch) in enumerate(zip(rows, loader, strict=False)):
                if not self.is_right(batch, chosen):
                    raise AssertionError(f"{self.case}: step {step} does not hold its rows")


def rows_of(dataset: sk.Dataset, batch_size: int, steps: int) -> Indices:
    """The samples of each batch, int64 `[steps, batch_size]`: the order, sorted by slot."""
    stream = sk.Stream(dataset, shuffle=True, epochs=None)
    positions = np.arange(steps * batch_size).reshape(steps, batch_size)
    indices, slots = stream.indices(positions), stream.slots(positions)
    if slots is None:
        return indices
    return np.take_along_axis(indices, np.argsort(slots, axis=1, kind="stable"), axis=1)


def prefetch_depth(make: Callable[..., sk.Loader]) -> int:
    """Count the batches that a loader makes ahead of a consumer that has stopped taking them.

    Args:
        make: Makes the loader, with the further options it is given.

    Returns:
        The most of three trials, since a loader looks less far ahead on a busy machine.
    """
    return max(_depth_once(make) for _ in range(3))


def _depth_once(make: Callable[..., sk.Loader]) -> int:
    made: list[None] = []

    def count(batch: Any, _: np.random.Generator) -> Any:
        made.append(None)
        return batch

    taken = 300  # the depth grows with the first batches
    with make(batch_transform=count) as loader:
        batches = iter(loader)
        for batch in islice(batches, taken):
            del batch
        before = -1
        while len(made) != before:
            before = len(made)
            time.sleep(_SETTLED_SECONDS)
    return len(made) - taken
