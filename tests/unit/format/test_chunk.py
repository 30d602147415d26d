"""An open chunk: frames are verified before their first use, each once."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamkit as sk
from streamkit.errors import ChunkCorruptError, FormatError
from streamkit.format import chunk as chunk_module
from streamkit.format.chunk import Chunk
from streamkit.format.index import Index
from streamkit.format.layout import FRAME_BYTES
from streamkit.storage import LocalStore

FRAMES = 40


@pytest.fixture(params=[("local", None), ("local", "zstd"), ("memory", None), ("memory", "zstd")],
                ids=lambda param: f"{param[0]}-{param[1]}")  # fmt: skip
def store(request: pytest.FixtureRequest, tmp_path: Path) -> sk.Store:
    kind, compression = request.param
    store: sk.Store = LocalStore(tmp_path) if kind == "local" else sk.MemoryStore()
    rows = np.arange(FRAMES * FRAME_BYTES // 8).reshape(-1, 4)
    with sk.DatasetWriter(store, compression=compression) as writer:
        writer.write_batch({"x": rows})
    return store


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each run of bytes was hashed."""
    counts: Counter[bytes] = Counter()
    original = chunk_module.hash_bytes

    def count(data: Any) -> int:
        counts[bytes(data)] += 1
        return original(data)

    monkeypatch.setattr(chunk_module, "hash_bytes", count)
    return counts


def open_chunk(store: sk.Store, *, verify: bool = True) -> Chunk:
    index = Index.from_bytes(store.read("index.json"), "x")
    return Chunk.open(store, index.chunks, 0, [index.schema], verify=verify)


def span(*bounds: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    starts, stops = np.array(bounds, np.int64).T
    return starts, stops


def test_each_frame_is_verified_once_and_only_when_needed(
    store: sk.Store, hashed: Counter[bytes]
) -> None:
    chunk = open_chunk(store)
    hashed.clear()
    chunk.ensure(*span((10, 20)))
    assert hashed.total() == 1
    chunk.ensure(*span((0, FRAME_BYTES), (5, 5)))
    assert hashed.total() == 1
    chunk.ensure(*span((FRAME_BYTES - 1, FRAME_BYTES + 1)))
    assert hashed.total() == 2
    np.testing.assert_array_equal(
        chunk.memory[: 2 * FRAME_BYTES].view(np.int64), np.arange(2 * FRAME_BYTES // 8)
    )
    assert not chunk.is_complete
    chunk.ensure_all()
    assert chunk.is_complete
    assert hashed.total() == FRAMES
    assert max(hashed.values()) == 1
    chunk.ensure(*span((0, FRAMES * FRAME_BYTES)))
    assert hashed.total() == FRAMES
    np.testing.assert_array_equal(chunk.array(0, "values"), np.arange(FRAMES * FRAME_BYTES // 8))


def test_many_ranges_count_each_frame_once(store: sk.Store, hashed: Counter[bytes]) -> None:
    chunk = open_chunk(store)
    hashed.clear()
    starts = np.arange(0, FRAMES * FRAME_BYTES, 32)
    chunk.ensure(starts, starts + 32)
    assert hashed.total() == FRAMES


def test_without_verification_nothing_is_hashed(store: sk.Store, hashed: Counter[bytes]) -> None:
    chunk = open_chunk(store, verify=False)
    hashed.clear()
    chunk.ensure_all()
    assert hashed.total() == 0
    np.testing.assert_array_equal(chunk.array(0, "values"), np.arange(FRAMES * FRAME_BYTES // 8))


def flip(store: sk.Store, frame: int) -> None:
    """Change one byte of a frame."""
    chunk = open_chunk(store, verify=False)
    data = bytearray(store.read(chunk.name))
    data[int(chunk.header.stored_offsets[frame]) + 5] ^= 1
    store.write(chunk.name, [bytes(data)])


def test_a_changed_frame_is_found_when_it_is_used(store: sk.Store) -> None:
    flip(store, 7)
    chunk = open_chunk(store)
    chunk.ensure(*span((0, 7 * 8)))
    message = rf"{chunk.name}: frame 7 \(bytes [\d,]+ to [\d,]+\): xxh3 0x.*header says 0x"
    with pytest.raises(ChunkCorruptError, match=message):
        chunk.ensure(*span((7 * FRAME_BYTES, 7 * FRAME_BYTES + 8)))
    with pytest.raises(ChunkCorruptError, match="frame 7"):
        chunk.ensure_all()
    dataset = sk.open(store)
    with pytest.raises(ChunkCorruptError, match="frame 7"):
        dataset[:]
    assert dataset[0]["x"].tolist() == [0, 1, 2, 3]


def test_another_chunk_in_its_place_is_found(store: sk.Store) -> None:
    other = sk.MemoryStore()
    with sk.DatasetWriter(other) as writer:
        writer.write_batch({"x": np.arange(FRAMES * FRAME_BYTES // 8).reshape(-1, 4) + 1})
    (foreign,) = (name for name in other.list() if name.endswith(".skc"))
    (mine,) = (name for name in store.list() if name.endswith(".skc"))
    store.write(mine, [other.read(foreign)])
    with pytest.raises(FormatError, match=mine):
        sk.open(store)[0]


def test_a_chunk_that_was_cut_short_is_found(store: sk.Store) -> None:
    (name,) = (name for name in store.list() if name.endswith(".skc"))
    data = store.read(name)
    for size in (len(data) - 1, len(data) // 2, 100, 10, 0):
        store.write(name, [data[:size]])
        with pytest.raises(FormatError, match=name):
            sk.open(store)[:]


def test_memory_counts_only_what_is_not_mapped(store: sk.Store) -> None:
    chunk = open_chunk(store)
    mapped = isinstance(store, LocalStore) and chunk.header.codec == 0
    assert chunk.own_bytes == (0 if mapped else chunk.header.data_bytes)


def test_a_chunk_that_goes_while_it_is_open_means_another_version() -> None:
    store = sk.MemoryStore()
    for mode in ("create", "overwrite"):
        with sk.DatasetWriter(store, mode=mode) as writer:  # type: ignore[arg-type]
            writer.write_batch(np.zeros((FRAMES * FRAME_BYTES // 8, 1)))
        if mode == "create":
            dataset = sk.open(store)
            dataset[0]
    with pytest.raises(sk.DatasetChangedError, match="another version was published"):
        dataset[-1]
    store.delete(sk.open(store).index.chunks.names[0])
    with pytest.raises(FormatError, match="is missing, though the index names it"):
        sk.open(store)[0]
