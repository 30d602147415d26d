"""Batches depend on positions only: not on processes, threads, batch size or the way taken."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbers_dataset import Numbers

from streamkit.order import ChunkShuffle, GlobalShuffle, Shard
from streamkit.pipeline import Loader

pytestmark = pytest.mark.filterwarnings(
    "ignore:batch_size .* is larger than the shuffle's window:UserWarning",
    "ignore:.* processes share a window:UserWarning",
)


@dataclass(frozen=True)
class Case:
    sizes: tuple[int, ...]
    options: dict[str, Any]

    def loader(self, **options: Any) -> Loader:
        return Loader(Numbers(self.sizes), **{**self.options, **options})

    @property
    def num_samples(self) -> int:
        return sum(self.sizes)


@st.composite
def cases(draw: st.DrawFn, *, endless: bool = True) -> Case:
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(any))
    shuffle = draw(
        st.one_of(
            st.just(False),
            st.just(GlobalShuffle()),
            st.integers(1, 16).map(lambda window: ChunkShuffle(window=window)),
        )
    )
    epochs = draw(st.sampled_from([1, 2, 3, None] if endless else [1, 2, 3]))
    options = {"shuffle": shuffle, "seed": draw(st.integers(0, 99)), "epochs": epochs}
    return Case(tuple(sizes), options)


def rows(batches: Any) -> list[list[int]]:
    return [batch["id"].tolist() for batch in batches]


@given(cases(endless=False), st.data())
@settings(deadline=None)
def test_the_union_over_the_processes_is_the_epoch_with_each_sample_once(
    case: Case, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 5), label="processes")
    size = count * data.draw(st.integers(1, 8), label="rows of a process")
    loaders = [
        case.loader(batch_size=size, shard=Shard(i, count), remainder="pad", threads=i % 3)
        for i in range(count)
    ]
    epochs = case.options["epochs"]
    for _ in range(2):
        parts = list(chain(*zip(*loaders, strict=True)))
        mask = np.concatenate([part["mask"] for part in parts])
        ids = np.concatenate([part["id"] for part in parts])
        assert len(parts) == count * len(loaders[0])
        assert np.bincount(ids[mask], minlength=case.num_samples).tolist() == (
            [epochs] * case.num_samples
        )


@given(cases(), st.data())
@settings(deadline=None)
def test_batches_are_the_same_for_any_processes_threads_and_access(
    case: Case, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, 4), label="processes")
    size = count * data.draw(st.integers(1, 6), label="rows of a process")
    remainder = data.draw(st.sampled_from(["drop", "pad"]), label="remainder")
    if case.options["epochs"] and size > case.options["epochs"] * case.num_samples:
        remainder = "pad"
    options = {"batch_size": size, "remainder": remainder}
    whole = case.loader(threads=0, **options)
    expected = [whole.batch(step)["id"].tolist() for step in range(12)]
    for threads in data.draw(st.sampled_from([(0, 1), (2, 3)]), label="threads"):
        parts = [
            case.loader(shard=Shard(index, count), threads=threads, **options)
            for index in range(count)
        ]
        found: list[list[int]] = []
        while len(found) < 12:
            for batches in zip(*parts, strict=True):
                found.append(list(chain(*rows(batches))))
                if len(found) == 12:
                    break
        assert found == expected


@given(cases(), st.integers(1, 12), st.integers(1, 12))
@settings(deadline=None)
def test_the_samples_of_the_first_positions_are_the_same_for_any_batch_size(
    case: Case, first: int, second: int
) -> None:
    """Rows are sorted inside a batch, so batches that end at one position hold the same set."""
    end = int(np.lcm(first, second))
    epochs = case.options["epochs"]
    if epochs is not None:
        end = min(end, epochs * case.num_samples)
    found = []
    for size in (first, second):
        loader = case.loader(batch_size=size, remainder="keep")
        taken: list[int] = []
        for batch in loader:
            taken.extend(batch["id"].tolist())
            if len(taken) >= end:
                break
        found.append(sorted(taken))
    assert found[0] == found[1]


@given(cases(endless=False), st.integers(1, 10), st.data())
@settings(deadline=None)
def test_rows_of_a_batch_depend_on_its_positions_only(
    case: Case, size: int, data: st.DataObject
) -> None:
    loader = case.loader(batch_size=size, remainder="keep")
    step = data.draw(st.integers(0, 3 * len(loader) - 1), label="step")
    batch = loader.batch(step)["id"]
    chosen = data.draw(st.lists(st.integers(0, len(batch) - 1), max_size=6), label="rows")
    assert loader.batch(step, chosen)["id"].tolist() == batch[chosen].tolist()


@given(cases(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_resumed_run_continues_with_other_processes_and_batch_size(
    case: Case, data: st.DataObject
) -> None:
    """Positions are consumed once and in order, whatever happens at each of three resumes."""
    order = case.loader(batch_size=1, remainder="keep")._stream
    total = None if case.options["epochs"] is None else case.options["epochs"] * case.num_samples
    state: dict[str, Any] | None = None
    steps_before = 0
    for _ in range(3):
        count = data.draw(st.integers(1, 3), label="processes")
        size = count * data.draw(st.integers(1, 5), label="rows of a process")
        remainder = "pad" if count > 1 else "keep"
        loaders = [
            case.loader(batch_size=size, shard=Shard(i, count), remainder=remainder, threads=i)
            for i in range(count)
        ]
        if state is not None:
            for loader in loaders:
                loader.load_state_dict(state)
        position = loaders[0].state_dict()["position"]
        taken = data.draw(st.integers(0, 8), label="steps")
        iterators = [iter(loader) for loader in loaders]
        for _ in range(taken):
            parts = [next(iterator, None) for iterator in iterators]
            if parts[0] is None:
                break
            steps_before += 1
            after = loaders[0].state_dict()["position"]
            assert total is None or after <= (position // total + 1) * total
            real = np.concatenate(
                [p["id"][p["mask"]] if "mask" in p else p["id"] for p in parts if p is not None]
            )
            expected = order.indices(np.arange(position, after))
            assert sorted(real.tolist()) == sorted(expected.tolist())
            position = after
        states = [loader.state_dict() for loader in loaders]
        assert all(other == states[0] for other in states)
        state = states[0]
        assert state["position"] == position


@given(cases(), st.integers(1, 8), st.integers(0, 20))
@settings(deadline=None)
def test_a_resume_at_the_same_batch_size_equals_the_uninterrupted_run(
    case: Case, size: int, stop: int
) -> None:
    options: dict[str, Any] = {"batch_size": size, "remainder": "keep"}
    through, stopped = case.loader(**options), case.loader(threads=2, **options)
    for step in range(stop):
        expected = through.batch(step)["id"].tolist()
        iterator = iter(stopped)
        assert next(iterator)["id"].tolist() == expected
        state = stopped.state_dict()
        if step % 3 == 2:
            stopped = case.loader(**options)
            stopped.load_state_dict(state)
