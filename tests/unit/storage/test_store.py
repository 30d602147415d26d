"""What every store does, for the two that need no network."""

import os
import pickle
from pathlib import Path

import pytest

from streamkit import LocalStore, MemoryStore, Store, WriteConflictError
from streamkit.storage import open_store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "root") if request.param == "local" else MemoryStore()


def test_it_follows_the_protocol(store: Store) -> None:
    assert isinstance(store, Store)


def test_what_is_written_is_read(store: Store) -> None:
    store.write("a/b.bin", [b"01234", bytearray(b"56789"), memoryview(b"ab"), b""])
    assert store.read("a/b.bin") == b"0123456789ab"
    assert store.read("a/b.bin", 3) == b"3456789ab"
    assert store.read("a/b.bin", 3, 5) == b"34"
    assert store.read("a/b.bin", 10, 100) == b"ab"
    assert store.read("a/b.bin", 100, 200) == b""
    assert store.read_ranges("a/b.bin", [(4, 6), (0, 1), (10, 99)]) == [b"45", b"0", b"ab"]
    assert store.read_ranges("a/b.bin", []) == []
    assert store.size("a/b.bin") == 12
    assert list(store.list()) == ["a/b.bin"]


def test_many_parts_are_one_object(store: Store) -> None:
    parts = [bytes([i % 251]) * (i % 7) for i in range(3000)]  # more than one writev takes
    store.write("x", parts)
    assert store.read("x") == b"".join(parts)


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.write("x", [])
    assert store.read("x") == b""
    assert store.size("x") == 0


@pytest.mark.parametrize("call", ["read", "size", "read_version"])
def test_what_is_not_there_is_not_found(store: Store, call: str) -> None:
    with pytest.raises(FileNotFoundError):
        getattr(store, call)("nothing")


def test_deleting_is_quiet(store: Store) -> None:
    store.write("x", [b"1"])
    store.delete("x")
    store.delete("x")
    assert list(store.list()) == []


def test_replace_swaps_the_version_that_was_read(store: Store) -> None:
    store.replace("i", b"one", expected=None)
    data, version = store.read_version("i")
    assert data == b"one"
    store.replace("i", b"two", expected=version)
    for stale in (version, None):
        with pytest.raises(WriteConflictError):
            store.replace("i", b"three", expected=stale)
    assert store.read("i") == b"two"
    assert list(store.list()) == ["i"]


def test_replace_of_what_is_gone_is_a_conflict(store: Store) -> None:
    store.replace("i", b"one", expected=None)
    _, version = store.read_version("i")
    store.delete("i")
    with pytest.raises(WriteConflictError):
        store.replace("i", b"two", expected=version)
    assert list(store.list()) == []


def test_a_store_survives_pickling(store: Store) -> None:
    empty = pickle.loads(pickle.dumps(store))
    assert list(empty.list()) == []
    empty.write("late", [b"1"])
    store.write("x", [b"1"])
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read("x") == b"1"
    copy.replace("i", b"one", expected=None)
    assert copy.read("i") == b"one"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def parts():
        yield b"some"
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        store.write("x", parts())
    assert os.listdir(tmp_path) == []


def test_a_local_object_can_be_mapped_and_one_in_memory_cannot(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("x", [b"123"])
    path = store.path("x")
    assert path is not None
    assert Path(path).read_bytes() == b"123"
    assert MemoryStore().path("x") is None


def test_open_store_takes_paths_urls_and_stores(tmp_path: Path) -> None:
    store = MemoryStore()
    assert open_store(store) is store
    assert open_store(tmp_path).url == str(tmp_path)
    assert open_store(str(tmp_path)).url == str(tmp_path)
    assert open_store(f"file://{tmp_path}").url == str(tmp_path)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("", ValueError, "empty"),
        ("s3://bucket/x", ValueError, "s3://bucket/x"),
        (5, TypeError, "url=5"),
        (b"x", TypeError, "url=b'x'"),
        (None, TypeError, "url=None"),
    ],
)
def test_open_store_names_what_it_cannot_open(
    url: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_store(url)  # type: ignore[arg-type]
