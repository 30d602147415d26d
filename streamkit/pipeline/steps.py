"""The arithmetic of steps: which positions a batch has, and where a pass ends.

A *position* counts the samples of the stream, a *step* counts its global batches. A *pass* is
`epochs` epochs, what one `for batch in loader` goes through. Whole numbers in, whole numbers
out: nothing here knows of data, order, processes or threads.

With 10 samples, batches of 4, one epoch a pass and `remainder="drop"`:

```
position   0  1  2  3  4  5  6  7  8  9 |10 11 12 13 14 15 16 17 18 19 | 20 ...
step       |--- 0 ----|--- 1 ----| drop |--- 2 ----|--- 3 ----| drop   |--- 4
after it               4                10           14                 20
```

Handing out the last batch of a pass moves the position to the end of the pass. Steps count from
an *anchor*, (0, 0) at first; after a resume at another batch size it is the step and the position
at which that batch size began.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamkit.order.hashing import derive_key, keyed_hash, scale

Remainder = Literal["drop", "pad", "keep"]


@dataclass(frozen=True)
class Anchor:
    """The step and the position from which steps are counted."""

    step: int = 0
    position: int = 0


@dataclass(frozen=True)
class Steps:
    """How positions are cut into the global batches of passes.

    Attributes:
        num_samples: Samples of one epoch.
        epochs: Epochs of a pass; None for one pass without end.
        batch_size: Rows of a global batch.
        remainder: What becomes of the samples that fill no batch at the end of a pass.
        anchor: Where steps count from.
    """

    num_samples: int
    epochs: int | None
    batch_size: int
    remainder: Remainder
    anchor: Anchor = Anchor()

    def __post_init__(self) -> None:
        size = self.pass_size
        if size is not None and self.remainder == "drop" and self.batch_size > size:
            whole = "an epoch" if self.epochs == 1 else f"a pass of {self.epochs} epochs"
            raise ValueError(
                f"batch_size (={self.batch_size}) is larger than {whole} (={size} samples), so "
                'remainder="drop" would leave no batch; use a smaller batch_size, or '
                'remainder="pad" or "keep", or epochs=None, whose batches run across epochs'
            )

    @property
    def pass_size(self) -> int | None:
        """Samples of one pass; None without end."""
        return None if self.epochs is None else self.epochs * self.num_samples

    @property
    def steps_per_pass(self) -> int | None:
        """Batches of one whole pass; None without end."""
        size = self.pass_size
        return None if size is None else self._batches(size)

    def _batches(self, samples: int) -> int:
        """How many batches the last `samples` samples of a pass make."""
        if self.remainder == "drop":
            return samples // self.batch_size
        return -(-samples // self.batch_size)

    def start(self, step: int) -> int:
        """The position of the first row of a step.

        Raises:
            IndexError: The step lies before the anchor.
        """
        ahead = step - self.anchor.step
        if ahead < 0:
            raise IndexError(f"step {step} is out of range: {self._first_step_rule()}")
        origin, size, per_pass = self.anchor.position, self.pass_size, self.steps_per_pass
        if size is None or per_pass is None:
            return origin + ahead * self.batch_size
        first_pass = origin // size
        in_first = self._batches((first_pass + 1) * size - origin)
        if ahead < in_first:
            return origin + ahead * self.batch_size
        passes, batch = divmod(ahead - in_first, per_pass)
        return (first_pass + 1 + passes) * size + batch * self.batch_size

    def _first_step_rule(self) -> str:
        if self.anchor == Anchor():
            return "steps start at 0"
        return (
            f"steps count from step {self.anchor.step} at position {self.anchor.position}, where "
            f"the run was resumed with batch_size={self.batch_size}; earlier steps belong to the "
            "batch size before"
        )

    def num_rows(self, step: int) -> int:
        """Rows of a step's global batch that are samples, not repeats."""
        start, size = self.start(step), self.pass_size
        if size is None:
            return self.batch_size
        return min(self.batch_size, (start // size + 1) * size - start)

    def after(self, step: int) -> int:
        """The position once the batch of `step` has been handed out."""
        return self.settle(self.start(step) + self.num_rows(step))

    def settle(self, position: int) -> int:
        """The same position, or the end of its pass when no batch is left in the pass."""
        size = self.pass_size
        if size is None:
            return position
        end = -(-position // size) * size
        return position if self._batches(end - position) else end

    def step_at(self, position: int) -> int:
        """The first step that starts at `position` (settled) or after it."""
        origin, size, per_pass = self.anchor.position, self.pass_size, self.steps_per_pass
        if size is None or per_pass is None or position // size == origin // size:
            return self.anchor.step + -(-(position - origin) // self.batch_size)
        in_first = self._batches((origin // size + 1) * size - origin)
        passes, offset = divmod(position - (origin // size + 1) * size, size)
        return self.anchor.step + in_first + passes * per_pass + -(-offset // self.batch_size)

    def pass_end(self, step: int) -> int | None:
        """The step at which the pass of `step` has ended (half open); None without end."""
        size = self.pass_size
        if size is None:
            return None
        start = self.start(step)
        return step + self._batches((start // size + 1) * size - start)

    def resumed_at(self, step: int, position: int) -> Steps:
        """These steps, counted on from a place where other ones ended."""
        return replace(self, anchor=Anchor(step, self.settle(position)))

    def positions(self, first: int, count: int, *, seed: int) -> list[StepRows]:
        """The positions of all rows of `count` steps of one pass.

        Args:
            first: The first step.
            count: How many; they must not go past the end of the pass.
            seed: Chooses the rows that `"pad"` repeats.

        Returns:
            One entry, or two when the last batch is padded or shorter.
        """
        start, rows = self.start(first), self.num_rows(first + count - 1)
        whole = count if rows == self.batch_size else count - 1
        cut = []
        if whole:
            stop = start + whole * self.batch_size
            positions = np.arange(start, stop, dtype=np.int64).reshape(whole, self.batch_size)
            cut.append(StepRows(first, positions, rows=self.batch_size))
        if whole < count:
            start += whole * self.batch_size
            last = np.arange(start, start + rows, dtype=np.int64)
            if self.remainder == "pad":
                last = np.concatenate([last, self._repeats(start + rows, rows, seed)])
            cut.append(StepRows(first + whole, last[np.newaxis], rows=rows))
        return cut

    def _repeats(self, end: int, rows: int, seed: int) -> NDArray[np.int64]:
        """Positions of the pass's last epoch that fill its last batch, by a key of the epoch."""
        epoch = end // self.num_samples - 1
        hashes = keyed_hash(
            derive_key(seed, "pad", epoch), np.arange(self.batch_size - rows, dtype=np.int64)
        )
        return scale(hashes, self.num_samples) + epoch * self.num_samples


@dataclass(frozen=True)
class StepRows:
    """The rows of consecutive global batches of one size.

    Attributes:
        first: The first step.
        positions: Positions of the rows, int64 `[steps, batch_size]`.
        rows: How many rows of a batch are samples; those after them are repeats.
    """

    first: int
    positions: NDArray[np.int64]
    rows: int
