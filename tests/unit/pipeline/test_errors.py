from __future__ import annotations

import traceback
from typing import Any

import numpy as np
import pytest
from memory_dataset import MemoryDataset

from streamkit.datasets.base import ArraySpec
from streamkit.errors import SampleError
from streamkit.order import Shard
from streamkit.pipeline import Loader


def fail_on(*bad: int) -> Any:
    def transform(sample: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        if int(sample["id"]) in bad:
            raise ZeroDivisionError(f"no {sample['id']}")
        return {**sample, "noise": rng.random()}

    return transform


def loaders(bad: tuple[int, ...], **options: Any) -> list[Loader]:
    """Loaders whose samples fail in the read, in a single-sample read, and in a transform."""
    options = {"batch_size": 4, "shuffle": False, **options}
    read = MemoryDataset(40, bad=bad)
    return [
        Loader(read, **options),
        Loader(read, transform=lambda s, r: s, **options),
        Loader(MemoryDataset(40), transform=fail_on(*bad), **options),
    ]


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("case", [0, 1, 2])
def test_an_error_comes_at_the_batch_where_it_belongs_and_stays(case: int, threads: int) -> None:
    loader = loaders((26, 27), threads=threads)[case]
    iterator = iter(loader)
    got = [next(iterator)["id"].tolist() for _ in range(6)]
    assert got == [list(range(start, start + 4)) for start in range(0, 24, 4)]
    for _ in range(3):
        with pytest.raises(SampleError, match=r"sample 26 \(chunk 2\) at position 26, step 6") as e:
            next(iterator)
        assert (e.value.index, e.value.position) == (26, 26)
        assert loader.state_dict()["position"] == 24
    with pytest.raises(SampleError):
        next(iter(loader))
    with pytest.raises(SampleError):
        loader.batch(6)
    assert loader.batch(7)["id"].tolist() == [28, 29, 30, 31]


def test_the_original_error_and_its_traceback_are_kept() -> None:
    with pytest.raises(SampleError) as caught:
        list(loaders((26,))[2])
    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError)
    assert traceback.extract_tb(cause.__traceback__)[-1].name == "transform"
    assert "transform failed" in str(caught.value)
    assert "ZeroDivisionError: no 26" in str(caught.value)


