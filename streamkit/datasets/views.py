"""Views: some samples of a dataset, several datasets as one, samples through a function.

A view reads nothing until it is read, keeps random access, `chunk_sizes` and `locate`, and can be
cut into rows again where its samples stay whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xxhash

from streamkit.datasets.base import (
    Allocate,
    Batch,
    Dataset,
    Indices,
    Place,
    Sample,
    as_indices,
)
from streamkit.datasets.collate import collate
from streamkit.datasets.items import (
    ItemLine,
    concat_lines,
    item_line,
    sample_lengths,
    subset_line,
)
from streamkit.datasets.parts import interleave
from streamkit.datasets.sequence import as_dataset
from streamkit.errors import SchemaError
from streamkit.format.tree import flatten
from streamkit.order.hashing import derive_key
from streamkit.order.permutation import permute


class Subset(Dataset):
    """Samples of a dataset by number; `sk.subset`, `sk.split` and `sk.sample` make it.

    Args:
        dataset: Where they come from.
        indices: int64 `[samples]`, in any order and with repeats.
    """

    def __init__(self, dataset: Dataset, indices: Indices):
        self._dataset, self._indices = dataset, indices

    def __repr__(self) -> str:
        return f"<{len(self):,} samples of {self._dataset!r}>"

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def schema(self) -> Any:
        """The schema of the dataset."""
        return self._dataset.schema  # type: ignore[attr-defined]

    @property
    def element_spec(self) -> Any:
        """That of the dataset."""
        return self._dataset.element_spec

    @property
    def chunk_sizes(self) -> Indices:
        """Samples per chunk, int64; chunks of which there are none count 0.

        If the numbers do not rise, samples of one chunk do not lie together: then each run of
        neighbours from one chunk counts as a chunk.
        """
        starts = np.concatenate([[0], np.cumsum(self._dataset.chunk_sizes)])
        chunks = np.searchsorted(starts, self._indices, side="right") - 1
        if len(chunks) and (np.diff(chunks) < 0).any():
            ends = np.flatnonzero(np.diff(chunks) != 0) + 1
            return np.diff(np.concatenate([[0], ends, [len(chunks)]])).astype(np.int64)
        return np.bincount(chunks, minlength=len(starts) - 1).astype(np.int64)

    @property
    def fingerprint(self) -> str:
        """A hash of the dataset's fingerprint and the numbers."""
        state = xxhash.xxh3_128(f"Subset:{self._dataset.fingerprint}:".encode())
        state.update(self._indices.astype("<i8").tobytes())
        return state.hexdigest()

    @property
    def bytes_read(self) -> int:
        """That of the dataset."""
        return self._dataset.bytes_read

    def lengths(self, column: str) -> Indices:
        """Items of each sample of a ragged column, int64 `[samples]`."""
        return sample_lengths(self._dataset, column)[self._indices]

    def item_line(self, column: str) -> ItemLine:
        """The items of a ragged column, laid end to end."""
        return subset_line(self._dataset, column, self._indices)

    def locate(self, indices: Any) -> Indices:
        """The chunks of the dataset that samples need."""
        return self._dataset.locate(self._indices[as_indices(indices, len(self))])

    def gather(self, indices: Any, *, at: Place | None = None) -> Batch:
        """Read samples as one batch; see `Dataset.gather`."""
        return self._dataset.gather(self._indices[as_indices(indices, len(self))], at=at)

    def gather_batches(
        self,
        batches: Sequence[Indices],
        *,
        places: Sequence[Place] | None = None,
        allocate: Allocate | None = None,
    ) -> list[Batch]:
        """Read many batches at once; see `Dataset.gather_batches`."""
        chosen = [self._indices[as_indices(indices, len(self))] for indices in batches]
        return self._dataset.gather_batches(chosen, places=places, allocate=allocate)

    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Sample]:
        """Read samples one tree each; see `Dataset.samples`."""
        return self._dataset.samples(self._indices[as_indices(indices, len(self))], at=at)

    def close(self) -> None:
        """Close the dataset."""
        self._dataset.close()


