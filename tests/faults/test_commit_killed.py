"""A writer that is killed at any step leaves the old dataset or the new one, and both can be read.

The child counts its operations on the file system and kills itself at the given one, before or in
the middle of it, with SIGKILL: nothing of its own can tidy up.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest

import streamkit as sk

OLD = list(range(7))
NEW = list(range(100, 112))
AFTER = {"create": NEW, "append": OLD + NEW, "overwrite": NEW}


def write(target: Path, values: list[int], mode: Any) -> None:
    with sk.DatasetWriter(target, chunk_samples=4, mode=mode) as writer:
        for value in values:
            writer.write({"n": value, "t": "x" * value})


def read(target: Path) -> list[int] | None:
    """All samples, checked; None where no dataset is."""
    try:
        ds = sk.open(target)
    except FileNotFoundError:
        return None
    samples = ds[:]
    assert all(sample["t"] == "x" * sample["n"] for sample in samples)
    assert ds.lengths("t").tolist() == [sample["n"] for sample in samples]
    return [sample["n"] for sample in samples]


def count_operations(limit: int | None) -> list[str]:
    """Count the operations of this process on files; end it at number `limit`.

    Half of what a fatal `writev` has to write is written.
    """
    done: list[str] = []

    def die() -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    def patch(name: str) -> None:
        original = getattr(os, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            done.append(name)
            if len(done) - 1 == limit:
                if name == "writev":
                    descriptor, views = args
                    whole = b"".join(bytes(view) for view in views)
                    os.write(descriptor, whole[: len(whole) // 2])
                die()
            return original(*args, **kwargs)

        setattr(os, name, counted)

    for name in ("open", "writev", "fsync", "replace", "unlink", "mkdir"):
        patch(name)
    return done


def in_child(target: Path, mode: str, limit: int | None) -> tuple[int, list[str]]:
    """Write in a forked child; its status, and the operations that it did if it lived."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            done = count_operations(limit)
            write(target, NEW, mode)
            os.write(writer, " ".join(done).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        operations = pipe.read().split()
    return os.waitpid(child, 0)[1], operations


def prepare(folder: Path, mode: str) -> Path:
    target = folder / "data"
    shutil.rmtree(target, ignore_errors=True)
    if mode != "create":
        write(target, OLD, "create")
    return target


@pytest.mark.parametrize("mode", ["create", "append", "overwrite"])
def test_killed_at_every_step(mode: str, tmp_path: Path) -> None:
    target = prepare(tmp_path, mode)
    before = read(target)
    status, operations = in_child(target, mode, None)
    assert status == 0
    assert read(target) == AFTER[mode]
    # Chunks, a sidecar and the index: each is opened, written, synced and renamed.
    assert operations.count("replace") == 5
    assert operations.count("writev") == 5
    found = []
    for limit in range(len(operations)):
        target = prepare(tmp_path, mode)
        status, _ = in_child(target, mode, limit)
        assert os.WIFSIGNALED(status)
        found.append(read(target))
    swap = [i for i, name in enumerate(operations) if name == "replace"][-1]
    assert all(state == before for state in found[: swap + 1])
    assert all(state == AFTER[mode] for state in found[swap + 1 :])
    assert swap < len(operations) - 1


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_the_rest_of_a_killed_writer_is_in_nobodys_way(mode: str, tmp_path: Path) -> None:
    target = prepare(tmp_path, mode)
    _, operations = in_child(prepare(tmp_path, mode), mode, None)
    for limit in (operations.index("replace"), operations.index("replace") + 1):
        target = prepare(tmp_path, mode)
        in_child(target, mode, limit)
        rest = {path.name for path in target.iterdir()}
        write(target, NEW, mode)
        assert read(target) == AFTER[mode]
        index = sk.open(target).index
        orphans = {path.name for path in target.iterdir()} - index.object_names - {"index.json"}
        assert orphans
        assert orphans <= rest


def test_create_after_a_killed_create_says_what_to_do(tmp_path: Path) -> None:
    target = prepare(tmp_path, "create")
    _, operations = in_child(target, "create", None)
    target = prepare(tmp_path, "create")
    in_child(target, "create", operations.index("replace") + 1)
    rest = sorted(target.iterdir())
    assert rest
    with pytest.raises(FileExistsError, match="rest of a killed writer"):
        sk.DatasetWriter(target)
    assert sorted(target.iterdir()) == rest
    write(target, NEW, "overwrite")
    assert read(target) == NEW
