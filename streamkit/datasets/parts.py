"""Reading in parts: rows of more chunks than may be open at once are read in several calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamkit.datasets.base import Allocate, Indices


def read_in_halves(
    chunks: Indices,
    ends: Sequence[int],
    read: Callable[[Indices], list[Any]],
    allocate: Allocate | None,
) -> list[list[Any]]:
    """Read rows in two calls, each of half the chunks, and put the rows in order again.

    Args:
        chunks: int64 `[rows]` of all batches: which chunk each row lies in; at least two differ.
        ends: Where each batch ends among the rows.
        read: From row numbers, int64, to each column of those rows: an array or a list.
        allocate: Gives the memory of arrays.

    Returns:
        For each column its values in each batch, in memory of their own.
    """
    distinct = np.unique(chunks)
    low = chunks < distinct[len(distinct) // 2]
    halves = [np.flatnonzero(low), np.flatnonzero(~low)]
    columns = zip(*map(read, halves), strict=True)
    bounds = list(zip([0, *ends[:-1]], ends, strict=True))
    return [_batches(interleave(parts, halves, len(chunks)), bounds, allocate) for parts in columns]


def interleave(parts: Sequence[Any], places: Sequence[Indices], rows: int) -> Any:
    """One column of several (arrays, or lists of values), whose rows go to the places given."""
    if all(isinstance(values, np.ndarray) for values in parts):
        out = np.empty((rows, *parts[0].shape[1:]), parts[0].dtype)
        for values, place in zip(parts, places, strict=True):
            out[place] = values
        return out
    merged: list[Any] = [None] * rows
    for values, place in zip(parts, places, strict=True):
        for row, value in zip(place.tolist(), values, strict=True):
            merged[row] = value
    return merged


def _batches(
    column: Any, bounds: Sequence[tuple[int, int]], allocate: Allocate | None
) -> list[Any]:
    if len(bounds) == 1 and (allocate is None or isinstance(column, list)):
        return [column]
    if isinstance(column, list):
        return [column[a:b] for a, b in bounds]
    batches = []
    for a, b in bounds:
        shape = (b - a, *column.shape[1:])
        batch = np.empty(shape, column.dtype) if allocate is None else allocate(shape, column.dtype)
        batch[...] = column[a:b]
        batches.append(batch)
    return batches
