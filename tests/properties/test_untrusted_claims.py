"""Single lies about a dataset, each of which once passed, or would take much memory.

Every checksum is right in all of them; see `test_untrusted_bytes.py` for the many.
"""

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import untrusted_check as check
import untrusted_mutations as mutations
import zstandard
from untrusted_check import first_chunk, stored
from untrusted_data import (
    FRAME,
    PLAN,
    ChunkModel,
    make_objects,
    pack_index,
    parse_index,
    put_number,
    relink,
    seal_index,
)

import streamkit as sk

LIMIT = 64 * 10**6
BASE = make_objects(None)


def refuse(objects: dict[str, bytes], match: str) -> None:
    """Every way of reading is refused or right, and takes no more memory than is allowed."""
    place = check.Place(BASE, None)
    tracemalloc.start()
    try:
        store = stored(objects)
        before = tracemalloc.get_traced_memory()[0]
        assert check.examine(place, objects, honest=False, schema=False) > 0
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak <= max(LIMIT, 4 * sum(map(len, objects.values())))
    with pytest.raises(sk.FormatError, match=match):
        read_all(store)


def read_all(store: sk.Store) -> None:
    with sk.open(store) as ds:
        for read in check.WAYS.values():
            read(ds)


def lie(change: Any) -> dict[str, bytes]:
    """The dataset with a change to its first chunk."""
    objects, name = dict(BASE), first_chunk(BASE)
    model = ChunkModel.parse(objects[name])
    change(model)
    objects[name] = model.pack()
    relink(objects, name)
    return objects


def lie_in_index(change: Any) -> dict[str, bytes]:
    value = parse_index(BASE)
    change(value)
    return {**BASE, "index.json": pack_index(value)}


@pytest.mark.parametrize("column", ["tokens", "blob", "pair", "hollow"])
def test_offsets_whose_differences_wrap_around(column: str) -> None:
    def change(model: ChunkModel) -> None:
        numbers = model.numbers("offsets", column)
        numbers[1:4] = [2**63 - 5, -(2**63) + 5, -1]
        model.set_numbers("offsets", column, numbers)

    refuse(lie(change), f'000000.skc, column "{column}": offsets that fall')


def test_items_of_no_bytes_cannot_be_without_end() -> None:
    def change(value: dict[str, Any]) -> None:
        put_number(value["chunks"]["values"], "hollow", 0, 2**40)

    refuse(lie_in_index(change), "hollow")


def test_more_items_in_the_index_than_in_the_chunk() -> None:
    """Token blocks are cut by the index, and would read behind the chunk."""

    def change(value: dict[str, Any]) -> None:
        put_number(value["chunks"]["values"], "tokens", 2, 10**6)

    refuse(lie_in_index(change), r'column "tokens".*index says')


@pytest.mark.parametrize("shape", [[0, 2**62], [2**32, 2**32], [2**63 - 1, 2**63 - 1], [-1, -1]])
def test_shapes_whose_product_wraps_around(shape: list[int]) -> None:
    def change(model: ChunkModel) -> None:
        numbers = model.numbers("shapes", "grid")
        numbers[:2] = shape
        model.set_numbers("shapes", "grid", numbers)

    refuse(lie(change), 'column "grid": shapes')


def test_many_axes_whose_product_is_no_float(tmp_path: Path) -> None:
    with sk.DatasetWriter(tmp_path, schema=sk.Column("u1", (None,) * 32)) as writer:
        writer.write(np.zeros((0,) * 32, np.uint8))
    objects = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    name = first_chunk(objects)
    model = ChunkModel.parse(objects[name])
    start, size = model.buffers[1]
    model.data[start : start + size] = np.array([0] + [2**62] * 31, "<i8").tobytes()
    objects[name] = model.pack()
    relink(objects, name)
    with pytest.raises(sk.FormatError, match="shapes"):
        sk.open(stored(objects))[0]


def test_lengths_that_are_not_those_of_the_chunks() -> None:
    objects = dict(BASE)
    table = parse_index(objects)["lengths"]["tokens"]
    name = table["names"]
    model = ChunkModel.parse(objects[name])
    model.data[0] += 1  # the blocks of a subset would begin one token late
    objects[name] = model.pack()
    relink(objects, name)
    refuse(objects, 'lengths of column "tokens"')


def test_a_lost_sidecar_is_named() -> None:
    name = parse_index(BASE)["lengths"]["tokens"]["names"]
    refuse({key: data for key, data in BASE.items() if key != name}, f"{name}.*missing")


def test_text_that_is_no_utf8_is_named_with_its_row() -> None:
    def change(model: ChunkModel) -> None:
        start = model.span("values", "text").start
        model.data[start : start + 2] = b"\xff\xff"

    refuse(lie(change), r'000000.skc, column "text", row 1: bytes that are not UTF-8')


def test_a_zstd_frame_gets_no_large_window() -> None:
    """A frame of 12 bytes may ask for a window of 128 MiB, which the library would allocate."""

    def change(model: ChunkModel) -> None:
        size = min(FRAME, len(model.data))
        block = (1 | 1 << 1 | size << 3).to_bytes(3, "little") + b"\0"
        model.codec, model.stored[0] = 1, b"\x28\xb5\x2f\xfd\x00" + bytes([17 << 3]) + block

    objects = lie(change)
    assert ChunkModel.parse(objects[first_chunk(objects)]).samples  # zstandard itself reads it
    refuse(objects, "frame 0 does not decompress")


def test_a_frame_that_declares_much() -> None:
    def change(model: ChunkModel) -> None:
        huge = zstandard.ZstdCompressor().compress(bytes(2**25))
        model.codec, model.stored[0] = 1, huge

    refuse(lie(change), r"frame 0 does not decompress: it declares 33554432")


