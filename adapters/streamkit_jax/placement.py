"""One host batch in, the same tree with its numeric leaves on the device out.

Knows JAX's types and nothing of threads or of positions. What JAX has no dtype for (str, bytes,
`datetime64`, objects) stays on the host as it is, and so does a ragged column, which is a list
with one array per sample: `sk.Loader(pad=...)` makes it an array.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding
from numpy.typing import NDArray

Target: TypeAlias = jax.Device | Sharding | None


def check_target(target: Target) -> None:
    """Refuse a sharding that spans processes: one process cannot fill it by itself.

    Raises:
        ValueError: `target` is a sharding over devices that this process does not hold.
    """
    if isinstance(target, Sharding) and not target.is_fully_addressable:
        raise ValueError(
            f"the sharding {target} spans devices of other processes, and DeviceFeed places the "
            "batches of one process; give it a sharding over jax.local_devices()"
        )


def place(batch: Any, target: Target, spec: Any | None) -> Any:
    """Move the numeric arrays of a batch to the device in one dispatch.

    The arrays are handed over: on CPU JAX takes well-aligned NumPy memory as its own without a
    copy, elsewhere it reads the memory until the transfer is done, so nobody may write to them
    afterwards.

    Args:
        batch: Pytree of arrays `[rows, ...]` and of lists with one value per sample.
        target: A device, a sharding that fits every numeric leaf, or None for JAX's default.
        spec: Tree of the batch's columns, which tells a column that is a list from a list of
            columns. None: lists are structure, as JAX reads them.

    Returns:
        A tree of the same structure; numeric leaves are `jax.Array`.

    Raises:
        OverflowError: An integer does not fit the 32 bits that JAX has with x64 off.
    """
    treedef: Any
    named, treedef = jax.tree_util.tree_flatten_with_path(batch if spec is None else spec)
    leaves = treedef.flatten_up_to(batch)
    numeric = [i for i, leaf in enumerate(leaves) if _is_numeric(leaf)]
    arrays = [_fit_to_jax(leaves[i], named[i][0]) for i in numeric]
    for i, array in zip(numeric, jax.device_put(arrays, target), strict=True):
        leaves[i] = array
    return jax.tree_util.tree_unflatten(treedef, leaves)


def _is_numeric(leaf: Any) -> bool:
    if not isinstance(leaf, np.ndarray | np.generic):
        return False
    return leaf.dtype == np.bool_ or jnp.issubdtype(leaf.dtype, np.number)


def _fit_to_jax(array: NDArray[Any] | np.generic, path: tuple[Any, ...]) -> NDArray[Any]:
    """Narrow 64-bit integers where JAX would, but only if every value survives it.

    `jax.device_put` with x64 off keeps the low 32 bits of an int64 and says nothing.
    """
    value = np.asarray(array)
    narrow = np.dtype(jax.dtypes.canonicalize_dtype(value.dtype))
    if value.dtype.kind not in "iu" or value.dtype == narrow:
        return value
    if value.size:
        limits = np.iinfo(narrow)
        low, high = int(value.min()), int(value.max())
        if low < limits.min or high > limits.max:
            raise OverflowError(
                f"column {jax.tree_util.keystr(path) or 'value'} of dtype {value.dtype} holds "
                f"{low if low < limits.min else high}, which {narrow} cannot, and JAX has no "
                "64-bit integers with x64 off; set jax.config.update('jax_enable_x64', True), or "
                "narrow the column in a batch_transform"
            )
    return value.astype(narrow)
