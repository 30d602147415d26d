"""Every order reads each sample exactly once an epoch, whatever the data and the position."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.order import ChunkShuffle, GlobalShuffle, Shard, derive_key, row_order
from streamkit.order.permutation import permute

POWERS = [2**k + d for k in (2, 3, 4, 6, 7, 10, 15, 16) for d in (-1, 0, 1)]
PRIMES = [3, 5, 7, 61, 67, 101, 4093, 65_521, 104_729]

seeds = st.integers(0, 2**64 - 1)
sizes = st.lists(st.integers(0, 60), min_size=1, max_size=60).filter(any)
windows = st.integers(1, 70)
passes = st.one_of(st.none(), st.integers(1, 4))


@pytest.mark.parametrize("n", [1, 2, *POWERS, *PRIMES])
def test_a_permutation_is_a_bijection(n):
    for seed in range(3):
        out = permute(np.arange(n), n, derive_key(seed, "test"))
        assert np.array_equal(np.sort(out), np.arange(n))


@given(n=st.integers(1, 3000), key=seeds)
@settings(max_examples=100, deadline=None)
def test_a_permutation_of_any_size_and_key_is_a_bijection(n, key):
    assert np.array_equal(np.sort(permute(np.arange(n), n, key)), np.arange(n))


@given(n=st.integers(10**11, 10**13), key=seeds, start=st.integers(0, 10**11 - 10_000))
@settings(max_examples=30, deadline=None)
def test_a_large_permutation_is_a_bijection_where_sampled(n, key, start):
    values = np.append(np.arange(start, start + 5000), np.arange(n - 5000, n))
    out = permute(values, n, key)
    assert 0 <= out.min() <= out.max() < n
    assert len(np.unique(out)) == len(np.unique(values))


@given(sizes=sizes, window=windows, seed=seeds, epochs=passes, epoch=st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_a_chunk_shuffle_reads_each_sample_once_an_epoch(sizes, window, seed, epochs, epoch):
    order = ChunkShuffle(window).bind(sizes, seed=seed, epochs=epochs)
    n = order.num_samples
    for e in (epoch, epoch + 1):
        indices, slots = order.indices_and_slots(np.arange(e * n, (e + 1) * n))
        assert np.array_equal(np.sort(indices), np.arange(n))
        assert 0 <= slots.min() <= slots.max() < order.num_slots


@given(sizes=st.lists(st.integers(1, 10**11), min_size=1, max_size=30), window=windows, seed=seeds)
@settings(max_examples=60, deadline=None)
def test_a_chunk_shuffle_of_large_chunks_repeats_nothing(sizes, window, seed):
    order = ChunkShuffle(window).bind(sizes, seed=seed)
    n = order.num_samples
    count = min(n, 3000)
    for first in (0, n - count, 5 * n, 6 * n - count):
        indices = order.indices(np.arange(first, first + count))
        assert 0 <= indices.min() <= indices.max() < n
        assert len(np.unique(indices)) == count


@given(
    sizes=sizes,
    window=windows,
    seed=seeds,
    epochs=passes,
    positions=st.lists(st.integers(0, 2000), min_size=1, max_size=50),
)
@settings(max_examples=100, deadline=None)
def test_a_position_means_the_same_in_any_company(sizes, window, seed, epochs, positions):
    for shuffle in (ChunkShuffle(window), GlobalShuffle()):
        order = shuffle.bind(sizes, seed=seed, epochs=epochs)
        together = order.indices(positions)
        assert together.tolist() == [int(order.indices(p)) for p in positions]


@given(
    sizes=sizes,
    window=windows,
    seed=seeds,
    batch_size=st.sampled_from([1, 2, 6, 12, 24, 60]),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_rows_are_the_same_for_any_number_of_processes_and_samples_for_any_batch_size(
    sizes, window, seed, batch_size, data
):
    count = data.draw(st.sampled_from([n for n in (1, 2, 3, 6, 12) if batch_size % n == 0]))
    order = ChunkShuffle(window).bind(sizes, seed=seed)
    positions = np.arange(600 // batch_size * batch_size).reshape(-1, batch_size)
    indices, slots = order.indices_and_slots(positions)
    batches = np.take_along_axis(indices, row_order(slots), axis=1)
    dealt = [batches[:, Shard(i, count).rows(batch_size)] for i in range(count)]
    assert np.array_equal(np.concatenate(dealt, axis=1), batches)
    # The samples of [0, p) are those of the positions, in batches of any size.
    flat = order.indices(np.arange(positions.size))
    assert np.array_equal(np.sort(batches.ravel()), np.sort(flat))
    for step in range(len(batches)):
        assert sorted(batches[step]) == sorted(flat[step * batch_size : (step + 1) * batch_size])
