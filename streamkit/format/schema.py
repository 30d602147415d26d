"""The schema of a dataset: the tree of a sample and a column for each leaf.

A schema is declared, or inferred from the first samples: while no chunk has been written, a
column whose shape varies becomes ragged; dtypes never change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from streamkit.errors import FormatError, SchemaError
from streamkit.format.column import Column, storage_dtype
from streamkit.format.convert import Mismatch, as_array, keep, to_numpy
from streamkit.format.images import Image, is_pil_image
from streamkit.format.json_leaf import Json
from streamkit.format.media import Media
from streamkit.format.tree import LEAF, MAX_NAME_LENGTH, TreeSpec, flatten, is_number_list

_MAX_COLUMNS = 4096
_PYTHON_SCALARS = {bool: "bool", int: "int", float: "float", complex: "complex"}
_SHORTHANDS: dict[type, Column] = {
    bool: Column(np.bool_, scalar="bool"),
    int: Column(np.int64, scalar="int"),
    float: Column(np.float64, scalar="float"),
    complex: Column(np.complex128, scalar="complex"),
    str: Column("str"),
    bytes: Column("bytes"),
}


@dataclass(frozen=True)
class Schema:
    """The tree of a sample, and its columns in the order of the tree's leaves.

    Attributes:
        tree: The structure of one sample.
        columns: One column per leaf.
    """

    tree: TreeSpec
    columns: tuple[Column, ...]
    names: tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if (leaves := self.tree.count_leaves()) != len(self.columns):
            raise SchemaError(f"a tree of {leaves:,} leaves with {len(self.columns):,} columns")
        object.__setattr__(self, "names", self.tree.names)
        if (longest := max(map(len, self.names), default=0)) > MAX_NAME_LENGTH:
            raise SchemaError(f"a name of {longest:,} letters; {MAX_NAME_LENGTH:,} are allowed")
        if len(self.names) != len(self.columns) or not self.columns:
            raise SchemaError(
                f"a tree of {len(self.names)} leaves with {len(self.columns)} columns; a sample "
                "needs at least one leaf, and a column for each"
            )
        if len(self.columns) > _MAX_COLUMNS:
            raise SchemaError(f"{len(self.columns)} columns; at most {_MAX_COLUMNS} are allowed")
        if len(set(self.names)) != len(self.names):
            raise SchemaError(f"two leaves have the same name: {list(self.names)!r:.200}")
        for name, column in zip(self.names, self.columns, strict=True):
            if column.aligned is not None:
                self._check_aligned(name, column)

    def _check_aligned(self, name: str, column: Column) -> None:
        base = dict(zip(self.names, self.columns, strict=True)).get(column.aligned or "")
        if base is None or base is column or base.aligned or not base.is_ragged:
            raise SchemaError(
                f'column "{name}" is aligned with "{column.aligned}", which must be a ragged '
                "column that is not aligned itself"
            )
        if base.has_shapes or column.has_shapes:
            raise SchemaError(f'column "{name}": aligned columns may vary in the first axis only')

    def column(self, name: str) -> Column:
        """The column of this name; a `KeyError` lists the names there are."""
        return self.columns[self.position(name)]

    def position(self, name: str) -> int:
        """Where the column of this name stands among the leaves."""
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f'no column "{name}"; there are {list(self.names)!r:.400}') from None

    @cached_property
    def offsets_of(self) -> tuple[int | None, ...]:
        """For each column the column that holds its offsets: itself, another, or None."""
        return tuple(
            None
            if not column.has_offsets
            else self.position(column.aligned)
            if column.aligned
            else number
            for number, column in enumerate(self.columns)
        )

    @cached_property
    def ragged_names(self) -> tuple[str, ...]:
        """Names of the columns that have offsets of their own."""
        return tuple(
            name for number, name in enumerate(self.names) if self.offsets_of[number] == number
        )

    @cached_property
    def canonical(self) -> bytes:
        """The schema as canonical JSON, which is hashed into chunks and fingerprint."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()

    def to_json(self) -> dict[str, Any]:
        """A JSON object from which `from_json` builds the schema."""
        return {
            "tree": self.tree.to_json(),
            "columns": [column.to_json() for column in self.columns],
        }

    @classmethod
    def from_json(cls, value: Any) -> Schema:
        """Build a schema from JSON; a `FormatError` says what is wrong with it."""
        if not isinstance(value, dict) or value.keys() != {"tree", "columns"}:
            raise FormatError(f"the schema is {value!r:.80}, not a tree and its columns")
        if not isinstance(value["columns"], list):
            raise FormatError("the schema's columns are no list")
        try:
            return cls(
                TreeSpec.from_json(value["tree"]),
                tuple(Column.from_json(column) for column in value["columns"]),
            )
        except (SchemaError, KeyError) as error:
            raise FormatError(f"the schema is not valid: {error}") from error

    @classmethod
    def declare(cls, value: Any) -> Schema:
        """Build a schema from a tree of `Column`s, or of int, float, bool, str and bytes."""
        if isinstance(value, Schema):
            return value
        leaves, tree = flatten(value)
        columns = []
        for name, leaf in zip(tree.names, leaves, strict=True):
            column = _SHORTHANDS.get(leaf) if isinstance(leaf, type) else leaf
            if not isinstance(column, Column):
                raise SchemaError(
                    f'column "{name}" is declared as {leaf!r:.80}; use sk.Column("float32", (64,)) '
                    "or one of int, float, bool, complex, str, bytes"
                )
            columns.append(column)
        return cls(tree, tuple(columns))


