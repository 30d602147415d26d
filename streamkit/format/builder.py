"""Columns in the making: values come in one sample or one batch at a time, buffers go out.

A builder owns copies of all that it was given, so that callers may reuse their memory. Values are
checked on their way in (`convert.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.errors import SchemaError
from streamkit.format.column import Column
from streamkit.format.convert import ENCODERS, Encoded, Mismatch, as_array, exact, shape_fits

Bytes = NDArray[np.uint8]
_INITIAL_BYTES = 64 * 1024
# Python scalars that their column holds as they are; others are checked one by one.
_SCALAR_TYPES: dict[tuple[str | None, np.dtype[Any]], type] = {
    ("int", np.dtype(np.int64)): int,
    ("float", np.dtype(np.float64)): float,
    ("bool", np.dtype(np.bool_)): bool,
    ("complex", np.dtype(np.complex128)): complex,
}


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
        self._scalar = _SCALAR_TYPES.get((column.scalar, column.dtype))
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
        if isinstance(values, (list, tuple)):
            array = self._stack(values)
        else:
            array = np.asarray(values)
            if array.ndim == 0 or array.shape[1:] != self._shape:
                expected = f"rows of {self.column.describe()}"
                raise Mismatch(expected, f"an array of shape {list(array.shape)}")
            array = exact(array, self.column)
        return array, self._row_bytes

    def _stack(self, values: Sequence[Any]) -> NDArray[Any]:
        try:
            array = np.asarray(values)
            if array.dtype == self._dtype and array.shape == (len(values), *self._shape):
                return array
        except (ValueError, TypeError, RuntimeError):
            pass  # looking at each row says which one it is
        rows = _each(as_array, values, self.column)
        return np.array(rows, self._dtype).reshape(len(rows), *self._shape)

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
        first = _INITIAL_BYTES // max(self._row_bytes, 1)
        self._capacity = max(rows, 2 * self._capacity, first)
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
        rows = _each(as_array, values, self.column)
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
        if type(value) is not Encoded:
            value = self._encode(value, self.column)
        return self._append(value)

    def prepare(self, values: Any) -> tuple[Any, int | NDArray[np.int64]]:
        if isinstance(values, (str, bytes)):
            raise Mismatch(f"rows of {self.column.describe()}", f"one {type(values).__name__}")
        rows = _each(self._encode, values, self.column)
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
    return _BytesBuilder(column, ENCODERS[column.kind])


def as_bytes(array: NDArray[Any]) -> Bytes:
    """View an array's memory as bytes `[nbytes]`, without a copy where it is contiguous."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Running sums of lengths from 0, int64 `[len + 1]`."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _each(
    convert: Callable[[Any, Column], Any], values: Iterable[Any], column: Column
) -> list[Any]:
    """Convert the rows of a stacked column; a `Mismatch` says which row it is."""
    converted: list[Any] = []
    for row, value in enumerate(values):
        try:
            converted.append(convert(value, column))
        except Mismatch as error:
            error.row = row
            raise
    return converted


def builders_for(columns: Sequence[Column], *, allow_pickle: bool) -> list[ColumnBuilder]:
    """A builder for each column."""
    return [make_builder(column, allow_pickle=allow_pickle) for column in columns]
