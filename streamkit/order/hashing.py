"""Keyed hashes of integers: the only source of randomness in an order.

Every key is a hash of `(seed, purpose, numbers...)`, never a sum, so that neighbouring seeds and
epochs share nothing. All arithmetic is exact and the same on every machine and NumPy version; a
change of any constant here changes every order, and the golden tests notice.

Reference:
    The finaliser of SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014, with the constants of Stafford's variant 13.
"""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9
_MULTIPLIER_2 = 0x94D049BB133111EB
# Set in the length word of a text, so that a text never looks like a small number.
_TEXT = 1 << 63

# As 0-d arrays: a NumPy scalar costs each operation 0.2 microseconds more.
_ADDEND = np.array(_GOLDEN, np.uint64)
_FACTOR_1 = np.array(_MULTIPLIER_1, np.uint64)
_FACTOR_2 = np.array(_MULTIPLIER_2, np.uint64)
_SHIFT_27 = np.array(27, np.uint64)
_SHIFT_30 = np.array(30, np.uint64)
_SHIFT_31 = np.array(31, np.uint64)
_SHIFT_32 = np.array(32, np.uint64)
_LOW_HALF = np.array(0xFFFFFFFF, np.uint64)


def derive_key(seed: int, purpose: str | int, *numbers: int) -> int:
    """Derive the 64-bit key of one purpose from a seed.

    Keys nest: `derive_key(s, p, x, y) == keyed_hash(derive_key(s, p, x), [y])[0]`, so that a
    whole table of keys is one vectorised hash.

    Args:
        seed: The seed, in [0, 2^64).
        purpose: What the key is for; two purposes never share a key.
        *numbers: Further numbers, each in [0, 2^64), such as an epoch; their order matters.

    Returns:
        The key, in [0, 2^64).

    Raises:
        ValueError: If a number is outside [0, 2^64).
    """
    words = _text_words(purpose) if isinstance(purpose, str) else [purpose]
    key = _mix(_checked_word(seed))
    for word in (*words, *numbers):
        key = _mix(_mix(_checked_word(word)) ^ key)
    return key


def keyed_hash(
    key: int, values: NDArray[np.int64] | NDArray[np.uint64] | list[int]
) -> NDArray[np.uint64]:
    """Hash whole numbers to 64 bits under one key, with full avalanche.

    For one key this is a bijection of the 64-bit numbers: different values never collide.

    Args:
        key: A key of `derive_key`.
        values: Numbers in [0, 2^64), of any shape.

    Returns:
        A new array of hashes, with the shape of `values`.
    """
    numbers = np.asarray(values).astype(np.uint64)
    flat = numbers.reshape(-1)
    _mix_in_place(flat)
    flat ^= np.uint64(key)
    _mix_in_place(flat)
    return numbers


def scale(hashes: NDArray[np.uint64], bound: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Bring 64-bit hashes into `[0, bound)` by multiply-shift: `floor(hash * bound / 2^64)`.

    Args:
        hashes: 64-bit hashes, `[n]`.
        bound: The exclusive upper bounds, each in [0, 2^62]; one, or one per hash.

    Returns:
        Numbers in `[0, bound)`, 0 where the bound is 0.

    Reference:
        Lemire, "Fast random integer generation in an interval", 2019.
    """
    bounds = np.asarray(bound).astype(np.uint64)
    hash_high, hash_low = hashes >> _SHIFT_32, hashes & _LOW_HALF
    if not bounds.size or bounds.max() <= _LOW_HALF:
        product = hash_high * bounds + (hash_low * bounds >> _SHIFT_32)
        return np.asarray(product >> _SHIFT_32, np.int64)
    bound_high, bound_low = bounds >> _SHIFT_32, bounds & _LOW_HALF
    # The schoolbook product in 32-bit halves; no partial sum passes 2^64.
    carry = hash_high * bound_low + (hash_low * bound_low >> _SHIFT_32)
    middle = hash_low * bound_high + (carry & _LOW_HALF)
    high = hash_high * bound_high + (carry >> _SHIFT_32) + (middle >> _SHIFT_32)
    return np.asarray(high, np.int64)


def _text_words(text: str) -> list[int]:
    """Cut a text into 64-bit words, its length first, so that no two texts agree."""
    data = text.encode()
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    return [_TEXT | len(data), *words]


def _checked_word(value: int) -> int:
    number = operator.index(value)
    if not 0 <= number <= _MASK:
        raise ValueError(f"a hashed number (={number}) must be in [0, 2^64)")
    return number


def _mix(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * _MULTIPLIER_1) & _MASK
    value = ((value ^ (value >> 27)) * _MULTIPLIER_2) & _MASK
    return value ^ (value >> 31)


def _mix_in_place(values: NDArray[np.uint64]) -> None:
    """Do what `_mix` does to each of `[n]` values, in place."""
    spare = np.empty_like(values)
    np.add(values, _ADDEND, values)
    np.bitwise_xor(values, np.right_shift(values, _SHIFT_30, spare), values)
    np.multiply(values, _FACTOR_1, values)
    np.bitwise_xor(values, np.right_shift(values, _SHIFT_27, spare), values)
    np.multiply(values, _FACTOR_2, values)
    np.bitwise_xor(values, np.right_shift(values, _SHIFT_31, spare), values)
