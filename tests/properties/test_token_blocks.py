"""Token blocks equal the ten-line reference, whatever the documents, chunks and views."""

import itertools
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

import streamkit as sk


def reference(documents: list[np.ndarray], block_size: int) -> np.ndarray:
    """All documents end to end, cut into rows; the tail that fills no row is dropped."""
    line = np.concatenate([np.empty(0, np.uint16), *documents])
    rows = len(line) // block_size
    return line[: rows * block_size].reshape(rows, block_size)


def make(lengths: list[int], chunk_samples: int, compression: str | None, first: int = 0) -> Any:
    """A dataset of documents whose tokens count on from `first`, and the documents."""
    ends = np.cumsum([first, *lengths])
    documents = [np.arange(a, b).astype(np.uint16) for a, b in itertools.pairwise(ends)]
    store = sk.MemoryStore()
    schema = {"tokens": sk.Column("uint16", (None,)), "id": int}
    with sk.DatasetWriter(
        store, schema=schema, chunk_samples=chunk_samples, compression=compression
    ) as writer:
        for number, document in enumerate(documents):
            writer.write({"tokens": document, "id": number})
    return sk.open(store, max_open_chunks=3), documents


def check(dataset: sk.Dataset, documents: list[np.ndarray], block_size: int) -> None:
    expected = reference(documents, block_size)
    if not len(expected):
        return
    blocks = sk.TokenBlocks(dataset, block_size)
    assert len(blocks) == len(expected)
    assert blocks.element_spec == {
        "tokens": sk.ArraySpec((block_size,), np.dtype(np.int32)),
    }
    assert blocks.chunk_sizes.sum() == len(blocks)
    assert blocks.chunk_sizes.min() >= 0
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(blocks)), 2))
    tokens = blocks.gather(order)["tokens"]
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, expected[order])
    for number in (0, -1):
        np.testing.assert_array_equal(blocks[number]["tokens"], expected[number])
    cuts = np.array_split(order, 3)
    for rows, batch in zip(cuts, blocks.gather_batches(cuts), strict=True):
        np.testing.assert_array_equal(batch["tokens"], expected[rows])
    for dtype, kept in ((None, np.uint16), (np.int64, np.int64)):
        other = sk.TokenBlocks(dataset, block_size, dtype=dtype).gather(order)["tokens"]
        assert other.dtype == kept
        np.testing.assert_array_equal(other, expected[order])


LENGTHS = st.lists(
    st.one_of(st.just(0), st.just(1), st.integers(0, 6), st.integers(20, 60)), max_size=30
)


@given(
    lengths=LENGTHS,
    chunk_samples=st.integers(1, 8),
    block_size=st.integers(1, 12),
    compression=st.sampled_from([None, "zstd"]),
    seed=st.integers(0, 99),
)
@example(lengths=[4, 4, 4], chunk_samples=1, block_size=4, compression=None, seed=0)
@example(lengths=[1] * 9, chunk_samples=1, block_size=9, compression=None, seed=0)
@example(lengths=[0, 0, 5, 0, 0, 3], chunk_samples=1, block_size=4, compression=None, seed=0)
@settings(max_examples=150, deadline=None)
def test_blocks_equal_the_reference(
    lengths: list[int], chunk_samples: int, block_size: int, compression: str | None, seed: int
) -> None:
    dataset, documents = make(lengths, chunk_samples, compression)
    check(dataset, documents, block_size)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, max(len(documents), 1), rng.integers(0, 9)) if documents else []
    check(sk.subset(dataset, chosen), [documents[i] for i in chosen], block_size)
    for part in sk.split(dataset, [0.6, 0.4], seed=seed):
        kept = [documents[sample["id"]] for sample in part[:]]
        check(part, kept, block_size)
        kept = [document for document in kept[::2] for _ in range(2)]
        twice = sk.subset(part, np.repeat(np.arange(len(part))[::2], 2))
        check(twice, kept, block_size)
    other, more = make([3, 0, 7], 2, None, first=1000)
    check(
        sk.concat([dataset, other, sk.subset(dataset, chosen), other]),
        [*documents, *more, *(documents[i] for i in chosen), *more],
        block_size,
    )


def test_chunk_ends_in_every_position() -> None:
    for first in range(1, 12):
        dataset, documents = make([first, 24 - first], 1, None)
        for block_size in range(1, 25):
            check(dataset, documents, block_size)


def test_aligned_columns_are_cut_at_the_same_places() -> None:
    store = sk.MemoryStore()
    schema = {"tokens": sk.Column("uint16", (None,)),
              "kind": sk.Column("int8", (None,), aligned="tokens")}  # fmt: skip
    with sk.DatasetWriter(store, schema=schema, chunk_samples=2) as writer:
        for n in (3, 0, 5, 1, 9):
            writer.write({"tokens": list(range(n)), "kind": [n] * n})
    dataset = sk.open(store)
    kinds = sk.TokenBlocks(dataset, 4, column="kind")
    expected = reference([np.full(n, n) for n in (3, 0, 5, 1, 9)], 4)
    np.testing.assert_array_equal(kinds.gather(range(4))["kind"], expected)
    only = sk.TokenBlocks(sk.open(store, columns=["kind"]), 4, column="kind")
    np.testing.assert_array_equal(only.gather(range(4))["kind"], expected)
