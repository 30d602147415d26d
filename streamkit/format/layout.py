"""The layout of a chunk, byte by byte. This docstring is the specification.

A dataset is a directory, or a prefix of an object store, with immutable chunks and one
`index.json` that names them, committed last (`index.py`). All integers are little-endian.

```
chunk      = header, data section
header     = fixed part, buffer table, frame table, zero padding, checksum

fixed part (64 bytes)
   0   8   magic 89 53 4B 43 0D 0A 1A 0A
   8   u32 version = 1
  12   u32 header_bytes: the whole header, a multiple of 64
  16   u64 samples
  24   u64 data_bytes: the data section before compression
  32   u64 stored_bytes: the data section in the file
  40   u32 frame_bytes: raw bytes of a frame (power of two, 4 KiB to 1 MiB; 32 KiB as written)
  44   u32 frames = ceil(data_bytes / frame_bytes)
  48   u16 codec: 0 stored as it is, 1 zstd
  50   u16 buffers
  52   u32 zero
  56   u64 xxh3_64 of the schema's canonical JSON
buffer table: buffers x (u64 offset in the data section, u64 bytes)
frame table:  frames x u64 xxh3_64 of the frame as stored;
              codec 1 only: frames x u32 bytes of the frame as stored
checksum:     u64 xxh3_64 of all header bytes before it
```

The *data section* is one address space of `data_bytes`, in which buffers begin at multiples of 64
and the bytes between them are zero. It is cut into *frames* of `frame_bytes` (the last may be
shorter). A frame is the unit of verification, compression and ranged reads: each has a checksum
of its bytes as stored, and with codec 1 is one zstd frame by itself, or raw where that is not
smaller (its stored size then equals its raw size). Frames lie end to end after the header. So an
uncompressed chunk is mapped into memory as it is.

The buffers of a column, for a chunk of n samples:

| column | buffers |
|---|---|
| fixed array | values `[n, *shape]` |
| ragged array | offsets int64 `[n + 1]` from 0, counting items of shape `shape[1:]`; values |
| ragged, a later axis varies too | offsets counting elements; shapes int64 `[n, ndim]`; values |
| ragged, aligned with another | values; the offsets are the other's |
| str, bytes, JSON, image, media, pickle | offsets counting bytes; values |

Order of buffers: all offsets; then the others of at most 16 bytes a sample (fixed columns and
shapes); then the rest; each in the order of the columns. So the head of a chunk (header and
offsets) is one read of `head_bytes`, which the index knows: up to the end of the frame that
holds the last offset.

```
2 samples {"id": int64, "text": "hi" and "you", "x": float32[64]}, frame_bytes = 32768

data section  0        64       128      192           704   713
              |offsets |id      | x                    |text |
              |0 2 5   |7 8     | 2 x 64 x float32     |hiyou|
```

Rules for a reader: a chunk whose raw size passes both 64 MB and four times its file is refused
(a writer stores such a chunk uncompressed), so that a small file cannot claim much memory; for
the same reason a chunk holds at most so many samples as it may hold bytes. The
checksum of the header stands in the index too: with it every byte of the chunk is bound to the
index. Dtypes are little-endian; the int4 and smaller types of ml_dtypes take a byte an element;
longdouble ("float128") is as the machine has it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from streamkit.errors import ChunkCorruptError, FormatError
from streamkit.format.schema import Schema

MAGIC = b"\x89SKC\r\n\x1a\n"
VERSION = 1
ALIGNMENT = 64
FRAME_BYTES = 32 * 1024
SMALL_ROW_BYTES = 16
MAX_UNCHECKED_BYTES = 64 * 1000 * 1000
MAX_EXPANSION = 4
FIXED_PART = struct.Struct("<8sIIQQQIIHHIQ")
CODEC_RAW, CODEC_ZSTD = 0, 1
Role = Literal["offsets", "shapes", "values"]


@dataclass(frozen=True)
class BufferPlan:
    """One buffer of a chunk: which column it belongs to, and what it holds."""

    column: int
    role: Role


def plan_buffers(schema: Schema) -> tuple[BufferPlan, ...]:
    """The buffers of every chunk of a dataset, in the order in which they are stored."""
    offsets: list[BufferPlan] = []
    small: list[BufferPlan] = []
    rest: list[BufferPlan] = []
    for number, column in enumerate(schema.columns):
        if schema.offsets_of[number] == number:
            offsets.append(BufferPlan(number, "offsets"))
        if column.has_shapes:
            wide = 8 * len(column.shape) > SMALL_ROW_BYTES
            (rest if wide else small).append(BufferPlan(number, "shapes"))
        wide = column.has_offsets or column.item_bytes > SMALL_ROW_BYTES
        (rest if wide else small).append(BufferPlan(number, "values"))
    return (*offsets, *small, *rest)


@dataclass(frozen=True)
class Header:
    """A chunk's header, parsed and checked.

    Attributes:
        samples: Samples in the chunk.
        data_bytes: Raw bytes of the data section.
        stored_bytes: Bytes of the data section in the file.
        frame_bytes: Raw bytes of each frame but the last.
        codec: How frames are stored.
        schema_hash: xxh3_64 of the schema's canonical JSON.
        buffers: int64 `[buffers, 2]`: offset and bytes of each in the data section.
        checksums: uint64 `[frames]`.
        stored_sizes: int64 `[frames]`, bytes of each frame in the file.
        stored_offsets: Where each frame begins in the file, and where the last ends: int64
            `[frames + 1]`.
    """

    samples: int
    data_bytes: int
    stored_bytes: int
    frame_bytes: int
    codec: int
    schema_hash: int
    buffers: NDArray[np.int64]
    checksums: NDArray[np.uint64]
    stored_sizes: NDArray[np.int64]
    stored_offsets: NDArray[np.int64] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # Not a cached_property: before Python 3.12 those share one lock, which a fork may copy
        # while another thread holds it.
        offsets = np.full(self.num_frames + 1, self.header_bytes, np.int64)
        offsets[1:] += np.cumsum(self.stored_sizes)
        object.__setattr__(self, "stored_offsets", offsets)

    @property
    def num_frames(self) -> int:
        """How many frames the data section has."""
        return len(self.checksums)

    @property
    def header_bytes(self) -> int:
        """Where the data section begins in the file."""
        per_frame = 8 if self.codec == CODEC_RAW else 12
        used = FIXED_PART.size + 16 * len(self.buffers) + per_frame * self.num_frames + 8
        return align(used)

    def raw_size(self, frame: int) -> int:
        """Bytes of a frame before compression."""
        return min(self.frame_bytes, self.data_bytes - frame * self.frame_bytes)

    def pack(self) -> bytes:
        """The header as bytes, checksum included."""
        fixed = FIXED_PART.pack(
            MAGIC, VERSION, self.header_bytes, self.samples, self.data_bytes, self.stored_bytes,
            self.frame_bytes, self.num_frames, self.codec, len(self.buffers), 0, self.schema_hash,
        )  # fmt: skip
        body = fixed + self.buffers.astype("<u8").tobytes() + self.checksums.astype("<u8").tobytes()
        if self.codec != CODEC_RAW:
            body += self.stored_sizes.astype("<u4").tobytes()
        body = body.ljust(self.header_bytes - 8, b"\0")
        return body + struct.pack("<Q", hash_bytes(body))

    @classmethod
    def parse(cls, data: bytes | memoryview, name: str) -> Header:
        """Read a header from the first bytes of a chunk.

        Args:
            data: At least the whole header.
            name: The chunk's name, for errors.

        Raises:
            ChunkCorruptError: It is cut short, or its checksum does not match.
            FormatError: Its checksum matches, but it breaks a rule of the format.
        """
        if len(data) < FIXED_PART.size:
            raise ChunkCorruptError(f"{name}: {len(data)} bytes, too short for a chunk's header")
        (magic, version, header_bytes, samples, data_bytes, stored_bytes, frame_bytes, frames,
         codec, buffers, zero, schema_hash) = FIXED_PART.unpack_from(data)  # fmt: skip
        if magic != MAGIC:
            raise ChunkCorruptError(f"{name}: begins with {magic!r}, not with the magic of a chunk")
        if version != VERSION:
            raise FormatError(f"{name}: version {version}; this streamkit reads version {VERSION}")
        if not FIXED_PART.size + 8 <= header_bytes <= len(data):
            raise ChunkCorruptError(
                f"{name}: a header of {header_bytes:,} bytes, of which {len(data):,} are there"
            )
        stored = int.from_bytes(data[header_bytes - 8 : header_bytes], "little")
        if (found := hash_bytes(data[: header_bytes - 8])) != stored:
            raise ChunkCorruptError(f"{name}: header xxh3 {found:#018x}, stored is {stored:#018x}")
        per_frame = 8 if codec == CODEC_RAW else 12
        used = FIXED_PART.size + 16 * buffers + per_frame * frames + 8
        _rule(codec in (CODEC_RAW, CODEC_ZSTD), name, f"codec {codec} is not known")
        _rule(zero == 0, name, "the reserved word is not zero")
        _rule(header_bytes == align(used), name, f"header of {header_bytes} bytes, not {used}")
        _rule(
            4096 <= frame_bytes <= 2**20 and frame_bytes & (frame_bytes - 1) == 0,
            name, f"frame_bytes {frame_bytes} is no power of two from 4096 to 1048576",
        )  # fmt: skip
        _rule(
            data_bytes < 2**62 and frames == -(-data_bytes // frame_bytes) and samples < 2**62,
            name, f"{frames} frames for {data_bytes} bytes and {samples} samples",
        )  # fmt: skip
        position = FIXED_PART.size
        table = _array(data, "<u8", position, 2 * buffers).astype(np.int64).reshape(-1, 2)
        position += 16 * buffers
        checksums = _array(data, "<u8", position, frames).astype(np.uint64)
        if codec == CODEC_RAW:
            sizes = np.full(frames, frame_bytes, np.int64)
            if frames:
                sizes[-1] = data_bytes - (frames - 1) * frame_bytes
        else:
            sizes = _array(data, "<u4", position + 8 * frames, frames).astype(np.int64)
        header = cls(samples, data_bytes, stored_bytes, frame_bytes, codec, schema_hash, table,
                     checksums, sizes)  # fmt: skip
        header._check(name)
        return header

    def _check(self, name: str) -> None:
        _rule(int(self.stored_sizes.sum()) == self.stored_bytes, name, "frame sizes do not add up")
        _rule(bool((self.stored_sizes > 0).all()), name, "a frame of no bytes")
        _rule(bool((self.stored_sizes <= self.frame_bytes).all()), name, "a frame is too large")
        file_bytes = self.header_bytes + self.stored_bytes
        _rule(
            self.data_bytes <= max(MAX_UNCHECKED_BYTES, MAX_EXPANSION * file_bytes), name,
            f"{file_bytes:,} bytes claim {self.data_bytes:,}; at most {MAX_EXPANSION} times are "
            f"allowed above {MAX_UNCHECKED_BYTES:,}",
        )  # fmt: skip
        end = 0
        for offset, num_bytes in self.buffers.tolist():
            _rule(
                offset >= end and offset % ALIGNMENT == 0 and num_bytes >= 0
                and offset + num_bytes <= self.data_bytes,
                name, f"a buffer at {offset} of {num_bytes} bytes",
            )  # fmt: skip
            end = offset + num_bytes

    def check_schema(self, schema: Schema, plan: Sequence[BufferPlan], name: str) -> None:
        """Check that the buffers are those that the schema asks for.

        Raises:
            FormatError: The schema is another, or a buffer has the wrong size.
        """
        _rule(self.schema_hash == hash_bytes(schema.canonical), name, "it has another schema")
        _rule(len(self.buffers) == len(plan), name, f"{len(self.buffers)} buffers, not {len(plan)}")
        for buffer, num_bytes in zip(plan, self.buffers[:, 1].tolist(), strict=True):
            column = schema.columns[buffer.column]
            if buffer.role == "offsets":
                fits = num_bytes == 8 * (self.samples + 1)
            elif buffer.role == "shapes":
                fits = num_bytes == 8 * self.samples * len(column.shape)
            elif not column.has_offsets:
                fits = num_bytes == self.samples * column.item_bytes
            else:
                fits = num_bytes % max(column.item_bytes, 1) == 0
            what = f'the {buffer.role} of column "{schema.names[buffer.column]}"'
            _rule(fits, name, f"{num_bytes:,} bytes for {what} of {self.samples:,} samples")


def head_bytes(header: Header, plan: Sequence[BufferPlan]) -> int:
    """Bytes from the start of the file to the end of the frame that holds the last offset."""
    ends = [
        offset + num_bytes
        for buffer, (offset, num_bytes) in zip(plan, header.buffers.tolist(), strict=True)
        if buffer.role == "offsets"
    ]
    frames = -(-max(ends, default=0) // header.frame_bytes)
    return int(header.stored_offsets[frames])


def align(position: int) -> int:
    """The next multiple of 64."""
    return -(-position // ALIGNMENT) * ALIGNMENT


def hash_bytes(data: Any) -> int:
    """xxh3_64 of bytes, seed 0. Reference: https://xxhash.com, XXH3."""
    return xxhash.xxh3_64_intdigest(data)


def _array(data: bytes | memoryview, dtype: str, position: int, count: int) -> NDArray[Any]:
    return np.frombuffer(data, dtype, count, position) if count else np.empty(0, dtype)


def _rule(holds: bool, name: str, broken: str) -> None:
    if not holds:
        raise FormatError(f"{name}: {broken}")
