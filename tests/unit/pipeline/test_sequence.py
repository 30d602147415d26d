from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from memory_dataset import MemoryDataset

from streamkit.errors import SampleError, StateMismatchError
from streamkit.order import Stream
from streamkit.pipeline import Loader


class MapStyle:
    """What a torch map-style dataset is."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[int, str]:
        if type(index) is not int or not 0 <= index < 40:
            raise IndexError(index)
        return index, str(index)


class Batched(MapStyle):
    """What a Hugging Face dataset is."""

    def __init__(self) -> None:
        self.calls = 0

    def __getitems__(self, indices: list[int]) -> list[tuple[int, str]]:
        self.calls += 1
        return [(index, str(index)) for index in indices]


@pytest.mark.parametrize("source", [list(range(40)), range(40), np.arange(40)])
def test_plain_sequences_are_sources(source: Any) -> None:
    loader = Loader(source, batch_size=8)
    batches = list(loader)
    assert all(batch.dtype == np.int64 for batch in batches)
    assert sorted(np.concatenate(batches).tolist()) == list(range(40))
    stream = Loader(Stream(source, epochs=1), batch_size=8)
    np.testing.assert_array_equal(np.concatenate(list(stream)), np.concatenate(batches))


def test_map_style_datasets_are_sources() -> None:
    numbers, texts = next(iter(Loader(MapStyle(), batch_size=8)))
    assert [str(number) for number in numbers] == texts


def test_many_samples_are_asked_for_at_once_where_the_source_can() -> None:
    source = Batched()
    assert len(list(Loader(source, batch_size=8))) == 5
    assert source.calls == 5


def test_an_overridden_getitem_is_honoured_by_whatever_would_bypass_it() -> None:
    class Own(MemoryDataset):
        def __getitem__(self, key: Any) -> Any:
            sample = super().__getitem__(key)
            return {"id": -sample["id"]}

    class OwnBatched(Batched):
        def __getitem__(self, index: int) -> tuple[int, str]:
            return -index, "own"

    own = Own(40)
    for source in (own, Stream(own, epochs=1)):
        batch = next(
            iter(
                Loader(source, batch_size=8, shuffle=False)
                if source is own
                else Loader(source, batch_size=8)
            )
        )
        assert list(batch) == ["id"]
        assert (batch["id"] <= 0).all()
    state = Loader(own, batch_size=8).state_dict()
    assert state["fingerprint"] == own.fingerprint
    assert set(Loader(OwnBatched(), batch_size=8).batch(0)[1]) == {"own"}


def test_an_override_keeps_chunks_appends_and_errors() -> None:
    class Own(MemoryDataset):
        def __getitem__(self, key: Any) -> Any:
            if key == 27:
                raise ValueError("own")
            return super().__getitem__(key)

    own = Own(40)
    own.prefixes[20] = "v1:20"
    with pytest.raises(SampleError, match=r"sample 27 \(chunk 2\).*ValueError: own"):
        list(Loader(own, batch_size=8))
    old = Loader(MemoryDataset(20), batch_size=8).state_dict()
    with pytest.raises(StateMismatchError, match="appended"):
        Loader(own, batch_size=8).load_state_dict(old)


def test_samples_of_different_structure_are_an_error_that_names_the_column() -> None:
    with pytest.raises(ValueError, match=r'column "a" differs .*row 1'):
        list(Loader([{"a": (1,)}, {"a": (1, 2)}], batch_size=2, shuffle=False))
