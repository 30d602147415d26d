"""One stored chunk, opened: its data section as memory that fills as frames are needed.

A chunk looks the same whether it is mapped or fetched: `memory` is the data section of
`layout.py`, and `ensure` makes ranges of it valid. An uncompressed local chunk is mapped, and a
frame becomes valid by checking it; any other has memory of its own, into which frames are read,
checked and decompressed one by one. So nothing is handed out unverified, and one sample of a
compressed chunk costs its frames only.

Not here: which chunks are open at a time (`cache`), which samples are read (`datasets`).
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.errors import ChunkCorruptError, FormatError
from streamkit.format.index import ChunkTable
from streamkit.format.layout import (
    CODEC_RAW,
    MAX_UNCHECKED_BYTES,
    Header,
    Role,
    hash_bytes,
    plan_buffers,
)
from streamkit.format.mapping import map_file
from streamkit.format.schema import Schema
from streamkit.storage import Store

Bytes = NDArray[np.uint8]
# Once this share of the frames was asked for, the rest will be too: checking frame by frame costs
# more than checking all. Decompressing takes memory as well, so it waits longer.
_FINISH_MAPPED, _FINISH_FETCHED = 1 / 16, 1 / 4
# A frame is at most 1 MiB; RFC 8878 asks decoders for 8 MiB. The library would give a frame that
# asks for it a window of 128 MiB.
_MAX_WINDOW_BYTES = 8 * 2**20


class Chunk:
    """An open chunk. Thread-safe; memory is valid as long as the chunk is referenced.

    Attributes:
        name: Its name in the store, for errors.
        header: Its header.
        schema: Its schema.
        memory: The data section, uint8 `[data_bytes]`; valid where `ensure` has been.
        address: Where `memory` begins.
        is_complete: Whether all of it is valid.
    """

    def __init__(self, store: Store, name: str, schema: Schema, header: Header, file: Bytes | None,
                 *, verify: bool):  # fmt: skip
        self.name, self.header, self.schema = name, header, schema
        self._store, self._file = store, file
        self._is_mapped = file is not None and header.codec == CODEC_RAW
        if self._is_mapped and file is not None:
            self.memory = file[header.header_bytes :]
        else:
            self.memory = np.empty(header.data_bytes, np.uint8)
        self.address = int(self.memory.ctypes.data) if header.data_bytes else 0
        self._verify = verify
        self._missing: Callable[[Sequence[str]], Exception] | None = None
        self._ready = np.zeros(header.num_frames, np.bool_)
        self.is_complete = header.num_frames == 0 or (self._is_mapped and not verify)
        self._lock = threading.Lock()
        buffers = zip(plan_buffers(schema), header.buffers.tolist(), strict=True)
        self._spans = {
            (item.column, item.role): (offset, offset + num_bytes)
            for item, (offset, num_bytes) in buffers
        }
        self._offsets: dict[int, NDArray[np.int64]] = {}
        self._shapes: dict[int, NDArray[np.int64]] = {}

    @classmethod
    def open(
        cls,
        store: Store,
        table: ChunkTable,
        number: int,
        schemas: Sequence[Schema],
        *,
        verify: bool,
        missing: Callable[[Sequence[str]], Exception] | None = None,
    ) -> Chunk:
        """Open a chunk of the index, and check its header.

        Args:
            store: Where it lies.
            table: The index's table.
            number: Which chunk.
            schemas: The schemas that it may have (for a dataset, one).
            verify: Whether frames are checked before their first use.
            missing: Makes the error for an object that is gone when its frames are read.

        Raises:
            FileNotFoundError: It is not there.
            FormatError: It is not what the index says, or breaks a rule of the format.
        """
        name = f"{store.url}/{table.names[number]}"
        expected = int(table.num_bytes[number])
        path = store.path(table.names[number])
        file = None
        if path is not None:
            file = _map(path, expected)
            start = file[: int(table.head_bytes[number])].data
        else:
            head = min(int(table.head_bytes[number]), expected)
            start = memoryview(store.read(table.names[number], 0, head))
        header = Header.parse(start, name)
        checksum = int.from_bytes(start[header.header_bytes - 8 : header.header_bytes], "little")
        if checksum != int(table.checksums[number]):
            raise ChunkCorruptError(
                f"{name}: header xxh3 {checksum:#018x}, index says "
                f"{int(table.checksums[number]):#018x}; it is another chunk than the index means"
            )
        sizes = header.header_bytes + header.stored_bytes, header.samples
        if sizes != (expected, int(table.samples[number])):
            raise FormatError(
                f"{name}: {sizes[0]:,} bytes and {sizes[1]:,} samples, index says {expected:,} and "
                f"{int(table.samples[number]):,}"
            )
        known = [s for s in schemas if hash_bytes(s.canonical) == header.schema_hash]
        schema = (known or schemas)[0]
        header.check_schema(schema, plan_buffers(schema), name)
        if file is None and header.data_bytes > MAX_UNCHECKED_BYTES:
            # The header allows this much for a file of `expected` bytes; so is it one?
            _check_size(name, store.size(table.names[number]), expected)
        chunk = cls(store, table.names[number], schema, header, file, verify=verify)
        chunk._missing = missing
        chunk._check_values(table, number)
        return chunk

    @property
    def own_bytes(self) -> int:
        """Bytes of memory that the chunk takes beside the page cache."""
        return 0 if self._is_mapped else self.header.data_bytes

    def span(self, column: int, role: Role) -> tuple[int, int]:
        """Where a buffer begins and ends in the data section."""
        return self._spans[column, role]

    def array(self, column: int, role: Role) -> NDArray[Any]:
        """A whole buffer as the column's dtype (offsets and shapes: int64), made valid; a view."""
        start, stop = self.span(column, role)
        self.ensure(np.array([start]), np.array([stop]))
        dtype = self.schema.columns[column].dtype if role == "values" else np.dtype("<i8")
        return self.memory[start:stop].view(dtype)

    def offsets(self, column: int) -> NDArray[np.int64]:
        """The offsets of a column that has them, int64 `[samples + 1]`, checked; a view.

        Raises:
            FormatError: They fall, or do not end where the values end.
        """
        offsets = self._offsets.get(column)
        if offsets is None:
            base = self.schema.offsets_of[column]
            assert base is not None
            offsets = self.array(base, "offsets")
            self._check_offsets(column, offsets)
            self._offsets[column] = offsets
        return offsets

    def shapes(self, column: int) -> NDArray[np.int64]:
        """The shapes of a column that stores them, int64 `[samples, ndim]`, checked; a view."""
        known = self._shapes.get(column)
        if known is not None:
            return known
        declared = self.schema.columns[column].shape
        shapes = self.array(column, "shapes").reshape(-1, len(declared))
        fits = (shapes >= 0).all() and all(
            length is None or (shapes[:, axis] == length).all()
            for axis, length in enumerate(declared)
        )
        sizes = np.diff(self.offsets(column))
        # In floating point too, since a product of hostile lengths may wrap around; and without
        # the zeros, since NumPy counts the bytes of an empty array without them.
        with np.errstate(over="ignore"):
            bound = np.prod(np.maximum(shapes, 1), axis=1, dtype=np.float64)
        item_bytes = self.schema.columns[column].item_bytes
        if not (
            fits
            and (bound * item_bytes < 2.0**62).all()
            and (np.prod(shapes, axis=1) == sizes).all()
        ):
            raise FormatError(f"{self.where(column)}: shapes that do not fit the offsets")
        self._shapes[column] = shapes
        return shapes

    def ensure(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Make byte ranges `[start, stop)` of the data section valid.

        Raises:
            ChunkCorruptError: A frame does not match its checksum.
            FormatError: A frame does not decompress to its size.
        """
        if self.is_complete:
            return
        size = self.header.frame_bytes
        # +1 where a range begins and -1 behind it: the running sum counts the ranges over a frame.
        steps = np.zeros(self.header.num_frames + 1, np.int64)
        some = stops > starts
        np.add.at(steps, starts[some] // size, 1)
        np.add.at(steps, (stops[some] - 1) // size + 1, -1)
        needed = (np.cumsum(steps[:-1]) > 0) & ~self._ready
        if needed.any():
            self._fill(np.flatnonzero(needed))

    def ensure_all(self) -> None:
        """Make the whole data section valid."""
        if not self.is_complete:
            self._fill(np.flatnonzero(~self._ready))

    def _fill(self, frames: NDArray[np.int64]) -> None:
        with self._lock:
            share = _FINISH_MAPPED if self._is_mapped else _FINISH_FETCHED
            if np.count_nonzero(self._ready) + len(frames) >= share * self.header.num_frames:
                frames = np.flatnonzero(~self._ready)
            else:
                frames = frames[~self._ready[frames]]
            if self._is_mapped:
                self._check(frames)
            else:
                self._fetch(frames)
            self._ready[frames] = True
            self.is_complete = bool(self._ready.all())

    def _check(self, frames: NDArray[np.int64]) -> None:
        view, size = self.memory.data, self.header.frame_bytes
        checksums = self.header.checksums
        for frame in frames.tolist():
            found = hash_bytes(view[frame * size : (frame + 1) * size])
            if found != checksums[frame]:
                raise self._corrupt(frame, found)

    def _fetch(self, frames: NDArray[np.int64]) -> None:
        """Read frames as stored, check them, and decompress them into memory."""
        size, offsets = self.header.frame_bytes, self.header.stored_offsets
        for run in np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1):
            if not len(run):
                continue
            first, last = int(run[0]), int(run[-1])
            begin = int(offsets[first])
            stored = self._read(begin, int(offsets[last + 1]))
            for frame in range(first, last + 1):
                data = stored[int(offsets[frame]) - begin : int(offsets[frame + 1]) - begin]
                if len(data) != self.header.stored_sizes[frame]:
                    raise ChunkCorruptError(
                        f"{self._store.url}/{self.name}: cut short in frame {frame} of "
                        f"{self.header.num_frames}"
                    )
                found = hash_bytes(data) if self._verify else None
                if found is not None and found != self.header.checksums[frame]:
                    raise self._corrupt(frame, found)
                raw = self._decompress(data, frame)
                self.memory[frame * size : frame * size + len(raw)] = np.frombuffer(raw, np.uint8)

    def _read(self, start: int, stop: int) -> memoryview:
        if self._file is not None:
            return self._file[start:stop].data
        try:
            return memoryview(self._store.read(self.name, start, stop))
        except FileNotFoundError as error:
            if self._missing is None:
                raise
            raise self._missing([self.name]) from error

    def _decompress(self, data: memoryview, frame: int) -> Any:
        expected = self.header.raw_size(frame)
        if self.header.codec == CODEC_RAW or len(data) == expected:
            return data
        import zstandard

        try:
            # A frame that declares another size would make the decompressor allocate that.
            declared = zstandard.frame_content_size(data)
            if declared not in (-1, expected):
                raise zstandard.ZstdError(f"it declares {declared} bytes")
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
            raw = decompressor.decompress(data, max_output_size=expected)
        except zstandard.ZstdError as error:
            raise FormatError(
                f"{self._store.url}/{self.name}: frame {frame} does not decompress: {error}"
            ) from error
        if len(raw) != expected:
            raise FormatError(
                f"{self._store.url}/{self.name}: frame {frame} holds {len(raw):,} bytes, not "
                f"{expected:,}"
            )
        return raw

    def _check_values(self, table: ChunkTable, number: int) -> None:
        """Check the items of ragged columns against the index, by which rows are cut."""
        for column, base in enumerate(self.schema.offsets_of):
            if base is None:
                continue
            start, stop = self.span(column, "values")
            expected = int(table.values[self.schema.names[base]][number])
            item_bytes = self.schema.columns[column].item_bytes
            # Items of no bytes are bound by nothing else.
            if expected * item_bytes != stop - start or (item_bytes == 0 and expected >= 2**31):
                raise FormatError(
                    f"{self.where(column)}: {stop - start:,} bytes of values, index says "
                    f"{expected:,} items"
                )

    def _check_offsets(self, column: int, offsets: NDArray[np.int64]) -> None:
        start, stop = self.span(column, "values")
        item_bytes = self.schema.columns[column].item_bytes
        if (
            offsets[0] != 0
            # Compared, not subtracted: differences of hostile numbers wrap around.
            or (offsets[1:] < offsets[:-1]).any()
            # The last one is compared in Python's integers, which do not wrap around.
            or int(offsets[-1]) * item_bytes != stop - start
        ):
            raise FormatError(f"{self.where(column)}: offsets that fall, or miss the values' end")

    def where(self, column: int) -> str:
        """The name of the chunk and of a column of it, for errors."""
        return f'{self._store.url}/{self.name}, column "{self.schema.names[column]}"'

    def _corrupt(self, frame: int, found: int) -> ChunkCorruptError:
        stored = int(self.header.checksums[frame])
        begin = int(self.header.stored_offsets[frame])
        return ChunkCorruptError(
            f"{self._store.url}/{self.name}: frame {frame} (bytes {begin:,} to "
            f"{int(self.header.stored_offsets[frame + 1]):,}): xxh3 {found:#018x}, header says "
            f"{stored:#018x}; copy the chunk again from where it came from"
        )


def _map(path: str, expected: int) -> Bytes:
    """Map a file whose size must be as expected; the mapping outlives the descriptor."""
    # Without blocking, since a pipe in a file's place would block for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{path}: not a file; copy the dataset again")
        _check_size(path, status.st_size, expected)
        return map_file(descriptor, expected)
    finally:
        os.close(descriptor)


def _check_size(name: str, size: int, expected: int) -> None:
    if size != expected or size == 0:
        raise ChunkCorruptError(
            f"{name}: {size:,} bytes, index says {expected:,}; it was cut short or replaced"
        )
