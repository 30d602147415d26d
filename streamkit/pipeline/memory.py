"""Memory for batches that is warm: mapped and faulted in already.

A page that the system has just given costs more to fault in than to fill. Two things keep batches
away from such pages:

- *Small arrays* come from the C library, which by default maps anything above 128 kB anew and
  gives it back as soon as it is freed. It stops doing so for all sizes up to that of a mapped
  array that a program has freed (glibc's dynamic threshold, mallopt(3)); `keep_heap_warm` frees
  one of 32 MB.
- *Large arrays* are used again once nobody holds them. Whether one is free is asked of Python: an
  array that is still used, by itself, through a view, or by a framework that took it without a
  copy, holds a reference to its memory. Nothing is ever reused that anybody can still see.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The most for which the C library raises its threshold, less its own bookkeeping.
_HEAP_BYTES = 32 * 2**20 - 64 * 2**10
# How many buffers are looked at before a new one is taken: they are freed in about the order in
# which they were given.
_LOOKS = 3


class RecycledMemory:
    """Gives memory for arrays: `recycled(shape, dtype)`. Thread-safe.

    Attributes:
        least_bytes: Smaller arrays are NumPy's own.

    Args:
        max_bytes: The most memory kept, but for the three last arrays.
    """

    least_bytes = 4 * 2**20

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._buffers: dict[int, deque[NDArray[np.uint8]]] = {}
        probe = np.empty(1, np.uint8)
        self._unused = _references(probe)
        # Without the GIL reference counts are estimates, so nothing is used again.
        self._can_count = getattr(sys, "_is_gil_enabled", lambda: True)()

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An uninitialised array that nobody else can see, writable."""
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes < self.least_bytes or not self._can_count:
            return np.empty(shape, dtype)
        buffers = self._buffers.setdefault(num_bytes, deque())
        for _ in range(_LOOKS):
            try:
                buffer = buffers.popleft()
            except IndexError:
                break
            is_free = _references(buffer) == self._unused
            buffers.append(buffer)
            if is_free:
                return buffer.view(dtype).reshape(shape)
        kept = sum(size * len(of_size) for size, of_size in list(self._buffers.items()))
        if kept + num_bytes > self._max_bytes and len(buffers) >= _LOOKS:
            return np.empty(shape, dtype)
        if kept + num_bytes > self._max_bytes:
            # Sizes that came before and may not come again; arrays in use stay their owners'.
            buffers = deque()
            self._buffers = {num_bytes: buffers}
        buffer = np.empty(num_bytes, np.uint8)
        array = buffer.view(dtype).reshape(shape)
        buffers.append(buffer)
        return array


def keep_heap_warm() -> None:
    """Have the C library keep freed memory of batches; costs some microseconds."""
    np.empty(_HEAP_BYTES, np.uint8)


def _references(buffer: NDArray[np.uint8]) -> int:
    """How many references a buffer has, in a call like those above."""
    return sys.getrefcount(buffer)
