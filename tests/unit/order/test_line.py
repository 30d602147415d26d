from __future__ import annotations

import numpy as np

from streamkit.order.line import Line


def cells(line: Line) -> list[tuple[int, int]]:
    """Every place of the line as (chunk, offset)."""
    pieces = zip(line.chunks, line.offsets, line.lengths, strict=True)
    return [(int(c), int(o) + i) for c, o, length in pieces for i in range(length)]


LINE = Line.of_chunks(np.array([2, 0, 1]), np.array([4, 3, 5]))


def test_a_cut_moves_nothing():
    cut = LINE.cut(np.array([0, 2, 2, 4, 9, 12]))
    assert cells(cut) == cells(LINE)
    assert cut.starts.tolist() == [0, 2, 4, 7, 9]
    assert cut.offsets.tolist() == [0, 2, 0, 0, 2]


def test_a_cut_at_nothing_is_the_same_line():
    assert LINE.cut(np.array([0, 4, 7])) is LINE


def test_whole_chunks_follow_their_hashes_and_cut_ones_stay_at_the_ends():
    chunks = Line.of_chunks(np.arange(6), np.full(6, 2))
    line = chunks.cut(np.array([0, 5]))
    # Pieces: 0 1 2' | 2'' 3 4 5, with falling hashes.
    hashes = np.arange(7, 0, -1).astype(np.uint64) << np.uint64(60)
    shuffled = line.shuffled(np.array([0, 5]), hashes, np.full(7, 2))
    assert shuffled.chunks.tolist() == [1, 0, 2, 2, 5, 4, 3]
    assert shuffled.offsets.tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert shuffled.starts.tolist() == [0, 2, 4, 5, 6, 8, 10]


def test_equal_hashes_keep_their_order():
    line = Line.of_chunks(np.arange(5), np.full(5, 3))
    shuffled = line.shuffled(np.array([0]), np.zeros(5, np.uint64), np.full(5, 3))
    assert shuffled.chunks.tolist() == [0, 1, 2, 3, 4]


def test_each_section_is_turned_by_its_own_amount():
    # Sections [0, 5), [5, 5) and [5, 12); the turns cut two chunks.
    turned = LINE.cut(np.array([5])).turned(np.array([0, 5, 5]), np.array([3, 0, 4]))
    expected = cells(LINE)
    assert cells(turned) == expected[3:5] + expected[:3] + expected[9:] + expected[5:9]


def test_an_empty_section_at_the_end_is_no_harm():
    turned = LINE.turned(np.array([0, 12]), np.array([1, 0]))
    assert cells(turned) == cells(LINE)[1:] + cells(LINE)[:1]
