from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.pipeline.steps import Anchor, Steps


@st.composite
def all_steps(draw: st.DrawFn) -> Steps:
    n = draw(st.integers(1, 30))
    epochs = draw(st.sampled_from([1, 2, 3, None]))
    remainder = draw(st.sampled_from(["drop", "pad", "keep"]))
    most = n * epochs if remainder == "drop" and epochs else 40
    return Steps(n, epochs, draw(st.integers(1, most)), remainder)


def walk(steps: Steps, count: int) -> list[tuple[int, int]]:
    """The obvious way: position and rows of each step, one after the other."""
    position, found = steps.anchor.position, []
    while len(found) < count:
        if steps.pass_size is None:
            rows = steps.batch_size
        else:
            left = steps.pass_size - position % steps.pass_size
            rows = min(left, steps.batch_size)
            if rows < steps.batch_size and steps.remainder == "drop":
                position += left
                continue
        found.append((position, rows))
        position += rows
    return found


@given(all_steps(), st.integers(0, 50))
def test_the_arithmetic_agrees_with_walking(steps: Steps, count: int) -> None:
    for step, (position, rows) in enumerate(walk(steps, count)):
        assert steps.start(step) == position
        assert steps.num_rows(step) == rows
        assert steps.step_at(position) == step


@given(all_steps(), st.integers(0, 40), st.integers(1, 40), st.integers(1, 30))
def test_steps_count_on_from_an_anchor(steps: Steps, at: int, size: int, count: int) -> None:
    position = steps.start(at)
    if steps.remainder == "drop" and steps.pass_size is not None:
        size = min(size, steps.pass_size)
    other = Steps(steps.num_samples, steps.epochs, size, steps.remainder)
    resumed = other.resumed_at(at, position)
    for step, (start, rows) in enumerate(walk(resumed, count), at):
        assert (resumed.start(step), resumed.num_rows(step)) == (start, rows)
        assert resumed.step_at(start) == step


@given(all_steps(), st.integers(0, 50))
def test_after_a_step_comes_the_start_of_the_next(steps: Steps, step: int) -> None:
    assert steps.after(step) == steps.start(step + 1)
    end = steps.pass_end(step)
    assert end is None or (end > step and steps.start(end) % (steps.pass_size or 1) == 0)


@given(all_steps())
def test_a_padded_batch_repeats_samples_of_its_last_epoch(steps: Steps) -> None:
    if steps.remainder != "pad" or steps.steps_per_pass is None or steps.pass_size is None:
        return
    cut = steps.positions(0, steps.steps_per_pass, seed=3)[-1]
    assert cut.positions.shape[1] == steps.batch_size
    repeats = cut.positions[-1, cut.rows :]
    assert (repeats >= steps.pass_size - steps.num_samples).all()
    assert (repeats < steps.pass_size).all()
    again = steps.positions(0, steps.steps_per_pass, seed=3)[-1]
    np.testing.assert_array_equal(again.positions, cut.positions)


def test_the_drawn_example() -> None:
    steps = Steps(10, 1, 4, "drop")
    assert [steps.start(step) for step in range(5)] == [0, 4, 10, 14, 20]
    assert [steps.after(step) for step in range(4)] == [4, 10, 14, 20]
    assert steps.steps_per_pass == 2


def test_a_step_before_the_anchor_is_no_step() -> None:
    steps = Steps(10, 1, 4, "drop", Anchor(3, 12))
    with pytest.raises(IndexError, match="count from step 3 at position 12"):
        steps.start(2)


def test_no_batch_at_all_is_an_error_that_names_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"batch_size \(=11\).*an epoch \(=10 samples\).*pad"):
        Steps(10, 1, 11, "drop")
    with pytest.raises(ValueError, match="a pass of 2 epochs"):
        Steps(10, 2, 21, "drop")
