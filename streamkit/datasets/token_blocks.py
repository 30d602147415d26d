"""Token blocks: all documents laid end to end and cut into rows of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from streamkit.datasets.base import (
    Allocate,
    ArraySpec,
    Batch,
    Dataset,
    Indices,
    Place,
    Sample,
    as_indices,
)
from streamkit.datasets.items import item_line
from streamkit.datasets.stored import StoredDataset


class TokenBlocks(Dataset):
    """Contiguous blocks of tokens across documents and chunks: `{"tokens": [block_size]}`.

    Block b is tokens `[b * block_size, (b + 1) * block_size)` of all documents end to end, in the
    order in which they were written. No token is dropped but the tail that fills no block.

    ```
    documents   |a a a|b b b b b|c c|d d d|      block_size = 4
    blocks      |a a a b|b b b b|c c d d|        the last d is the tail
    ```

    Args:
        dataset: A stored dataset, or a split, subset, sample or concat of some.
        block_size: Tokens in a block.
        column: The ragged 1-D column of integers that holds the tokens of a document.
        dtype: The dtype that blocks have; a token that it cannot hold is a `ValueError` when it
            is read. None keeps the stored dtype.

    Raises:
        KeyError: There is no such column.
        ValueError: The column is not 1-D integers, or the data is shorter than one block.
    """

    def __init__(
        self,
        dataset: Dataset,
        block_size: int,
        *,
        column: str = "tokens",
        dtype: DTypeLike | None = np.int32,
    ):
        if isinstance(block_size, bool) or not isinstance(block_size, (int, np.integer)):
            raise TypeError(f"block_size={block_size!r} must be an integer")
        if block_size < 1:
            raise ValueError(f"block_size (={block_size}) must be at least 1")
        self._dataset, self._block_size, self._column = dataset, int(block_size), column
        self._line = item_line(dataset, column)
        item = self._line.item
        if item.item_shape or item.dtype.kind not in "iu":
            raise ValueError(
                f'column "{column}" is {item.describe()}; blocks need a 1-D column of integers'
            )
        self._dtype = item.dtype if dtype is None else np.dtype(dtype)
        if self._dtype.kind not in "iu":
            raise ValueError(f"dtype={self._dtype} must be an integer dtype")
        self._num_blocks = len(self._line) // self._block_size
        if self._num_blocks == 0:
            raise ValueError(
                f"block_size (={block_size:,}) must be <= the {len(self._line):,} tokens of column "
                f'"{column}"'
            )

    def __repr__(self) -> str:
        return f"TokenBlocks({self._dataset!r}, block_size={self._block_size})"

    def __len__(self) -> int:
        return self._num_blocks

    @property
    def element_spec(self) -> Any:
        """`{"tokens": ArraySpec((block_size,), dtype)}`."""
        return {self._column: ArraySpec((self._block_size,), self._dtype)}

    @property
    def chunk_sizes(self) -> Indices:
        """Blocks that begin in each chunk, int64 `[chunks]`.

        Over a view it is one number for each run of documents from one chunk.
        """
        first = -(-self._line.chunk_starts // self._block_size)
        return np.diff(np.minimum(first, self._num_blocks))

    @property
    def fingerprint(self) -> str:
        """A hash of the documents, the column and the block size; dtype is not in it."""
        return self._fingerprint_over(self._dataset.fingerprint)

    @property
    def bytes_read(self) -> int:
        """Bytes of samples handed out by the datasets below."""
        return sum(dataset.bytes_read for dataset in self._line.datasets)

    def locate(self, indices: Any) -> Indices:
        """The chunks that blocks need: sorted distinct chunk numbers, int64."""
        size = self._block_size
        blocks = as_indices(indices, len(self)).tolist()
        found = [self._line.chunks_between(b * size, (b + 1) * size) for b in blocks]
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))

    def gather(self, indices: Any, *, at: Place | None = None) -> Batch:
        """Read blocks as one batch: `{"tokens": [rows, block_size]}`."""
        return self.gather_batches([as_indices(indices, len(self))])[0]

    def gather_batches(
        self,
        batches: Sequence[Indices],
        *,
        places: Sequence[Place] | None = None,
        allocate: Allocate | None = None,
    ) -> list[Batch]:
        """Read many batches at once; see `Dataset.gather_batches`."""
        if not batches:
            return []
        ends = np.cumsum([len(indices) for indices in batches]).tolist()
        together = np.concatenate(batches) if len(batches) != 1 else batches[0]
        starts = as_indices(together, len(self)) * self._block_size
        stored = self._line.item.dtype
        if np.can_cast(stored, self._dtype):
            gathered = self._line.gather(starts, ends, self._block_size, self._dtype, allocate)
        else:
            wide = self._line.gather(starts, ends, self._block_size, stored)
            gathered = [self._narrowed(tokens, allocate) for tokens in wide]
        return [{self._column: tokens} for tokens in gathered]

    def _narrowed(self, tokens: NDArray[Any], allocate: Allocate | None) -> NDArray[Any]:
        """Tokens in a dtype that does not hold all that the stored one does, if these fit."""
        limits = np.iinfo(self._dtype)
        if tokens.size and (int(tokens.min()) < limits.min or int(tokens.max()) > limits.max):
            raise ValueError(
                f'column "{self._column}" holds a token of {int(tokens.max())} (the least is '
                f"{int(tokens.min())}), which dtype={self._dtype} cannot hold; use dtype=None"
            )
        out = (
            np.empty(tokens.shape, self._dtype)
            if allocate is None
            else allocate(tokens.shape, self._dtype)
        )
        out[...] = tokens
        return out

    def prefix_fingerprint(self, num_samples: int) -> str | None:
        """The fingerprint that the first `num_samples` blocks had before an append."""
        if not isinstance(self._dataset, StoredDataset):
            return super().prefix_fingerprint(num_samples)
        blocks = self._line.starts // self._block_size
        chunks = np.flatnonzero(blocks == num_samples)
        if not len(chunks):
            return None
        return self._fingerprint_over(self._dataset.index.fingerprint_of(int(chunks[0])))

    def _fingerprint_over(self, documents: str) -> str:
        view = f"TokenBlocks:{self._block_size}:{self._column}:{documents}"
        return xxhash.xxh3_128_hexdigest(view.encode())

    def samples(self, indices: Indices, *, at: Place | None = None) -> list[Sample]:
        """Read blocks one tree each: `{"tokens": [block_size]}`."""
        tokens = self.gather(indices)[self._column]
        return [{self._column: row} for row in tokens]

    def close(self) -> None:
        """Let go of the chunks of the dataset."""
        self._dataset.close()
