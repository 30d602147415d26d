"""The next use of a chunk, in closed form: what lets a cache evict the one needed last.

The visits of a slot rise by one a turn, and each piece of a chunk is read by known slots in a known
range of their visits. So the first visit of a piece from some position on is a comparison, and
nothing is simulated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamkit.order.epoch_table import EpochTable

# Past every position.
NEVER = int(np.iinfo(np.int64).max)

_I64 = NDArray[np.int64]


def next_visits(table: EpochTable, rows: _I64, position: int) -> _I64:
    """Find the first position from `position` on that reads each chunk, within one epoch.

    Args:
        table: The epoch that `position` lies in.
        rows: Rows of the run that the table is of, `[n]`.
        position: Counted from the start of the pass.

    Returns:
        Positions counted from the start of the pass, `[n]`; `NEVER` for a chunk that the epoch
        does not read again.
    """
    piece, owner = _pieces_of_rows(table, rows)
    starts = table.line.starts[piece]
    ends = starts + table.line.lengths[piece]
    # A piece that reaches into several slots is read by each of them: one stretch for each.
    first_slot = table.slot_starts.searchsorted(starts, "right") - 1
    counts = table.slot_starts.searchsorted(ends - 1, "right") - first_slot
    slots = _counted_up(first_slot, counts)
    low = np.maximum(np.repeat(starts, counts), table.slot_starts[slots])
    high = np.minimum(np.repeat(ends, counts), table.slot_starts[slots + 1])
    # `place = origin + direction * turn`, solved for the turns of the stretch's two ends.
    directions, origins = table.directions[slots], table.origins[slots]
    first = np.minimum((low - origins) * directions, (high - 1 - origins) * directions)
    last = first + (high - 1 - low)
    turns = np.maximum(first, table.turns.visits_before(position)[slots])
    found = np.where((low < high) & (turns <= last), table.turns.positions(slots, turns), NEVER)
    visits = np.full(len(rows), NEVER, np.int64)
    np.minimum.at(visits, np.repeat(owner, counts), found)
    return visits


def _pieces_of_rows(table: EpochTable, rows: _I64) -> tuple[_I64, _I64]:
    """List the pieces of each row, and for each of them the place in `rows` that it is of."""
    by_row, first = table.pieces_by_row
    counts = first[rows + 1] - first[rows]
    pieces = by_row[_counted_up(first[rows], counts)]
    return pieces, np.repeat(np.arange(len(rows)), counts)


def _counted_up(first: _I64, counts: _I64) -> _I64:
    """Lay the ranges `[first, first + count)` end to end."""
    ends = np.cumsum(counts)
    return np.asarray(np.arange(counts.sum()) + np.repeat(first - (ends - counts), counts))
