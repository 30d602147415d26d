from __future__ import annotations

from collections import namedtuple
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.datasets.collate import collate, num_bytes, pad_columns

Point = namedtuple("Point", ["x", "y"])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([True, False], np.bool_),
        ([1, 2], np.int64),
        ([1.0, 2.0], np.float64),
        ([1, 2.5], np.float64),
        ([np.int32(1), np.int32(2)], np.int32),
        ([np.float16(1), np.float16(2)], np.float16),
        ([np.datetime64(1, "s"), np.datetime64(2, "s")], "datetime64[s]"),
        ([ml_dtypes.bfloat16(1), ml_dtypes.bfloat16(2)], ml_dtypes.bfloat16),
    ],
)
def test_scalars_become_one_array(values: list[Any], dtype: Any) -> None:
    column = collate(values)
    assert column.dtype == np.dtype(dtype)
    assert column.tolist() == np.array(values, dtype).tolist()


@given(st.integers(1, 5), st.lists(st.integers(0, 3), max_size=3))
def test_arrays_of_one_shape_are_stacked(rows: int, shape: list[int]) -> None:
    values = [np.full(shape, row, np.int16) for row in range(rows)]
    column = collate(values)
    np.testing.assert_array_equal(column, np.stack(values))
    assert column.dtype == np.int16
    assert column.flags.writeable
    assert not any(np.shares_memory(column, value) for value in values)


def test_lists_of_numbers_are_arrays_and_ragged_ones_stay_a_list() -> None:
    np.testing.assert_array_equal(collate([[1, 2], [3, 4]]), [[1, 2], [3, 4]])
    ragged = collate([[1, 2], [], [3]])
    assert [value.tolist() for value in ragged] == [[1, 2], [], [3]]
    assert {value.dtype for value in ragged} == {np.dtype(np.int64)}


def test_text_bytes_and_other_objects_stay_a_list() -> None:
    one = object()
    assert collate(["a", "b"]) == ["a", "b"]
    assert collate([b"a", b"bc"]) == [b"a", b"bc"]
    assert collate([one, one]) == [one, one]


def test_the_tree_is_that_of_the_samples() -> None:
    sample = {"a": (1, [np.zeros(2), "s"]), "b": Point(1, 2.0), "n": None}
    batch = collate([sample, sample, sample])
    np.testing.assert_array_equal(batch["a"][0], [1, 1, 1])
    assert batch["a"][1][0].shape == (3, 2)
    assert batch["a"][1][1] == ["s"] * 3
    assert type(batch["b"]) is Point
    assert batch["b"].y.dtype == np.float64
    assert batch["n"] is None


def test_anything_with_array_is_one() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            return np.arange(3, dtype=np.float32)

    assert collate([Tensor(), Tensor()]).shape == (2, 3)


@pytest.mark.parametrize(
    ("samples", "place"),
    [
        ([{"a": 1}, {"b": 1}], 'column "value"'),
        ([{"a": {"c": 1}}, {"a": {"c": 1, "d": 2}}], 'column "a"'),
        ([(1, 2), (1, 2, 3)], "a tuple of 2"),
        ([{"a": 1}, {"a": None}], 'column "a"'),
        ([{"a": "s"}, {"a": {"b": 1}}], 'column "a"'),
    ],
)
def test_another_structure_is_an_error_that_names_column_and_row(
    samples: list[Any], place: str
) -> None:
    with pytest.raises(ValueError, match=f"{place}.*row 1"):
        collate(samples)


def test_blank_rows_are_empty() -> None:
    samples = [{"x": np.ones(2), "t": np.ones(n), "s": "s", "b": b"b"} for n in (1, 2, 3)]
    batch = collate(samples, blank=[1])
    assert batch["x"].tolist() == [[1, 1], [0, 0], [1, 1]]
    assert [len(value) for value in batch["t"]] == [1, 0, 3]
    assert (batch["s"], batch["b"]) == (["s", "", "s"], [b"b", b"", b"b"])


def test_pad_finds_columns_anywhere_in_the_tree() -> None:
    ragged = [np.arange(2, dtype=np.int32), np.arange(0, dtype=np.int32)]
    trees = [
        (ragged, "value", lambda tree: tree),
        ({"a": ragged}, "a", lambda tree: tree["a"]),
        ({"a": {"b": (0, ragged)}}, "a/b/1", lambda tree: tree["a"]["b"][1]),
        ([ragged, 0], "0", lambda tree: tree[0]),
        (Point(0, ragged), "1", lambda tree: tree.y),
    ]
    for tree, name, get in trees:
        column = get(pad_columns(tree, {name: (3, -1)}, [7, 8]))
        assert column.tolist() == [[0, 1, -1], [-1, -1, -1]]
        assert column.dtype == np.int32


def test_pad_keeps_the_other_axes() -> None:
    ragged = {"a": [np.ones((2, 4)), np.ones((1, 4))]}
    assert pad_columns(ragged, {"a": (3, 0)}, [0, 1])["a"].sum(axis=(1, 2)).tolist() == [8, 4]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([np.arange(2), np.arange(5)], r"sample 8 has length 5.*\(3, \.\.\.\).*transform="),
        (["text", "words"], "sample 7 has 'text'"),
        ([np.ones((1, 2)), np.ones((1, 3))], r"sample 8 has shape \(1, 3\)"),
    ],
)
def test_what_cannot_be_padded_is_named(column: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pad_columns({"a": column}, {"a": (3, 0)}, [7, 8])
    with pytest.raises(ValueError, match=r'"z".*\[\'a\'\]'):
        pad_columns({"a": column}, {"z": (3, 0)}, [7, 8])


def test_the_memory_of_a_batch_is_that_of_its_values() -> None:
    batch = {
        "x": np.zeros((4, 2)),
        "t": [np.zeros(3, np.int32), np.zeros(1, np.int32)],
        "b": [b"abc"],
    }
    assert num_bytes(batch) == 64 + 16 + 3
