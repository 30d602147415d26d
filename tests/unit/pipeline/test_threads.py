"""Threads begin with an iteration and end with it, whichever way it ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from memory_dataset import MemoryDataset

from streamkit.pipeline import Loader
from streamkit.pipeline.prefetch import THREAD_NAME


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def none_left(before: list[threading.Thread]) -> bool:
    """Whether threads that ran a moment ago have ended; the wait is a limit against a hang."""
    for thread in before:
        thread.join(30)
    return not threads()


def slow_start(loader_options: dict[str, Any] | None = None) -> Loader:
    """A loader with all its threads, over many batches."""
    return Loader(list(range(10_000)), batch_size=4, threads=3, **(loader_options or {}))


def test_threads_run_during_an_iteration_and_end_with_the_pass() -> None:
    loader = Loader(list(range(400)), batch_size=4, threads=3)
    iterator = iter(loader)
    next(iterator)
    running = threads()
    assert running
    assert len(list(iterator)) == 99
    assert none_left(running)
    assert list(iterator) == []


def test_break_ends_the_threads() -> None:
    for _ in slow_start():
        running = threads()
        assert len(running) == 3
        break
    assert none_left(running)


def test_close_ends_the_threads_before_it_returns() -> None:
    loader = slow_start()
    iterator = iter(loader)
    next(iterator)
    assert threads()
    loader.close()
    assert not threads()
    with pytest.raises(RuntimeError, match="closed"):
        next(iterator)
    with slow_start() as other:
        iterator = iter(other)
        next(iterator)
    assert not threads()


def test_a_loader_goes_on_after_close() -> None:
    loader = Loader(list(range(12)), batch_size=4, shuffle=False)
    assert next(iter(loader)).tolist() == [0, 1, 2, 3]
    loader.close()
    assert [batch.tolist() for batch in loader] == [[4, 5, 6, 7], [8, 9, 10, 11]]


def test_collecting_a_cycle_ends_the_threads() -> None:
    class Holder:
        def __init__(self) -> None:
            self.itself = self
            self.loader = slow_start({"transform": lambda sample, rng: (sample, id(self))[0]})
            self.iterator = iter(self.loader)

    holder = Holder()
    next(holder.iterator)
    gone = weakref.ref(holder)
    assert threads()
    del holder
    # While a thread is busy it holds the transform, and with it the holder; soon they all idle.
    while gone() is not None:
        gc.collect()
    assert none_left(threads())


def test_an_error_ends_the_threads_while_its_traceback_lives() -> None:
    def fail(sample: int, rng: np.random.Generator) -> int:
        raise ValueError(sample)

    iterator = iter(slow_start({"transform": fail}))
    with pytest.raises(RuntimeError) as caught:
        next(iterator)
    assert none_left(threads())
    assert caught.value is not None


def test_a_newer_iteration_ends_the_older() -> None:
    loader = Loader(list(range(12)), batch_size=4, shuffle=False, threads=2)
    older = iter(loader)
    assert next(older).tolist() == [0, 1, 2, 3]
    newer = iter(loader)
    with pytest.raises(RuntimeError, match="newer iteration"):
        next(older)
    assert next(newer).tolist() == [4, 5, 6, 7]
    loader.load_state_dict(loader.state_dict())
    with pytest.raises(RuntimeError, match="load_state_dict"):
        next(newer)
    assert next(iter(loader)).tolist() == [8, 9, 10, 11]


def test_close_from_another_thread_wakes_a_waiting_consumer() -> None:
    entered, release = threading.Event(), threading.Event()

    def block(sample: int, rng: np.random.Generator) -> int:
        entered.set()
        release.wait(60)
        return sample

    loader = Loader(list(range(100)), batch_size=4, threads=1, transform=block)
    raised: list[BaseException] = []

    def consume() -> None:
        try:
            next(iter(loader))
        except RuntimeError as error:
            raised.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert entered.wait(60)
    closer = threading.Thread(target=loader.close)
    closer.start()
    consumer.join(60)
    assert not consumer.is_alive()
    release.set()
    closer.join(60)
    assert "closed" in str(raised[0])
    assert none_left(threads())


def test_ctrl_c_while_waiting_leaves_the_state_right() -> None:
    waiting, release = threading.Event(), threading.Event()

    def interrupt(sample: int, rng: np.random.Generator) -> int:
        if sample == 8 and not release.is_set():
            waiting.wait(60)
            os.kill(os.getpid(), signal.SIGINT)  # Python raises in the main thread, which waits
            release.wait(60)
        return sample

    loader = Loader(list(range(16)), batch_size=4, shuffle=False, threads=1, transform=interrupt)
    iterator = iter(loader)
    got = [next(iterator).tolist(), next(iterator).tolist()]
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        waiting.set()
        next(iterator)
    running = threads()
    assert loader.state_dict()["position"] == 8
    release.set()
    assert none_left(running)
    got.extend(batch.tolist() for batch in iterator)  # it can even go on
    assert got == [list(range(start, start + 4)) for start in range(0, 16, 4)]


def test_state_is_right_while_another_thread_iterates() -> None:
    loader = Loader(MemoryDataset(4000), batch_size=4, shuffle=False, threads=2)
    seen = [0]
    wrong: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            low = seen[0]
            position = loader.state_dict()["position"]
            high = seen[0] + 4
            if not low <= position <= high or position % 4:
                wrong.append(position)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for batch in loader:
        seen[0] = int(batch["id"][-1]) + 1
    ended.set()
    watcher.join(60)
    assert not wrong
    assert loader.state_dict()["position"] == 4000


@pytest.mark.parametrize(("num_batches", "most"), [(0, 2), (4, 4)])
def test_the_bytes_ahead_are_bounded(num_batches: int, most: int) -> None:
    """What is made beyond the batch in hand fits the limit, or is two batches."""
    large = MemoryDataset(640, columns={"x": np.zeros((640, 1000))})
    limit = max(1, num_batches * 4 * 8000)
    made: list[int] = []
    two_ahead = threading.Event()

    def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        made.append(1)
        if len(made) >= 3:
            two_ahead.set()
        return np.empty(shape, dtype)

    loader = Loader(
        large, batch_size=4, shuffle=False, threads=4, prefetch_bytes=limit, allocator=allocate
    )
    handed = 0
    for _ in loader:
        handed += 1
        assert two_ahead.wait(60)  # they are made while the caller has the first
        assert len(made) - handed <= most
    assert handed == 160


def test_the_child_of_a_fork_goes_on_with_threads_of_its_own() -> None:
    loader = Loader(MemoryDataset(4000), batch_size=4, shuffle=True, threads=2)
    expected = [batch["id"].tolist() for batch in loader]
    loader = Loader(MemoryDataset(4000), batch_size=4, shuffle=True, threads=2)
    iterator = iter(loader)
    for step in range(5):
        assert next(iterator)["id"].tolist() == expected[step]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            rest = [batch["id"].tolist() for batch in iterator]
            again = loader.batch(7)["id"].tolist()
            os.write(writer, b"y" if (rest, again) == (expected[5:], expected[7]) else b"n")
        finally:
            os._exit(0)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"y"
    finally:
        os.kill(child, signal.SIGKILL)  # it may hang, if the test fails
        os.waitpid(child, 0)
        os.close(reader)
    assert [batch["id"].tolist() for batch in iterator] == expected[5:]


@pytest.mark.parametrize(
    "end",
    [
        "",
        "raise SystemExit(0)",
        "import os; pid = os.fork()\nif pid: assert os.waitpid(pid, 0)[1] == 0",
        "del loader, iterator",
    ],
    ids=["end", "exit", "fork", "del"],
)
def test_the_interpreter_exits_at_once_in_mid_iteration(end: str) -> None:
    program = textwrap.dedent(
        """
        import threading, time
        from streamkit.pipeline import Loader
        started = threading.Event()
        def transform(sample, rng):
            if sample > 40:
                started.set()
                threading.Event().wait()  # a transform that never returns
            return sample
        loader = Loader(list(range(1000)), batch_size=4, shuffle=False, threads=2,
                        transform=transform)
        iterator = iter(loader)
        next(iterator), next(iterator)
        started.wait()
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program + end],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_many_short_iterations_leave_no_thread() -> None:
    loader = Loader(MemoryDataset(64), batch_size=4, threads=2)
    last: list[threading.Thread] = []
    for count in range(200):
        for _ in zip(range(count % 5), loader, strict=False):
            last = threads()
    assert none_left(last)
