from __future__ import annotations

import numpy as np
import pytest

from streamkit.order.hashing import derive_key, keyed_hash, scale


def test_keys_nest():
    assert derive_key(5, "purpose", 7, 9) == int(keyed_hash(derive_key(5, "purpose", 7), [9])[0])


def test_keys_of_neighbouring_arguments_are_all_different():
    keys = {derive_key(s, p, e) for s in range(50) for p in ("a", "b", "", 1) for e in range(50)}
    assert len(keys) == 50 * 4 * 50
    assert derive_key(0, "x", 1, 2) != derive_key(0, "x", 2, 1)
    assert derive_key(0, "a\0") != derive_key(0, "a")


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_a_number_out_of_range_is_named(value):
    with pytest.raises(ValueError, match=str(value)):
        derive_key(value, "x")
    with pytest.raises(ValueError, match=str(value)):
        derive_key(0, "x", value)


def test_one_flipped_bit_flips_half_of_the_bits():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1 << 63, 2000).astype(np.uint64)
    plain = keyed_hash(derive_key(1, "x"), values)
    for bit in range(64):
        flipped = keyed_hash(derive_key(1, "x"), values ^ np.uint64(1 << bit))
        changed = np.unpackbits((plain ^ flipped).view(np.uint8)).reshape(len(values), 64)
        assert abs(changed.mean(axis=0) - 0.5).max() < 0.06


def test_the_hash_keeps_the_shape_and_its_argument():
    values = np.arange(6).reshape(2, 3)
    assert keyed_hash(3, values).shape == (2, 3)
    assert values.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_scale_is_exact():
    hashes = keyed_hash(3, np.arange(500))
    for bound in (0, 1, 2, 7, 2**32 - 1, 2**32, 10**12, 2**62):
        expected = [int(h) * bound >> 64 for h in hashes]
        assert scale(hashes, bound).tolist() == expected
    bounds = np.arange(500) ** 6
    expected = [int(h) * int(b) >> 64 for h, b in zip(hashes, bounds, strict=True)]
    assert scale(hashes, bounds).tolist() == expected
