"""How stored values are read: what `sk.open` was told, in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamkit.format.images import ImageOptions

DEFAULT_OPEN_CHUNKS = 4096
DEFAULT_CACHE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class ReadOptions:
    """How stored values are read.

    Attributes:
        verify: Check each frame before its first use.
        allow_pickle: Load pickled columns, which runs code that the dataset brings.
        images: How images are decoded.
        decoders: Per kind of media, a function from bytes to a value.
        max_open_chunks: The most chunks kept open.
        cache_bytes: The most memory for chunks that cannot be mapped.
    """

    verify: bool = True
    allow_pickle: bool = False
    images: ImageOptions = field(default_factory=ImageOptions)
    decoders: Mapping[str, Callable[[bytes], Any]] = field(default_factory=dict)
    max_open_chunks: int = DEFAULT_OPEN_CHUNKS
    cache_bytes: int = DEFAULT_CACHE_BYTES

    def __post_init__(self) -> None:
        if type(self.max_open_chunks) is not int or self.max_open_chunks < 1:
            raise ValueError(f"max_open_chunks={self.max_open_chunks!r} must be at least 1")
        if not isinstance(self.images, ImageOptions):
            raise TypeError(f"images={self.images!r} must be sk.ImageOptions(...)")
