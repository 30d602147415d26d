"""The sidecar of lengths: how many items each sample has, per ragged column.

A sidecar is a chunk (`layout.py`) of one fixed column "lengths", uint8 to uint64, whatever fits.
It lets packing and splitting by document know all lengths without reading a chunk. A dataset has
one sidecar for each four million samples of a column, and appending adds more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.errors import FormatError
from streamkit.format.builder import as_bytes
from streamkit.format.chunk import Chunk
from streamkit.format.column import Column
from streamkit.format.commit import Commit
from streamkit.format.encode import encode_chunk
from streamkit.format.index import ChunkTable, Index
from streamkit.format.layout import plan_buffers
from streamkit.format.schema import Schema
from streamkit.storage import Store

SAMPLES_PER_SIDECAR = 4_000_000
_DTYPES = (np.dtype("u1"), np.dtype("<u2"), np.dtype("<u4"), np.dtype("<u8"))


class LengthsWriter:
    """Collects lengths chunk by chunk and stores them as sidecars."""

    def __init__(self, schema: Schema, commit: Commit, level: int | None):
        self._commit, self._level = commit, level
        self._parts: dict[str, list[NDArray[np.int64]]] = {n: [] for n in schema.ragged_names}
        self._rows: dict[str, list[ChunkTable]] = {n: [] for n in schema.ragged_names}
        self._samples = 0

    def add(self, lengths: Mapping[str, NDArray[np.int64]]) -> None:
        """Take in the lengths of the samples of one chunk, per ragged column."""
        for name, values in lengths.items():
            self._parts[name].append(_narrow(values))
            added = len(values)
        self._samples += added if lengths else 0
        if self._samples >= SAMPLES_PER_SIDECAR:
            self._store()

    def close(self) -> dict[str, ChunkTable]:
        """Store the rest.

        Returns:
            The sidecars of each ragged column.
        """
        if self._samples:
            self._store()
        return {name: ChunkTable.join(rows) for name, rows in self._rows.items()}

    def _store(self) -> None:
        for name, parts in self._parts.items():
            values = _narrow(np.concatenate(parts))
            schema = lengths_schema(values.dtype)
            buffers = [{"values": as_bytes(values)}]
            chunk = encode_chunk(
                schema, plan_buffers(schema), buffers, len(values), level=self._level
            )
            # By content and number: two sidecars of equal lengths are two objects of the index.
            number = sum(map(len, self._rows.values()))
            key = self._commit.new_name(f"{number:04d}-{chunk.checksum:016x}.skl")
            self._commit.store(key, chunk.parts)
            self._rows[name].append(ChunkTable.row(key, len(values), chunk))
            parts.clear()
        self._samples = 0


def read_lengths(store: Store, index: Index, name: str, *, verify: bool) -> NDArray[np.int64]:
    """The lengths of all samples of a column with offsets of its own, int64 `[samples]`.

    Raises:
        FileNotFoundError: A sidecar is not there.
        FormatError: A sidecar is not what the index says.
    """
    table = index.lengths[name]
    parts, total = [np.empty(0, np.int64)], 0.0
    for number in range(len(table)):
        values = _open_sidecar(store, table, number, verify).array(0, "values")
        total += float(values.sum(dtype=np.float64))
        parts.append(values.astype(np.int64))
    lengths = np.concatenate(parts)
    # Rows are cut by these numbers, so they must agree with those by which chunks are read. The
    # sum in floating point tells whether those in integers wrap around.
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    items = index.chunks.values.get(name, np.empty(0, np.int64))  # no chunk, no table
    if total >= 2.0**62 or (np.diff(ends[index.chunks.starts]) != items).any():
        raise FormatError(
            f'{store.url}: the lengths of column "{name}" in {table.names[0]} and those that '
            "follow are not those of the chunks in the index"
        )
    return lengths


@cache
def lengths_schema(dtype: np.dtype[Any]) -> Schema:
    """The schema of a sidecar."""
    return Schema.declare({"lengths": Column(dtype)})


def _open_sidecar(store: Store, table: ChunkTable, number: int, verify: bool) -> Chunk:
    # The dtype stands in the header as the schema's hash only, and one of four fits.
    schemas = [lengths_schema(dtype) for dtype in _DTYPES]
    return Chunk.open(store, table, number, schemas, verify=verify)


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in the narrowest unsigned dtype."""
    high = int(values.max()) if len(values) else 0
    return values.astype(next(dtype for dtype in _DTYPES if high <= np.iinfo(dtype).max))
