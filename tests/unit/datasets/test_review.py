"""What a review found: each of these was wrong once."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamkit as sk
from streamkit.pipeline.memory import RecycledMemory
from streamkit.storage import open_store


def squares(count: int = 40, **options: Any) -> sk.MemoryStore:
    with sk.DatasetWriter(store := sk.MemoryStore(), **options) as writer:
        writer.write_batch({"x": np.arange(count), "y": np.arange(count) ** 2})
    return store


class Negative(sk.StoredDataset):
    """A dataset whose samples are made by `__getitem__`."""

    tag = 0

    def __getitem__(self, key: Any) -> Any:
        return {"x": -int(key)}


def negative() -> Negative:
    ds = sk.open(squares())
    return Negative(squares(), ds.index)


def test_a_store_that_fails_inside_write_batch_publishes_nothing() -> None:
    class Failing(sk.MemoryStore):
        failed = False

        def write(self, key: str, parts: Any) -> None:
            if not self.failed:
                self.failed = True
                raise OSError("full")
            super().write(key, parts)

    store = Failing()
    writer = sk.DatasetWriter(store, chunk_bytes=800)
    batch = {"x": np.arange(100)}
    with pytest.raises(OSError, match="full"):
        writer.write_batch(batch)
    with pytest.raises(ValueError, match="failed"):
        writer.write_batch(batch)
    with pytest.raises(ValueError, match="failed"):
        writer.close()
    assert list(store.list()) == []


@pytest.mark.parametrize(
    "view",
    [
        lambda ds: sk.subset(ds, [3, 4]),
        lambda ds: sk.split(ds, [1.0])[0],
        lambda ds: sk.sample(ds, 10),
        lambda ds: sk.concat([ds, ds]),
        lambda ds: sk.apply(ds, lambda sample: sample),
    ],
)
def test_views_honour_an_overridden_getitem(view: Any) -> None:
    ds = view(negative())
    assert ds[1]["x"] < 0
    assert (ds.gather([1])["x"] < 0).all()
    assert (sk.Loader(ds, batch_size=2).batch(0)["x"] <= 0).all()


def test_views_take_plain_sequences() -> None:
    assert sk.subset([5, 6, 7], [2])[0] == 7
    assert sk.concat([[1, 2], [3]])[:] == [1, 2, 3]


def test_token_blocks_go_on_after_an_append() -> None:
    store = sk.MemoryStore()
    schema = {"tokens": sk.Column("uint16", (None,))}
    with sk.DatasetWriter(store, schema=schema) as writer:
        writer.write_batch({"tokens": [np.full(50, n) for n in np.arange(8, dtype=np.uint16)]})
    loader = sk.Loader(sk.TokenBlocks(sk.open(store), 10), batch_size=4)
    next(iter(loader))
    state = loader.state_dict()
    with sk.DatasetWriter(store, mode="append") as writer:
        writer.write({"tokens": np.zeros(100, np.uint16)})
    grown = sk.Loader(sk.TokenBlocks(sk.open(store), 10), batch_size=4)
    with pytest.raises(sk.StateMismatchError):
        grown.load_state_dict(state)
    grown.load_state_dict(state, on_change="next_epoch")
    assert grown.state_dict()["position"] == 50


def test_a_token_that_the_dtype_cannot_hold_is_an_error() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, schema={"tokens": sk.Column("uint32", (None,))}) as writer:
        writer.write({"tokens": np.array([1, 2**31 + 5], np.uint32)})
        writer.write({"tokens": np.array([3, 4], np.uint32)})
    blocks = sk.TokenBlocks(sk.open(store), 2)
    assert blocks[1]["tokens"].tolist() == [3, 4]
    with pytest.raises(ValueError, match=r"token of 2147483653.*dtype=None"):
        blocks[0]
    assert sk.TokenBlocks(sk.open(store), 2, dtype=None)[0]["tokens"][1] == 2**31 + 5


def test_recycled_memory_is_bounded_over_all_sizes() -> None:
    memory = RecycledMemory(20 * 2**20)
    for extra in range(40):
        memory((4 * 2**20 + extra,), np.dtype(np.uint8))
    kept = sum(size * len(buffers) for size, buffers in memory._buffers.items())
    assert kept <= 20 * 2**20


def test_a_subclass_keeps_its_attributes_when_pickled() -> None:
    ds = negative()
    ds.tag = 7
    assert pickle.loads(pickle.dumps(ds)).tag == 7


def test_overwrite_replaces_a_damaged_dataset() -> None:
    store = squares()
    store._objects["index.json"] = b"{broken"
    with pytest.raises(sk.FormatError):
        sk.DatasetWriter(store, mode="append")
    with sk.DatasetWriter(store, mode="overwrite") as writer:
        writer.write({"x": 1})
    assert len(sk.open(store)) == 1


def test_an_old_chunk_that_cannot_be_deleted_is_a_warning() -> None:
    class Stubborn(sk.MemoryStore):
        def delete(self, key: str) -> None:
            raise PermissionError(key)

    store = Stubborn()
    for value in (1, 2):
        writer = sk.DatasetWriter(store, mode="overwrite")
        writer.write({"x": value})
        if value == 1:
            writer.close()
    with pytest.warns(UserWarning, match="1 objects of the old one could not be deleted"):
        writer.close()
    assert sk.open(store)[0] == {"x": 2}


def test_file_urls_are_decoded(tmp_path: Path) -> None:
    assert open_store("file:///a%20b").url == "/a b"
    assert open_store(f"file://localhost{tmp_path}").url == str(tmp_path)
    with pytest.raises(ValueError, match="file:///"):
        open_store("file://elsewhere/data")
