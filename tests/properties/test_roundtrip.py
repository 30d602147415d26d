"""Write, then read, is the identity: for any tree, dtype, shape, compression and chunk size."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import streamkit as sk

NUMPY_DTYPES = [
    np.dtype(code) for code in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4",
                                "f8", "g", "c8", "c16", "G", "M8[ns]", "M8[D]", "M8", "m8[25s]")
]  # fmt: skip
BIG_ENDIAN = [
    np.dtype(code) for code in (">i2", ">u4", ">i8", ">f2", ">f4", ">f8", ">c8", ">M8[s]")
]
ML_DTYPES = [
    np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz",
                 "float8_e4m3fnuz", "float8_e5m2fnuz", "int4", "uint4")
]  # fmt: skip
DTYPES = st.sampled_from(NUMPY_DTYPES + BIG_ENDIAN + ML_DTYPES)


def draw_array(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> np.ndarray:
    """An array of random bits: NaNs with payloads, infinities and subnormal numbers too."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.itemsize > 8 and dtype.char in "gG":  # most bit patterns are no long double
        values = rng.choice([0.1, -0.0, np.nan, np.inf, 3e300], shape)
        return (values * np.longdouble(1) / np.longdouble(3)).astype(dtype)
    if dtype.type.__module__ == "ml_dtypes" and "int" in dtype.name:
        return rng.integers(0, 7, shape).astype(dtype)
    count = int(np.prod(shape))
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).reshape(shape).copy()


def assert_same(written: Any, read: Any) -> None:
    """Equal structure, types and bits."""
    if isinstance(written, (dict, list, tuple)) and not _is_numbers(written):
        assert type(read) is type(written)
        assert len(read) == len(written)
        if isinstance(written, dict):
            assert [*read] == [*written]
            for key in written:
                assert_same(written[key], read[key])
        else:
            for a, b in zip(written, read, strict=True):
                assert_same(a, b)
    elif isinstance(written, sk.Json):
        assert read == written.value
    elif isinstance(written, (np.ndarray, np.generic)) or _is_numbers(written):
        array = np.asarray(written)
        assert type(read) is (np.ndarray if isinstance(written, list) else type(written))
        if isinstance(written, np.ndarray):
            assert read.flags.writeable
        assert read.dtype == array.dtype.newbyteorder("=")
        assert read.shape == array.shape
        if array.dtype.char in "gG":  # their padding is nobody's
            np.testing.assert_array_equal(read, array)
        else:
            assert read.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
    else:
        assert type(read) is type(written)
        assert repr(read) == repr(written)  # NaN equals NaN, and 0.0 is not -0.0


def _is_numbers(value: Any) -> bool:
    return type(value) is list and all(type(v) in (int, float, bool) for v in value)


# A leaf is a function of the sample's number, so that all samples have one schema.
@st.composite
def fixed_leaves(draw: st.DrawFn) -> Any:
    dtype, shape = draw(DTYPES), tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    seed, scalar = draw(st.integers(0, 99)), draw(st.booleans())

    def leaf(number: int) -> Any:
        array = draw_array(dtype, shape, seed + number)
        return array[()] if shape == () and scalar and dtype.isnative else array

    return leaf


@st.composite
def ragged_leaves(draw: st.DrawFn) -> Any:
    dtype, ndim = draw(DTYPES), draw(st.integers(1, 3))
    sizes = draw(st.lists(st.tuples(*[st.integers(0, 4)] * ndim), min_size=2, max_size=5))
    seed = draw(st.integers(0, 99))
    return lambda number: draw_array(dtype, sizes[number % len(sizes)], seed + number)


