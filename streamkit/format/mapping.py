"""Files as memory, without a descriptor each.

`mmap.mmap` keeps a duplicate of the descriptor open for as long as the mapping lives (before
Python 3.13 always), so a process would run out of descriptors (1,024 by default) long before it
runs out of mappings (65,530).
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FAILED = ctypes.c_void_p(-1).value


class _Mapping:
    """A mapping of a whole file, which ends with the last array over it."""

    def __init__(self, address: int, num_bytes: int):
        self.__array_interface__ = {
            "data": (address, True),
            "shape": (num_bytes,),
            "typestr": "|u1",
            "version": 3,
        }
        end = weakref.finalize(self, _libc().munmap, address, num_bytes)
        # Not at exit: threads may still read, and the process takes its mappings with it.
        end.atexit = False


def map_file(descriptor: int, num_bytes: int) -> NDArray[np.uint8]:
    """Map the first bytes of an open file for reading.

    Args:
        descriptor: May be closed afterwards.
        num_bytes: At least 1, and at most what the file has.

    Returns:
        Read-only memory, uint8 `[num_bytes]`, mapped for as long as an array refers to it.

    Raises:
        OSError: The system refuses.
    """
    address = _libc().mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot map a file of {num_bytes:,} bytes: {os.strerror(number)}")
    return np.asarray(_Mapping(address, num_bytes))


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
    )  # fmt: skip
    libc.munmap.restype = ctypes.c_int
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return libc
