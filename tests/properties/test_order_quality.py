"""The quality of the shuffles, measured: neighbours, batches, positions, epochs and learning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamkit.order import ChunkShuffle, GlobalShuffle, Sequential, Shuffle

SHUFFLES = [GlobalShuffle(), ChunkShuffle(64)]
shuffles = pytest.mark.parametrize("shuffle", SHUFFLES, ids=repr)


def varied(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Chunk sizes about `size`, up to a fifth larger."""
    return size + np.random.default_rng(seed).integers(0, size // 5 + 1, count)


def chunks_of(sizes: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)[indices]


@shuffles
@pytest.mark.parametrize("seed", range(3))
def test_the_rank_correlation_of_neighbours_is_below_a_hundredth(shuffle, seed):
    # 20,000 chunks: with few chunks the numbers of the open ones correlate by chance.
    order = shuffle.bind(np.full(20_000, 50), seed=seed)
    ranks = order.indices(np.arange(order.num_samples))
    assert abs(np.corrcoef(ranks[1:], ranks[:-1])[0, 1]) < 0.01


def test_the_rank_correlation_of_neighbours_has_no_bias_with_few_chunks():
    found = []
    for seed in range(40):
        order = ChunkShuffle(64).bind(np.full(300, 100), seed=seed)
        ranks = order.indices(np.arange(order.num_samples))
        found.append(np.corrcoef(ranks[1:], ranks[:-1])[0, 1])
    assert abs(np.mean(found)) < 0.02


@pytest.mark.parametrize(
    ("window", "num_chunks", "batch_sizes"),
    [(64, 1000, [8, 16, 32, 64, 100, 128, 256]), (64, 200, [32, 64, 256]), (12, 300, [6, 12, 48])],
)
def test_a_batch_has_samples_of_many_chunks(window, num_chunks, batch_sizes):
    sizes = varied(num_chunks, 500)
    order = ChunkShuffle(window).bind(sizes, seed=3)
    n = order.num_samples
    chunks = chunks_of(sizes, order.indices(np.arange(2 * n)))
    for batch_size in batch_sizes:
        batches = chunks[: 2 * n // batch_size * batch_size].reshape(-1, batch_size)
        rows = np.sort(batches[:: max(1, len(batches) // 1000)], axis=1)
        distinct = 1 + (np.diff(rows, axis=1) > 0).sum(axis=1)
        assert distinct.mean() >= 0.9 * min(window, batch_size, num_chunks)


def test_with_hardly_more_chunks_than_slots_a_batch_still_has_most_of_them():
    # Both halves of a chunk that is cut are read at the same time, by neighbouring slots; with one
    # chunk a slot nearly all chunks are cut, so a turn has three quarters of them.
    sizes = varied(64, 500)
    chunks = chunks_of(sizes, ChunkShuffle(64).bind(sizes, seed=3).indices(np.arange(30_000)))
    distinct = [len(np.unique(batch)) for batch in chunks[: 30_000 // 64 * 64].reshape(-1, 64)]
    assert np.mean(distinct) > 0.7 * 64


@shuffles
def test_each_sample_stands_everywhere_equally_often(shuffle):
    """Chi-square of the positions of single samples over 200 epochs, for 20 seeds."""
    sizes, bins, epochs = varied(90, 12), 16, 200
    n = int(sizes.sum())
    asked = np.array([0, 1, n // 3, n // 2, n - 1])
    for seed in range(20):
        orders = shuffle.bind(sizes, seed=seed).indices(np.arange(epochs * n)).reshape(epochs, n)
        places = np.argsort(orders, axis=1)[:, asked] * bins // n
        # One sample: epochs are independent, samples of one epoch may not be.
        for place in places.T:
            counts = np.bincount(place, minlength=bins)
            statistic = ((counts - epochs / bins) ** 2 / (epochs / bins)).sum()
            # 100 tests, so each is held to a hundredth of the thousandth asked of all of them.
            assert chi_square_tail(statistic, bins - 1) > 1e-5


@shuffles
def test_positions_over_20_seeds_are_uniform(shuffle):
    """One chi-square of positions over 20 seeds and 100 epochs, p > 0.001."""
    sizes, bins, epochs = varied(90, 12), 32, 100
    n = int(sizes.sum())
    counts = np.zeros(bins)
    for seed in range(20):
        orders = shuffle.bind(sizes, seed=seed).indices(np.arange(epochs * n)).reshape(epochs, n)
        counts += np.bincount(np.argmax(orders == n // 5, axis=1) * bins // n, minlength=bins)
    expected = counts.sum() / bins
    assert chi_square_tail(((counts - expected) ** 2 / expected).sum(), bins - 1) > 0.001


def chi_square_tail(statistic: float, degrees: int) -> float:
    """The chance of a larger chi-square, by the cube root approximation of Wilson and Hilferty."""
    spread = 2 / (9 * degrees)
    normal = ((statistic / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(normal / math.sqrt(2))


def test_the_approximation_of_the_chi_square_tail():
    # From tables: the 0.1% points.
    for degrees, point in ((15, 37.70), (31, 61.10)):
        assert chi_square_tail(point, degrees) == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize(("num_chunks", "epochs"), [(200, None), (200, 1), (1000, None)])
def test_positions_of_one_epoch_say_nothing_of_the_next(num_chunks, epochs):
    # Whole chunks move, so one pair of epochs scatters by about 1 / sqrt(chunks).
    found = []
    for seed in range(8):
        order = ChunkShuffle(64).bind(varied(num_chunks, 40, seed), seed=seed, epochs=epochs)
        n = order.num_samples
        orders = order.indices(np.arange(6 * n)).reshape(6, n)
        places = np.argsort(orders, axis=1)
        found += [np.corrcoef(places[e], places[e + 1])[0, 1] for e in range(5)]
    assert abs(np.mean(found)) < 0.03
    assert np.std(found) < 0.08


def accuracy(shuffle: Shuffle, seed: int) -> float:
    """Train a softmax classifier for two epochs on class-sorted chunks; return its accuracy."""
    rng = np.random.default_rng(seed)
    classes, width, sizes = 10, 20, varied(200, 50)
    n = int(sizes.sum())
    centres = rng.normal(size=(classes, width))
    labels = np.arange(n) * classes // n
    x = centres[labels] + 1.3 * rng.normal(size=(n, width))
    test_labels = rng.integers(0, classes, 4000)
    test_x = centres[test_labels] + 1.3 * rng.normal(size=(4000, width))
    weights = np.zeros((width, classes))
    batches = shuffle.bind(sizes, seed=seed).indices(np.arange(2 * n // 64 * 64)).reshape(-1, 64)
    for step, batch in enumerate(batches):
        scores = x[batch] @ weights
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        chances[np.arange(64), labels[batch]] -= 1
        # The usual schedule: the rate falls to zero.
        weights -= 0.5 * (1 - step / len(batches)) * x[batch].T @ chances / 64
    return float((np.argmax(test_x @ weights, axis=1) == test_labels).mean())


def test_a_classifier_learns_as_well_from_chunk_shuffle_as_from_a_full_shuffle():
    full, chunked, stored = (
        np.array([accuracy(shuffle, seed) for seed in range(5)])
        for shuffle in (GlobalShuffle(), ChunkShuffle(64), Sequential())
    )
    differences = chunked - full
    noise = max(differences.std(ddof=1) / math.sqrt(5), 0.002)
    assert abs(differences.mean()) < 3 * noise
    assert abs(differences.mean()) < 0.01
    # The measure sees a bad order: one class after the other is far behind.
    assert (full - stored).mean() > 0.02
