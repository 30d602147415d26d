"""Leaves of free form: values that JSON can hold, whatever their structure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from streamkit.errors import FormatError, SchemaError


@dataclass(frozen=True)
class Json:
    """A leaf of free form, stored as JSON; reading gives the value itself.

    NaN and infinities are kept (as Python's json writes them), tuples come back as lists.

    Attributes:
        value: Anything that JSON can hold.
    """

    value: Any


def encode_json(value: Any) -> bytes:
    """Encode a value as UTF-8 JSON.

    Raises:
        SchemaError: JSON cannot hold it.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise SchemaError(f"a {type(value).__name__} that JSON cannot hold: {error}") from error


def decode_json(data: bytes) -> Any:
    """Decode UTF-8 JSON.

    Raises:
        FormatError: The bytes are not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from error
