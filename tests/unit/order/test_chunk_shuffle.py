from __future__ import annotations

import itertools
import pickle
import threading

import numpy as np
import pytest

from streamkit.order.chunk_shuffle import ChunkShuffle
from streamkit.order.epoch_table import EpochTable
from streamkit.order.hashing import derive_key, keyed_hash
from streamkit.order.next_use import NEVER
from streamkit.order.permutation import permute


def hashed(key: int, value: int) -> int:
    return int(keyed_hash(key, [value])[0])


def reference(sizes, window, seed, *, epochs, num_epochs):
    """Walk the order as the design page tells it: yields (sample, slot), one by one."""
    chunks = [c for c, size in enumerate(sizes) if size]
    starts, n, s = np.cumsum([0, *sizes]), sum(sizes), min(window, len(chunks))
    bits = (s - 1).bit_length()
    backwards = [int(f"{q:0{bits}b}"[::-1], 2) for q in range(s)] if s > 1 else [0]
    ranks = [sorted(backwards).index(b) for b in backwards]
    run_key = derive_key(seed, "chunks of the run")
    run = [
        (c, o) for c in sorted(chunks, key=lambda c: hashed(run_key, c)) for o in range(sizes[c])
    ]
    for epoch in range(num_epochs):
        pass_number, local = divmod(epoch, epochs) if epochs else (0, epoch)
        turn_key = derive_key(seed, "rotation of a turn", pass_number)
        visits = []
        for g in range(local * n, (local + 1) * n):
            turn, q = divmod(g, s)
            visits.append((ranks[q] + (hashed(turn_key, turn) * s >> 64)) % s)
        cells = iter(run)
        line = []
        for group in range(0, s, 8):
            length = sum(group <= slot < group + 8 for slot in visits)
            line += group_line(
                list(itertools.islice(cells, length)), sizes, seed, epoch, group // 8
            )
        cells, readers = iter(line), []
        flip = derive_key(seed, "direction", epoch) & 1
        for slot in range(s):
            stretch = list(itertools.islice(cells, visits.count(slot)))
            readers.append(iter(stretch[::-1] if (slot + flip) % 2 else stretch))
        for slot in visits:
            chunk, offset = next(readers[slot])
            key = hashed(derive_key(seed, "samples of a chunk", epoch), chunk)
            yield int(starts[chunk] + permute(np.array([offset]), sizes[chunk], key)[0]), slot


def group_line(cells, sizes, seed, epoch, group):
    pieces = [list(piece) for _, piece in itertools.groupby(cells, key=lambda cell: cell[0])]
    key = derive_key(seed, "chunks of an epoch", epoch)
    head = [p for p in pieces[:1] if p[0][1] > 0]
    tail = [p for p in pieces[-1:] if p not in head and p[-1][1] < sizes[p[-1][0]] - 1]
    whole = [p for p in pieces if p not in head and p not in tail]
    ordered = [*head, *sorted(whole, key=lambda p: hashed(key, p[0][0])), *tail]
    joined = [cell for piece in ordered for cell in piece]
    turn = hashed(derive_key(seed, "turn of a group", epoch), group) * len(joined) >> 64
    return joined[turn:] + joined[:turn]


CASES = [
    ([3, 2, 4, 3], 2, 2, None),
    ([1], 64, 0, None),
    ([1, 1, 1, 1, 1], 64, 1, 2),
    ([0, 7, 0, 1, 30, 2, 0], 3, 5, 1),
    ([13] * 40, 17, 8, None),
    ([5, 90, 1, 1, 200, 3, 3, 3, 3, 41, 2, 1], 9, 3, 3),
    ([500, 2, 2], 3, 4, 2),
]


