"""Gathering rows from many mapped chunks with one index.

All mappings of a process lie in one address space, so rows of different chunks are gathered by
one fancy index into a view of that address space, instead of one `take` per chunk, which is twice
as slow. Each element of the view is a whole row of opaque bytes and starts at any byte.

Safety is the caller's: addresses come from open chunks whose buffers were checked against their
header, and the caller holds the chunks while it gathers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.datasets.base import Allocate

# The lowest page is never mapped, and NumPy refuses the null pointer.
_ORIGIN = 4096
# User addresses on x86-64 end at 2^47, on 64-bit Arm at 2^48.
_ADDRESS_SPACE = 2**48
_ALIGNED_SIZES = frozenset((1, 2, 4, 8))
# From this size on a row is copied by itself: the copy then runs without the GIL, which one fancy
# index of few rows holds all the time.
_LARGE_ROW_BYTES = 32 * 1024
_PIECE_BYTES = 64 * 1024


class _Memory:
    """Describes the address space to NumPy."""

    def __init__(self, row_bytes: int, stride: int, kind: str):
        self.__array_interface__ = {
            "data": (_ORIGIN, True),
            "shape": ((_ADDRESS_SPACE - _ORIGIN) // stride - row_bytes,),
            "strides": (stride,),
            "typestr": f"|{kind}{row_bytes}" if kind == "V" else f"<{kind}{row_bytes}",
            "version": 3,
        }


@lru_cache(maxsize=256)
def _view(row_bytes: int, stride: int, kind: str) -> NDArray[Any]:
    return np.asarray(_Memory(row_bytes, stride, kind))


def read_bytes(address: int, num_bytes: int) -> NDArray[np.uint8]:
    """A view of memory as uint8 `[num_bytes]`; copy it before the chunk may go."""
    if not num_bytes:
        return np.empty(0, np.uint8)
    start = address - _ORIGIN
    memory = _view(1, 1, "u")[start : start + num_bytes]
    if len(memory) != num_bytes:
        raise MemoryError(f"address {address:#x} lies beyond {_ADDRESS_SPACE:#x}")
    return memory


def read_int64(addresses: NDArray[np.int64]) -> NDArray[np.int64]:
    """The int64 at each address; addresses are multiples of 8."""
    values: NDArray[np.int64] = _view(8, 8, "i")[(addresses - _ORIGIN) >> 3]
    return values


def gather_rows(
    addresses: NDArray[np.int64],
    ends: Sequence[int],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    *,
    allocate: Allocate | None = None,
    out_dtype: np.dtype[Any] | None = None,
) -> list[NDArray[Any]]:
    """Copy rows from their addresses into new arrays, one for each batch.

    Args:
        addresses: int64 `[rows]` of all batches, where each row begins.
        ends: Where each batch ends among them.
        dtype: The stored dtype.
        shape: The shape of one row.
        allocate: Gives the memory of the results; of those below its `least_bytes`, if it has
            such an attribute, it need not be asked.
        out_dtype: The dtype of the results, if it is another.

    Returns:
        `[rows, *shape]` for each batch, writable and owned by the caller.
    """
    target = out_dtype or dtype
    row_bytes = dtype.itemsize * math.prod(shape)
    bounds = zip([0, *ends[:-1]], ends, strict=True)
    if row_bytes == 0 or row_bytes >= _LARGE_ROW_BYTES:
        return [
            _copy_rows(addresses[a:b], dtype, (b - a, *shape), target, row_bytes, allocate)
            for a, b in bounds
        ]
    if row_bytes in _ALIGNED_SIZES and dtype.itemsize == row_bytes:
        memory, places = _view(row_bytes, row_bytes, "u"), (addresses - _ORIGIN) // row_bytes
    else:
        memory, places = _view(row_bytes, 1, "V"), addresses - _ORIGIN
    # Memory of the caller's takes a second copy: in pieces, which stay in the cache.
    step = max(1, _PIECE_BYTES // row_bytes)
    gathered = []
    least_bytes = getattr(allocate, "least_bytes", 0)
    for a, b in bounds:
        is_given = allocate is not None and (b - a) * row_bytes >= least_bytes
        if allocate is None or not is_given:
            values = memory[places[a:b]].view(dtype).reshape(b - a, *shape)
            gathered.append(values if target == dtype else values.astype(target))
            continue
        out = allocate((b - a, *shape), target)
        for start in range(a, b, step):
            piece = memory[places[start : min(start + step, b)]].view(dtype)
            out[start - a : start - a + step] = piece.reshape(-1, *shape)
        gathered.append(out)
    return gathered


def _copy_rows(
    addresses: NDArray[np.int64],
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    target: np.dtype[Any],
    row_bytes: int,
    allocate: Allocate | None,
) -> NDArray[Any]:
    out = np.empty(shape, target) if allocate is None else allocate(shape, target)
    if row_bytes:
        for row, address in enumerate(addresses.tolist()):
            out[row] = read_bytes(address, row_bytes).view(dtype).reshape(shape[1:])
    return out
