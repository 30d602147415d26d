"""Bytes by URL: read, read ranges, write whole, swap, list, delete. Knows no chunk."""

from streamkit.storage.store import LocalStore, MemoryStore, Store, open_store

__all__ = ["LocalStore", "MemoryStore", "Store", "open_store"]
