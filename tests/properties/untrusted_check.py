"""Reads a dataset whose bytes are wrong in every way there is, and judges what comes out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import untrusted_mutations as mutations
from untrusted_data import SAMPLES, make_objects, plain, reference, reference_items

import streamkit as sk

BLOCK = 3


class Place:
    """Puts the objects of a case into a store: in memory, or a directory (files are mapped)."""

    def __init__(self, objects: dict[str, bytes], folder: Path | None):
        self.objects, self.folder = objects, folder
        self._there = dict.fromkeys(objects, b"") if folder else {}

    def store(self, objects: dict[str, bytes]) -> sk.Store:
        if self.folder is None:
            memory = sk.MemoryStore()
            for name, data in objects.items():
                memory.write(name, [data])
            return memory
        for name in self.objects.keys() | objects.keys():
            path = self.folder / name
            data = objects.get(name)
            if data is None:
                path.unlink(missing_ok=True)
            elif self._there.get(name) is not data:
                # A new file, so that nothing mapped before is changed.
                temporary = self.folder / ".case"
                temporary.write_bytes(data)
                temporary.replace(path)
            self._there[name] = data
        return sk.LocalStore(self.folder)


def stored(objects: dict[str, bytes]) -> sk.MemoryStore:
    store = sk.MemoryStore()
    for name, data in objects.items():
        store.write(name, [data])
    return store


def first_chunk(objects: dict[str, bytes]) -> str:
    return min(name for name in objects if name.endswith(".skc"))


def _all(ds: sk.StoredDataset) -> Any:
    return [plain(sample) for sample in ds[:]]


def _gather(ds: sk.StoredDataset) -> Any:
    order = np.arange(min(len(ds), 2 * SAMPLES))[::-1]
    batch = ds.gather(order)
    ds[-1], ds[len(ds) // 2]
    if not isinstance(batch, dict):
        return None
    return {name: [plain(value) for value in list(column)[::-1]] for name, column in batch.items()}


def _tokens(view: Callable[[sk.StoredDataset], sk.Dataset]) -> Callable[[sk.StoredDataset], Any]:
    def read(ds: sk.StoredDataset) -> Any:
        viewed = view(ds)
        try:
            blocks = sk.TokenBlocks(viewed, BLOCK, dtype=None)
        except (KeyError, ValueError) as error:
            if isinstance(error, sk.FormatError) or "schema" in str(error):
                raise
            return None  # another schema, or no token left
        return b"".join(block["tokens"].tobytes() for block in blocks[:])

    return read


def _lengths(ds: sk.StoredDataset) -> Any:
    return {name: ds.lengths(name).tolist() for name in ds.schema.names}


WAYS: dict[str, Callable[[sk.StoredDataset], Any]] = {
    "samples": _all,
    "gather": _gather,
    "blocks": _tokens(lambda ds: ds),
    "subset": _tokens(lambda ds: sk.subset(ds, np.arange(min(len(ds), 2 * SAMPLES)))),
    "lengths": _lengths,
}


def examine(place: Place, objects: dict[str, bytes], *, honest: bool, schema: bool) -> int:
    """Read a case in all ways; each is refused with a `FormatError` or is right.

    Args:
        place: Where the objects are put.
        objects: The objects as they were changed.
        honest: What is accepted must be the original samples; else what the bytes say.
        schema: The schema is the original one, so that `reference` can read it.

    Returns:
        How many ways were refused.
    """
    store, refused = place.store(objects), 0
    found: dict[str, Any] = {}
    try:
        index = sk.open(store).index
    except sk.FormatError as error:
        _check_message(error)
        return len(WAYS)
    for way, read in WAYS.items():
        try:
            # Opened anew, since one way may check what another needs.
            with sk.StoredDataset(store, index) as ds:
                found[way] = read(ds)
        except sk.FormatError as error:
            _check_message(error)
            refused += 1
    if schema:
        _judge(found, place.objects if honest else objects, honest=honest)
    return refused


def _check_message(error: sk.FormatError) -> None:
    text = str(error)
    assert 20 < len(text) < 1500, f"it says too little, or shows the data: {text[:300]}"


def _judge(found: dict[str, Any], objects: dict[str, bytes], *, honest: bool) -> None:
    if "samples" in found:
        samples = reference(objects)
        assert found["samples"] == [plain(sample) for sample in samples]
        if found.get("gather"):
            columns = {name: [plain(s[name]) for s in samples] for name in samples[0]}
            columns["y"] = [plain(np.int64(sample["y"])) for sample in samples]
            assert found["gather"] == columns
    tokens = reference_items(objects, "tokens") if {"blocks", "subset"} & found.keys() else b""
    whole = tokens[: len(tokens) // (2 * BLOCK) * 2 * BLOCK]
    for way in ("blocks", "subset"):
        if found.get(way) is not None:
            # An index that claims fewer tokens may end before the chunk about which it lies.
            assert found[way] == whole or (not honest and whole.startswith(found[way])), way


def run(family: str, cases: int, seed: int, folder: Path | None, codec: str) -> int:
    """Run the cases of a family; returns how many ways of reading were refused in all."""
    originals = make_objects(None if codec == "raw" else codec)
    place = Place(originals, folder)
    change = (mutations.ACCIDENTS | mutations.HOSTILE)[family]
    refused = 0
    for case in range(cases):
        rng = np.random.default_rng([seed, case])
        objects = dict(originals)
        change(rng, objects)
        try:
            refused += examine(
                place, objects, honest=family in mutations.ACCIDENTS,
                schema=family not in ("index_garbage", "nesting", "index_names"),
            )  # fmt: skip
        except BaseException as error:
            error.add_note(f"{family}, codec {codec}, seed {seed}, case {case}")
            raise
    return refused


def limit_memory(num_bytes: int) -> None:
    """Let this process's address space grow by so much and no more."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":  # python untrusted_check.py CASES MEGABYTES FOLDER: see the test
    for coding in ("raw", "zstd"):
        run("leaves", 3, 0, None, coding)  # imports, before memory is limited
    limit_memory(int(sys.argv[2]) * 10**6)
    for name in mutations.HOSTILE:
        for coding in ("raw", "zstd"):
            folder = Path(sys.argv[3]) / f"{name}-{coding}"
            folder.mkdir()
            print(name, coding, flush=True)
            run(name, int(sys.argv[1]), 99, folder, coding)
    print("all read", flush=True)
