"""One leaf to what its column stores: an array of its dtype and shape, or encoded bytes.

Every value is checked here. One that does not fit is a `Mismatch`, which the writer turns into a
`SchemaError` with the names of column and sample.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.errors import SchemaError
from streamkit.format.column import Column, storage_dtype
from streamkit.format.images import Image, encode_array, encode_pil, is_pil_image
from streamkit.format.json_leaf import Json, encode_json
from streamkit.format.media import Media
from streamkit.format.tree import is_number_list


class Mismatch(Exception):
    """A value does not fit its column.

    Attributes:
        expected: What the column holds, in words.
        found: What the value is, in words.
        remedy: What to do about it, if anything is known.
        row: Which row of a stacked column it is.
    """

    def __init__(self, expected: str, found: str, remedy: str = ""):
        super().__init__(expected, found, remedy)
        self.expected, self.found, self.remedy = expected, found, remedy
        self.row = 0


class Encoded(bytes):
    """What a bytes column stores of a value that was encoded before."""


def keep(value: Any, column: Column) -> Any:
    """Check a value, and make it one that its caller cannot change, for a builder to come.

    Raises:
        Mismatch: It cannot be stored as its type asks for.
    """
    if isinstance(column.type, str):
        return Encoded(ENCODERS[column.type](value, column))
    if not _is_python(value):
        return np.asarray(value).copy()
    as_array(value, column)
    return value.copy() if isinstance(value, list) else value


def as_array(value: Any, column: Column) -> NDArray[Any]:
    """Turn a leaf into an array of the column's dtype and shape.

    Python numbers and lists of them take the column's dtype where that keeps their value (floats
    may be rounded); everything else must have the dtype already.

    Raises:
        Mismatch: It has another dtype or shape.
    """
    try:
        array = to_numpy(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise Mismatch(column.describe(), f"a {type(value).__name__} ({error})") from error
    if array.dtype != column.dtype:
        array = _convert(array, column) if _is_python(value) else exact(array, column)
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


def to_numpy(value: Any) -> NDArray[Any]:
    """View a leaf as an array; integers stay integers."""
    array = np.asarray(value)
    if array.dtype.kind == "f" and array.size and type(value) is list:
        # NumPy makes float64 of integers that fit in no signed dtype.
        objects = np.array(value, np.object_)
        if all(isinstance(number, int) for number in objects.flat):
            return objects.astype(np.uint64) if objects.min() >= 0 else objects
    return array


def shape_fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether an array of this shape fits a column of that one."""
    return shape == expected or (
        len(shape) == len(expected)
        and all(b is None or a == b for a, b in zip(shape, expected, strict=True))
    )


def exact(array: NDArray[Any], column: Column) -> NDArray[Any]:
    """The array in the column's dtype, which it must have in one byte order or the other."""
    if array.dtype == column.dtype:
        return array
    found = f"{array.dtype.name} {list(array.shape)}"
    try:
        stored = storage_dtype(array.dtype)
    except SchemaError as error:
        raise Mismatch(column.describe(), found) from error
    if stored != column.dtype:
        remedy = f"convert it with .astype({column.dtype.name!r}) if that loses nothing"
        raise Mismatch(column.describe(), found, remedy)
    return array.astype(column.dtype)


def _convert(array: NDArray[Any], column: Column) -> NDArray[Any]:
    """Python numbers in the column's dtype; integers stay exact, and finite floats finite."""
    if array.size == 0:
        return array.astype(column.dtype)  # NumPy makes float64 of an empty list
    keeps = _KEEPS_VALUES.get(_number_kind(array.dtype) + _number_kind(column.dtype))
    if keeps is not None:
        with np.errstate(all="ignore"):
            converted = array.astype(column.dtype)
            if keeps(array, converted):
                return converted
    raise Mismatch(column.describe(), f"{array.tolist()!r:.80}", "it cannot hold these values")


def _keeps_integers(array: NDArray[Any], converted: NDArray[Any]) -> bool:
    # What wrapped around once wraps back, but its sign shows it.
    same = (converted.astype(array.dtype) == array) & ((converted < 0) == (array < 0))
    return bool(same.all())


def _keeps_as_floats(array: NDArray[Any], converted: NDArray[Any]) -> bool:
    # Python compares an int with a float exactly; NumPy rounds it first.
    wide = np.complex128 if converted.dtype.kind == "c" else np.float64
    return bool(converted.astype(wide).tolist() == array.tolist())


def _keeps_finite(array: NDArray[Any], converted: NDArray[Any]) -> bool:
    wide = converted.astype(np.complex128 if converted.dtype.kind == "c" else np.float64)
    finite = np.isfinite(wide) == np.isfinite(array)
    return bool((finite & (np.isnan(wide) == np.isnan(array))).all())


# From one kind of number to another: what must be the same afterwards.
_KEEPS_VALUES: dict[str, Callable[[NDArray[Any], NDArray[Any]], bool]] = {
    "ii": _keeps_integers,
    "if": _keeps_as_floats,
    "ic": _keeps_as_floats,
    "ff": _keeps_finite,
    "fc": _keeps_finite,
    "cc": _keeps_finite,
}


def _number_kind(dtype: np.dtype[Any]) -> str:
    """The kind of a number: "i" (unsigned too), "f", "c"; the dtype's own kind for others."""
    if dtype.type.__module__ == "ml_dtypes":
        return "i" if "int" in dtype.name else "f"
    return "i" if dtype.kind == "u" else dtype.kind


def _is_python(value: Any) -> bool:
    """Whether a value is a Python number, or lists of them nested to any depth."""
    if type(value) is list:
        return is_number_list(value) or all(map(_is_python, value))
    return type(value) in (bool, int, float, complex)


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
    try:
        return encode_json(value.value if isinstance(value, Json) else value)
    except SchemaError as error:
        raise Mismatch("a value that JSON can hold", str(error)) from error


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
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:  # whatever the value's own __reduce__ raises
        found = f"a {type(value).__name__} ({error})"
        raise Mismatch("a value that can be pickled", found) from error


ENCODERS: dict[str, Callable[[Any, Column], bytes]] = {
    "bytes": _encode_bytes,
    "str": _encode_str,
    "json": _encode_json,
    "image": _encode_image,
    "media": _encode_media,
    "pickle": _encode_pickle,
}
