from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from memory_dataset import MemoryDataset

from streamkit.datasets.views import subset
from streamkit.errors import StateMismatchError
from streamkit.order import ChunkShuffle, Sequential, Shard, Stream
from streamkit.pipeline import Loader


def ids(loader: Loader) -> list[int]:
    return [index for batch in loader for index in batch["id"].tolist()]


def saved(steps: int = 3, **options: Any) -> dict[str, Any]:
    loader = Loader(MemoryDataset(40), **{"batch_size": 4, **options})
    for _ in zip(range(steps), loader, strict=False):
        pass
    return loader.state_dict()


def test_the_state_counts_what_was_handed_out() -> None:
    loader = Loader(MemoryDataset(40), batch_size=4, threads=3)
    assert loader.state_dict()["position"] == 0
    for count, _ in enumerate(loader, 1):
        assert loader.state_dict()["position"] == 4 * count  # from inside the loop
        if count == 6:
            break
    assert loader.state_dict()["position"] == 24  # after a break
    assert len(ids(loader)) == 16
    assert loader.state_dict()["position"] == 40


def test_the_state_after_the_last_batch_is_the_start_of_the_next_pass() -> None:
    loader = Loader(MemoryDataset(42), batch_size=4)
    iterator = iter(loader)
    for _ in range(10):
        next(iterator)
    state = loader.state_dict()  # the iterator has not been asked whether there is more
    assert state["position"] == 42
    fresh = Loader(MemoryDataset(42), batch_size=4)
    fresh.load_state_dict(state)
    assert len(ids(fresh)) == 40
    assert list(iterator) == []


def test_the_state_is_small_json_and_the_same_on_every_process() -> None:
    states = []
    for index in range(2):
        loader = Loader(MemoryDataset(40), batch_size=4, shard=Shard(index, 2))
        next(iter(loader))
        states.append(json.dumps(loader.state_dict()))
    assert states[0] == states[1]
    assert len(states[0]) < 1000
    other = Loader(MemoryDataset(40), batch_size=4)
    other.load_state_dict(json.loads(states[0]))
    assert json.dumps(other.state_dict()) == states[0]


def test_a_long_fingerprint_or_shuffle_keeps_the_state_small() -> None:
    class Wordy(Sequential):
        def __repr__(self) -> str:
            return "words " * 1000

    ds = MemoryDataset(40, version="v" * 5000)
    state = Loader(ds, batch_size=4, shuffle=Wordy()).state_dict()
    assert len(json.dumps(state)) < 1000
    Loader(ds, batch_size=4, shuffle=Wordy()).load_state_dict(state)


def test_a_resume_at_another_batch_size_counts_steps_from_an_anchor() -> None:
    loader = Loader(MemoryDataset(40), batch_size=8)
    loader.load_state_dict(saved(3))
    state = loader.state_dict()
    assert (state["position"], state["anchor"]) == (12, [3, 12])
    with pytest.raises(IndexError, match="count from step 3 at position 12"):
        loader.batch(2)
    expected = loader.batch(4)["id"].tolist()
    assert [b["id"].tolist() for b in loader][1] == expected
    # Three batches of 8 fit into the other 28 samples; the next pass begins at step 6.
    assert loader.state_dict()["position"] == 40
    assert loader.batch(6)["id"].tolist() == next(iter(loader))["id"].tolist()


def test_a_resume_whose_rest_fills_no_batch_begins_the_next_pass() -> None:
    loader = Loader(MemoryDataset(40), batch_size=8)
    loader.load_state_dict(saved(9))
    assert loader.state_dict()["position"] == 40
    assert len(ids(loader)) == 40


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 1}, "seed: the state has 0, this loader 1"),
        ({"epochs": 2}, "epochs: the state has 1, this loader 2"),
        ({"shuffle": ChunkShuffle(32)}, r"ChunkShuffle\(window=64\).*ChunkShuffle\(window=32\)"),
        ({"shuffle": False}, "shuffle: "),
    ],
)
def test_another_order_is_a_mismatch_that_says_what_changed(
    other: dict[str, Any], message: str
) -> None:
    loader = Loader(MemoryDataset(40), batch_size=4, **other)
    with pytest.raises(StateMismatchError, match=message):
        loader.load_state_dict(saved())
    assert loader.state_dict()["position"] == 0


