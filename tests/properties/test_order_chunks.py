"""What `ChunkShuffle` asks of storage: chunks open at a time, their lifetime, fetches per host."""

from __future__ import annotations

import numpy as np
import pytest

from streamkit.order import ChunkShuffle, Shard, row_order

WINDOW = 64


def varied(count: int, size: int) -> np.ndarray:
    return size + np.random.default_rng(count).integers(0, size // 5 + 1, count)


def chunks_read(sizes: np.ndarray, epoch: int) -> np.ndarray:
    """The chunk of each sample of an epoch, in order of position."""
    order = ChunkShuffle(WINDOW).bind(sizes, seed=3)
    n = order.num_samples
    indices = order.indices(np.arange(epoch * n, (epoch + 1) * n))
    return np.repeat(np.arange(len(sizes)), sizes)[indices]


def first_and_last(chunks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    first, last = np.full(count, len(chunks)), np.zeros(count, np.int64)
    np.minimum.at(first, chunks, np.arange(len(chunks)))
    np.maximum.at(last, chunks, np.arange(len(chunks)))
    return first, last


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize(("num_chunks", "size"), [(1000, 300), (300, 500), (5000, 100)])
def test_about_a_window_of_chunks_is_open(num_chunks, size, epoch):
    sizes = varied(num_chunks, size)
    chunks = chunks_read(sizes, epoch)
    first, last = first_and_last(chunks, num_chunks)
    changes = np.zeros(len(chunks) + 1, np.int64)
    np.add.at(changes, first, 1)
    np.add.at(changes, last + 1, -1)
    open_chunks = np.cumsum(changes)[:-1]
    assert 60 <= open_chunks.mean() <= 67
    # A chunk across the end of a group is read by both: there are 7 such ends.
    assert open_chunks.max() <= WINDOW + 7
    # Most chunks live for their samples times the window, and those that are cut for less.
    lives = (last - first + 1) / (sizes * WINDOW)
    assert 0.9 < np.median(lives) <= 1.01
    assert (lives < 1.05).mean() > 0.97


@pytest.mark.parametrize("epoch", [0, 3])
def test_new_chunks_arrive_evenly(epoch):
    # Equal chunks: without the groups' turns all slots would come to new ones at once.
    chunks = chunks_read(np.full(1000, 300), epoch)
    first, _ = first_and_last(chunks, 1000)
    arrivals = np.histogram(first, bins=50, range=(0, len(chunks)))[0]
    # All slots open a chunk in the first bin; 1000 chunks then make about 20 a bin.
    assert arrivals[1:].max() <= 3 * 20


def fetches(sizes, window, batch_size, hosts, *, epochs=6, seed=5):
    """Chunks that each host reads in each epoch: `[epoch][host]` sets of chunk numbers."""
    order = ChunkShuffle(window).bind(sizes, seed=seed)
    n = order.num_samples
    positions = np.arange((epochs + 1) * n // batch_size * batch_size).reshape(-1, batch_size)
    indices, slots = order.indices_and_slots(positions)
    rows = row_order(slots)
    chunks = np.take_along_axis(np.repeat(np.arange(len(sizes)), sizes)[indices], rows, axis=1)
    epoch_of = np.take_along_axis(positions // n, rows, axis=1)
    return [
        [
            set(np.unique(chunks[:, part][epoch_of[:, part] == epoch]).tolist())
            for part in (Shard(host, hosts).rows(batch_size) for host in range(hosts))
        ]
        for epoch in range(epochs)
    ]


WHOLE_GROUPS = [
    (1000, 64, 256, 8),
    (1000, 64, 256, 4),
    (1000, 64, 32, 8),
    (1000, 64, 64, 2),
    (300, 16, 64, 2),
    (400, 32, 8, 4),
    (128, 64, 128, 8),
]


@pytest.mark.parametrize(("num_chunks", "window", "batch_size", "hosts"), WHOLE_GROUPS)
def test_hosts_of_whole_groups_fetch_each_chunk_about_once(num_chunks, window, batch_size, hosts):
    sizes = varied(num_chunks, 200)
    # An epoch that is no multiple of the window, so that its ends lie within turns.
    sizes[0] += sizes.sum() % window == 0
    by_epoch = fetches(sizes, window, batch_size, hosts)
    for epoch in by_epoch:
        assert num_chunks <= sum(len(chunks) for chunks in epoch) <= num_chunks + hosts - 1
    for host in range(hosts):
        known = by_epoch[0][host]
        assert all(epoch[host] <= known for epoch in by_epoch[1:])


@pytest.mark.parametrize("num_chunks", [128, 192])
def test_ends_of_groups_that_meet_ends_of_chunks_cost_a_chunk_at_most(num_chunks):
    # Equal chunks: the groups' ends lie on ends of chunks, and move over them and back.
    by_epoch = fetches(np.full(num_chunks, 101), 64, 256, 8, epochs=12)
    for host in range(8):
        known = by_epoch[0][host]
        later = set().union(*(epoch[host] for epoch in by_epoch[1:]))
        assert len(later - known) <= 2


@pytest.mark.parametrize("hosts", [16, 64])
def test_hosts_of_parts_of_groups_share_one_more_chunk_a_group(hosts):
    # The turn of a group cuts one chunk, whose halves go to the group's first and last host.
    sizes, groups = varied(1000, 60), 8
    for epoch in fetches(sizes, 64, 64, hosts, epochs=3):
        assert sum(len(chunks) for chunks in epoch) <= 1000 + hosts + groups - 1
