"""The index of a dataset: `index.json`, the one object that is replaced, and the last committed.

```
{"format": "streamkit", "version": 1,
 "schema": {"tree": ..., "columns": [...]},
 "compression": null | "zstd:3",
 "samples": 300000,
 "chunks": <table>,
 "lengths": {"tokens": <table>},          sidecars: lengths of all samples, per ragged column
 "metadata": {...},                       the user's
 "fingerprint": "32 hex digits",
 "checksum": "16 hex digits"}             xxh3_64 of the text up to and without this line

table = {"count": 2,
         "names": "a-000000.skc a-000001.skc",     relative to the index
         "samples": "7813 7813", "bytes": ..., "head_bytes": ...,
         "checksums": "16 hex digits each, end to end",   of the headers
         "values": {"tokens": "123 456"}}          items per ragged column (chunks only)
```

Tables are parallel arrays, each one string of decimals: a million chunks load in a second, and a
hostile index cannot make the JSON parser build more objects than its size allows.

The *fingerprint* is xxh3_128 over the canonical schema, the samples of each chunk and the
checksums of their headers, so that it covers content and layout, and not names. It can be taken
of the first chunks alone, which tells an append from a change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from streamkit.errors import FormatError
from streamkit.format.encode import EncodedChunk
from streamkit.format.layout import MAX_EXPANSION, MAX_UNCHECKED_BYTES, hash_bytes
from streamkit.format.schema import Schema

INDEX_NAME = "index.json"
VERSION = 1
_CHECKSUM_LINE = b',\n"checksum": "'
_MAX_PARSE_BYTES = 64 * 1000 * 1000
_BYTES_PER_TOKEN = 100
_KEYS = {"format", "version", "schema", "compression", "samples", "chunks", "lengths", "metadata",
         "fingerprint", "checksum"}  # fmt: skip


@dataclass(frozen=True)
class ChunkTable:
    """Objects that hold samples one after another, as parallel arrays `[chunks]`.

    Attributes:
        names: Object names relative to the index.
        samples: int64, samples in each.
        num_bytes: int64, bytes of each object.
        head_bytes: int64, bytes of header and offsets.
        checksums: uint64, checksums of the headers.
        values: Per ragged column int64, the items that each chunk has of it.
    """

    names: tuple[str, ...] = ()
    samples: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    num_bytes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    head_bytes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    checksums: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    values: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """The first sample of each chunk, and the number of all: int64 `[chunks + 1]`."""
        starts = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.samples, out=starts[1:])
        return starts

    @classmethod
    def row(
        cls, name: str, samples: int, chunk: EncodedChunk, values: Mapping[str, int] | None = None
    ) -> ChunkTable:
        """The table of one object."""
        return cls(
            (name,),
            np.array([samples], np.int64),
            np.array([chunk.num_bytes], np.int64),
            np.array([chunk.head_bytes], np.int64),
            np.array([chunk.checksum], np.uint64),
            {column: np.array([items], np.int64) for column, items in (values or {}).items()},
        )

    @classmethod
    def join(cls, tables: Sequence[ChunkTable]) -> ChunkTable:
        """Tables of the same columns, one after another."""
        tables = [table for table in tables if len(table)]
        if not tables:
            return cls()
        return cls(
            tuple(name for table in tables for name in table.names),
            np.concatenate([table.samples for table in tables]),
            np.concatenate([table.num_bytes for table in tables]),
            np.concatenate([table.head_bytes for table in tables]),
            np.concatenate([table.checksums for table in tables]),
            {k: np.concatenate([t.values[k] for t in tables]) for k in tables[0].values},
        )

    def to_json(self) -> dict[str, Any]:
        """The table as JSON."""
        table: dict[str, Any] = {
            "count": len(self),
            "names": " ".join(self.names),
            "samples": _join(self.samples),
            "bytes": _join(self.num_bytes),
            "head_bytes": _join(self.head_bytes),
            "checksums": self.checksums.astype(">u8").tobytes().hex(),
        }
        if self.values:
            table["values"] = {name: _join(items) for name, items in self.values.items()}
        return table

    @classmethod
    def from_json(cls, value: Any, columns: Sequence[str], where: str) -> ChunkTable:
        """Read a table from JSON; a `FormatError` says what is wrong with it."""
        if not isinstance(value, dict) or type(value.get("count")) is not int:
            raise FormatError(f"{where}: the table of objects is {value!r:.80}")
        count = value["count"]
        text = _string(value, "names", where)
        # Counted before it is split, which takes more memory than the text.
        if text.count(" ") != max(count - 1, 0):
            raise FormatError(f"{where}: {text.count(' ') + 1:,} names for {count:,} objects")
        names = tuple(text.split())
        for name in names:
            check_name(name, where)
        if len(names) != count or len(set(names)) != count:
            raise FormatError(f"{where}: {len(set(names))} different names for {count} objects")
        try:
            checksums = np.frombuffer(bytes.fromhex(_string(value, "checksums", where)), ">u8")
        except ValueError as error:
            raise FormatError(f"{where}: checksums are not hexadecimal: {error}") from error
        if len(checksums) != count:
            raise FormatError(f"{where}: {len(checksums)} checksums for {count} objects")
        values = value.get("values", {})
        if not isinstance(values, dict) or (count and set(values) != set(columns)):
            raise FormatError(f"{where}: values of {values!r:.80}, not of {list(columns)!r:.80}")
        return cls(
            names,
            _split(value, "samples", count, where),
            _split(value, "bytes", count, where),
            _split(value, "head_bytes", count, where),
            checksums.astype(np.uint64),
            {name: _split(values, name, count, where) for name in values},
        )


@dataclass(frozen=True)
class Index:
    """One version of a dataset.

    Attributes:
        schema: The tree of a sample and its columns.
        compression: As `DatasetWriter` was given it.
        chunks: The chunks.
        lengths: Per ragged column the sidecar objects with the lengths of all samples.
        metadata: The user's own JSON object.
    """

    schema: Schema
    compression: str | None = None
    chunks: ChunkTable = field(default_factory=ChunkTable)
    lengths: Mapping[str, ChunkTable] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def num_samples(self) -> int:
        """All samples."""
        return int(self.chunks.starts[-1])

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the whole dataset."""
        return self.fingerprint_of(len(self.chunks))

    def fingerprint_of(self, num_chunks: int) -> str:
        """The fingerprint of the first chunks."""
        state = xxhash.xxh3_128(self.schema.canonical)
        state.update(self.chunks.samples[:num_chunks].astype("<i8").tobytes())
        state.update(self.chunks.checksums[:num_chunks].astype("<u8").tobytes())
        return state.hexdigest()

    @property
    def object_names(self) -> set[str]:
        """All objects that the index names."""
        return set(self.chunks.names).union(*(table.names for table in self.lengths.values()))

    def to_bytes(self) -> bytes:
        """The text of `index.json`."""
        value = {
            "format": "streamkit",
            "version": VERSION,
            "schema": self.schema.to_json(),
            "compression": self.compression,
            "samples": self.num_samples,
            "chunks": self.chunks.to_json(),
            "lengths": {name: table.to_json() for name, table in self.lengths.items()},
            "metadata": dict(self.metadata),
            "fingerprint": self.fingerprint,
        }
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()]
        body = ("{" + ",\n".join(lines)).encode()
        if _is_too_dense(body):
            raise ValueError(
                "the metadata holds so many values that readers would refuse the index (about "
                "600,000 are allowed); store them as an object or a dataset of their own"
            )
        return body + _CHECKSUM_LINE + f'{hash_bytes(body):016x}"}}\n'.encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Index:
        """Read `index.json`.

        Args:
            data: Its text.
            where: Its URL, for errors.

        Raises:
            FormatError: It is cut short, changed, or breaks a rule of the format.
        """
        value = _parse(data, where)
        try:
            schema = Schema.from_json(value["schema"])
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from error
        ragged = schema.ragged_names
        chunks = ChunkTable.from_json(value["chunks"], ragged, f"{where}, chunks")
        lengths, metadata = value["lengths"], value["metadata"]
        if not isinstance(lengths, dict) or set(lengths) != set(ragged):
            raise FormatError(f"{where}: lengths of {lengths!r:.80}, not of {list(ragged)!r:.80}")
        if not isinstance(metadata, dict) or not isinstance(
            value["compression"], (str, type(None))
        ):
            raise FormatError(f"{where}: metadata or compression is of the wrong type")
        index = cls(
            schema,
            value["compression"],
            chunks,
            {
                name: ChunkTable.from_json(table, (), f"{where}, lengths of {name}")
                for name, table in lengths.items()
            },
            metadata,
        )
        index._check(value, where)
        return index

    def _check(self, value: Mapping[str, Any], where: str) -> None:
        # Sums in floating point show what would overflow in the int64 of `starts`.
        item_bytes = max(column.item_bytes for column in self.schema.columns)
        for table in (self.chunks, *self.lengths.values()):
            totals = [float(n.sum(dtype=np.float64)) for n in (table.samples, table.num_bytes,
                      table.head_bytes, *table.values.values())]  # fmt: skip
            if max(totals) >= 2.0**56 or totals[0] * item_bytes >= 2.0**62:
                raise FormatError(f"{where}: objects claim more than 2**56 samples, bytes or items")
            limits = np.maximum(MAX_UNCHECKED_BYTES, MAX_EXPANSION * table.num_bytes)
            if (table.samples > limits).any():
                raise FormatError(f"{where}: objects claim more samples than they can hold")
        for name, table in self.lengths.items():
            if int(table.starts[-1]) != self.num_samples:
                raise FormatError(
                    f"{where}: lengths of column {name} for {int(table.starts[-1]):,} samples, not "
                    f"{self.num_samples:,}"
                )
        if (self.num_samples, self.fingerprint) != (value["samples"], value["fingerprint"]):
            raise FormatError(
                f"{where}: {self.num_samples:,} samples with the fingerprint {self.fingerprint}, "
                f"but it says {value['samples']!r:.40} and {value['fingerprint']!r:.40}"
            )


