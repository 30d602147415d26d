"""Views: random access, chunk sizes, fingerprints, and what they refuse."""

from typing import Any

import numpy as np
import pytest

import streamkit as sk


def numbers(count: int, *, chunk_samples: int = 10, first: int = 0) -> sk.StoredDataset:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, schema={"i": int, "t": sk.Column("u2", (None,))},
                          chunk_samples=chunk_samples) as writer:  # fmt: skip
        for i in range(first, first + count):
            writer.write({"i": i, "t": [i] * (i % 3)})
    return sk.open(store)


def read(dataset: sk.Dataset) -> list[int]:
    return [sample["i"] for sample in dataset[:]]


def double(sample: Any) -> Any:
    return {**sample, "i": 2 * sample["i"]}


VIEWS = {
    "subset": lambda: (sk.subset(numbers(100), range(5, 95, 2)), list(range(5, 95, 2))),
    "repeats": lambda: (sk.subset(numbers(100), [50, 3, 3, -1, 51]), [50, 3, 3, 99, 51]),
    "slice": lambda: (sk.subset(numbers(100), slice(-7, None)), list(range(93, 100))),
    "mask": lambda: (sk.subset(numbers(40), np.arange(40) % 2 == 0), list(range(0, 40, 2))),
    "empty": lambda: (sk.subset(numbers(40), []), []),
    "nested": lambda: (sk.subset(sk.subset(numbers(40), range(39, -1, -1)), [0, 2]), [39, 37]),
    "concat": lambda: (sk.concat([numbers(15), numbers(7, first=50)]),
                       [*range(15), *range(50, 57)]),
    "parts": lambda: (sk.concat([sk.subset(numbers(15), [3, 1]), numbers(0), numbers(4)]),
                      [3, 1, 0, 1, 2, 3]),
    "apply": lambda: (sk.apply(numbers(15), double), list(range(0, 30, 2))),
    "applied parts": lambda: (sk.concat([sk.apply(numbers(5), double), numbers(3)]),
                              [0, 2, 4, 6, 8, 0, 1, 2]),
    "part of applied": lambda: (sk.subset(sk.apply(numbers(15), double), [3, 4]), [6, 8]),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_random_access(name: str) -> None:
    view, expected = VIEWS[name]()
    assert len(view) == len(expected)
    assert read(view) == expected
    assert view.chunk_sizes.dtype == np.int64
    assert view.chunk_sizes.sum() == len(view)
    assert view.fingerprint == VIEWS[name]()[0].fingerprint
    if not expected:
        assert view.gather([])["i"].shape == (0,)
        return
    rows = np.random.default_rng(0).integers(-len(expected), len(expected), 50)
    wanted = [expected[row] for row in rows.tolist()]
    batch = view.gather(rows)
    assert batch["i"].tolist() == wanted
    assert [len(t) for t in batch["t"]] == [len(sample["t"]) for sample in view[rows]]
    assert [sample["i"] for sample in view[rows]] == wanted
    assert view[-1]["i"] == expected[-1]
    given: list[Any] = []

    def allocate(shape: tuple[int, ...], dtype: Any) -> Any:
        given.append(np.full(shape, -1, dtype))
        return given[-1]

    inside = rows % len(expected)
    one, two = view.gather_batches([inside[:20], inside[20:]], allocate=allocate)
    assert np.concatenate([one["i"], two["i"]]).tolist() == wanted
    assert any(one["i"] is array for array in given)
    assert any(two["i"] is array for array in given)
    assert view.gather_batches([]) == []
    assert view.bytes_read > 0
    for read_one in (lambda: view[len(expected)], lambda: view.gather([-len(expected) - 1]),
                     lambda: view.locate([len(expected)])):  # fmt: skip
        with pytest.raises(IndexError, match=f"{len(expected)} samples"):
            read_one()
    view.close()
    assert read(view) == expected


@pytest.mark.parametrize("name", VIEWS)
def test_fingerprints_of_different_views_differ(name: str) -> None:
    own = VIEWS[name]()[0].fingerprint
    assert own not in {make()[0].fingerprint for other, make in VIEWS.items() if other != name}


def test_chunks_of_views() -> None:
    dataset = numbers(45)
    assert sk.subset(dataset, range(5, 25)).chunk_sizes.tolist() == [5, 10, 5, 0, 0]
    assert sk.subset(dataset, [30, 31, 2, 3, 32]).chunk_sizes.tolist() == [2, 2, 1]
    assert sk.subset(dataset, range(5, 25)).locate([0, 19, 19]).tolist() == [0, 2]
    both = sk.concat([dataset, sk.subset(dataset, range(40, 45))])
    assert both.chunk_sizes.tolist() == [10, 10, 10, 10, 5, 0, 0, 0, 0, 5]
    assert both.locate([46, 0]).tolist() == [0, 9]
    assert both.locate([]).tolist() == []
    assert sk.apply(dataset, double).locate([12]).tolist() == [1]


def test_a_subset_does_not_follow_the_array_it_was_made_from() -> None:
    chosen = np.array([1, 2, 3])
    view = sk.subset(numbers(10), chosen)
    chosen[:] = 7
    assert read(view) == [1, 2, 3]


@pytest.mark.parametrize("count", [0, 1, 2, 99, 1000])
@pytest.mark.parametrize(
    "fractions", [[0.9, 0.1], [1.0], [0.1] * 10, [1 / 3] * 3, [0.5, 0.25], [0, 1], [0.999, 0.001]]
)
def test_split_loses_and_repeats_nothing(count: int, fractions: list[float]) -> None:
    dataset = numbers(count)
    parts = sk.split(dataset, fractions, seed=5)
    assert len(parts) == len(fractions)
    together = [number for part in parts for number in read(part)]
    assert len(set(together)) == len(together) == round(sum(fractions) * count)
    for part, fraction in zip(parts, fractions, strict=True):
        assert read(part) == sorted(read(part))
        assert abs(len(part) - fraction * count) <= 1
    again = sk.split(dataset, fractions, seed=5)
    assert [part.fingerprint for part in again] == [part.fingerprint for part in parts]


def test_split_and_sample_depend_on_the_seed() -> None:
    dataset = numbers(1000)
    one, two = (read(sk.split(dataset, [0.5, 0.5], seed=seed)[0]) for seed in (0, 1))
    assert 200 < len(set(one) & set(two)) < 300
    drawn = read(sk.sample(dataset, 0.1, seed=0))
    assert len(drawn) == len(set(drawn)) == 100
    assert drawn == sorted(drawn) != read(sk.sample(dataset, 0.1, seed=1))
    assert len(sk.sample(dataset, 7)) == 7
    assert read(sk.sample(dataset, 1.0)) == read(sk.sample(dataset, 1000)) == read(dataset)
    assert len(sk.sample(dataset, 0)) == len(sk.sample(dataset, 0.0)) == 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: sk.split(d, [0.9, 0.2]), ValueError, "whose sum is at most 1"),
        (lambda d: sk.split(d, [-0.1, 1]), ValueError, "numbers >= 0"),
        (lambda d: sk.split(d, []), ValueError, "fractions="),
        (lambda d: sk.split(d, [float("nan")]), ValueError, "fractions="),
        (lambda d: sk.sample(d, 1.5), ValueError, "fraction_or_count=1.5"),
        (lambda d: sk.sample(d, 21), ValueError, "up to 20"),
        (lambda d: sk.sample(d, -1), ValueError, "fraction_or_count=-1"),
        (lambda d: sk.sample(d, True), TypeError, "must be a number"),
        (lambda d: sk.sample(d, "half"), TypeError, "must be a number"),
        (lambda d: sk.subset(d, [20]), IndexError, "20 samples"),
        (lambda d: sk.subset(d, [0.5]), TypeError, "integers"),
        (lambda d: sk.concat([]), ValueError, "nothing to lay together"),
        (lambda d: sk.apply(d, 5), TypeError, "must be callable"),
    ],
)
def test_arguments_that_break_a_rule(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(numbers(20))


def test_datasets_of_other_samples_cannot_be_laid_together() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        writer.write({"i": 0.5, "t": [1]})
    with pytest.raises(sk.SchemaError, match="dataset 1 of concat differs from dataset 0"):
        sk.concat([numbers(3), sk.open(store)])


def test_views_know_schema_spec_and_lengths() -> None:
    dataset = numbers(9)
    for view in (sk.subset(dataset, [4, 5]), sk.concat([dataset, dataset])):
        assert view.schema == dataset.schema
        assert view.element_spec == dataset.element_spec
        assert view.lengths("t").tolist() == [len(sample["t"]) for sample in view[:]]
    with pytest.raises(TypeError, match="not known without reading"):
        sk.apply(dataset, double).element_spec  # noqa: B018


def test_an_error_of_the_function_is_its_own() -> None:
    def broken(sample: Any) -> Any:
        raise TypeError("mine")

    view = sk.apply(numbers(3), broken)
    for key in (0, [0], slice(None)):
        with pytest.raises(TypeError, match="mine"):
            view[key]


def test_a_batch_of_no_samples_of_a_function_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples has no structure"):
        sk.apply(numbers(3), double).gather([])


class Squares(sk.Dataset):
    """The least that a dataset must do."""

    element_spec = sk.ArraySpec((), np.dtype(np.int64))
    chunk_sizes = np.array([7])
    fingerprint = "squares"

    def __len__(self) -> int:
        return 7

    def samples(self, indices: Any, *, at: Any = None) -> list[int]:
        return [int(index) ** 2 + (at.epoch if at else 0) for index in indices]

    def gather(self, indices: Any, *, at: Any = None) -> Any:
        return np.array(self.samples(indices, at=at))

    def locate(self, indices: Any) -> Any:
        return np.array([0])


def test_what_every_dataset_inherits() -> None:
    dataset = Squares()
    assert dataset[3] == 9
    assert dataset[-1] == 36
    assert dataset[::3] == [0, 9, 36]
    assert dataset[[1, -2]] == [1, 25]
    batches = [np.array([1, 2]), np.array([3])]
    places = [sk.Place(0, 0, 0), sk.Place(0, 100, 1)]
    assert [b.tolist() for b in dataset.gather_batches(batches)] == [[1, 4], [9]]
    assert [b.tolist() for b in dataset.gather_batches(batches, places=places)] == [[1, 4], [109]]
    buffer = np.zeros(8, np.int64)
    (first,) = dataset.gather_batches(
        [batches[0]], allocate=lambda shape, dtype: buffer[: shape[0]]
    )
    assert first.base is buffer
    assert buffer[:2].tolist() == [1, 4]
    assert dataset.prefix_fingerprint(7) == "squares"
    assert dataset.prefix_fingerprint(6) is None
    with dataset as same:
        assert same is dataset
    assert dataset.bytes_read == 0
