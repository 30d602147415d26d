"""The schema: declared, inferred, promoted to ragged, and what does not fit it."""

import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import streamkit as sk
from streamkit.format.schema import Schema


def write(samples: list[Any], **options: Any) -> sk.StoredDataset:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, **options) as writer:
        for sample in samples:
            writer.write(sample)
    return sk.open(store, allow_pickle=options.get("allow_pickle", False))


def column_of(sample: Any) -> sk.Column:
    return write([sample]).schema.columns[0]


@pytest.mark.parametrize(
    ("value", "column"),
    [
        (5, sk.Column("int64", scalar="int")),
        (5.5, sk.Column("float64", scalar="float")),
        (True, sk.Column("bool", scalar="bool")),
        (1j, sk.Column("complex128", scalar="complex")),
        (np.float32(1), sk.Column("float32", scalar="numpy")),
        (np.datetime64("2020-01-01"), sk.Column("datetime64[D]", scalar="numpy")),
        (np.array(3, np.int16), sk.Column("int16")),
        (np.zeros((2, 3), ">f4"), sk.Column("float32", (2, 3))),
        ([1, 2, 3], sk.Column("int64", (3,))),
        ([1.5, 2], sk.Column("float64", (2,))),
        ([True], sk.Column("bool", (1,))),
        ([2**64 - 1, 0], sk.Column("uint64", (2,))),
        ("text", sk.Column("str")),
        (b"bytes", sk.Column("bytes")),
        (bytearray(b"bytes"), sk.Column("bytes")),
        (memoryview(b"bytes"), sk.Column("bytes")),
        (sk.Json([1, {"a": None}]), sk.Column("json")),
        (sk.Media(b"RIFF", "audio/wav"), sk.Column("media", media="audio/wav")),
        (torch.arange(4, dtype=torch.int16), sk.Column("int16", (4,))),
        (jnp.ones((2, 2), jnp.bfloat16), sk.Column("bfloat16", (2, 2))),
    ],
)
def test_what_a_leaf_is_taken_for(value: Any, column: sk.Column) -> None:
    assert column_of(value) == column


def test_arrays_of_other_libraries_are_arrays() -> None:
    tensor, array = torch.tensor([[1.5, 2.5]]), jnp.arange(3, dtype=jnp.int32)
    dataset = write([{"t": tensor, "j": array}])
    tensor[:] = 0
    sample = dataset[0]
    assert type(sample["t"]) is type(sample["j"]) is np.ndarray
    assert sample["t"].dtype == np.float32
    np.testing.assert_array_equal(sample["t"], [[1.5, 2.5]])
    np.testing.assert_array_equal(sample["j"], [0, 1, 2])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1, 2}, "builtins.set"),
        (object(), "builtins.object"),
        (Path("x"), "pathlib"),
        (lambda: 1, "function"),
        (np.array(["a"]), "numpy.ndarray"),
        (np.array([object()]), "numpy.ndarray"),
        (np.zeros(2, [("a", "i4")]), "numpy.ndarray"),
        ([2**63, -1], "list.*dtype object"),
        (2**64, r"int64 \[\], found 18446744073709551616"),
        (torch.ones(2, requires_grad=True), "torch.Tensor"),
    ],
)
def test_other_objects_are_refused_by_column_and_type(value: Any, kind: str) -> None:
    with pytest.raises(sk.SchemaError, match=f'column "a/x", sample 0: .*{kind}'):
        write([{"a": {"x": value}}])


@pytest.mark.parametrize("before", [1, 1500])
@pytest.mark.parametrize(
    ("first", "other", "expected", "found"),
    [
        (np.float32(1), np.float64(1), "float32", "float64"),
        (np.zeros(3, np.int32), np.zeros(3, np.int64), "int32", "int64"),
        (np.zeros(3, np.uint8), np.zeros((3, 1), np.uint8), r"uint8 \[3\]", r"uint8 \[3, 1\]"),
        (5, 5.5, "int64", "float64|5.5"),
        (5, True, "int64", "bool|True"),
        (True, 1, "bool", "int64|1"),
        (5, 2**63, "int64", "9223372036854775808|uint64"),
        (5, "five", "int64", "str|<U4"),
        ("five", 5, "str", "int64|int"),
        (b"five", "five", "bytes", "str"),
        (sk.Media(b"", "a"), sk.Media(b"", "b"), "media of kind 'a'", "media of kind 'b'"),
        (np.datetime64(0, "s"), np.datetime64(0, "ms"), r"datetime64\[s\]", r"datetime64\[ms\]"),
    ],
)
def test_a_later_sample_that_differs(
    before: int, first: Any, other: Any, expected: str, found: str
) -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        for _ in range(before):
            writer.write({"a": 1, "x": first})
        message = f'column "x", sample {before:,}: expected ({expected}).*found .*({found})'
        with pytest.raises(sk.SchemaError, match=message):
            writer.write({"a": 1, "x": other})
        writer.write({"a": 2, "x": first})
    assert len(sk.open(store)) == before + 1
    assert sk.open(store)[-1]["a"] == 2


