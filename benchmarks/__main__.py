"""`python -m benchmarks [CASE ...] [--quick] [--json FILE] [--data DIR]`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import benchmarks
import streamkit as sk
from benchmarks.measure import Result, Settings

_RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    """Run the cases that were named, print a line for each result, and write JSON."""
    cases = _cases()
    parser = argparse.ArgumentParser("python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(cases)}")
    parser.add_argument("--quick", action="store_true", help="small data: does everything work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: in benchmarks/results")
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep the datasets here")
    options = parser.parse_args(arguments)
    if unknown := [case for case in options.cases if case not in cases]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(cases)}")
    results: list[tuple[str, Result]] = []
    begin = datetime.now(UTC)
    with ExitStack() as stack:
        data = options.data
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamkit-bench-")))
        data.mkdir(parents=True, exist_ok=True)
        settings = Settings(data, options.quick)
        for case in options.cases or cases:
            for result in cases[case].run(settings):
                print(result.line(), flush=True)
                results.append((case, result))
    path = options.json or _RESULTS / f"{begin:%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "begin": begin.isoformat(timespec="seconds"),
        "quick": options.quick,
        "machine": _machine(),
        "results": [{"group": group, **asdict(result)} for group, result in results],
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
    missed = [result.case for _, result in results if result.reached is False]
    print(f"{len(results)} results in {path}; targets not reached: {', '.join(missed) or 'none'}")


def _cases() -> dict[str, ModuleType]:
    """The modules of this package that have a `run`."""
    names = [found.name for found in pkgutil.iter_modules(benchmarks.__path__)]
    modules = {
        name: importlib.import_module(f"benchmarks.{name}") for name in names if name != "__main__"
    }
    return {name: module for name, module in modules.items() if hasattr(module, "run")}


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "streamkit": sk.__version__,
        "cpus": os.cpu_count(),
        "switch_interval_seconds": sys.getswitchinterval(),
    }


if __name__ == "__main__":
    main()