@pytest.mark.parametrize(("sizes", "window", "seed", "epochs"), CASES)
def test_the_order_agrees_with_the_reference(sizes, window, seed, epochs):
    order = ChunkShuffle(window).bind(sizes, seed=seed, epochs=epochs)
    walked = list(reference(sizes, window, seed, epochs=epochs, num_epochs=5))
    positions = np.arange(5 * sum(sizes))
    indices, slots = order.indices_and_slots(positions)
    assert indices.tolist() == [sample for sample, _ in walked]
    assert slots.tolist() == [slot for _, slot in walked]
    assert order.slots(positions).tolist() == slots.tolist()
    assert order.indices(positions).tolist() == indices.tolist()


def test_the_example_of_the_docstring():
    sizes = [3, 2, 4, 3]
    order = ChunkShuffle(2).bind(sizes, seed=2)
    indices, slots = order.indices_and_slots(np.arange(12))
    names = [f"{name}{i}" for name, size in zip("ABCD", sizes, strict=True) for i in range(size)]
    assert " ".join(names[i] for i in indices) == "D1 D2 C2 D0 A2 C3 A1 C0 A0 C1 B1 B0"
    assert slots.tolist() == [0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 0]


@pytest.mark.parametrize("size", [1, 30, 3000])
def test_scattered_and_neighbouring_positions_agree(size):
    # Neighbouring positions list the pieces that the slots pass; scattered ones search for each.
    sizes = np.full(max(300, 9000 // size), size)
    sizes += np.arange(len(sizes)) % 7
    order = ChunkShuffle(64).bind(sizes, seed=1)
    n = order.num_samples
    positions = np.arange(n - 3000, n + 5000)
    indices, slots = order.indices_and_slots(positions)
    shuffled = np.random.default_rng(0).permutation(len(positions))
    again = order.indices_and_slots(positions[shuffled])
    assert np.array_equal(again[0], indices[shuffled])
    assert np.array_equal(again[1], slots[shuffled])
    for at in (0, 2999, 3000, 7999):
        assert order.indices(positions[at : at + 1]).tolist() == indices[at : at + 1].tolist()


def test_any_shape_in_is_the_shape_out():
    order = ChunkShuffle(4).bind([10] * 10, seed=1)
    flat = order.indices(np.arange(60))
    assert np.array_equal(order.indices(np.arange(60).reshape(3, 4, 5)), flat.reshape(3, 4, 5))
    assert order.indices(7) == flat[7]
    assert order.indices(7).shape == ()
    assert order.slots(np.arange(60).reshape(6, 10)).shape == (6, 10)
    for empty in ([], np.empty((0, 4), np.int64)):
        indices, slots = order.indices_and_slots(empty)
        assert indices.shape == slots.shape == np.shape(empty)
        assert indices.dtype == slots.dtype == np.int64


def test_positions_far_away_are_read():
    order = ChunkShuffle(64).bind([10**10] * 100, seed=1)
    indices = order.indices(np.arange(2**62, 2**62 + 100))
    assert (indices >= 0).all()
    assert (indices < 10**12).all()
    assert len(set(indices.tolist())) == 100


def test_the_seed_and_the_window_matter():
    def drawn(window: int, seed: int) -> list[int]:
        return ChunkShuffle(window).bind([10] * 10, seed=seed).indices(np.arange(100)).tolist()

    orders = [drawn(window, seed) for window in (4, 5) for seed in (0, 1, 2**64 - 1)]
    assert len({tuple(order) for order in orders}) == 6


def test_what_the_pipeline_asks_of_an_order():
    order = ChunkShuffle(window=64).bind([0, 3, 0, 4], seed=0)
    assert (order.num_samples, order.num_chunks, order.num_slots) == (7, 2, 2)
    assert ChunkShuffle(2).bind([1] * 9).num_slots == 2
    assert repr(ChunkShuffle(8)) == "ChunkShuffle(window=8)"
    assert "num_samples=7" in repr(order)


def test_pickles_without_its_tables():
    shuffle = ChunkShuffle(window=3)
    assert pickle.loads(pickle.dumps(shuffle)) == shuffle
    order = shuffle.bind(np.full(2000, 3), seed=9, epochs=2)
    expected = order.indices(np.arange(9000))
    sent = pickle.dumps(order)
    assert len(sent) < 20_000
    assert np.array_equal(pickle.loads(sent).indices(np.arange(9000)), expected)


def test_few_tables_are_kept_and_each_is_built_once(monkeypatch):
    built = []
    build = EpochTable.build

    def counted(run, *, epoch, pass_number, start):
        built.append(epoch)
        return build(run, epoch=epoch, pass_number=pass_number, start=start)

    monkeypatch.setattr(EpochTable, "build", counted)
    order = ChunkShuffle(4).bind([10] * 10, seed=1)
    order.prepare(0)
    order.prepare(1)
    for _ in range(3):
        order.indices(np.arange(150))
    assert built == [0, 1]
    order.indices(np.arange(2000))
    assert built == list(range(20))
    assert len(order._tables) == 3


def test_threads_share_an_order():
    order = ChunkShuffle(8).bind(np.full(50, 20), seed=1)
    blocks = [np.arange(start, start + 700) for start in range(0, 14_000, 700)]
    alone = ChunkShuffle(8).bind(np.full(50, 20), seed=1)
    expected = [alone.indices(block) for block in blocks]
    wrong = []
    start = threading.Barrier(4)

    def read(which: int) -> None:
        start.wait()
        for i in range(len(blocks)):
            at = (i * (which + 1)) % len(blocks)
            if not np.array_equal(order.indices(blocks[at]), expected[at]):
                wrong.append(at)

    threads = [threading.Thread(target=read, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_million_chunks_take_memory_for_the_table_only():
    # 10^12 samples; the arrays held are counted, so that no timing or allocator matters.
    order = ChunkShuffle().bind(np.full(10**6, 10**6), seed=0)
    assert len(set(order.indices(np.arange(256)).tolist())) == 256
    table = order._table(0)
    held = sum(a.nbytes for a in (table.line.starts, table.line.chunks, table.line.offsets))
    assert held + table.shifts.nbytes + table.keys.nbytes < 41 * 10**6


@pytest.mark.parametrize("epochs", [None, 1, 3])
def test_next_use_agrees_with_walking(epochs):
    sizes = np.array([4, 0, 1, 30, 2, 9, 0, 3, 3, 50, 1])
    order = ChunkShuffle(4).bind(sizes, seed=6, epochs=epochs)
    n = order.num_samples
    chunks = np.repeat(np.arange(len(sizes)), sizes)[order.indices(np.arange(5 * n))]
    asked = np.array([3, 1, 0, 9, 9, 2, 4, 5, 6, 7, 8, 10])
    for position in range(0, 3 * n, 5):
        expected = [
            position + int(np.flatnonzero(chunks[position:] == c)[0]) if sizes[c] else NEVER
            for c in asked
        ]
        assert order.next_use(asked, position).tolist() == expected


def test_next_use_names_what_is_out_of_range():
    order = ChunkShuffle(4).bind([3, 3])
    with pytest.raises(IndexError, match=r"\[0, 2\)"):
        order.next_use([0, 2], 0)
    with pytest.raises(ValueError, match="-1"):
        order.next_use([0], -1)
    assert order.next_use([], 0).tolist() == []


@pytest.mark.parametrize("window", [0, -3])
def test_a_window_below_one_is_refused(window):
    with pytest.raises(ValueError, match=f"window \\(={window}\\) must be >= 1"):
        ChunkShuffle(window)


@pytest.mark.parametrize("window", [2.0, "4", True, None, np.array([1, 2])])
def test_a_window_that_is_no_integer_is_refused(window):
    with pytest.raises(TypeError, match="window"):
        ChunkShuffle(window)


def test_numpy_integers_are_integers():
    shuffle = ChunkShuffle(np.int32(8))
    assert shuffle == ChunkShuffle(8)
    assert type(shuffle.window) is int


def test_a_negative_epoch_cannot_be_prepared():
    with pytest.raises(ValueError, match="epoch"):
        ChunkShuffle().bind([3]).prepare(-1)
