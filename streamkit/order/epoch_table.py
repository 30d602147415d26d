"""What one epoch of `ChunkShuffle` is, as a table: which piece of which chunk each slot reads when.

The epoch's line holds every sample once: the chunks as permuted once per run, cut into groups of
slots, with the chunks of each group permuted and the group turned for this epoch. Slot k owns one
stretch of the line and reads it from one end to the other. A table takes O(chunks) memory, is built
by vectorised NumPy alone, and never changes, so threads may share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from streamkit.order.hashing import derive_key, keyed_hash, scale
from streamkit.order.line import Line
from streamkit.order.permutation import Domains
from streamkit.order.turns import Turns

SLOTS_PER_GROUP = 8

_I64 = NDArray[np.int64]


class Run:
    """What stays the same through all epochs of a bound shuffle; immutable.

    Chunks are rows here: the non-empty chunks of the dataset, numbered from 0.

    Attributes:
        numbers: The dataset's number of each row's chunk, `[rows]`.
        sizes: The samples of each chunk, `[rows]`.
        starts: The dataset's number of each chunk's first sample, `[rows]`.
        num_samples: The samples of one epoch.
        domains: The permutation of each chunk's samples.
        turns: The schedule of the slots in the first pass.
        line: All chunks end to end, in the order drawn once per run.
    """

    def __init__(self, chunk_sizes: _I64, *, window: int, seed: int):
        self.numbers = np.flatnonzero(chunk_sizes).astype(np.int64)
        self.sizes = chunk_sizes[self.numbers]
        self.starts = (np.cumsum(chunk_sizes) - chunk_sizes)[self.numbers]
        self.num_samples = int(chunk_sizes.sum())
        self.domains = Domains.of(self.sizes)
        self.turns = Turns(min(window, len(self.sizes)), seed)
        self.seed = seed
        hashes = keyed_hash(derive_key(seed, "chunks of the run"), self.numbers)
        stored = Line.of_chunks(np.arange(len(self.sizes)), self.sizes)
        self.line = stored.shuffled(np.zeros(1, np.int64), hashes, self.sizes)


@dataclass(frozen=True, eq=False)
class EpochTable:
    """One epoch, ready to be read.

    Attributes:
        turns: The schedule of the slots in the pass of this epoch.
        line: The epoch's line; its pieces' `chunks` are rows of the run.
        shifts: What to add to a place on the line to get the offset in its chunk, `[pieces]`.
        slot_starts: Where the stretch of each slot starts, and the line's end, `[S + 1]`.
        visits_before: The visits of each slot before the epoch, `[S]`.
        directions: 1 for a slot that reads its stretch forwards, -1 for backwards, `[S]`.
        origins: The place that a slot would read in turn 0 of the pass, so that it reads
            `origins + directions * turn` in any turn of the epoch, `[S]`.
        keys: The key of each chunk's permutation, uint64 `[rows]`.
    """

    turns: Turns
    line: Line
    shifts: _I64
    slot_starts: _I64
    visits_before: _I64
    directions: _I64
    origins: _I64
    keys: NDArray[np.uint64]

    @classmethod
    def build(cls, run: Run, *, epoch: int, pass_number: int, start: int) -> EpochTable:
        """Build the table of an epoch.

        Args:
            run: The bound shuffle.
            epoch: The absolute epoch, which keys everything drawn anew.
            pass_number: The pass of the epoch.
            start: The position of the epoch's first sample, counted from the start of the pass.
        """
        turns, slots = run.turns.in_pass(pass_number), np.arange(run.turns.num_slots)
        before = turns.visits_before(start)
        lengths = turns.visits_before(start + run.num_samples) - before
        slot_starts = np.concatenate([[0], np.cumsum(lengths)])
        line = _grouped_line(run, slot_starts[:-1:SLOTS_PER_GROUP], epoch)

        flip = derive_key(run.seed, "direction", epoch) & 1
        forwards = (slots + flip) % 2 == 0
        directions = np.where(forwards, 1, -1)
        ends = np.where(forwards, slot_starts[:-1], slot_starts[1:] - 1)
        return cls(
            turns=turns,
            line=line,
            shifts=line.offsets - line.starts,
            slot_starts=slot_starts,
            visits_before=before,
            directions=directions,
            origins=ends - directions * before,
            keys=keyed_hash(derive_key(run.seed, "samples of a chunk", epoch), run.numbers),
        )

    @cached_property
    def pieces_by_row(self) -> tuple[NDArray[np.intp], _I64]:
        """All pieces sorted by row, `[pieces]`, and where each row starts in them, `[rows + 1]`."""
        counts = np.bincount(self.line.chunks, minlength=len(self.keys))
        return np.argsort(self.line.chunks, kind="stable"), np.append(0, np.cumsum(counts))

    def pieces_of(
        self, places: _I64, slots: _I64, first_turn: int, num_turns: int
    ) -> NDArray[np.intp]:
        """Find the piece of each place on the line.

        Args:
            places: Places on the line, `[n]`.
            slots: The slot that reads each place, `[n]`.
            first_turn: The first turn of these visits.
            num_turns: The turns that they span; if they fill these densely, the pieces that the
                slots pass are listed once, instead of searching for each place.
        """
        if len(places) < 1024 or num_turns * (len(self.slot_starts) - 1) > 2 * len(places):
            return np.asarray(self.line.starts.searchsorted(places, "right") - 1)
        # Each slot reads one short stretch of the line: its ends, cut down to the slot's own.
        one_end = self.origins + self.directions * first_turn
        other_end = one_end + self.directions * (num_turns - 1)
        low = np.maximum(np.minimum(one_end, other_end), self.slot_starts[:-1])
        high = np.minimum(np.maximum(one_end, other_end), self.slot_starts[1:] - 1)
        listed = _pieces_between(self.line, low, np.maximum(high + 1, low))
        lengths = np.maximum(high + 1 - low, 0)
        index = (np.cumsum(lengths) - lengths - low).take(slots)
        index += places
        return np.asarray(listed.take(index))


def _grouped_line(run: Run, group_starts: _I64, epoch: int) -> Line:
    """Cut the run's line into groups, and shuffle and turn each of them for an epoch."""
    line = run.line.cut(group_starts)
    hashes = keyed_hash(derive_key(run.seed, "chunks of an epoch", epoch), run.numbers)
    line = line.shuffled(group_starts, hashes[line.chunks], run.sizes[line.chunks])
    key = derive_key(run.seed, "turn of a group", epoch)
    group_lengths = np.diff(group_starts, append=run.num_samples)
    return line.turned(
        group_starts, scale(keyed_hash(key, np.arange(len(group_starts))), group_lengths)
    )


def _pieces_between(line: Line, low: _I64, high: _I64) -> NDArray[np.intp]:
    """List the piece of every place in the half-open ranges `[low, high)`, end to end."""
    used = high > low
    low, high = low[used], high[used]
    first = line.starts.searchsorted(low, "right") - 1
    counts = line.starts.searchsorted(high - 1, "right") - first
    ends = np.cumsum(counts)
    pieces = np.arange(ends[-1]) + np.repeat(first - (ends - counts), counts)
    starts = np.maximum(line.starts[pieces], np.repeat(low, counts))
    # A piece ends where the next one of its range starts, and the last one where its range ends.
    stops = np.empty_like(starts)
    stops[:-1] = starts[1:]
    stops[ends - 1] = high
    return np.repeat(pieces, stops - starts)
