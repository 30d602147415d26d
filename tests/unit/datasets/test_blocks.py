"""Token blocks: what they refuse, what they say of themselves."""

import pickle
from typing import Any

import numpy as np
import pytest

import streamkit as sk


def documents(lengths: list[int], **options: Any) -> sk.StoredDataset:
    store = sk.MemoryStore()
    schema = {
        "tokens": sk.Column("uint16", (None,)),
        "x": float,
        "deep": sk.Column("uint16", (None, None)),
        "real": sk.Column("float32", (None,)),
        "pair": sk.Column("int32", (2,)),
    }
    with sk.DatasetWriter(store, schema=schema, **options) as writer:
        for n in lengths:
            writer.write(
                {"tokens": list(range(n)), "x": 0.5, "deep": [[0]], "real": [0], "pair": [n, n + 1]}
            )
    return sk.open(store)


@pytest.mark.parametrize(
    ("block_size", "options", "error", "message"),
    [
        (0, {}, ValueError, r"block_size \(=0\) must be at least 1"),
        (-3, {}, ValueError, "must be at least 1"),
        (2.0, {}, TypeError, "block_size=2.0 must be an integer"),
        (True, {}, TypeError, "block_size=True"),
        (21, {}, ValueError, r"block_size \(=21\) must be <= the 20 tokens of column \"tokens\""),
        (4, {"column": "nothing"}, KeyError, "no column"),
        (4, {"column": "x"}, ValueError, 'column "x" is float64'),
        (4, {"column": "deep"}, ValueError, 'column "deep" is uint16'),
        (1, {"column": "real"}, ValueError, 'column "real" is float32 .*integers'),
        (4, {"dtype": "float32"}, ValueError, "dtype=float32 must be an integer dtype"),
    ],
)
def test_arguments_that_break_a_rule(
    block_size: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sk.TokenBlocks(documents([10, 10]), block_size, **options)


def test_only_datasets_whose_samples_are_stored_whole_can_be_cut() -> None:
    with pytest.raises(TypeError, match="Applied cannot be cut into rows"):
        sk.TokenBlocks(sk.apply(documents([9]), lambda sample: sample), 3)


def test_a_fixed_column_of_integers_can_be_cut_too() -> None:
    blocks = sk.TokenBlocks(documents([1, 5, 9]), 3, column="pair")
    assert blocks.gather([0, 1])["pair"].tolist() == [[1, 2, 5], [6, 9, 10]]


def test_an_index_out_of_range_names_the_length() -> None:
    blocks = sk.TokenBlocks(documents([10, 10]), 4)
    for read in (lambda: blocks[5], lambda: blocks.gather([0, -6]), lambda: blocks.locate([5])):
        with pytest.raises(IndexError, match="out of range for a dataset of 5 samples"):
            read()


def test_chunks_and_blocks() -> None:
    """
    chunk      0            1     2           3
    tokens     0 .. 9       -     10 .. 14    15 .. 19
    blocks     0: 0-5, 1: 6-11 (begins in chunk 0), 2: 12-17 (in chunk 2)
    """
    blocks = sk.TokenBlocks(documents([10, 0, 5, 5], chunk_samples=1), 6)
    assert blocks.chunk_sizes.tolist() == [2, 0, 1, 0]
    assert blocks.locate([0]).tolist() == [0]
    assert set(blocks.locate([1]).tolist()) >= {0, 2}
    assert blocks.locate([2]).tolist() == [2, 3]
    assert blocks.locate([]).tolist() == []


def test_runs_of_one_chunk_in_a_view_count_as_one() -> None:
    dataset = documents([4] * 12, chunk_samples=4)
    kept = [0, 2, 3, 4, 6, 8, 9, 11]
    assert sk.TokenBlocks(sk.subset(dataset, kept), 4).chunk_sizes.tolist() == [3, 2, 3]


def test_the_fingerprint_is_that_of_data_column_and_block_size() -> None:
    dataset = documents([10, 10])
    blocks = sk.TokenBlocks(dataset, 4)
    assert blocks.fingerprint == sk.TokenBlocks(dataset, 4, dtype="int64").fingerprint
    others = [sk.TokenBlocks(dataset, 5), sk.TokenBlocks(documents([10, 9]), 4),
              sk.TokenBlocks(dataset, 4, column="pair")]  # fmt: skip
    assert len({blocks.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_they_survive_pickling_count_bytes_and_take_memory() -> None:
    blocks = pickle.loads(pickle.dumps(sk.TokenBlocks(documents([10, 10], chunk_samples=1), 4)))
    given: list[np.ndarray] = []

    def allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        given.append(np.full(shape, -1, dtype))
        return given[-1]

    first, second = blocks.gather_batches([np.array([0, 2]), np.array([1])], allocate=allocate)
    assert first["tokens"] is given[0]
    assert second["tokens"] is given[1]
    assert first["tokens"].tolist() == [[0, 1, 2, 3], [8, 9, 0, 1]]
    assert second["tokens"].tolist() == [[4, 5, 6, 7]]
    assert blocks.bytes_read == 3 * 4 * 2
    assert blocks.gather_batches([]) == []
    assert blocks.gather([])["tokens"].shape == (0, 4)
    blocks.close()
    assert blocks[0]["tokens"].tolist() == [0, 1, 2, 3]