class SchemaProbe:
    """Learns a schema from the first samples: shapes that vary become ragged.

    A sample that does not fit changes nothing. `look` replaces the lists below and leaves the old
    ones as they are, so that a shallow copy of a probe can be tried and thrown away.

    Attributes:
        tree: The structure of a sample.
        columns: What the samples so far have in common; empty before the first.
    """

    def __init__(self, tree: TreeSpec, *, allow_pickle: bool):
        self.tree = tree
        self.columns: list[Column] = []
        self._undecided: list[bool] = []  # only empty lists so far, whose dtype is not known
        self._allow_pickle = allow_pickle

    def look(self, leaves: Sequence[Any], number: int) -> None:
        """Take in one more sample.

        Raises:
            SchemaError: Another type, dtype or number of dimensions than the samples before.
        """
        columns, undecided = [], []
        for position, (name, leaf) in enumerate(zip(self.tree.names, leaves, strict=True)):
            seen = infer_column(name, leaf, number, allow_pickle=self._allow_pickle)
            open_still = _is_empty_list(leaf)
            if self.columns:
                column = self.columns[position]
                if not self._undecided[position]:
                    seen, open_still = _as_before(column, seen, leaf), False
                elif not open_still and len(seen.shape) == 1:
                    column = seen.with_shape((0,))
                seen = _widen(name, column, seen, number)
            columns.append(seen)
            undecided.append(open_still)
        self.columns, self._undecided = columns, undecided

    def keep(self, leaves: Sequence[Any], number: int) -> list[Any]:
        """Copy the leaves of a sample, for builders that are made once the schema is known.

        Raises:
            SchemaError: A value cannot be stored.
        """
        kept = []
        for name, leaf in zip(self.tree.names, leaves, strict=True):
            column = infer_column(name, leaf, number, allow_pickle=self._allow_pickle)
            try:
                kept.append(keep(leaf, column))
            except Mismatch as error:
                raise mismatch(name, number, error) from error
        return kept

    def schema(self) -> Schema:
        """The schema of the samples so far."""
        return Schema(self.tree, tuple(self.columns))


