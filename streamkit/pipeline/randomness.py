"""Random numbers that are a function of (seed, position), for transforms.

A transform gets a `numpy.random.Generator` whose stream depends on nothing but the seed, what it
is for, and the sample's position: not on the thread, the process or what was drawn before. One
Philox generator is re-keyed for every sample, which costs a sixth of making a new one.

Reference:
    Philox: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamkit.order.hashing import derive_key


class KeyedGenerator:
    """A generator that is set to any position; one instance belongs to one thread.

    Args:
        seed: The seed of the stream.
        purpose: What it is for; two purposes have unrelated streams.
    """

    def __init__(self, seed: int, purpose: str):
        self._philox = np.random.Philox(0)
        self._generator = np.random.Generator(self._philox)
        # The position is the third word of the counter: a stream of its own, 2^128 blocks long.
        self._counter = np.zeros(4, np.uint64)
        key = [derive_key(seed, purpose, word) for word in (0, 1)]
        # buffer_pos=4 and has_uint32=0 throw away what the last sample left in the buffers.
        self._state: Any = {
            "bit_generator": "Philox",
            "state": {"counter": self._counter, "key": np.array(key, np.uint64)},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }

    def at(self, position: int) -> np.random.Generator:
        """The generator of one position; the same object each time, valid until the next call."""
        self._counter[2] = position
        self._philox.state = self._state
        return self._generator
