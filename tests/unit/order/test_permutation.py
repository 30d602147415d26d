from __future__ import annotations

import math

import numpy as np
import pytest

from streamkit.order.hashing import derive_key, keyed_hash
from streamkit.order.permutation import BLOCK, Domains, permute, radices

SIZES = [1, 2, 3, 4, 5, 17, 63, 64, 65, 1000, 65_537, 10**6, 2**32, 2**32 + 1, 10**12, 2**49]


def reference(x: int, n: int, key: int) -> int:
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    while True:
        left, right = divmod(x, b)
        for i in range(16 if n <= 64 else 8):
            round_key = ((key & 0xFFFFFFFF) + i * (key >> 32 | 1)) % 2**32
            if i % 2 == 0:
                left = (left + hashed(right, round_key, a)) % a
            else:
                right = (right + hashed(left, round_key, b)) % b
        x = left * b + right
        if x < n:
            return x


def hashed(x: int, key: int, modulus: int) -> int:
    h = x ^ x >> 16 ^ key
    h = h * 0x7FEB352D % 2**32
    h ^= h >> 15
    return (h * 0x846CA68B % 2**32) * modulus >> 32


def some_values(n: int) -> np.ndarray:
    if n <= 1000:
        return np.arange(n)
    return np.append(np.random.default_rng(0).integers(0, n, 150), [0, n - 1])


@pytest.mark.parametrize("n", [*SIZES, 2**62])
def test_permute_agrees_with_the_reference(n):
    key = derive_key(3, "test", n)
    values = some_values(n)
    assert permute(values, n, key).tolist() == [reference(int(x), n, key) for x in values]


@pytest.mark.parametrize("n", SIZES)
def test_a_domain_among_others_agrees_with_permute(n):
    domains = Domains.of(np.array([7, n, 70_000]))
    keys = keyed_hash(5, np.arange(3))
    values = some_values(n)
    together = domains.permute(
        np.concatenate([values, [3], [69_999]]), np.append(np.full(len(values), 1), [0, 2]), keys
    )
    assert together[:-2].tolist() == permute(values, n, int(keys[1])).tolist()
    assert together[-2] == permute(np.array([3]), 7, int(keys[0]))[0]
    assert together[-1] == permute(np.array([69_999]), 70_000, int(keys[2]))[0]


def test_blocks_do_not_show():
    values = np.arange(2 * BLOCK + 77)
    whole = permute(values, len(values), 99)
    assert np.array_equal(np.sort(whole), values)
    assert np.array_equal(
        permute(values[BLOCK - 5 : BLOCK + 5], len(values), 99), whole[BLOCK - 5 : BLOCK + 5]
    )


def test_small_permutations_are_all_drawn_equally_often():
    # 24 permutations of 4: a chi-square of 23 degrees of freedom, whose 99.9% point is 49.7.
    keys = [derive_key(0, "test", i) for i in range(4800)]
    drawn = [tuple(permute(np.arange(4), 4, key).tolist()) for key in keys]
    counts = np.unique([hash(d) for d in drawn], return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 49.7


def test_radices_are_exact():
    near = [m * m + d for m in (2, 3, 1000, 2**26 - 1, 2**31 - 1) for d in (-1, 0, 1)]
    a, b = radices(np.array(near))
    assert a.tolist() == [math.isqrt(n - 1) + 1 for n in near]
    assert b.tolist() == [-(-n // (math.isqrt(n - 1) + 1)) for n in near]


@pytest.mark.parametrize("n", [0, -1, 2**62 + 1])
def test_a_size_out_of_range_is_named(n):
    with pytest.raises(ValueError, match=f"size \\(={n}\\)"):
        permute(np.arange(1), n, 0)


@pytest.mark.parametrize("sizes", [[5, 0], [5, 2**50 + 1]])
def test_a_tabulated_size_out_of_range_is_named(sizes):
    with pytest.raises(ValueError, match=f"={sizes[1]}"):
        Domains.of(np.array(sizes))