def test_the_structure_of_a_later_sample_must_be_the_same() -> None:
    with pytest.raises(sk.SchemaError, match=r'"a": expected a dict with the keys \[\'b\'\]'):
        write([{"a": {"b": 1}}, {"a": {"c": 1}}])


def test_python_numbers_take_the_dtype_of_the_column() -> None:
    dataset = write([{"x": 1.5, "y": [0.5]}, {"x": 2, "y": [1, 2]}])
    assert dataset[1]["x"] == 2.0
    assert type(dataset[1]["x"]) is float
    assert dataset[1]["y"].dtype == np.float64


@pytest.mark.parametrize("number", [999, 500])
def test_a_shape_that_varies_early_makes_a_column_ragged(number: int) -> None:
    samples = [{"x": np.full(3, i, np.int32)} for i in range(1100)]
    samples[number] = {"x": np.arange(5, dtype=np.int32)}
    dataset = write(samples)
    assert dataset.schema.columns[0] == sk.Column("int32", (None,))
    for sample, read in zip(samples, dataset[:], strict=True):
        np.testing.assert_array_equal(sample["x"], read["x"])


def test_only_the_axes_that_vary_become_ragged() -> None:
    samples = [np.zeros((2, n, 3)) for n in (4, 5)]
    assert write(samples).schema.columns[0].shape == (2, None, 3)


def test_a_shape_that_varies_late_is_an_error_that_says_what_to_do() -> None:
    samples = [{"x": np.zeros(3)}] * 1000 + [{"x": np.zeros(4)}]
    message = r'"x", sample 1,000: expected float64 \[3\], found float64 \[4\].*must be declared'
    with pytest.raises(sk.SchemaError, match=message):
        write(samples)


def test_a_chunk_that_is_full_early_ends_the_promotion() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, chunk_bytes=1000) as writer:
        for _ in range(3):
            writer.write(np.zeros(100))
        with pytest.raises(sk.SchemaError, match="must be declared"):
            writer.write(np.zeros(4))


def test_empty_lists_wait_for_a_dtype() -> None:
    dataset = write([{"x": []}, {"x": []}, {"x": [1, 2]}, {"x": []}])
    assert dataset.schema.columns[0] == sk.Column("int64", (None,))
    assert [sample["x"].tolist() for sample in dataset[:]] == [[], [], [1, 2], []]


def test_a_sample_that_is_refused_does_not_widen_the_schema() -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store) as writer:
        writer.write({"x": np.zeros(3), "y": 1})
        with pytest.raises(sk.SchemaError):
            writer.write({"x": np.zeros(4), "y": "one"})
        writer.write({"x": np.zeros(3), "y": 2})
    assert sk.open(store).schema.columns[0].shape == (3,)


# -- declared -------------------------------------------------------------------------------------


