"""A small dataset as bytes that tests may change, and an obvious reader to compare with.

Everything here is written from the specification in `layout.py` and `index.py`, and shares no code
with them: `ChunkModel` packs a chunk whose checksums are right whatever it says, `relink` makes the
index agree, and `reference` reads samples with slices of Python bytes, which cannot leave them.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import xxhash
import zstandard

import streamkit as sk

FIXED = struct.Struct("<8sIIQQQIIHHIQ")
FIELDS = ("magic", "version", "header_bytes", "samples", "data_bytes", "stored_bytes",
          "frame_bytes", "frames", "codec", "buffers", "zero", "schema_hash")  # fmt: skip
FRAME = 32768
SAMPLES = 18
SCHEMA = {
    "x": sk.Column("float32", (3,)),
    "y": int,
    "tokens": sk.Column("uint16", (None,)),
    "mask": sk.Column("uint8", (None,), aligned="tokens"),
    "grid": sk.Column("int32", (None, None)),
    "pair": sk.Column("float64", (None, 2)),
    "hollow": sk.Column("int8", (None, 0)),
    "text": str,
    "blob": bytes,
    "meta": sk.Column("json"),
    "when": sk.Column("datetime64[s]", scalar="numpy"),
}
# (role, column) of each buffer in stored order: offsets, then up to 16 bytes a sample, then others.
OFFSETS = ("tokens", "grid", "pair", "hollow", "text", "blob", "meta")
PLAN = (
    *(("offsets", name) for name in OFFSETS),
    ("values", "x"), ("values", "y"), ("shapes", "grid"), ("values", "when"),
    *(("values", name) for name in
      ("tokens", "mask", "grid", "pair", "hollow", "text", "blob", "meta")),
)  # fmt: skip
ITEM_BYTES = {"tokens": 2, "mask": 1, "grid": 4, "pair": 16, "hollow": 0, "text": 1, "blob": 1,
              "meta": 1}  # fmt: skip


def make_sample(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    length = i % 7
    return {
        "x": rng.standard_normal(3).astype(np.float32),
        "y": i * i,
        "tokens": rng.integers(0, 2**16, length).astype(np.uint16),
        "mask": rng.integers(0, 2, length).astype(np.uint8),
        "grid": rng.integers(-9, 9, (i % 4, 2 + i % 3)).astype(np.int32),
        "pair": rng.standard_normal((i % 3, 2)),
        "hollow": np.empty((i % 2, 0), np.int8),
        "text": "naïve " * (i % 3),
        "blob": bytes(rng.integers(0, 256, 3000).astype(np.uint8)) + bytes(3000),
        "meta": {"i": i, "nested": [None, {"a": "b" * (i % 5)}]},
        "when": np.datetime64(i, "s"),
    }


def make_objects(compression: str | None) -> dict[str, bytes]:
    """All objects of the dataset, by name: three chunks, a sidecar a ragged column, the index."""
    store = sk.MemoryStore()
    with sk.DatasetWriter(
        store, schema=SCHEMA, chunk_samples=SAMPLES // 3, compression=compression
    ) as w:
        for i in range(SAMPLES):
            w.write(make_sample(i))
    objects = {name: store.read(name) for name in store.list()}
    # The writer's names begin with a random token; the cases must not depend on it.
    token = next(iter(objects)).partition("-")[0]
    named = {name.replace(token, "token"): data for name, data in objects.items()}
    index = objects["index.json"].partition(b',\n"checksum"')[0] + b"}"
    named["index.json"] = seal_index(index.replace(token.encode(), b"token"))
    return named


@dataclass
class ChunkModel:
    """A chunk taken apart.

    `fields` and `sizes` override what `pack` would write; `stored` overrides the stored frames.
    """

    samples: int
    codec: int
    schema_hash: int
    buffers: list[list[int]]
    data: bytearray
    fields: dict[str, Any] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    stored: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes) -> ChunkModel:
        fields = dict(zip(FIELDS, FIXED.unpack_from(data), strict=True))
        table = np.frombuffer(data, "<u8", 2 * fields["buffers"], 64).reshape(-1, 2)
        raw = bytearray(b"".join(_frames(data, fields)))
        return cls(fields["samples"], fields["codec"], fields["schema_hash"], table.tolist(), raw)

    def span(self, role: str, column: str) -> slice:
        start, size = self.buffers[PLAN.index((role, column))]
        return slice(start, start + size)

    def numbers(self, role: str, column: str) -> list[int]:
        return np.frombuffer(bytes(self.data[self.span(role, column)]), "<i8").tolist()

    def set_numbers(self, role: str, column: str, numbers: list[int]) -> None:
        wrapped = [(n + 2**63) % 2**64 - 2**63 for n in numbers]
        self.data[self.span(role, column)] = np.array(wrapped, "<i8").tobytes()

    def pack(self) -> bytes:
        frames = [bytes(self.data[a : a + FRAME]) for a in range(0, len(self.data), FRAME)]
        if self.codec == 1:
            frames = [min(frame, _compress(frame), key=len) for frame in frames]
        frames = [self.stored.get(number, frame) for number, frame in enumerate(frames)]
        per_frame = 12 if self.codec == 1 else 8
        used = 64 + 16 * len(self.buffers) + per_frame * len(frames) + 8
        fields = {
            "magic": b"\x89SKC\r\n\x1a\n", "version": 1, "header_bytes": -(-used // 64) * 64,
            "samples": self.samples, "data_bytes": len(self.data),
            "stored_bytes": sum(map(len, frames)), "frame_bytes": FRAME, "frames": len(frames),
            "codec": self.codec, "buffers": len(self.buffers), "zero": 0,
            "schema_hash": self.schema_hash,
        }  # fmt: skip
        true_header = fields["header_bytes"]
        fields.update(self.fields)
        body = FIXED.pack(*fields.values())
        body += b"".join(struct.pack("<QQ", a % 2**64, b % 2**64) for a, b in self.buffers)
        body += b"".join(struct.pack("<Q", xxhash.xxh3_64_intdigest(frame)) for frame in frames)
        if self.codec == 1:
            sizes = [self.sizes.get(number, len(frame)) for number, frame in enumerate(frames)]
            body += b"".join(struct.pack("<I", size % 2**32) for size in sizes)
        body = body.ljust(true_header - 8, b"\0")
        return body + struct.pack("<Q", xxhash.xxh3_64_intdigest(body)) + b"".join(frames)


def parse_index(objects: dict[str, bytes]) -> dict[str, Any]:
    return json.loads(objects["index.json"])


def pack_index(value: dict[str, Any], *, fingerprint: bool = True) -> bytes:
    """The index with a checksum and, as far as the tables allow, a fingerprint that are right."""
    value = {key: item for key, item in value.items() if key != "checksum"}
    if fingerprint:
        try:
            canonical = json.dumps(value["schema"], sort_keys=True, separators=(",", ":")).encode()
            samples = np.array([int(n) for n in value["chunks"]["samples"].split()], "<i8")
            checksums = np.frombuffer(bytes.fromhex(value["chunks"]["checksums"]), ">u8")
            state = xxhash.xxh3_128(canonical + samples.tobytes())
            state.update(checksums.astype("<u8").tobytes())
            value["fingerprint"] = state.hexdigest()
            value["samples"] = int(sum(samples.tolist()))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            pass
    return seal_index(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def seal_index(text: bytes) -> bytes:
    """Put the right checksum behind the text of a JSON object."""
    body = text[:-1]
    return body + f',\n"checksum": "{xxhash.xxh3_64_intdigest(body):016x}"}}\n'.encode()


def relink(objects: dict[str, bytes], name: str) -> None:
    """Make the index agree with the header and the size of an object that was changed."""
    value = parse_index(objects)
    data = objects[name]
    fields = dict(zip(FIELDS, FIXED.unpack_from(data), strict=True))
    end = fields["header_bytes"]
    checksum = int.from_bytes(data[end - 8 : end] if end >= 8 else b"", "little")
    for table in (value["chunks"], *value["lengths"].values()):
        names = table["names"].split()
        if name in names:
            row = names.index(name)
            _put(table, "samples", row, fields["samples"])
            _put(table, "bytes", row, len(data))
            digits = table["checksums"]
            table["checksums"] = digits[: 16 * row] + f"{checksum:016x}" + digits[16 * row + 16 :]
    objects["index.json"] = pack_index(value)


def put_number(table: dict[str, Any], key: str, row: int, number: int) -> None:
    _put(table, key, row, number)


def reference(objects: dict[str, bytes]) -> list[dict[str, Any]]:
    """All samples, read one by one in the obvious way."""
    names = parse_index(objects)["chunks"]["names"].split()
    return [sample for name in names for sample in _reference_chunk(objects[name])]


def reference_items(objects: dict[str, bytes], column: str) -> bytes:
    """The values of a ragged column of all chunks, end to end.

    A chunk of which the index says that it has none is not looked at, in views neither.
    """
    table = parse_index(objects)["chunks"]
    counts = table["values"][column].split()
    rows = zip(table["names"].split(), counts, strict=True)
    return b"".join(_chunk_items(objects[name], column) for name, n in rows if int(n))


# Most chunks of most cases are the same bytes.
@lru_cache(maxsize=64)
def _reference_chunk(data: bytes) -> list[dict[str, Any]]:
    model = ChunkModel.parse(data)
    return [_reference_sample(model, row) for row in range(model.samples)]


@lru_cache(maxsize=64)
def _chunk_items(data: bytes, column: str) -> bytes:
    model = ChunkModel.parse(data)
    return bytes(model.data[model.span("values", column)])


def _reference_sample(model: ChunkModel, row: int) -> dict[str, Any]:
    def fixed(name: str, dtype: str, count: int) -> np.ndarray:
        size = count * np.dtype(dtype).itemsize
        values = model.data[model.span("values", name)][row * size : (row + 1) * size]
        return np.frombuffer(bytes(values), dtype)

    def ragged(name: str) -> bytes:
        offsets = model.numbers("offsets", "tokens" if name == "mask" else name)
        size = ITEM_BYTES[name]
        values = model.data[model.span("values", name)]
        return bytes(values[offsets[row] * size : offsets[row + 1] * size])

    hollow = model.numbers("offsets", "hollow")
    return {
        "x": fixed("x", "<f4", 3),
        "y": int(fixed("y", "<i8", 1)[0]),
        "tokens": np.frombuffer(ragged("tokens"), "<u2"),
        "mask": np.frombuffer(ragged("mask"), np.uint8),
        "grid": np.frombuffer(ragged("grid"), "<i4").reshape(
            model.numbers("shapes", "grid")[2 * row : 2 * row + 2]
        ),
        "pair": np.frombuffer(ragged("pair"), "<f8").reshape(-1, 2),
        "hollow": np.empty((hollow[row + 1] - hollow[row], 0), np.int8),
        "text": ragged("text").decode(),
        "blob": ragged("blob"),
        "meta": json.loads(ragged("meta")),
        "when": fixed("when", "<i8", 1).view("<M8[s]")[0],
    }


def plain(value: Any) -> Any:
    """A value that `==` compares to the bit."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return (value.dtype.str, value.shape, value.tobytes())
    return value if isinstance(value, (bytes, str)) else repr(value)


def _frames(data: bytes, fields: dict[str, Any]) -> list[bytes]:
    frames, position = [], 64 + 16 * fields["buffers"] + 8 * fields["frames"]
    sizes = [fields["frame_bytes"]] * fields["frames"]
    if fields["codec"] == 1:
        sizes = np.frombuffer(data, "<u4", fields["frames"], position).tolist()
    start = fields["header_bytes"]
    for number, size in enumerate(sizes):
        frame = data[start : start + size]
        rest = fields["data_bytes"] - number * fields["frame_bytes"]
        raw_size = min(rest, fields["frame_bytes"])
        if len(frame) != raw_size:
            frame = zstandard.ZstdDecompressor().decompress(frame, max_output_size=2**20)
        frames.append(frame)
        start += size
    return frames


def _compress(frame: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=False, write_content_size=False).compress(frame)


def _put(table: dict[str, Any], key: str, row: int, number: int) -> None:
    numbers = table[key].split()
    numbers[row] = str(number)
    table[key] = " ".join(numbers)
