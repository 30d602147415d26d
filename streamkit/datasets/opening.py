"""Opening the chunks of one version of a dataset, and saying why one is gone.

It refers to no dataset, so that chunks that keep it keep no dataset alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamkit.errors import DatasetChangedError, FormatError
from streamkit.format.chunk import Chunk
from streamkit.format.index import INDEX_NAME, Index
from streamkit.storage import Store


@dataclass(frozen=True)
class ChunkOpener:
    """Opens chunks by number.

    Attributes:
        store: Where they lie.
        index: The version of the dataset that is open.
        verify: Whether frames are checked before their first use.
    """

    store: Store
    index: Index
    verify: bool

    def __call__(self, number: int) -> Chunk:
        """Open a chunk.

        Raises:
            DatasetChangedError: Another version was published, and the chunk is gone.
            FormatError: It is not what the index says.
        """
        chunks = self.index.chunks
        try:
            return Chunk.open(
                self.store,
                chunks,
                number,
                [self.index.schema],
                verify=self.verify,
                missing=self.missing,
            )
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self.missing([chunks.names[number]]) from error

    def missing(self, names: Sequence[str]) -> Exception:
        """Make the error for an object that is gone: was the dataset replaced, or is it damaged?

        Args:
            names: The object, or several of which one is gone.
        """
        where = self.store.url
        try:
            now = Index.from_bytes(self.store.read(INDEX_NAME), where)
            changed = not now.object_names.issuperset(names)
        except (OSError, FormatError):
            changed = True
        if changed:
            return DatasetChangedError(
                f"{where}: {names[0]} is gone, since another version was published over the one "
                "that is open; open the dataset again (keep_old=True keeps chunks for open readers)"
            )
        return FormatError(
            f"{where}: {names[0]} (or one that follows) is missing, though the index names it; "
            "copy the dataset again"
        )
