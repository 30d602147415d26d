"""The index: it comes back, covers content and layout, and holds a million chunks."""

import json

import numpy as np
import pytest

import streamkit as sk
from streamkit.errors import FormatError
from streamkit.format.index import ChunkTable, Index, check_name
from streamkit.format.layout import hash_bytes
from streamkit.format.schema import Schema

SCHEMA = Schema.declare({"t": sk.Column("u2", (None,)), "é": int})


def table(count: int, *, values: bool = True) -> ChunkTable:
    numbers = np.arange(count, dtype=np.int64)
    return ChunkTable(
        tuple(f"0123456789ab-{i:06d}.skc" for i in range(count)),
        numbers % 1000 + 1,
        numbers + 10**9,
        numbers + 500,
        numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15),
        {"t": numbers * 3} if values else {},
    )


def sidecar(chunks: ChunkTable) -> ChunkTable:
    samples = chunks.samples.sum(keepdims=True)
    one = np.ones(1, np.int64)
    return ChunkTable(("side.skl",), samples, samples, one, one.astype(np.uint64))


def index(count: int = 3) -> Index:
    chunks = table(count)
    return Index(SCHEMA, "zstd", chunks, {"t": sidecar(chunks)}, {"mine": [1, "ü", None]})


def assert_same(a: ChunkTable, b: ChunkTable) -> None:
    assert a.names == b.names
    for name in ("samples", "num_bytes", "head_bytes", "checksums"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    assert a.values.keys() == b.values.keys()
    for name, items in a.values.items():
        np.testing.assert_array_equal(items, b.values[name], strict=True)


def test_an_index_comes_back() -> None:
    read = Index.from_bytes(index().to_bytes(), "x")
    assert_same(read.chunks, index().chunks)
    assert_same(read.lengths["t"], index().lengths["t"])
    assert (read.schema, read.compression, read.metadata) == (
        SCHEMA, "zstd", {"mine": [1, "ü", None]},
    )  # fmt: skip
    assert read.fingerprint == index().fingerprint


def test_a_million_chunks_come_back() -> None:
    large = index(1_000_000)
    read = Index.from_bytes(large.to_bytes(), "x")
    assert_same(read.chunks, large.chunks)
    assert read.num_samples == int(large.chunks.samples.sum())
    assert read.chunks.starts[-1] == read.num_samples


def test_the_index_is_one_json_object() -> None:
    value = json.loads(index().to_bytes())
    assert value["chunks"]["samples"] == "1 2 3"
    assert value["samples"] == 6
    assert value["fingerprint"] == index().fingerprint


def test_the_fingerprint_covers_content_and_layout_and_no_names() -> None:
    base = index().fingerprint
    plain = {k: v for k, v in vars(table(3)).items() if k != "starts"}
    assert (
        Index(SCHEMA, None, ChunkTable(**{**plain, "names": ("a", "b", "c")})).fingerprint == base
    )
    other = [
        Index(SCHEMA, None, ChunkTable(**{**plain, "samples": np.array([2, 1, 3])})),
        Index(SCHEMA, None, ChunkTable(**{**plain, "checksums": np.arange(3, dtype=np.uint64)})),
        Index(Schema.declare({"t": sk.Column("u2", (None,)), "e": int}), None, table(3)),
        index(4),
    ]
    assert len({base, *(value.fingerprint for value in other)}) == 5
    assert index(4).fingerprint_of(3) == base


def resealed(text: str) -> bytes:
    body = text.encode().rpartition(b',\n"checksum"')[0]
    return body + f',\n"checksum": "{hash_bytes(body):016x}"}}\n'.encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"streamkit"', '"other"'),
        ('"version": 1', '"version": 2'),
        ('"version": 1', '"version": 1, "more": 5'),
        ('"samples": 6', '"samples": 7'),
        ('"compression": "zstd"', '"compression": 5'),
        ('"metadata": {', '"metadata": 5, "old": {'),
        ('"samples": "1 2 3"', '"samples": "1 2 4"'),
        ('"samples": "1 2 3"', '"samples": "1 2"'),
        ('"samples": "1 2 3"', '"samples": "1 2 -3"'),
        ('"samples": "1 2 3"', '"samples": "1 2 1e3"'),
        ('"samples": "1 2 3"', f'"samples": "1 2 {"9" * 30}"'),
        ('"samples": "1 2 3"', f'"samples": "1 2 {"9" * 18}"'),
        ('"samples": "1 2 3"', '"samples": [1, 2, 3]'),
        ('"count": 3', '"count": 4'),
        ('"count": 3', '"count": true'),
        ('"t": "0 3 6"', '"u": "0 3 6"'),
        ('"lengths": {"t"', '"lengths": {"u"'),
        ("-000001.skc", "-000000.skc"),
        ("0123456789ab-000001.skc", "../secrets"),
        ("0123456789ab-000001.skc", "/etc/passwd"),
        ('"type": "uint16"', '"type": "uint17"'),
        ('"shape": [null]', '"shape": [null, -3]'),
    ],
)
def test_an_index_that_breaks_a_rule_is_refused(old: str, new: str) -> None:
    text = index().to_bytes().decode()
    assert Index.from_bytes(resealed(text), "x")
    assert old in text
    with pytest.raises(FormatError, match=r"where/index\.json"):
        Index.from_bytes(resealed(text.replace(old, new, 1)), "where/index.json")


def test_any_changed_or_missing_byte_is_noticed() -> None:
    data = index().to_bytes()
    end = len(data.rstrip())
    for position in range(end):
        broken = bytearray(data)
        broken[position] ^= 0x04
        with pytest.raises(FormatError, match="x: "):
            Index.from_bytes(bytes(broken), "x")
    for size in range(0, end, 7):
        with pytest.raises(FormatError, match="cut short"):
            Index.from_bytes(data[:size], "x")


@pytest.mark.parametrize("name", ["/a", "../a", "a/../b", ".hidden", "a\\b", "c:d", "a\0"])
def test_names_stay_inside_the_dataset(name: str) -> None:
    check_name("a/b-1.skc", "x")
    with pytest.raises(FormatError, match="leads out of the dataset"):
        check_name(name, "x")
