"""Regenerates the golden datasets: `python tests/golden/make.py` writes them anew.

They pin the bytes of format version 1. Do not regenerate them because a test fails: a dataset that
was written once must stay readable. A new format version gets folders of its own.

Object names hold a random token, so regenerated files have other names and the same bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import streamkit as sk

HERE = Path(__file__).parent
SAMPLES = 10
COMPRESSIONS = {"v1-raw": None, "v1-zstd": "zstd"}
SCHEMA = {
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "numpy": sk.Column("int16", scalar="numpy"),
    "array0": sk.Column("float32"),
    "matrix": sk.Column("float32", (2, 3)),
    "wide": sk.Column("uint8", (40,)),
    "brain": sk.Column("bfloat16", (2,)),
    "eight": sk.Column("float8_e4m3fn", (3,)),
    "four": sk.Column("int4", (3,)),
    "when": sk.Column("datetime64[ms]", scalar="numpy"),
    "span": sk.Column("timedelta64[s]", (2,)),
    "tokens": sk.Column("uint16", (None,)),
    "mask": sk.Column("bool", (None,), aligned="tokens"),
    "points": sk.Column("float64", (None, 2)),
    "grid": sk.Column("int8", (None, 2, None)),
    "empty": sk.Column("int32", (0,)),
    "text": str,
    "blob": bytes,
    "json": sk.Column("json"),
    "sound": sk.Column("media", media="audio/raw"),
    "tree": {"list": [int, (sk.Column("uint64"), None)], 7: str},
}


def make_sample(i: int) -> dict[str, Any]:
    """Sample i, made of integers only, so that it is the same on every machine."""
    count = (i * 5) % 7
    return {
        "bool": i % 3 == 0,
        "int": (-1) ** i * i**9,
        "float": [0.1, float("inf"), -0.0, float("nan"), 1e-310][i % 5],
        "complex": complex(i, -i),
        "numpy": np.int16(-i),
        "array0": np.array(i / 4, np.float32),
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3) / 8 - i,
        "wide": (np.arange(40) * i % 256).astype(np.uint8),
        "brain": np.array([i, -i / 2]).astype(ml_dtypes.bfloat16),
        "eight": np.array([i, 0.5, -2]).astype(ml_dtypes.float8_e4m3fn),
        "four": np.array([i % 8, -8, 7]).astype(ml_dtypes.int4),
        "when": np.datetime64("NaT" if i == 4 else 1_700_000_000_000 + i, "ms"),
        "span": np.array([i, -i], "timedelta64[s]"),
        "tokens": (np.arange(count) * 9973 % 65536).astype(np.uint16),
        "mask": np.arange(count) % 2 == 0,
        "points": np.arange(2 * (i % 3), dtype=np.float64).reshape(-1, 2) / 16,
        "grid": np.arange(2 * (i % 3) * (i % 4), dtype=np.int8).reshape(i % 3, 2, i % 4),
        "empty": np.empty(0, np.int32),
        "text": ["", "plain", "naïve ☕", "\0", "🙂" * 5][i % 5],
        "blob": bytes(range(i)) * 3,
        "json": {"i": i, "list": [None, True, -1.5, "é", {}], "big": 10 ** (i * 3)},
        "sound": sk.Media(bytes([i]) * i, "audio/raw"),
        "tree": {"list": [i, (np.array(2**64 - 1 - i, np.uint64), None)], 7: str(i)},
    }


def write(target: Any, compression: str | None) -> None:
    """Write the dataset: two chunks, and a third by an append."""
    options: dict[str, Any] = {"chunk_samples": 4, "compression": compression}
    with sk.DatasetWriter(target, schema=SCHEMA, metadata={"made by": "é"}, **options) as writer:
        for i in range(8):
            writer.write(make_sample(i))
    with sk.DatasetWriter(target, mode="append", **options) as writer:
        for i in range(8, SAMPLES):
            writer.write(make_sample(i))


if __name__ == "__main__":
    for name, compression in COMPRESSIONS.items():
        shutil.rmtree(HERE / name, ignore_errors=True)
        write(HERE / name, compression)
