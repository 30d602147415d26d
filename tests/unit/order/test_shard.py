from __future__ import annotations

import pickle

import numpy as np
import pytest

from streamkit.order import Shard, row_order


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_shards_take_all_rows_in_order(count):
    rows = np.arange(12)
    parts = [rows[Shard(i, count).rows(12)] for i in range(count)]
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert {len(part) for part in parts} == {12 // count}


def test_a_batch_that_does_not_divide_says_what_would():
    with pytest.raises(ValueError, match=r"batch_size \(=100\).*\(=8\).*96 or 104") as error:
        Shard(0, 8).rows(100)
    assert "one of 2, 4, 5, 10 processes" in str(error.value)
    with pytest.raises(ValueError, match="use a batch_size of 8, or"):
        Shard(0, 8).rows(3)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0, 0), ValueError),
        ((2, 2), ValueError),
        ((-1, 2), ValueError),
        ((0.0, 2), TypeError),
        ((0, True), TypeError),
        (("0", 1), TypeError),
    ],
)
def test_a_shard_validates_itself(arguments, error):
    with pytest.raises(error, match=r"index|count|Shard"):
        Shard(*arguments)


def test_a_batch_size_is_a_positive_integer():
    with pytest.raises(ValueError, match="batch_size"):
        Shard().rows(0)
    with pytest.raises(TypeError, match="batch_size"):
        Shard().rows(2.0)


def test_a_shard_is_a_value():
    assert Shard() == Shard(0, 1)
    assert pickle.loads(pickle.dumps(Shard(np.int64(1), 4))) == Shard(1, 4)


@pytest.mark.parametrize(
    ("num_slots", "shape"),
    [(64, (5, 256)), (1, (2, 9)), (3, (4, 1)), (2**31, (3, 1000)), (64, (64,)), (7, (2, 3, 50))],
)
def test_row_order_is_a_stable_argsort(num_slots, shape):
    slots = np.random.default_rng(0).integers(0, num_slots, shape)
    order = row_order(slots)
    assert order.dtype == np.int64
    assert np.array_equal(order, np.argsort(slots, axis=-1, kind="stable"))


def test_row_order_of_no_rows():
    assert row_order(np.empty((3, 0), np.int64)).shape == (3, 0)
    assert row_order(np.empty((0, 5), np.int64)).shape == (0, 5)
