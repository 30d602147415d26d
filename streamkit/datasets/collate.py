"""Samples into a batch: the sample's own tree, with one stacked column for each leaf.

| leaf                                                   | column                              |
|--------------------------------------------------------|-------------------------------------|
| bool, int, float                                       | array `[rows]`: bool, int64, float64 |
| numbers or arrays of one shape, lists of numbers       | array `[rows, *shape]`              |
| the same with shapes that differ (ragged)              | list of arrays, one per row         |
| the same, with `pad={"name": (length, value)}`         | array `[rows, length, ...]`         |
| str, bytes and any other object                        | list, one value per row             |

Anything with `__array__` (torch CPU tensors, JAX arrays) is an array. This module knows nothing
of datasets, order or threads; column names are paths joined with "/", as in a schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.format.tree import is_number_list

Tree = Any
Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
Pads = Mapping[str, tuple[int, Any]]
_NUMBERS = (bool, int, float, complex, np.generic, np.ndarray)
_PYTHON_DTYPES: dict[type, np.dtype[Any]] = {
    bool: np.dtype(np.bool_),
    int: np.dtype(np.int64),
    float: np.dtype(np.float64),
}


def allocate_fresh(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Give new memory of NumPy's own."""
    return np.empty(shape, dtype)


def collate(
    samples: Sequence[Tree], *, allocate: Allocate = allocate_fresh, blank: Sequence[int] = ()
) -> Tree:
    """Stack samples into one batch.

    Args:
        samples: Trees of one structure, at least one.
        allocate: Gives the memory of stacked arrays.
        blank: Rows to be left empty: zeros in arrays, empty values in lists.

    Returns:
        The tree of columns; arrays are new memory.

    Raises:
        ValueError: The samples differ in structure; the message names the column and the row. Or
            there are none, and so no structure.
    """
    if not samples:
        raise ValueError("a batch of no samples has no structure; ask for at least one")
    return _collate(samples, "", allocate, blank)


def _collate(values: Sequence[Any], name: str, allocate: Allocate, blank: Sequence[int]) -> Any:
    first = values[0]
    kind = type(first)
    if isinstance(first, _NUMBERS) or is_number_list(first):
        return _column(values, name, allocate, blank)
    if isinstance(first, Mapping):
        keys = first.keys()
        for row, value in enumerate(values):
            if not isinstance(value, Mapping) or value.keys() != keys:
                raise _differs(name, row, f"a dict with the keys {list(keys)!r:.200}", value)
        return {
            key: _collate([value[key] for value in values], _join(name, key), allocate, blank)
            for key in keys
        }
    if isinstance(first, (list, tuple)):
        for row, value in enumerate(values):
            if type(value) is not kind or len(value) != len(first):
                raise _differs(name, row, f"a {kind.__name__} of {len(first)}", value)
        columns = [
            _collate([value[number] for value in values], _join(name, number), allocate, blank)
            for number in range(len(first))
        ]
        if hasattr(kind, "_fields"):
            return kind(*columns)
        return tuple(columns) if isinstance(first, tuple) else columns
    if first is None and all(value is None for value in values):
        return None
    return _column(values, name, allocate, blank)


def _column(values: Sequence[Any], name: str, allocate: Allocate, blank: Sequence[int]) -> Any:
    """One leaf over all rows: an array if the values are arrays of one shape, else a list."""
    column: Any = _scalars(values, allocate)
    if column is None:
        if not all(_is_numeric(value) for value in values):
            row = next((r for r, v in enumerate(values) if type(v) is not type(values[0])), 0)
            if row and any(isinstance(v, (Mapping, tuple)) or v is None for v in values):
                raise _differs(name, row, f"a {type(values[0]).__name__}", values[row])
            column = list(values)
        else:
            column = _arrays(values, allocate)
    return blank_column(column, blank) if blank else column


def _scalars(values: Sequence[Any], allocate: Allocate) -> NDArray[Any] | None:
    """The column of Python numbers of one type; None for anything else."""
    kinds = set(map(type, values))
    dtype = _PYTHON_DTYPES.get(kinds.pop()) if len(kinds) == 1 else None
    if dtype is None:
        return None
    column = allocate((len(values),), dtype)
    column[:] = values
    return column


def _arrays(values: Sequence[Any], allocate: Allocate) -> Any:
    arrays = [np.asarray(value) for value in values]
    if any(array.size == 0 for array in arrays):
        arrays = _with_dtype_of_others(values, arrays)
    shape = arrays[0].shape
    if any(array.dtype.kind in "OSUT" for array in arrays):
        return list(values)
    if any(array.shape != shape for array in arrays):
        return arrays
    dtype = arrays[0].dtype
    if any(array.dtype != dtype for array in arrays):
        dtype = np.result_type(*arrays)
    column = allocate((len(arrays), *shape), dtype)
    if shape:  # half the time of np.stack
        np.concatenate(arrays, out=column.reshape(len(arrays) * shape[0], *shape[1:]))
    else:
        np.stack(arrays, out=column)
    return column


