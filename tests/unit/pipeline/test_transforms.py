from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from memory_dataset import MemoryDataset

from streamkit.order import Shard
from streamkit.pipeline import Loader
from streamkit.pipeline.randomness import KeyedGenerator


def noise(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    return {"id": sample["id"], "noise": rng.random(3)}


def test_a_transform_gets_one_sample_and_its_tree_is_stacked() -> None:
    loader = Loader(
        MemoryDataset(8), batch_size=4, shuffle=False, transform=lambda s, r: (s["id"], s["x"] + 1)
    )
    first, second = loader.batch(1)
    np.testing.assert_array_equal(first, [4, 5, 6, 7])
    np.testing.assert_array_equal(second, [[5, 9], [6, 11], [7, 13], [8, 15]])


def test_randomness_is_the_same_for_any_topology() -> None:
    ds = MemoryDataset(48)
    expected = {}
    for batch in Loader(ds, batch_size=8, transform=noise, threads=0):
        expected.update(zip(batch["id"].tolist(), batch["noise"].tolist(), strict=True))
    for size, count, threads in ((8, 2, 1), (16, 4, 3), (12, 1, 2)):
        for index in range(count):
            loader = Loader(
                ds, batch_size=size, shard=Shard(index, count), threads=threads, transform=noise
            )
            for batch in loader:
                for row, drawn in zip(batch["id"].tolist(), batch["noise"].tolist(), strict=True):
                    assert drawn == expected[row]


def test_a_sample_drawn_again_gets_another_augmentation() -> None:
    loader = Loader(MemoryDataset(8), batch_size=8, shuffle=False, transform=noise, epochs=2)
    first, second = loader
    np.testing.assert_array_equal(first["id"], second["id"])
    drawn = np.concatenate([first["noise"], second["noise"]])
    assert len(np.unique(drawn)) == drawn.size
    other = Loader(MemoryDataset(8), batch_size=8, shuffle=False, transform=noise, seed=1)
    assert not np.isin(other.batch(0)["noise"], drawn).any()


def test_a_generator_forgets_what_was_drawn_before() -> None:
    random = KeyedGenerator(3, "transform")
    fresh = random.at(5).integers(0, 2**32, dtype=np.uint32, size=3).tolist()
    assert 0 not in fresh  # no word of an empty buffer is taken for a draw
    random.at(6).integers(0, 2**32, dtype=np.uint32)  # leaves half a word in the buffer
    assert random.at(5).integers(0, 2**32, dtype=np.uint32, size=3).tolist() == fresh
    random.at(6).random(3)  # leaves one word of a block in the buffer
    assert random.at(5).integers(0, 2**32, dtype=np.uint32, size=3).tolist() == fresh


def test_generators_of_neighbouring_positions_seeds_and_purposes_are_unrelated() -> None:
    drawn = [
        KeyedGenerator(seed, purpose).at(position).integers(0, 2**63, size=100)
        for seed in range(3)
        for purpose in ("transform", "batch_transform")
        for position in (0, 1, 2, 2**62)
    ]
    assert len(np.unique(np.concatenate(drawn))) == 100 * len(drawn)


def test_the_values_of_a_generator_are_pinned() -> None:
    """They are part of what makes a run repeatable; a change here changes every augmentation."""
    words = KeyedGenerator(0, "transform").at(0).bit_generator.random_raw(2).tolist()
    assert words == [18018354237678950739, 13260265015524726641]


def test_a_batch_transform_has_the_randomness_of_the_global_batch() -> None:
    def mix(batch: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return {**batch, "weight": np.full(len(batch["id"]), rng.random())}

    ds = MemoryDataset(48)
    weights = []
    for step in range(6):
        parts = [
            Loader(ds, batch_size=8, shard=Shard(i, n), batch_transform=mix).batch(step)["weight"]
            for n in (1, 2, 4)
            for i in range(n)
        ]
        weights.append(float(parts[0][0]))
        assert all((part == parts[0][0]).all() for part in parts)
    assert len(set(weights)) == 6


def test_a_batch_transform_sees_the_mask() -> None:
    loader = Loader(
        MemoryDataset(5),
        batch_size=4,
        remainder="pad",
        batch_transform=lambda batch, rng: batch["mask"].sum(),
    )
    assert [int(total) for total in loader] == [4, 1]


@pytest.mark.parametrize("threads", [0, 2])
def test_stop_iteration_in_a_transform_does_not_end_the_loop(threads: int) -> None:
    def stop(sample: Any, rng: np.random.Generator) -> Any:
        raise StopIteration

    for name in ("transform", "batch_transform"):
        loader = Loader(MemoryDataset(8), batch_size=4, threads=threads, **{name: stop})
        with pytest.raises(RuntimeError, match=f"{name} failed .*StopIteration"):
            list(loader)


@pytest.mark.parametrize("threads", [0, 2])
def test_sys_exit_in_a_transform_exits(threads: int) -> None:
    def leave(sample: Any, rng: np.random.Generator) -> Any:
        raise SystemExit(3)

    for policy in ("raise", "replace"):
        loader = Loader(
            MemoryDataset(8), batch_size=4, transform=leave, threads=threads, on_error=policy
        )
        with pytest.raises(SystemExit):
            list(loader)
