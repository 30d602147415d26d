"""Bytes that nobody vouches for are refused by name, or read exactly as they are.

More than 10,000 cases: accidents (checksums are left wrong) and lies (all checksums are right),
each read through samples, batches, token blocks, blocks of a subset, and lengths. Whatever is not
refused with a `FormatError` must be what `reference` reads from the same bytes.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import untrusted_check as check
import untrusted_mutations as mutations
from hypothesis import given, settings
from hypothesis import strategies as st
from untrusted_check import first_chunk
from untrusted_data import (
    SAMPLES,
    ChunkModel,
    make_objects,
    make_sample,
    pack_index,
    parse_index,
    plain,
    reference,
    seal_index,
)

import streamkit as sk
from streamkit.format.index import Index
from streamkit.format.layout import Header

CODECS = ("raw", "zstd")
# Cases for each codec and each store (memory, mapped files): many where they are many or fast.
CASES = {
    "truncate": 250, "flip_bits": 250, "splice": 150, "swap": 30, "wipe": 60, "lose": 25,
    "index_garbage": 300, "nesting": 250, "index_numbers": 200, "index_names": 150,
    "samples_everywhere": 180,
}  # fmt: skip
OTHER_CASES, LIMITED_CASES = 75, 10


# -- the instruments -------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_unchanged_bytes_are_read_in_every_way(codec: str, tmp_path: Path) -> None:
    objects = make_objects(None if codec == "raw" else codec)
    written = [plain(make_sample(i)) for i in range(SAMPLES)]
    assert [plain(sample) for sample in reference(objects)] == written
    for folder in (None, tmp_path):
        place = check.Place(objects, folder)
        assert check.examine(place, objects, honest=True, schema=True) == 0
    for name, data in objects.items():
        if name.endswith(".skc"):
            assert ChunkModel.parse(data).pack() == data
    objects["index.json"] = pack_index(parse_index(objects))
    assert check.examine(place, objects, honest=True, schema=True) == 0


def test_there_are_ten_thousand_cases() -> None:
    families = [*mutations.ACCIDENTS, *mutations.HOSTILE]
    assert 4 * sum(CASES.get(family, OTHER_CASES) for family in families) >= 10_000


# -- thousands of cases ----------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("family", [*mutations.ACCIDENTS, *mutations.HOSTILE])
def test_a_case_is_refused_or_read_as_it_is(family: str, codec: str, tmp_path: Path) -> None:
    cases = CASES.get(family, OTHER_CASES)
    refused = check.run(family, cases, 1, None, codec)
    refused += check.run(family, cases, 2, tmp_path, codec)
    assert refused > cases / 2, "the cases hardly change anything"


def test_lies_end_no_process_and_take_no_memory(tmp_path: Path) -> None:
    """Each family in a process whose address space can grow by little more than the limit."""
    done = subprocess.run(
        [sys.executable, "-W", "error", check.__file__, str(LIMITED_CASES), "100", str(tmp_path)],
        cwd=Path(sk.__file__).parents[1], capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-3000:]
    assert done.stdout.endswith("all read\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)
PLACES = [
    ("schema",), ("schema", "tree"), ("schema", "columns"), ("schema", "columns", 0),
    ("schema", "columns", 2, "shape"), ("schema", "columns", 3, "aligned"), ("version",),
    ("chunks",), ("chunks", "count"), ("chunks", "names"), ("chunks", "samples"),
    ("chunks", "checksums"), ("chunks", "values"), ("chunks", "values", "tokens"), ("lengths",),
    ("lengths", "text"), ("lengths", "text", "bytes"), ("metadata",), ("compression",),
    ("samples",), ("fingerprint",),
]  # fmt: skip
BASE = make_objects(None)


@given(place=st.sampled_from(PLACES), value=json_values)
@settings(max_examples=500, deadline=None, derandomize=True)
def test_any_json_in_the_index_is_refused_or_harmless(place: tuple[Any, ...], value: Any) -> None:
    index = parse_index(BASE)
    *parents, last = place
    node = index
    for key in parents:
        node = node[key]
    node[last] = value
    objects = {**BASE, "index.json": pack_index(index)}
    check.examine(check.Place(BASE, None), objects, honest=False, schema=False)


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_bytes_are_no_header_and_no_index(data: bytes, sealed: bool) -> None:
    with pytest.raises(sk.FormatError, match=r"^here"):
        Index.from_bytes(seal_index(data) if sealed else data, "here")
    head = BASE[first_chunk(BASE)]
    with pytest.raises(sk.FormatError, match=r"^here"):
        Header.parse((head[: len(data) % 64] + data) if sealed else data, "here")
