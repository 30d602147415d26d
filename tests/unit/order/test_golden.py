"""The literal order of a few seeds: saved positions rely on it, so no change goes unnoticed."""

from __future__ import annotations

import numpy as np
import pytest

from streamkit.order import ChunkShuffle, GlobalShuffle, derive_key, keyed_hash
from streamkit.order.permutation import permute

LARGEST = 2**64 - 1


def test_keys():
    assert derive_key(0, "a") == 10832945292165883620
    assert derive_key(1, "a", 2) == 4497289841379894180
    assert derive_key(LARGEST, "purpose of eight bytes and more", 3, 4) == 11799739678425503631
    assert derive_key(7, 8) == 984625039353822711
    expected = [4517933670823692284, 12773366489153039575, 1083902114974056470]
    assert keyed_hash(5, [0, 1, 2**63]).tolist() == expected


@pytest.mark.parametrize(
    ("n", "key", "expected"),
    [
        (10, 1, [6, 9, 8, 1, 4, 3, 7, 0]),
        (64, 2, [48, 62, 61, 24, 49, 8, 22, 44]),
        (1000, 3, [862, 115, 189, 699, 454, 756, 630, 134]),
        (
            10**12,
            2**63 + 5,
            [
                *(951769482677, 523162429507, 389770336131, 121547011472),
                *(655788128979, 649946433993, 258603202714, 78253504884),
            ],
        ),
    ],
)
def test_permutation(n, key, expected):
    assert permute(np.arange(8), n, key).tolist() == expected


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, [201, 96, 639, 54, 703, 910, 181, 501]),
        (1, [890, 6, 983, 415, 942, 953, 23, 86]),
        (LARGEST, [797, 596, 431, 673, 110, 779, 191, 236]),
    ],
)
def test_global_shuffle_across_two_epochs(seed, expected):
    order = GlobalShuffle().bind([1000], seed=seed)
    assert order.indices(np.arange(996, 1004)).tolist() == expected


@pytest.mark.parametrize(
    ("seed", "window", "epochs", "indices", "slots"),
    [
        (
            *(0, 64, None),
            [110, 5178, 4191, 2244, 3791, 521, 714, 5490, 619, 5332],
            [20, 4, 36, 60, 28, 12, 44, 56, 24, 8],
        ),
        (
            *(0, 4, 1),
            [5468, 5481, 1910, 5471, 4359, 1918, 1941, 4363, 4351, 1958],
            [1, 0, 2, 1, 0, 2, 1, 3, 3, 1],
        ),
        (
            *(1, 64, None),
            [536, 2928, 5568, 1813, 3304, 1589, 2333, 5219, 4009, 2462],
            [4, 52, 20, 44, 12, 60, 28, 40, 8, 56],
        ),
        (
            *(1, 4, 1),
            [898, 900, 3462, 905, 3608, 4226, 4236, 3574, 4245, 3612],
            [2, 1, 3, 1, 3, 1, 0, 2, 0, 2],
        ),
        (
            *(LARGEST, 64, None),
            [1392, 2926, 2494, 513, 4489, 3917, 536, 690, 4887, 4798],
            [28, 12, 44, 4, 36, 20, 52, 0, 32, 16],
        ),
        (
            *(LARGEST, 4, 1),
            [3388, 3402, 495, 3413, 4480, 3963, 4503, 3966, 4469, 3960],
            [0, 3, 1, 3, 2, 0, 3, 1, 3, 1],
        ),
    ],
)
def test_chunk_shuffle_across_two_epochs(seed, window, epochs, indices, slots):
    order = ChunkShuffle(window).bind([100, 0, 17] + [50] * 120, seed=seed, epochs=epochs)
    found = order.indices_and_slots(np.arange(6113, 6123))
    assert found[0].tolist() == indices
    assert found[1].tolist() == slots
