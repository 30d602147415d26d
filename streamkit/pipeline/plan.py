"""Which samples make which batch: from steps to dataset indices, for this process's rows.

Joins the arithmetic of `steps` with a stream's order. The order of many steps is computed at once,
because a call costs about as much as a thousand positions. No data is read here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkit.datasets.base import Indices, Place
from streamkit.order import row_order
from streamkit.pipeline.steps import StepRows, Steps

Rows = slice | Indices
_BLOCK_POSITIONS = 16 * 1024
_BLOCK_EPOCHS = 4
# Threads work on neighbouring tasks, so on this block or the one before.
_BLOCKS_KEPT = 4


class Positioned(Protocol):
    """What the loader asks of a stream: integers in, integers out."""

    @property
    def seed(self) -> int:
        """Keys the order, the transforms and the repeats of `"pad"`."""

    @property
    def num_samples(self) -> int:
        """Samples of one epoch."""

    def indices(self, positions: Any) -> Indices:
        """The dataset's number of the sample at each position."""

    def slots(self, positions: Any) -> Indices | None:
        """The key by which the rows of a batch are sorted; None keeps them in order of position."""

    def indices_and_slots(self, positions: Any) -> tuple[Indices, Indices | None]:
        """Both at once, for the price of `indices`."""


class BatchPlan(NamedTuple):
    """The samples of one batch, on this process.

    Attributes:
        step: The step.
        position: The position of the global batch's first row, the key of batch transforms.
        after: The loader's position once the batch has been handed out.
        positions: The position of each row, int64 `[rows]`.
        indices: The dataset's number of each row, int64 `[rows]`.
        mask: False for rows that `"pad"` repeats, bool `[rows]`; None if there are none.
        epochs: The first and the last epoch among the rows of the global batch.
    """

    step: int
    position: int
    after: int
    positions: Indices
    indices: Indices
    mask: NDArray[np.bool_] | None
    epochs: tuple[int, int]

    def places(self, stream: Positioned) -> list[tuple[Rows, Place]]:
        """The rows of each epoch among them, and where in the run those are read."""
        first, last = self.epochs
        if first == last or not len(self.positions):
            return [(slice(None), Place(stream.seed, first, self.step))]
        epochs = self.positions // stream.num_samples
        return [
            (np.flatnonzero(epochs == epoch), Place(stream.seed, int(epoch), self.step))
            for epoch in np.unique(epochs)
        ]


class PlanAhead:
    """Plans of the steps of one pass, made many at once whatever part of them is asked for.

    The order of a thousand positions costs hardly less than that of ten thousand, and tasks of
    the prefetcher are smaller than that. Thread-safe.

    Args:
        stream: Gives the order.
        steps: Gives the positions of each step.
        rows: Which rows of each global batch, after they are sorted by slot.
        first: The first step that will be asked for.
        stop: The step after the last one of the pass; None for no end.
    """

    def __init__(self, stream: Positioned, steps: Steps, rows: Rows, first: int, stop: int | None):
        self._stream, self._steps, self._rows = stream, steps, rows
        self._first, self._stop = first, stop
        # Each epoch among the positions costs a call of its own, so a block has few of them.
        positions = min(_BLOCK_POSITIONS, _BLOCK_EPOCHS * stream.num_samples)
        self._block_steps = max(1, positions // steps.batch_size)
        self._blocks: dict[int, Sequence[BatchPlan]] = {}
        self._lock = threading.Lock()

    def __call__(self, span: range) -> list[BatchPlan]:
        """The plans of consecutive steps."""
        plans: list[BatchPlan] = []
        step = span.start
        while step < span.stop:
            number, offset = divmod(step - self._first, self._block_steps)
            taken = self._block(number)[offset : offset + span.stop - step]
            plans.extend(taken)
            step += len(taken)
        return plans

    def _block(self, number: int) -> Sequence[BatchPlan]:
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                start = self._first + number * self._block_steps
                stop = start + self._block_steps
                count = (stop if self._stop is None else min(stop, self._stop)) - start
                block = plan_batches(self._stream, self._steps, start, count, self._rows)
                self._blocks[number] = block
                self._blocks.pop(number - _BLOCKS_KEPT, None)
            return block


def plan_batches(
    stream: Positioned, steps: Steps, first: int, count: int, rows: Rows
) -> list[BatchPlan]:
    """Plan consecutive batches of one pass.

    Args:
        stream: Gives the order.
        steps: Gives the positions of each step.
        first: The first step.
        count: How many steps.
        rows: Which rows of each global batch, after they are sorted by slot.

    Returns:
        One plan per step.
    """
    plans: list[BatchPlan] = []
    for cut in steps.positions(first, count, seed=stream.seed):
        plans.extend(_plan_cut(stream, steps, cut, rows))
    return plans


def _plan_cut(stream: Positioned, steps: Steps, cut: StepRows, rows: Rows) -> Sequence[BatchPlan]:
    positions = cut.positions
    num_steps, width = positions.shape
    real = np.arange(width) < cut.rows if cut.rows < width else None
    indices: Indices | None = None
    if isinstance(rows, slice) and rows == slice(0, width):
        # All rows are read here, so one call gives their samples and their slots.
        indices, slots = stream.indices_and_slots(positions)
    else:
        slots = stream.slots(positions)
    if slots is None:
        positions = positions[:, rows]
        masks = None if real is None else np.broadcast_to(real[rows], positions.shape)
    else:
        order = row_order(slots)[:, rows]
        masks = None if real is None else real[order]
        flat = order + np.arange(0, num_steps * width, width, dtype=np.int64)[:, np.newaxis]
        positions = positions.reshape(-1)[flat]
        indices = None if indices is None else indices.reshape(-1)[flat]
    if indices is None:
        indices = stream.indices(positions)
    start, size = int(cut.positions[0, 0]), stream.num_samples
    last_step = cut.first + num_steps - 1
    plans = []
    for number in range(num_steps):
        step, at = cut.first + number, start + number * width
        plans.append(
            BatchPlan(
                step=step,
                position=at,
                after=at + width if step < last_step else steps.after(step),
                positions=positions[number],
                indices=indices[number],
                mask=None if masks is None else masks[number],
                epochs=(at // size, (at + cut.rows - 1) // size),
            )
        )
    return plans
