"""The rows of one read: from open chunks and row numbers to columns.

All columns of all batches of one call share which chunk each row lies in. Nothing here opens a
chunk; whoever calls holds them until the columns are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.datasets.base import Allocate, Indices
from streamkit.datasets.memory import gather_rows, read_int64
from streamkit.datasets.options import ReadOptions
from streamkit.datasets.values import decode_values
from streamkit.format.chunk import Chunk
from streamkit.format.column import Column
from streamkit.format.schema import Schema


class Rows:
    """The rows of one call: which open chunk and which row in it, for all batches together."""

    def __init__(
        self,
        schema: Schema,
        options: ReadOptions,
        held: Sequence[Chunk],
        slots: NDArray[np.int64],
        rows: Indices,
        ends: Sequence[int],
    ):
        self._schema, self._options = schema, options
        self._held, self._slots, self._rows = held, slots, rows
        self._ends = ends
        self.num_bytes = 0

    def column(self, position: int, allocate: Allocate | None) -> list[Any]:
        """One column of each batch: an array, or a list of values."""
        column = self._schema.columns[position]
        if column.kind == "array":
            return self._fixed(position, column, allocate)
        starts, lengths = self._ranges(position, column)
        shapes = self._shapes(position) if column.has_shapes else None
        values = decode_values(
            starts, lengths, shapes, column, self._options, lambda row: self._where(position, row)
        )
        bounds = zip([0, *self._ends[:-1]], self._ends, strict=True)
        return [values[a:b] for a, b in bounds]

    def _where(self, position: int, row: int) -> str:
        return f"{self._held[self._slots[row]].where(position)}, row {self._rows[row]:,}"

    def _fixed(self, position: int, column: Column, allocate: Allocate | None) -> list[Any]:
        row_bytes = column.item_bytes
        addresses = self._addresses(position, self._rows * row_bytes, row_bytes)
        shape = tuple(n for n in column.shape if n is not None)
        return list(gather_rows(addresses, self._ends, column.dtype, shape, allocate=allocate))

    def _ranges(self, position: int, column: Column) -> tuple[Indices, Indices]:
        """Where the value of each row begins in memory, and its items."""
        base = self._schema.offsets_of[position]
        assert base is not None
        bases = np.empty(len(self._held), np.int64)
        for slot, chunk in enumerate(self._held):
            chunk.offsets(position)  # valid and checked from here on
            bases[slot] = chunk.address + chunk.span(base, "offsets")[0]
        places = bases[self._slots] + 8 * self._rows
        starts = read_int64(places)
        lengths = read_int64(places + 8) - starts
        item_bytes = column.item_bytes
        starts *= item_bytes
        addresses = self._addresses(position, starts, lengths * item_bytes)
        return addresses, lengths

    def _shapes(self, position: int) -> NDArray[np.int64]:
        """The shape of each row's value, int64 `[rows, ndim]`."""
        tables = [chunk.shapes(position) for chunk in self._held]
        ndim = len(self._schema.columns[position].shape)
        shapes = np.empty((len(self._rows), ndim), np.int64)
        for slot, table in enumerate(tables):
            mine = self._slots == slot
            shapes[mine] = table[self._rows[mine]]
        return shapes

    def _addresses(self, position: int, starts: Indices, sizes: Indices | int) -> Indices:
        """Make byte ranges of the column's values valid, and give their addresses."""
        total = sizes * len(starts) if isinstance(sizes, int) else int(sizes.sum())
        self.num_bytes += total
        bases = np.empty(len(self._held), np.int64)
        for slot, chunk in enumerate(self._held):
            offset, _ = chunk.span(position, "values")
            bases[slot] = chunk.address + offset
            if not chunk.is_complete:
                mine = self._slots == slot
                begin = starts[mine] + offset
                chunk.ensure(begin, begin + (sizes if isinstance(sizes, int) else sizes[mine]))
        return bases[self._slots] + starts


def distinct_of(chunks: Indices) -> tuple[Indices, Indices]:
    """The distinct chunk numbers, sorted, and for each row which of them it is."""
    if not len(chunks):
        return chunks, chunks
    low = int(chunks.min())
    span = int(chunks.max()) - low + 1
    if span > 16 * len(chunks) + 1024:
        distinct, slots = np.unique(chunks, return_inverse=True)
        return distinct, slots
    # Few chunks for many rows: a table costs a tenth of a sort.
    seen = np.zeros(span, np.bool_)
    seen[chunks - low] = True
    distinct = np.flatnonzero(seen)
    table = np.empty(span, np.int64)
    table[distinct] = np.arange(len(distinct))
    return distinct + low, table[chunks - low]


def one_by_one(values: Any, column: Column) -> list[Any]:
    """The values of a column for single samples, as the Python types that were written."""
    if column.scalar in ("int", "float", "bool", "complex"):
        return values.tolist()  # type: ignore[no-any-return]
    if isinstance(values, np.ndarray) and column.shape == () and column.scalar is None:
        return [values[row, ...] for row in range(len(values))]
    return list(values)
