"""The loader: batches of a stream, one after the other or any one by its step.

Joins the parts of this package: `steps` says which positions a batch has, `plan` which samples,
`assemble` makes it, `prefetch` makes it ahead, `iteration` hands it out, `state` remembers where.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self

import numpy as np

from streamkit.datasets.base import Batch, as_indices
from streamkit.datasets.collate import Allocate
from streamkit.datasets.sequence import SequenceDataset, as_dataset
from streamkit.order import Shard, Shuffle
from streamkit.pipeline.account import Account
from streamkit.pipeline.assemble import Assembler, Ready, check_can_mask
from streamkit.pipeline.iteration import BatchIterator, Progress
from streamkit.pipeline.memory import RecycledMemory, keep_heap_warm
from streamkit.pipeline.options import (
    Batching,
    OnError,
    Prefetching,
    Recipe,
    Transform,
    checked_int,
)
from streamkit.pipeline.plan import PlanAhead, Rows
from streamkit.pipeline.prefetch import Ahead, Inline, Prefetcher
from streamkit.pipeline.source import UNSET, Unset, bound_anew, stream_of, warn_of_slots
from streamkit.pipeline.spec import batch_spec, spec_bytes
from streamkit.pipeline.state import Identity, OnChange, make_state, restore
from streamkit.pipeline.stats import Counters, LoaderStats
from streamkit.pipeline.steps import Remainder, Steps

_WHOLE = Shard(0, 1)
_RECYCLED_BYTES = 256 << 20


class Loader:
    """Batches of a dataset or a stream, in an order that depends on nothing but the seed.

    `for batch in loader` goes on from the position to the end of the current pass; the next `for`
    is the next pass, in the next epoch's order. `loader.batch(step)` gives any batch without
    iterating. The batches are the same for any number of processes, threads and for either way.

    ```
    loader = Loader(ds, batch_size=4, shard=Shard(1, 2))     rows of the global batch
                                                             0   1   2   3
    positions 0 1 2 3, sorted by slot                       [s2  s0  s3  s1]
    rows of this process (index 1 of 2)                             [s3  s1]
    ```

    Only iteration moves the position, and it counts what the caller has been given, not what has
    been prefetched. There is one iteration at a time: a newer `iter(loader)` ends the older one,
    whose `next` raises `RuntimeError`. An iterator belongs to one thread at a time;
    `state_dict()`, `stats`, `batch()` and `close()` may be called from any thread meanwhile.
    Threads end when an iteration ends, is dropped (`break`), or `close()` is called. After a fork
    the child goes on with threads of its own. Batches belong to the caller: their memory is used
    again only when nothing holds it any more, neither a view nor a framework that took it as it is.

    **Transforms.** `transform(sample, rng)` gets one sample with the Python types that were
    written and returns a tree that is stacked by `collate`. `rng` is a `numpy.random.Generator`
    that is a function of (seed, position): the same for any topology, and different when the
    sample comes again in another epoch. It is set anew for each sample, so do not keep it.
    `batch_transform(batch, rng)` gets this process's rows with the `rng` of the *global* batch's
    first position. Every process draws the same numbers, so a decision for the whole batch (a
    mixing weight, a crop size) agrees among processes; but numbers drawn row by row are those of
    the rows here, and depend on the batch size and the number of processes. Draw by row in
    `transform`. Both run in several threads at once.

    **Bad samples.** A sample is bad if reading or transforming it raises. `"raise"` raises a
    `SampleError` at its batch, from the original error. `"replace"` puts another sample in its
    place, chosen by (seed, position) alone; the transform gets the bad position's `rng`. `"mask"`
    leaves the row empty (zeros in arrays, empty values in lists) and marks it False in the
    column "mask". Both are the same in every run and topology; the first one warns, all are
    counted in `stats.errors`. More than `max_errors` of them among the batches handed out by this
    object raise the `SampleError` after all. Errors of `batch_transform`, `pad` and stacking
    belong to no sample and are always raised.

    Args:
        source: A `Dataset`; a `Stream`; or anything with `__len__` and `__getitem__`, whose
            samples are read one by one (several threads may do so at once).
        batch_size: Rows of a global batch, over all processes.
        shuffle: True (the default), False, or a shuffle; belongs to the stream.
        seed: The seed of the order and the transforms, 0 by default; belongs to the stream.
        epochs: Epochs of a pass, 1 by default, None for no end; belongs to the stream.
        shard: Which rows of each global batch this process takes.
        remainder: The samples that fill no batch at the end of a pass: "drop" leaves them out of
            this pass; "pad" repeats samples, False in the boolean column "mask" that all batches
            then have; "keep" makes one shorter batch (single process only).
        transform: `fn(sample, rng)`.
        batch_transform: `fn(batch, rng)`; its batches depend on batch size and processes.
        on_error: "raise", "replace" or "mask".
        max_errors: How many bad samples are put up with; None for any number.
        pad: Ragged columns to be made arrays: `{"tokens": (2048, 0)}` is length and fill value.
        threads: How many threads prefetch; by default the CPUs this process may use, at most 16.
            0 makes each batch in the caller's thread when it is asked for.
        prefetch_bytes: Limit on the memory of batches ahead; two batches are always allowed.
        allocator: `fn(shape, dtype)` gives arrays their memory, pinned memory for example.

    Raises:
        TypeError: An argument has the wrong type, or `seed`, `shuffle` or `epochs` is given along
            with a stream.
        ValueError: An argument is out of range, `batch_size` does not divide by the number of
            processes, or there would be no batch at all.
    """

    def __init__(
        self,
        source: Any,
        *,
        batch_size: int,
        shuffle: bool | Shuffle | Unset = UNSET,
        seed: int | Unset = UNSET,
        epochs: int | Unset | None = UNSET,
        shard: Shard = _WHOLE,
        remainder: Remainder = "drop",
        transform: Transform | None = None,
        batch_transform: Transform | None = None,
        on_error: OnError = "raise",
        max_errors: int | None = None,
        pad: Mapping[str, tuple[int, Any]] | None = None,
        threads: int | None = None,
        prefetch_bytes: int = 2**30,
        allocator: Allocate | None = None,
    ):
        self._batching = Batching(batch_size, remainder, shard)
        self._recipe = Recipe(
            transform=transform,
            batch_transform=batch_transform,
            on_error=on_error,
            max_errors=max_errors,
            pads={} if pad is None else pad,
            allocator=allocator,
            has_mask=remainder == "pad" or on_error == "mask",
        )
        self._prefetching = Prefetching.of(threads, prefetch_bytes)
        self._stream = stream_of(source, shuffle=shuffle, seed=seed, epochs=epochs)
        self._dataset = as_dataset(self._stream.dataset)
        steps = Steps(
            self._stream.num_samples,
            self._stream.epochs,
            self._batching.batch_size,
            self._batching.remainder,
        )
        self._rows = self._batching.shard.rows(self._batching.batch_size)
        self._progress = Progress(steps, 0)
        self._counters = Counters()
        self._bytes_before = self._dataset.bytes_read
        self._iterator: weakref.ref[BatchIterator] | None = None
        self._made: tuple[int, Assembler] | None = None
        self._check_columns()
        warn_of_slots(self._stream, self._batching)

    def __iter__(self) -> BatchIterator:
        """Go on from the position to the end of the pass; ends an older iteration."""
        self._end_iteration("a newer iteration of this loader was started, which ended this one")
        progress = self._progress
        iterator = BatchIterator(
            progress,
            self._counters,
            partial(self._make_ahead, progress.steps),
            Account(self._recipe, self._counters),
        )
        self._iterator = weakref.ref(iterator)
        return iterator

    def __len__(self) -> int:
        """Batches of one whole pass."""
        per_pass = self._progress.steps.steps_per_pass
        if per_pass is None:
            raise TypeError("a loader with epochs=None has no length: its batches have no end")
        return per_pass

    def batch(self, step: int, rows: int | slice | Any = None) -> Batch:
        """Make any batch, without iterating or moving the position.

        Args:
            step: The step, from 0 over all passes; after a resume at another batch size steps
                count from the state's anchor.
            rows: Row numbers of the global batch: an integer, a slice, or an integer array
                `[rows]`; None for this process's shard, which is what iteration gives.

        Returns:
            The batch, in memory of its own; an integer `rows` gives a batch of one row.

        Raises:
            IndexError: There is no such step, or no such row.
            SampleError: A sample is bad.
        """
        step = checked_int("step", step, minimum=0)
        steps = self._progress.steps
        size = self._batching.batch_size
        num_rows = size if self._batching.remainder == "pad" else steps.num_rows(step)
        chosen = self._rows if rows is None else _checked_rows(rows, num_rows)
        span = range(step, step + 1)
        assembler = self._assembler
        plan = PlanAhead(assembler.stream, steps, chosen, step, step + 1)
        ready = assembler.assemble(plan, span, _never).results[0]
        if ready.error is not None:
            raise ready.error
        return ready.batch

    def state_dict(self) -> dict[str, Any]:
        """The state after the last batch handed out: JSON, the same on every process."""
        progress = self._progress
        return make_state(self._identity, progress.steps, progress.position)

    def load_state_dict(self, state: Mapping[str, Any], *, on_change: OnChange = "raise") -> None:
        """Go on where a state was saved, with any number of processes and any batch size.

        Ends the current iteration.

        Args:
            state: What `state_dict()` gave.
            on_change: With "next_epoch" a dataset that was appended to since goes on at the start
                of its next epoch; "raise" refuses it.

        Raises:
            StateMismatchError: The state is of other data, another order or view; the message
                says what changed.
            TypeError: The state is no dict.
        """
        steps, position = restore(
            state,
            self._identity,
            self._progress.steps,
            on_change=on_change,
            prefix_fingerprint=self._dataset.prefix_fingerprint,
        )
        self._end_iteration("load_state_dict moved the loader, which ended this iteration")
        self._progress = Progress(steps, position)

    @property
    def element_spec(self) -> Any:
        """The tree of a batch of this process with an `ArraySpec` for each column.

        No data is read. Shapes are `[rows, ...]` with this process's rows, as iteration gives
        them; the last batch of `remainder="keep"` has fewer.

        Raises:
            TypeError: A transform or a plain sequence makes the batches.
        """
        rows = self._rows.stop - self._rows.start
        return batch_spec(self._dataset.element_spec, rows, self._recipe)

    @property
    def stats(self) -> LoaderStats:
        """A snapshot of the counters."""
        return self._counters.snapshot(self._dataset.bytes_read - self._bytes_before)

    def close(self) -> None:
        """End the current iteration and wait for its threads, at most 5 seconds.

        The dataset stays open, it is the caller's; a later `iter` goes on from the position.
        """
        self._end_iteration("the loader was closed", join=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        batching = self._batching
        return (
            f"Loader({type(self._stream.dataset).__name__} of {self._stream.num_samples} samples, "
            f"batch_size={batching.batch_size}, shuffle={self._stream.shuffle!r}, "
            f"seed={self._stream.seed}, epochs={self._stream.epochs}, shard={batching.shard!r}, "
            f"remainder={batching.remainder!r}, position={self._progress.position})"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_iterator": None, "_made": None, "_counters": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _counters=Counters())
        self._bytes_before = self._dataset.bytes_read

    @property
    def _assembler(self) -> Assembler:
        """What makes batches; a new one after a fork, where threads may have held its locks."""
        process = os.getpid()
        if self._made is None or self._made[0] != process:
            by_sample = self._recipe.transform is not None
            by_sample = by_sample or isinstance(self._dataset, SequenceDataset)
            stream = self._stream if self._made is None else bound_anew(self._stream)
            made = Assembler(stream, self._dataset, self._recipe, by_sample)
            self._made = (process, made)
        return self._made[1]

    @cached_property
    def _identity(self) -> Identity:
        stream = self._stream
        return Identity(
            self._dataset.fingerprint,
            stream.num_samples,
            stream.epochs,
            stream.seed,
            repr(stream.shuffle),
        )

    @cached_property
    def _step_bytes(self) -> int | None:
        try:
            return spec_bytes(self.element_spec)
        except TypeError:
            return None

    def _check_columns(self) -> None:
        """Find wrong column names now rather than at the first batch, where the spec is known."""
        if self._recipe.transform is None and (self._recipe.pads or self._recipe.has_mask):
            try:
                spec = self._dataset.element_spec
            except TypeError:
                return
            if self._recipe.has_mask:
                check_can_mask(spec)
            if self._recipe.batch_transform is None:
                batch_spec(spec, 1, self._recipe)

    def _make_ahead(self, steps: Steps, first: int) -> Ahead[Ready]:
        """Start to make the batches from a step to the end of its pass."""
        assembler, stop = self._assembler, steps.pass_end(first)
        if self._recipe.allocator is None:
            keep_heap_warm()
            memory = RecycledMemory(min(_RECYCLED_BYTES, self._prefetching.max_bytes))
            assembler = replace(assembler, recipe=replace(self._recipe, allocator=memory))
        plan = PlanAhead(assembler.stream, steps, self._rows, first, stop)
        work = partial(assembler.assemble, plan)
        if self._prefetching.threads == 0:
            return Inline(work, first, stop)
        return Prefetcher(
            work,
            first,
            stop,
            threads=self._prefetching.threads,
            max_bytes=self._prefetching.max_bytes,
            step_bytes=self._step_bytes,
            at_once=assembler.by_sample,
        )

    def _end_iteration(self, reason: str, *, join: bool = False) -> None:
        iterator = None if self._iterator is None else self._iterator()
        self._iterator = None
        if iterator is not None:
            iterator.end(reason, join=join)


def _checked_rows(rows: Any, num_rows: int) -> Rows:
    if isinstance(rows, slice):
        return rows
    if isinstance(rows, (int, np.integer)) and not isinstance(rows, bool):
        rows = [rows]
    try:
        return as_indices(rows, num_rows)
    except IndexError as error:
        raise IndexError(f"rows of a global batch of {num_rows} rows: {error}") from None


def _never() -> bool:
    return False
