"""Leaves of free form: values that JSON can hold, whatever their structure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from streamkit.errors import FormatError, SchemaError


@dataclass(frozen=True)
class Json:
    """A leaf of free form, stored as JSON; reading gives the value itself.

    NaN and infinities are kept, as Python's json writes them (`NaN`, `Infinity`), though strict
    readers of JSON refuse them. Tuples come back as lists. Keys must be str: JSON has no others,
    and a number would come back as a str.

    Attributes:
        value: Nested dict, list and tuple of str, int, float, bool and None.
    """

    value: Any


def encode_json(value: Any) -> bytes:
    """Encode a value as UTF-8 JSON.

    Raises:
        SchemaError: JSON cannot hold it; names the place and the type.
    """
    try:
        misfit = _misfit(value, "value")
        if misfit is None:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except RecursionError:
        misfit = "value is nested too deeply, or holds itself"
    except ValueError as error:  # half a surrogate pair, or an int of more than 4,300 digits
        misfit = f"value cannot be written ({error})"
    raise SchemaError(
        f"sk.Json: {misfit}; JSON holds dict with keys of str, list, tuple, str, int, float, bool "
        "and None"
    )


def decode_json(data: bytes) -> Any:
    """Decode UTF-8 JSON.

    Raises:
        FormatError: The bytes are not UTF-8, or not JSON, or nested too deeply.
    """
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{len(data):,} bytes that should be JSON are not: {error}") from error


def _misfit(value: Any, place: str) -> str | None:
    """What JSON cannot hold in a value, and where; None if it can hold all of it."""
    if value is None or isinstance(value, (str, int, float)):
        return None
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                return f"{place} has the key {key!r:.60} of type {type(key).__name__}"
            found = _misfit(item, f"{place}[{key!r}]")
            if found:
                return found
        return None
    if isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            found = _misfit(item, f"{place}[{number}]")
            if found:
                return found
        return None
    return f"{place} is of type {type(value).__module__}.{type(value).__qualname__}"
