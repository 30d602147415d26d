"""Sizes as people write them: "32MB", "64MiB"."""

from __future__ import annotations

import re

import numpy as np

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def parse_bytes(value: int | str, name: str) -> int:
    """A number of bytes: an int, or a string such as "32MB" (10^6) or "64MiB" (2^20).

    Raises:
        ValueError: Not a size, or not positive.
    """
    size: float = 0
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        size = int(value)
    elif isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(k|M|G|Ki|Mi|Gi|)B?\s*", value)
        size = float(match[1]) * _UNITS[match[2]] if match else 0
    if size < 1:
        raise ValueError(f'{name}={value!r} must be a positive number of bytes, or "32MB", "64MiB"')
    return int(size)
