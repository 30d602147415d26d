"""Columns in the making: values come in one sample or one batch at a time, buffers go out.

A builder owns copies of all that it was given, so that callers may reuse their memory. It checks
every value against its column and raises `Mismatch`, which the writer turns into a `SchemaError`
with the sample's number.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.errors import SchemaError
from streamkit.format.column import Column, storage_dtype
from streamkit.format.images import Image, encode_array, encode_pil, is_pil_image
from streamkit.format.json_leaf import Json, encode_json
from streamkit.format.media import Media
from streamkit.format.tree import is_number_list

Bytes = NDArray[np.uint8]
_INITIAL_ROWS = 1024
_SCALAR_TYPES: dict[str | None, type] = {
    "int": int,
    "float": float,
    "bool": bool,
    "complex": complex,
}


class Mismatch(Exception):
    """A value does not fit its column.

    Attributes:
        expected: What the column holds, in words.
        found: What the value is, in words.
        remedy: What to do about it, if anything is known.
    """

    def __init__(self, expected: str, found: str, remedy: str = ""):
        super().__init__(expected, found, remedy)
        self.expected, self.found, self.remedy = expected, found, remedy


class ColumnBuilder(ABC):
    """Collects the values of one column for one chunk.

    Attributes:
        column: What the values must be.
        num_samples: How many there are.
    """

    def __init__(self, column: Column):
        self.column = column
        self.num_samples = 0

    @property
    def last_length(self) -> int | None:
        """Items of the last sample, for a ragged column."""
        return None

    @abstractmethod
    def add(self, value: Any) -> int:
        """Take in the value of one sample.

        Returns:
            The bytes that it takes in the chunk.
        """

    @abstractmethod
    def extend(self, values: Any, start: int, stop: int) -> None:
        """Take in rows `[start, stop)` of a stacked column that `prepare` has checked."""

    @abstractmethod
    def prepare(self, values: Any) -> tuple[Any, int | NDArray[np.int64]]:
        """Check a stacked column.

        Returns:
            The column as `extend` takes it, and the bytes of each row: one number for all, or
            int64 `[rows]`.
        """

    @abstractmethod
    def truncate(self, num_samples: int) -> None:
        """Forget all values after the first `num_samples`."""

    @abstractmethod
    def lengths(self) -> NDArray[np.int64] | None:
        """Items per sample of a column with offsets, int64 `[samples]`; None for a fixed one."""

    @abstractmethod
    def buffers(self) -> dict[str, Bytes]:
        """The buffers by role ("offsets", "shapes", "values"), as bytes; valid until `clear`."""

    @abstractmethod
    def clear(self) -> None:
        """Start the next chunk."""


class _FixedBuilder(ColumnBuilder):
    """Arrays of one shape, laid side by side in memory that grows by doubling."""

    def __init__(self, column: Column):
        super().__init__(column)
        self._shape = tuple(n for n in column.shape if n is not None)
        self._dtype = column.dtype
        self._scalar = _SCALAR_TYPES.get(column.scalar)
        self._data = np.empty((0, *self._shape), self._dtype)
        self._capacity = 0
        self._row_bytes = column.item_bytes

    def add(self, value: Any) -> int:
        row = self.num_samples
        if row == self._capacity:
            self._grow(row + 1)
        if type(value) is np.ndarray and value.shape == self._shape and value.dtype == self._dtype:
            self._data[row] = value
        elif type(value) is self._scalar:
            try:
                self._data[row] = value
            except OverflowError as error:
                raise Mismatch(self.column.describe(), f"the int {value}") from error
        else:
            self._data[row] = as_array(value, self.column)
        self.num_samples = row + 1
        return self._row_bytes

    def prepare(self, values: Any) -> tuple[Any, int | NDArray[np.int64]]:
        array = np.asarray(values)
        expected = self.column.describe()
        if array.ndim == 0 or array.shape[1:] != self._shape:
            raise Mismatch(f"rows of {expected}", f"an array of shape {list(array.shape)}")
        return _exact(array, self.column, python=isinstance(values, list)), self._row_bytes

    def extend(self, values: Any, start: int, stop: int) -> None:
        row = self.num_samples
        end = row + stop - start
        if end > self._capacity:
            self._grow(end)
        self._data[row:end] = values[start:stop]
        self.num_samples = end

    def truncate(self, num_samples: int) -> None:
        self.num_samples = num_samples

    def lengths(self) -> NDArray[np.int64] | None:
        return None

    def buffers(self) -> dict[str, Bytes]:
        return {"values": as_bytes(self._data[: self.num_samples])}

    def clear(self) -> None:
        # New memory: the old one may still be on its way to storage.
        self._data = np.empty_like(self._data)
        self.truncate(0)

    def _grow(self, rows: int) -> None:
        self._capacity = max(rows, 2 * self._capacity, _INITIAL_ROWS)
        grown = np.empty((self._capacity, *self._shape), self._dtype)
        grown[: self.num_samples] = self._data[: self.num_samples]
        self._data = grown


class _RaggedBuilder(ColumnBuilder):
    """Arrays whose shape varies, laid end to end."""

    def __init__(self, column: Column):
        super().__init__(column)
        self._parts: list[NDArray[Any]] = []
        self._lengths: list[int] = []
        self._shapes: list[tuple[int, ...]] = []
        # Offsets and shapes are int64; aligned columns use the offsets of another.
        self._row_bytes = (0 if column.aligned else 8) + (
            8 * len(column.shape) if column.has_shapes else 0
        )

    def add(self, value: Any) -> int:
        column = self.column
        if not (
            type(value) is np.ndarray
            and value.dtype == column.dtype
            and shape_fits(value.shape, column.shape)
        ):
            value = as_array(value, column)
        return self._append(value.copy())

    def prepare(self, values: Any) -> tuple[Any, int | NDArray[np.int64]]:
        rows = [as_array(value, self.column) for value in values]
        sizes = np.fromiter((row.nbytes for row in rows), np.int64, len(rows))
        return rows, sizes + self._row_bytes

    def extend(self, values: Any, start: int, stop: int) -> None:
        for value in values[start:stop]:
            self._append(value.copy())

    def _append(self, value: NDArray[Any]) -> int:
        self._parts.append(value.reshape(-1))
        self._lengths.append(value.size if self.column.has_shapes else len(value))
        if self.column.has_shapes:
            self._shapes.append(value.shape)
        self.num_samples += 1
        return value.nbytes + self._row_bytes

    @property
    def last_length(self) -> int | None:
        return self._lengths[-1]

    def truncate(self, num_samples: int) -> None:
        del self._parts[num_samples:], self._lengths[num_samples:], self._shapes[num_samples:]
        self.num_samples = num_samples

    def lengths(self) -> NDArray[np.int64]:
        return np.array(self._lengths, np.int64)

    def buffers(self) -> dict[str, Bytes]:
        values = np.concatenate([np.empty(0, self.column.dtype), *self._parts])
        buffers = {"values": as_bytes(values)}
        if not self.column.aligned:
            buffers["offsets"] = as_bytes(offsets_of(self.lengths()))
        if self.column.has_shapes:
            shapes = np.array(self._shapes, np.int64).reshape(-1, len(self.column.shape))
            buffers["shapes"] = as_bytes(shapes)
        return buffers

    def clear(self) -> None:
        self._parts, self._lengths, self._shapes = [], [], []
        self.num_samples = 0


class _BytesBuilder(ColumnBuilder):
    """Values that an encoder turns into bytes, laid end to end."""

    def __init__(self, column: Column, encode: Callable[[Any, Column], bytes]):
        super().__init__(column)
        self._encode = encode
        self._parts: list[bytes] = []

    def add(self, value: Any) -> int:
        return self._append(self._encode(value, self.column))

    def prepare(self, values: Any) -> tuple[Any, int | NDArray[np.int64]]:
        if isinstance(values, (str, bytes)):
            raise Mismatch(f"rows of {self.column.describe()}", f"one {type(values).__name__}")
        rows = [self._encode(value, self.column) for value in values]
        return rows, np.fromiter(map(len, rows), np.int64, len(rows)) + 8

    def extend(self, values: Any, start: int, stop: int) -> None:
        for value in values[start:stop]:
            self._append(value)

    def _append(self, value: bytes) -> int:
        self._parts.append(value)
        self.num_samples += 1
        return len(value) + 8

    def truncate(self, num_samples: int) -> None:
        del self._parts[num_samples:]
        self.num_samples = num_samples

    def lengths(self) -> NDArray[np.int64]:
        return np.fromiter(map(len, self._parts), np.int64, len(self._parts))

    def buffers(self) -> dict[str, Bytes]:
        return {
            "offsets": as_bytes(offsets_of(self.lengths())),
            "values": np.frombuffer(b"".join(self._parts), np.uint8),
        }

    def clear(self) -> None:
        self._parts = []
        self.num_samples = 0


def make_builder(column: Column, *, allow_pickle: bool = False) -> ColumnBuilder:
    """The builder for a column.

    Raises:
        SchemaError: The column is a pickle, and `allow_pickle` is not said.
    """
    if column.kind == "array":
        return _FixedBuilder(column)
    if column.kind == "ragged":
        return _RaggedBuilder(column)
    if column.kind == "pickle" and not allow_pickle:
        raise SchemaError("a column of pickles can be written with allow_pickle=True only")
    return _BytesBuilder(column, _ENCODERS[column.kind])


def as_array(value: Any, column: Column) -> NDArray[Any]:
    """Turn a leaf into an array of the column's dtype and shape.

    Python numbers and lists of them take the column's dtype where that keeps their value (floats
    may be rounded); everything else must have the dtype already.

    Raises:
        Mismatch: It has another dtype or shape.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise Mismatch(column.describe(), f"a {type(value).__name__} ({error})") from error
    python = isinstance(value, (bool, int, float, complex)) or is_number_list(value)
    array = _exact(array, column, python=python)
    if not shape_fits(array.shape, column.shape):
        ragged = len(array.shape) == len(column.shape)
        raise Mismatch(
            column.describe(),
            f"{array.dtype.name} {list(array.shape)}",
            "a column whose shape varies after the first samples must be declared: "
            f'schema={{..., sk.Column("{array.dtype.name}", '
            f"{tuple(None for _ in array.shape)})}}"
            if ragged
            else "",
        )
    return array