class Concat(Dataset):
    """Datasets of one sample structure, one after another; `sk.concat` makes it."""

    def __init__(self, datasets: Sequence[Dataset]):
        self._datasets = tuple(datasets)
        self._starts = np.cumsum([0, *map(len, self._datasets)])

    def __repr__(self) -> str:
        return f"<{len(self):,} samples of {len(self._datasets)} datasets>"

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def schema(self) -> Any:
        """The schema of the first dataset."""
        return self._datasets[0].schema  # type: ignore[attr-defined]

    @property
    def element_spec(self) -> Any:
        """That of the first dataset."""
        return self._datasets[0].element_spec

    @property
    def chunk_sizes(self) -> Indices:
        """Those of the datasets, one after another."""
        return np.concatenate([dataset.chunk_sizes for dataset in self._datasets])

    @property
    def fingerprint(self) -> str:
        """A hash of the datasets' fingerprints."""
        names = ":".join(dataset.fingerprint for dataset in self._datasets)
        return xxhash.xxh3_128_hexdigest(f"Concat:{names}".encode())

    @property
    def bytes_read(self) -> int:
        """The sum of the datasets'."""
        return sum(dataset.bytes_read for dataset in self._datasets)

    def lengths(self, column: str) -> Indices:
        """Items of each sample of a ragged column, int64 `[samples]`."""
        return np.concatenate([sample_lengths(dataset, column) for dataset in self._datasets])

    def item_line(self, column: str) -> ItemLine:
        """The items of a ragged column, laid end to end."""
        return concat_lines([item_line(dataset, column) for dataset in self._datasets])

    def locate(self, indices: Any) -> Indices:
        """The chunks that samples need, numbered across the datasets."""
        first, found = 0, [np.empty(0, np.int64)]
        parts, rows = self._parts(as_indices(indices, len(self)))
        for number, dataset in enumerate(self._datasets):
            mine = rows[parts == number]
            if len(mine):
                found.append(dataset.locate(mine) + first)
            first += len(dataset.chunk_sizes)
        return np.concatenate(found)

    def gather(self, indices: Any, *, at: Place | None = None) -> Batch:
        """Read samples as one batch; see `Dataset.gather`."""
        parts, rows = self._parts(as_indices(indices, len(self)))
        present = np.unique(parts).tolist() or [0]
        if len(present) == 1:
            return self._datasets[present[0]].gather(rows, at=at)
        spec = _known_spec(self)
        if spec is None:
            return collate(self.samples(as_indices(indices, len(self)), at=at))
        places = [np.flatnonzero(parts == number) for number in present]
        # The sample's tree tells a list of values from a list that is structure.
        tree = flatten(spec)[1]
        columns_of = [
            tree.flatten(self._datasets[number].gather(rows[place], at=at))
            for number, place in zip(present, places, strict=True)
        ]
        columns = zip(*columns_of, strict=True)
        return tree.unflatten([interleave(column, places, len(rows)) for column in columns])

    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Sample]:
        """Read samples one tree each; see `Dataset.samples`."""
        parts, rows = self._parts(as_indices(indices, len(self)))
        samples: list[Sample] = [None] * len(rows)
        for number in np.unique(parts).tolist():
            places = np.flatnonzero(parts == number)
            read = self._datasets[number].samples(rows[places], at=at)
            for place, sample in zip(places.tolist(), read, strict=True):
                samples[place] = sample
        return samples

    def close(self) -> None:
        """Close the datasets."""
        for dataset in self._datasets:
            dataset.close()

    def _parts(self, indices: Indices) -> tuple[Indices, Indices]:
        """Which dataset each sample is in, and its number there."""
        parts = np.searchsorted(self._starts, indices, side="right") - 1
        return parts, indices - self._starts[parts]


class Applied(Dataset):
    """Samples through a function; `sk.apply` makes it.

    Batches are stacked from the function's results; use the loader's `transform=` instead where
    the function needs a random generator.
    """

    def __init__(self, dataset: Dataset, function: Callable[[Sample], Sample]):
        self._dataset, self._function = dataset, function

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", repr(self._function))
        return f"<{name} of {self._dataset!r}>"

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def element_spec(self) -> Any:
        """Not known without running the function, so a `TypeError`."""
        raise TypeError("the element_spec of sk.apply(...) is not known without reading a sample")

    @property
    def chunk_sizes(self) -> Indices:
        """That of the dataset."""
        return self._dataset.chunk_sizes

    @property
    def fingerprint(self) -> str:
        """A hash of the dataset's fingerprint and the function's name; its code is not in it."""
        function = self._function
        name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
        view = f"Applied:{name}:{self._dataset.fingerprint}"
        return xxhash.xxh3_128_hexdigest(view.encode())

    @property
    def bytes_read(self) -> int:
        """That of the dataset."""
        return self._dataset.bytes_read

    def locate(self, indices: Any) -> Indices:
        """The chunks that samples need."""
        return self._dataset.locate(indices)

    def gather(self, indices: Any, *, at: Place | None = None) -> Batch:
        """Read samples, apply the function to each, and stack the results."""
        return collate(self.samples(as_indices(indices, len(self)), at=at))

    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Sample]:
        """Read samples and apply the function to each."""
        return [self._function(sample) for sample in self._dataset.samples(indices, at=at)]

    def close(self) -> None:
        """Close the dataset."""
        self._dataset.close()


