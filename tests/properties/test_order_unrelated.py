"""Epochs and seeds are unrelated: any two orders share no more than two random ones.

Two random permutations agree in one position on average, with a variance of 1, and share
`(n - 1) / n` pairs of neighbours, with a variance of about 1. Over all pairs of M orders the
agreements are counted at once: a value seen c times at one position makes `c * (c - 1) / 2`.
"""

from __future__ import annotations

import numpy as np
import pytest

from streamkit.order import ChunkShuffle, GlobalShuffle

N = 100
SEEDS = EPOCHS = 100


@pytest.fixture(scope="module")
def orders() -> np.ndarray:
    """The full shuffles of seeds 0..99 and epochs 0..99, `[seed, epoch, position]`."""
    out = np.empty((SEEDS, EPOCHS, N), np.int64)
    for seed in range(SEEDS):
        positions = np.arange(EPOCHS * N)
        out[seed] = GlobalShuffle().bind([N], seed=seed).indices(positions).reshape(EPOCHS, N)
    return out


def shared(orders: np.ndarray) -> tuple[int, int]:
    """Count the fixed points and the neighbour pairs shared by all pairs of orders `[m, n]`."""
    fixed = orders + N * np.arange(N)
    neighbours = orders[:, 1:] + N * orders[:, :-1]
    counts = [np.bincount(cells.ravel(), minlength=N * N) for cells in (fixed, neighbours)]
    return tuple(int((c * (c - 1) // 2).sum()) for c in counts)


def assert_within_four_sigma(found: tuple[int, int], pairs: int) -> None:
    for count, mean in zip(found, (1, (N - 1) / N), strict=True):
        assert abs(count - pairs * mean) < 4 * np.sqrt(pairs), (count, pairs)


def test_all_pairs_of_seeds_and_epochs(orders):
    flat = orders.reshape(-1, N)
    assert_within_four_sigma(shared(flat), len(flat) * (len(flat) - 1) // 2)


def test_epochs_of_one_seed(orders):
    found = np.array([shared(orders[seed]) for seed in range(SEEDS)])
    pairs = EPOCHS * (EPOCHS - 1) // 2
    assert_within_four_sigma(tuple(found.sum(axis=0)), SEEDS * pairs)
    for one in found:
        assert_within_four_sigma(tuple(one), pairs)


def test_seeds_in_one_epoch(orders):
    found = np.array([shared(orders[:, epoch]) for epoch in range(EPOCHS)])
    pairs = SEEDS * (SEEDS - 1) // 2
    assert_within_four_sigma(tuple(found.sum(axis=0)), EPOCHS * pairs)
    for one in found:
        assert_within_four_sigma(tuple(one), pairs)


@pytest.mark.parametrize(
    "related",
    [
        lambda s, e: (s, e + 1),
        lambda s, e: (s + 1, e),
        lambda s, e: (s + 1, e - 1),
        lambda s, e: (e, s),
        lambda s, e: (s ^ 1, e ^ 1),
    ],
    ids=["next epoch", "next seed", "same sum", "swapped", "last bits"],
)
def test_pairs_that_a_weak_key_would_relate(orders, related):
    both = []
    for seed in range(SEEDS):
        for epoch in range(EPOCHS):
            other = related(seed, epoch)
            if other != (seed, epoch) and 0 <= min(other) <= max(other) < SEEDS:
                both.append((orders[seed, epoch], orders[other]))
    first, second = (np.array(side) for side in zip(*both, strict=True))
    fixed = int((first == second).sum())
    pairs_of = [side[:, :-1] * N + side[:, 1:] for side in (first, second)]
    inverse = np.full((len(first), N * N), False)
    np.put_along_axis(inverse, pairs_of[0], True, axis=1)
    neighbours = int(np.take_along_axis(inverse, pairs_of[1], axis=1).sum())
    assert_within_four_sigma((fixed, neighbours), len(first))


def test_no_two_orders_are_alike(orders):
    """Of 9,900 random pairs, one has more than 9 fixed points with a chance of 1 in 1,000."""
    for group in (orders[0], orders[:, 0]):
        equal = (group[:, None] == group[None]).sum(axis=2)
        np.fill_diagonal(equal, 0)
        assert equal.max() <= 9


@pytest.mark.parametrize("epochs", [None, 1])
def test_epochs_and_seeds_of_chunk_shuffle_have_the_fixed_points_of_random_ones(epochs):
    # The slots are the same in structure, so the variance of a pair is above 1: it is measured.
    n, drawn = 600, []
    for seed in range(20):
        order = ChunkShuffle(16).bind([20] * 30, seed=seed, epochs=epochs)
        drawn.append(order.indices(np.arange(20 * n)).reshape(20, n))
    orders = np.array(drawn)
    for group in (orders, orders.transpose(1, 0, 2)):
        counts = [(one[i] == one[:i]).sum(axis=1) for one in group for i in range(1, len(one))]
        found = np.concatenate(counts)
        assert abs(found.mean() - 1) < 4 * found.std() / np.sqrt(len(found))