def infer_column(name: str, value: Any, number: int, *, allow_pickle: bool) -> Column:
    """The column that a leaf would have.

    Raises:
        SchemaError: The leaf is of a type that cannot be stored.
    """
    kind = type(value)
    if kind in _PYTHON_SCALARS:
        return _SHORTHANDS[kind]
    if isinstance(value, str):
        return Column("str")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Column("bytes")
    if isinstance(value, Json):
        return Column("json")
    if isinstance(value, Image) or is_pil_image(value):
        return Column("image")
    if isinstance(value, Media):
        return Column("media", media=value.kind)
    try:
        array = to_numpy(value)
        scalar = "numpy" if isinstance(value, np.generic) else None
        return Column(storage_dtype(array.dtype), array.shape, scalar=scalar)  # type: ignore[arg-type]
    except (SchemaError, ValueError, TypeError, RuntimeError) as error:
        if allow_pickle:
            return Column("pickle")
        raise SchemaError(
            f'column "{name}", sample {number:,}: a value of type '
            f"{kind.__module__}.{kind.__qualname__} cannot be stored ({error}). Write an array, "
            "number, str, bytes, sk.Json, sk.Image or sk.Media, or say allow_pickle=True when "
            "writing and reading"
        ) from error


def _widen(name: str, column: Column, seen: Column, number: int) -> Column:
    """The column that holds both; shapes of one rank may differ, nothing else may."""
    same = column.kind == seen.kind or {column.kind, seen.kind} == {"array", "ragged"}
    if (
        not same
        or column.dtype != seen.dtype
        or column.media != seen.media
        or (len(column.shape) != len(seen.shape))
    ):
        raise mismatch(name, number, Mismatch(column.describe(), seen.describe()))
    if column.shape == seen.shape:
        return column
    pairs = zip(column.shape, seen.shape, strict=True)
    return column.with_shape(tuple(a if a == b else None for a, b in pairs))


def _as_before(column: Column, seen: Column, leaf: Any) -> Column:
    """The column of a leaf; Python numbers take the dtype of the samples before if they can."""
    if isinstance(column.type, str) or seen.dtype == column.dtype:
        return seen
    try:
        return Column(column.dtype, as_array(leaf, Column(column.dtype, seen.shape)).shape)
    except Mismatch:
        return seen


def mismatch(name: str, number: int, error: Mismatch) -> SchemaError:
    """The error for a sample that differs from the schema."""
    message = f'column "{name}", sample {number:,}: expected {error.expected}, found {error.found}'
    return SchemaError(f"{message}; {error.remedy}" if error.remedy else message)


def _is_empty_list(value: Any) -> bool:
    return is_number_list(value) and not value


def select(schema: Schema, names: Sequence[str]) -> tuple[TreeSpec, tuple[int, ...]]:
    """The tree that is left of a schema with these columns only, and their positions.

    A name stands for a leaf ("a/b") or for everything below a node ("a"). Lists and tuples that
    lose an element are refused, since the numbers of the others would change.

    Raises:
        KeyError: A name is no column.
        ValueError: No column is left, or a list or tuple would lose elements.
    """
    if isinstance(names, str):
        raise TypeError(f"columns={names!r} must be a list of names")
    wanted: set[int] = set()
    for name in names:
        below = [i for i, n in enumerate(schema.names) if n == name or n.startswith(f"{name}/")]
        if not below:
            raise KeyError(f'no column "{name}"; there are {list(schema.names)!r:.400}')
        wanted.update(below)
    if not wanted:
        raise ValueError("columns=[] leaves nothing; name at least one column")
    kept, _ = _prune(schema.tree, 0, wanted)
    assert kept is not None
    return kept, tuple(sorted(wanted))


def _prune(spec: TreeSpec, first: int, wanted: set[int]) -> tuple[TreeSpec | None, int]:
    """The part of a node whose leaves are wanted, and the number after its last leaf."""
    if spec.kind == "leaf":
        return (LEAF if first in wanted else None), first + 1
    if spec.kind == "none":
        return spec, first
    children = []
    for child in spec.children:
        kept, first = _prune(child, first, wanted)
        children.append(kept)
    left = [child for child in children if child is not None]
    if not any(child.kind != "none" for child in left):
        return None, first
    if spec.kind == "dict":
        keys = tuple(k for k, c in zip(spec.keys, children, strict=True) if c is not None)
        return TreeSpec("dict", keys, tuple(left)), first
    if len(left) != len(children):
        raise ValueError(
            f"columns= would take elements out of a {spec.kind} of {len(children)}; name them all"
        )
    return TreeSpec(spec.kind, (), tuple(left)), first
