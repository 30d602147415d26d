"""Absolute positions: checked, and taken apart into epochs.

A position counts the samples consumed since the start of the stream, over all passes. The epoch of
a position is `position // n`, for n samples an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Selection = slice | NDArray[np.intp]


def checked_positions(positions: ArrayLike) -> NDArray[np.int64]:
    """Return positions as int64, of the shape given.

    Raises:
        TypeError: If they are not whole numbers.
        ValueError: If one of them is negative.
    """
    array = np.asarray(positions)
    if array.dtype.kind not in "iu":
        if array.size:
            raise TypeError(f"positions must be whole numbers, not {array.dtype}")
        return array.astype(np.int64)
    array = array.astype(np.int64, copy=False)
    if array.size and (lowest := int(array.min())) < 0:
        raise ValueError(f"a position (={lowest}) must be >= 0: positions count from the start")
    return array


def runs_of_periods(positions: NDArray[np.int64], period: int) -> Iterator[tuple[int, Selection]]:
    """Group positions by `position // period`: by epoch, or by pass.

    Args:
        positions: Absolute positions, `[n]`, in any order.
        period: The samples of one epoch, or of one pass.

    Yields:
        The number of the period, and what selects its positions: a slice where the positions
        rise, as those of a batch do, else an array of indices.
    """
    if not positions.size:
        return
    first, last = int(positions.min()) // period, int(positions.max()) // period
    if first == last:
        yield first, slice(0, len(positions))
        return
    periods = positions // period
    steps = np.diff(periods)
    order = None if (steps >= 0).all() else np.argsort(periods, kind="stable")
    if order is not None:
        periods = periods.take(order)
        steps = np.diff(periods)
    ends = [*(np.flatnonzero(steps) + 1).tolist(), len(periods)]
    start = 0
    for end in ends:
        yield int(periods[start]), slice(start, end) if order is None else order[start:end]
        start = end
