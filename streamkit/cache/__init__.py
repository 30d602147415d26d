"""Chunks kept near the process: which stay open, and which are let go of."""

from streamkit.cache.pool import OpenPool

__all__ = ["OpenPool"]
