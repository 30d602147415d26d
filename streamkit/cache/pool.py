"""A bounded pool of open things: what was used longest ago is let go of first.

It knows neither chunks nor files: keys in, values out, opened when first asked for. A value that
somebody still holds stays alive when the pool lets go of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class OpenPool(Generic[K, V]):
    """Values by key, at most `max_items` of them and `max_bytes` in all. Thread-safe.

    Args:
        open_value: Opens the value of a key; called without a lock, so two threads may open the
            same key at once, and one of the two values is kept.
        num_bytes: What a value counts for.
        max_items: The most values kept; the newest one is always kept.
        max_bytes: The most bytes kept; the newest value is always kept.
    """

    def __init__(
        self,
        open_value: Callable[[K], V],
        num_bytes: Callable[[V], int],
        *,
        max_items: int,
        max_bytes: int,
    ):
        self._open, self._num_bytes = open_value, num_bytes
        self._max_items, self._max_bytes = max_items, max_bytes
        self._values: OrderedDict[K, V] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, keys: Iterable[K]) -> list[V]:
        """The values of keys, opened where they are not; the caller's list keeps them alive."""
        found: list[V | None] = []
        wanted = list(keys)
        values = self._values
        with self._lock:
            for key in wanted:
                value = values.get(key)
                if value is not None:
                    values.move_to_end(key)
                found.append(value)
        return [
            self._add(key) if value is None else value
            for key, value in zip(wanted, found, strict=True)
        ]

    def clear(self) -> None:
        """Let go of all values."""
        with self._lock:
            self._values.clear()
            self._bytes = 0

    def _add(self, key: K) -> V:
        opened = self._open(key)
        with self._lock:
            value = self._values.setdefault(key, opened)
            if value is opened:
                self._bytes += self._num_bytes(opened)
            self._values.move_to_end(key)
            while len(self._values) > 1 and (
                len(self._values) > self._max_items or self._bytes > self._max_bytes
            ):
                _, old = self._values.popitem(last=False)
                self._bytes -= self._num_bytes(old)
        return value
