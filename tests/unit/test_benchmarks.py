"""The benchmarks run and give the right samples; how fast they are is not tested."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import Result, interleave

ROOT = Path(__file__).parents[2]
GROUPS = {"byte_strings", "consumer", "order", "resume", "samples", "tokens", "writing"}


def run_benchmarks(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_quick_run_prints_and_stores_every_result(tmp_path: Path) -> None:
    path = tmp_path / "results" / "quick.json"
    done = run_benchmarks(*sorted(GROUPS), "--quick", "--json", path, "--data", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(path.read_text())
    assert report["quick"] is True
    assert {result["group"] for result in report["results"]} == GROUPS
    lines = done.stdout.splitlines()
    assert len(lines) == len(report["results"]) + 1
    for line, result in zip(lines, report["results"], strict=False):
        assert line.startswith(result["case"])
        assert math.isfinite(result["value"])
        if result["limit"] is not None:
            assert result["value"] > 0
            assert result["ratio"] == pytest.approx(result["value"] / result["limit"])
        assert (result["target"] is None) == (result["reached"] is None)


def test_an_unknown_case_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = run_benchmarks("tokenz", "--quick", "--json", tmp_path / "none.json")
    assert done.returncode == 2
    assert "no case tokenz; there are" in done.stderr
    assert "tokens" in done.stderr
    assert not (tmp_path / "none.json").exists()


def test_a_ratio_compares_medians_and_keeps_the_spread() -> None:
    result = Result.against("a", "samples/s", 12.0, [4.0, 3.0, 100.0], [2.0, 2.0, 1.0], target=0.5)
    assert (result.value, result.limit, result.ratio) == (3.0, 6.0, 0.5)
    assert result.reached is True
    assert result.figures == {"lowest_ratio": 0.01, "highest_ratio": 2 / 3}
    assert "ratio 0.500" in result.line()
    assert result.line().endswith(" reached")


def test_targets_from_above_and_below() -> None:
    assert Result.at_most("a", "ms", 9.9, 10).reached is True
    assert Result.at_most("a", "ms", 10.0, 10).reached is False
    assert Result.at_least("a", "M/s", 10.0, 10).reached is True
    assert "NOT REACHED" in Result.at_least("a", "M/s", 9.0, 10).line()
    shown = Result.plain("a", "MB", 1.0)
    assert (shown.target, shown.reached, shown.ratio) == (None, None, None)


def test_runs_take_turns() -> None:
    turns: list[str] = []

    def run(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    seconds = interleave({"ours": lambda: run("ours"), "limit": lambda: run("limit")}, 2)
    assert turns == ["ours", "limit", "ours", "limit"]
    assert seconds == {"ours": [1.0, 3.0], "limit": [2.0, 4.0]}
