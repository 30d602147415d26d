"""Datasets that were written once stay readable, and what is written today has the same bytes."""

import hashlib
from pathlib import Path
from typing import Any

import make
import numpy as np
import pytest

import streamkit as sk
from streamkit.format.chunk import Chunk
from streamkit.format.tree import flatten

HERE = Path(__file__).parent
NAMES = sorted(make.COMPRESSIONS)
CHECKED_IN = {"v1-raw": "300b957b7e29ab71", "v1-zstd": "1e95cb6426533ece"}


def assert_equal(found: Any, expected: Any) -> None:
    """Equal in structure, types and every bit."""
    leaves, tree = flatten(found)
    others, other_tree = flatten(expected)
    assert tree == other_tree
    for name, a, b in zip(tree.names, leaves, others, strict=True):
        assert type(a) is type(b), name
        if isinstance(a, (np.ndarray, np.generic)):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), name
        else:
            assert repr(a) == repr(b), name


def made(i: int) -> Any:
    sample = make.make_sample(i)
    sample["json"] = JsonLeaf(sample["json"])
    return sample


class JsonLeaf:
    """A value of free form, which is no structure here."""

    def __init__(self, value: Any):
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def read(sample: Any) -> Any:
    return {**sample, "json": JsonLeaf(sample["json"])}


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_dataset_is_read(name: str) -> None:
    ds = sk.open(HERE / name)
    assert ds.chunk_sizes.tolist() == [4, 4, 2]
    assert ds.metadata == {"made by": "é"}
    assert len(ds) == make.SAMPLES
    for i, sample in enumerate(ds[:]):
        assert_equal(read(sample), made(i))
        assert_equal(read(ds[i]), made(i))
    lengths = [len(make.make_sample(i)["tokens"]) for i in range(make.SAMPLES)]
    assert ds.lengths("tokens").tolist() == ds.lengths("mask").tolist() == lengths
    tokens = np.concatenate([make.make_sample(i)["tokens"] for i in range(make.SAMPLES)])
    blocks = sk.TokenBlocks(ds, 5, dtype=None).gather(np.arange(len(tokens) // 5))["tokens"]
    assert blocks.tobytes() == tokens[: len(tokens) // 5 * 5].tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_batch_is_read(name: str) -> None:
    order = np.array([9, 0, 3, 3, 5])
    batch = sk.open(HERE / name).gather(order)
    samples = [make.make_sample(i) for i in order.tolist()]
    for column in ("int", "matrix", "wide", "brain", "eight", "four", "when", "span", "bool"):
        expected = np.stack([np.asarray(sample[column]) for sample in samples])
        assert batch[column].dtype == expected.dtype
        assert batch[column].tobytes() == expected.tobytes()
    for column in ("text", "blob", "json", "sound"):
        assert batch[column] == [sample[column] for sample in samples]
    for column in ("tokens", "mask", "points", "grid"):
        for found, sample in zip(batch[column], samples, strict=True):
            assert (found.shape, found.tobytes()) == (
                sample[column].shape,
                sample[column].tobytes(),
            )


def test_the_same_samples_have_the_same_bytes_today(tmp_path: Path) -> None:
    make.write(tmp_path, None)
    golden, today = sk.open(HERE / "v1-raw"), sk.open(tmp_path)
    assert today.fingerprint == golden.fingerprint
    assert today.schema == golden.schema
    pairs = [(golden.index.chunks, today.index.chunks)]
    pairs += [(golden.index.lengths[n], today.index.lengths[n]) for n in golden.index.lengths]
    for old, new in pairs:
        assert len(old) == len(new) > 0
        for one, two in zip(old.names, new.names, strict=True):
            assert (HERE / "v1-raw" / one).read_bytes() == (tmp_path / two).read_bytes()
    # The index differs in nothing but the names of objects and its own checksum.
    assert index_without_names(HERE / "v1-raw") == index_without_names(tmp_path)


def index_without_names(folder: Path) -> bytes:
    text = (folder / "index.json").read_bytes().partition(b',\n"checksum"')[0]
    names = sk.open(folder).index.object_names
    for token in {name.partition("-")[0] for name in names}:
        text = text.replace(token.encode(), b"")
    return text


def test_compressed_chunks_have_the_same_content_today(tmp_path: Path) -> None:
    """Their own bytes may change with the version of zstd."""
    make.write(tmp_path, "zstd")
    for number in range(3):
        contents = []
        for folder in (HERE / "v1-zstd", HERE / "v1-raw", tmp_path):
            ds = sk.open(folder)
            chunk: Chunk = ds.open_chunks([number])[0]
            chunk.ensure_all()
            contents.append((chunk.header.buffers.tolist(), chunk.memory.tobytes()))
        assert contents[0] == contents[1] == contents[2]
    stored = [(p.stat().st_size, p) for p in (HERE / "v1-zstd").glob("*.skc")]
    assert sum(size for size, _ in stored) < sum(
        p.stat().st_size for p in (HERE / "v1-raw").glob("*.skc")
    )


def test_the_golden_files_are_those_that_were_checked_in() -> None:
    """Somebody who regenerates them must do so knowingly: here, with a new version's folder."""
    found = {
        name: hashlib.sha256(
            b"".join(sorted(p.read_bytes() for p in (HERE / name).iterdir()))
        ).hexdigest()[:16]
        for name in NAMES
    }
    assert found == CHECKED_IN
