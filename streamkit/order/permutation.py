"""A keyed permutation of `[0, n)` for any n, computed index by index without a table.

A number x is split into two digits, `x = left * b + right` with `a = ceil(sqrt n)` values of the
left digit and `b = ceil(n / a)` of the right one. The rounds of a Feistel network then alternate

    left  = (left  + F(right)) mod a
    right = (right + F(left))  mod b

where F is a full-avalanche hash under the round's key, brought into range by multiply-shift. Each
round can be undone, so all of them together permute the `a * b >= n` digit pairs. The fewer than a
pairs past n are walked over: a result >= n is put through the network again.

There are 8 rounds, and 16 for n <= 64, where a round draws few bits. A 64-bit key gives round i
the key `low + i * (high | 1)`, modulo 2^32. Nothing here knows of samples or epochs.

Reference:
    Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002 (the network over
    mixed radices, and cycle walking). F is "lowbias32" of Wellons, "Prospecting for hash
    functions", 2018, whose last step changes no bit that the multiply-shift keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Elements per pass. An int64 array of a block is 64 KiB: all of a block's arrays stay in the
# second-level cache, and below the size from which malloc maps pages anew for every array.
BLOCK = 8_192

MAX_DOMAIN = 1 << 62
# Up to here a float64 reciprocal divides exactly; see `_divide`.
MAX_TABULATED_DOMAIN = 1 << 50

_ROUNDS = 8
_SMALL_DOMAIN = 64
_SMALL_ROUNDS = 16

# As 0-d arrays: a NumPy scalar costs each operation 0.2 microseconds more.
_MULTIPLIER_1 = np.array(0x7FEB352D, np.uint32)
_MULTIPLIER_2 = np.array(0x846CA68B, np.uint32)
_SHIFT_15 = np.array(15, np.uint32)
_SHIFT_16 = np.array(16, np.uint32)
_SHIFT_32 = np.array(32, np.uint64)

_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]


def permute(values: NDArray[np.int64], size: int, key: int) -> NDArray[np.int64]:
    """Permute numbers of `[0, size)` under one key.

    Args:
        values: Numbers in `[0, size)`, `[n]`; not checked.
        size: The size of the domain, in [1, 2^62].
        key: The 64-bit key.

    Returns:
        The permuted numbers, a new array `[n]`.

    Raises:
        ValueError: If `size` is not in [1, 2^62].
    """
    if not 1 <= size <= MAX_DOMAIN:
        raise ValueError(f"size (={size}) of a permutation must be in [1, 2^62]")
    network = _Network.of(size, key)
    out = np.empty(len(values), np.int64)
    for start in range(0, len(values), BLOCK):
        block = network.apply(values[start : start + BLOCK])
        outside = np.flatnonzero(block >= size)
        while len(outside):
            again = network.apply(block[outside])
            block[outside] = again
            outside = outside[again >= size]
        out[start : start + BLOCK] = block
    return out


@dataclass(frozen=True, eq=False)
class Domains:
    """Several domains side by side, with their digits tabulated: one row for each chunk.

    Attributes:
        sizes: The sizes of the domains, int64 `[rows]`, each in [1, 2^50].
        left: The values of the left digit (a), uint32 `[rows]`.
        right: The values of the right digit (b), uint32 `[rows]`.
        fold: Whether a digit can pass 16 bits, so that F has to fold its upper half in.
        smallest: The smallest size; without a small domain no element needs more rounds.
    """

    sizes: NDArray[np.int64]
    left: _U32
    right: _U32
    fold: bool
    smallest: int

    @classmethod
    def of(cls, sizes: NDArray[np.int64]) -> Domains:
        """Tabulate the digits of domains of these sizes, `[rows]` with rows >= 1."""
        smallest, largest = int(sizes.min()), int(sizes.max())
        if smallest < 1 or largest > MAX_TABULATED_DOMAIN:
            worst = smallest if smallest < 1 else largest
            raise ValueError(f"the size (={worst}) of a tabulated domain must be in [1, 2^50]")
        left, right = radices(sizes)
        return cls(
            sizes, left.astype(np.uint32), right.astype(np.uint32), largest > 1 << 32, smallest
        )

    def permute(
        self, values: NDArray[np.int64], rows: NDArray[np.int64], keys: _U64
    ) -> NDArray[np.int64]:
        """Permute each number within the domain of its row, under the key of its row.

        Args:
            values: Numbers, `[n]`, each in `[0, sizes[row])`; not checked. Best at most `BLOCK`.
            rows: The row of each number, `[n]`.
            keys: The keys of all domains, `[rows]`.

        Returns:
            The permuted numbers, a new array `[n]`.
        """
        out = self._apply(values, rows, keys)
        outside = np.flatnonzero(out >= self.sizes.take(rows))
        while len(outside):
            walkers = rows[outside]
            again = self._apply(out[outside], walkers, keys)
            out[outside] = again
            outside = outside[again >= self.sizes.take(walkers)]
        return out

    def _apply(
        self, values: NDArray[np.int64], rows: NDArray[np.int64], keys: _U64
    ) -> NDArray[np.int64]:
        """Put each number through the network of its row once."""
        a, b = self.left.take(rows), self.right.take(rows)
        key = keys.take(rows)
        step = (key >> _SHIFT_32).astype(np.uint32) | np.uint32(1)
        key32 = key.astype(np.uint32)
        left, right = _divide(values, b)
        lanes = _Lanes(len(values), self.fold)
        _tabulated_rounds(left, right, a, b, key32, step, lanes, _ROUNDS)
        if self.smallest <= _SMALL_DOMAIN:
            small = np.flatnonzero(self.sizes.take(rows) <= _SMALL_DOMAIN)
            digits = left[small], right[small]
            more = _Lanes(len(small), self.fold)
            rest = _SMALL_ROUNDS - _ROUNDS
            _tabulated_rounds(*digits, a[small], b[small], key32[small], step[small], more, rest)
            left[small], right[small] = digits
        return _join(left, right, b)


def radices(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Compute `a = ceil(sqrt n)` and `b = ceil(n / a)` exactly, for sizes in [1, 2^62]."""
    a = np.sqrt(sizes.astype(np.float64)).astype(np.int64)
    # The floating root is off by at most one either way.
    a -= a * a > sizes
    a += a * a < sizes
    return a, -(-sizes // a)


@dataclass(frozen=True, eq=False)
class _Network:
    """The network of one domain under one key, with its round keys drawn up."""

    a: _U32
    b: _U32
    keys: tuple[_U32, ...]
    fold: bool

    @classmethod
    def of(cls, size: int, key: int) -> _Network:
        a, b = (int(digit[0]) for digit in radices(np.array([size], np.int64)))
        low, step = key & 0xFFFFFFFF, key >> 32 | 1
        rounds = _SMALL_ROUNDS if size <= _SMALL_DOMAIN else _ROUNDS
        keys = tuple(np.array((low + i * step) & 0xFFFFFFFF, np.uint32) for i in range(rounds))
        return cls(np.array(a, np.uint32), np.array(b, np.uint32), keys, a > 1 << 16)

    def apply(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Put each number through the network once; results may lie past the domain's size."""
        b = self.b.astype(np.int64)
        quotient = values // b
        right = (values - quotient * b).astype(np.uint32)
        left = quotient.astype(np.uint32)
        lanes = _Lanes(len(values), self.fold)
        a64, b64 = self.a.astype(np.uint64), self.b.astype(np.uint64)
        for i in range(0, len(self.keys), 2):
            lanes.turn(left, right, self.a, a64, self.keys[i])
            lanes.turn(right, left, self.b, b64, self.keys[i + 1])
        return _join(left, right, self.b)


class _Lanes:
    """The working arrays of one block of a network; used by one thread."""

    def __init__(self, count: int, fold: bool):
        self._hash = np.empty(count, np.uint32)
        self._spare = np.empty(count, np.uint32)
        self._wide = np.empty(count, np.uint64)
        self._fold = fold

    def turn(self, digit: _U32, other: _U32, modulus: _U32, modulus64: _U64, key: _U32) -> None:
        """Do one round in place: `digit = (digit + F(other)) mod modulus`."""
        h, spare, wide = self._hash, self._spare, self._wide
        if self._fold:
            np.right_shift(other, _SHIFT_16, h)
            np.bitwise_xor(h, other, h)
            np.bitwise_xor(h, key, h)
        else:
            np.bitwise_xor(other, key, h)
        np.multiply(h, _MULTIPLIER_1, h)
        np.right_shift(h, _SHIFT_15, spare)
        np.bitwise_xor(h, spare, h)
        np.multiply(h, _MULTIPLIER_2, h)
        np.copyto(wide, h)
        np.multiply(wide, modulus64, wide)
        np.right_shift(wide, _SHIFT_32, wide)
        np.copyto(h, wide, casting="unsafe")
        np.add(digit, h, digit)
        # Below zero wraps to a large number, so the smaller of the two is the remainder. `fmin`
        # is `minimum` for integers, and costs a microsecond less per call.
        np.subtract(digit, modulus, spare)
        np.fmin(digit, spare, digit)


def _tabulated_rounds(
    left: _U32, right: _U32, a: _U32, b: _U32, key: _U32, step: _U32, lanes: _Lanes, rounds: int
) -> None:
    """Do some rounds in place, moving `key` on to that of the round after them."""
    a64, b64 = a.astype(np.uint64), b.astype(np.uint64)
    for _ in range(0, rounds, 2):
        lanes.turn(left, right, a, a64, key)
        np.add(key, step, key)
        lanes.turn(right, left, b, b64, key)
        np.add(key, step, key)


def _divide(values: NDArray[np.int64], divisors: _U32) -> tuple[_U32, _U32]:
    """Divide with remainder, by a divisor per element: six times faster than integer division.

    `(x + 1/2) / d` lies at least `1 / 2d` from a whole number, and a float64 division
    errs by at most `2^-53 * x / d`, so rounding down is exact for x < 2^50.
    """
    ratio = values.astype(np.float64)
    ratio += 0.5
    ratio /= divisors.astype(np.float64)
    quotient = ratio.astype(np.int64)
    product = divisors.astype(np.int64)
    product *= quotient
    remainder = values - product
    return quotient.astype(np.uint32), remainder.astype(np.uint32)


def _join(left: _U32, right: _U32, b: _U32) -> NDArray[np.int64]:
    out = left.astype(np.int64)
    out *= b.astype(np.int64)
    out += right.astype(np.int64)
    return out
