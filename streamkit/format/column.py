"""One column: what a leaf of the sample is, over all samples.

A column says how its leaf is stored (kind, dtype, shape) and what comes back for one sample. It
holds no data and does no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike

from streamkit.errors import FormatError, SchemaError

ColumnKind = Literal["array", "ragged", "bytes", "str", "json", "image", "media", "pickle"]
ScalarType = Literal["int", "float", "bool", "complex", "numpy"]
BYTE_KINDS: tuple[str, ...] = ("bytes", "str", "json", "image", "media", "pickle")
_MAX_DIMENSIONS = 32
_DTYPE_NAME = re.compile(
    r"bool|u?int\d{1,2}|b?float\d{1,3}(_\w{1,12})?|complex\d{2,3}"
    r"|(datetime|timedelta)64(\[([1-9]\d{0,5})?[a-zA-Z]{1,2}\])?"
)
# An array of no bytes may still have long axes, which NumPy multiplies.
_MAX_VALUE_BYTES, _MAX_EMPTY_BYTES = 2**48, 2**31
_SCALAR_KINDS = {"int": "iu", "float": "f", "bool": "b", "complex": "c"}


@dataclass(frozen=True)
class Column:
    """The type of one leaf; also how a column is declared in `DatasetWriter(schema=...)`.

    `Column("float32", (64,))` is a fixed array, `Column("uint16", (None,))` a ragged one (None
    marks an axis whose length varies), `Column("str")`, `"bytes"`, `"json"`, `"image"`,
    `"media"` and `"pickle"` hold one value of bytes a sample.

    Attributes:
        type: A NumPy or ml_dtypes dtype (or its name), or the name of a bytes kind.
        shape: The shape of one sample's value; None for an axis that varies.
        scalar: Which scalar comes back for shape `()`: a Python "int", "float", "bool",
            "complex", a "numpy" scalar; None for an array of no dimensions.
        aligned: Name of the ragged column whose lengths this one shares, and whose offsets it
            uses.
        quality: For images: encode arrays and PIL images without encoded bytes as JPEG of this
            quality (1 to 100); None encodes losslessly.
        media: For media: the kind that all values have, "audio/wav" say.
    """

    type: DTypeLike
    shape: tuple[int | None, ...] = ()
    scalar: ScalarType | None = None
    aligned: str | None = None
    quality: int | None = None
    media: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.type, str) and self.type in BYTE_KINDS:
            if self.shape or self.scalar or self.aligned:
                raise ValueError(f'a column of type "{self.type}" has no shape, scalar or aligned')
        else:
            object.__setattr__(self, "type", storage_dtype(self.type))
        object.__setattr__(self, "shape", tuple(_axis(n, self.shape) for n in self.shape))
        if len(self.shape) > _MAX_DIMENSIONS:
            raise ValueError(f"shape {self.shape} has more than {_MAX_DIMENSIONS} dimensions")
        limit = _MAX_EMPTY_BYTES if 0 in self.shape else _MAX_VALUE_BYTES
        if self.dtype.itemsize * prod(n for n in self.shape if n) >= limit:
            raise ValueError(f"shape {self.shape} of {self.dtype.name} is too large for one value")
        if self.scalar is not None and (self.shape or self.scalar not in get_args(ScalarType)):
            raise ValueError(f"scalar={self.scalar!r} needs shape (), not {self.shape}")
        kinds = _SCALAR_KINDS.get(self.scalar or "numpy")
        if kinds and (self.dtype.kind not in kinds or self.dtype.type.__module__ == "ml_dtypes"):
            raise ValueError(f'scalar="{self.scalar}" does not go with the dtype {self.dtype.name}')
        if self.aligned is not None and not self.is_ragged:
            raise ValueError(f"aligned={self.aligned!r} needs a first axis of None in {self.shape}")
        if self.quality is not None and not (
            self.type == "image" and type(self.quality) is int and 1 <= self.quality <= 100
        ):
            raise ValueError(f"quality={self.quality!r} must be 1 to 100, on an image column")

    @cached_property
    def kind(self) -> ColumnKind:
        """What the leaf is: an "array", "ragged", or one of the bytes kinds."""
        if isinstance(self.type, str):
            return self.type  # type: ignore[return-value]
        return "ragged" if self.is_ragged else "array"

    @cached_property
    def is_ragged(self) -> bool:
        """Whether the values are arrays whose shape varies."""
        return None in self.shape

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the stored values; uint8 for the bytes kinds."""
        return np.dtype(np.uint8) if isinstance(self.type, str) else np.dtype(self.type)

    @cached_property
    def has_offsets(self) -> bool:
        """Whether the values of a sample are found through offsets."""
        return self.kind != "array"

    @cached_property
    def has_shapes(self) -> bool:
        """Whether the shape of each sample is stored: an axis other than the first varies."""
        return None in self.shape[1:]

    @cached_property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of what one step of the offsets counts: `()` where single elements are counted."""
        if self.kind == "array" or self.has_shapes:
            return ()
        return tuple(n for n in self.shape[1:] if n is not None)

    @cached_property
    def item_bytes(self) -> int:
        """Bytes of one item: a whole sample of a fixed column, one step of the offsets else."""
        if self.kind == "array":
            return self.dtype.itemsize * prod(n for n in self.shape if n is not None)
        return self.dtype.itemsize * prod(self.item_shape)

    def describe(self) -> str:
        """Say the type in a few words, for errors."""
        if isinstance(self.type, str):
            return f"{self.type} of kind {self.media!r}" if self.media else self.type
        return f"{self.dtype.name} {_show(self.shape)}"

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` builds the column."""
        value: dict[str, Any] = {
            "type": self.type if isinstance(self.type, str) else dtype_name(self.dtype)
        }
        if self.shape:
            value["shape"] = list(self.shape)
        for name in ("scalar", "aligned", "quality", "media"):
            if getattr(self, name) is not None:
                value[name] = getattr(self, name)
        return value

    @classmethod
    def from_json(cls, value: Any) -> Column:
        """Build a column from JSON; a `FormatError` says what is wrong with it."""
        known = {"type", "shape", "scalar", "aligned", "quality", "media"}
        if not isinstance(value, dict) or "type" not in value or not value.keys() <= known:
            raise FormatError(f"the schema holds {value!r:.120}, which is no column")
        strings = [value.get(key, "") for key in ("type", "scalar", "aligned", "media")]
        if not all(isinstance(item, str) for item in strings):
            raise FormatError(f"the schema holds {value!r:.120}, whose names are no strings")
        # NumPy reads far more than the names that are written, with warnings or at great length.
        if value["type"] not in BYTE_KINDS and not _DTYPE_NAME.fullmatch(value["type"]):
            raise FormatError(f"the schema holds {value!r:.120}, whose type is no name of a dtype")
        shape = value.get("shape", [])
        if not isinstance(shape, list):
            raise FormatError(f"the schema holds the shape {shape!r:.80}, which is no list")
        try:
            return cls(**{**value, "shape": tuple(shape)})
        except (ValueError, TypeError) as error:
            raise FormatError(f"the schema holds the column {value!r:.120}: {error}") from error

    def with_shape(self, shape: tuple[int | None, ...]) -> Column:
        """The same column with another shape."""
        return replace(self, shape=shape, scalar=None if shape else self.scalar)


