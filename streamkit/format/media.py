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
    """

    data: bytes
    kind: str

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not self.kind:
            raise ValueError(f"kind={self.kind!r} must be a name such as 'audio/wav'")
        if not isinstance(self.data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes, not {type(self.data).__name__}")
        object.__setattr__(self, "data", bytes(self.data))

    def __repr__(self) -> str:
        return f"<Media {self.kind!r}: {len(self.data):,} bytes>"


def decode_media(data: bytes, kind: str, decoders: Mapping[str, Callable[[bytes], Any]]) -> Any:
    """Decode with the decoder for this kind, or give `Media` where there is none.

    Raises:
        FormatError: The decoder failed.
    """
    decode = decoders.get(kind)
    if decode is None:
        return Media(data, kind)
    try:
        return decode(data)
    except Exception as error:
        raise FormatError(f"{len(data):,} bytes of {kind!r} do not decode: {error}") from error
