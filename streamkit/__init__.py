"""streamkit: a streaming data loader whose order is a pure function of the position.

Write a dataset, open it, iterate it shuffled; stop anywhere and go on from one integer:

```python
import numpy as np
import streamkit as sk

with sk.DatasetWriter("squares") as writer:
    for i in range(1000):
        writer.write({"x": i, "squared": np.float32(i) ** 2})

loader = sk.Loader(sk.open("squares"), batch_size=32, shuffle=True, seed=0)
for batch in loader:
    batch["squared"]  # float32 [32]
```
"""

from streamkit.datasets.base import ArraySpec, Dataset, Place
from streamkit.datasets.stored import StoredDataset, open
from streamkit.datasets.token_blocks import TokenBlocks
from streamkit.datasets.views import apply, concat, sample, split, subset
from streamkit.errors import (
    ChunkCorruptError,
    DatasetChangedError,
    FormatError,
    MissingDependencyError,
    SampleError,
    SchemaError,
    StateMismatchError,
    StreamkitError,
    WriteConflictError,
)
from streamkit.format.column import Column
from streamkit.format.images import Image, ImageOptions
from streamkit.format.json_leaf import Json
from streamkit.format.media import Media
from streamkit.format.schema import Schema
from streamkit.format.writer import DatasetWriter
from streamkit.order import ChunkShuffle, GlobalShuffle, Sequential, Shard, Stream
from streamkit.pipeline import Loader, LoaderStats
from streamkit.storage import LocalStore, MemoryStore, Store
from streamkit.version import __version__

__all__ = [
    "ArraySpec",
    "ChunkCorruptError",
    "ChunkShuffle",
    "Column",
    "Dataset",
    "DatasetChangedError",
    "DatasetWriter",
    "FormatError",
    "GlobalShuffle",
    "Image",
    "ImageOptions",
    "Json",
    "Loader",
    "LoaderStats",
    "LocalStore",
    "Media",
    "MemoryStore",
    "MissingDependencyError",
    "Place",
    "SampleError",
    "Schema",
    "SchemaError",
    "Sequential",
    "Shard",
    "StateMismatchError",
    "Store",
    "StoredDataset",
    "Stream",
    "StreamkitError",
    "TokenBlocks",
    "WriteConflictError",
    "__version__",
    "apply",
    "concat",
    "open",
    "sample",
    "split",
    "subset",
]
