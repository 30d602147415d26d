"""The state of a loader: one position, and what it is a position of.

```
{"version": 1, "position": 30000, "anchor": [0, 0], "batch_size": 256, "remainder": "drop",
 "num_samples": 50000, "epochs": 1, "seed": 0, "shuffle": "ChunkShuffle(window=64)",
 "fingerprint": "..."}
```

It is JSON, the same on every process, under 1 kB, and independent of the size of the data. Nothing
in it depends on processes, threads or what has been prefetched.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from streamkit.errors import StateMismatchError
from streamkit.pipeline.steps import Anchor, Remainder, Steps

VERSION = 1
OnChange = Literal["raise", "next_epoch"]
_MAX_TEXT = 200
_KEYS = {
    "version",
    "position",
    "anchor",
    "batch_size",
    "remainder",
    "num_samples",
    "epochs",
    "seed",
    "shuffle",
    "fingerprint",
}


@dataclass(frozen=True)
class Identity:
    """What a position belongs to; a state is valid for one identity only.

    Attributes:
        fingerprint: Of the dataset's content and layout.
        num_samples: Samples of one epoch.
        epochs: Epochs of a pass; None without end.
        seed: The stream's seed.
        shuffle: The shuffle, as text.
    """

    fingerprint: str
    num_samples: int
    epochs: int | None
    seed: int
    shuffle: str


def make_state(identity: Identity, steps: Steps, position: int) -> dict[str, Any]:
    """The state at a position."""
    return {
        "version": VERSION,
        "position": position,
        "anchor": [steps.anchor.step, steps.anchor.position],
        "batch_size": steps.batch_size,
        "remainder": steps.remainder,
        "num_samples": identity.num_samples,
        "epochs": identity.epochs,
        "seed": identity.seed,
        "shuffle": _short(identity.shuffle),
        "fingerprint": _short(identity.fingerprint),
    }


def restore(
    state: Any,
    identity: Identity,
    steps: Steps,
    *,
    on_change: OnChange,
    prefix_fingerprint: Callable[[int], str | None],
) -> tuple[Steps, int]:
    """Find where a state goes on.

    Args:
        state: What `make_state` gave, perhaps in another process and with another batch size.
        identity: The loader's.
        steps: The loader's steps; their anchor does not matter.
        on_change: What to do when the dataset was appended to.
        prefix_fingerprint: The fingerprint that the dataset's first samples had before an append.

    Returns:
        The steps to count on with, and the position.

    Raises:
        StateMismatchError: The state is of other data or another order, or is no state; the
            message says what differs, with both values.
        TypeError: It is no dict.
        ValueError: `on_change` is unknown.
    """
    if on_change not in get_args(OnChange):
        raise ValueError(f'on_change (={on_change!r:.80}) must be "raise" or "next_epoch"')
    saved, old, position = _checked(state)
    changes = _changes(saved, identity)
    step = old.step_at(position)
    if not changes:
        unmoved = old.batch_size == steps.batch_size and old.remainder == steps.remainder
        if unmoved and old.start(step) == old.settle(position):
            return old, old.settle(position)
    else:
        appended = (
            set(changes) <= {"fingerprint", "num_samples"}
            and saved.num_samples < identity.num_samples
            and _short(prefix_fingerprint(saved.num_samples) or "") == saved.fingerprint
        )
        if not appended or on_change == "raise":
            raise StateMismatchError(_explain(changes, appended))
        epoch = -(-position // saved.num_samples)
        position = epoch * identity.num_samples
    moved = steps.resumed_at(step, position)
    return moved, moved.anchor.position


def _changes(saved: Identity, identity: Identity) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, with the saved value and the loader's."""
    changes = {}
    for name in ("fingerprint", "num_samples", "epochs", "seed", "shuffle"):
        value = getattr(identity, name)
        now = _short(value) if isinstance(value, str) else value
        if getattr(saved, name) != now:
            changes[name] = (getattr(saved, name), now)
    return changes


def _explain(changes: dict[str, tuple[Any, Any]], appended: bool) -> str:
    listed = "; ".join(
        f"{name}: the state has {then!r}, this loader {now!r}"
        for name, (then, now) in changes.items()
    )
    if appended:
        return (
            f"the dataset was appended to since the state was saved ({listed}). "
            'load_state_dict(state, on_change="next_epoch") goes on with the grown dataset at the '
            "start of its next epoch"
        )
    return (
        f"the state does not belong to this loader ({listed}). Build the loader as it was when the "
        "state was saved, or start anew without the state"
    )


def _checked(state: Any) -> tuple[Identity, Steps, int]:
    """Take a state apart."""
    if not isinstance(state, Mapping):
        raise TypeError(f"a state is the dict that state_dict() gave, got {state!r:.80}")
    if "version" in state and state["version"] != VERSION:
        raise StateMismatchError(
            f"the state has version {state['version']!r:.80}, this streamkit reads {VERSION}; "
            "load it with the version that saved it"
        )
    if state.keys() != _KEYS:
        raise StateMismatchError(
            f"the state is not one of a Loader: missing {sorted(_KEYS - state.keys())}, "
            f"unknown {sorted(map(str, state.keys() - _KEYS))}"
        )
    epochs = None if state["epochs"] is None else _number(state, "epochs", minimum=1)
    identity = Identity(
        _text(state, "fingerprint"),
        _number(state, "num_samples", minimum=1),
        epochs,
        _number(state, "seed"),
        _text(state, "shuffle"),
    )
    anchor = state["anchor"]
    if not isinstance(anchor, (list, tuple)) or len(anchor) != 2:
        raise StateMismatchError(
            f'the state\'s "anchor" (={anchor!r:.80}) must be [step, position]'
        )
    pair = {"anchor step": anchor[0], "anchor position": anchor[1]}
    begin = Anchor(_number(pair, "anchor step"), _number(pair, "anchor position"))
    remainder = _text(state, "remainder")
    if remainder not in get_args(Remainder):
        raise StateMismatchError(f'the state\'s "remainder" (={remainder!r:.80}) is unknown')
    position = _number(state, "position")
    if position < begin.position:
        raise StateMismatchError(
            f"the state's position (={position}) lies before its anchor (={begin.position})"
        )
    batch_size = _number(state, "batch_size", minimum=1)
    try:
        steps = Steps(identity.num_samples, epochs, batch_size, remainder, begin)  # type: ignore[arg-type]
    except ValueError as error:
        raise StateMismatchError(f"the state contradicts itself: {error}") from error
    return identity, steps, position


def _number(state: Mapping[str, Any], name: str, *, minimum: int = 0) -> int:
    value = state[name]
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not minimum <= number < 1 << 64:
        raise StateMismatchError(
            f'the state\'s "{name}" (={value!r:.80}) must be a whole number >= {minimum}'
        )
    return number


def _text(state: Mapping[str, Any], name: str) -> str:
    if not isinstance(state[name], str):
        raise StateMismatchError(f'the state\'s "{name}" (={state[name]!r:.80}) must be a text')
    return str(state[name])


def _short(text: str) -> str:
    """The text, or its hash if it would make the state large."""
    if len(text) <= _MAX_TEXT:
        return text
    from hashlib import blake2b  # takes time to import, and is seldom needed

    return f"blake2b:{blake2b(text.encode(), digest_size=16).hexdigest()}"
