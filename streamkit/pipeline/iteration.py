"""One iteration over a loader: hands out batches and moves the position.

The iterator owns the prefetcher; the loader knows the iterator only weakly, and the prefetcher's
threads know neither. So when the iterator is collected (after a `break`, say), or the interpreter
ends, the threads end.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from streamkit.datasets.base import Batch
from streamkit.errors import SampleError
from streamkit.pipeline.assemble import Ready
from streamkit.pipeline.prefetch import Ahead, Crew, Ended, Stopped
from streamkit.pipeline.stats import Counters
from streamkit.pipeline.steps import Steps

_EXIT_JOIN_SECONDS = 1.0


class Progress:
    """Where a loader stands: how steps are counted, and the position, which iteration moves."""

    __slots__ = ("position", "steps")

    def __init__(self, steps: Steps, position: int):
        self.steps = steps
        self.position = position


class BatchIterator(Iterator[Batch]):
    """Goes from the position to the end of the pass. Made by `iter(loader)`.

    It belongs to one thread at a time. The loader's position moves just before a batch is
    returned. An error stays: the position is before the batch that failed, and `next` raises the
    error again.

    Args:
        progress: Moved by this iterator.
        counters: Counted up by this iterator.
        ahead: Starts to make batches from a step to the end of the pass.
        account: Called with the bad samples of a batch before it is handed out; may raise.
    """

    def __init__(
        self,
        progress: Progress,
        counters: Counters,
        ahead: Callable[[int], Ahead[Ready]],
        account: Callable[[tuple[SampleError, ...]], None],
    ):
        self._progress, self._counters = progress, counters
        self._start, self._account = ahead, account
        self._ready: list[Ready] = []  # the next batch last
        self._ended: str | None = None
        self._over = False
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._ahead = self._begin()

    def _begin(self) -> Ahead[Ready]:
        if self._finalizer is not None:
            self._finalizer.detach()
        ahead = self._start(self._progress.steps.step_at(self._progress.position))
        self._finalizer = weakref.finalize(self, _end, ahead.crew, weakref.ref(self))
        return ahead

    def __iter__(self) -> BatchIterator:
        return self

    def __next__(self) -> Batch:
        # A microsecond counts here: a batch may take no more than fifty to make.
        try:
            ready = self._ready.pop()
        except IndexError:
            ready = self._more()
        batch, after, rows, bad, error = ready
        if bad is not None or error is not None:
            self._check(ready)
        counters = self._counters
        counters.batches += 1
        counters.samples += rows
        self._progress.position = after
        return batch

    def _check(self, ready: Ready) -> None:
        """Count bad samples, or raise the error; either way the batch is not lost."""
        try:
            if ready.error is not None:
                raise ready.error
            self._account(ready.bad or ())
        except BaseException:
            self._ready.append(ready)
            self._ahead.crew.stop()
            raise

    def _more(self) -> Ready:
        """Take the next finished task."""
        if self._ended is not None:
            raise RuntimeError(self._ended)
        if self._over:
            raise StopIteration
        if self._ahead.crew.process != os.getpid() or self._ahead.crew.stopped():
            self._ahead = self._begin()  # after a fork, Ctrl-C or an error
        ahead, counters = self._ahead, self._counters
        begin, worked = perf_counter(), ahead.assemble_seconds
        try:
            results = ahead.take()
        except Stopped:
            raise RuntimeError(self._ended or "the loader was closed") from None
        except BaseException:
            ahead.crew.stop()
            raise
        finally:
            counters.wait_seconds += perf_counter() - begin
            counters.assemble_seconds += ahead.assemble_seconds - worked
        if not results:
            self._over = True
            raise StopIteration
        self._ready = list(reversed(results))
        return self._ready.pop()

    def end(self, reason: str, *, join: bool) -> None:
        """Hand out no more batches; `next` raises RuntimeError with the reason.

        Args:
            reason: Why.
            join: Wait until the threads have ended.
        """
        if not self._over:
            self._ended = reason
        self._ready = []
        if self._finalizer is not None:
            self._finalizer.detach()
        crew = self._ahead.crew
        crew.stop()
        self._ahead = Ended(crew)  # lets go of the batches that were made ahead
        if join:
            crew.join()


def _end(crew: Crew[Any], iterator: weakref.ref[BatchIterator]) -> None:
    """Stop the threads of an iterator that was collected, or of one alive at interpreter exit."""
    crew.stop()
    if iterator() is not None:
        # At exit. A thread in native code that comes back after the interpreter has gone is
        # killed there, which some libraries answer with an abort; so give it time to end.
        crew.join(_EXIT_JOIN_SECONDS)
