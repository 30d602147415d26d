"""From a plan to the samples of one batch, with bad samples found and dealt with.

Two readers share one interface: `GatherReader` takes whole columns from the dataset and looks at
single samples only when that fails; `SampleReader` goes sample by sample, which a transform or a
source without columns needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from streamkit.datasets.base import Batch, Dataset, Indices, Place
from streamkit.datasets.collate import allocate_fresh, blank_column, collate, num_bytes
from streamkit.datasets.sequence import SequenceDataset
from streamkit.errors import SampleError
from streamkit.format.tree import TreeSpec, flatten
from streamkit.pipeline.faults import Cancelled, batch_error, sample_error, substitute
from streamkit.pipeline.options import Recipe
from streamkit.pipeline.plan import BatchPlan, Positioned
from streamkit.pipeline.randomness import KeyedGenerator

Stopped = Callable[[], bool]


class Read(NamedTuple):
    """A batch as it was read.

    Attributes:
        batch: The tree of columns.
        indices: The dataset's number of each row, substitutes included, int64 `[rows]`.
        bad: The bad samples that were replaced or masked.
        bad_rows: Their rows.
    """

    batch: Batch
    indices: Indices
    bad: tuple[SampleError, ...] = ()
    bad_rows: tuple[int, ...] = ()


class Reader(Protocol):
    """Reads batches; called from several threads at once."""

    def read_many(self, plans: Sequence[BatchPlan]) -> list[Read] | None:
        """Read several batches at once; None if that is no faster, or if it failed."""

    def read(self, plan: BatchPlan, stopped: Stopped) -> Read:
        """Read one batch and deal with its bad samples."""


def reader_of(stream: Positioned, dataset: Dataset, recipe: Recipe, *, by_sample: bool) -> Reader:
    """The reader that a loader needs."""
    kind = SampleReader if by_sample else GatherReader
    return kind(stream, dataset, recipe)


@dataclass(frozen=True)
class GatherReader:
    """Whole columns at once, through `gather_batches`."""

    stream: Positioned
    dataset: Dataset
    recipe: Recipe

    def read_many(self, plans: Sequence[BatchPlan]) -> list[Read] | None:
        """Read several batches at once; None if that failed, so that `read` finds the place."""
        if any(plan.epochs[0] != plan.epochs[1] for plan in plans):
            return None
        seed = self.stream.seed
        try:
            batches = self.dataset.gather_batches(
                [plan.indices for plan in plans],
                places=[Place(seed, plan.epochs[0], plan.step) for plan in plans],
                allocate=self.recipe.allocator,
            )
        except Exception:  # read() fails again, at one sample
            return None
        return [Read(batch, plan.indices) for batch, plan in zip(batches, plans, strict=True)]

    def read(self, plan: BatchPlan, stopped: Stopped) -> Read:
        """Read one batch; if that fails, read its samples one by one to find the bad ones."""
        try:
            return Read(self._gather(plan, plan.indices), plan.indices)
        except Exception as error:
            failure = error
        bad = self._find_bad(plan, stopped)
        if not bad:
            raise batch_error("reading", failure, position=plan.position, step=plan.step)
        if self.recipe.on_error == "raise":
            raise next(iter(bad.values()))
        indices = plan.indices.copy()
        for row, failed in bad.items():
            position = int(plan.positions[row])
            read = partial(self._gather_one, place=self._place(plan, position))
            indices[row], _ = substitute(self.stream.seed, position, self.dataset, read, failed)
        try:
            batch = self._gather(plan, indices)
        except Exception as error:
            raise batch_error("reading", error, position=plan.position, step=plan.step) from error
        rows = tuple(bad)
        if self.recipe.on_error == "mask":
            batch = self._map_columns(batch, lambda column: blank_column(column, rows))
        return Read(batch, indices, tuple(bad.values()), rows)

    def _find_bad(self, plan: BatchPlan, stopped: Stopped) -> dict[int, SampleError]:
        bad = {}
        pairs = zip(plan.indices.tolist(), plan.positions.tolist(), strict=True)
        for row, (index, position) in enumerate(pairs):
            if stopped():
                raise Cancelled
            try:
                self._gather_one(index, self._place(plan, position))
            except Exception as error:
                bad[row] = sample_error(
                    "reading", error, self.dataset, index=index, position=position, step=plan.step
                )
                if self.recipe.on_error == "raise":
                    break
        return bad

    def _place(self, plan: BatchPlan, position: int) -> Place:
        return Place(self.stream.seed, position // self.stream.num_samples, plan.step)

    def _gather_one(self, index: int, place: Place) -> Batch:
        return self.dataset.gather(np.array([index], dtype=np.int64), at=place)

    def _gather(self, plan: BatchPlan, indices: Indices) -> Batch:
        """One batch, in parts if it lies in several epochs, which a view may read differently."""
        parts = plan.places(self.stream)
        batches = self.dataset.gather_batches(
            [indices[rows] for rows, _ in parts],
            places=[place for _, place in parts],
            allocate=self.recipe.allocator if len(parts) == 1 else None,
        )
        if len(parts) == 1:
            return batches[0]
        tree = self._tree()
        back = np.argsort(np.concatenate([rows for rows, _ in parts]))
        columns = zip(*(tree.flatten(batch) for batch in batches), strict=True)
        allocate = self.recipe.allocator or allocate_fresh
        return tree.unflatten([_merge(column, back, allocate) for column in columns])

    def _map_columns(self, batch: Batch, change: Callable[[Any], Any]) -> Batch:
        tree = self._tree()
        return tree.unflatten([change(column) for column in tree.flatten(batch)])

    def _tree(self) -> TreeSpec:
        """The structure of a sample, which tells the lists of a batch from its columns."""
        try:
            return flatten(self.dataset.element_spec)[1]
        except TypeError:  # not known without reading
            return flatten(self.dataset[0])[1]


def _merge(parts: Sequence[Any], back: Indices, allocate: Any) -> Any:
    """Join one column's parts, and put the rows into their places."""
    if isinstance(parts[0], np.ndarray):
        shape = (len(back), *parts[0].shape[1:])
        merged = allocate(shape, parts[0].dtype)
        np.take(np.concatenate(parts), back, axis=0, out=merged)
        return merged
    values = [value for part in parts for value in part]
    return [values[row] for row in back.tolist()]


