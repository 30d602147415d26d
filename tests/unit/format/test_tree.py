"""Samples as trees."""

import json
from collections import namedtuple

import numpy as np
import pytest

from streamkit import FormatError, SchemaError
from streamkit.format.tree import LEAF, TreeSpec, flatten, is_number_list, treemap

Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (5, ("value",)),
        ([1, 2, 3], ("value",)),
        ([], ("value",)),
        ((1, 2), ("0", "1")),
        ([np.arange(2), 3], ("0", "1")),
        ([1, "a"], ("0", "1")),
        ({"a": 1, "b": {"c": 2, 7: 3}}, ("a", "b/c", "b/7")),
        ({"a": ({"x": 1}, [None, "t"]), "n": None}, ("a/0/x", "a/1/1")),
        ({"b": 1, "a": 2}, ("b", "a")),
    ],
)
def test_leaves_have_names_and_the_tree_is_built_again(
    tree: object, names: tuple[str, ...]
) -> None:
    leaves, spec = flatten(tree)
    assert spec.names == names
    assert spec.num_leaves == len(leaves) == len(names)
    assert str(spec.unflatten(leaves)) == str(tree)
    again = TreeSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert [id(leaf) for leaf in again.flatten(tree)] == [id(leaf) for leaf in leaves]


def test_the_order_of_keys_is_that_of_the_schema() -> None:
    _, spec = flatten({"a": 1, "b": 2})
    assert spec.flatten({"b": 4, "a": 3}) == [3, 4]


def test_only_lists_of_python_numbers_are_leaves() -> None:
    assert is_number_list([1, 2.5, True, 1j])
    assert is_number_list([])
    assert not is_number_list([1, "a"])
    assert not is_number_list([np.int64(1), np.int64(2)])
    assert not is_number_list((1, 2))
    assert flatten([np.int64(1), np.int64(2)])[1].names == ("0", "1")


def test_every_list_of_a_batch_is_a_column() -> None:
    leaves, spec = flatten({"a": ["x", "y"], "b": (np.arange(2), [[1], []])}, batch=True)
    assert spec.names == ("a", "b/0", "b/1")
    assert leaves[0] == ["x", "y"]


@pytest.mark.parametrize(
    ("tree", "other", "message"),
    [
        ({"a": 1}, {"b": 1}, r'"value": expected a dict with the keys \[\'a\'\], found .*\'b\''),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, r'"a": expected a dict .*\'b\', \'c\''),
        ({"a": {"b": 1}}, {"a": 5}, r'"a": expected a dict .* found a int'),
        ((1, 2), (1, 2, 3), '"value": expected a tuple of 2, found a tuple of 3'),
        ((1, 2), [1, "x"], '"value": expected a tuple of 2, found a list of 2'),
        ({"a": [1, "x"]}, {"a": []}, '"a": expected a list of 2, found a list of 0.*sk.Json'),
        ({"a": 1, "n": None}, {"a": 1, "n": 3}, '"n": expected None, found a int'),
    ],
)
def test_another_structure_is_named(tree: object, other: object, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        flatten(tree)[1].flatten(other)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": {1.5: 2}}, r'column "a" has the key 1\.5 of type float'),
        ({True: 2}, "key True of type bool"),
        ({"a": {1: 2, "1": 3}}, 'column "a" has two keys of one name'),
        ({"p": Point(1, 2)}, 'column "p" is a Point, which would come back as a plain tuple'),
    ],
)
def test_trees_that_would_not_come_back_are_refused(tree: object, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        flatten(tree)


def test_nesting_is_bounded() -> None:
    tree: object = 1
    for _ in range(70):
        tree = {"a": tree}
    with pytest.raises(SchemaError, match="64 deep"):
        flatten(tree)


def test_unflatten_counts_the_leaves() -> None:
    _, spec = flatten({"a": (1, 2)})
    with pytest.raises(ValueError, match="3 leaves for a tree of 2"):
        spec.unflatten([1, 2, 3])


def test_treemap() -> None:
    assert treemap(lambda a, b: a + b, {"a": (1, 2)}, {"a": (10, 20)}) == {"a": (11, 22)}


@pytest.mark.parametrize(
    "value",
    [
        5,
        "node",
        {"dict": 5},
        {"dict": [["a"]]},
        {"dict": [[1.5, "leaf"]]},
        {"dict": [["a", "leaf"], ["a", "leaf"]]},
        {"dict": [[1, "leaf"], ["1", "leaf"]]},
        {"list": "leaf"},
        {"list": ["leaf"], "tuple": []},
        {"set": ["leaf"]},
        {},
    ],
)
def test_a_stored_tree_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="the schema's tree"):
        TreeSpec.from_json(value)


def test_a_stored_tree_that_is_too_deep_is_refused() -> None:
    value: object = "leaf"
    for _ in range(100):
        value = {"list": [value]}
    with pytest.raises(FormatError, match="deeper than 64"):
        TreeSpec.from_json(value)
    assert TreeSpec.from_json("leaf") is LEAF
