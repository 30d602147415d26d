"""Check what `import streamkit` loads and costs; run by the Python it is installed for."""

import statistics
import subprocess
import sys

FORBIDDEN = ("jax", "torch", "grain", "s3fs", "gcsfs", "adlfs", "tensorstore", "typer", "tqdm")
LIMIT_SECONDS = 0.100
ROUNDS = 15

LOADED = f"""
import sys, streamkit
print(streamkit.__file__)
print(*sorted({{name.split(".")[0] for name in sys.modules}} & set({FORBIDDEN!r})))
"""
TIMED = """
from time import perf_counter
started = perf_counter()
import {module}
print(perf_counter() - started)
"""


def output(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


def main() -> int:
    """Print the findings; 1 if one breaks its rule."""
    where, loaded = output(LOADED).splitlines()
    print(f"import streamkit: from {where}")
    seconds: dict[str, list[float]] = {"numpy": [], "streamkit": []}
    for _ in range(ROUNDS):  # in turns, so that a busy moment meets both
        for module, times in seconds.items():
            times.append(float(output(TIMED.format(module=module))))
    numpy, streamkit = (statistics.median(times) for times in seconds.values())
    extra = streamkit - numpy
    print(
        f"import streamkit: {streamkit * 1e3:.0f} ms, import numpy: {numpy * 1e3:.0f} ms, "
        f"difference {extra * 1e3:.0f} ms (limit {LIMIT_SECONDS * 1e3:.0f} ms)"
    )
    if loaded:
        print(f"FAIL import streamkit loads {loaded}; import it where it is used")
    if extra >= LIMIT_SECONDS:
        print("FAIL import streamkit is too slow; look with: python -X importtime -c ...")
    return int(bool(loaded) or extra >= LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
