"""Writing a dataset: samples in, chunks out, and one index at the end.

Chunks are stored under names never used before while samples come in, by one thread in the
background, so that at most two chunks are in memory. Nothing is visible until `close` swaps the
index in one step; a writer that fails, or is killed, leaves what was there before.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np

from streamkit.errors import SchemaError
from streamkit.format.builder import as_bytes, builders_for
from streamkit.format.commit import Commit, WriteMode
from streamkit.format.convert import Mismatch
from streamkit.format.encode import encode_chunk, parse_compression
from streamkit.format.index import ChunkTable, Index
from streamkit.format.layout import MAX_UNCHECKED_BYTES, plan_buffers
from streamkit.format.lengths import LengthsWriter
from streamkit.format.schema import Schema, SchemaProbe, mismatch
from streamkit.format.sizes import parse_bytes
from streamkit.format.tree import TreeSpec, flatten
from streamkit.storage import Store, open_store

PROBE_SAMPLES = 1000
_FAILED = "it failed, and has published nothing"


class DatasetWriter:
    """Writes samples (pytrees of arrays) as a dataset.

    ```python
    with sk.DatasetWriter("squares") as writer:
        for i in range(1000):
            writer.write({"x": i, "squared": np.float32(i) ** 2})
    ```

    Leaving the `with` block publishes the dataset; leaving it with an exception publishes nothing
    and removes what was written. Not thread-safe.

    Args:
        url: A directory that is empty or not there yet, or a store.
        schema: The tree of a sample with a `Column` (or int, float, bool, str, bytes) for each
            leaf; None takes it from the first samples.
        chunk_bytes: Raw bytes after which a chunk is closed: a number, or "32MB", "64MiB".
        chunk_samples: Samples after which a chunk is closed, if its bytes do not close it first.
        compression: None, "zstd" or "zstd:LEVEL".
        mode: "create" refuses a target with anything in it; "append" adds to a dataset of the
            same schema; "overwrite" replaces one.
        metadata: A JSON object kept in the index; append keeps the old one where this is None.
        keep_old: With "overwrite", leave the old chunks to readers that have them open.
        allow_pickle: Store leaves that fit nothing else as pickles, which can only be read with
            `allow_pickle=True`, and run code when they are.

    Raises:
        FileExistsError: "create" on a target that holds something.
        FileNotFoundError: "append" where no dataset is.
        SchemaError: A sample does not fit; it is not written, and writing can go on.
        WriteConflictError: On close: another writer published first.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Store,
        *,
        schema: Any = None,
        chunk_bytes: int | str = "32MB",
        chunk_samples: int | None = None,
        compression: str | None = None,
        mode: WriteMode = "create",
        metadata: Mapping[str, Any] | None = None,
        keep_old: bool = False,
        allow_pickle: bool = False,
    ):
        self._chunk_bytes = parse_bytes(chunk_bytes, "chunk_bytes")
        # Readers allow no more samples in a chunk, which may have no bytes, without a proof.
        most = MAX_UNCHECKED_BYTES
        if chunk_samples is not None and (
            type(chunk_samples) is not int or not 1 <= chunk_samples <= most
        ):
            raise ValueError(f"chunk_samples={chunk_samples!r} must be None or 1 to {most:,}")
        self._chunk_samples = chunk_samples or most
        self._level = parse_compression(compression)
        self._metadata = None if metadata is None else json.loads(json.dumps(dict(metadata)))
        self._compression, self._keep_old = compression, keep_old
        self._allow_pickle = allow_pickle
        self._commit = Commit(open_store(url), mode)
        self._base = self._commit.old if mode == "append" else None
        self._rows: list[ChunkTable] = []
        self._samples = 0
        self._probe: SchemaProbe | None = None
        self._pending: list[list[Any]] = []
        self._pending_bytes = 0
        self._schema: Schema | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="streamkit-writer")
        self._in_flight: Future[None] | None = None
        self._closed: str | None = None
        if schema is not None:
            self._freeze(Schema.declare(schema))
        if self._base is not None:
            self._continue(self._base)

    @property
    def num_samples(self) -> int:
        """Samples written so far, those of the dataset that is appended to not counted."""
        return self._samples

    def write(self, sample: Any) -> None:
        """Write one sample; its memory may be reused afterwards."""
        if self._closed or self._schema is None:
            self._check_open()
            self._look(sample)
            return
        leaves = self._schema.tree.flatten(sample)
        size = added = 0
        try:
            for add in self._adders:
                size += add(leaves[added])
                added += 1
            if self._aligned:
                self._check_aligned()
        except BaseException as error:
            self._truncate()
            if isinstance(error, Mismatch):
                raise self._mismatch(added, self._samples, error) from error
            raise
        self._samples += 1
        self._in_chunk += 1
        self._chunk_size += size
        if self._chunk_size >= self._chunk_bytes or self._in_chunk >= self._chunk_samples:
            self._store_chunk()

    def write_batch(self, batch: Any) -> None:
        """Write many samples whose columns are stacked already, which is the fast way.

        Args:
            batch: The tree of a sample, with an array `[rows, *shape]` for each fixed column and
                a sequence of values for each other one.

        Raises:
            SchemaError: A column does not fit, or columns differ in length; nothing is written.
        """
        self._check_open()
        if self._schema is None:
            self._learn_from_batch(batch)
            if self._schema is None:
                return
        assert self._schema is not None
        prepared, costs, rows = [], [], -1
        for number, leaf in enumerate(self._schema.tree.flatten(batch)):
            name = self._schema.names[number]
            _num_rows(name, leaf)
            try:
                values, cost = self._builders[number].prepare(leaf)
            except Mismatch as error:
                raise self._mismatch(number, self._samples + error.row, error) from error
            if rows not in (-1, len(values)):
                raise SchemaError(f'column "{name}" has {len(values)} rows, others have {rows}')
            rows = len(values)
            prepared.append(values)
            costs.append(cost)
        self._check_aligned_rows(prepared)
        # The running size after each row says where chunks end, as it does for single samples.
        sizes = np.cumsum(sum(costs) + np.zeros(rows, np.int64))
        is_fixed = all(isinstance(cost, int) for cost in costs)
        start, borrowed = 0, False
        try:
            while start < rows:
                before = int(sizes[start - 1]) if start else 0
                room = self._chunk_bytes - self._chunk_size + before
                stop = min(int(np.searchsorted(sizes, room)) + 1, rows)
                stop = max(min(stop, start + self._chunk_samples - self._in_chunk), start + 1)
                num_bytes = int(sizes[stop - 1]) - before
                if is_fixed and not self._in_chunk and num_bytes >= self._chunk_bytes:
                    # A whole chunk is stored from the caller's memory, without a copy.
                    buffers = [{"values": as_bytes(values[start:stop])} for values in prepared]
                    borrowed = True
                    self._hand_over(buffers, {}, stop - start)
                else:
                    self._extend(prepared, start, stop, num_bytes)
                self._samples += stop - start
                start = stop
        finally:
            if borrowed:
                self._wait()

    def _extend(self, prepared: list[Any], start: int, stop: int, num_bytes: int) -> None:
        """Copy rows of checked columns into the chunk."""
        try:
            for builder, values in zip(self._builders, prepared, strict=True):
                builder.extend(values, start, stop)
        except BaseException:
            self._truncate()
            raise
        self._in_chunk += stop - start
        self._chunk_size += num_bytes
        if self._chunk_size >= self._chunk_bytes or self._in_chunk >= self._chunk_samples:
            self._store_chunk()

    def close(self) -> None:
        """Store what is left and publish the dataset in one step.

        Raises:
            ValueError: The writer failed before, so that there is nothing to publish.
            WriteConflictError: Another writer published first.
        """
        if self._closed == _FAILED:
            self._check_open()
        if self._closed:
            return
        try:
            if self._schema is None:
                self._freeze(self._probed_schema())
            if self._in_chunk:
                self._store_chunk()
            self._wait()
            self._publish()
        except BaseException:
            self._abort()
            raise
        self._closed = "it was closed"
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        elif not self._closed:
            self._abort()

    def _publish(self) -> None:
        assert self._schema is not None
        lengths, base = self._lengths.close(), self._base
        old = base or Index(self._schema)
        index = Index(
            self._schema,
            self._compression,
            ChunkTable.join([old.chunks, *self._rows]),
            {k: ChunkTable.join([old.lengths.get(k, ChunkTable()), v]) for k, v in lengths.items()},
            old.metadata if self._metadata is None else self._metadata,
        )
        self._commit.publish(index, keep_old=self._keep_old)

    def _abort(self) -> None:
        """Publish nothing, and remove what was stored."""
        self._closed = _FAILED
        self._commit.abort()
        self._pool.shutdown(cancel_futures=True)

    # -- schema -------------------------------------------------------------------------------

    def _continue(self, base: Index) -> None:
        """Append to a dataset: with its schema, and its compression if none is said."""
        if self._schema is not None and self._schema != base.schema:
            raise SchemaError(
                "schema= differs from that of the dataset to append to: "
                f"{self._schema.to_json()!r:.400} and {base.schema.to_json()!r:.400}"
            )
        if self._compression is None:
            self._compression = base.compression
            self._level = parse_compression(self._compression)
        self._freeze(base.schema)

    def _probed_schema(self) -> Schema:
        if self._probe is None:
            raise ValueError(
                "nothing was written and no schema= declared, so there is no dataset to publish; "
                "declare the schema to write an empty one"
            )
        return self._probe.schema()

    def _look(self, sample: Any) -> None:
        """Keep a sample until the schema is known."""
        probe = self._probe or self._new_probe(flatten(sample)[1])
        leaves = probe.tree.flatten(sample)
        kept = probe.keep(leaves, self._samples)
        probe.look(leaves, self._samples)
        schema = probe.schema()
        self._probe = probe
        self._pending.append(kept)
        self._pending_bytes += sum(_rough_bytes(leaf) for leaf in kept)
        self._samples += 1
        if len(self._pending) >= PROBE_SAMPLES or self._pending_bytes >= self._chunk_bytes:
            self._freeze(schema)

    def _new_probe(self, tree: TreeSpec) -> SchemaProbe:
        return SchemaProbe(tree, allow_pickle=self._allow_pickle)

    def _learn_from_batch(self, batch: Any) -> None:
        """Take the schema from the rows of a batch, and from the samples before it."""
        probe = copy.copy(self._probe) or self._new_probe(flatten(batch, batch=True)[1])
        columns = probe.tree.flatten(batch)
        counts = {_num_rows(name, c) for name, c in zip(probe.tree.names, columns, strict=True)}
        if len(counts) > 1:
            raise SchemaError(f"the columns of the batch have {sorted(counts)} rows, not one count")
        rows = min([*counts, PROBE_SAMPLES])
        for row in range(rows):
            probe.look([column[row] for column in columns], self._samples + row)
        if rows:
            self._freeze(probe.schema())

    def _freeze(self, schema: Schema) -> None:
        self._schema = schema
        self._plan = plan_buffers(schema)
        self._builders = builders_for(schema.columns, allow_pickle=self._allow_pickle)
        self._aligned = [
            (number, base)
            for number, base in enumerate(schema.offsets_of)
            if base is not None and base != number
        ]
        self._lengths = LengthsWriter(schema, self._commit, self._level)
        self._in_chunk = self._chunk_size = 0
        self._adders = [builder.add for builder in self._builders]
        pending, self._pending, self._samples = self._pending, [], 0
        try:
            for leaves in pending:
                self.write(schema.tree.unflatten(leaves))
        except BaseException:
            self._abort()  # these samples were accepted, so they must not be missing
            raise

    def _check_aligned(self) -> None:
        for number, base in self._aligned:
            ours, theirs = self._builders[number].last_length, self._builders[base].last_length
            if ours != theirs:
                self._raise_unaligned(number, base, ours, theirs, self._samples)

    def _check_aligned_rows(self, prepared: list[Any]) -> None:
        for number, base in self._aligned:
            for row, (a, b) in enumerate(zip(prepared[number], prepared[base], strict=True)):
                if len(a) != len(b):
                    self._raise_unaligned(number, base, len(a), len(b), self._samples + row)

    def _raise_unaligned(
        self, number: int, base: int, ours: int | None, theirs: int | None, at: int
    ) -> None:
        names = self._schema.names if self._schema else ()
        expected = f'the length {theirs} of "{names[base]}"'
        raise mismatch(names[number], at, Mismatch(expected, f"length {ours}"))

    def _mismatch(self, column: int, sample: int, error: Mismatch) -> SchemaError:
        assert self._schema is not None
        return mismatch(self._schema.names[column], sample, error)

    def _truncate(self) -> None:
        """Take out of the builders what does not belong to a whole sample."""
        for builder in self._builders:
            if builder.num_samples > self._in_chunk:
                builder.truncate(self._in_chunk)

    # -- chunks -------------------------------------------------------------------------------

    def _store_chunk(self) -> None:
        """Store what is in the builders as a chunk."""
        assert self._schema is not None
        try:
            self._wait()  # before the copies below, so that there are two chunks at the most
            buffers = [builder.buffers() for builder in self._builders]
            lengths = {
                self._schema.names[number]: self._builders[number].lengths()
                for number, base in enumerate(self._schema.offsets_of)
                if base == number
            }
            samples, self._in_chunk, self._chunk_size = self._in_chunk, 0, 0
            for builder in self._builders:
                builder.clear()
        except BaseException:
            self._abort()  # a chunk may be lost, and a dataset with a hole must not be published
            raise
        self._hand_over(buffers, lengths, samples)

    def _hand_over(self, buffers: Any, lengths: Any, samples: int) -> None:
        """Hand a chunk to the background, once the one before is stored."""
        try:
            self._wait()
            self._in_flight = self._pool.submit(
                self._store_in_background, buffers, lengths, samples
            )
        except BaseException:
            self._abort()
            raise

    def _store_in_background(self, buffers: Any, lengths: Any, samples: int) -> None:
        assert self._schema is not None
        chunk = encode_chunk(self._schema, self._plan, buffers, samples, level=self._level)
        name = self._commit.new_name(f"{len(self._rows):06d}.skc")
        self._commit.store(name, chunk.parts)
        self._lengths.add(lengths)
        values = {column: int(items.sum()) for column, items in lengths.items()}
        self._rows.append(ChunkTable.row(name, samples, chunk, values))

    def _wait(self) -> None:
        """Wait until the chunk in the background is stored; its error is raised here."""
        future, self._in_flight = self._in_flight, None
        if future is not None:
            try:
                future.result()
            except BaseException:
                self._abort()  # the chunk is lost, and a dataset with a hole must not be published
                raise

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the writer takes no more samples: {self._closed}")


def _num_rows(name: str, column: Any) -> int:
    """Rows of a stacked column.

    Raises:
        SchemaError: It has none, being a single value.
    """
    try:
        return len(column)
    except TypeError as error:
        raise SchemaError(
            f'column "{name}" of the batch is a {type(column).__name__}, not a value for each row'
        ) from error


def _rough_bytes(leaf: Any) -> int:
    nbytes = getattr(leaf, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    try:
        return 8 * len(leaf) if isinstance(leaf, list) else len(leaf)
    except TypeError:
        return 8