def blank_column(column: Any, rows: Sequence[int]) -> Any:
    """Empty some rows of a column, in place: zeros in an array, empty values in a list."""
    for row in rows:
        if isinstance(column, np.ndarray):
            column[row] = np.zeros((), column.dtype)
        else:
            value = column[row]
            if isinstance(value, np.ndarray):
                column[row] = np.zeros((0, *value.shape[1:]) if value.ndim else (), value.dtype)
            else:
                column[row] = type(value)() if isinstance(value, (str, bytes)) else None
    return column


def _is_numeric(value: Any) -> bool:
    return isinstance(value, _NUMBERS) or is_number_list(value) or hasattr(value, "__array__")


def _with_dtype_of_others(values: Sequence[Any], arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Give empty lists, which are float64 to NumPy, the dtype of the lists with numbers."""
    full = [array.dtype for array in arrays if array.size]
    dtype = np.result_type(*full) if full else np.dtype(np.int64)
    return [
        array.astype(dtype) if array.size == 0 and isinstance(value, list) else array
        for value, array in zip(values, arrays, strict=True)
    ]


def pad_columns(
    batch: Tree, pads: Pads, indices: Sequence[int], *, allocate: Allocate = allocate_fresh
) -> Tree:
    """Make arrays of ragged columns, each value filled up to one length.

    Args:
        batch: A batch; its dicts and lists may be changed.
        pads: The length of the first axis and the fill value, by column name.
        indices: The dataset's number of each row, for messages.
        allocate: Gives the memory of the arrays.

    Returns:
        The batch with arrays `[rows, length, ...]` in place of those columns.

    Raises:
        ValueError: A column is missing, is not numeric, or holds a value that is too long.
    """
    for name, (length, fill) in pads.items():

        def pad(column: Any, name: str = name, length: int = length, fill: Any = fill) -> Any:
            return _pad(column, name, length, fill, indices, allocate)

        replaced, batch = _replace(batch, name, pad)
        if not replaced:
            known = list(batch) if isinstance(batch, dict) else type(batch).__name__
            raise ValueError(
                f'pad names the column "{name}", which the batch does not have; it has {known}'
            )
    return batch


def _replace(tree: Tree, name: str, change: Callable[[Any], Any]) -> tuple[bool, Tree]:
    """Change the column called `name`; says whether it was found."""
    if not isinstance(tree, (dict, list, tuple)):
        return (True, change(tree)) if name == "value" else (False, tree)
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, child in items:
        text = str(key)
        if name == text:
            value, found = change(child), True
        elif name.startswith(text + "/") and isinstance(child, (dict, list, tuple)):
            found, value = _replace(child, name[len(text) + 1 :], change)
        else:
            continue
        if found:
            return True, _with_item(tree, key, value)
    if name == "value" and isinstance(tree, list):
        return True, change(tree)  # the bare sample's own ragged column
    return False, tree


def _with_item(tree: Any, key: Any, value: Any) -> Any:
    if isinstance(tree, tuple):
        items = [*tree[:key], value, *tree[key + 1 :]]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    tree[key] = value
    return tree


def _pad(
    column: Any,
    name: str,
    length: int,
    fill: Any,
    indices: Sequence[int],
    allocate: Allocate,
) -> NDArray[Any]:
    values = [np.asarray(value) for value in column]
    for row, value in enumerate(values):
        if value.ndim == 0 or value.dtype.kind in "OSUT":
            raise ValueError(
                f'pad asks for arrays of column "{name}", but sample {indices[row]} has '
                f"{column[row]!r:.80} there; only arrays with at least one axis can be padded"
            )
        if len(value) > length:
            raise ValueError(
                f'column "{name}" of sample {indices[row]} has length {len(value)}, more than '
                f'pad={{"{name}": ({length}, ...)}} allows; raise the length, or cut the samples '
                "with transform="
            )
        if value.shape[1:] != values[0].shape[1:]:
            raise ValueError(
                f'column "{name}" of sample {indices[row]} has shape {value.shape}, others of the '
                f"batch {values[0].shape}; only the first axis can be padded"
            )
    full = [value.dtype for value in values if value.size] or [values[0].dtype]
    padded = allocate((len(values), length, *values[0].shape[1:]), np.result_type(*full))
    padded[...] = fill
    for row, value in zip(padded, values, strict=True):
        row[: len(value)] = value
    return padded


def num_bytes(batch: Tree) -> int:
    """The memory of a batch's values in bytes, about."""
    if isinstance(batch, np.ndarray):
        return batch.nbytes
    if isinstance(batch, dict):
        return sum(map(num_bytes, batch.values()))
    if isinstance(batch, (list, tuple)):
        plain = len(batch) > 0 and isinstance(batch[0], (bytes, str))
        return sum(map(len if plain else num_bytes, batch))
    return len(batch) if isinstance(batch, (bytes, str)) else int(getattr(batch, "nbytes", 32))


def _join(name: str, key: Any) -> str:
    return f"{name}/{key}" if name else str(key)


def _differs(name: str, row: int, expected: str, found: Any) -> ValueError:
    shown = f"a dict with the keys {list(found)!r:.200}" if isinstance(found, dict) else None
    return ValueError(
        f'column "{name or "value"}" differs between the samples of a batch: row 0 has {expected}, '
        f"row {row} has {shown or f'{found!r:.80} ({type(found).__name__})'}; samples must have "
        "one structure (a transform= can give them one)"
    )