def test_other_data_are_a_mismatch() -> None:
    for ds in (MemoryDataset(40, version="v2"), MemoryDataset(39)):
        loader = Loader(ds, batch_size=4)
        with pytest.raises(StateMismatchError, match=f"v1:40.*{ds.fingerprint}"):
            loader.load_state_dict(saved(), on_change="next_epoch")
    with pytest.raises(StateMismatchError, match=r"list\[40\].*list\[41\]"):
        Loader([0] * 41, batch_size=4).load_state_dict(Loader([0] * 40, batch_size=4).state_dict())


def grown() -> MemoryDataset:
    ds = MemoryDataset(60)
    ds.prefixes[40] = "v1:40"
    return ds


def test_after_an_append_the_next_epoch_goes_on_with_the_grown_dataset() -> None:
    loader = Loader(grown(), batch_size=4)
    with pytest.raises(StateMismatchError, match=r"appended to.*on_change=\"next_epoch\""):
        loader.load_state_dict(saved(3))
    loader.load_state_dict(saved(3), on_change="next_epoch")
    assert loader.state_dict()["position"] == 60
    assert sorted(ids(loader)) == list(range(60))
    second = Loader(grown(), batch_size=4)
    ids(second)
    assert ids(second) != sorted(range(60))


@pytest.mark.parametrize(("steps", "position"), [(0, 0), (3, 60), (10, 60), (13, 120)])
def test_nothing_of_the_next_epoch_is_skipped_after_an_append(steps: int, position: int) -> None:
    loader = Loader(grown(), batch_size=4, epochs=None)
    loader.load_state_dict(saved(steps, epochs=None), on_change="next_epoch")
    assert loader.state_dict()["position"] == position
    assert loader.state_dict()["anchor"] == [steps, position]


def test_an_append_with_another_seed_is_a_mismatch_still() -> None:
    loader = Loader(grown(), batch_size=4, seed=1)
    with pytest.raises(StateMismatchError, match="seed"):
        loader.load_state_dict(saved(), on_change="next_epoch")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"position": -1}, "position"),
        ({"position": 1.5}, "position"),
        ({"position": True}, "position"),
        ({"position": None}, "position"),
        ({"anchor": [0]}, "anchor"),
        ({"anchor": [0, 16]}, "before its anchor"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 100}, "contradicts itself"),
        ({"remainder": "cut"}, "remainder"),
        ({"seed": "0"}, "seed"),
        ({"fingerprint": 3}, "fingerprint"),
        ({"extra": 1}, "unknown .'extra'"),
    ],
)
def test_a_state_that_is_none_is_refused(change: dict[str, Any], message: str) -> None:
    loader = Loader(MemoryDataset(40), batch_size=4)
    with pytest.raises(StateMismatchError, match=message):
        loader.load_state_dict({**saved(), **change})


def test_a_state_with_a_missing_key_or_of_another_type_is_refused() -> None:
    loader = Loader(MemoryDataset(40), batch_size=4)
    state = saved()
    del state["seed"]
    with pytest.raises(StateMismatchError, match=r"missing .'seed'"):
        loader.load_state_dict(state)
    with pytest.raises(TypeError, match="state_dict"):
        loader.load_state_dict("state")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_change"):
        loader.load_state_dict(saved(), on_change="ignore")  # type: ignore[arg-type]


def test_numbers_may_come_back_as_numpy_integers() -> None:
    loader = Loader(MemoryDataset(40), batch_size=4)
    state = saved()
    state["position"] = np.int64(state["position"])
    loader.load_state_dict(state)
    assert json.dumps(loader.state_dict()) == json.dumps(saved())


def test_a_loader_over_the_stream_reads_the_state_of_its_short_form() -> None:
    loader = Loader(Stream(MemoryDataset(40), epochs=1), batch_size=4)
    loader.load_state_dict(saved())
    assert len(ids(loader)) == 28


def test_a_state_belongs_to_one_view() -> None:
    view = Loader(subset(MemoryDataset(41), np.arange(40)), batch_size=4)
    with pytest.raises(StateMismatchError, match="fingerprint"):
        view.load_state_dict(saved())
