"""The loader's options, grouped; each group checks itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from streamkit.datasets.collate import Allocate
from streamkit.order import Shard
from streamkit.pipeline.steps import Remainder

OnError = Literal["raise", "replace", "mask"]
Transform = Callable[[Any, np.random.Generator], Any]

_MAX_DEFAULT_THREADS = 16


@dataclass(frozen=True)
class Batching:
    """How positions become batches, and which rows of them this process takes.

    Attributes:
        batch_size: Rows of a global batch.
        remainder: "drop", "pad" or "keep".
        shard: This process's part of a global batch.
    """

    batch_size: int
    remainder: Remainder
    shard: Shard

    def __post_init__(self) -> None:
        size = checked_int("batch_size", self.batch_size, minimum=1)
        object.__setattr__(self, "batch_size", size)
        _check_choice("remainder", self.remainder, get_args(Remainder))
        if not isinstance(self.shard, Shard):
            raise TypeError(
                f"shard (={self.shard!r}) must be a Shard(process_index, process_count), "
                f"got {type(self.shard).__name__}"
            )
        if self.remainder == "keep" and self.shard.count > 1:
            raise ValueError(
                f'remainder="keep" with {self.shard.count} processes would give them batches of '
                'different sizes; use "pad", whose column "mask" marks the repeated rows, or "drop"'
            )
        self.shard.rows(size)  # raises if it does not divide


@dataclass(frozen=True)
class Recipe:
    """How a batch is made of its samples.

    Attributes:
        transform: `fn(sample, rng)`, or None.
        batch_transform: `fn(batch, rng)`, or None.
        on_error: What becomes of bad samples: "raise", "replace" or "mask".
        max_errors: How many bad samples are put up with; None for any number.
        pads: Length and fill value of ragged columns that become arrays, by name.
        allocator: Gives batches their memory; None for NumPy's own.
        has_mask: Whether batches have the column "mask".
    """

    transform: Transform | None = None
    batch_transform: Transform | None = None
    on_error: OnError = "raise"
    max_errors: int | None = None
    pads: Mapping[str, tuple[int, Any]] = field(default_factory=dict)
    allocator: Allocate | None = None
    has_mask: bool = False

    def __post_init__(self) -> None:
        for name in ("transform", "batch_transform", "allocator"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name} (={value!r:.80}) must be a function or None")
        _check_choice("on_error", self.on_error, get_args(OnError))
        if self.max_errors is not None:
            checked_int("max_errors", self.max_errors, minimum=0)
            if self.on_error == "raise":
                raise ValueError(
                    f'max_errors (={self.max_errors}) has no meaning with on_error="raise", which '
                    'stops at the first; use on_error="replace" or "mask"'
                )
        object.__setattr__(self, "pads", _checked_pads(self.pads))


@dataclass(frozen=True)
class Prefetching:
    """How far and with how many threads batches are made ahead.

    Attributes:
        threads: How many; 0 makes each batch in the caller's thread.
        max_bytes: Limit on the memory of batches made or being made.
    """

    threads: int
    max_bytes: int

    @classmethod
    def of(cls, threads: int | None, prefetch_bytes: int) -> Prefetching:
        """Check the arguments of a loader; None stands for the CPUs this process may use."""
        if threads is None:
            threads = min(_num_cpus(), _MAX_DEFAULT_THREADS)
        return cls(
            checked_int("threads", threads, minimum=0),
            checked_int("prefetch_bytes", prefetch_bytes, minimum=1),
        )


def checked_int(name: str, value: Any, *, minimum: int) -> int:
    """Return a whole number as a Python int.

    Raises:
        TypeError: It is no whole number; a bool is none.
        ValueError: It is below the minimum.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(
            f"{name} (={value!r:.80}) must be a whole number, got {type(value).__name__}"
        )
    if value < minimum:
        raise ValueError(f"{name} (={value}) must be at least {minimum}")
    return int(value)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} (={value!r:.80}) must be one of {', '.join(map(repr, choices))}")


def _checked_pads(pads: Any) -> dict[str, tuple[int, Any]]:
    if not isinstance(pads, Mapping):
        raise TypeError(f'pad (={pads!r:.80}) must be a dict such as {{"tokens": (2048, 0)}}')
    checked = {}
    for name, rule in pads.items():
        if not (isinstance(name, str) and isinstance(rule, (tuple, list)) and len(rule) == 2):
            raise TypeError(
                f"pad has {name!r}: {rule!r:.80}; it must map a column's name to "
                '(length, fill value), such as {"tokens": (2048, 0)}'
            )
        checked[name] = (checked_int(f'the length in pad["{name}"]', rule[0], minimum=1), rule[1])
    return checked


def _num_cpus() -> int:
    """The CPUs that this process may use, which a container limits where the machine does not."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
