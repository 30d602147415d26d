"""Threads that do numbered work ahead of a consumer and hand it over in order.

This module knows steps (whole numbers) and a function that turns a range of steps into a list of
results; it knows no batch, dataset or loader. The consumer alone plans: each time it takes a
finished task it queues as many new ones as the limits allow. Threads only take a task, do it and
put it back:

```
consumer --> todo: SimpleQueue of tasks --> threads --> done: SimpleQueue of results --> consumer
```

Work that is hardly more than copying memory holds the interpreter's lock nearly all the time, and
a second thread would only take it from the first. So one thread begins, and the others start when
a step turns out to take longer than half a millisecond and the copying of its bytes. Until then
little is done ahead, too: memory that is still in the processor's cache costs less.

There is no lock of ours. `stop` may be called by a garbage collection at any point of any thread,
where taking a lock can wait for itself; `SimpleQueue.put` is made to be safe there.

A task is several small steps, since handing over costs more than a small batch. It is at most 64
steps, 8 MB and 20 ms, and tasks grow from one step, so that the first batch comes soon.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

THREAD_NAME = "streamkit-prefetch"
_TASK_STEPS = 64
_TASK_BYTES = 8 << 20
_TASK_SECONDS = 0.02
_QUICK_SECONDS = 0.0005
_QUICK_BYTES = 24 << 20
_COPIED_PER_SECOND = 2e9
_JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class Finished(Generic[T]):
    """What the work of one task gave.

    Attributes:
        results: The results, in the order of steps; fewer than asked if the last one is a failure
            after which no other is wanted.
        num_bytes: Their memory in bytes, about.
    """

    results: Sequence[T]
    num_bytes: int


Work = Callable[[range, Callable[[], bool]], Finished[T]]


@dataclass(frozen=True)
class _Task(Generic[T]):
    number: int
    steps: range
    work: Work[T]
    stopped: Callable[[], bool]


@dataclass(frozen=True)
class _Done(Generic[T]):
    number: int
    steps: range
    finished: Finished[T] | BaseException
    seconds: float


class Stopped(Exception):
    """The threads were stopped, so there is nothing more to take."""


class Crew(Generic[T]):
    """The threads of a prefetcher and the two queues, without the work.

    Whoever must stop the threads when the prefetcher's owner is collected holds this: it leads to
    the work only while tasks are waiting, so it keeps no owner alive.

    Args:
        max_threads: The most threads there may be.
    """

    def __init__(self, max_threads: int):
        self.todo: SimpleQueue[_Task[T] | None] = SimpleQueue()
        self.done: SimpleQueue[_Done[T] | None] = SimpleQueue()
        self.process = os.getpid()
        self.max_threads = max_threads
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def __len__(self) -> int:
        return len(self._threads)

    def start(self, count: int) -> None:
        """Start threads until there are `count`."""
        for number in range(len(self._threads), count):
            name = f"{THREAD_NAME}-{number}"
            arguments = (self.todo, self.done)
            thread = threading.Thread(target=_serve, args=arguments, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def dismiss(self) -> None:
        """Let each thread end once it finds no task before its None."""
        for _ in range(self.max_threads):
            self.todo.put(None)

    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def stop(self) -> None:
        """Tell the threads to end, and whoever waits for them; returns at once."""
        self._stopped = True
        if self.process == os.getpid():  # after a fork the threads are not in this process
            self.dismiss()
            self.done.put(None)

    def join(self, seconds: float = _JOIN_SECONDS) -> None:
        """Wait until the threads have ended, for at most `seconds` in all."""
        if self.process != os.getpid():
            return
        deadline = perf_counter() + seconds
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - perf_counter()))


class Ahead(Protocol[T_co]):
    """Results of consecutive steps, handed over in order: by threads, or made when asked for.

    Attributes:
        crew: Stops it; its `process` is the one that may take from it, no child of a fork.
    """

    crew: Crew[Any]

    @property
    def assemble_seconds(self) -> float:
        """Seconds of work in the tasks taken or seen so far, added up over the threads."""

    def take(self) -> Sequence[T_co]:
        """Wait for the next results, in the order of steps; empty at the end.

        One thread at a time may call this.

        Raises:
            Stopped: `stop` was called.
        """


class Inline(Generic[T]):
    """Does the work of a step in the caller's thread, when it is asked for.

    Args:
        work: Does a range of steps.
        first: The first step.
        stop: The step after the last one; None for no end.
    """

    def __init__(self, work: Work[T], first: int, stop: int | None):
        self._work, self._next, self._stop = work, first, stop
        self.assemble_seconds = 0.0
        self.crew: Crew[T] = Crew(0)

    def take(self) -> Sequence[T]:
        """Do the next step."""
        if self.crew.stopped():
            raise Stopped
        if self._next == self._stop:
            return ()
        begin = perf_counter()
        finished = self._work(range(self._next, self._next + 1), self.crew.stopped)
        self.assemble_seconds += perf_counter() - begin
        self._next += 1
        return finished.results


class Ended(Generic[T]):
    """What is left of either once its crew was stopped: nothing to take."""

    assemble_seconds = 0.0

    def __init__(self, crew: Crew[T]):
        self.crew = crew

    def take(self) -> Sequence[T]:
        """Nothing."""
        raise Stopped


class Prefetcher(Generic[T]):
    """Do the work of the steps `[first, stop)` in threads, and hand it over in order.

    A thread holds the queues, and `work` only while it does a task. So whoever owns this object
    may be collected while the threads live, even if `work` leads back to the owner, and has
    `crew` stopped then.

    Args:
        work: Does a range of steps; the second argument says whether to give up early.
        first: The first step.
        stop: The step after the last one; None for no end.
        threads: The most threads, at least 1.
        max_bytes: Limit on the memory of results done or being done; two tasks are always allowed.
        step_bytes: Memory of one step's result where it is known; measured otherwise.
        at_once: Start all threads now, since the work is known to be more than copying.
    """

    def __init__(
        self,
        work: Work[T],
        first: int,
        stop: int | None,
        *,
        threads: int,
        max_bytes: int,
        step_bytes: int | None = None,
        at_once: bool = False,
    ):
        self._work = work
        self._next, self._stop = first, stop
        self._max_bytes, self._is_quick = max_bytes, not at_once
        self._known_bytes = step_bytes
        self._early: dict[int, _Done[T]] = {}
        self._bytes: dict[int, int] = {}  # of each task that is not done with
        self._queued = self._taken = 0
        self._largest = 1
        self._measured_steps = self._measured_bytes = 0
        self._seconds = 0.0
        self.crew: Crew[T] = Crew(threads)
        self._plan()
        self.crew.start(threads if at_once else 1)

    @property
    def assemble_seconds(self) -> float:
        """Seconds of work in the tasks taken or seen so far, added up over the threads."""
        return self._seconds

    def take(self) -> Sequence[T]:
        """Wait for the next task's results."""
        number = self._taken
        if self.crew.stopped():
            raise Stopped
        if number == self._queued:
            return ()
        while number not in self._early:
            self._collect(self.crew.done.get())
        while True:  # what else is done already tells how large the next tasks may be
            try:
                self._collect(self.crew.done.get_nowait())
            except Empty:
                break
        done = self._early.pop(number)
        self._taken += 1
        self._bytes.pop(number - 1, None)  # its batches are handed out by now
        if isinstance(done.finished, BaseException):
            raise done.finished
        self._plan()
        return done.finished.results

    def _collect(self, done: _Done[T] | None) -> None:
        if self.crew.stopped() or done is None:
            raise Stopped
        self._early[done.number] = done
        self._seconds += done.seconds
        if not isinstance(done.finished, BaseException):
            self._measured_steps += len(done.steps)
            self._measured_bytes += done.finished.num_bytes
            self._bytes[done.number] = done.finished.num_bytes
            copying = done.finished.num_bytes / _COPIED_PER_SECOND
            # The first task pays for tables and cold memory, and tells nothing.
            if done.number and done.seconds > _QUICK_SECONDS * len(done.steps) + copying:
                self._is_quick = False
                self.crew.start(self.crew.max_threads)

    def _plan(self) -> None:
        """Queue tasks up to the limits; the first ones small, until a step has been measured."""
        step_bytes = self._step_bytes()
        while not self.crew.stopped() and (self._stop is None or self._next < self._stop):
            count = self._task_steps(step_bytes)
            waiting = self._queued - self._taken
            if waiting >= 2:
                held = sum(self._bytes.values())
                most = min(self._max_bytes, _QUICK_BYTES) if self._is_quick else self._max_bytes
                over = step_bytes is None or held + count * step_bytes > most
                if over or waiting >= 2 * len(self.crew) + 2:
                    return
            steps = range(self._next, self._next + count)
            self._bytes[self._queued] = int(count * (step_bytes or 0))
            self.crew.todo.put(_Task(self._queued, steps, self._work, self.crew.stopped))
            self._queued += 1
            self._next = steps.stop
            if self._next == self._stop:
                self.crew.dismiss()

    def _step_bytes(self) -> float | None:
        if self._measured_steps:
            return self._measured_bytes / self._measured_steps
        return self._known_bytes

    def _task_steps(self, step_bytes: float | None) -> int:
        if not self._measured_steps or step_bytes is None:
            return 1
        tasks = 2 * len(self.crew) + 2
        fair = min(_TASK_BYTES, self._max_bytes // tasks) // max(step_bytes, 1)
        quick = _TASK_SECONDS * self._measured_steps / max(self._seconds, 1e-9)
        count = int(max(1, min(_TASK_STEPS, fair, quick, 2 * self._largest)))
        self._largest = max(self._largest, count)
        return count if self._stop is None else min(count, self._stop - self._next)


def _serve(todo: SimpleQueue[_Task[T] | None], done: SimpleQueue[_Done[T] | None]) -> None:
    """Do tasks until there is None, or the prefetcher is stopped."""
    while (task := todo.get()) is not None and not task.stopped():
        begin = perf_counter()
        finished: Finished[T] | BaseException
        try:
            finished = task.work(task.steps, task.stopped)
        except BaseException as error:  # a thread must never die without a word to the consumer
            finished = error
        done.put(_Done(task.number, task.steps, finished, perf_counter() - begin))
        del task, finished  # an idle thread keeps nothing alive
