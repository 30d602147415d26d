"""Speed, as ratios to limits measured in the same run: `python -m benchmarks [CASE ...]`.

Each module with a function `run(settings) -> Iterator[Result]` is a case; `measure` has what they
share, `reading` the race between a loader and a limit over the same rows.
"""
