from __future__ import annotations

import pickle
from itertools import chain
from typing import Any

import numpy as np
import pytest
from memory_dataset import MemoryDataset

from streamkit.datasets.base import ArraySpec
from streamkit.order import ChunkShuffle, GlobalShuffle, Shard, Stream
from streamkit.pipeline import Loader


def ids(loader: Loader) -> list[list[int]]:
    return [batch["id"].tolist() for batch in loader]


def test_each_pass_is_an_epoch_in_an_order_of_its_own() -> None:
    loader = Loader(MemoryDataset(40), batch_size=8)
    first, second = ids(loader), ids(loader)
    assert len(loader) == len(first) == 5
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(40))
    assert first != second


def test_a_batch_is_the_tree_of_stacked_columns() -> None:
    batch = next(iter(Loader(MemoryDataset(40), batch_size=8, shuffle=False)))
    assert list(batch) == ["x", "id"]
    np.testing.assert_array_equal(batch["x"], [[i, 2 * i] for i in range(8)])
    assert batch["id"].dtype == np.int64


@pytest.mark.parametrize("shuffle", [False, True, GlobalShuffle(), ChunkShuffle(window=3)])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_random_access_gives_what_iteration_gives(shuffle: Any, threads: int) -> None:
    ds = MemoryDataset(45, chunk=15)
    loader = Loader(ds, batch_size=8, shuffle=shuffle, seed=5, threads=threads)
    for _ in range(2):
        start = loader.state_dict()["position"] // 45 * 5
        for step, batch in enumerate(loader, start):
            np.testing.assert_array_equal(batch["x"], loader.batch(step)["x"])


def test_rows_of_a_step_are_chosen_by_number_slice_array_or_mask() -> None:
    loader = Loader(MemoryDataset(45), batch_size=8, shard=Shard(1, 2))
    whole = loader.batch(2, slice(None))["id"]
    np.testing.assert_array_equal(loader.batch(2)["id"], whole[4:])
    np.testing.assert_array_equal(loader.batch(2, 3)["id"], whole[3:4])
    np.testing.assert_array_equal(loader.batch(2, -1)["id"], whole[-1:])
    np.testing.assert_array_equal(loader.batch(2, [5, 0, 5])["id"], whole[[5, 0, 5]])
    np.testing.assert_array_equal(loader.batch(2, whole > 20)["id"], whole[whole > 20])
    with pytest.raises(IndexError, match="8 rows"):
        loader.batch(2, 8)
    with pytest.raises(ValueError, match="step"):
        loader.batch(-1)


def test_a_stream_without_end_runs_across_epochs() -> None:
    loader = Loader(MemoryDataset(10), batch_size=4, epochs=None)
    iterator = iter(loader)
    seen = np.concatenate([next(iterator)["id"] for _ in range(5)])
    assert sorted(seen[:4].tolist() + seen[4:8].tolist() + seen[8:12].tolist()) == sorted(
        seen[:12].tolist()
    )
    assert np.bincount(seen).tolist() == [2] * 10
    with pytest.raises(TypeError, match="no length"):
        len(loader)


def test_drop_misses_no_sample_for_twenty_epochs() -> None:
    loader = Loader(MemoryDataset(50), batch_size=16)
    counts = np.zeros(50, int)
    for _ in range(20):
        for batch in loader:
            counts += np.bincount(batch["id"], minlength=50)
    assert counts.sum() == 20 * 48
    # Each is left out with probability 1/25 an epoch: 0.8 times on average, 7 hardly ever.
    assert counts.min() >= 14


def test_pad_repeats_rows_and_marks_them() -> None:
    shards = [
        Loader(MemoryDataset(45), batch_size=8, remainder="pad", shard=Shard(i, 4))
        for i in range(4)
    ]
    batches = list(zip(*shards, strict=True))
    assert len(batches) == 6
    ids = np.concatenate([part["id"] for batch in batches for part in batch])
    mask = np.concatenate([part["mask"] for batch in batches for part in batch])
    assert mask.dtype == np.bool_
    assert sorted(ids[mask].tolist()) == list(range(45))
    assert (~mask).sum() == 3
    assert all(part["mask"].all() for batch in batches[:-1] for part in batch)


def test_pad_needs_a_dict_without_a_mask() -> None:
    with pytest.raises(ValueError, match="rename it with transform"):
        Loader(MemoryDataset(4, columns={"mask": np.zeros(4)}), batch_size=3, remainder="pad")
    with pytest.raises(ValueError, match=r"a tuple.*|a ndarray.*transform="):
        next(iter(Loader(list(range(4)), batch_size=3, remainder="pad")))
    own = Loader([{"mask": 1}] * 4, batch_size=3, remainder="pad")
    with pytest.raises(ValueError, match="have one of their own"):
        next(iter(own))


