"""Speed, as ratios to limits measured in the same run: `python -m benchmarks [CASE ...]`.

A case is a module with a function `run(settings) -> Iterator[Result]`; `__main__` lists them.
`measure` has what they share, `reading` the race between a loader and a limit over the same rows.
"""
