"""Ways in which the objects of a dataset can be wrong: by accident, and on purpose.

An accident leaves checksums as they were. The families of `HOSTILE` recompute them, so that the
only thing that is wrong is what the bytes say. Each function changes `objects` in place.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard
from untrusted_data import (
    FRAME,
    OFFSETS,
    PLAN,
    ChunkModel,
    pack_index,
    parse_index,
    put_number,
    relink,
    seal_index,
)

Objects = dict[str, bytes]
Mutation = Callable[[np.random.Generator, Objects], None]
SPECIAL = [0, 1, 2, 7, 8, 63, 64, 255, 4095, FRAME - 1, FRAME, FRAME + 1, 2**20, 2**26, 2**31 - 1,
           2**31, 2**32 - 1, 2**32, 2**40, 2**48, 2**59, 2**60, 2**61, 2**62 - 1, 2**62, 2**63 - 1,
           2**63, 2**64 - 8, 2**64 - 1]  # fmt: skip


def special(rng: np.random.Generator, near: int = 0) -> int:
    """A number at an edge, its neighbour or negative, or one near a given number."""
    if rng.random() < 0.4:
        return near + int(rng.integers(-9, 10))
    number = SPECIAL[rng.integers(len(SPECIAL))] + int(rng.integers(-1, 2))
    return -number if rng.random() < 0.2 else number


def pick(rng: np.random.Generator, items: Any) -> Any:
    items = list(items)
    return items[rng.integers(len(items))]


def chunk_name(rng: np.random.Generator, objects: Objects) -> str:
    return pick(rng, sorted(name for name in objects if name.endswith(".skc")))


# -- accidents: no checksum is recomputed ----------------------------------------------------------


def truncate(rng: np.random.Generator, objects: Objects) -> None:
    name = pick(rng, objects)
    objects[name] = objects[name][: rng.integers(len(objects[name]))]


def flip_bits(rng: np.random.Generator, objects: Objects) -> None:
    name = pick(rng, objects)
    data = bytearray(objects[name])
    # Half of the flips go to the first kilobyte, where the structure is.
    for _ in range(int(rng.integers(1, 4))):
        end = min(len(data), 1024) if rng.random() < 0.5 else len(data)
        data[rng.integers(end)] ^= 1 << int(rng.integers(8))
    objects[name] = bytes(data)


def splice(rng: np.random.Generator, objects: Objects) -> None:
    name, other = pick(rng, objects), pick(rng, objects)
    data, source = bytearray(objects[name]), objects[other]
    length = int(rng.integers(1, 200))
    start, place = int(rng.integers(len(source))), int(rng.integers(len(data)))
    piece = source[start : start + length]
    keep = 0 if rng.random() < 0.3 else len(piece)  # insert, or write over
    data[place : place + keep] = piece
    objects[name] = bytes(data)


def swap(rng: np.random.Generator, objects: Objects) -> None:
    one, two = pick(rng, objects), pick(rng, objects)
    objects[one], objects[two] = objects[two], objects[one]


def wipe(rng: np.random.Generator, objects: Objects) -> None:
    name = pick(rng, objects)
    data = bytearray(objects[name])
    start, length = int(rng.integers(len(data))), int(rng.integers(1, 5000))
    data[start : start + length] = bytes(len(data[start : start + length]))
    objects[name] = bytes(data)


def lose(rng: np.random.Generator, objects: Objects) -> None:
    del objects[pick(rng, [name for name in objects if name != "index.json"])]


ACCIDENTS: dict[str, Mutation] = {
    f.__name__: f for f in (truncate, flip_bits, splice, swap, wipe, lose)
}


# -- lies in a chunk, with every checksum right ----------------------------------------------------


def _edit(rng: np.random.Generator, objects: Objects, change: Callable[[ChunkModel], None]) -> None:
    name = chunk_name(rng, objects)
    model = ChunkModel.parse(objects[name])
    change(model)
    objects[name] = model.pack()
    relink(objects, name)


def offsets(rng: np.random.Generator, objects: Objects) -> None:
    """Offsets that fall, jump, overflow or miss the end."""

    def change(model: ChunkModel) -> None:
        column = pick(rng, OFFSETS)
        numbers = model.numbers("offsets", column)
        for _ in range(int(rng.integers(1, 4))):
            row = int(rng.integers(len(numbers)))
            numbers[row] = special(rng, numbers[row])
        model.set_numbers("offsets", column, numbers)

    _edit(rng, objects, change)


def wrapping_offsets(rng: np.random.Generator, objects: Objects) -> None:
    """Offsets whose differences, or whose products with the item size, wrap around to be right."""

    def change(model: ChunkModel) -> None:
        column = pick(rng, OFFSETS)
        numbers = model.numbers("offsets", column)
        row = int(rng.integers(1, len(numbers) - 4))
        if rng.random() < 0.5:
            jump = int(rng.integers(1, 2**20))
            numbers[row : row + 3] = [2**63 - jump, -(2**63) + jump, -jump]
        else:
            factor = 2 ** int(rng.integers(59, 64))
            numbers[row:] = [number + factor for number in numbers[row:]]
        model.set_numbers("offsets", column, numbers)

    _edit(rng, objects, change)


def shapes(rng: np.random.Generator, objects: Objects) -> None:
    """Shapes that are negative, too large, or whose product wraps around to be right."""

    def change(model: ChunkModel) -> None:
        numbers = model.numbers("shapes", "grid")
        row = 2 * int(rng.integers(len(numbers) // 2))
        pairs = [[2**32, 2**32], [0, 2**62], [2**62, 0], [-1, -1], [-2, -2], [2**63 + 1, 2],
                 [special(rng), special(rng)], [numbers[row + 1], numbers[row]]]  # fmt: skip
        numbers[row : row + 2] = pick(rng, pairs)
        model.set_numbers("shapes", "grid", numbers)

    _edit(rng, objects, change)


def header_fields(rng: np.random.Generator, objects: Objects) -> None:
    """Fields of the header's fixed part."""
    widths = {"header_bytes": 32, "samples": 64, "data_bytes": 64, "stored_bytes": 64,
              "frame_bytes": 32, "frames": 32, "codec": 16, "buffers": 16, "zero": 32,
              "schema_hash": 64, "version": 32}  # fmt: skip

    def change(model: ChunkModel) -> None:
        for _ in range(int(rng.integers(1, 3))):
            key = pick(rng, widths)
            near = {"samples": model.samples, "data_bytes": len(model.data)}.get(key, FRAME)
            model.fields[key] = special(rng, near) % 2 ** widths[key]

    _edit(rng, objects, change)


