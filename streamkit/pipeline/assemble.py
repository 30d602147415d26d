"""Making batches: plan, read, pad, mask, transform. Runs in the prefetcher's threads.

An `Assembler` holds no thread, no position and no reference to a loader, so that threads which
work for it keep no loader alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamkit.datasets.base import Batch, Dataset
from streamkit.datasets.collate import allocate_fresh, num_bytes, pad_columns
from streamkit.errors import SampleError
from streamkit.pipeline.faults import Cancelled, batch_error
from streamkit.pipeline.options import Recipe
from streamkit.pipeline.plan import BatchPlan, Positioned
from streamkit.pipeline.prefetch import Finished
from streamkit.pipeline.randomness import KeyedGenerator
from streamkit.pipeline.reading import Read, Reader, Stopped, reader_of


class Ready(NamedTuple):
    """A batch to be handed to the caller, or the error that stands in its place.

    Attributes:
        batch: The tree of columns; None with an error.
        after: The loader's position once it has been handed out.
        rows: Its rows on this process.
        bad: The bad samples that were replaced or masked; None for none.
        error: What is raised instead of handing out a batch.
    """

    batch: Batch
    after: int
    rows: int
    bad: tuple[SampleError, ...] | None = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Assembler:
    """Makes batches of a stream by a recipe; called from several threads at once.

    Attributes:
        stream: Gives the order.
        dataset: Gives the samples.
        recipe: How a batch is made of them.
        by_sample: Whether samples are read one by one.
    """

    stream: Positioned
    dataset: Dataset
    recipe: Recipe
    by_sample: bool
    _reader: Reader = field(init=False, repr=False)

    def __post_init__(self) -> None:
        reader = reader_of(self.stream, self.dataset, self.recipe, by_sample=self.by_sample)
        object.__setattr__(self, "_reader", reader)

    def assemble(
        self, plans_of: Callable[[range], Sequence[BatchPlan]], span: range, stopped: Stopped
    ) -> Finished[Ready]:
        """Make the batches of consecutive steps of one pass.

        Args:
            plans_of: Gives the plans of steps.
            span: The steps.
            stopped: Whether to give up early.

        Returns:
            The batches; the last one may be an error, after which the rest is not made.
        """
        ready: list[Ready] = []
        try:
            plans = plans_of(span)
            reads = self._reader.read_many(plans)
            for number, plan in enumerate(plans):
                if stopped():
                    break
                read = self._reader.read(plan, stopped) if reads is None else reads[number]
                ready.append(self._finish(plan, read))
        except Cancelled:
            pass
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            ready.append(Ready(None, 0, 0, error=error))
        return Finished(ready, _total_bytes(ready))

    def _finish(self, plan: BatchPlan, read: Read) -> Ready:
        """Pad, mask and transform a batch that was read."""
        batch, recipe = read.batch, self.recipe
        if recipe.pads:
            allocate = recipe.allocator or allocate_fresh
            batch = pad_columns(batch, recipe.pads, read.indices.tolist(), allocate=allocate)
        if recipe.has_mask:
            batch = _with_mask(batch, self._mask(plan, read))
        if recipe.batch_transform is not None:
            random = KeyedGenerator(self.stream.seed, "batch_transform")
            try:
                batch = recipe.batch_transform(batch, random.at(plan.position))
            except Exception as error:
                raise batch_error(
                    "batch_transform", error, position=plan.position, step=plan.step
                ) from error
        return Ready(batch, plan.after, len(read.indices), read.bad or None)

    def _mask(self, plan: BatchPlan, read: Read) -> NDArray[np.bool_]:
        allocate = self.recipe.allocator or allocate_fresh
        mask = allocate((len(read.indices),), np.dtype(np.bool_))
        mask[...] = True if plan.mask is None else plan.mask
        if self.recipe.on_error == "mask" and read.bad_rows:
            mask[list(read.bad_rows)] = False
        return mask


def check_can_mask(sample: Any) -> None:
    """Check that a column "mask" can be added to a sample or a batch.

    Raises:
        ValueError: It is no dict, or has such a column.
    """
    if not isinstance(sample, dict):
        raise ValueError(
            f'remainder="pad" and on_error="mask" add a column "mask", which needs samples that '
            f"are a dict; these are a {type(sample).__name__}. Give them names with transform=, "
            'such as lambda sample, rng: {"value": sample}'
        )
    if "mask" in sample:
        raise ValueError(
            'remainder="pad" and on_error="mask" add a column "mask", but the samples have one of '
            "their own; rename it with transform=, or use another remainder"
        )


def _with_mask(batch: Batch, mask: NDArray[np.bool_]) -> Batch:
    check_can_mask(batch)
    return {**batch, "mask": mask}


def _total_bytes(ready: Sequence[Ready]) -> int:
    """The memory of batches, from the first and the last of them."""
    made = [entry for entry in ready if entry.error is None]
    if not made:
        return 0
    ends = num_bytes(made[0].batch) + num_bytes(made[-1].batch)
    return ends * len(made) // 2
