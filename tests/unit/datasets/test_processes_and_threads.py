"""Datasets in several threads and processes at once."""

import multiprocessing
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamkit as sk

SAMPLES = 400


def write(store: Any, compression: str | None) -> None:
    schema = {
        "i": int,
        "x": sk.Column("float32", (5,)),
        "t": sk.Column("uint16", (None,)),
        "s": str,
    }
    with sk.DatasetWriter(
        store, schema=schema, chunk_samples=16, compression=compression
    ) as writer:
        for i in range(SAMPLES):
            writer.write({"i": i, "x": [i] * 5, "t": [i] * (i % 5), "s": str(i)})


def check(dataset: sk.Dataset, seed: int, rounds: int = 1) -> None:
    """Gather at random, and compare with what was written."""
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        rows = rng.integers(0, SAMPLES, 50)
        batch = dataset.gather(rows)
        assert batch["i"].tolist() == rows.tolist()
        assert batch["x"].tolist() == [[i] * 5 for i in rows.tolist()]
        assert [t.tolist() for t in batch["t"]] == [[i] * (i % 5) for i in rows.tolist()]
        assert batch["s"] == [str(i) for i in rows.tolist()]


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("limits", [{}, {"max_open_chunks": 1, "cache_bytes": 1000}])
def test_threads_read_what_the_loop_reads(
    tmp_path: Path, compression: str | None, limits: dict[str, int]
) -> None:
    write(tmp_path, compression)
    dataset = sk.open(tmp_path, **limits)
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            check(dataset, seed, rounds=10)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    read = 80 * 50 * (8 + 20)
    assert read < dataset.bytes_read < 2 * read


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_while_a_thread_reads(
    tmp_path: Path, method: str, compression: str | None
) -> None:
    write(tmp_path, compression)
    dataset = sk.open(tmp_path, max_open_chunks=2)
    check(dataset, 0)
    stop = threading.Event()

    def read_on() -> None:
        seed = 0
        while not stop.is_set():
            check(dataset, seed := seed + 1)

    thread = threading.Thread(target=read_on)
    thread.start()
    try:
        context = multiprocessing.get_context(method)
        for round_number in range(5 if method == "fork" else 1):
            processes = [
                context.Process(target=_read_in_child, args=(dataset, round_number * 2 + number))
                for number in range(2)
            ]
            for process in processes:
                process.start()
            for process in processes:
                process.join(60)
                assert process.exitcode == 0
    finally:
        stop.set()
        thread.join()
    check(dataset, 1)


def _read_in_child(dataset: sk.Dataset, seed: int) -> None:
    if seed % 2:
        dataset.close()
    check(dataset, seed, rounds=3)
    assert isinstance(dataset, sk.StoredDataset)
    blocks = sk.TokenBlocks(dataset, 7, column="t")
    assert blocks.gather(np.arange(len(blocks)))["t"].shape == (len(blocks), 7)


class CountingStore(sk.LocalStore):
    """Counts how often an object is opened for mapping."""

    opened = 0

    def path(self, key: str) -> str | None:
        self.opened += 1
        return super().path(key)


def test_a_forked_process_opens_its_own_chunks(tmp_path: Path) -> None:
    write(tmp_path, None)
    store = CountingStore(tmp_path)
    dataset = sk.open(store)
    dataset.gather(np.arange(SAMPLES))
    assert store.opened == 25
    process = multiprocessing.get_context("fork").Process(target=_opens, args=(dataset, store))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def _opens(dataset: sk.StoredDataset, store: CountingStore) -> None:
    before = dataset.bytes_read
    check(dataset, 0)
    assert store.opened > 25
    assert 0 < dataset.bytes_read - before < 50 * 100


def test_datasets_and_views_survive_pickling(tmp_path: Path) -> None:
    write(tmp_path, None)
    dataset = sk.open(tmp_path, columns=["i", "t"], max_open_chunks=3)
    dataset.gather([0, 399])
    part, _ = sk.split(dataset, [0.5, 0.5], seed=3)
    for view in (dataset, part, sk.concat([part, dataset]), sk.TokenBlocks(part, 5, column="t")):
        copy = pickle.loads(pickle.dumps(view))
        assert copy.fingerprint == view.fingerprint
        assert len(copy) == len(view)
        assert copy.bytes_read == 0
        rows = np.arange(0, len(view), 3)
        for a, b in zip(copy[rows], view[rows], strict=True):
            assert a.keys() == b.keys()
            np.testing.assert_array_equal(a["t"], b["t"])


def test_a_dataset_that_is_dropped_lets_go_of_its_files(tmp_path: Path) -> None:
    write(tmp_path, None)
    dataset = sk.open(tmp_path)
    dataset.gather(np.arange(SAMPLES))
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    del dataset
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
