"""Batches of a loader, on the device ahead of the training step, for one process.

A thread takes batches from the loader and dispatches their transfer while the step before still
runs. The loader therefore runs ahead of the training step, so its position is not the one to
save: the feed keeps the loader's state of each batch beside the batch, and `state_dict` is the
state of the last one handed out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from streamkit_jax.placement import Target, check_target, place
from streamkit_jax.pump import Pump


class BatchSource(Protocol):
    """What a feed asks of a loader; `streamkit.Loader` is one."""

    def __iter__(self) -> Iterator[Any]:
        """Go on from the position to the end of the pass."""

    def __len__(self) -> int:
        """Return the batches of a whole pass."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the last batch that was taken."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch that `state` was taken behind."""

    def close(self) -> None:
        """End the running iteration, also one that waits in another thread; a new one may come."""


@dataclass(frozen=True)
class FeedStats:
    """What a feed has done since it was made.

    Attributes:
        batches: Batches handed out.
        wait_seconds: Time the caller stood waiting for a batch.
        run_seconds: Time from asking for the first batch of a pass to getting its last one,
            summed over passes: the caller's steps and the waiting between them.
    """

    batches: int = 0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0

    @property
    def wait_share(self) -> float:
        """The part of the running time spent waiting, 0 to 1."""
        return self.wait_seconds / self.run_seconds if self.run_seconds else 0.0

    def plus(self, wait_seconds: float, run_seconds: float) -> FeedStats:
        """Return these figures with one more batch."""
        return FeedStats(
            self.batches + 1, self.wait_seconds + wait_seconds, self.run_seconds + run_seconds
        )


class DeviceFeed:
    """Iterates a loader with each batch's numeric leaves already on the device.

    Passes, order and state are the loader's: `iter(feed)` goes on from the position to the end
    of the pass. Leaving the loop early puts the loader back to the last batch that the loop was
    given, so the batches that lay prefetched come again. One iteration at a time; a second one
    ends the first.

    ```
    loader     batch 7 assembled
    device     batch 5, batch 6      <- prefetch=2
    caller     trains on batch 4     -> state_dict() says: 0 to 4 are done
    ```

    Columns of str, bytes and other values that JAX has no dtype for stay on the host, and so do
    ragged columns, unless the loader pads them. 64-bit integers become 32-bit ones where x64 is
    off, or raise if a value does not fit.

    Args:
        loader: A `streamkit.Loader`. The feed takes over its position while a loop runs.
        device: A `jax.Device`, a `jax.sharding.Sharding` over devices of this process that fits
            every numeric leaf, or None for JAX's default device.
        prefetch: Batches held on the device besides the one handed out; at least 1.

    Raises:
        ValueError: `prefetch` is below 1, or the sharding spans other processes' devices.
    """

    def __init__(self, loader: BatchSource, device: Target = None, *, prefetch: int = 2):
        if prefetch < 1:
            raise ValueError(f"prefetch (={prefetch}) must be at least 1 batch")
        check_target(device)
        self._loader = loader
        self._device = device
        self._prefetch = prefetch
        self._pump: Pump | None = None
        self._state: dict[str, Any] = {}
        self._stats = FeedStats()

    def __iter__(self) -> Iterator[Any]:
        """Hand out batches from the position to the end of the pass.

        Raises:
            RuntimeError: This iteration was ended by another one, by `close` or by
                `load_state_dict`, and is asked for one more batch.
            OverflowError: A 64-bit integer does not fit the 32 bits that JAX has with x64 off.
        """
        self.close()
        self._state = self._loader.state_dict()
        self._pump = pump = self._start()
        mark = time.perf_counter()
        try:
            while not pump.stopped:
                asked = time.perf_counter()
                try:
                    *handed, state = pump.take()
                except Exception as error:
                    if pump.stopped:
                        break  # the error only says that the loader was interrupted
                    if isinstance(error, StopIteration):
                        return
                    raise
                if pump.stopped:
                    break
                self._state = state
                now = time.perf_counter()
                self._stats = self._stats.plus(now - asked, now - mark)
                mark = now
                # No reference stays here: a batch that the caller drops leaves the device.
                yield handed.pop()
            raise RuntimeError(
                "this iteration of the DeviceFeed was ended by a second iter(), close() or "
                "load_state_dict(); start a new one with iter(feed)"
            )
        finally:
            self._end(pump)

    def __len__(self) -> int:
        """Return the loader's length: batches in a whole pass."""
        return len(self._loader)

    @property
    def stats(self) -> FeedStats:
        """Batches handed out and time spent waiting for them."""
        return self._stats

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's state after the last batch that the caller was given.

        JSON, and right inside the loop, after `break`, between passes and from another thread.
        """
        return dict(self._state) if self._pump is not None else self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batch that `state` was taken behind.

        Raises:
            StateMismatchError: As the loader does, if the state belongs to other data.
        """
        self.close()
        self._loader.load_state_dict(state)

    def close(self) -> None:
        """End the thread and put the loader back to the last batch handed out.

        The loader stays open; a new iteration may follow.
        """
        if self._pump is not None:
            self._end(self._pump)

    def _start(self) -> Pump:
        # Local names only: the thread must not keep the feed alive.
        loader, device = self._loader, self._device
        try:
            spec = getattr(loader, "element_spec", None)
        except TypeError:
            spec = None  # a transform's result is known only once it has run

        def step(batch: Any) -> tuple[Any, dict[str, Any]]:
            state = loader.state_dict()
            return place(batch, device, spec), state

        return Pump(lambda: iter(loader), loader.close, step, self._prefetch)

    def _end(self, pump: Pump) -> None:
        pump.stop()
        if self._pump is pump:
            self._pump = None
            self._loader.load_state_dict(self._state)
