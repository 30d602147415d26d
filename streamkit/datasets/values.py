"""Values of ragged columns, one per sample: from byte ranges in memory to Python objects.

The loop over samples is what the result needs: a list with an object for each.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.datasets.memory import read_bytes
from streamkit.datasets.options import ReadOptions
from streamkit.errors import FormatError
from streamkit.format.column import Column
from streamkit.format.images import Image, decode_image
from streamkit.format.json_leaf import decode_json
from streamkit.format.media import decode_media


def decode_values(
    addresses: NDArray[np.int64],
    lengths: NDArray[np.int64],
    shapes: NDArray[np.int64] | None,
    column: Column,
    options: ReadOptions,
    where: Callable[[int], str],
) -> list[Any]:
    """Copy or decode one value per sample.

    Args:
        addresses: int64 `[rows]`, where each value begins in memory.
        lengths: int64 `[rows]`, the items of each.
        shapes: int64 `[rows, ndim]` for a column that stores shapes.
        column: What the values are.
        options: How they are read.
        where: Names the place of a row, for errors.

    Raises:
        FormatError: A value does not decode.
    """
    if column.kind == "ragged":
        return _arrays(addresses, lengths, shapes, column)
    decode = _decoder(column, options)
    pairs = zip(addresses.tolist(), lengths.tolist(), strict=True)
    if decode is None:
        return [read_bytes(address, length).tobytes() for address, length in pairs]
    values: list[Any] = []
    try:
        for address, length in pairs:
            values.append(decode(read_bytes(address, length).tobytes()))
    except FormatError as error:
        raise FormatError(f"{where(len(values))}: {error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{where(len(values))}: bytes that are not UTF-8: {error}") from error
    return values


def _arrays(
    addresses: NDArray[np.int64],
    lengths: NDArray[np.int64],
    shapes: NDArray[np.int64] | None,
    column: Column,
) -> list[Any]:
    dtype, item_bytes, item_shape = column.dtype, column.item_bytes, column.item_shape
    values = []
    for row, (address, length) in enumerate(zip(addresses.tolist(), lengths.tolist(), strict=True)):
        value = read_bytes(address, length * item_bytes).copy().view(dtype)
        if shapes is not None:
            value = value.reshape(shapes[row].tolist())
        elif item_shape:
            value = value.reshape(length, *item_shape)
        values.append(value)
    return values


def _decoder(column: Column, options: ReadOptions) -> Callable[[bytes], Any] | None:
    """From the bytes of one value to the value; None where they are the value."""
    kind = column.kind
    if kind == "bytes":
        return None
    if kind == "str":
        return lambda data: data.decode()
    if kind == "json":
        return decode_json
    if kind == "image":
        images = options.images
        return (lambda data: decode_image(data, images)) if images.decode else Image
    if kind == "media":
        media = column.media or ""
        return lambda data: decode_media(data, media, options.decoders)
    return pickle.loads  # opening a dataset with pickles needs allow_pickle=True
