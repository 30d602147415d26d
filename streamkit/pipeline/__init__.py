"""The only owner of threads and of the position: `Loader`, prefetch, state, collate, stats."""

from streamkit.datasets.collate import collate
from streamkit.pipeline.loader import Loader
from streamkit.pipeline.stats import LoaderStats

__all__ = ["Loader", "LoaderStats", "collate"]
