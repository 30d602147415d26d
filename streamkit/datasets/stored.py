"""A dataset in storage: the index says where samples lie, open chunks give their bytes.

Every read takes the same way: indices to chunks and rows (one search), chunks from the pool,
frames made valid, rows gathered by address. All columns of all batches of one call share the
first three steps.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from streamkit.cache import OpenPool
from streamkit.datasets.base import (
    Allocate,
    ArraySpec,
    Batch,
    Dataset,
    Indices,
    Place,
    Sample,
    as_indices,
)
from streamkit.datasets.opening import ChunkOpener
from streamkit.datasets.options import DEFAULT_CACHE_BYTES, DEFAULT_OPEN_CHUNKS, ReadOptions
from streamkit.datasets.parts import read_in_halves
from streamkit.datasets.rows import Rows, distinct_of, one_by_one
from streamkit.format.chunk import Chunk
from streamkit.format.column import Column
from streamkit.format.images import ImageOptions
from streamkit.format.index import INDEX_NAME, Index
from streamkit.format.lengths import read_lengths
from streamkit.format.schema import Schema, select
from streamkit.format.sizes import parse_bytes
from streamkit.storage import Store, open_store


def open(
    url: str | os.PathLike[str] | Store,
    *,
    columns: Sequence[str] | None = None,
    verify: bool = True,
    images: ImageOptions | None = None,
    decoders: Mapping[str, Callable[[bytes], Any]] | None = None,
    allow_pickle: bool = False,
    cache_bytes: int | str = DEFAULT_CACHE_BYTES,
    max_open_chunks: int = DEFAULT_OPEN_CHUNKS,
) -> StoredDataset:
    """Open a dataset for reading. Reads its index, and no chunk.

    Args:
        url: A directory or `file://` URL, or a store.
        columns: Names of the columns to read ("x", "a/b"; a node stands for all below it); None
            reads all.
        verify: Check each frame (32 KiB) before its first use.
        images: How images are decoded; `sk.ImageOptions(decode=False)` gives the encoded bytes.
        decoders: Per kind of `sk.Media` ("audio/wav"), a function from bytes to a value; kinds
            without one come back as `sk.Media`.
        allow_pickle: Load pickled columns. This runs code that the dataset brings with it.
        cache_bytes: The most memory kept for chunks that cannot be mapped (compressed ones).
        max_open_chunks: The most chunks kept mapped or in memory. A call reads more of them in
            parts; chunks that calls in other threads still read count beside these.

    Returns:
        The dataset, as it is now: later appends and overwrites do not change it.

    Raises:
        FileNotFoundError: There is no index at this place.
        FormatError: The index is not valid.
        KeyError: A name in `columns` is no column.
    """
    store = open_store(url)
    options = ReadOptions(
        verify=verify,
        allow_pickle=allow_pickle,
        images=images or ImageOptions(),
        decoders=dict(decoders or {}),
        max_open_chunks=max_open_chunks,
        cache_bytes=parse_bytes(cache_bytes, "cache_bytes"),
    )
    try:
        data = store.read(INDEX_NAME)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"{store.url}: no dataset here (there is no {INDEX_NAME}); was the writer closed?"
        ) from error
    index = Index.from_bytes(data, f"{store.url}/{INDEX_NAME}")
    return StoredDataset(store, index, columns=columns, options=options)


class StoredDataset(Dataset):
    """A dataset in a store; `sk.open` makes it. Thread-safe and picklable.

    After a fork, or in the process that unpickled it, chunks are opened again when first used.
    """

    def __init__(
        self,
        store: Store,
        index: Index,
        *,
        columns: Sequence[str] | None = None,
        options: ReadOptions | None = None,
    ):
        self._store, self._index = store, index
        self._columns = None if columns is None else list(columns)
        self._options = options or ReadOptions()
        self._open = ChunkOpener(store, index, self._options.verify)
        schema = index.schema
        if columns is None:
            self._tree, self._positions = schema.tree, tuple(range(len(schema.columns)))
        else:
            self._tree, self._positions = select(schema, columns)
        if not self._options.allow_pickle:
            for position in self._positions:
                if schema.columns[position].kind == "pickle":
                    raise ValueError(
                        f'column "{schema.names[position]}" holds pickles, which run code when '
                        "they are read; say allow_pickle=True if you trust the dataset"
                    )
        self._bytes_read = 0
        self._start_process()

    def _start_process(self) -> None:
        """Begin with no chunk open, and locks of our own (those of a parent may be held)."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pool: OpenPool[int, Chunk] = OpenPool(
            self._open,
            lambda chunk: chunk.own_bytes,
            max_items=self._options.max_open_chunks,
            max_bytes=self._options.cache_bytes,
        )

    def __getstate__(self) -> dict[str, Any]:
        own = ("_pool", "_lock", "_pid")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _bytes_read=0)
        self._start_process()

    def __repr__(self) -> str:
        return (
            f"<StoredDataset {self._store.url!r}: {len(self):,} samples, {list(self.schema.names)}>"
        )

    def __len__(self) -> int:
        return self._index.num_samples

    @cached_property
    def schema(self) -> Schema:
        """The schema of the columns that are read."""
        columns = self._index.schema.columns
        chosen = tuple(columns[position] for position in self._positions)
        if len(chosen) == len(columns):
            return self._index.schema
        # An aligned column may be read without the one that it shares its lengths with.
        kept = set(self._tree.names)
        return Schema(
            self._tree,
            tuple(c if c.aligned is None or c.aligned in kept else _unaligned(c) for c in chosen),
        )

    @property
    def index(self) -> Index:
        """The version of the dataset that is open."""
        return self._index

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The JSON object that the writer was given."""
        return self._index.metadata

    @property
    def element_spec(self) -> Any:
        """The tree of one sample with an `ArraySpec` for each leaf."""
        return self._tree.unflatten([array_spec(c, self._options) for c in self.schema.columns])

    @property
    def chunk_sizes(self) -> Indices:
        """Samples per chunk, int64 `[chunks]`."""
        return self._index.chunks.samples

    @property
    def fingerprint(self) -> str:
        """A hash of content and layout, equal for copies of the dataset; columns= is not in it."""
        return self._index.fingerprint

    def prefix_fingerprint(self, num_samples: int) -> str | None:
        """The fingerprint that the first `num_samples` had before an append, if there was one."""
        starts = self._index.chunks.starts
        count = int(np.searchsorted(starts, num_samples))
        if count >= len(starts) or starts[count] != num_samples:
            return None
        return self._index.fingerprint_of(count)

    @property
    def bytes_read(self) -> int:
        """Bytes of samples handed out; a forked process counts on from where its parent was."""
        return self._bytes_read

    def lengths(self, column: str) -> Indices:
        """Items of each sample of a column, int64 `[samples]`; reads no chunk.

        The array of a column that is not ragged is read-only.
        """
        schema = self._index.schema
        base = schema.offsets_of[schema.position(column)]
        if base is None:
            fixed = schema.column(column).shape
            # One number in memory, however many samples an index claims.
            return np.broadcast_to(np.int64((fixed[0] or 0) if fixed else 1), len(self))
        name = schema.names[base]
        try:
            return read_lengths(self._store, self._index, name, verify=self._options.verify)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._open.missing(self._index.lengths[name].names) from error

    def close(self) -> None:
        """Let go of all chunks; reading opens them again."""
        if self._pid == os.getpid():
            self._pool.clear()
        else:
            self._start_process()

    def locate(self, indices: Any) -> Indices:
        """The chunks that samples need: sorted distinct chunk numbers, int64."""
        return np.unique(self._chunks_of(as_indices(indices, len(self))))

    def gather(self, indices: Any, *, at: Place | None = None) -> Batch:
        """Read samples as one batch; see `Dataset.gather`."""
        return self.gather_batches([as_indices(indices, len(self))])[0]

    def gather_batches(
        self,
        batches: Sequence[Indices],
        *,
        places: Sequence[Place] | None = None,
        allocate: Allocate | None = None,
    ) -> list[Batch]:
        """Read many batches at once; see `Dataset.gather_batches`."""
        if not batches:
            return []
        ends = np.cumsum([len(indices) for indices in batches]).tolist()
        together = batches[0] if len(batches) == 1 else np.concatenate(batches)
        columns = self._columns_of(as_indices(together, len(self)), ends, allocate)
        unflatten = self._tree.unflatten
        return [unflatten(leaves) for leaves in zip(*columns, strict=True)]

    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Sample]:
        """Read samples one tree each; see `Dataset.samples`."""
        indices = as_indices(indices, len(self))
        read = self._columns_of(indices, [len(indices)], None)
        columns = [
            one_by_one(values, self._index.schema.columns[position])
            for position, (values,) in zip(self._positions, read, strict=True)
        ]
        unflatten = self._tree.unflatten
        return [unflatten(leaves) for leaves in zip(*columns, strict=True)]

    def open_chunks(self, numbers: Sequence[int]) -> list[Chunk]:
        """Open chunks; they stay valid while the list is held."""
        if self._pid != os.getpid():
            self._start_process()
        return self._pool.get(numbers)

    def open_within_limits(self, numbers: Sequence[int]) -> list[Chunk] | None:
        """Open chunks, or give None if that many must not be open at once; one always may."""
        options = self._options
        if len(numbers) > max(options.max_open_chunks, 1):
            return None
        held = self.open_chunks(numbers)
        if len(held) > 1 and sum(chunk.own_bytes for chunk in held) > options.cache_bytes:
            return None
        return held

    def _columns_of(
        self, indices: Indices, ends: Sequence[int], allocate: Allocate | None
    ) -> list[list[Any]]:
        """Each column of each batch, whose rows end at `ends`."""
        chunks = self._chunks_of(indices)
        distinct, slots = distinct_of(chunks)
        held = self.open_within_limits(distinct.tolist())
        if held is None:

            def part(rows: Indices) -> list[Any]:
                return [values for (values,) in self._columns_of(indices[rows], [len(rows)], None)]

            return read_in_halves(chunks, ends, part, allocate)
        rows = indices - self._index.chunks.starts[chunks]
        read = Rows(self._index.schema, self._options, held, slots, rows, ends)
        columns = [read.column(position, allocate) for position in self._positions]
        self.count_read(read.num_bytes)
        return columns

    def _chunks_of(self, indices: Indices) -> Indices:
        return np.searchsorted(self._index.chunks.starts, indices, side="right") - 1

    def count_read(self, num_bytes: int) -> None:
        """Add to `bytes_read`; views that read chunks themselves call it."""
        with self._lock:
            self._bytes_read += num_bytes


def array_spec(column: Column, options: ReadOptions) -> ArraySpec:
    """What a leaf of one sample looks like when it is read."""
    if column.kind in ("array", "ragged"):
        return ArraySpec(column.shape, column.dtype, column.kind)
    if column.kind == "image" and options.images.decode:
        return ArraySpec((None, None, None), np.dtype(np.uint8), "image")
    return ArraySpec((), None, column.kind)


def _unaligned(column: Column) -> Column:
    return Column(column.dtype, column.shape)
