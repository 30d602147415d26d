"""Memory of batches is used again only when nobody can see it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

import streamkit as sk
from streamkit.pipeline.memory import RecycledMemory

SHAPE, DTYPE = (3000, 400), np.dtype(np.float32)


def address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


def test_free_memory_is_used_again() -> None:
    memory = RecycledMemory(10**8)
    array = memory(SHAPE, DTYPE)
    first = address(array)
    del array
    assert address(memory(SHAPE, DTYPE)) == first
    assert address(memory((400, 3000), np.dtype(np.int32))) == first


@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array,
        lambda array: array[1:3],
        lambda array: array.T[5:].reshape(-1)[:0],
        lambda array: memoryview(array)[7:8],
        lambda array: array.view(np.uint8).view(np.int16)[..., :4],
        lambda array: np.lib.stride_tricks.as_strided(array, (2,), (4,)),
        lambda array: jax.device_put(array),
        lambda array: jax.dlpack.from_dlpack(array),
        lambda array: iter(array),
    ],
)
def test_memory_that_anything_still_sees_is_not(keep: Any) -> None:
    memory = RecycledMemory(10**8)
    array = memory(SHAPE, DTYPE)
    array[...] = 7
    kept = keep(array)
    before = np.array(kept).copy() if not hasattr(kept, "__next__") else None
    del array
    for _ in range(10):
        other = memory(SHAPE, DTYPE)
        other[...] = 9
        del other
    after = np.array(kept) if before is not None else next(kept)
    np.testing.assert_array_equal(after, 7 if before is None else before)


def test_small_arrays_and_full_pools_are_fresh() -> None:
    memory = RecycledMemory(4 * 3000 * 400 * 4)
    held = [memory(SHAPE, DTYPE) for _ in range(20)]
    assert len({address(array) for array in held}) == 20
    kept = {address(array) for array in held[:4]}
    del held
    again = [memory(SHAPE, DTYPE) for _ in range(4)]
    assert {address(array) for array in again} == kept
    assert memory((3,), DTYPE).base is None


def test_batches_of_a_loader_stay_as_they_are() -> None:
    with sk.DatasetWriter(store := sk.MemoryStore(), chunk_samples=100) as writer:
        writer.write_batch({"x": np.arange(400 * 12_000, dtype=np.int64).reshape(400, 12_000)})
    ds = sk.open(store)
    loader = sk.Loader(ds, batch_size=50, epochs=3)
    seen = [(batch["x"][::7, ::1000], batch["x"][::7, ::1000].copy()) for batch in loader]
    assert len(seen) == 24
    for view, copy in seen:
        np.testing.assert_array_equal(view, copy)
