"""Reading a stored dataset: indices, types, columns, copies, chunks."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import streamkit as sk


@pytest.fixture(params=["mapped", "zstd", "memory"])
def pairs(request: pytest.FixtureRequest, tmp_path: Path) -> sk.StoredDataset:
    """200 samples `(i, i**2)` in chunks of 30."""
    store: Any = sk.MemoryStore() if request.param == "memory" else tmp_path / "pairs"
    compression = "zstd" if request.param == "zstd" else None
    with sk.DatasetWriter(store, chunk_samples=30, compression=compression) as writer:
        for i in range(200):
            writer.write((i, i**2))
    return sk.open(store)


def test_all_is_a_list_of_the_samples(pairs: sk.StoredDataset) -> None:
    assert pairs[:] == [(i, i**2) for i in range(200)]
    assert len(pairs) == 200


@pytest.mark.parametrize(
    "key",
    [0, 199, -1, -200, np.int64(5), np.uint8(200 - 1), np.array(7), torch.tensor(3), True + 1],
)
def test_an_integer_gives_one_sample(pairs: sk.StoredDataset, key: Any) -> None:
    i = int(key) % 200
    assert pairs[key] == (i, i**2)


@pytest.mark.parametrize(
    "key",
    [
        slice(None), slice(10, 20), slice(20, 10), slice(None, None, -7), slice(-5, None),
        slice(150, 999), [], [3, 5, 7], [5, -1, 5], (1, 2), range(3, 90, 9), np.array([], np.int64),
        np.array([1, -200]), np.array([199, 0], np.uint8), np.array([2**3], np.uint64),
        torch.tensor([4, 2]), np.arange(200) % 7 == 0, [i == 5 for i in range(200)],
        np.array([5]), torch.tensor([5]),
    ],
    ids=repr,
)  # fmt: skip
def test_anything_else_gives_a_list_and_gather_a_batch(pairs: sk.StoredDataset, key: Any) -> None:
    numbers = np.arange(200)[np.asarray(key) if not isinstance(key, slice) and len(key) else key]
    numbers = numbers if isinstance(key, slice) or len(key) else np.array([], np.int64)
    assert pairs[key] == [(i, i**2) for i in numbers.tolist()]
    if not isinstance(key, slice):
        x, y = pairs.gather(key)
        assert (x.tolist(), y.tolist()) == (numbers.tolist(), (numbers**2).tolist())
        assert pairs.locate(key).tolist() == np.unique(numbers // 30).tolist()


@pytest.mark.parametrize(
    "key", [200, -201, 2**70, [0, 200], [-201], np.array([1, 500]), range(201)]
)
def test_an_index_out_of_range_names_itself_and_the_length(
    pairs: sk.StoredDataset, key: Any
) -> None:
    with pytest.raises(IndexError, match=r"index -?\d+ is out of range .* 200 samples"):
        pairs[key]
    if isinstance(key, (list, np.ndarray)):
        for read in (pairs.gather, pairs.locate):
            with pytest.raises(IndexError, match="200 samples"):
                read(key)


def test_a_mask_must_have_the_length(pairs: sk.StoredDataset) -> None:
    with pytest.raises(IndexError, match="a mask of 199 booleans for a dataset of 200 samples"):
        pairs[np.zeros(199, bool)]


@pytest.mark.parametrize("key", [1.0, "x", None, True, [1.5], ["a"], np.zeros((2, 2), int), {1: 2}])
def test_other_keys_are_a_type_error(pairs: sk.StoredDataset, key: Any) -> None:
    with pytest.raises(TypeError, match="indices must"):
        pairs[key]


def test_arrays_are_fresh_writable_and_of_their_own(tmp_path: Path) -> None:
    with sk.DatasetWriter(tmp_path) as writer:
        for i in range(50):
            writer.write({"x": np.full(3, i), "r": np.full(i % 4, i), "z": np.array(i)})
    dataset = sk.open(tmp_path)
    one, two = dataset[7], dataset[[7, 7]]
    batch, again = dataset.gather([7, 7]), dataset.gather([7, 7])
    for sample in (one, *two):
        for name in ("x", "r", "z"):
            assert sample[name].flags.writeable
            sample[name][...] = -1
    for array in (batch["x"], batch["z"], *batch["r"]):
        assert array.flags.writeable
        array[0] = -2
    assert two[0]["x"].tolist() == [-1, -1, -1]
    assert again["x"].tolist() == [[7, 7, 7]] * 2
    assert [r.tolist() for r in again["r"]] == [[7, 7, 7]] * 2
    assert batch["x"][1].tolist() == [7, 7, 7]
    assert batch["r"][1].tolist() == [-2, 7, 7]
    assert dataset[7]["x"].tolist() == [7, 7, 7]
    assert dataset[7]["z"] == 7


def test_scalars_come_back_as_they_were() -> None:
    store = sk.MemoryStore()
    sample = {"i": 5, "f": 0.5, "b": True, "c": 1j, "s": "t", "y": b"t", "n": np.float32(1),
              "d": np.datetime64("2020-01-01"), "z": np.array(3)}  # fmt: skip
    with sk.DatasetWriter(store) as writer:
        writer.write(sample)
    for read in (sk.open(store)[0], sk.open(store)[:][0], sk.open(store)[[0]][0]):
        assert read == sample
        assert {name: type(value) for name, value in read.items()} == {
            name: type(value) for name, value in sample.items()
        }
        assert read["z"].shape == ()


@pytest.mark.parametrize("sample", [5, "text", np.arange(3.0), [1, 2]])
def test_a_sample_may_be_a_bare_leaf(sample: Any) -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        writer.write(sample)
    dataset = sk.open(store, columns=["value"])
    np.testing.assert_array_equal(dataset[0], sample)
    np.testing.assert_array_equal(dataset.gather([0, 0])[1], sample)


# -- columns --------------------------------------------------------------------------------------


@pytest.fixture
def nested() -> sk.MemoryStore:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        for i in range(10):
            writer.write(
                {"a": {"x": np.full(100, i), "y": i}, "b": [np.float32(i), "s"], "n": None}
            )
    return store


@pytest.mark.parametrize(
    ("columns", "sample", "num_bytes"),
    [
        (["a/y"], {"a": {"y": 3}, "n": None}, 8),
        (["b"], {"b": [3.0, "s"], "n": None}, 5),
        (["b/0", "b/1", "a/y"], {"a": {"y": 3}, "b": [3.0, "s"], "n": None}, 13),
    ],
)
def test_columns_reads_those_only(
    nested: sk.MemoryStore, columns: list[str], sample: Any, num_bytes: int
) -> None:
    dataset = sk.open(nested, columns=columns)
    assert dataset[3] == sample
    assert dataset.bytes_read == num_bytes
    dataset.gather([1, 2])
    assert dataset.bytes_read == 3 * num_bytes
    assert dataset.fingerprint == sk.open(nested).fingerprint
    assert len(dataset.schema.columns) == len(dataset.schema.names)
    assert str(dataset.element_spec).count("ArraySpec") == len(dataset.schema.columns)


def test_a_node_stands_for_all_below_it(nested: sk.MemoryStore) -> None:
    dataset = sk.open(nested, columns=["a"])
    assert dataset.schema.names == ("a/x", "a/y")
    assert dataset[3]["a"]["x"].tolist() == [3] * 100


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (["z"], KeyError, 'no column "z"'),
        (["a/"], KeyError, 'no column "a/"'),
        ([], ValueError, "leaves nothing"),
        ("a", TypeError, "must be a list of names"),
        (["b/0"], ValueError, "take elements out of a list of 2"),
    ],
)
def test_columns_that_cannot_be_chosen(
    nested: sk.MemoryStore, columns: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        sk.open(nested, columns=columns)


# -- the dataset as a whole -----------------------------------------------------------------------


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nothing", sk.MemoryStore()):
        with pytest.raises(FileNotFoundError, match=r"no dataset here .*index\.json"):
            sk.open(place)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="no dataset here"):
        sk.open(tmp_path / "file")


@pytest.mark.parametrize(
    "options", [{"max_open_chunks": 0}, {"max_open_chunks": 1.5}, {"cache_bytes": 0},
                {"cache_bytes": "much"}],
)  # fmt: skip
def test_options_that_break_a_rule_are_named(options: dict[str, Any]) -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, schema=int):
        pass
    ((name, _),) = options.items()
    with pytest.raises(ValueError, match=f"{name}="):
        sk.open(store, **options)


def write_range(target: Any, numbers: range, chunk_samples: int = 10) -> sk.StoredDataset:
    with sk.DatasetWriter(target, chunk_samples=chunk_samples) as writer:
        for i in numbers:
            writer.write({"i": i, "t": "x" * (i % 5)})
    return sk.open(target)


def test_a_copy_is_the_same_dataset(tmp_path: Path) -> None:
    dataset = write_range(tmp_path / "a", range(35))
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "c")
    shutil.rmtree(tmp_path / "a")
    copy = sk.open(tmp_path / "b" / "c")
    assert copy.fingerprint == dataset.fingerprint
    assert copy[:] == [{"i": i, "t": "x" * (i % 5)} for i in range(35)]
    again = write_range(tmp_path / "again", range(35))
    assert again.fingerprint == dataset.fingerprint
    assert write_range(tmp_path / "d", range(1, 36)).fingerprint != dataset.fingerprint
    assert write_range(tmp_path / "e", range(35), 11).fingerprint != dataset.fingerprint
    assert write_range(tmp_path / "f", range(34)).fingerprint != dataset.fingerprint


def test_a_reader_goes_on_through_an_append_and_notices_an_overwrite(tmp_path: Path) -> None:
    before = write_range(tmp_path, range(30))
    with sk.DatasetWriter(tmp_path, mode="append") as writer:
        writer.write({"i": 30, "t": ""})
    assert len(before) == 30
    assert before.gather([29])["i"].tolist() == [29]
    middle = sk.open(tmp_path)
    assert middle[30]["i"] == 30
    with sk.DatasetWriter(tmp_path, mode="overwrite", keep_old=True) as writer:
        writer.write({"other": 1})
    assert middle[0]["i"] == 0
    with sk.DatasetWriter(tmp_path, mode="overwrite") as writer:
        writer.write({"third": 1})
    assert middle[20]["i"] == 20  # kept by keep_old, and named by no later index
    kept = sk.open(tmp_path)
    with sk.DatasetWriter(tmp_path, mode="overwrite") as writer:
        writer.write({"fourth": 1})
    with pytest.raises(sk.DatasetChangedError, match="another version was published"):
        kept[0]


def test_closing_lets_go_and_reading_opens_again(tmp_path: Path) -> None:
    with write_range(tmp_path, range(30)) as dataset:
        assert dataset[5]["i"] == 5
        assert maps(tmp_path) == 1
    assert maps(tmp_path) == 0
    assert dataset[6]["i"] == 6


def maps(folder: Path) -> int:
    """How many files of a folder this process has mapped or open."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = [line.split(maxsplit=5)[-1] for line in lines if str(folder) in line]
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue  # the one that listed them
    return sum(path.startswith(str(folder)) for path in paths)