def storage_dtype(type: DTypeLike) -> np.dtype[Any]:
    """The little-endian dtype in which values are stored.

    Raises:
        SchemaError: Not a number, bool, datetime64, timedelta64 or ml_dtypes dtype.
    """
    try:
        dtype = np.dtype(type)
    except TypeError as error:
        dtype = _ml_dtype(type, error)
    if dtype.kind in "biufcmM" or dtype.type.__module__ == "ml_dtypes":
        return dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype
    raise SchemaError(
        f"dtype {dtype} cannot be stored; numbers, bool, datetime64, timedelta64 and the "
        "ml_dtypes can (strings are leaves of their own; sk.Json(value) takes free forms)"
    )


def dtype_name(dtype: np.dtype[Any]) -> str:
    """The name under which a dtype stands in the schema: "float32", "datetime64[ns]"."""
    return dtype.name


def _ml_dtype(type: DTypeLike, error: TypeError) -> np.dtype[Any]:
    """A dtype that NumPy knows only once ml_dtypes is imported, such as "bfloat16"."""
    if isinstance(type, str):
        import ml_dtypes

        scalar = getattr(ml_dtypes, type, None)
        # A name such as "finfo" is an attribute too, but no scalar type.
        if isinstance(scalar, _TYPE) and issubclass(scalar, np.generic):
            return np.dtype(scalar)
    raise SchemaError(f"{type!r:.80} is no dtype and no kind of column: {error}") from error


_TYPE = type  # `type` is an argument's name above


def _axis(length: Any, shape: Any) -> int | None:
    if length is None:
        return None
    if (
        isinstance(length, (int, np.integer))
        and not isinstance(length, bool)
        and 0 <= length < 2**48
    ):
        return int(length)
    raise ValueError(f"shape {shape!r:.80} must hold lengths >= 0, or None for an axis that varies")


def _show(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