def shape_fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether an array of this shape fits a column of that one."""
    return shape == expected or (
        len(shape) == len(expected)
        and all(b is None or a == b for a, b in zip(shape, expected, strict=True))
    )


def as_bytes(array: NDArray[Any]) -> Bytes:
    """View an array's memory as bytes `[nbytes]`, without a copy where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Running sums of lengths from 0, int64 `[len + 1]`."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _exact(array: NDArray[Any], column: Column, *, python: bool) -> NDArray[Any]:
    """The array in the column's dtype; Python numbers are converted where that is safe."""
    if array.dtype == column.dtype:
        return array
    found = f"{array.dtype.name} {list(array.shape)}"
    try:
        stored = storage_dtype(array.dtype)
    except SchemaError as error:
        raise Mismatch(column.describe(), found) from error
    if stored == column.dtype:  # big-endian
        return array.astype(column.dtype)
    if not python or not (array.size == 0 or _keeps_value(array, column.dtype)):
        remedy = f"convert it with .astype({column.dtype.name!r}) if that loses nothing"
        raise Mismatch(column.describe(), found, remedy)
    return array.astype(column.dtype)


def _keeps_value(array: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Whether Python numbers may take this dtype: kinds widen, and integers must be in range."""
    ranks = "biufc"
    source, target = array.dtype.kind, dtype.kind
    if source in "iu" and target in "iu":
        limits = np.iinfo(dtype)
        return int(array.min()) >= limits.min and int(array.max()) <= limits.max
    if source in "iu" and target in "fc":
        return bool((array.astype(dtype).astype(array.dtype) == array).all())
    if source == "f" and dtype.type.__module__ == "ml_dtypes":
        return "int" not in dtype.name
    return source in "fc" and target in "fc" and ranks.index(source) <= ranks.index(target)


def _encode_bytes(value: Any, column: Column) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise Mismatch("bytes", f"a {type(value).__name__}")


def _encode_str(value: Any, column: Column) -> bytes:
    if not isinstance(value, str):
        raise Mismatch("str", f"a {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise Mismatch("str that UTF-8 can encode", f"{value!r:.60} ({error.reason})") from error


def _encode_json(value: Any, column: Column) -> bytes:
    return encode_json(value.value if isinstance(value, Json) else value)


def _encode_image(value: Any, column: Column) -> bytes:
    if isinstance(value, Image):
        return value.data
    if is_pil_image(value):
        return encode_pil(value, quality=column.quality)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Image(bytes(value)).data
    if isinstance(value, np.ndarray) and value.dtype.kind == "u":
        return encode_array(value, quality=column.quality)
    raise Mismatch("an image (sk.Image, PIL, encoded bytes)", f"a {type(value).__name__}")


def _encode_media(value: Any, column: Column) -> bytes:
    if isinstance(value, Media):
        if value.kind != column.media:
            raise Mismatch(column.describe(), f"media of kind {value.kind!r}")
        return value.data
    raise Mismatch(column.describe(), f"a {type(value).__name__}")


def _encode_pickle(value: Any, column: Column) -> bytes:
    return pickle.dumps(value, protocol=5)


_ENCODERS: dict[str, Callable[[Any, Column], bytes]] = {
    "bytes": _encode_bytes,
    "str": _encode_str,
    "json": _encode_json,
    "image": _encode_image,
    "media": _encode_media,
    "pickle": _encode_pickle,
}


def builders_for(columns: Sequence[Column], *, allow_pickle: bool) -> list[ColumnBuilder]:
    """A builder for each column."""
    return [make_builder(column, allow_pickle=allow_pickle) for column in columns]