def samples_everywhere(rng: np.random.Generator, objects: Objects) -> None:
    """Another number of samples, on which header and index agree."""

    def change(model: ChunkModel) -> None:
        model.samples = special(rng, model.samples) % 2**64

    _edit(rng, objects, change)


def buffer_table(rng: np.random.Generator, objects: Objects) -> None:
    """Buffers that overlap, lie outside, are swapped, or whose sizes disagree."""

    def change(model: ChunkModel) -> None:
        one, two = int(rng.integers(len(PLAN))), int(rng.integers(len(PLAN)))
        if rng.random() < 0.2:
            model.buffers[one], model.buffers[two] = model.buffers[two], model.buffers[one]
        elif rng.random() < 0.2:
            model.buffers = model.buffers[:one]
        else:
            place = int(rng.integers(2))
            model.buffers[one][place] = special(rng, model.buffers[two][place])

    _edit(rng, objects, change)


def moved_ends(rng: np.random.Generator, objects: Objects) -> None:
    """Values that are some items longer or shorter than offsets and index say."""

    def change(model: ChunkModel) -> None:
        number = PLAN.index(("values", pick(rng, ("tokens", "mask", "pair", "text", "blob"))))
        model.buffers[number][1] += 16 * int(rng.integers(-3, 4))

    _edit(rng, objects, change)


