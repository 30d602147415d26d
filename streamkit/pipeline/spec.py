"""Shapes and dtypes of batches, known without reading data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from streamkit.datasets.base import ArraySpec
from streamkit.format.tree import flatten
from streamkit.pipeline.assemble import check_can_mask
from streamkit.pipeline.options import Recipe


def batch_spec(sample_spec: Any, rows: int, recipe: Recipe) -> Any:
    """The spec of a batch from the spec of a sample.

    Args:
        sample_spec: The sample's tree with an `ArraySpec` for each leaf.
        rows: Rows of the batch.
        recipe: How the batch is made.

    Returns:
        The batch's tree with an `ArraySpec` of shape `[rows, ...]` for each column; columns that
        are lists keep their kind and have None for axes that vary.

    Raises:
        TypeError: A transform makes the batch, so only a batch can tell.
        ValueError: `pad` names a column that is not there or not ragged.
    """
    for name in ("transform", "batch_transform"):
        if getattr(recipe, name) is not None:
            raise TypeError(
                f"the element_spec of batches made by {name}= is not known without reading data; "
                "take the shapes and dtypes of loader.batch(0)"
            )
    leaves, tree = flatten(sample_spec)
    unknown = [name for name in recipe.pads if name not in tree.names]
    if unknown:
        raise ValueError(
            f'pad names the column "{unknown[0]}", which the samples do not have; they have '
            f"{', '.join(tree.names)}"
        )
    columns = []
    for name, leaf in zip(tree.names, leaves, strict=True):
        pad = recipe.pads.get(name)
        if pad is None:
            columns.append(ArraySpec((rows, *leaf.shape), leaf.dtype, leaf.kind))
        else:
            columns.append(ArraySpec((rows, pad[0], *leaf.shape[1:]), leaf.dtype, "array"))
    spec = tree.unflatten(columns)
    if recipe.has_mask:
        check_can_mask(spec)
        spec = {**spec, "mask": ArraySpec((rows,), np.dtype(np.bool_), "array")}
    return spec


def spec_bytes(spec: Any) -> int | None:
    """The memory of a batch in bytes; None if its size varies or its dtypes are not known."""
    total = 0
    for leaf in flatten(spec)[0]:
        if leaf.dtype is None or leaf.kind != "array" or None in leaf.shape:
            return None
        total += math.prod(leaf.shape) * leaf.dtype.itemsize
    return total