def test_a_small_object_that_claims_gigabytes() -> None:
    """Frames of one stored byte, 1 MiB each: the header alone would allow it in memory."""

    def change(model: ChunkModel) -> None:
        frames = -(-len(model.data) // FRAME)
        model.codec, model.fields["frame_bytes"] = 1, 2**20
        model.fields["data_bytes"] = frames * 2**20
        model.fields["stored_bytes"] = 2**40

    refuse(lie(change), "000000.skc")


@pytest.mark.parametrize("samples", [10**8, 10**12, 2**55, 10**17])
def test_an_index_that_claims_samples(samples: int) -> None:
    def change(value: dict[str, Any]) -> None:
        for table in (value["chunks"], *value["lengths"].values()):
            put_number(table, "samples", 0, samples)
            put_number(table, "bytes", 0, 10**16)

    refuse(lie_in_index(change), "claim|index says|lengths of column")


@pytest.mark.parametrize("name", mutations.NAMES)
def test_names_that_are_none(name: str, tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["chunks"]["names"] = value["chunks"]["names"].replace(first_chunk(BASE), name)

    objects = lie_in_index(change)
    refuse(objects, "name|missing")
    check.examine(check.Place(BASE, tmp_path), objects, honest=False, schema=False)


def test_an_index_cannot_have_itself_deleted() -> None:
    def change(value: dict[str, Any]) -> None:
        value["chunks"]["names"] = value["chunks"]["names"].replace(first_chunk(BASE), "index.json")

    store = stored(lie_in_index(change))
    with pytest.raises(sk.FormatError, match="names itself"):
        sk.DatasetWriter(store, mode="append")
    with sk.DatasetWriter(store, mode="overwrite") as writer:
        writer.write({"x": 1})
    assert sk.open(store)[:] == [{"x": 1}]


def test_a_long_key_above_many_leaves() -> None:
    """Names repeat the keys above them: 4,096 times a megabyte would be 4 GB."""

    def change(value: dict[str, Any]) -> None:
        leaves = {"list": ["leaf"] * 4096}
        value["schema"] = {
            "tree": {"dict": [["k" * 10**6, leaves]]},
            "columns": [{"type": "int8"}] * 4096,
        }

    refuse(lie_in_index(change), "names of more than 1024")


def test_json_of_many_values() -> None:
    def change(value: dict[str, Any]) -> None:
        value["metadata"] = {"many": [[]] * 10**6}

    refuse(lie_in_index(change), "too many JSON values")
    with (
        pytest.raises(ValueError, match="metadata holds so many values"),
        sk.DatasetWriter(sk.MemoryStore(), metadata={"many": [0] * 700_000}) as writer,
    ):
        writer.write(1)


@pytest.mark.parametrize("table", ["chunks", "lengths"])
def test_short_names_without_end(table: str) -> None:
    """Names take twenty times their text as Python strings, so they are counted first."""

    def change(value: dict[str, Any]) -> None:
        target = value["chunks"] if table == "chunks" else value["lengths"]["text"]
        target["names"] = "ab " * 2_000_000

    refuse(lie_in_index(change), "names for")


@pytest.mark.parametrize(
    "column",
    [
        {"type": None}, {"type": "a"}, {"type": ">i8"}, {"type": "i4,i4"}, {"type": "(2,)i4"},
        {"type": "datetime64[0s]"}, {"type": "finfo"}, {"type": "i4," * 50_000}, {"type": "O"},
        {"type": "int64", "shape": [2**47, 2**47, 0]}, {"type": "int8", "shape": [2**48 - 1, 3]},
        {"type": "int64", "shape": [1] * 33}, {"type": "int64", "shape": [True]},
        {"type": "float32", "scalar": "int"}, {"type": "str", "aligned": "tokens"},
    ],
)  # fmt: skip
def test_columns_that_are_none(column: dict[str, Any]) -> None:
    def change(value: dict[str, Any]) -> None:
        value["schema"]["columns"][0] = column

    refuse(lie_in_index(change), "the schema holds")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_something_else_in_the_place_of_a_chunk(kind: str, tmp_path: Path) -> None:
    check.Place(BASE, tmp_path).store(BASE)
    path = tmp_path / first_chunk(BASE)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(sk.FormatError, match=r"000000\.skc: not a file"):
        sk.open(tmp_path)[0]


def test_a_chunk_in_memory_that_is_shorter_than_it_says() -> None:
    objects, name = dict(BASE), first_chunk(BASE)
    objects[name] = objects[name][:-1]
    with pytest.raises(sk.ChunkCorruptError, match="cut short in frame"):
        sk.open(stored(objects))[:]


def test_unverified_chunks_stay_in_their_memory(tmp_path: Path) -> None:
    """`verify=False` trusts values, and neither offsets nor shapes."""
    objects, name = dict(BASE), first_chunk(BASE)
    model = ChunkModel.parse(objects[name])
    data = bytearray(objects[name])
    header = len(data) - len(model.data)
    start = header + model.buffers[PLAN.index(("offsets", "blob"))][0]
    data[start + 8 : start + 16] = struct.pack("<q", 2**40)
    objects[name] = bytes(data)
    store = check.Place(BASE, tmp_path).store(objects)
    with pytest.raises(sk.FormatError, match="offsets that fall"):
        sk.open(store, verify=False)[0]


def test_the_last_of_two_equal_keys_counts() -> None:
    text = BASE["index.json"].partition(b',\n"checksum"')[0] + b', "metadata": {"a": 1}}'
    assert sk.open(stored({**BASE, "index.json": seal_index(text)})).metadata == {"a": 1}
    assert json.loads(text)["metadata"] == {"a": 1}
