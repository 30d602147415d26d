"""A line of pieces: stretches of chunks laid end to end, which can be cut, shuffled and turned.

A line covers `[0, length)` without gaps. Its pieces are parallel arrays, so that every operation is
vectorised and a million chunks take milliseconds. A *section* is a stretch of the line that starts
and ends with a piece; shuffling and turning happen inside the sections and leave their ends alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Line:
    """Pieces end to end; immutable.

    Attributes:
        starts: Where each piece starts on the line, strictly rising from 0, int64 `[pieces]`.
        chunks: The chunk that each piece is a stretch of, int64 `[pieces]`.
        offsets: Where in its chunk each piece starts, int64 `[pieces]`.
        length: The end of the line.
    """

    starts: _I64
    chunks: _I64
    offsets: _I64
    length: int

    @classmethod
    def of_chunks(cls, chunks: _I64, sizes: _I64) -> Line:
        """Lay whole chunks end to end; `sizes[i]` >= 1 is the size of `chunks[i]`."""
        ends = np.cumsum(sizes)
        return cls(ends - sizes, chunks, np.zeros(len(chunks), np.int64), int(ends[-1]))

    @property
    def lengths(self) -> _I64:
        """The number of samples of each piece, `[pieces]`."""
        return np.diff(self.starts, append=self.length)

    def cut(self, at: _I64) -> Line:
        """Cut the pieces that have one of these places inside, given in rising order."""
        places = at[(at > 0) & (at < self.length)]
        places = places[np.diff(places, prepend=-1) > 0]
        following = self.starts.searchsorted(places)
        new = self.starts.take(following, mode="clip") != places
        places, following = places[new], following[new]
        if not len(places):
            return self
        cut = following - 1
        return Line(
            np.insert(self.starts, following, places),
            np.insert(self.chunks, following, self.chunks[cut]),
            np.insert(self.offsets, following, self.offsets[cut] + places - self.starts[cut]),
            self.length,
        )

    def reordered(self, order: NDArray[np.intp]) -> Line:
        """Lay the pieces end to end in another order."""
        lengths = self.lengths[order]
        ends = np.cumsum(lengths)
        return Line(ends - lengths, self.chunks[order], self.offsets[order], self.length)

    def shuffled(self, section_starts: _I64, hashes: NDArray[np.uint64], sizes: _I64) -> Line:
        """Order the whole chunks of each section by their hashes.

        A piece without its chunk's beginning stays at the start of its section, and one without
        its chunk's end stays at the end.

        Args:
            section_starts: Where the sections start, rising; equal ones are empty sections.
            hashes: A hash for each piece, `[pieces]`; equal ones keep their order.
            sizes: The size of the chunk of each piece, `[pieces]`.
        """
        counts = self._pieces_of(section_starts)[1]
        index_bits = (len(self.starts) - 1).bit_length()
        hash_bits = 64 - index_bits - (len(section_starts) - 1).bit_length()
        top = (1 << hash_bits) - 1
        # One sort of (section, hash, index) packed in a number: NumPy sorts numbers several times
        # faster than it argsorts them. The first and last hash are kept for the cut pieces.
        packed = np.clip(hashes >> np.uint64(64 - hash_bits), np.uint64(1), np.uint64(top - 1))
        packed[self.offsets > 0] = 0
        packed[(self.offsets == 0) & (self.lengths < sizes)] = top
        section = np.repeat(np.arange(len(section_starts), dtype=np.uint64), counts)
        packed |= section << np.uint64(hash_bits) if hash_bits < 64 else section
        packed <<= np.uint64(index_bits)
        packed |= np.arange(len(self.starts), dtype=np.uint64)
        packed.sort()
        packed &= np.uint64((1 << index_bits) - 1)
        return self.reordered(packed.astype(np.intp))

    def turned(self, section_starts: _I64, amounts: _I64) -> Line:
        """Turn each section to the left, so that it starts at `section_start + amount`.

        Args:
            section_starts: Where the sections start, rising; equal ones are empty sections.
            amounts: How far to turn each section, in `[0, its length)`, or 0 if it is empty.
        """
        line = self.cut(section_starts + amounts)
        first, counts = line._pieces_of(section_starts)
        shifts = line.starts.searchsorted(section_starts + amounts) - first
        order = np.arange(len(line.starts)) + np.repeat(shifts, counts)
        past = order >= np.repeat(first + counts, counts)
        order -= np.where(past, np.repeat(counts, counts), 0)
        return line.reordered(order)

    def _pieces_of(self, section_starts: _I64) -> tuple[_I64, _I64]:
        """Find the first piece of each section and the number of its pieces."""
        first = self.starts.searchsorted(section_starts)
        return first, np.diff(first, append=len(self.starts))
