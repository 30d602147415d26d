"""200 million uint16 tokens in documents, read as shuffled batches `[32, 2049]`.

The limit is one thread that takes the same rows from one array `[blocks, 2049]` in memory. Two
figures stand apart: the first epoch after opening, with its verification, and the share of
verification in ten epochs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import streamkit as sk
from benchmarks.measure import Result, Settings, interleave, timed
from benchmarks.reading import Race, rows_of

BLOCK_SIZE = 2049
BATCH_SIZE = 32
_MEAN_DOCUMENT = 1000
_EPOCHS = 10


def run(settings: Settings) -> Iterator[Result]:
    """Race both dtypes, then look at the first epoch and at verification."""
    tokens = make_tokens(settings.pick(200_000_000, 400_000))
    path = store_tokens(settings.data, tokens)
    num_blocks = len(tokens) // BLOCK_SIZE
    blocks = tokens[: num_blocks * BLOCK_SIZE].reshape(num_blocks, BLOCK_SIZE)
    steps = settings.pick(15_000, 50)
    with sk.open(path) as dataset:
        yield Race(
            "tokens uint16",
            sk.TokenBlocks(dataset, BLOCK_SIZE, dtype=None),
            BATCH_SIZE,
            steps,
            lambda rows: np.take(blocks, rows, axis=0),
            partial(_is_right, blocks, np.dtype(np.uint16)),
            0.5,
        ).run(settings)
        yield Race(
            "tokens int32",
            sk.TokenBlocks(dataset, BLOCK_SIZE),
            BATCH_SIZE,
            steps,
            lambda rows: np.take(blocks, rows, axis=0).astype(np.int32),
            partial(_is_right, blocks, np.dtype(np.int32)),
            0.5,
        ).run(settings)
    yield from _verification(settings, path, blocks)


def make_tokens(count: int) -> NDArray[np.uint16]:
    """Random ids of a vocabulary of 50,257, uint16 `[count]`; the same in every run."""
    return np.random.default_rng(0).integers(50_257, size=count, dtype=np.uint16)


def store_tokens(data: Path, tokens: NDArray[np.uint16]) -> Path:
    """Write tokens as documents of about a thousand each, unless that was done before."""
    path = data / f"tokens-{len(tokens)}"
    if not (path / "index.json").exists():
        random = np.random.default_rng(1)
        lengths = random.geometric(1 / _MEAN_DOCUMENT, size=2 * len(tokens) // _MEAN_DOCUMENT)
        ends = np.cumsum(lengths)
        documents = np.split(tokens, ends[ends < len(tokens)])
        with sk.DatasetWriter(path) as writer:
            for at in range(0, len(documents), 10_000):
                writer.write_batch({"tokens": documents[at : at + 10_000]})
    return path


def _is_right(
    blocks: NDArray[np.uint16], dtype: np.dtype[Any], batch: Any, rows: NDArray[np.int64]
) -> bool:
    found = batch["tokens"]
    return bool(found.dtype == dtype and np.array_equal(found, blocks[rows]))


def _verification(settings: Settings, path: Path, blocks: NDArray[np.uint16]) -> Iterator[Result]:
    """Time ten epochs from `open` on, with verification and without, and the first of them."""
    num_blocks = len(blocks)
    first_steps = num_blocks // BATCH_SIZE
    first: dict[bool, list[float]] = {True: [], False: []}

    def epochs(verify: bool) -> float:
        begin = time.perf_counter()
        with sk.open(path, verify=verify) as dataset:
            stored = sk.TokenBlocks(dataset, BLOCK_SIZE, dtype=None)
            with sk.Loader(stored, batch_size=BATCH_SIZE, epochs=_EPOCHS) as loader:
                for step, _ in enumerate(loader, 1):
                    if step == first_steps:
                        first[verify].append(time.perf_counter() - begin)
        return time.perf_counter() - begin

    with sk.open(path) as dataset:
        rows = rows_of(sk.TokenBlocks(dataset, BLOCK_SIZE), BATCH_SIZE, first_steps)

    def take() -> None:
        for chosen in rows:
            np.take(blocks, chosen, axis=0)

    runs = {
        "verified": partial(epochs, True),
        "trusted": partial(epochs, False),
        "take": partial(timed, take),
    }
    seconds = interleave(runs, settings.repeats)
    amount = first_steps * BATCH_SIZE
    for verify, name in ((True, "with"), (False, "without")):
        case = f"tokens first epoch from open, {name} verify"
        yield Result.against(case, "samples/s", amount, first[verify], seconds["take"])
    verified, trusted = median(seconds["verified"]), median(seconds["trusted"])
    yield Result.at_most(
        f"tokens verification in {_EPOCHS} epochs",
        "% of time",
        100 * (verified - trusted) / verified,
        5,
        verified_seconds=verified,
        trusted_seconds=trusted,
        first_epoch_extra_seconds=median(first[True]) - median(first[False]),
    )