def subset(dataset: Dataset, indices: Any) -> Subset:
    """Choose samples by number.

    Args:
        dataset: Where they come from.
        indices: Integers in any order and with repeats, a boolean mask, or a slice.

    Raises:
        IndexError: A number is out of range.
    """
    if isinstance(indices, slice):
        indices = np.arange(*indices.indices(len(dataset)))
    # A copy, since the caller may go on to change the array.
    return Subset(as_dataset(dataset), np.array(as_indices(indices, len(dataset))))


def split(dataset: Dataset, fractions: Sequence[float], *, seed: int = 0) -> list[Subset]:
    """Divide a dataset at random into parts that share no sample.

    The parts are a pure function of the seed and the number of samples, and keep the stored
    order inside. Sizes are the rounded running sums, so nothing is lost where fractions sum to 1.

    Args:
        dataset: What is divided.
        fractions: The share of each part; their sum is at most 1, and what is missing from 1 is
            in no part.
        seed: Which of the possible divisions.
    """
    shares = np.asarray(fractions, np.float64)
    if shares.ndim != 1 or not len(shares) or not (shares >= 0).all() or shares.sum() > 1 + 1e-9:
        raise ValueError(f"fractions={fractions!r} must be numbers >= 0 whose sum is at most 1")
    order = _shuffled(len(dataset), seed, "split")
    ends = np.rint(np.cumsum(shares) * len(dataset)).astype(np.int64)
    parts = np.split(order, ends)[: len(shares)]
    return [Subset(as_dataset(dataset), np.sort(part)) for part in parts]


def sample(dataset: Dataset, fraction_or_count: float, *, seed: int = 0) -> Subset:
    """Draw samples at random without replacement, in stored order.

    Args:
        dataset: Where they come from.
        fraction_or_count: A float in [0, 1] is a fraction, an int a number of samples.
        seed: Which of the possible draws.
    """
    value = fraction_or_count
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"fraction_or_count={value!r} must be a number")
    is_count = isinstance(value, (int, np.integer))
    if not 0 <= value <= (len(dataset) if is_count else 1):
        raise ValueError(
            f"fraction_or_count={value!r} must be a fraction (float) in [0, 1] or a number of "
            f"samples (int) up to {len(dataset):,}"
        )
    count = int(value) if is_count else round(value * len(dataset))
    return Subset(as_dataset(dataset), np.sort(_shuffled(len(dataset), seed, "sample")[:count]))


def concat(datasets: Sequence[Dataset]) -> Concat:
    """Lay datasets one after another.

    Raises:
        SchemaError: Their samples differ in structure, dtype or shape.
        ValueError: There are none.
    """
    datasets = [as_dataset(dataset) for dataset in datasets]
    if not datasets:
        raise ValueError("concat([]) has nothing to lay together")
    first = _known_spec(datasets[0])
    for number, dataset in enumerate(datasets[1:], 1):
        other = _known_spec(dataset)
        if first is not None and other is not None and first != other:
            raise SchemaError(
                f"dataset {number} of concat differs from dataset 0: {other!r:.300} and "
                f"{first!r:.300}"
            )
    return Concat(datasets)


def apply(dataset: Dataset, function: Callable[[Sample], Sample]) -> Applied:
    """A view of each sample through a function, applied each time a sample is read."""
    if not callable(function):
        raise TypeError(f"function={function!r:.80} must be callable")
    return Applied(as_dataset(dataset), function)


def _known_spec(dataset: Dataset) -> Any:
    try:
        return dataset.element_spec
    except TypeError:
        return None


def _shuffled(count: int, seed: int, purpose: str) -> Indices:
    numbers = np.arange(count, dtype=np.int64)
    return permute(numbers, count, derive_key(seed, purpose)) if count else numbers
