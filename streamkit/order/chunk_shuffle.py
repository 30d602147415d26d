"""Shuffle with a bounded number of chunks open: the default, for any storage.

`window` slots (S; fewer if there are fewer chunks) read side by side, each along its own stretch of
the chunks laid end to end. Everything is closed-form arithmetic on tables of O(chunks) memory, so
the sample at any position of any epoch costs the same. It knows no file and no host.

*Example.* Chunks A, B, C, D of 3, 2, 4 and 3 samples, `window=2`, seed 2, the first epoch. `C1` is
the place of offset 1 in chunk C.

    once per run    C0 C1 C2 C3  A0 A1 A2  B0 B1  D0 D1 D2     the chunks, permuted, end to end
    this epoch      B0 B1  A0 A1 A2  D0 D1 D2  C0 C1 C2 C3     permuted in each group of 8 slots
    turned by one   B1  A0 A1 A2  D0 D1 D2  C0 C1 C2 C3  B0    by a keyed amount
    slot 0          B1  A0 A1 A2  D0 D1  <---                  half of the visits, read backwards
    slot 1                      --->  D2  C0 C1 C2 C3  B0      the other half, read forwards

    position        0  1  2  3  4  5  6  7  8  9  10 11        a turn is two positions
    slot            0  1  1  0  0  1  0  1  0  1  1  0         keyed by the turn
    place           D1 D2 C0 D0 A2 C1 A1 C2 A0 C3 B0 B1        each slot moves on by one a visit
    sample          D1 D2 C2 D0 A2 C3 A1 C0 A0 C1 B1 B0        each chunk's offsets, permuted

D lies across the border of the slots, and both halves are read at the start; B lies across the ends
of the turned line, and both halves are read at the end. So about S chunks are open at any time,
each for about `S * its samples` positions, and there is no tail: the samples of a slot's stretch
are as many as the turns give it visits in the epoch.

*Groups* of 8 neighbouring slots keep their stretch of the run's line: a group's chunks are permuted
and turned within the group, and its ends move only by the few visits more or less that its slots
have in another epoch. A chunk across such an end stays there. So a host whose rows are those of
whole groups reads the same chunks in every epoch.

*Directions* alternate from slot to slot, flipped by a keyed bit of the epoch.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkit.order.base import (
    checked_chunk_sizes,
    checked_epochs,
    checked_integer,
    checked_seed,
)
from streamkit.order.epoch_table import EpochTable, Run
from streamkit.order.next_use import NEVER, next_visits
from streamkit.order.permutation import BLOCK
from streamkit.order.positions import checked_positions, runs_of_periods

# This epoch, the next one, and the one after it for whoever asks for the next use.
_TABLES_KEPT = 3


@dataclass(frozen=True)
class ChunkShuffle:
    """Shuffle with about `window` chunks open at a time; what `shuffle=True` means.

    The same seed gives the same order from every storage. A larger window mixes chunks that are
    further apart, and keeps more of them open.

    Attributes:
        window: The number of chunks read side by side, at least 1. With fewer chunks than that,
            all of them.

    Raises:
        TypeError: If `window` is not an integer.
        ValueError: If `window` is below 1.
    """

    window: int = 64

    def __post_init__(self) -> None:
        window = checked_integer("window", self.window)
        if window < 1:
            raise ValueError(f"window (={window}) must be >= 1: it is a number of chunks")
        object.__setattr__(self, "window", window)

    def bind(
        self, chunk_sizes: ArrayLike, *, seed: int = 0, epochs: int | None = None
    ) -> ChunkOrder:
        """Bind to data; see `Shuffle.bind`."""
        return ChunkOrder(
            checked_chunk_sizes(chunk_sizes),
            window=self.window,
            seed=checked_seed(seed),
            epochs=checked_epochs(epochs),
        )


class ChunkOrder:
    """The order of `ChunkShuffle`; made by `ChunkShuffle.bind`. See `Order`.

    Threads may share it. The tables of the last few epochs are kept, each of O(chunks) memory; an
    epoch's table is built when first needed, by one thread, while others go on in other epochs.

    Args:
        chunk_sizes: Checked chunk sizes, int64 `[chunks]`; kept.
        window: Checked, >= 1.
        seed: Checked, in [0, 2^64).
        epochs: Checked, >= 1 or None.
    """

    def __init__(
        self, chunk_sizes: NDArray[np.int64], *, window: int, seed: int, epochs: int | None
    ):
        self._arguments = (chunk_sizes, window, seed, epochs)
        self._epochs = epochs
        self._run = Run(chunk_sizes, window=window, seed=seed)
        self._tables: OrderedDict[int, EpochTable] = OrderedDict()
        self._tables_lock = threading.Lock()
        self._build_lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, self._arguments)

    def __repr__(self) -> str:
        return (
            f"ChunkOrder(num_samples={self.num_samples}, num_chunks={self.num_chunks}, "
            f"num_slots={self.num_slots}, seed={self._run.seed}, epochs={self._epochs})"
        )

    @property
    def num_samples(self) -> int:
        """The samples of one epoch."""
        return self._run.num_samples

    @property
    def num_chunks(self) -> int:
        """The chunks that hold samples."""
        return len(self._run.sizes)

    @property
    def num_slots(self) -> int:
        """S: the chunks read side by side."""
        return self._run.turns.num_slots

    def indices(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Return the number of the sample at each position; see `Order`."""
        return self.indices_and_slots(positions)[0]

    def slots(self, positions: ArrayLike) -> NDArray[np.int64]:
        """Return the slot of each position, in `[0, num_slots)`; see `Order`."""
        array = checked_positions(positions)
        flat = array.reshape(-1)
        out = np.empty_like(flat)
        pass_length = self._pass_length
        for pass_number, chosen in runs_of_periods(flat, pass_length):
            turns = self._run.turns.in_pass(pass_number)
            local = flat[chosen] - pass_number * pass_length
            found = np.empty_like(local)
            for at in range(0, len(local), BLOCK):
                block = slice(at, at + BLOCK)
                found[block] = turns.visits(local[block]).slots
            out[chosen] = found
        return out.reshape(array.shape)

    def indices_and_slots(
        self, positions: ArrayLike
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return both at once, for the price of `indices`; see `Order`."""
        array = checked_positions(positions)
        flat = array.reshape(-1)
        indices, slots = np.empty_like(flat), np.empty_like(flat)
        for epoch, chosen in runs_of_periods(flat, self.num_samples):
            table = self._table(epoch)
            # What to take off an absolute position to count from the start of its pass.
            before_pass = epoch * self.num_samples - self._epoch_start(epoch)
            one_epoch = flat[chosen]
            found = np.empty_like(one_epoch), np.empty_like(one_epoch)
            for at in range(0, len(one_epoch), BLOCK):
                block = slice(at, at + BLOCK)
                found[0][block], found[1][block] = self._read(table, one_epoch[block] - before_pass)
            indices[chosen], slots[chosen] = found
        return indices.reshape(array.shape), slots.reshape(array.shape)

    def prepare(self, epoch: int) -> None:
        """Build the table of an epoch (counted over all passes) ahead of its first use.

        Raises:
            ValueError: If `epoch` is negative.
        """
        epoch = checked_integer("epoch", epoch)
        if epoch < 0:
            raise ValueError(f"epoch (={epoch}) must be >= 0")
        self._table(epoch)

    def next_use(self, chunks: ArrayLike, position: int) -> NDArray[np.int64]:
        """Find when each chunk is read next, without walking there.

        Args:
            chunks: Numbers of chunks of the dataset, `[n]`.
            position: An absolute position.

        Returns:
            For each chunk the first position >= `position` that reads a sample of it, `[n]`;
            `NEVER` for an empty chunk.
        """
        sizes = self._arguments[0]
        numbers = np.asarray(chunks, np.int64).reshape(-1)
        position = checked_integer("position", position)
        if position < 0:
            raise ValueError(f"position (={position}) must be >= 0")
        if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(sizes):
            raise IndexError(f"chunks must be in [0, {len(sizes)}), not {numbers.tolist()}")
        found = np.full(numbers.shape, NEVER, np.int64)
        missing = np.flatnonzero(sizes[numbers])
        epoch = position // self.num_samples
        while missing.size:
            start = self._epoch_start(epoch)
            before_pass = epoch * self.num_samples - start
            rows = self._run.numbers.searchsorted(numbers[missing])
            local = max(position - before_pass, start)
            visits = next_visits(self._table(epoch), rows, local)
            seen = visits < start + self.num_samples
            found[missing[seen]] = visits[seen] + before_pass
            missing = missing[~seen]
            epoch += 1
        return found

    def _read(
        self, table: EpochTable, local: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find samples and slots of one block of positions, counted from the start of the pass."""
        run = self._run
        visits = table.turns.visits(local)
        slots = visits.slots
        places = table.directions.take(slots)
        places *= visits.turns
        places += (table.origins + table.directions * visits.first_turn).take(slots)
        pieces = table.pieces_of(places, slots, visits.first_turn, visits.num_turns)
        rows = table.line.chunks.take(pieces)
        places += table.shifts.take(pieces)
        samples = run.domains.permute(places, rows, table.keys)
        samples += run.starts.take(rows)
        return samples, slots

    @property
    def _pass_length(self) -> int:
        """The samples of one pass; one more than any position if it has no end."""
        return 1 << 63 if self._epochs is None else self._epochs * self.num_samples

    def _epoch_start(self, epoch: int) -> int:
        """Count the samples from the start of the epoch's pass to the epoch."""
        return (epoch if self._epochs is None else epoch % self._epochs) * self.num_samples

    def _table(self, epoch: int) -> EpochTable:
        table = self._kept_table(epoch)
        if table is None:
            with self._build_lock:
                table = self._kept_table(epoch)
                if table is None:
                    table = EpochTable.build(
                        self._run,
                        epoch=epoch,
                        pass_number=0 if self._epochs is None else epoch // self._epochs,
                        start=self._epoch_start(epoch),
                    )
                    with self._tables_lock:
                        self._tables[epoch] = table
                        while len(self._tables) > _TABLES_KEPT:
                            self._tables.popitem(last=False)
        return table

    def _kept_table(self, epoch: int) -> EpochTable | None:
        with self._tables_lock:
            table = self._tables.get(epoch)
            if table is not None:
                self._tables.move_to_end(epoch)
            return table


def _rebuild(
    chunk_sizes: NDArray[np.int64], window: int, seed: int, epochs: int | None
) -> ChunkOrder:
    return ChunkOrder(chunk_sizes, window=window, seed=seed, epochs=epochs)
