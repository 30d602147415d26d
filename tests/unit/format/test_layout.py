"""The layout of a chunk: as the specification says, and with 64-bit numbers."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import xxhash

import streamkit as sk
from streamkit.errors import ChunkCorruptError, FormatError
from streamkit.format.encode import encode_chunk, parse_compression
from streamkit.format.layout import (
    CODEC_ZSTD,
    FRAME_BYTES,
    MAX_EXPANSION,
    BufferPlan,
    Header,
    align,
    head_bytes,
    plan_buffers,
)
from streamkit.format.schema import Schema


def header(frames: int = 3, data_bytes: int | None = None, codec: int = 0) -> Header:
    sizes = np.full(frames, FRAME_BYTES, np.int64)
    data = frames * FRAME_BYTES if data_bytes is None else data_bytes
    return Header(
        samples=5,
        data_bytes=data,
        stored_bytes=data if codec == 0 else int(sizes.sum()),
        frame_bytes=FRAME_BYTES,
        codec=codec,
        schema_hash=7,
        buffers=np.array([[0, 100], [128, 64]], np.int64),
        checksums=np.arange(frames, dtype=np.uint64),
        stored_sizes=sizes,
    )


def same(a: Header, b: Header) -> bool:
    fields = ("samples", "data_bytes", "stored_bytes", "frame_bytes", "codec", "schema_hash")
    arrays = ("buffers", "checksums", "stored_sizes", "stored_offsets")
    return all(getattr(a, f) == getattr(b, f) for f in fields) and all(
        np.array_equal(getattr(a, f), getattr(b, f)) for f in arrays
    )


@pytest.mark.parametrize("codec", [0, CODEC_ZSTD])
@pytest.mark.parametrize("frames", [1, 2, 100])
def test_a_header_comes_back(codec: int, frames: int) -> None:
    packed = header(frames, codec=codec).pack()
    assert len(packed) % 64 == 0
    assert same(Header.parse(packed + b"more", "x"), header(frames, codec=codec))


def test_numbers_beyond_32_bits_fit() -> None:
    """A chunk of 6 GB whose second buffer begins behind 5 GB."""
    frames = 6 * 2**30 // FRAME_BYTES
    large = replace(
        header(frames),
        samples=2**33,
        buffers=np.array([[0, 5 * 2**30], [5 * 2**30 + 64, 2**29]], np.int64),
    )
    parsed = Header.parse(large.pack(), "x")
    assert same(parsed, large)
    assert parsed.stored_offsets[-1] == parsed.header_bytes + 6 * 2**30
    assert parsed.stored_offsets.dtype == np.int64
    plan = (BufferPlan(0, "offsets"), BufferPlan(0, "values"))
    last = parsed.header_bytes + 5 * 2**30
    assert head_bytes(parsed, plan) == last


def test_the_drawing_in_the_specification() -> None:
    schema = Schema.declare({"id": sk.Column("i8"), "text": str, "x": sk.Column("f4", (64,))})
    buffers = [
        {"values": np.array([7, 8], "<i8").view(np.uint8)},
        {"offsets": np.array([0, 2, 5], "<i8").view(np.uint8),
         "values": np.frombuffer(b"hiyou", np.uint8)},
        {"values": np.ones((2, 64), "<f4").reshape(-1).view(np.uint8)},
    ]  # fmt: skip
    plan = plan_buffers(schema)
    assert [(schema.names[b.column], b.role) for b in plan] == [
        ("text", "offsets"), ("id", "values"), ("text", "values"), ("x", "values"),
    ]  # fmt: skip
    chunk = encode_chunk(schema, plan, buffers, 2, level=None)
    data = b"".join(bytes(part) for part in chunk.parts)
    assert len(data) == chunk.num_bytes
    magic, version, header_bytes, samples, data_bytes = struct.unpack_from("<8sIIQQ", data)
    assert (magic, version, samples, data_bytes) == (b"\x89SKC\r\n\x1a\n", 1, 2, 704)
    table = struct.unpack_from("<8Q", data, 64)
    assert table == (0, 24, 64, 16, 128, 5, 192, 512)
    section = data[header_bytes:]
    assert struct.unpack_from("<3q", section) == (0, 2, 5)
    assert struct.unpack_from("<2q", section, 64) == (7, 8)
    assert section[128:133] == b"hiyou"
    assert section[133:192] == bytes(59)
    assert section[192:704] == struct.pack("<f", 1.0) * 128
    (frame_hash,) = struct.unpack_from("<Q", data, 128)
    assert frame_hash == xxhash.xxh3_64_intdigest(section)
    (checksum,) = struct.unpack_from("<Q", data, header_bytes - 8)
    assert checksum == chunk.checksum == xxhash.xxh3_64_intdigest(data[: header_bytes - 8])


def test_offsets_come_first_then_narrow_columns_then_wide_ones() -> None:
    schema = Schema.declare(
        {"wide": sk.Column("f8", (3,)), "rag": sk.Column("f4", (None, None)), "id": int,
         "pair": sk.Column("f8", (2,)), "name": str, "deep": sk.Column("i1", (None,) * 3)}
    )  # fmt: skip
    order = [(schema.names[b.column], b.role) for b in plan_buffers(schema)]
    assert order == [
        ("rag", "offsets"), ("name", "offsets"), ("deep", "offsets"),
        ("rag", "shapes"), ("id", "values"), ("pair", "values"),
        ("wide", "values"), ("rag", "values"), ("name", "values"),
        ("deep", "shapes"), ("deep", "values"),
    ]  # fmt: skip


@pytest.mark.parametrize("level", [None, 3])
def test_frames_are_cut_across_buffers(level: int | None) -> None:
    rng = np.random.default_rng(0)
    schema = Schema.declare({"a": sk.Column("u1"), "b": bytes})
    a = rng.integers(0, 255, FRAME_BYTES * 2 + 7).astype(np.uint8)
    lengths = np.full(len(a), 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    b = np.zeros(len(a), np.uint8)
    buffers = [{"values": a}, {"offsets": offsets.view(np.uint8), "values": b}]
    plan = plan_buffers(schema)
    chunk = encode_chunk(schema, plan, buffers, len(a), level=level)
    data = b"".join(bytes(part) for part in chunk.parts)
    parsed = Header.parse(data, "x")
    assert parsed.header_bytes + parsed.stored_bytes == len(data) == chunk.num_bytes
    assert parsed.num_frames == -(-parsed.data_bytes // FRAME_BYTES)
    for number in range(parsed.num_frames):
        start, stop = parsed.stored_offsets[number : number + 2]
        assert xxhash.xxh3_64_intdigest(data[start:stop]) == parsed.checksums[number]
    last_offset = align(parsed.header_bytes) + offsets.nbytes
    assert chunk.head_bytes >= (last_offset if level is None else parsed.header_bytes)


def test_a_chunk_that_shrinks_too_much_is_stored_raw() -> None:
    """A reader refuses a small file that claims more than 64 MB, so none is written."""
    schema = Schema.declare(sk.Column("u1", (70_000_000,)))
    buffers = [{"values": np.zeros(70_000_000, np.uint8)}]
    chunk = encode_chunk(schema, plan_buffers(schema), buffers, 1, level=1)
    assert chunk.num_bytes > 70_000_000


def pack_with(**changes: int) -> bytes:
    names = ["magic", "version", "header_bytes", "samples", "data_bytes", "stored_bytes",
             "frame_bytes", "frames", "codec", "buffers", "zero", "schema_hash"]  # fmt: skip
    packed = header().pack()
    fields = dict(zip(names, struct.unpack_from("<8sIIQQQIIHHIQ", packed), strict=True))
    body = struct.pack("<8sIIQQQIIHHIQ", *{**fields, **changes}.values()) + packed[64:-8]
    return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2}, {"codec": 9}, {"zero": 1}, {"frame_bytes": 3 * 4096}, {"frame_bytes": 2048},
        {"frames": 2}, {"frames": 1000}, {"buffers": 3}, {"data_bytes": 2**63}, {"data_bytes": 10},
        {"stored_bytes": 5}, {"samples": 2**63}, {"codec": 1},
    ],
)  # fmt: skip
def test_a_header_that_breaks_a_rule_is_refused(changes: dict[str, int]) -> None:
    assert same(Header.parse(pack_with(), "x"), header())
    with pytest.raises(FormatError, match="name of the chunk"):
        Header.parse(pack_with(**changes), "name of the chunk")


@pytest.mark.parametrize(
    "buffers", [[[0, 100], [64, 64]], [[0, 100], [130, 64]], [[0, 100], [128, 2**40]],
                [[128, 64], [0, 100]], [[0, 100], [2**62, 2**62]]],
)  # fmt: skip
def test_buffers_that_overlap_or_leave_the_section_are_refused(buffers: list[list[int]]) -> None:
    broken = replace(header(), buffers=np.array(buffers, np.int64))
    with pytest.raises(FormatError, match="a buffer at"):
        Header.parse(broken.pack(), "x")


def test_a_small_file_may_not_claim_much_memory() -> None:
    frames = MAX_EXPANSION * 100_000_000 // FRAME_BYTES
    tiny = replace(header(frames, codec=CODEC_ZSTD), stored_bytes=frames,
                   stored_sizes=np.ones(frames, np.int64))  # fmt: skip
    with pytest.raises(FormatError, match="claim"):
        Header.parse(tiny.pack(), "x")


def test_any_changed_or_missing_byte_of_a_header_is_noticed() -> None:
    packed = header().pack()
    for position in range(len(packed)):
        changed = bytearray(packed)
        changed[position] ^= 0x10
        with pytest.raises(FormatError):
            Header.parse(bytes(changed), "x")
    for size in range(len(packed)):
        with pytest.raises(ChunkCorruptError):
            Header.parse(packed[:size], "x")


def test_a_chunk_of_another_schema_is_refused() -> None:
    schema = Schema.declare({"a": int})
    buffers = [{"values": np.zeros(16, np.uint8)}]
    chunk = encode_chunk(schema, plan_buffers(schema), buffers, 2, level=None)
    parsed = Header.parse(bytes(chunk.parts[0]), "x")
    parsed.check_schema(schema, plan_buffers(schema), "x")
    other = Schema.declare({"b": int})
    with pytest.raises(FormatError, match="another schema"):
        parsed.check_schema(other, plan_buffers(other), "x")
    for samples in (1, 3):
        with pytest.raises(FormatError, match=f'the values of column "a" of {samples} samples'):
            replace(parsed, samples=samples).check_schema(schema, plan_buffers(schema), "x")


@pytest.mark.parametrize(
    ("text", "level"), [(None, None), ("zstd", 3), ("zstd:19", 19), ("zstd:-5", -5)]
)
def test_compression_levels(text: str | None, level: int | None) -> None:
    assert parse_compression(text) == level
