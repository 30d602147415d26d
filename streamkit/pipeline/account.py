"""Counting the bad samples that were replaced or masked, as their batches are handed out."""

from __future__ import annotations

import warnings

from streamkit.errors import SampleError
from streamkit.pipeline.faults import too_many
from streamkit.pipeline.options import Recipe
from streamkit.pipeline.stats import Counters


class Account:
    """Counts bad samples up to `max_errors`, and warns at the first."""

    def __init__(self, recipe: Recipe, counters: Counters):
        self._recipe, self._counters = recipe, counters

    def __call__(self, bad: tuple[SampleError, ...]) -> None:
        """Count the bad samples of a batch that is about to be handed out.

        Raises:
            SampleError: They are more than `max_errors` allows; none of them is counted.
        """
        counters, allowed = self._counters, self._recipe.max_errors
        total = counters.errors + len(bad)
        if allowed is not None and total > allowed:
            raise too_many(bad[allowed - counters.errors], allowed)
        first, counters.errors = counters.errors == 0, total
        if first:
            _warn_of_bad(bad[0], self._recipe.on_error)


def _warn_of_bad(error: SampleError, on_error: str) -> None:
    done = "replaced" if on_error == "replace" else "masked"
    warnings.warn(
        f"{error}. It was {done}, and so will be others; loader.stats.errors counts them",
        stacklevel=5,
    )
