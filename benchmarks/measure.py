"""What every case shares: its settings, a result with its target, and fair timing.

Absolute figures move with the machine by tens of percent, so a figure counts as a ratio to a
limit that is measured in the same run: both take turns, and the medians are compared.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How a run is done.

    Attributes:
        data: A directory for datasets; one that is there already is used again.
        quick: Small data and few repeats, which show that a case works and say nothing of speed.
    """

    data: Path
    quick: bool = False

    @property
    def repeats(self) -> int:
        """How often each side of a comparison is timed."""
        return 2 if self.quick else 7

    def pick(self, full: T, quick: T) -> T:
        """The first, or the second in a quick run."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Result:
    """One line of the report; made by `against`, `at_least`, `at_most` or `plain`.

    Attributes:
        case: What was measured.
        unit: The unit of `value` and `limit`.
        value: Our figure.
        limit: The limit's figure; None where there is none.
        ratio: Our speed divided by the limit's, so that 1 is as fast; None without a limit.
        target: What must be reached; None for a figure that is only shown.
        rule: What the target is compared with, and how.
        reached: Whether it is; None without a target.
        figures: Further numbers for the JSON, with units in their names.
    """

    case: str
    unit: str
    value: float
    limit: float | None = None
    ratio: float | None = None
    target: float | None = None
    rule: str = ""
    reached: bool | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def against(
        cls,
        case: str,
        unit: str,
        amount: float,
        ours: list[float],
        limit: list[float],
        *,
        target: float | None = None,
        figures: Mapping[str, float] | None = None,
    ) -> Result:
        """A throughput and the limit's, from the seconds of interleaved repeats.

        Args:
            case: What was measured.
            unit: The unit of the throughput, such as "samples/s".
            amount: What each repeat got done, in that unit times a second.
            ours: Seconds of each repeat.
            limit: Seconds of the limit's repeats, each taken just after ours.
            target: The least ratio.
            figures: Further numbers.
        """
        value, bound = amount / median(ours), amount / median(limit)
        pairs = [b / a for a, b in zip(ours, limit, strict=True)]
        ratio = value / bound
        spread = {"lowest_ratio": min(pairs), "highest_ratio": max(pairs)}
        return cls(
            case,
            unit,
            value,
            bound,
            ratio,
            target,
            "" if target is None else "ratio >=",
            None if target is None else ratio >= target,
            {**spread, **(figures or {})},
        )

    @classmethod
    def at_least(
        cls, case: str, unit: str, value: float, target: float, **figures: float
    ) -> Result:
        """A figure that must be as large as its target."""
        return cls(
            case,
            unit,
            value,
            target=target,
            rule=">=",
            reached=value >= target,
            figures=figures,
        )

    @classmethod
    def at_most(cls, case: str, unit: str, value: float, target: float, **figures: float) -> Result:
        """A figure that must be below its target."""
        return cls(
            case, unit, value, target=target, rule="<", reached=value < target, figures=figures
        )

    @classmethod
    def plain(cls, case: str, unit: str, value: float, **figures: float) -> Result:
        """A figure that is only shown."""
        return cls(case, unit, value, figures=figures)

    def line(self) -> str:
        """The result in one line."""
        limit = "" if self.limit is None else f"limit {_figure(self.limit)}"
        ratio = "" if self.ratio is None else f"ratio {self.ratio:.3f}"
        target = "" if self.target is None else f"{self.rule} {self.target:g}"
        verdict = {True: "reached", False: "NOT REACHED", None: ""}[self.reached]
        ours = f"{_figure(self.value)} {self.unit}"
        return (
            f"{self.case:<42} {ours:>24}  {limit:<17} {ratio:<11} {target:<14} {verdict}".rstrip()
        )


def interleave(runs: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Let runs take turns, so that what else the machine does meets all of them.

    Args:
        runs: Functions that do their work once and return the seconds that count.
        repeats: How many turns each has.

    Returns:
        The seconds of each run, turn by turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(run())
    return seconds


def timed(work: Callable[[], object]) -> float:
    """The seconds that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _figure(value: float) -> str:
    """A number to about four digits."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def run_case(case: str, settings: Settings) -> list[Result]:
    """Run one case in this process (one of its own), printing each result as it comes."""
    results = []
    for result in importlib.import_module(f"benchmarks.{case}").run(settings):
        print(result.line(), flush=True)
        results.append(result)
    return results
