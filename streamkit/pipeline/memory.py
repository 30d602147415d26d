"""Memory for batches, used again once nobody holds it.

A batch of some hundred kilobytes costs more to map and to fault in page by page than to fill: the
C library gives such memory back to the system as soon as it is freed. So the loader keeps the
memory of the batches that it handed out, and fills it again when it is free.

Whether it is free is asked of Python: an array that is still used, by itself, through a view, or
by a framework that took it without a copy, holds a reference to its memory. Nothing is ever
reused that anybody can still see.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Smaller arrays come from the C library's own free lists, which are as fast.
_LEAST_BYTES = 64 * 1024
# How many buffers are looked at before a new one is taken: they are freed in about the order in
# which they were given.
_LOOKS = 3


class RecycledMemory:
    """Gives memory for arrays: `recycled(shape, dtype)`. Thread-safe.

    Args:
        max_bytes: The most memory kept for each size of array; three arrays are always allowed.
    """

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
        if num_bytes < _LEAST_BYTES or not self._can_count:
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
        if len(buffers) >= _LOOKS and (len(buffers) + 1) * num_bytes > self._max_bytes:
            return np.empty(shape, dtype)
        buffer = np.empty(num_bytes, np.uint8)
        array = buffer.view(dtype).reshape(shape)
        buffers.append(buffer)
        return array


def _references(buffer: NDArray[np.uint8]) -> int:
    """How many references a buffer has, in a call like those above."""
    return sys.getrefcount(buffer)
