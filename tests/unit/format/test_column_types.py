"""Columns: what can be declared, and what a leaf is taken for."""

import ml_dtypes
import numpy as np
import pytest

from streamkit import Column, FormatError, SchemaError
from streamkit.format.column import storage_dtype

DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "longdouble", "complex64", "complex128", "clongdouble",
    "datetime64[ns]", "datetime64[25s]", "timedelta64[D]", "datetime64",
    "bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4",
]  # fmt: skip


@pytest.mark.parametrize("name", DTYPES)
def test_a_column_comes_back_from_json(name: str) -> None:
    column = Column(name, (None, 3))
    assert Column.from_json(column.to_json()) == column
    assert column.kind == "ragged"
    assert column.item_bytes == 3 * column.dtype.itemsize
    assert column.dtype.isnative


def test_big_endian_is_stored_little_endian() -> None:
    assert storage_dtype(">i4") == np.dtype("<i4")
    assert storage_dtype(np.dtype(">c16")) == np.dtype("<c16")


@pytest.mark.parametrize("dtype", ["U5", "S3", "O", [("a", "i4")], "V8", "finfo", "nothing"])
def test_dtypes_that_cannot_be_stored(dtype: object) -> None:
    with pytest.raises(SchemaError):
        Column(dtype)  # type: ignore[arg-type]


def test_ml_dtypes_are_known_by_name() -> None:
    assert Column("bfloat16").dtype == np.dtype(ml_dtypes.bfloat16)
    assert Column("int4").dtype == np.dtype(ml_dtypes.int4)


@pytest.mark.parametrize(
    ("shape", "kind", "has_shapes", "item_shape"),
    [
        ((), "array", False, ()),
        ((2, 3), "array", False, ()),
        ((None,), "ragged", False, ()),
        ((None, 3), "ragged", False, (3,)),
        ((3, None), "ragged", True, ()),
        ((None, None), "ragged", True, ()),
    ],
)
def test_the_shape_says_how_a_column_is_stored(
    shape: tuple[int | None, ...], kind: str, has_shapes: bool, item_shape: tuple[int, ...]
) -> None:
    column = Column("float32", shape)
    assert (column.kind, column.has_shapes, column.item_shape) == (kind, has_shapes, item_shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type": "str", "shape": (3,)}, 'type "str" has no shape'),
        ({"type": "f4", "shape": (-1,)}, "lengths >= 0"),
        ({"type": "f4", "shape": (True,)}, "lengths >= 0"),
        ({"type": "f4", "shape": (1,) * 33}, "more than 32 dimensions"),
        ({"type": "f4", "shape": (2,), "scalar": "float"}, r"needs shape \(\)"),
        ({"type": "f4", "scalar": "decimal"}, "scalar='decimal'"),
        ({"type": "f4", "scalar": "int"}, 'scalar="int" does not go with the dtype float32'),
        ({"type": "bfloat16", "scalar": "float"}, "does not go with the dtype bfloat16"),
        ({"type": "f4", "shape": (2,), "aligned": "x"}, "needs a first axis of None"),
        ({"type": "f4", "quality": 50}, "on an image column"),
        ({"type": "image", "quality": 101}, "must be 1 to 100"),
    ],
)
def test_columns_that_contradict_themselves(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column(**arguments)


@pytest.mark.parametrize(
    "value",
    [5, {}, {"type": 5}, {"type": "f4", "more": 1}, {"type": "f4", "shape": 3}, {"type": "f4",
     "shape": ["a"]}, {"type": "f4", "scalar": 5}, {"type": "nothing"}],
)  # fmt: skip
def test_a_stored_column_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="the schema holds"):
        Column.from_json(value)