def test_keep_makes_one_shorter_batch() -> None:
    loader = Loader(MemoryDataset(10), batch_size=4, remainder="keep")
    batches = ids(loader)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(chain(*batches)) == list(range(10))
    assert loader.batch(2)["id"].tolist() == batches[2]
    assert loader.batch(2, 1)["id"].tolist() == batches[2][1:]
    with pytest.raises(IndexError, match="2 rows"):
        loader.batch(2, 2)


def test_a_loader_over_a_stream_is_short_for_the_same() -> None:
    ds = MemoryDataset(40)
    stream = Stream(ds, shuffle=ChunkShuffle(9), seed=9, epochs=2)
    loader = Loader(ds, batch_size=8, shuffle=ChunkShuffle(9), seed=9, epochs=2)
    assert ids(Loader(stream, batch_size=8)) == ids(loader)


@pytest.mark.parametrize("given", [{"seed": 0}, {"shuffle": True}, {"epochs": None}])
def test_what_belongs_to_the_stream_is_given_to_the_stream(given: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"{next(iter(given))} given along with a Stream"):
        Loader(Stream(MemoryDataset(4)), batch_size=2, **given)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": True}, TypeError, "whole number, got bool"),
        ({"batch_size": 4.0}, TypeError, "whole number, got float"),
        ({"batch_size": 0}, ValueError, "at least 1"),
        ({"batch_size": -3}, ValueError, r"batch_size \(=-3\)"),
        ({"batch_size": 41}, ValueError, "larger than an epoch"),
        ({"shard": Shard(0, 3)}, ValueError, "6 or 9"),
        ({"shard": (0, 1)}, TypeError, "must be a Shard"),
        ({"remainder": "cut"}, ValueError, "'drop', 'pad', 'keep'"),
        ({"remainder": "keep", "shard": Shard(0, 2)}, ValueError, '"pad"'),
        ({"shuffle": "yes"}, TypeError, "shuffle"),
        ({"seed": -1}, ValueError, "seed"),
        ({"epochs": 0}, ValueError, "epochs"),
        ({"transform": 3}, TypeError, "transform"),
        ({"batch_transform": "f"}, TypeError, "batch_transform"),
        ({"allocator": 1}, TypeError, "allocator"),
        ({"on_error": "ignore"}, ValueError, "'replace'"),
        ({"on_error": "replace", "max_errors": -1}, ValueError, "max_errors"),
        ({"max_errors": 3}, ValueError, 'on_error="raise"'),
        ({"threads": -1}, ValueError, "threads"),
        ({"threads": 1.5}, TypeError, "threads"),
        ({"prefetch_bytes": 0}, ValueError, "prefetch_bytes"),
        ({"prefetch_bytes": "1GB"}, TypeError, "prefetch_bytes"),
        ({"pad": [("x", 3)]}, TypeError, "must be a dict"),
        ({"pad": {"x": 3}}, TypeError, "fill value"),
        ({"pad": {"x": (0, 0)}}, ValueError, "length in pad"),
        ({"pad": {"y": (3, 0)}}, ValueError, 'column "y".*x, id'),
    ],
)
def test_a_wrong_argument_says_what_is_wrong(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Loader(MemoryDataset(40), **{"batch_size": 8, **arguments})


@pytest.mark.parametrize("source", [{"a": 1}, "text", b"bytes", 3, iter([1]), {1, 2}])
def test_a_source_without_random_access_is_refused(source: Any) -> None:
    with pytest.raises(TypeError, match="source of type"):
        Loader(source, batch_size=1)


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Loader([], batch_size=1)


def test_the_element_spec_is_that_of_the_batches() -> None:
    ds = MemoryDataset(40)
    loader = Loader(ds, batch_size=8, shard=Shard(0, 2), remainder="pad")
    spec, batch = loader.element_spec, loader.batch(0)
    assert list(spec) == list(batch) == ["x", "id", "mask"]
    for name, column in batch.items():
        assert spec[name] == ArraySpec(column.shape, column.dtype)
    ragged = MemoryDataset(2, columns={"t": [np.arange(3), np.arange(5)]})
    assert Loader(ragged, batch_size=2).element_spec["t"] == ArraySpec(
        (2, None), np.dtype(np.int64), "ragged"
    )
    padded = Loader(ragged, batch_size=2, pad={"t": (6, 0)})
    assert padded.element_spec["t"] == ArraySpec((2, 6), np.dtype(np.int64), "array")
    for unknown in (Loader(ds, batch_size=2, transform=lambda s, r: s), Loader([1], batch_size=1)):
        with pytest.raises(TypeError, match=r"loader.batch\(0\)"):
            _ = unknown.element_spec


def test_pad_makes_arrays_of_ragged_columns() -> None:
    ragged = MemoryDataset(3, columns={"t": [np.arange(n) for n in (3, 5, 1)]})
    loader = Loader(ragged, batch_size=3, shuffle=False, pad={"t": (6, -1)})
    np.testing.assert_array_equal(
        loader.batch(0)["t"],
        [[0, 1, 2, -1, -1, -1], [0, 1, 2, 3, 4, -1], [0, -1, -1, -1, -1, -1]],
    )
    short = Loader(ragged, batch_size=3, shuffle=False, pad={"t": (4, -1)})
    with pytest.raises(ValueError, match=r'column "t" of sample 1 has length 5.*transform='):
        short.batch(0)


def test_stats_count_what_was_handed_out() -> None:
    loader = Loader(MemoryDataset(40), batch_size=8, shard=Shard(1, 2))
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    stats = loader.stats
    assert (stats.batches, stats.samples, stats.errors) == (3, 12, 0)
    assert stats.assemble_seconds > 0
    assert stats.wait_seconds > 0


def test_the_allocator_gives_all_arrays_their_memory() -> None:
    given: list[int] = []

    def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        memory = np.empty(shape, dtype)
        given.append(memory.ctypes.data)
        return memory

    ds = MemoryDataset(10)
    for options in ({}, {"transform": lambda s, r: s}):
        loader = Loader(ds, batch_size=4, epochs=None, allocator=allocate, **options)
        for step in range(3):  # the third batch lies in two epochs
            assert all(c.ctypes.data in given for c in loader.batch(step).values())
    padded = Loader(ds, batch_size=4, remainder="pad", allocator=allocate)
    assert padded.batch(2)["mask"].ctypes.data in given


def test_places_tell_views_the_epoch_and_the_step_of_every_sample() -> None:
    class Shifted(MemoryDataset):
        def gather(self, indices: Any, *, at: Any = None) -> Any:
            rows = len(indices)
            return {"id": indices, "at": np.array([[at.seed, at.epoch, at.step]] * rows)}

        @property
        def element_spec(self) -> Any:
            return {"id": ArraySpec((), np.dtype(int)), "at": ArraySpec((3,), np.dtype(int))}

    ds = Shifted(10)
    loader = Loader(ds, batch_size=4, epochs=None, seed=6)
    order = Stream(ds, seed=6)
    for step, batch in zip(range(6), loader, strict=False):
        positions = np.arange(4 * step, 4 * step + 4)
        expected = zip(order.indices(positions).tolist(), positions // 10, strict=True)
        found = zip(batch["id"].tolist(), batch["at"].tolist(), strict=True)
        assert sorted(found) == sorted((i, [6, epoch, step]) for i, epoch in expected)


def test_few_slots_are_warned_of_once() -> None:
    ds = MemoryDataset(400, chunk=10)
    Loader(ds, batch_size=4, shuffle=ChunkShuffle(4), shard=Shard(0, 4))
    with pytest.warns(UserWarning, match="larger than|share a window") as caught:
        Loader(ds, batch_size=8, shuffle=ChunkShuffle(4), shard=Shard(0, 8))
    assert "8 processes share a window of 4" in str(caught[0].message)
    with pytest.warns(UserWarning, match=r"batch_size \(=16\) is larger than.* window of 4"):
        loader = Loader(ds, batch_size=16, shuffle=ChunkShuffle(4))
    list(loader)  # does not warn again
    Loader(ds, batch_size=80, shuffle=ChunkShuffle(64))  # all chunks are open: no warning


def test_a_loader_survives_pickling_at_its_position() -> None:
    loader = Loader(MemoryDataset(40), batch_size=8)
    next(iter(loader))
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.state_dict() == loader.state_dict()
    assert ids(copy) == ids(loader)


def test_the_text_of_a_loader_says_where_it_is() -> None:
    text = repr(Loader(MemoryDataset(40), batch_size=8, seed=3))
    assert "batch_size=8" in text
    assert "seed=3" in text
    assert "position=0" in text
