"""Writing the 300,000 samples, stacked and one by one.

`write_batch` races one thread that writes and fsyncs the same bytes to as many files. `write`
races a Python loop that flattens each sample, checks types and shapes, and stacks the columns,
but stores nothing.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import streamkit as sk
from benchmarks.measure import Result, Settings, interleave, timed
from benchmarks.samples import Columns, make_columns, write_columns

_STACK_ROWS = 10_000


def run(settings: Settings) -> Iterator[Result]:
    """Race `write_batch` against plain files, and `write` against the loop."""
    columns = make_columns(settings.pick(300_000, 3_000))
    count = len(columns["y"])
    target = settings.data / "written"

    def write_batches() -> None:
        with sk.DatasetWriter(target) as writer:
            write_columns(writer, columns)

    def write_samples() -> None:
        with sk.DatasetWriter(target) as writer:
            for sample in samples:
                writer.write(sample)

    write_batches()
    files = [path.read_bytes() for path in sorted(target.rglob("*")) if path.is_file()]
    _check(target, columns)
    shutil.rmtree(target)
    seconds = interleave(
        {
            "ours": lambda: _timed_write(target, write_batches),
            "limit": lambda: _timed_write(target, lambda: _write_files(target, files)),
        },
        settings.repeats,
    )
    yield Result.against(
        "write_batch",
        "samples/s",
        count,
        seconds["ours"],
        seconds["limit"],
        target=0.6,
        figures={"num_files": len(files), "num_bytes": sum(map(len, files))},
    )
    samples = [{"x": x, "y": y} for x, y in zip(columns["x"], columns["y"].tolist(), strict=True)]
    write_samples()
    _check(target, columns)
    shutil.rmtree(target)
    seconds = interleave(
        {
            "ours": lambda: _timed_write(target, write_samples),
            "limit": lambda: timed(lambda: stack_samples(samples)),
        },
        settings.repeats,
    )
    yield Result.against("write", "samples/s", count, seconds["ours"], seconds["limit"], target=0.5)


def stack_samples(samples: list[Any]) -> list[list[NDArray[Any]]]:
    """Flatten, check and stack: the least that a writer of Python samples has to do.

    Returns:
        The columns of each stretch of ten thousand samples.

    Raises:
        TypeError: A leaf differs in type, dtype or shape from that of the first sample.
    """
    first: list[Any] = []
    _flatten(samples[0], first)
    rules = [(type(leaf), getattr(leaf, "dtype", None), np.shape(leaf)) for leaf in first]
    stacked = []
    for at in range(0, len(samples), _STACK_ROWS):
        columns: list[list[Any]] = [[] for _ in rules]
        for sample in samples[at : at + _STACK_ROWS]:
            leaves: list[Any] = []
            _flatten(sample, leaves)
            for leaf, (kind, dtype, shape), column in zip(leaves, rules, columns, strict=True):
                if type(leaf) is not kind:
                    raise TypeError(f"expected {kind}, found {type(leaf)}")
                if dtype is not None and (leaf.dtype != dtype or leaf.shape != shape):
                    raise TypeError(f"expected {dtype}{shape}, found {leaf.dtype}{leaf.shape}")
                column.append(leaf)
        stacked.append([np.array(column) for column in columns])
    return stacked


def _flatten(tree: Any, leaves: list[Any]) -> None:
    if isinstance(tree, dict):
        for value in tree.values():
            _flatten(value, leaves)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            _flatten(value, leaves)
    else:
        leaves.append(tree)


def _write_files(target: Path, files: list[bytes]) -> None:
    target.mkdir()
    for number, data in enumerate(files):
        with open(target / f"{number}", "wb", buffering=0) as file:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())


def _timed_write(target: Path, write: Any) -> float:
    os.sync()  # what others have left to write must not be waited for inside the clock
    begin = time.perf_counter()
    write()
    seconds = time.perf_counter() - begin
    shutil.rmtree(target)
    return seconds


def _check(target: Path, columns: Columns) -> None:
    with sk.open(target) as dataset:
        written = dataset.gather(np.arange(len(dataset)))
    for name, column in columns.items():
        if not np.array_equal(written[name], column):
            raise AssertionError(f'column "{name}" was not written as it is')
