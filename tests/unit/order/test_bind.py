"""What all shuffles share: how they are bound, and what they refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from streamkit.order import ChunkShuffle, GlobalShuffle, Sequential, Shuffle

SHUFFLES = [Sequential(), GlobalShuffle(), ChunkShuffle(4)]
shuffles = pytest.mark.parametrize("shuffle", SHUFFLES, ids=repr)


@shuffles
def test_a_shuffle_is_a_shuffle(shuffle):
    assert isinstance(shuffle, Shuffle)
    assert pickle.loads(pickle.dumps(shuffle)) == shuffle
    assert hash(shuffle) == hash(pickle.loads(pickle.dumps(shuffle)))


@shuffles
def test_an_order_reads_each_sample_once_an_epoch(shuffle):
    order = shuffle.bind([5, 0, 11, 2], seed=3)
    assert (order.num_samples, order.num_chunks) == (18, 3)
    order.prepare(2)
    for epoch in range(4):
        indices = order.indices(np.arange(epoch * 18, (epoch + 1) * 18))
        assert sorted(indices.tolist()) == list(range(18))


@shuffles
def test_indices_and_slots_are_those_of_the_single_calls(shuffle):
    order = shuffle.bind([5, 0, 11, 2], seed=3)
    positions = np.arange(40).reshape(2, 20)[::-1]
    indices, slots = order.indices_and_slots(positions)
    assert np.array_equal(indices, order.indices(positions))
    assert indices.dtype == np.int64
    assert (slots is None) == (order.num_slots is None)
    assert np.array_equal(slots, order.slots(positions))


@shuffles
def test_an_order_pickles(shuffle):
    order = shuffle.bind([5, 0, 11, 2], seed=3, epochs=2)
    again = pickle.loads(pickle.dumps(order))
    assert np.array_equal(again.indices(np.arange(90)), order.indices(np.arange(90)))


@shuffles
def test_positions_of_any_integer_type_are_read(shuffle):
    order = shuffle.bind([5, 6], seed=3)
    expected = order.indices(np.arange(20)).tolist()
    for given in (list(range(20)), np.arange(20, dtype=np.uint8), np.arange(20, dtype=np.uint64)):
        assert order.indices(given).tolist() == expected


@shuffles
def test_wrong_positions_are_refused(shuffle):
    order = shuffle.bind([5, 6], seed=3)
    for call in (order.indices, order.slots, order.indices_and_slots):
        with pytest.raises(ValueError, match=r"position \(=-2\) must be >= 0"):
            call([3, -2, 5])
        with pytest.raises(TypeError, match="whole numbers, not float64"):
            call([0.5])
        with pytest.raises(TypeError, match="bool"):
            call([True])


@shuffles
@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([], ValueError, "no chunks"),
        ([0, 0], ValueError, "all 2 chunks are empty"),
        ([3, -1], ValueError, r"chunk_sizes\[1\] \(=-1\)"),
        ([[1, 2]], ValueError, r"\(1, 2\)"),
        ([1.5, 2], TypeError, "float64"),
        ([2**62, 1 << 60], ValueError, "2\\^62"),
        ([2**62, 2**62, 2**62, 2**62], ValueError, "2\\^62"),
    ],
)
def test_wrong_chunk_sizes_are_refused(shuffle, sizes, error, message):
    with pytest.raises(error, match=message):
        shuffle.bind(sizes)


@shuffles
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": -1}, ValueError, r"seed \(=-1\) must be in \[0, 2\^64\)"),
        ({"seed": 1 << 64}, ValueError, "seed"),
        ({"seed": 1.0}, TypeError, "float"),
        ({"seed": True}, TypeError, "bool"),
        ({"seed": None}, TypeError, "NoneType"),
        ({"epochs": 0}, ValueError, r"epochs \(=0\) must be >= 1"),
        ({"epochs": 1.5}, TypeError, "epochs"),
    ],
)
def test_wrong_arguments_are_refused(shuffle, arguments, error, message):
    with pytest.raises(error, match=message):
        shuffle.bind([3, 4], **arguments)


def test_seeds_of_numpy_and_of_64_bits_are_read():
    for shuffle in (GlobalShuffle(), ChunkShuffle(4)):
        plain = shuffle.bind([50, 60], seed=7).indices(np.arange(110))
        assert np.array_equal(
            shuffle.bind([50, 60], seed=np.uint8(7)).indices(np.arange(110)), plain
        )
        large = shuffle.bind([50, 60], seed=(1 << 64) - 1).indices(np.arange(110))
        assert not np.array_equal(large, plain)


def test_stored_order_is_the_position():
    order = Sequential().bind([5, 6], seed=3)
    assert order.indices(np.arange(25)).tolist() == [p % 11 for p in range(25)]


def test_a_global_shuffle_of_a_trillion_samples_needs_no_table():
    order = GlobalShuffle().bind([10**12], seed=1)
    positions = np.arange(3 * 10**12 - 500, 3 * 10**12 + 500)
    indices = order.indices(positions)
    assert indices.min() >= 0
    assert indices.max() < 10**12
    assert len(set(indices[:500].tolist())) == len(set(indices[500:].tolist())) == 500
    assert len(pickle.dumps(order)) < 300
