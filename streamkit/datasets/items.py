"""The items of a ragged column laid end to end: one line across documents and chunks.

Views that cut a corpus into rows (blocks, windows) address this line. It is a table of *pieces*,
stretches whose bytes lie together in one chunk, so cutting reads no chunk:

```
documents     |  d0  |d1| d2 |     d3     |     of a stored dataset: a piece per chunk
pieces        | chunk 0   | chunk 1       |     of a subset: a piece per run of documents
line      0               10             24
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.datasets.base import Allocate, Dataset, Indices
from streamkit.datasets.memory import gather_rows, read_bytes
from streamkit.datasets.parts import read_in_halves
from streamkit.datasets.rows import distinct_of
from streamkit.datasets.stored import StoredDataset
from streamkit.format.chunk import Chunk
from streamkit.format.column import Column


@dataclass(frozen=True)
class ItemLine:
    """All items of one column, end to end.

    Attributes:
        datasets: The stored datasets that hold them.
        column: The column's position in each of them.
        item: The column's type.
        starts: int64 `[pieces + 1]`, where each piece begins on the line; the last is the length.
        dataset_of: int64 `[pieces]`, which dataset a piece lies in.
        chunk_of: int64 `[pieces]`, which chunk of it.
        offset_of: int64 `[pieces]`, the piece's first item in the chunk.
    """

    datasets: tuple[StoredDataset, ...]
    column: tuple[int, ...]
    item: Column
    starts: Indices
    dataset_of: Indices
    chunk_of: Indices
    offset_of: Indices

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def first_chunk(self) -> Indices:
        """For each dataset the number of chunks in those before it, int64 `[datasets]`."""
        counts = [len(dataset.chunk_sizes) for dataset in self.datasets]
        return np.cumsum([0, *counts[:-1]])

    @cached_property
    def numbered(self) -> Indices:
        """The chunk of each piece, numbered across the datasets, int64 `[pieces]`."""
        return self.chunk_of + self.first_chunk[self.dataset_of]

    @property
    def chunk_starts(self) -> Indices:
        """Where each run of pieces of one chunk begins, and the length: int64 `[runs + 1]`."""
        breaks = np.flatnonzero(np.diff(self.numbered)) + 1
        return np.concatenate([self.starts[:1], self.starts[breaks], self.starts[-1:]])

    def chunks_between(self, start: int, stop: int) -> Indices:
        """The chunks that hold items `[start, stop)`, numbered across the datasets."""
        first = int(np.searchsorted(self.starts, start, side="right")) - 1
        last = int(np.searchsorted(self.starts, stop, side="left"))
        return np.unique(self.numbered[first : max(last, first)])

    def gather(
        self,
        firsts: Indices,
        ends: Sequence[int],
        length: int,
        dtype: np.dtype[Any],
        allocate: Allocate | None = None,
    ) -> list[NDArray[Any]]:
        """Copy stretches of the line.

        Args:
            firsts: int64 `[rows]` of all batches: where each stretch begins; all end on the line.
            ends: Where each batch ends among the rows.
            length: Items in each stretch, at least 1.
            dtype: The dtype of the result.
            allocate: Gives the memory of the results.

        Returns:
            One array `[rows, length, *item_shape]` per batch, fresh and writable.
        """
        pieces = np.searchsorted(self.starts, firsts, side="right") - 1
        chunks = self.numbered[pieces]
        distinct, slots = distinct_of(chunks)
        held = self._open(distinct)
        if held is None:

            def part(rows: Indices) -> list[Any]:
                return self.gather(firsts[rows], [len(rows)], length, dtype)

            return read_in_halves(chunks, ends, part, allocate)[0]
        crossing = firsts + length > self.starts[pieces + 1]
        begins = (self.offset_of[pieces] + firsts - self.starts[pieces]) * self.item.item_bytes
        addresses = self._addresses(held, distinct, slots, begins, length, crossing)
        across = np.flatnonzero(crossing)
        if len(across):
            # Assembled afterwards; until then any memory of the right length does.
            scratch = np.empty(length * self.item.item_bytes, np.uint8)
            addresses[across] = scratch.ctypes.data
        shape = (length, *self.item.item_shape)
        self._count(firsts, pieces, length)
        gathered = gather_rows(
            addresses, ends, self.item.dtype, shape, allocate=allocate, out_dtype=dtype
        )
        batch_of = np.searchsorted(ends, across, side="right").tolist()
        for row, batch in zip(across.tolist(), batch_of, strict=True):
            place = row - (ends[batch - 1] if batch else 0)
            self._assemble(gathered[batch][place], int(firsts[row]), int(pieces[row]))
        return gathered  # and not before: `held` and `scratch` keep the addresses valid

    def _count(self, firsts: Indices, pieces: Indices, length: int) -> None:
        row_bytes = length * self.item.item_bytes
        for number, dataset in enumerate(self.datasets):
            rows = (
                len(firsts)
                if len(self.datasets) == 1
                else int(np.count_nonzero(self.dataset_of[pieces] == number))
            )
            dataset.count_read(rows * row_bytes)

    def _open(self, chunks: Indices) -> list[Chunk] | None:
        """Open chunks, numbered across the datasets; None if they must not be open at once."""
        held: list[Chunk] = []
        of = np.searchsorted(self.first_chunk, chunks, side="right") - 1
        for number, dataset in enumerate(self.datasets):
            mine = chunks[of == number] - self.first_chunk[number]
            opened = dataset.open_within_limits(mine.tolist()) if len(mine) else []
            if opened is None:
                return None
            held.extend(opened)
        return held

    def _addresses(
        self,
        held: Sequence[Chunk],
        distinct: Indices,
        slots: Indices,
        begins: Indices,
        length: int,
        crossing: NDArray[np.bool_],
    ) -> Indices:
        """Make the bytes of stretches valid, but for those that cross, and give their addresses."""
        bases = np.empty(len(distinct), np.int64)
        of = np.searchsorted(self.first_chunk, distinct, side="right") - 1
        for slot, (number, chunk) in enumerate(zip(of.tolist(), held, strict=True)):
            offset, _ = chunk.span(self.column[number], "values")
            bases[slot] = chunk.address + offset
            if not chunk.is_complete:
                mine = begins[(slots == slot) & ~crossing] + offset
                chunk.ensure(mine, mine + length * self.item.item_bytes)
        return bases[slots] + begins

    def _assemble(self, row: NDArray[Any], first: int, piece: int) -> None:
        """Fill a row that lies in several pieces."""
        filled, item_bytes = 0, self.item.item_bytes
        while filled < len(row):
            within = first + filled - int(self.starts[piece])
            count = min(len(row) - filled, int(self.starts[piece + 1]) - first - filled)
            if count > 0:
                chunk, position = self._chunk(piece)
                begin, _ = chunk.span(position, "values")
                start = begin + (int(self.offset_of[piece]) + within) * item_bytes
                stop = start + count * item_bytes
                chunk.ensure(np.array([start]), np.array([stop]))
                values = read_bytes(chunk.address + start, stop - start).view(self.item.dtype)
                row[filled : filled + count] = values.reshape(count, *self.item.item_shape)
                filled += count
            piece += 1

    def _chunk(self, piece: int) -> tuple[Any, int]:
        number = int(self.dataset_of[piece])
        dataset = self.datasets[number]
        return dataset.open_chunks([int(self.chunk_of[piece])])[0], self.column[number]


def item_line(dataset: Dataset, column: str) -> ItemLine:
    """The line of a column's items in a stored dataset, or in a view that keeps samples whole.

    Raises:
        TypeError: The dataset is neither.
        KeyError: It has no such column.
        ValueError: The column's first axis does not vary.
    """
    line = getattr(dataset, "item_line", None)
    if line is not None:
        return line(column)  # type: ignore[no-any-return]
    if not isinstance(dataset, StoredDataset):
        raise TypeError(
            f"{type(dataset).__name__} cannot be cut into rows: it must be a stored dataset, or a "
            "split, subset, sample or concat of some"
        )
    position, item = _position(dataset, column)
    chunks = dataset.index.chunks
    base = dataset.index.schema.names[dataset.index.schema.offsets_of[position] or 0]
    if item.kind == "array":
        items = chunks.samples * (item.shape[0] or 0)
        item = Column(item.dtype, (None, *item.shape[1:]))
    else:
        items = chunks.values.get(base, np.empty(0, np.int64))
    starts = np.zeros(len(items) + 1, np.int64)
    np.cumsum(items, out=starts[1:])
    zeros = np.zeros(len(items), np.int64)
    return ItemLine((dataset,), (position,), item, starts, zeros, np.arange(len(items)), zeros)


def subset_line(dataset: Dataset, column: str, indices: Indices) -> ItemLine:
    """The line of some samples of a dataset, in the order of `indices`."""
    line = item_line(dataset, column)
    bounds = np.concatenate([[0], np.cumsum(sample_lengths(dataset, column))])
    # Neighbours that follow each other in storage make one run.
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    firsts = np.concatenate([[0], breaks])[: len(indices)]
    lasts = np.concatenate([breaks, [len(indices)]])[: len(firsts)] - 1
    begin, end = bounds[indices[firsts]], bounds[indices[lasts] + 1]
    filled = end > begin
    return _cut(line, begin[filled], end[filled])


def concat_lines(lines: Sequence[ItemLine]) -> ItemLine:
    """Lines of one item type, one after another."""
    for line in lines[1:]:
        if line.item != lines[0].item:
            raise ValueError(
                f"columns of different types cannot be laid end to end: {lines[0].item.describe()} "
                f"and {line.item.describe()}"
            )
    lengths = np.cumsum([0, *(len(line) for line in lines)])
    numbers = np.cumsum([0, *(len(line.datasets) for line in lines)])
    return ItemLine(
        tuple(dataset for line in lines for dataset in line.datasets),
        tuple(position for line in lines for position in line.column),
        lines[0].item,
        np.concatenate(
            [*(line.starts[:-1] + lengths[i] for i, line in enumerate(lines)), lengths[-1:]]
        ),
        np.concatenate([line.dataset_of + numbers[i] for i, line in enumerate(lines)]),
        np.concatenate([line.chunk_of for line in lines]),
        np.concatenate([line.offset_of for line in lines]),
    )


def sample_lengths(dataset: Dataset, column: str) -> Indices:
    """Items of each sample of a ragged column, int64 `[samples]`; reads no chunk."""
    lengths = getattr(dataset, "lengths", None)
    if lengths is None:
        raise TypeError(f"{type(dataset).__name__} does not know the lengths of its samples")
    return lengths(column)  # type: ignore[no-any-return]


def _cut(line: ItemLine, begin: Indices, end: Indices) -> ItemLine:
    """The line made of stretches `[begin, end)` of another, cut again where its pieces end."""
    first = np.searchsorted(line.starts, begin, side="right") - 1
    last = np.searchsorted(line.starts, end, side="left") - 1
    counts = last - first + 1
    stretch = np.repeat(np.arange(len(begin)), counts)
    ranks = np.arange(len(stretch)) - np.repeat(np.cumsum(counts) - counts, counts)
    piece = first[stretch] + ranks
    low = np.maximum(begin[stretch], line.starts[piece])
    high = np.minimum(end[stretch], line.starts[piece + 1])
    some = high > low
    piece, low, high = piece[some], low[some], high[some]
    starts = np.zeros(len(piece) + 1, np.int64)
    np.cumsum(high - low, out=starts[1:])
    return ItemLine(
        line.datasets,
        line.column,
        line.item,
        starts,
        line.dataset_of[piece],
        line.chunk_of[piece],
        line.offset_of[piece] + low - line.starts[piece],
    )


def _position(dataset: StoredDataset, column: str) -> tuple[int, Column]:
    schema = dataset.index.schema
    if column not in dataset.schema.names:
        raise KeyError(f'no column "{column}"; there are {list(dataset.schema.names)!r:.400}')
    position = schema.position(column)
    item = schema.columns[position]
    if item.kind not in ("array", "ragged") or not item.shape or item.has_shapes:
        raise ValueError(
            f'column "{column}" is {item.describe()}; it must be an array whose first axis is the '
            "one to cut"
        )
    return position, item
