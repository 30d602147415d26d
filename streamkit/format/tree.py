"""Samples as trees: nested dict, list and tuple nodes with leaves.

Leaves are listed depth first, dict keys in the order in which they were inserted. A list of
Python numbers is one leaf (a 1-D array); every other list or tuple is structure. `None` is a
node without leaves, as in JAX. This module knows nothing of dtypes or storage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from streamkit.errors import FormatError, SchemaError

Tree = Any
NodeKind = Literal["leaf", "dict", "list", "tuple", "none"]
_NUMBERS = (bool, int, float, complex)
_MAX_DEPTH = 64
MAX_NAME_LENGTH = 1024


@dataclass(frozen=True)
class TreeSpec:
    """The structure of a sample without its leaves.

    Attributes:
        kind: What this node is.
        keys: The keys of a dict node (str or int), in order.
        children: The nodes below; empty for leaves and None.
    """

    kind: NodeKind
    keys: tuple[str | int, ...] = ()
    children: tuple[TreeSpec, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """One name per leaf: its path joined with "/"; the leaf of a bare sample is "value"."""
        if self.kind == "leaf":
            return ("value",)
        return tuple("/".join(path) for path in _paths(self))

    @cached_property
    def num_leaves(self) -> int:
        """How many leaves the tree has."""
        return len(self.names) if self.kind != "none" else 0

    def count_leaves(self) -> int:
        """How many leaves the tree has, without naming them."""
        if self.kind == "leaf":
            return 1
        return sum(child.count_leaves() for child in self.children)

    @cached_property
    def _flat_keys(self) -> tuple[str | int, ...] | None:
        """The keys of a dict whose children are all leaves (the usual sample), else None."""
        if self.kind == "dict" and all(child.kind == "leaf" for child in self.children):
            return self.keys
        return None

    def unflatten(self, leaves: Sequence[Any]) -> Tree:
        """Build the tree of these leaves (one per name)."""
        if self._flat_keys is not None:
            return dict(zip(self._flat_keys, leaves, strict=True))
        iterator = iter(leaves)
        tree = _build(self, iterator)
        if next(iterator, self) is not self:
            raise ValueError(f"{len(leaves)} leaves for a tree of {self.num_leaves}")
        return tree

    def flatten(self, tree: Tree) -> list[Any]:
        """List the leaves of a tree that must have this structure.

        Raises:
            SchemaError: The structure differs; the message names the place.
        """
        keys = self._flat_keys
        if keys is not None and type(tree) is dict and len(tree) == len(keys):
            try:
                return [tree[key] for key in keys]
            except KeyError:
                pass  # the walk below names the place
        leaves: list[Any] = []
        _walk_like(self, tree, "", leaves)
        return leaves

    def to_json(self) -> Any:
        """A JSON value from which `from_json` builds the same structure."""
        if self.kind == "leaf":
            return "leaf"
        if self.kind == "none":
            return None
        children = [child.to_json() for child in self.children]
        if self.kind == "dict":
            return {"dict": [[key, child] for key, child in zip(self.keys, children, strict=True)]}
        return {self.kind: children}

    @classmethod
    def from_json(cls, value: Any, *, depth: int = 0, path_length: int = 0) -> TreeSpec:
        """Build a structure from JSON; a `FormatError` says what is wrong with it."""
        if depth > _MAX_DEPTH:
            raise FormatError(f"the schema's tree is nested deeper than {_MAX_DEPTH}")
        # A long key would be repeated in the names of all the leaves below it.
        if path_length > MAX_NAME_LENGTH:
            raise FormatError(f"the schema's tree has names of more than {MAX_NAME_LENGTH}")
        if value == "leaf":
            return LEAF
        if value is None:
            return cls("none")
        if isinstance(value, dict) and len(value) == 1:
            ((kind, items),) = value.items()
            if kind in ("list", "tuple") and isinstance(items, list):
                longest = path_length + len(str(len(items))) + 1
                children = tuple(
                    cls.from_json(item, depth=depth + 1, path_length=longest) for item in items
                )
                return cls(kind, children=children)
            if kind == "dict" and isinstance(items, list):
                return cls._dict_from_json(items, depth, path_length)
        raise FormatError(f"the schema's tree holds {value!r:.80}, which is no node")

    @classmethod
    def _dict_from_json(cls, items: list[Any], depth: int, path_length: int) -> TreeSpec:
        for item in items:
            if not (isinstance(item, list) and len(item) == 2 and type(item[0]) in (str, int)):
                raise FormatError(f"the schema's tree holds {item!r:.80}, which is no key and node")
        keys = tuple(item[0] for item in items)
        if len(set(map(str, keys))) != len(keys):
            raise FormatError(f"the schema's tree repeats a key in {list(keys)!r:.80}")
        children = tuple(
            cls.from_json(node, depth=depth + 1, path_length=path_length + len(str(key)) + 1)
            for key, node in items
        )
        return cls("dict", keys, children)


LEAF = TreeSpec("leaf")


def is_number_list(value: Any) -> bool:
    """Whether a list is one leaf: Python numbers only, or empty."""
    return type(value) is list and (
        not value or (isinstance(value[0], _NUMBERS) and all(map(_is_number, value)))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBERS)


def flatten(tree: Tree, *, batch: bool = False) -> tuple[list[Any], TreeSpec]:
    """List the leaves of a sample, and its structure.

    Args:
        tree: The sample.
        batch: The tree holds stacked columns: every list is a leaf, one value per row.

    Raises:
        SchemaError: A dict key is neither str nor int, two keys have the same name, a named
            tuple stands where structure is meant, or the nesting passes 64 levels.
    """
    leaves: list[Any] = []
    spec = _walk(tree, "", leaves, 0, batch)
    return leaves, spec


def treemap(function: Callable[..., Any], tree: Tree, *rest: Tree) -> Tree:
    """Apply `function` to the leaves of trees of one structure."""
    leaves, spec = flatten(tree)
    others = [spec.flatten(other) for other in rest]
    return spec.unflatten([function(*row) for row in zip(leaves, *others, strict=True)])


def _walk(tree: Tree, path: str, leaves: list[Any], depth: int, batch: bool) -> TreeSpec:
    if depth > _MAX_DEPTH:
        raise SchemaError(f'column "{path[:80]}": samples may be nested at most {_MAX_DEPTH} deep')
    if tree is None:
        return TreeSpec("none")
    if isinstance(tree, dict):
        _check_keys(tree, path)
        return TreeSpec(
            "dict",
            tuple(tree),
            tuple(_walk(tree[k], _join(path, k), leaves, depth + 1, batch) for k in tree),
        )
    if isinstance(tree, tuple) and type(tree) is not tuple:
        raise SchemaError(
            f'column "{path or "value"}" is a {type(tree).__name__}, which would come back as a '
            "plain tuple; write a tuple or a dict (value._asdict())"
        )
    if isinstance(tree, tuple) or (
        isinstance(tree, list) and not batch and not is_number_list(tree)
    ):
        kind: NodeKind = "list" if isinstance(tree, list) else "tuple"
        children = (_walk(c, _join(path, i), leaves, depth + 1, batch) for i, c in enumerate(tree))
        return TreeSpec(kind, (), tuple(children))
    leaves.append(tree)
    return LEAF


def _check_keys(tree: dict[Any, Any], path: str) -> None:
    for key in tree:
        if type(key) not in (str, int):
            raise SchemaError(
                f'column "{path or "value"}" has the key {key!r:.80} of type '
                f"{type(key).__name__}; keys must be str or int"
            )
    if len({str(key) for key in tree}) != len(tree):
        raise SchemaError(f'column "{path or "value"}" has two keys of one name: {list(tree)!r}')


def _walk_like(spec: TreeSpec, tree: Tree, path: str, leaves: list[Any]) -> None:
    if spec.kind == "leaf":
        leaves.append(tree)
        return
    found = _describe(tree)
    where = path or "value"
    if spec.kind == "none":
        if tree is not None:
            raise SchemaError(f'column "{where}": expected None, found {found}')
    elif spec.kind == "dict":
        if not isinstance(tree, dict) or tree.keys() != set(spec.keys):
            raise SchemaError(
                f'column "{where}": expected a dict with the keys {list(spec.keys)}, found {found}'
            )
        for key, child in zip(spec.keys, spec.children, strict=True):
            _walk_like(child, tree[key], _join(path, key), leaves)
    else:
        expected = list if spec.kind == "list" else tuple
        if not isinstance(tree, expected) or len(tree) != len(spec.children):
            raise SchemaError(
                f'column "{where}": expected a {spec.kind} of {len(spec.children)}, found {found} '
                "(structure is fixed; sk.Json(value) is a leaf of free form)"
            )
        for number, child in enumerate(spec.children):
            _walk_like(child, tree[number], _join(path, number), leaves)


def _describe(tree: Tree) -> str:
    if isinstance(tree, dict):
        return f"a dict with the keys {list(tree)!r:.200}"
    if isinstance(tree, (list, tuple)):
        return f"a {type(tree).__name__} of {len(tree)}"
    return "None" if tree is None else f"a {type(tree).__name__}"


def _join(path: str, key: str | int) -> str:
    return f"{path}/{key}" if path else str(key)


def _paths(spec: TreeSpec) -> list[tuple[str, ...]]:
    if spec.kind == "leaf":
        return [()]
    keys = spec.keys if spec.kind == "dict" else range(len(spec.children))
    return [
        (str(key), *path)
        for key, child in zip(keys, spec.children, strict=True)
        for path in _paths(child)
    ]


def _build(spec: TreeSpec, leaves: Any) -> Tree:
    if spec.kind == "leaf":
        return next(leaves)
    if spec.kind == "none":
        return None
    children = [_build(child, leaves) for child in spec.children]
    if spec.kind == "dict":
        return dict(zip(spec.keys, children, strict=True))
    return children if spec.kind == "list" else tuple(children)
