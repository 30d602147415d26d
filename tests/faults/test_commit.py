"""Writers that fail or meet each other publish nothing, and touch only what they wrote."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import streamkit as sk


def tokens(i: int) -> dict[str, Any]:
    return {"n": i, "t": "x" * i}


def write(target: Any, values: Iterable[int], **options: Any) -> None:
    with sk.DatasetWriter(target, chunk_samples=3, **options) as writer:
        for value in values:
            writer.write(tokens(value))


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    write(tmp_path / "data", range(8))
    return tmp_path / "data"


# -- two writers at once ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [("append", "append"), ("overwrite", "append"), ("append", "overwrite"),
     ("overwrite", "overwrite")],
)  # fmt: skip
def test_of_two_writers_the_first_wins(first: Any, second: Any, target: Path) -> None:
    winner = sk.DatasetWriter(target, mode=first, chunk_samples=3)
    loser = sk.DatasetWriter(target, mode=second, chunk_samples=3)
    for i in range(20, 28):
        loser.write(tokens(i))
        winner.write(tokens(i + 100))
    winner.close()
    published = files(target)
    with pytest.raises(sk.WriteConflictError, match="another writer published"):
        loser.close()
    kept = sk.open(target)
    old = [tokens(i) for i in range(8)] if first == "append" else []
    assert kept[:] == [*old, *(tokens(i + 100) for i in range(20, 28))]
    # All that the loser had stored is gone, and nothing of the winner's.
    assert files(target).keys() == kept.index.object_names | {"index.json"}
    assert all(published[name] == data for name, data in files(target).items())
    with pytest.raises(ValueError, match="has published nothing"):
        loser.write(tokens(1))


def test_of_two_creators_the_first_wins(tmp_path: Path) -> None:
    winner, loser = sk.DatasetWriter(tmp_path / "data"), sk.DatasetWriter(tmp_path / "data")
    loser.write(tokens(1))
    winner.write(tokens(2))
    winner.close()
    with pytest.raises(sk.WriteConflictError):
        loser.close()
    ds = sk.open(tmp_path / "data")
    assert ds[:] == [tokens(2)]
    assert files(tmp_path / "data").keys() == ds.index.object_names | {"index.json"}


def test_processes_that_append_at_once_lose_nothing(target: Path) -> None:
    """Each of four processes says whether it won; the dataset holds what the winners wrote."""
    children = {}
    for number in range(4):
        child = os.fork()
        if child == 0:
            status = 3
            try:
                write(target, [100 + number], mode="append")
                status = 0
            except sk.WriteConflictError:
                status = 1
            finally:
                os._exit(status)
        children[child] = number
    ended = {n: os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c, n in children.items()}
    assert set(ended.values()) <= {0, 1}
    winners = {100 + number for number, status in ended.items() if status == 0}
    assert winners
    ds = sk.open(target)
    found = [sample["n"] for sample in ds[:]]
    assert found[:8] == list(range(8))
    assert len(found) == 8 + len(winners)
    assert set(found[8:]) == winners
    assert files(target).keys() == ds.index.object_names | {"index.json"}


# -- readers of the old version --------------------------------------------------------------------


def test_a_reader_goes_on_through_an_append(target: Path) -> None:
    reader = sk.open(target)
    assert reader[0] == tokens(0)
    write(target, range(50, 55), mode="append")
    reader.close()  # what is read now is opened after the append
    assert reader[:] == [tokens(i) for i in range(8)]
    assert reader.lengths("t").tolist() == list(range(8))
    grown = sk.open(target)
    assert len(grown) == 13
    assert grown.prefix_fingerprint(8) == reader.fingerprint != grown.fingerprint


@pytest.mark.parametrize("read", [lambda ds: ds[:], lambda ds: ds.lengths("t")])
def test_a_reader_of_an_overwritten_version_is_told(read: Any, target: Path) -> None:
    reader = sk.open(target)
    write(target, range(50, 55), mode="overwrite")
    with pytest.raises(sk.DatasetChangedError, match="open the dataset again"):
        read(reader)
    assert sk.open(target)[:] == [tokens(i) for i in range(50, 55)]


def test_keep_old_keeps_reading(target: Path) -> None:
    reader = sk.open(target)
    write(target, range(50, 55), mode="overwrite", keep_old=True)
    assert reader[:] == [tokens(i) for i in range(8)]
    assert sk.open(target)[:] == [tokens(i) for i in range(50, 55)]


def test_mapped_chunks_outlive_an_overwrite(target: Path) -> None:
    reader = sk.open(target)
    assert len(reader[:]) == 8
    write(target, range(50, 55), mode="overwrite")
    assert reader[:] == [tokens(i) for i in range(8)]


def test_a_chunk_that_somebody_removed_is_no_change(target: Path) -> None:
    reader = sk.open(target)
    (target / reader.index.chunks.names[1]).unlink()
    assert reader[:3] == [tokens(i) for i in range(3)]
    with pytest.raises(sk.FormatError, match="missing, though the index names it"):
        reader[3]


# -- writers that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["append", "overwrite"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_publishes_nothing(mode: Any, error: type, target: Path) -> None:
    (target / "notes.txt").write_text("mine")
    before = files(target)

    def fail() -> None:
        with sk.DatasetWriter(target, mode=mode, chunk_samples=3) as writer:
            for i in range(10):
                writer.write(tokens(i))
            raise error("stop")

    with pytest.raises(error):
        fail()
    assert files(target) == before


def test_a_failed_create_leaves_an_empty_folder(tmp_path: Path) -> None:
    def fail() -> None:
        with sk.DatasetWriter(tmp_path / "data", chunk_samples=1) as writer:
            for i in range(5):
                writer.write(tokens(i))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert files(tmp_path) == {}
    write(tmp_path / "data", range(3))
    assert len(sk.open(tmp_path / "data")) == 3


def test_create_refuses_a_target_that_holds_anything(target: Path, tmp_path: Path) -> None:
    before = files(target)
    with pytest.raises(FileExistsError, match="holds a dataset"):
        sk.DatasetWriter(target)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        sk.DatasetWriter(tmp_path / "other")
    assert files(target) == before
    assert files(tmp_path / "other") == {"notes.txt": b"mine"}


def test_append_needs_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="needs a dataset"):
        sk.DatasetWriter(tmp_path / "none", mode="append")
    assert not (tmp_path / "none").exists()


def test_overwrite_leaves_the_files_of_others(target: Path) -> None:
    (target / "notes.txt").write_text("mine")
    write(target, range(3), mode="overwrite")
    assert (target / "notes.txt").read_text() == "mine"
    assert files(target).keys() == sk.open(target).index.object_names | {"index.json", "notes.txt"}


def test_a_disk_that_is_full_publishes_nothing(target: Path) -> None:
    """A child may write no file of more than 8 kB: the real error in the middle of a chunk."""
    before = files(target)
    child = os.fork()
    if child == 0:
        status = 3
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
            with sk.DatasetWriter(target, mode="append", chunk_samples=3) as writer:
                for i in range(6):
                    writer.write({"n": i, "t": "x" * (1 if i < 3 else 9000)})
        except OSError as error:
            status = 0 if error.errno == errno.EFBIG else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert files(target) == before


def test_a_writer_that_failed_does_not_end_in_silence(target: Path) -> None:
    """An error that the caller swallows must not look like a dataset that was published."""
    store = FailingStore(target, "write", 2)
    before = files(target)

    def swallow() -> None:
        with sk.DatasetWriter(store, mode="append", chunk_samples=1) as writer:
            for i in range(4):
                try:
                    writer.write(tokens(i))
                except OSError:
                    break

    with pytest.raises(ValueError, match="has published nothing"):
        swallow()
    assert files(target) == before


class FailingStore:
    """A directory of which one call fails, before or after it was carried out."""

    def __init__(
        self, root: Path, method: str, at: int, error: BaseException | None = None,
        *, after: bool = False,
    ):  # fmt: skip
        self._store = sk.LocalStore(root)
        self._method, self._left, self._after = method, at, after
        self._error = error or OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name != self._method:
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left != 0:
                return method(*args, **kwargs)
            if self._after:
                method(*args, **kwargs)
            raise self._error

        return call


@pytest.mark.parametrize("mode", ["append", "overwrite"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "sync failed"), KeyboardInterrupt()])
def test_an_error_behind_the_swap_removes_nothing(
    mode: Any, error: BaseException, target: Path
) -> None:
    """The index was swapped, but its directory could not be synced: the new version stays."""
    store = FailingStore(target, "replace", 1, error, after=True)
    with pytest.raises(type(error)):
        write(store, range(50, 55), mode=mode)
    old = range(8) if mode == "append" else []
    assert sk.open(target)[:] == [tokens(i) for i in [*old, *range(50, 55)]]


def test_an_error_behind_the_swap_and_an_append_on_top_remove_nothing(target: Path) -> None:
    class Overtaken(FailingStore):
        def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
            self._store.replace(key, data, expected=expected)
            write(target, [9], mode="append")
            raise OSError(errno.EIO, "sync failed")

    with pytest.raises(OSError, match="sync failed"):
        write(Overtaken(target, "", 0), [8], mode="append")
    assert sk.open(target)[:] == [tokens(i) for i in range(10)]


def test_an_error_before_the_swap_removes_what_was_stored(target: Path) -> None:
    before = files(target)
    with pytest.raises(OSError, match="No space"):
        write(FailingStore(target, "replace", 1), range(50, 55), mode="append")
    assert files(target) == before


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_old_chunks_that_cannot_be_removed_harm_nobody(at: int, target: Path) -> None:
    store = FailingStore(target, "delete", at, PermissionError(errno.EACCES, "not yours"))
    with pytest.warns(UserWarning, match="could not be deleted"):
        write(store, range(50, 55), mode="overwrite")
    assert sk.open(target)[:] == [tokens(i) for i in range(50, 55)]


# -- copies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_copy_is_the_same_dataset(compression: str | None, tmp_path: Path) -> None:
    write(tmp_path / "one", range(20), compression=compression)
    write(tmp_path / "one", range(20, 30), mode="append")
    subprocess.run(["cp", "-r", tmp_path / "one", tmp_path / "two"], check=True)
    original = sk.open(tmp_path / "one")
    fingerprint, samples = original.fingerprint, original[:]
    shutil.rmtree(tmp_path / "one")
    copy = sk.open(tmp_path / "two")
    assert copy.fingerprint == fingerprint
    assert copy[:] == samples == [tokens(i) for i in range(30)]
    write(tmp_path / "three", range(20), compression=compression)
    assert sk.open(tmp_path / "three").fingerprint == copy.prefix_fingerprint(20)
