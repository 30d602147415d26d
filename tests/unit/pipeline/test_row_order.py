"""The order of rows inside a batch is a promise: by slot, then by position, on any host."""

from __future__ import annotations

import numpy as np
import pytest

import streamkit as sk

# Batches larger than the window, so that slots repeat inside one and ties are seen.
pytestmark = pytest.mark.filterwarnings("ignore:batch_size .* is larger")


def numbers(count: int = 600, chunk: int = 20) -> sk.StoredDataset:
    with sk.DatasetWriter(store := sk.MemoryStore(), chunk_samples=chunk) as writer:
        writer.write_batch({"x": np.arange(count)})
    return sk.open(store)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_rows_are_sorted_by_slot_and_then_by_position(processes: int) -> None:
    stream = sk.Stream(numbers(), shuffle=sk.ChunkShuffle(window=8), seed=5, epochs=2)
    for step in range(20):
        positions = np.arange(step * 32, step * 32 + 32)
        slots = stream.slots(positions)
        assert slots is not None
        expected = stream.indices(positions[np.argsort(slots, kind="stable")])
        assert not np.array_equal(expected, stream.indices(positions))
        rows = [
            sk.Loader(stream, batch_size=32, shard=sk.Shard(i, processes)).batch(step)["x"]
            for i in range(processes)
        ]
        np.testing.assert_array_equal(np.concatenate(rows), expected)


def test_global_shuffle_keeps_the_order_of_position() -> None:
    stream = sk.Stream(numbers(), shuffle=sk.GlobalShuffle(), epochs=1)
    batch = sk.Loader(stream, batch_size=32).batch(3)["x"]
    np.testing.assert_array_equal(batch, stream.indices(np.arange(96, 128)))


def test_golden_batches() -> None:
    """Literal values: whoever changes them changes the order that users have trained with."""
    loader = sk.Loader(numbers(), batch_size=12, shuffle=sk.ChunkShuffle(window=4), seed=3)
    assert loader.batch(0)["x"].tolist() == GOLDEN[0]
    assert loader.batch(17)["x"].tolist() == GOLDEN[1]


GOLDEN = [
    [32, 33, 27, 97, 88, 96, 81, 83, 91, 38, 22, 34],
    [149, 146, 147, 501, 510, 515, 55, 40, 50, 469, 478, 468],
]
