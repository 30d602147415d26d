"""Turns and slots: which of S readers a position belongs to, in closed form.

Positions are cut into *turns* of S. In each turn every *slot* has exactly one position, so after T
turns each slot has been visited T times, and the visits of a slot can be counted without walking.
Within a turn the slots come in the order of the bit-reversed numbers, rotated by a keyed amount:
any part of a turn is spread evenly over the slots. With S = 4 the order is 0 2 1 3, and turns with
the rotations 0, 3 and 1 visit

    position  0 1 2 3 | 4 5 6 7 | 8 9 10 11
    slot      0 2 1 3 | 3 1 0 2 | 1 3 2  0

Positions here are local to a pass: they count from its start, so that turns run on across the
epochs of the pass.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamkit.order.hashing import derive_key, keyed_hash, scale


@dataclass(frozen=True, eq=False)
class Visits:
    """The visits that a block of positions makes.

    Attributes:
        slots: The slot of each position, int64 `[n]`.
        turns: The turn of each position, counted from `first_turn`, int64 `[n]`.
        first_turn: The first turn of the block.
        num_turns: The turns from the block's first to its last.
    """

    slots: NDArray[np.int64]
    turns: NDArray[np.int64]
    first_turn: int
    num_turns: int


class Turns:
    """The schedule of S slots under one seed; immutable, so safe to share between threads.

    Args:
        num_slots: S, at least 1.
        seed: The seed of the rotations.
        pass_number: The pass; each has rotations of its own.
    """

    def __init__(self, num_slots: int, seed: int, pass_number: int = 0):
        self.num_slots = num_slots
        self._seed = seed
        self._key = derive_key(seed, "rotation of a turn", pass_number)
        self._order = _bit_reversed_ranks(num_slots)
        self._place = np.argsort(self._order)

    def in_pass(self, pass_number: int) -> Turns:
        """Return the schedule of another pass, which shares this one's arrays."""
        other = copy.copy(self)
        other._key = derive_key(self._seed, "rotation of a turn", pass_number)
        return other

    def visits(self, positions: NDArray[np.int64]) -> Visits:
        """Find the slot and turn of each position, `[n]` with n >= 1, in any order."""
        size = self.num_slots
        first_turn = int(positions.min()) // size
        offsets = positions - first_turn * size
        turns = offsets // size
        num_turns = int(turns.max()) + 1
        places = offsets - turns * size
        slots = self._order.take(places)
        # Neighbouring positions share their turns: hash each turn once unless they are scattered.
        if num_turns <= len(positions):
            slots += self._rotations(np.arange(first_turn, first_turn + num_turns)).take(turns)
        else:
            slots += self._rotations(turns + first_turn)
        return Visits(_wrapped(slots, size), turns, first_turn, num_turns)

    def visits_before(self, position: int) -> NDArray[np.int64]:
        """Count the visits of each slot before a position, `[S]`."""
        turn, place = divmod(position, self.num_slots)
        counts = np.full(self.num_slots, turn, np.int64)
        counts[
            _wrapped(self._order[:place] + self._rotations(np.array([turn])), self.num_slots)
        ] += 1
        return counts

    def positions(self, slots: NDArray[np.int64], turns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Find the position at which each slot is visited in each turn, `[n]` and `[n]`."""
        size = self.num_slots
        # Where a slot stands before the rotation, which the rotation moved on.
        unrotated = _wrapped(slots + (size - self._rotations(turns)), size)
        return turns * size + self._place.take(unrotated)

    def _rotations(self, turns: NDArray[np.int64]) -> NDArray[np.int64]:
        return scale(keyed_hash(self._key, turns), self.num_slots)


def _wrapped(values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Take numbers of `[0, 2 * size)` modulo size, in place: faster than a division."""
    lower = values - size
    # Below zero reads as a huge number, so the smaller of the two is the remainder.
    np.fmin(values.view(np.uint64), lower.view(np.uint64), values.view(np.uint64))
    return values


def _bit_reversed_ranks(count: int) -> NDArray[np.int64]:
    """Rank the bit-reversed numbers of `[0, count)`: for count = 6, `0 3 2 5 1 4`."""
    bits = (count - 1).bit_length()
    numbers = np.arange(count, dtype=np.int64)
    reversed_numbers = np.zeros(count, np.int64)
    for bit in range(bits):
        reversed_numbers |= (numbers >> bit & 1) << (bits - 1 - bit)
    ranks = np.empty(count, np.int64)
    ranks[np.argsort(reversed_numbers)] = numbers
    return ranks
