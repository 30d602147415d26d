"""The public names: a name that comes or goes is a decision, and this file is where it is made."""

import pytest
import streamkit_jax

import streamkit

CORE = """
ArraySpec ChunkCorruptError ChunkShuffle Column Dataset DatasetChangedError
DatasetWriter FormatError GlobalShuffle Image ImageOptions Json
Loader LoaderStats LocalStore Media MemoryStore MissingDependencyError
Place SampleError Schema SchemaError Sequential Shard
StateMismatchError Store StoredDataset Stream StreamkitError TokenBlocks
WriteConflictError __version__ apply concat open sample
split subset
"""
JAX = "DeviceFeed FeedStats"


@pytest.mark.parametrize(("package", "names"), [(streamkit, CORE), (streamkit_jax, JAX)])
def test_the_public_names_are_these(package, names):
    assert sorted(package.__all__) == sorted(names.split())


@pytest.mark.parametrize("package", [streamkit, streamkit_jax])
def test_every_public_name_is_there_and_documented(package):
    for name in package.__all__:
        value = getattr(package, name)
        assert isinstance(value, str) or value.__doc__, name
