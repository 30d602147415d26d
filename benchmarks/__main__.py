"""`python -m benchmarks [CASE ...] [--quick] [--json FILE] [--data DIR]`.

Each case runs in a process of its own, since what one leaves behind in the memory allocator can
change the speed of the next one by a factor of two, and of its limit by more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks
import streamkit as sk
from benchmarks.measure import Result, Settings, run_case

# Modules of this package; a case that is not asked for need not be importable.
CASES = (
    "tokens",
    "samples",
    "byte_strings",
    "images",
    "writing",
    "resume",
    "order",
    "consumer",
)
_RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    """Run the cases that were named, print a line for each result, and write JSON."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="small data: does everything work?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="default: in benchmarks/results")
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep the datasets here")
    options = parser.parse_args(arguments)
    if unknown := [case for case in options.cases if case not in CASES]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    results: list[tuple[str, Result]] = []
    begin = datetime.now(UTC)
    with ExitStack() as stack:
        data = options.data
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamkit-bench-")))
        data.mkdir(parents=True, exist_ok=True)
        settings = Settings(data, options.quick)
        for case in options.cases or CASES:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                found = process.submit(run_case, case, settings).result()
                results.extend((case, result) for result in found)
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