def check_name(name: str, where: str) -> None:
    """Refuse a name that leads out of the dataset, that no file can have, or of the index."""
    parts = name.split("/")
    if (
        any(not part or part.startswith(".") or len(part) > 255 for part in parts)
        or len(name) > 1000
        or not name.isprintable()
        or "\\" in name
        or ":" in name
    ):
        raise FormatError(f"{where}: the name {name!r:.80} leads out of the dataset, or is no name")
    if name.lower() == INDEX_NAME:
        raise FormatError(f"{where}: the index names itself as one of its objects")


def _parse(data: bytes, where: str) -> dict[str, Any]:
    body, found, tail = data.rpartition(_CHECKSUM_LINE)
    stored = f'{hash_bytes(body):016x}"}}'.encode()
    if not found or tail.strip() != stored:
        what = (
            f"checksum is {stored[:16].decode()}, the file says {tail[:16]!r}"
            if found
            else (f"no checksum at the end of {len(data):,} bytes")
        )
        raise FormatError(f"{where}: not a whole streamkit index ({what}); it was cut short, "
                          "edited, or belongs to another format")  # fmt: skip
    if _is_too_dense(body):
        raise FormatError(f"{where}: {len(data):,} bytes hold too many JSON values")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: not JSON: {error}") from error
    if not isinstance(value, dict) or value.get("format") != "streamkit":
        raise FormatError(f'{where}: its "format" is not "streamkit"')
    if value.get("version") != VERSION:
        raise FormatError(
            f"{where}: version {value.get('version')!r:.40}; this streamkit reads version {VERSION}"
        )
    if value.keys() != _KEYS:
        odd = sorted(_KEYS.symmetric_difference(value))
        raise FormatError(f"{where}: unknown or missing entries {odd!r:.200}")
    return value


