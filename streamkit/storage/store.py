"""Bytes by key: what every kind of storage does, and the two that need no network.

A store is rooted at a URL; keys are relative, with "/" between parts. Objects are immutable and
written whole, but for the one that `replace` swaps. A store knows no chunk and no index.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote

import xxhash

from streamkit.errors import WriteConflictError

TEMPORARY_PREFIX = ".tmp-"
_MAX_BUFFERS = 512  # the smallest IOV_MAX in use is 1024


@runtime_checkable
class Store(Protocol):
    """Bytes by key. All methods may be called from several threads at once.

    `read` and `size` raise `FileNotFoundError` for a key that is not there.
    """

    @property
    def url(self) -> str:
        """Where the store is, without credentials."""
        ...

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes `[start, stop)`; fewer where the object ends before."""
        ...

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several ranges `[start, stop)` of one object."""
        ...

    def size(self, key: str) -> int:
        """Bytes of an object."""
        ...

    def write(self, key: str, parts: Iterable[Any]) -> None:
        """Store a new object durably: afterwards it is there whole, before that not at all."""
        ...

    def read_version(self, key: str) -> tuple[bytes, str]:
        """Read an object, and a token of the version that was read."""
        ...

    def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
        """Swap an object in one step, if it still is the version `expected` (None: not there).

        Raises:
            WriteConflictError: It is another version; nothing was changed.
        """
        ...

    def list(self) -> Iterator[str]:
        """All keys, those of unfinished writes too."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def path(self, key: str) -> str | None:
        """The object as a local file that can be mapped, or None."""
        ...


class LocalStore:
    """A directory.

    Objects are written to a temporary file, synced, and renamed into place; the directory is
    synced too. `replace` holds a lock (`flock`) on the directory, which dies with its process.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self._root = Path(root).absolute()

    def __repr__(self) -> str:
        return f"LocalStore({str(self._root)!r})"

    @property
    def url(self) -> str:
        """The directory's absolute path."""
        return str(self._root)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes `[start, stop)`; fewer where the object ends before."""
        with open(self._root / key, "rb") as file:
            file.seek(start)
            return file.read() if stop is None else file.read(max(stop - start, 0))

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several ranges `[start, stop)` of one object."""
        parts = []
        with open(self._root / key, "rb") as file:
            for start, stop in ranges:
                file.seek(start)
                parts.append(file.read(max(stop - start, 0)))  # one pread ends at 2 GiB
        return parts

    def size(self, key: str) -> int:
        """Bytes of an object."""
        return os.stat(self._root / key).st_size

    def write(self, key: str, parts: Iterable[Any]) -> None:
        """Store a new object durably: afterwards it is there whole, before that not at all."""
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._temporary(path) as temporary:
            _write_synced(temporary, parts)
            os.replace(temporary, path)
        _sync_directory(path.parent)

    def read_version(self, key: str) -> tuple[bytes, str]:
        """Read an object, and a token of the version that was read."""
        data = self.read(key)
        return data, _token(data)

    def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
        """Swap an object in one step, if it still is the version `expected` (None: not there)."""
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._temporary(path) as temporary:
            _write_synced(temporary, [data])
            with _locked(path.parent):
                if self._version(key) != expected:
                    raise WriteConflictError(
                        f"{path}: another writer published while this one was writing; nothing of "
                        "this one was published. Open the dataset again and repeat the write"
                    )
                os.replace(temporary, path)
            _sync_directory(path.parent)

    def list(self) -> Iterator[str]:
        """All keys, those of unfinished writes too."""
        for folder, _, names in os.walk(self._root):
            for name in names:
                yield (Path(folder) / name).relative_to(self._root).as_posix()

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._root / key)

    def path(self, key: str) -> str | None:
        """The object as a local file."""
        return str(self._root / key)

    def _version(self, key: str) -> str | None:
        try:
            return _token(self.read(key))
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _temporary(self, path: Path) -> Iterator[Path]:
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        try:
            yield temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


class MemoryStore:
    """Objects in this process's memory: for tests, and for data that no disk should see."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._objects)} objects>"

    def __getstate__(self) -> dict[str, bytes]:
        return dict(self._objects)

    def __setstate__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """A name for errors; it opens nothing."""
        return "memory"

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes `[start, stop)`; fewer where the object ends before."""
        return self._get(key)[start:stop]

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read several ranges `[start, stop)` of one object."""
        data = self._get(key)
        return [data[start:stop] for start, stop in ranges]

    def size(self, key: str) -> int:
        """Bytes of an object."""
        return len(self._get(key))

    def write(self, key: str, parts: Iterable[Any]) -> None:
        """Store a new object: afterwards it is there whole, before that not at all."""
        self._objects[key] = b"".join(bytes(part) for part in parts)

    def read_version(self, key: str) -> tuple[bytes, str]:
        """Read an object, and a token of the version that was read."""
        data = self._get(key)
        return data, _token(data)

    def replace(self, key: str, data: bytes, *, expected: str | None) -> None:
        """Swap an object in one step, if it still is the version `expected` (None: not there)."""
        with self._lock:
            current = self._objects.get(key)
            if (None if current is None else _token(current)) != expected:
                raise WriteConflictError(f"memory, {key}: another writer published first")
            self._objects[key] = bytes(data)

    def list(self) -> Iterator[str]:
        """All keys."""
        return iter(list(self._objects))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        self._objects.pop(key, None)

    def path(self, key: str) -> str | None:
        """None: there is no file."""
        return None

    def _get(self, key: str) -> bytes:
        try:
            return self._objects[key]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such object in memory", key) from None


def open_store(url: str | os.PathLike[str] | Store) -> Store:
    """The store at a path or URL; a store is handed through.

    Raises:
        ValueError: A URL whose scheme this version does not read.
        TypeError: Neither a path, a URL nor a store.
    """
    if isinstance(url, Store) and not isinstance(url, (str, os.PathLike)):
        return url
    if not isinstance(url, (str, os.PathLike)):
        raise TypeError(f"url={url!r:.80} must be a path, a URL or a store")
    text = os.fspath(url)
    if not text:
        raise ValueError('url="" is empty; name a directory')
    scheme, found, rest = text.partition("://")
    if not found:
        return LocalStore(text)
    if scheme == "file":
        host, _, path = rest.partition("/")
        if host not in ("", "localhost"):
            raise ValueError(f"url={text!r}: a file:// URL of this machine begins with file:///")
        return LocalStore("/" + unquote(path))
    raise ValueError(f"url={text!r}: this version reads local paths and file:// URLs only")


def _token(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def _write_synced(path: Path, parts: Iterable[Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        views = [memoryview(part).cast("B") for part in parts if len(part)]
        while views:
            written = os.writev(descriptor, views[:_MAX_BUFFERS])
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    """Make a rename durable; some network file systems cannot, and need not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the directory's lock, which the kernel lets go of when the process ends."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
