"""Order is arithmetic: integers in, integers out.

A shuffle bound to the sizes of a dataset's chunks maps positions to sample numbers, as a pure
function of the seed, the epoch and the position. Nothing here reads data, starts a thread or knows
of hosts, and nothing draws from a stateful generator.
"""

from streamkit.order.base import Order as Order
from streamkit.order.base import Shuffle as Shuffle
from streamkit.order.chunk_shuffle import ChunkOrder as ChunkOrder
from streamkit.order.chunk_shuffle import ChunkShuffle as ChunkShuffle
from streamkit.order.global_shuffle import GlobalOrder as GlobalOrder
from streamkit.order.global_shuffle import GlobalShuffle as GlobalShuffle
from streamkit.order.hashing import derive_key as derive_key
from streamkit.order.hashing import keyed_hash as keyed_hash
from streamkit.order.next_use import NEVER as NEVER
from streamkit.order.sequential import Sequential as Sequential
from streamkit.order.sequential import SequentialOrder as SequentialOrder
from streamkit.order.shard import Shard as Shard
from streamkit.order.shard import row_order as row_order
from streamkit.order.stream import Stream as Stream