def values_of(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy, min_size=1, max_size=6).map(
        lambda values: lambda number: values[number % len(values)]
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
INT64 = st.integers(-(2**63), 2**63 - 1)
LEAVES = st.one_of(
    fixed_leaves(),
    ragged_leaves(),
    values_of(st.booleans()),
    values_of(INT64),
    values_of(st.floats()),
    values_of(st.complex_numbers()),
    values_of(st.text()),
    values_of(st.binary()),
    values_of(JSON.map(sk.Json)),
    values_of(st.lists(INT64, min_size=1, max_size=5)),
    values_of(st.lists(st.floats(width=32), max_size=5)),
)
KEYS = st.one_of(st.text(st.characters(exclude_characters="/"), max_size=4), st.integers(-9, 99))


def _nodes(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(children, min_size=1, max_size=3)
    return st.one_of(
        several.map(tuple),
        several.map(lambda items: ["structure", *items]),  # the text keeps it from being numbers
        st.dictionaries(KEYS, children, min_size=1, max_size=3).filter(
            lambda node: len({str(key) for key in node}) == len(node)
        ),
    )


TREES = st.recursive(st.one_of(LEAVES, LEAVES, st.none()), _nodes, max_leaves=6)


def build(tree: Any, number: int) -> Any:
    if callable(tree):
        return tree(number)
    if isinstance(tree, dict):
        return {key: build(child, number) for key, child in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(build(child, number) for child in tree)
    return tree


OPTIONS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from([None, None, "zstd", "zstd:1"]),
        "chunk_bytes": st.sampled_from([1, 100, 1000, 10**7]),
        "chunk_samples": st.sampled_from([None, 1, 3]),
    }
)


def has_leaves(tree: Any) -> bool:
    if isinstance(tree, dict):
        return any(map(has_leaves, tree.values()))
    return any(map(has_leaves, tree)) if isinstance(tree, (list, tuple)) else tree is not None


def write(
    store: sk.Store, samples: list[Any], options: dict[str, Any], schema: Any = None
) -> sk.StoredDataset:
    with sk.DatasetWriter(store, schema=schema, **options) as writer:
        for sample in samples:
            writer.write(sample)
    return sk.open(store)


@given(
    tree=TREES.filter(has_leaves),
    count=st.integers(1, 12),
    options=OPTIONS,
    local=st.booleans(),
    indices=st.lists(st.integers(0, 10**6), max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_write_then_read_is_the_identity(
    tree: Any, count: int, options: dict[str, Any], local: bool, indices: list[int]
) -> None:
    samples = [build(tree, number) for number in range(count)]
    schema = write(sk.MemoryStore(), samples, {}).schema  # small chunks would end its promotion
    with TemporaryDirectory() as folder:
        store: sk.Store = sk.LocalStore(Path(folder)) if local else sk.MemoryStore()
        dataset = write(store, samples, options, schema)
        expected = [_with_dtype_of_column(sample, samples) for sample in samples]
        assert len(dataset) == count
        assert dataset.chunk_sizes.sum() == count
        for a, b in zip(expected, dataset[:], strict=True):
            assert_same(a, b)
        for a, b in zip(expected, sk.open(store, verify=False)[:], strict=True):
            assert_same(a, b)
        wanted = [index % count for index in indices]
        _assert_gather_is_the_loop(dataset, wanted)


def _with_dtype_of_column(sample: Any, samples: list[Any]) -> Any:
    """An empty list of numbers reads back with the dtype of the lists that are not empty."""
    if isinstance(sample, dict):
        return {k: _with_dtype_of_column(v, [s[k] for s in samples]) for k, v in sample.items()}
    if isinstance(sample, tuple) or (isinstance(sample, list) and not _is_numbers(sample)):
        columns = zip(*samples, strict=True)
        return type(sample)(
            _with_dtype_of_column(v, list(c)) for v, c in zip(sample, columns, strict=True)
        )
    if isinstance(sample, list) and not sample:
        full = next((s for s in samples if s), [0.0])
        return np.empty(0, np.asarray(full).dtype)
    return sample


def _assert_gather_is_the_loop(dataset: sk.StoredDataset, indices: list[int]) -> None:
    batch = dataset.gather(np.array(indices, np.int64))
    columns = dataset.schema.tree.flatten(batch)
    rows = [dataset.schema.tree.flatten(dataset[index]) for index in indices]
    for number, (column, spec) in enumerate(zip(columns, dataset.schema.columns, strict=True)):
        assert len(column) == len(indices)
        if spec.kind == "array":
            assert isinstance(column, np.ndarray)
            assert column.flags.writeable
            assert column.dtype == spec.dtype
            assert column.shape == (len(indices), *spec.shape)
        for row, value in zip(rows, column, strict=True):
            one = np.asarray(row[number]) if spec.kind in ("array", "ragged") else row[number]
            if isinstance(one, np.ndarray):
                assert np.asarray(value).shape == one.shape
                assert spec.dtype.char in "gG" or np.asarray(value).tobytes() == one.tobytes()
            else:
                assert value == one


@given(tree=TREES.filter(has_leaves), count=st.integers(1, 12), options=OPTIONS)
@settings(max_examples=100, deadline=None)
def test_batches_and_samples_give_the_same_bytes(
    tree: Any, count: int, options: dict[str, Any]
) -> None:
    samples = [build(tree, number) for number in range(count)]
    one, many = sk.MemoryStore(), sk.MemoryStore()
    schema = write(sk.MemoryStore(), samples, {}).schema
    dataset, spec = write(one, samples, options, schema), schema.tree
    rows = [spec.flatten(sample) for sample in samples]
    with sk.DatasetWriter(many, schema=schema, **options) as writer:
        writer.write_batch(spec.unflatten([list(column) for column in zip(*rows, strict=True)]))
    for sample, read in zip(samples, sk.open(many)[:], strict=True):
        assert_same(_with_dtype_of_column(sample, samples), read)
    if all(column.dtype.char not in "gG" for column in schema.columns):
        assert sk.open(many).fingerprint == dataset.fingerprint