@dataclass(frozen=True)
class SampleReader:
    """Sample by sample: read, transform, stack."""

    stream: Positioned
    dataset: Dataset
    recipe: Recipe

    def read_many(self, plans: Sequence[BatchPlan]) -> list[Read] | None:
        """None: nothing is saved by reading several batches at once."""
        return None

    def read(self, plan: BatchPlan, stopped: Stopped) -> Read:
        """Read and transform each sample; bad ones are raised, replaced or masked."""
        if not len(plan.indices):
            raise ValueError("no rows were asked for, and without a sample the columns are unknown")
        one = _OneSample(self, KeyedGenerator(self.stream.seed, "transform"))
        values: list[Any] = [None] * len(plan.indices)
        indices = plan.indices
        bad: dict[int, SampleError] = {}
        for rows, place in plan.places(self.stream):
            chosen = np.arange(len(values))[rows].tolist()
            for row, sample in zip(chosen, self._samples(indices[rows], place), strict=True):
                if stopped():
                    raise Cancelled
                index, position = int(indices[row]), int(plan.positions[row])
                try:
                    values[row] = one.value(index, position, place, sample)
                except Exception as error:
                    bad[row] = sample_error(
                        one.stage,
                        error,
                        self.dataset,
                        index=index,
                        position=position,
                        step=plan.step,
                    )
                    if self.recipe.on_error == "raise":
                        raise bad[row] from error
        if bad:
            indices = self._replace(plan, values, bad, one)
        blank = tuple(bad) if self.recipe.on_error == "mask" else ()
        batch = collate(values, allocate=self.recipe.allocator or allocate_fresh, blank=blank)
        return Read(batch, indices, tuple(bad.values()), tuple(bad))

    def _samples(self, indices: Indices, place: Place) -> Iterator[Any]:
        """The samples one after the other, read a few at a time; `_UNREAD` where that failed.

        What is read together is transformed while it is still in the processor's cache.
        """
        start = 0
        at_once = isinstance(self.dataset, SequenceDataset) and self.dataset.reads_many
        count = len(indices) if at_once else _FIRST_SAMPLES
        while start < len(indices):
            few = indices[start : start + count]
            start += len(few)
            try:
                samples = self.dataset.samples(few, at=place)
            except Exception:  # reading one by one finds the bad sample
                samples = [_UNREAD] * len(few)
            else:
                count = max(1, _TOGETHER_BYTES * len(few) // max(num_bytes(samples), 1))
            yield from samples

    def _replace(
        self, plan: BatchPlan, values: list[Any], bad: dict[int, SampleError], one: _OneSample
    ) -> Indices:
        indices = plan.indices.copy()
        seed = self.stream.seed
        for row, failed in bad.items():
            position = int(plan.positions[row])
            place = Place(seed, position // self.stream.num_samples, plan.step)
            read = partial(one.value, position=position, place=place)
            indices[row], values[row] = substitute(seed, position, self.dataset, read, failed)
        return indices


_UNREAD: Any = object()
_FIRST_SAMPLES = 4
_TOGETHER_BYTES = 2 << 20


class _OneSample:
    """Reads and transforms one sample at a time, and knows which of the two it is doing."""

    def __init__(self, reader: SampleReader, random: KeyedGenerator):
        self._dataset, self._transform = reader.dataset, reader.recipe.transform
        self._random = random
        self.stage = "reading"

    def value(self, index: int, position: int, place: Place, sample: Any = _UNREAD) -> Any:
        """The transformed sample of an index, with the randomness of a position."""
        self.stage = "reading"
        if sample is _UNREAD:
            sample = self._dataset.samples(np.array([index], dtype=np.int64), at=place)[0]
        if self._transform is None:
            return sample
        self.stage = "transform"
        return self._transform(sample, self._random.at(position))
