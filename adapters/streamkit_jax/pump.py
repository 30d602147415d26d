"""A thread that runs a loader ahead of its consumer by a fixed number of batches.

Owns the thread and the hand-over; knows neither devices nor what a state is. The thread refers to
this object and never to the feed, so a feed that nobody holds any more can be collected.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

_JOIN_SECONDS = 5.0


class Pump:
    """Takes items from an iterator in a thread and hands them over in order.

    ```
    iterator --next--> step() --> [ prefetch items at most ] --take()--> consumer
    ```
    An exception of the iterator or of `step` is raised by the `take` whose item it would have
    been; so is the `StopIteration` at the end.

    Args:
        items: Called in the thread, gives the iterator.
        interrupt: Called from another thread to end the iterator's waiting; what it raises in
            the thread then is dropped.
        step: Called in the thread with each item, gives what is handed over.
        prefetch: Items that wait for the consumer at most.
    """

    def __init__(
        self,
        items: Callable[[], Iterator[Any]],
        interrupt: Callable[[], None],
        step: Callable[[Any], Any],
        prefetch: int,
    ):
        self._items = items
        self._interrupt = interrupt
        self._step = step
        self._stopping = False
        self._room = threading.Semaphore(prefetch)
        self._handed: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="streamkit-jax-feed", daemon=True)
        # JAX registered its own clean-up when it was imported, so this runs before it: a thread
        # that still transfers while the backend is torn down would crash the interpreter.
        atexit.register(self.stop)
        self._thread.start()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping

    def take(self) -> Any:
        """Wait for the next item.

        Raises:
            StopIteration: The iterator has ended, or `stop` was called.
            BaseException: What the iterator or `step` raised in place of this item.
        """
        item, error = self._handed.get()
        if error is not None:
            try:
                raise error
            finally:
                del error  # else the error and this frame would hold each other
        self._room.release()
        return item

    def stop(self) -> None:
        """End the thread and wait for it; what it took and nobody was given is dropped.

        A read that nothing can interrupt is waited for no longer than 5 seconds.
        """
        self._stopping = True
        self._room.release()
        self._interrupt()
        if threading.current_thread() is not self._thread:  # it may run the garbage collector
            self._thread.join(_JOIN_SECONDS)
        atexit.unregister(self.stop)

    def _run(self) -> None:
        try:
            iterator = self._items()
            try:
                while self._room.acquire() and not self._stopping:
                    self._handed.put((self._step(next(iterator)), None))
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
            self._handed.put((None, StopIteration()))  # stopped: a consumer may still wait
        except BaseException as error:
            # Also the iterator's StopIteration: it is the last thing the consumer takes.
            self._handed.put((None, error))
