from __future__ import annotations

import pickle

import numpy as np
import pytest

from streamkit.order import ChunkShuffle, GlobalShuffle, Sequential, Stream


class Chunked:
    """A dataset of chunks, as far as a stream looks."""

    def __init__(self, sizes, length=None):
        self.chunk_sizes = np.array(sizes)
        self.length = int(self.chunk_sizes.sum()) if length is None else length

    def __len__(self):
        return self.length


def test_a_stream_is_the_order_of_its_chunks():
    stream = Stream(Chunked([5, 0, 9]), shuffle=ChunkShuffle(2), seed=4, epochs=3)
    order = ChunkShuffle(2).bind([5, 0, 9], seed=4, epochs=3)
    positions = np.arange(100)
    assert np.array_equal(stream.indices(positions), order.indices(positions))
    assert np.array_equal(stream.slots(positions), order.slots(positions))
    assert stream.order is stream.order
    assert len(stream) == 42
    assert stream.num_samples == 14


@pytest.mark.parametrize(
    ("given", "shuffle"),
    [
        (True, ChunkShuffle(64)),
        (False, Sequential()),
        (np.True_, ChunkShuffle(64)),
        (GlobalShuffle(), GlobalShuffle()),
    ],
)
def test_shuffle_is_an_object(given, shuffle):
    assert Stream([1, 2, 3], shuffle=given).shuffle == shuffle


def test_unshuffled_positions_are_sample_numbers():
    stream = Stream(range(7), shuffle=False)
    assert stream.indices(np.arange(10)).tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]
    assert stream.slots(np.arange(10)) is None
    assert stream.epoch_of([0, 6, 7, 20]).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1000, 10**12])
def test_a_dataset_without_chunks_is_cut_into_about_sqrt_n_equal_parts(n):
    stream = Stream(range(n))
    assert stream.order.num_samples == n
    assert stream.order.num_chunks == min(int(n**0.5), 1 << 20)
    assert len(set(stream.indices(np.arange(min(n, 200))).tolist())) == min(n, 200)


def test_a_stream_without_an_end_has_no_length():
    with pytest.raises(TypeError, match="epochs=None"):
        len(Stream([1, 2]))


def test_a_stream_pickles_with_its_dataset():
    stream = Stream(list(range(50)), seed=3, epochs=2)
    stream.indices([0])
    again = pickle.loads(pickle.dumps(stream))
    assert again.dataset == stream.dataset
    assert (again.seed, again.epochs, again.shuffle) == (3, 2, ChunkShuffle(64))
    assert np.array_equal(again.indices(np.arange(300)), stream.indices(np.arange(300)))


def test_repr_says_all():
    text = repr(Stream(range(5), shuffle=False, seed=1, epochs=2))
    assert text == "Stream(range(0, 5), shuffle=Sequential(), seed=1, epochs=2)"


@pytest.mark.parametrize(
    ("dataset", "arguments", "error", "message"),
    [
        ([], {}, ValueError, r"dataset \(list\) has no samples"),
        (iter([1]), {}, TypeError, "no __len__"),
        ([1], {"shuffle": 3}, TypeError, r"shuffle \(=3\)"),
        ([1], {"shuffle": "chunks"}, TypeError, "shuffle"),
        ([1], {"shuffle": ChunkShuffle}, TypeError, "shuffle"),
        ([1], {"seed": -1}, ValueError, "seed"),
        ([1], {"seed": False}, TypeError, "seed"),
        ([1], {"epochs": 0}, ValueError, "epochs"),
        ([1], {"epochs": True}, TypeError, "epochs"),
    ],
)
def test_wrong_arguments_are_refused(dataset, arguments, error, message):
    with pytest.raises(error, match=message):
        Stream(dataset, **arguments)


def test_chunks_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match=r"sum to 14, and its length is 15"):
        Stream(Chunked([5, 9], length=15)).indices([0])


def test_a_negative_position_is_refused():
    with pytest.raises(ValueError, match="-1"):
        Stream([1, 2]).indices([-1])
    with pytest.raises(ValueError, match="-1"):
        Stream([1, 2]).epoch_of([-1])