def stored_sizes(rng: np.random.Generator, objects: Objects) -> None:
    """A frame table whose sizes are wrong, and may still add up."""

    def change(model: ChunkModel) -> None:
        frames = -(-len(model.data) // FRAME)
        one = int(rng.integers(frames))
        model.codec = 1
        model.sizes[one] = special(rng, FRAME // 2)
        if rng.random() < 0.5:
            model.fields["stored_bytes"] = special(rng, len(model.data)) % 2**64

    _edit(rng, objects, change)


def zstd_frames(rng: np.random.Generator, objects: Objects) -> None:
    """Frames that declare or produce other sizes, ask for a large window, or are no zstd."""

    def change(model: ChunkModel) -> None:
        number = int(rng.integers(-(-len(model.data) // FRAME)))
        raw = bytes(model.data[number * FRAME : (number + 1) * FRAME])
        size = max(len(raw) + int(rng.integers(-2, 3)), 0)
        content = raw[:size].ljust(size, b"\0")
        plain = zstandard.ZstdCompressor(write_content_size=bool(rng.integers(2)))
        window = 10 + int(rng.integers(22))
        frames = [
            plain.compress(content),
            zstandard.ZstdCompressor().compress(bytes(2**22)),
            plain.compress(content)[: int(rng.integers(1, 20))],
            # A frame header without a content size, one block of run-length bytes.
            b"\x28\xb5\x2f\xfd\x00" + bytes([(window - 10) << 3]) + _rle(len(raw)),
            # The same with a declared size of 8 bytes' width.
            b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", special(rng, size) % 2**64) + _rle(size),
            b"\x50\x2a\x4d\x18" + struct.pack("<I", size) + content,
            plain.compress(content) + plain.compress(b"more"),
            bytes(rng.integers(0, 256, 40).astype(np.uint8)),
        ]
        model.codec = 1
        model.stored[number] = pick(rng, frames)[:FRAME]

    _edit(rng, objects, change)


def _rle(size: int) -> bytes:
    """The last block of a zstd frame: one byte, `size` times."""
    return (1 | 1 << 1 | (size % 2**21) << 3).to_bytes(3, "little") + b"\x07"


def leaves(rng: np.random.Generator, objects: Objects) -> None:
    """Text that is no UTF-8, JSON that is none, numbers of any bits."""
    garbage = [b"\xff\xfe\xfd", b"\xed\xa0\x80", b"[" * 400, b"{\"a\":" * 60, b"NaN", b"-Infinity",
               b"1e999", b'{"a":1,"a":2}', b'"\\ud800"', b"9" * 5000, b"\0\0\0", b"nul", b'"',
               b"\xf0\x9f\x98", b"1" * 40, bytes([0x7F, 0xF4] * 20)]  # fmt: skip

    def change(model: ChunkModel) -> None:
        span = model.span("values", pick(rng, ("text", "meta", "x", "pair", "when", "blob")))
        piece = pick(rng, garbage)[: max(span.stop - span.start, 0)]
        start = span.start + int(rng.integers(span.stop - span.start - len(piece) + 1))
        model.data[start : start + len(piece)] = piece

    _edit(rng, objects, change)


def sidecars(rng: np.random.Generator, objects: Objects) -> None:
    """Lengths that are negative, huge, or of which there are too many, in any of the dtypes."""
    name = pick(rng, sorted(name for name in objects if name.endswith(".skl")))
    model = ChunkModel.parse(objects[name])
    dtype = pick(rng, ("u1", "<u2", "<u4", "<u8", "<i8"))
    width = np.dtype(dtype).itemsize
    schema = {"columns": [{"type": np.dtype(dtype).name}], "tree": {"dict": [["lengths", "leaf"]]}}
    import xxhash

    text = json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()
    model.schema_hash = xxhash.xxh3_64_intdigest(text)
    numbers = [int(rng.integers(0, 9)) for _ in range(model.samples)]
    numbers[int(rng.integers(len(numbers)))] = special(rng, 5)
    raw = b"".join((number % 2 ** (8 * width)).to_bytes(width, "little") for number in numbers)
    model.data = bytearray(raw[: len(raw) - int(rng.integers(2)) * width])
    model.buffers = [[0, len(model.data)]]
    if rng.random() < 0.2:
        model.samples = special(rng, model.samples) % 2**64
    objects[name] = model.pack()
    relink(objects, name)


# -- lies in the index, with checksum and fingerprint right ----------------------------------------

NAMES = ("../secret", "/etc/passwd", "a/../../b", "..", ".", ".hidden", "index.json", "a//b", "a/",
         "x" * 5000, "C:\\x", "a\\b", "a:b", "\x00", "sub/none", "INDEX.JSON", "a/./b",
         "\x7f", "%2e%2e/x")  # fmt: skip


def _tables(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [value["chunks"], *value["lengths"].values()]


def index_numbers(rng: np.random.Generator, objects: Objects) -> None:
    """Numbers of the tables: samples, sizes, values."""
    value = parse_index(objects)
    for _ in range(int(rng.integers(1, 3))):
        table = value["chunks"] if rng.random() < 0.7 else pick(rng, _tables(value))
        if "values" in table and rng.random() < 0.5:
            key, table = pick(rng, table["values"]), table["values"]
        else:
            key = pick(rng, ("samples", "bytes", "head_bytes"))
        row = int(rng.integers(len(table[key].split())))
        put_number(table, key, row, special(rng, int(table[key].split()[row])))
    objects["index.json"] = pack_index(value)


def index_names(rng: np.random.Generator, objects: Objects) -> None:
    """Names that lead out of the dataset, repeat, are swapped, or are other objects."""
    value = parse_index(objects)
    table = pick(rng, _tables(value))
    names = table["names"].split()
    row = int(rng.integers(len(names)))
    kind = int(rng.integers(4))
    if kind == 0:
        names[row] = pick(rng, NAMES)
    elif kind == 1:
        names[row] = pick(rng, objects)
    elif kind == 2:
        names.insert(row, pick(rng, names))
    else:
        names = names[::-1]
    table["names"] = " ".join(names)
    objects["index.json"] = pack_index(value)


GARBAGE = (None, True, 0, -1, 1.5, 1e308, 2**70, "", "x", "1 2 3", "1  2", " ", "-1", "1e3", "0x1",
           "9" * 18, "9" * 19, "1 " * 40, "é", "\ud800", [], {}, [[]], [None], {"a": {}}, "leaf",
           {"leaf": []}, {"dict": [["a", "leaf"]]}, {"tuple": ["leaf"]}, [1, 2], "int64",
           "float32", "datetime64[0s]", "timedelta64[D]", "S5", "O", "i4,i4", "a", "finfo", "json",
           ["a", "leaf"], 2**48, 2**48 - 1, float("nan"))  # fmt: skip


def index_garbage(rng: np.random.Generator, objects: Objects) -> None:
    """Any value in any place of the index."""
    value = parse_index(objects)
    put_anywhere(value, pick(rng, GARBAGE), rng)
    objects["index.json"] = pack_index(value, fingerprint=bool(rng.integers(2)))


def put_anywhere(value: Any, item: Any, rng: np.random.Generator) -> None:
    """Replace one value, at a place that a walk from the root comes to."""
    while True:
        key = pick(rng, value) if isinstance(value, dict) else int(rng.integers(len(value)))
        child = value[key]
        if not (isinstance(child, (dict, list)) and child) or rng.random() < 0.15:
            break
        value = child
    if rng.random() < 0.15:
        del value[key]
    else:
        value[key] = item


def nesting(rng: np.random.Generator, objects: Objects) -> None:
    """Schemas, metadata and tables that are nested deep, or are wide."""
    value = parse_index(objects)
    depth = int(pick(rng, (10, 63, 66, 200, 900, 960, 980, 1100, 5000)))
    kind = pick(rng, ("list", "tuple", "raw", "dict", "keys", "columns"))
    opening, closing = {
        "list": ('{"list":[', "]}"), "tuple": ('{"tuple":[', "]}"), "raw": ("[", "]"),
        "dict": ('{"dict":[["k",', "]]}"), "keys": ('{"dict":[["' + "k" * 1500 + '",', "]]}"),
        "columns": ('{"list":["leaf",', "]}"),
    }[kind]  # fmt: skip
    nest = opening * depth + '"leaf"' + closing * depth
    value["chunks"], value["lengths"] = {}, {}
    place = pick(rng, ("schema", "metadata", "chunks", "lengths", "samples", "version"))
    value["schema"] = {"tree": "@tree@", "columns": [{"type": "json"}]}
    text = json.dumps(value)
    if place == "schema":
        text = text.replace('"@tree@"', nest)
    else:
        value[place] = "@here@"
        text = json.dumps(value).replace('"@here@"', nest)
    objects["index.json"] = seal_index(text.encode())


HOSTILE: dict[str, Mutation] = {
    f.__name__: f
    for f in (offsets, wrapping_offsets, shapes, header_fields, samples_everywhere, buffer_table,
              moved_ends, stored_sizes, zstd_frames, leaves, sidecars, index_numbers, index_names,
              index_garbage, nesting)
}  # fmt: skip