def test_open_chunks_take_no_descriptors(tmp_path: Path) -> None:
    dataset = write_range(tmp_path, range(200), 1)
    before = len(os.listdir("/proc/self/fd"))
    dataset.gather(range(200))
    assert maps(tmp_path) == 200
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("limit", [1, 3])
def test_open_files_are_bounded_in_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, compression: str | None
) -> None:
    store = sk.LocalStore(tmp_path)
    schema = {"i": int, "t": sk.Column("u2", (None,)), "r": sk.Column("u1", (None, None))}
    with sk.DatasetWriter(store, schema=schema, chunk_samples=5, compression=compression) as writer:
        for i in range(200):
            writer.write({"i": i, "t": [i] * (i % 7), "r": np.full((i % 3, 2), i, np.uint8)})
    dataset = sk.open(store, max_open_chunks=limit)
    seen: list[int] = []
    original = sk.LocalStore.path

    def path(self: sk.LocalStore, key: str) -> str | None:
        seen.append(maps(tmp_path))
        return original(self, key)

    monkeypatch.setattr(sk.LocalStore, "path", path)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(200), 2))
    batch = dataset.gather(order)
    assert batch["i"].tolist() == order.tolist()
    assert [t.tolist() for t in batch["t"]] == [[i] * (i % 7) for i in order.tolist()]
    assert [r.tolist() for r in batch["r"]] == [[[i, i]] * (i % 3) for i in order.tolist()]
    assert [sample["i"] for sample in dataset[order]] == order.tolist()
    halves = dataset.gather_batches(
        [order[:150], order[150:]], allocate=lambda shape, dtype: np.full(shape, -1, dtype)
    )
    assert np.concatenate([half["i"] for half in halves]).tolist() == order.tolist()
    tokens = np.concatenate([np.full(i % 7, i) for i in range(200)])
    blocks = sk.TokenBlocks(dataset, 3, column="t")
    expected = tokens[: len(blocks) * 3].reshape(-1, 3)
    np.testing.assert_array_equal(blocks.gather(range(len(blocks)))["t"], expected)
    assert max(seen) <= limit
    assert len(seen) >= 40


def test_memory_for_compressed_chunks_is_bounded_in_every_call() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, chunk_samples=10, compression="zstd") as writer:
        for i in range(200):
            writer.write(np.full(1000, i))
    dataset = sk.open(store, cache_bytes=100_000)  # a chunk has 80,000 bytes
    order = np.random.default_rng(0).permutation(200)
    np.testing.assert_array_equal(dataset.gather(order)[:, 0], order)


def test_names_say_what_a_dataset_is(tmp_path: Path) -> None:
    dataset = write_range(tmp_path, range(3))
    assert repr(dataset) == f"<StoredDataset '{tmp_path}': 3 samples, ['i', 't']>"
    assert dataset.element_spec == {
        "i": sk.ArraySpec((), np.dtype(np.int64)),
        "t": sk.ArraySpec((), None, "str"),
    }
    assert dataset.lengths("t").tolist() == [0, 1, 2]
    assert dataset.lengths("i").tolist() == [1, 1, 1]
