"""The writer: samples and batches in, chunks out, and what a failure leaves."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import streamkit as sk
from streamkit.format.sizes import parse_bytes

TOKENS = sk.Column("uint16", (None,))


def stored(store: sk.MemoryStore) -> list[bytes]:
    """The chunks and sidecars in order, whatever their random names."""
    names = sorted(name for name in store.list() if name != "index.json")
    return [store.read(name) for name in names]


def test_chunks_are_closed_by_bytes_and_by_samples() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, chunk_bytes=1000) as writer:
        for i in range(300):
            writer.write(np.int64(i))
        assert writer.num_samples == 300
    assert sk.open(store).chunk_sizes.tolist() == [125, 125, 50]
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, chunk_samples=128) as writer:
        for i in range(300):
            writer.write(np.int64(i))
    assert sk.open(store).chunk_sizes.tolist() == [128, 128, 44]


@pytest.mark.parametrize("options", [{}, {"chunk_bytes": 500}, {"chunk_samples": 7},
                                     {"compression": "zstd:1", "chunk_bytes": 700}])  # fmt: skip
@pytest.mark.parametrize("cuts", [[0, 100], [0, 1, 2, 50, 50, 99, 100]])
def test_batches_and_samples_give_the_same_bytes(options: Any, cuts: list[int]) -> None:
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, 99, n).astype(np.uint16) for n in rng.integers(0, 40, 100)]
    x = rng.normal(size=(100, 3)).astype(np.float32)
    names = [f"é{i}" * (i % 5) for i in range(100)]
    schema = {"t": TOKENS, "m": sk.Column("bool", (None,), aligned="t"),
              "r": sk.Column("int8", (None, None)), "x": sk.Column("float32", (3,)),
              "n": str, "i": int}  # fmt: skip
    rows = [np.zeros((i % 3, i % 4), np.int8) for i in range(100)]
    one, many = sk.MemoryStore(), sk.MemoryStore()
    with sk.DatasetWriter(one, schema=schema, **options) as writer:
        for i in range(100):
            writer.write({"t": tokens[i], "m": tokens[i] > 50, "r": rows[i], "x": x[i],
                          "n": names[i], "i": i})  # fmt: skip
    with sk.DatasetWriter(many, schema=schema, **options) as writer:
        for a, b in itertools.pairwise(cuts):
            writer.write_batch({"t": tokens[a:b], "m": [t > 50 for t in tokens[a:b]],
                                "r": rows[a:b], "x": x[a:b], "n": names[a:b],
                                "i": np.arange(a, b)})  # fmt: skip
    assert stored(one) == stored(many)
    assert sk.open(one).fingerprint == sk.open(many).fingerprint


def test_a_batch_may_teach_the_schema() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        writer.write_batch({"x": np.zeros((0, 2), np.float32), "s": []})
        writer.write_batch({"x": np.ones((3, 2), np.float32), "s": ["a", "b", "c"]})
        writer.write({"x": np.ones(2, np.float32), "s": "d"})
        writer.write_batch({"x": [[0.5, 2]], "s": ("e",)})
    dataset = sk.open(store)
    assert [sample["s"] for sample in dataset[:]] == list("abcde")
    assert dataset[4]["x"].tolist() == [0.5, 2]


def test_samples_before_the_first_batch_count_for_the_schema() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        writer.write({"x": np.arange(2)})
        writer.write_batch({"x": np.ones((3, 5), np.int64)})
    assert [len(sample["x"]) for sample in sk.open(store)[:]] == [2, 5, 5, 5]


def test_a_batch_that_is_refused_does_not_widen_the_schema() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        writer.write({"x": np.arange(2), "s": "a"})
        with pytest.raises(sk.SchemaError, match='column "s", sample 2'):
            writer.write_batch({"x": np.ones((2, 5), np.int64), "s": ["b", 5]})
        writer.write({"x": np.arange(2), "s": "c"})
    assert sk.open(store).schema.columns[0].shape == (2,)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": np.zeros((2, 2)), "s": ["a"]}, "rows"),
        ({"x": 5, "s": ["a"]}, 'column "x" of the batch is a int'),
        ({"x": np.zeros(2), "s": ["a", "b"]}, 'column "x", sample 1: expected rows of float64'),
        ({"x": np.zeros((2, 2), "f4"), "s": ["a", "b"]}, 'column "x", sample 1: .*float32'),
        ({"x": [[1.0, 2], [1, 2, 3]], "s": ["a", "b"]}, 'column "x", sample 2: '),
        ({"x": np.zeros((2, 2)), "s": ["a", 5]}, 'column "s", sample 2: expected str, found a int'),
        ({"x": np.zeros((2, 2)), "s": "ab"}, 'column "s", sample 1: expected rows of str'),
        ({"x": np.zeros((2, 2))}, "expected a dict with the keys"),
    ],
)
def test_a_batch_that_does_not_fit_is_left_out_whole(batch: Any, message: str) -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, schema={"x": sk.Column("f8", (2,)), "s": str}) as writer:
        writer.write({"x": np.zeros(2), "s": "first"})
        with pytest.raises(sk.SchemaError, match=message):
            writer.write_batch(batch)
        assert writer.num_samples == 1
        writer.write_batch({"x": np.zeros((1, 2)), "s": ["last"]})
    assert [sample["s"] for sample in sk.open(store)[:]] == ["first", "last"]


@pytest.mark.parametrize("warm", [1, 1200])
@pytest.mark.parametrize(
    "bad",
    [
        {"j": sk.Json({1, 2}), "s": "x", "x": 1},
        {"j": sk.Json(1), "s": "\ud800", "x": 1},
        {"j": sk.Json(1), "s": "x", "x": 2**63},
        {"j": sk.Json(1), "s": "x"},
        "nothing like it",
    ],
)
def test_a_failed_write_leaves_the_sample_out(warm: int, bad: Any) -> None:
    store = sk.MemoryStore()
    good = {"j": sk.Json([1]), "s": "x", "x": 1}
    with sk.DatasetWriter(store) as writer:
        for number in range(warm):
            writer.write({**good, "x": number})
            if number in (0, warm - 1):
                with pytest.raises(sk.SchemaError):
                    writer.write(bad)
        writer.write({**good, "x": -1})
        assert writer.num_samples == warm + 1
    assert sk.open(store).gather(range(warm + 1))["x"].tolist() == [*range(warm), -1]


def test_a_first_sample_that_fails_decides_nothing() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        for bad in ({"x": {1}}, {"x": sk.Json({1})}, {}, {"a/b": 1, "a": {"b": 2}}, None):
            with pytest.raises(sk.SchemaError):
                writer.write(bad)
        writer.write({"y": 1})
    assert sk.open(store)[:] == [{"y": 1}]


def test_memory_may_be_reused_after_a_write() -> None:
    array, values, free = np.zeros(2, np.int64), [0, 0], {"k": 0}
    for declared in (None, {"a": sk.Column("i8", (2,)), "v": sk.Column("i8", (2,)),
                            "j": sk.Column("json")}):  # fmt: skip
        store = sk.MemoryStore()
        with sk.DatasetWriter(store, schema=declared) as writer:
            for i in range(3):
                array[:], values[:], free["k"] = i, [i, i], i
                writer.write({"a": array, "v": values, "j": sk.Json(free)})
        for i, sample in enumerate(sk.open(store)[:]):
            assert (sample["a"].tolist(), sample["v"].tolist()) == ([i, i], [i, i])
            assert sample["j"] == {"k": i}


def test_aligned_columns_must_have_equal_lengths() -> None:
    store = sk.MemoryStore()
    schema = {"t": TOKENS, "m": sk.Column("bool", (None,), aligned="t")}
    with sk.DatasetWriter(store, schema=schema) as writer:
        message = 'column "m", sample 0: expected the length 2 of "t", found length 3'
        with pytest.raises(sk.SchemaError, match=message):
            writer.write({"t": [1, 2], "m": [True] * 3})
        writer.write({"t": [1, 2], "m": [True, False]})
        with pytest.raises(sk.SchemaError, match="sample 2"):
            writer.write_batch({"t": [[1], [2]], "m": [[True], []]})
        writer.write_batch({"t": [[1], []], "m": [[True], []]})
    dataset = sk.open(store)
    assert [sample["m"].tolist() for sample in dataset[:]] == [[True, False], [True], []]
    assert [sample["m"].tolist() for sample in sk.open(store, columns=["m"])[:]] == [
        [True, False], [True], [],
    ]  # fmt: skip
    assert dataset.lengths("m").tolist() == [2, 1, 0]


def test_pickles_need_a_word_on_both_sides() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, allow_pickle=True) as writer:
        writer.write({"x": {1, 2}, "y": 1})
        writer.write({"x": frozenset(), "y": 2})
        with pytest.raises(sk.SchemaError, match=r'column "x", sample 2: .*pickled'):
            writer.write({"x": lambda: 1, "y": 2})
    with pytest.raises(ValueError, match=r'column "x" holds pickles.*allow_pickle=True'):
        sk.open(store)
    assert sk.open(store, columns=["y"])[:] == [{"y": 1}, {"y": 2}]
    assert sk.open(store, allow_pickle=True)[:] == [{"x": {1, 2}, "y": 1}, {"x": set(), "y": 2}]
    with pytest.raises(sk.SchemaError, match="allow_pickle=True"):
        sk.DatasetWriter(sk.MemoryStore(), schema=sk.Column("pickle"))
    with pytest.raises(sk.SchemaError, match="allow_pickle=True"):
        sk.DatasetWriter(store, mode="append")


def test_an_exception_publishes_nothing(tmp_path: Path) -> None:
    writer = sk.DatasetWriter(tmp_path / "d", chunk_samples=100)

    def fill() -> None:
        with writer:
            for i in range(1500):
                writer.write({"x": i})
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fill()
    assert list((tmp_path / "d").iterdir()) == []
    with pytest.raises(ValueError, match="takes no more samples"):
        writer.write({"x": 1})
    with pytest.raises(FileNotFoundError, match="no dataset here"):
        sk.open(tmp_path / "d")


def test_a_closed_writer_takes_nothing_and_closes_again() -> None:
    writer = sk.DatasetWriter(sk.MemoryStore())
    writer.write(1)
    writer.close()
    writer.close()
    for call in (writer.write, writer.write_batch):
        with pytest.raises(ValueError, match="it was closed"):
            call([1])


class FullStore(sk.MemoryStore):
    """A store that has room for so many objects."""

    room = 2

    def write(self, key: str, parts: Any) -> None:
        if len(list(self.list())) >= self.room:
            raise OSError(28, "No space left on device")
        super().write(key, parts)


def test_a_store_that_fails_ends_the_writer() -> None:
    store = FullStore()
    writer = sk.DatasetWriter(store, schema=int, chunk_samples=1)
    writer.write(0)
    writer.write(1)
    writer.write(2)  # is stored in the background
    with pytest.raises(OSError, match="No space"):
        writer.write(3)
    with pytest.raises(ValueError, match="it failed, and has published nothing"):
        writer.write(1)
    with pytest.raises(ValueError, match="has published nothing"):
        writer.close()
    assert list(store.list()) == []


def test_a_store_that_fails_while_the_first_samples_are_kept_ends_the_writer() -> None:
    store = FullStore()
    writer = sk.DatasetWriter(store, chunk_samples=1)
    for i in range(10):
        writer.write(i)
    with pytest.raises(OSError, match="No space"):
        writer.close()
    assert list(store.list()) == []


def test_an_empty_dataset_needs_a_schema(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing was written and no schema"):
        sk.DatasetWriter(sk.MemoryStore()).close()
    with sk.DatasetWriter(tmp_path, schema={"t": TOKENS, "n": int}):
        pass
    dataset = sk.open(tmp_path)
    assert (len(dataset), dataset[:], dataset[[]], dataset.chunk_sizes.tolist()) == (0, [], [], [])
    assert dataset.lengths("t").tolist() == []
    batch = dataset.gather([])
    assert batch["t"] == []
    assert batch["n"].shape == (0,)
    with pytest.raises(IndexError, match="0 samples"):
        dataset[0]


def test_appending_goes_on_with_schema_compression_and_metadata() -> None:
    store = sk.MemoryStore()
    options: Any = {"compression": "zstd", "metadata": {"from": "é"}, "chunk_samples": 3}
    with sk.DatasetWriter(store, **options) as writer:
        for i in range(5):
            writer.write({"t": np.arange(i), "m": "x"})
        writer.write({"t": np.arange(3), "m": "y"})
    before = sk.open(store)
    with sk.DatasetWriter(store, mode="append") as writer:
        assert writer.num_samples == 0
        with pytest.raises(sk.SchemaError, match='column "t", sample 0'):
            writer.write({"t": np.arange(3.0), "m": "y"})
        writer.write({"t": np.arange(9), "m": "z"})
        assert writer.num_samples == 1
    after = sk.open(store)
    assert after.lengths("t").tolist() == [0, 1, 2, 3, 4, 3, 9]
    assert after.chunk_sizes.tolist() == [3, 3, 1]
    assert after.metadata == {"from": "é"}
    assert after.index.compression == "zstd"
    assert len(before) == 6
    assert before[5]["m"] == "y"
    assert after.prefix_fingerprint(6) == before.fingerprint != after.fingerprint
    assert after.prefix_fingerprint(5) is None
    with sk.DatasetWriter(store, mode="append", metadata={"new": 1}):
        pass
    assert sk.open(store).metadata == {"new": 1}
    with pytest.raises(sk.SchemaError, match="schema= differs"):
        sk.DatasetWriter(store, mode="append", schema=int)


def test_metadata_is_a_copy_of_a_json_object() -> None:
    store = sk.MemoryStore()
    given = {"list": [1, 2], "\ud800": None}
    with sk.DatasetWriter(store, schema=int, metadata=given):
        given["list"].append(3)
    assert sk.open(store).metadata == {"list": [1, 2], "\ud800": None}
    with pytest.raises(TypeError):
        sk.DatasetWriter(sk.MemoryStore(), metadata={"x": object()})


def test_two_sidecars_of_equal_lengths_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.format.lengths.SAMPLES_PER_SIDECAR", 4)
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, schema={"t": TOKENS, "u": TOKENS}, chunk_samples=2) as writer:
        for _ in range(18):
            writer.write({"t": [1, 2, 3], "u": [1, 2, 3]})
    dataset = sk.open(store)
    assert dataset.lengths("t").tolist() == [3] * 18
    assert len(dataset.index.lengths["t"]) == 5


@pytest.mark.parametrize(
    ("value", "size"),
    [(5, 5), ("32MB", 32_000_000), ("64MiB", 2**26), ("1.5 kB", 1500), ("7", 7), ("2G", 2 * 10**9),
     ("1Ki", 1024), (np.int64(9), 9)],
)  # fmt: skip
def test_sizes(value: Any, size: int) -> None:
    assert parse_bytes(value, "x") == size


@pytest.mark.parametrize(
    "options",
    [{"chunk_bytes": v} for v in (0, -1, "0", "MB", "5 apples", 1.5, True, None)]
    + [{"chunk_samples": v} for v in (0, -1, 1.5, True)]
    + [{"compression": v} for v in ("gzip", "zstd:", "zstd:23", "zstd:x", 3, "")]
    + [{"mode": "w"}],
)
def test_options_that_break_a_rule_are_named(options: dict[str, Any]) -> None:
    ((name, _),) = options.items()
    with pytest.raises(ValueError, match=f"{name}="):
        sk.DatasetWriter(sk.MemoryStore(), **options)


_MEMORY = """
import resource, sys
import numpy as np
import streamkit as sk
kind, path = sys.argv[1:]
row = {"fixed": np.ones(25_000, np.float32), "ragged": np.ones(25_000, np.float32),
       "bytes": b"x" * 100_000}[kind]
schema = {"fixed": sk.Column("f4", (25_000,)), "ragged": sk.Column("f4", (None,)), "bytes": bytes}
with sk.DatasetWriter(path + "/warm", schema=schema[kind], chunk_bytes=200_000) as writer:
    writer.write(row)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with sk.DatasetWriter(path + "/big", schema=schema[kind], chunk_bytes="32MB") as writer:
    for _ in range(3200):
        writer.write(row)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 32e6)
"""


@pytest.mark.parametrize("kind", ["fixed", "ragged", "bytes"])
def test_at_most_about_two_chunks_are_in_memory(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MEMORY, kind, str(tmp_path)]
    chunks = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert chunks < 2.6


def test_large_rows_take_no_more_memory_than_they_need() -> None:
    store = sk.MemoryStore()
    row = np.zeros(40_000_000, np.uint8)
    with sk.DatasetWriter(store) as writer:
        writer.write(row)
    assert sk.open(store).chunk_sizes.tolist() == [1]
    assert sk.open(store)[0].nbytes == row.nbytes
