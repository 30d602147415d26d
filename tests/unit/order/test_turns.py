from __future__ import annotations

import numpy as np
import pytest

from streamkit.order.turns import Turns


@pytest.mark.parametrize("num_slots", [1, 2, 3, 6, 8, 64, 100])
def test_each_turn_visits_each_slot_once(num_slots):
    turns = Turns(num_slots, seed=4)
    positions = np.arange(20 * num_slots)
    visits = turns.visits(positions)
    by_turn = visits.slots.reshape(20, num_slots)
    assert (np.sort(by_turn, axis=1) == np.arange(num_slots)).all()
    assert (visits.turns + visits.first_turn == positions // num_slots).all()


def test_slots_come_in_bit_reversed_order():
    slots = Turns(8, seed=0).visits(np.arange(8)).slots
    assert ((slots - slots[0]) % 8).tolist() == [0, 4, 2, 6, 1, 5, 3, 7]


@pytest.mark.parametrize("num_slots", [1, 5, 64])
def test_scattered_positions_agree_with_neighbouring_ones(num_slots):
    turns = Turns(num_slots, seed=9)
    start = 10**12
    slots = turns.visits(np.arange(start, start + 1000)).slots
    for offset in (0, 1, 500, 999):
        assert turns.visits(np.array([start + offset])).slots[0] == slots[offset]
    scattered = turns.visits(np.array([start + 999, 3, start])).slots
    assert scattered[0] == slots[999]
    assert scattered[2] == slots[0]


@pytest.mark.parametrize("num_slots", [1, 5, 64])
def test_visits_are_counted_as_by_walking(num_slots):
    turns = Turns(num_slots, seed=2)
    slots = turns.visits(np.arange(400)).slots
    for position in (0, 1, num_slots, 199, 400):
        expected = np.bincount(slots[:position], minlength=num_slots)
        assert turns.visits_before(position).tolist() == expected.tolist()


def test_a_visit_is_found_again():
    turns = Turns(12, seed=2)
    positions = np.arange(5000, 5500)
    visits = turns.visits(positions)
    assert np.array_equal(
        turns.positions(visits.slots, visits.turns + visits.first_turn), positions
    )


def test_passes_are_turned_differently():
    turns = Turns(64, seed=2)
    first, second = (turns.in_pass(n).visits(np.arange(6400)).slots for n in (0, 1))
    # About one turn in 64 agrees by chance.
    assert (first == second).mean() < 0.1
