"""The commit protocol: new objects under new names, then one index in one atomic step.

```
1  read the index that is there, and its version       nothing to see yet
2  store chunks and sidecars, names never used before  readers see the old dataset
3  swap the index, if its version is still that of 1   readers see the new dataset
4  "overwrite" only: delete the old objects
```

A process that dies at any point leaves the old dataset or the new one. Objects of a writer that
was killed stay as orphans that no index names; everything else removes what it stored. Nothing
that this writer did not store is touched, but for step 4.
"""

from __future__ import annotations

import secrets
import threading
import warnings
from collections.abc import Iterable
from typing import Any, Literal

from streamkit.errors import FormatError
from streamkit.format.index import INDEX_NAME, Index
from streamkit.storage import Store

WriteMode = Literal["create", "append", "overwrite"]


class Commit:
    """One attempt to publish a version of a dataset.

    Attributes:
        mode: What is done to the dataset that is there.
        old: The index that is there, or None.
    """

    def __init__(self, store: Store, mode: WriteMode):
        if mode not in ("create", "append", "overwrite"):
            raise ValueError(f'mode={mode!r} must be "create", "append" or "overwrite"')
        self.mode = mode
        self._store = store
        self.old, self._version = self._read_target()
        self._prefix = secrets.token_hex(6)
        self._stored: list[str] = []
        # A store that runs in the background must not add objects after `abort` removed them.
        self._lock = threading.Lock()
        self._aborted = False
        self._tried = False

    def new_name(self, suffix: str) -> str:
        """A name that no other writer uses, and this one only for this suffix."""
        return f"{self._prefix}-{suffix}"

    def store(self, name: str, parts: Iterable[Any]) -> None:
        """Store an object under a name from `new_name`."""
        with self._lock:
            if self._aborted:
                raise ValueError("the write was given up")
            self._stored.append(name)
            self._store.write(name, parts)

    def publish(self, index: Index, *, keep_old: bool = False) -> None:
        """Swap the index, then remove the objects that "overwrite" replaced.

        Raises:
            WriteConflictError: Another writer published since this one began.
        """
        data = index.to_bytes()
        self._tried = True
        self._store.replace(INDEX_NAME, data, expected=self._version)
        self._tried, self._stored = False, []
        if self.mode == "overwrite" and self.old is not None and not keep_old:
            self._delete(self.old.object_names)

    def _delete(self, names: set[str]) -> None:
        """Remove the objects of the old version; the new one is published whatever happens."""
        left: list[str] = []
        for name in sorted(names):
            try:
                self._store.delete(name)
            except OSError:
                left.append(name)
        if left:
            warnings.warn(
                f"{self._store.url}: the new dataset is published, but {len(left):,} objects of "
                f"the old one could not be deleted ({left[0]}, ...); they only take space",
                stacklevel=4,
            )

    def abort(self) -> None:
        """Remove what was stored and not published."""
        with self._lock:
            self._aborted = True
            stored, self._stored = self._stored, []
            # `publish` may have failed, or been interrupted, after the index was swapped.
            if self._tried and self._is_published(stored):
                return
            for name in stored:
                self._store.delete(name)

    def _read_target(self) -> tuple[Index | None, str | None]:
        where = self._store.url
        try:
            data, version = self._store.read_version(INDEX_NAME)
        except FileNotFoundError:
            if self.mode == "append":
                raise FileNotFoundError(
                    f'{where}: mode="append" needs a dataset, and there is none'
                ) from None
            self._refuse_if_filled(where)
            return None, None
        if self.mode == "create":
            raise FileExistsError(
                f'{where}: mode="create" needs an empty target, and this holds a dataset; use '
                'another target, or mode="append" or "overwrite"'
            )
        try:
            return Index.from_bytes(data, f"{where}/{INDEX_NAME}"), version
        except FormatError:
            if self.mode == "append":
                raise
            return None, version  # what is damaged can be written over; its objects are not known

    def _refuse_if_filled(self, where: str) -> None:
        if self.mode != "create":
            return
        first = next(iter(self._store.list()), None)
        if first is not None:
            raise FileExistsError(
                f'{where}: mode="create" needs an empty target, and this holds {first!r} and no '
                "index (the rest of a killed writer?); use another target, empty this one, or say "
                'mode="overwrite", which leaves such files alone'
            )

    def _is_published(self, names: list[str]) -> bool:
        try:
            index = Index.from_bytes(self._store.read(INDEX_NAME), INDEX_NAME)
        except FileNotFoundError:
            return False
        except (OSError, FormatError):
            return True  # not to be told: what may be in use is not removed
        # Another writer may have appended to what was published here, so its index counts too.
        return not index.object_names.isdisjoint(names)
