"""Leaves of encoded media: audio, video, TIFF and other bytes that a decoder understands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamkit.errors import FormatError


@dataclass(frozen=True)
class Media:
    """Encoded bytes and the kind of media that they are.

    Attributes:
        data: The encoded bytes.
        kind: A free name such as "audio/wav"; all values of a column have one kind.

    Raises:
        ValueError: `kind` is no str, or empty.
        TypeError: `data` is not bytes.
    """

    data: bytes
    kind: str

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not self.kind:
            raise ValueError(f"kind={self.kind!r} must be a str that is not empty ('audio/wav')")
        if not isinstance(self.data, (bytes, bytearray, memoryview)):
            raise TypeError(f"sk.Media needs encoded bytes, not {type(self.data).__name__}")
        object.__setattr__(self, "data", bytes(self.data))

    def __repr__(self) -> str:
        return f"<Media {self.kind!r}: {len(self.data):,} bytes>"


def decode_media(data: bytes, kind: str, decoders: Mapping[str, Callable[[bytes], Any]]) -> Any:
    """Decode with the decoder for this kind, or give `Media` where there is none.

    Args:
        data: The encoded bytes.
        kind: The kind of the column.
        decoders: Functions from bytes to a value, by kind, as given when the dataset was opened;
            called from several threads at once.

    Raises:
        FormatError: The decoder failed; its error is the `__cause__`.
    """
    decode = decoders.get(kind)
    if decode is None:
        return Media(data, kind)
    try:
        return decode(data)
    except Exception as error:
        raise FormatError(
            f"the decoder of kind {kind!r} failed on {len(data):,} bytes: "
            f"{type(error).__name__}: {error}"
        ) from error
