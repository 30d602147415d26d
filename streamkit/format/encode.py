"""From the columns of a chunk to its bytes: lay out buffers, cut frames, compress, hash."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.format.layout import (
    CODEC_RAW,
    CODEC_ZSTD,
    FRAME_BYTES,
    MAX_EXPANSION,
    MAX_UNCHECKED_BYTES,
    BufferPlan,
    Header,
    align,
    hash_bytes,
    head_bytes,
)
from streamkit.format.schema import Schema

Bytes = NDArray[np.uint8]
DEFAULT_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class EncodedChunk:
    """A chunk ready to be stored.

    Attributes:
        parts: The bytes of the file, in order.
        num_bytes: Their sum.
        head_bytes: Bytes of header and offsets.
        checksum: The checksum of the header, which covers those of all frames.
    """

    parts: list[Any]
    num_bytes: int
    head_bytes: int
    checksum: int


def parse_compression(compression: str | None) -> int | None:
    """The zstd level of `compression=`: None, "zstd" or "zstd:LEVEL".

    Raises:
        ValueError: Anything else.
    """
    if compression is None:
        return None
    match = (
        re.fullmatch(r"zstd(?::(-?\d{1,3}))?", compression)
        if isinstance(compression, str)
        else None
    )
    level = DEFAULT_ZSTD_LEVEL if match is None or match[1] is None else int(match[1])
    if match is None or not -100 <= level <= 22:
        raise ValueError(
            f'compression={compression!r} must be None, "zstd" or "zstd:LEVEL" with -100 to 22'
        )
    return level


def encode_chunk(
    schema: Schema,
    plan: Sequence[BufferPlan],
    buffers: Sequence[Mapping[str, Bytes]],
    samples: int,
    *,
    level: int | None,
) -> EncodedChunk:
    """Lay out the buffers of a chunk, and cut them into frames.

    Args:
        schema: The dataset's schema.
        plan: Which buffers a chunk has, in order.
        buffers: Per column its buffers by role, as uint8 `[bytes]`.
        samples: Samples in the chunk.
        level: zstd level, or None to store as it is.
    """
    table = np.empty((len(plan), 2), np.int64)
    parts: list[Bytes] = []
    end = 0
    for number, item in enumerate(plan):
        buffer = buffers[item.column][item.role]
        start = align(end)
        if start > end:
            parts.append(np.zeros(start - end, np.uint8))
        parts.append(buffer)
        table[number] = start, buffer.nbytes
        end = start + buffer.nbytes
    parts = [part for part in parts if part.nbytes]
    frames = _cut(parts, FRAME_BYTES)
    stored, codec = _compress(frames, level)
    header = Header(
        samples=samples,
        data_bytes=end,
        stored_bytes=sum(map(len, stored)),
        frame_bytes=FRAME_BYTES,
        codec=codec,
        schema_hash=hash_bytes(schema.canonical),
        buffers=table,
        checksums=np.fromiter(map(hash_bytes, stored), np.uint64, len(stored)),
        stored_sizes=np.fromiter(map(len, stored), np.int64, len(stored)),
    )
    packed = header.pack()
    # Raw frames are views of the buffers, which are written in one go and not frame by frame.
    data = parts if codec == CODEC_RAW else stored
    return EncodedChunk(
        parts=[packed, *data],
        num_bytes=len(packed) + header.stored_bytes,
        head_bytes=head_bytes(header, plan),
        checksum=int.from_bytes(packed[-8:], "little"),
    )


def _cut(parts: Sequence[Bytes], frame_bytes: int) -> list[Any]:
    """Cut buffers that lie end to end into frames; a frame inside one buffer is a view of it."""
    frames: list[Any] = []
    pending: list[Any] = []  # the pieces of a frame that crosses buffers
    missing = frame_bytes
    for part in parts:
        view, position, size = part.data, 0, part.nbytes
        while position < size:
            piece = view[position : position + missing]
            position += len(piece)
            missing -= len(piece)
            pending.append(piece)
            if missing == 0:
                frames.append(pending[0] if len(pending) == 1 else b"".join(pending))
                pending, missing = [], frame_bytes
    if pending:
        frames.append(pending[0] if len(pending) == 1 else b"".join(pending))
    return frames


def _compress(frames: list[Any], level: int | None) -> tuple[list[Any], int]:
    if level is None or not frames:
        return frames, CODEC_RAW
    import zstandard

    # The size stands in the frame table, the checksum too: a zstd frame repeats neither.
    compress: Callable[[Any], bytes] = zstandard.ZstdCompressor(
        level=level, write_checksum=False, write_content_size=False
    ).compress
    # At equal sizes the raw frame, since that is how a reader tells raw from compressed.
    stored = [min(frame, compress(frame), key=len) for frame in frames]
    raw, small = sum(map(len, frames)), sum(map(len, stored))
    if raw > max(MAX_UNCHECKED_BYTES, MAX_EXPANSION * small):
        return frames, CODEC_RAW  # readers refuse a file that claims so much more than it is
    return stored, CODEC_ZSTD