def _is_too_dense(body: bytes) -> bool:
    """Whether JSON would take more memory as objects than its size allows."""
    # Every value, list or object of a JSON text stands behind one of these bytes.
    tokens = body.count(b",") + body.count(b"[") + body.count(b"{")
    return tokens * _BYTES_PER_TOKEN > max(_MAX_PARSE_BYTES, 4 * len(body))


def _join(numbers: NDArray[np.int64]) -> str:
    return " ".join(map(str, numbers.tolist()))


def _string(value: Mapping[str, Any], key: str, where: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text.isascii():
        raise FormatError(f"{where}: {key} is {text!r:.60}, not a string of ASCII")
    return text


def _split(value: Mapping[str, Any], key: str, count: int, where: str) -> NDArray[np.int64]:
    text = _string(value, key, where)
    if text.count(" ") != max(count - 1, 0):
        raise FormatError(f"{where}: {text.count(' ') + 1:,} numbers in {key} for {count:,}")
    if text.encode().translate(None, b"0123456789 "):
        raise FormatError(f"{where}: {key} holds more than decimals: {text!r:.60}")
    if _has_long_run(text):
        raise FormatError(f"{where}: {key} holds a number of more than 18 digits")
    numbers = np.fromstring(text, np.int64, sep=" ") if text.strip() else np.empty(0, np.int64)
    if len(numbers) != count:
        raise FormatError(f"{where}: {len(numbers):,} numbers in {key} for {count:,} objects")
    return numbers


def _has_long_run(text: str) -> bool:
    spaces = np.flatnonzero(np.frombuffer(text.encode(), np.uint8) == ord(" "))
    edges = np.concatenate([[-1], spaces, [len(text)]])
    return bool((np.diff(edges) > 19).any())