def test_a_declared_schema_converts_lists_in_range() -> None:
    schema = {"tokens": sk.Column("uint16", (None,)), "n": int, "f": sk.Column("float32", (2,)),
              "name": str, "raw": bytes, "ok": bool, "w": float}  # fmt: skip
    dataset = write(
        [{"tokens": [1, 65535], "n": 5, "f": [1, 0.1], "name": "a", "raw": b"b", "ok": True,
          "w": 2}],
        schema=schema,
    )  # fmt: skip
    sample = dataset[0]
    assert sample["tokens"].dtype == np.uint16
    assert sample["tokens"].tolist() == [1, 65535]
    np.testing.assert_array_equal(sample["f"], np.array([1, 0.1], np.float32))
    assert {k: sample[k] for k in ("n", "name", "raw", "ok", "w")} == {
        "n": 5, "name": "a", "raw": b"b", "ok": True, "w": 2.0,
    }  # fmt: skip
    assert type(sample["w"]) is float


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (sk.Column("uint16", (None,)), [65536]),
        (sk.Column("uint16", (None,)), [1, -1]),
        (sk.Column("uint16", (None,)), [1.0]),
        (sk.Column("uint16", (None,)), np.array([1])),
        (sk.Column("int8", scalar="int"), 128),
        (sk.Column("int8", scalar="int"), np.int16(1)),
        (sk.Column("int64", (None,)), [2**63]),
        (sk.Column("uint64", (None,)), [-1]),
        (sk.Column("int4", (None,)), [8]),
        (sk.Column("float32", (None,)), np.array([1.0])),
        (sk.Column("float32", (None,)), [1e300]),
        (sk.Column("float32", scalar="float"), -1e300),
        (sk.Column("float16", (None,)), [70000]),
        (sk.Column("float64", (None,)), [2**53 + 1]),
        (sk.Column("float64", (None,)), [2**63 - 1]),
        (sk.Column("float8_e4m3fn", (None,)), [1e6]),
        (sk.Column("float32", (None,)), [1j]),
        (sk.Column("bool", (None,)), [1]),
        (sk.Column("int32", (None,)), [True]),
        (sk.Column("int32", (None,)), 5),
        (sk.Column("int32", (2,)), [1]),
        (sk.Column("int32", (2,)), [[1, 2]]),
        (str, 5),
        (bytes, "text"),
        (int, "5"),
    ],
)
def test_no_value_is_narrowed(column: Any, value: Any) -> None:
    store = sk.MemoryStore()
    with sk.DatasetWriter(store, schema={"x": column}) as writer:
        with pytest.raises(sk.SchemaError, match='column "x", sample 0: expected'):
            writer.write({"x": value})
        with pytest.raises(sk.SchemaError, match='column "x", sample 0: expected'):
            writer.write_batch({"x": [value]})
    assert len(sk.open(store)) == 0


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (sk.Column("uint64", (None,)), [2**64 - 1, 0]),
        (sk.Column("int4", (None,)), [-8, 7]),
        (sk.Column("float16", (None,)), [2048, -1]),
        (sk.Column("float64", (None,)), [2**60, math.inf]),
        (sk.Column("bfloat16", (None,)), [1.5, 2]),
        (sk.Column("complex64", (None,)), [1, 0.5, 1j]),
        (sk.Column("float32", (2, 2)), [[1, 2], [0.5, 4]]),
    ],
)
def test_what_keeps_its_value_is_converted(column: sk.Column, values: list[Any]) -> None:
    read = write([{"x": values}], schema={"x": column})[0]["x"]
    assert read.dtype == column.dtype
    assert read.astype(np.complex128).tolist() == np.array(values, np.complex128).tolist()


def test_nan_and_infinities_of_lists_stay() -> None:
    read = write([[math.nan, math.inf, -math.inf]], schema=sk.Column("float16", (None,)))[0]
    assert np.isnan(read[0])
    assert read[1:].tolist() == [math.inf, -math.inf]


@pytest.mark.parametrize("declared", [{"x": np.float32}, {"x": "float32"}, {"x": 5}, {}, None])
def test_declarations_that_are_none(declared: Any) -> None:
    with pytest.raises(sk.SchemaError):
        Schema.declare(declared)


def test_aligned_columns_must_have_a_base() -> None:
    ragged = sk.Column("u2", (None,))
    for columns in (
        {"m": sk.Column("u1", (None,), aligned="t")},
        {"t": sk.Column("u2", (3,)), "m": sk.Column("u1", (None,), aligned="t")},
        {"t": sk.Column("u2", (None, None)), "m": sk.Column("u1", (None,), aligned="t")},
        {"t": ragged, "m": sk.Column("u1", (None, None), aligned="t")},
        {"t": sk.Column("u2", (None,), aligned="m"), "m": sk.Column("u1", (None,), aligned="t")},
    ):
        with pytest.raises(sk.SchemaError, match="aligned"):
            Schema.declare(columns)


def test_a_schema_comes_back_from_json() -> None:
    schema = Schema.declare({"a": (int, str), "t": sk.Column("u2", (None,)),
                             "m": sk.Column("bool", (None,), aligned="t")})  # fmt: skip
    assert Schema.from_json(schema.to_json()) == schema
    assert schema.offsets_of == (None, 1, 2, 2)
    assert schema.ragged_names == ("a/1", "t")
    with pytest.raises(KeyError, match=r'no column "z"; there are .*a/0.*a/1'):
        schema.column("z")
    for broken in (5, {}, {"tree": "leaf", "columns": []}, {"tree": "leaf", "columns": 5}):
        with pytest.raises(sk.FormatError):
            Schema.from_json(broken)