def test_a_failing_sample_of_a_shuffled_shard_is_named_by_its_index() -> None:
    loader = Loader(MemoryDataset(40, bad=[17]), batch_size=8, shard=Shard(0, 1))
    with pytest.raises(SampleError) as caught:
        list(loader)
    position = caught.value.position
    assert caught.value.index == 17
    assert position is not None
    order = Loader(MemoryDataset(40), batch_size=8)
    assert 17 in order.batch(position // 8)["id"]


def test_an_error_gone_on_the_next_try_loses_nothing() -> None:
    ds = MemoryDataset(40, bad=[26])
    loader = Loader(ds, batch_size=4, shuffle=False)
    with pytest.raises(SampleError):
        list(loader)
    ds.bad.clear()
    assert np.concatenate([b["id"] for b in loader]).tolist() == list(range(24, 40))


def test_a_read_that_fails_only_for_many_samples_goes_batch_by_batch() -> None:
    class Narrow(MemoryDataset):
        def gather_batches(self, batches: Any, **options: Any) -> Any:
            if len(batches) > 1:
                raise MemoryError("too many at once")
            return super().gather_batches(batches, **options)

    loader = Loader(Narrow(400), batch_size=4, shuffle=False)
    assert np.concatenate([b["id"] for b in loader]).tolist() == list(range(400))


def test_a_batch_that_fails_while_its_samples_do_not_is_named_as_a_whole() -> None:
    class Odd(MemoryDataset):
        def gather(self, indices: Any, *, at: Any = None) -> Any:
            if len(indices) > 1 and 6 in indices:
                raise OSError("odd")
            return super().gather(indices, at=at)

    with pytest.raises(SampleError, match="batch at position 4, step 1: OSError: odd") as caught:
        list(Loader(Odd(12), batch_size=4, shuffle=False))
    assert caught.value.index is None


@pytest.mark.parametrize("case", [0, 1, 2])
def test_replace_puts_the_same_other_sample_in_place_everywhere(case: int) -> None:
    bad = (5, 6, 31)
    with pytest.warns(UserWarning, match="sample 5 .* replaced"):
        expected = [b["id"].tolist() for b in loaders(bad, on_error="replace")[case]]
    flat = np.concatenate(expected)
    assert [i for i in range(40) if flat[i] != i] == list(bad)
    assert not np.isin(flat, bad).any()
    halves = [
        loaders(bad, on_error="replace", shard=Shard(i, 2), threads=3)[case] for i in range(2)
    ]
    with pytest.warns(UserWarning, match="replaced"):
        found = [np.concatenate([a["id"], b["id"]]).tolist() for a, b in zip(*halves, strict=True)]
    assert found == expected
    assert halves[0].stats.errors + halves[1].stats.errors == 3
    with pytest.warns(UserWarning, match="replaced"):
        tens = np.concatenate(
            [b["id"] for b in loaders(bad, on_error="replace", batch_size=10)[case]]
        )
    np.testing.assert_array_equal(tens, flat)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_mask_empties_the_row_and_marks_it(case: int) -> None:
    loader = loaders((5, 6), on_error="mask")[case]
    with pytest.warns(UserWarning, match="masked"):
        batches = list(loader)
    ids = np.concatenate([b["id"] for b in batches])
    mask = np.concatenate([b["mask"] for b in batches])
    assert np.flatnonzero(~mask).tolist() == [5, 6]
    assert ids[mask].tolist() == [i for i in range(40) if i not in (5, 6)]
    assert not ids[~mask].any()
    assert not batches[1]["x"][1:3].any()
    assert loader.stats.errors == 2
    assert loader.batch(1)["mask"].tolist() == [True, False, False, True]


@pytest.mark.parametrize("transform", [None, lambda sample, rng: sample])
def test_mask_empties_ragged_columns(transform: Any) -> None:
    columns = {"t": [np.arange(1, n + 1) for n in range(1, 5)], "s": [f"s{n}" for n in range(4)]}

    class Ragged(MemoryDataset):
        @property
        def element_spec(self) -> Any:
            return {
                "t": ArraySpec((None,), np.dtype(np.int64), "ragged"),
                "s": ArraySpec((), None, "str"),
            }

    loader = Loader(
        Ragged(4, columns=columns, bad=[2]),
        batch_size=4,
        shuffle=False,
        on_error="mask",
        transform=transform,
    )
    batch = loader.batch(0)
    assert [value.tolist() for value in batch["t"]] == [[1], [1, 2], [], [1, 2, 3, 4]]
    assert batch["s"] == ["s0", "s1", "", "s3"]
    assert batch["mask"].tolist() == [True, True, False, True]


def test_mask_and_pad_share_the_column() -> None:
    loader = Loader(
        MemoryDataset(6, bad=[5]), batch_size=4, shuffle=False, on_error="mask", remainder="pad"
    )
    mask = loader.batch(1)["mask"].tolist()
    assert mask[:2] == [True, False]
    assert mask[2:] == [False, False]


@pytest.mark.filterwarnings("ignore:reading failed")
def test_max_errors_counts_in_order_of_the_batches() -> None:
    for threads in (0, 3):
        loader = loaders((5, 6, 31), on_error="replace", max_errors=2, threads=threads)[0]
        iterator = iter(loader)
        for _ in range(7):
            next(iterator)
        for _ in range(2):
            with pytest.raises(SampleError, match=r"sample 31 .*max_errors=2"):
                next(iterator)
        assert loader.stats.errors == 2
        assert loader.state_dict()["position"] == 28


def test_a_dataset_of_bad_samples_only_is_an_error_after_all() -> None:
    loader = Loader(MemoryDataset(8, bad=range(8)), batch_size=4, on_error="replace")
    with pytest.raises(SampleError, match="none of 16 samples tried in its place"):
        list(loader)


def test_a_chunk_that_cannot_be_told_does_not_hide_the_error() -> None:
    class Lost(MemoryDataset):
        def locate(self, indices: Any) -> Any:
            raise OSError("lost")

    with pytest.raises(SampleError, match=r"sample 3 \(its chunk is not known\).*cannot read 3"):
        list(Loader(Lost(4, bad=[3]), batch_size=4))


def test_errors_of_the_order_reach_the_caller_as_they_are() -> None:
    loader = Loader(MemoryDataset(8), batch_size=4, threads=2)

    class Broken(type(loader._stream)):  # type: ignore[misc]
        def indices_and_slots(self, positions: Any) -> Any:
            raise LookupError("no order")

    broken = Loader(Broken(MemoryDataset(8)), batch_size=4, threads=2)
    with pytest.raises(LookupError, match="no order"):
        next(iter(broken))
