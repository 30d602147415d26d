"""Every error that streamkit raises on purpose, as one tree.

```
StreamkitError
|-- FormatError (ValueError)           bytes that are not what the format says
|   `-- ChunkCorruptError              a chunk's bytes do not match their checksum
|-- SchemaError (TypeError)            a sample that does not fit the dataset's columns
|-- DatasetChangedError                the dataset was replaced while it was read
|-- WriteConflictError                 another writer published first; nothing was published here
|-- StateMismatchError (ValueError)    a saved state that belongs to other data or another order
|-- SampleError (RuntimeError)         reading or transforming one sample failed
`-- MissingDependencyError (ImportError)  an optional package is not installed
```

Arguments that break a rule raise plain `ValueError`, `TypeError` or `IndexError`, as NumPy does.
This module imports nothing, so every layer may import it.
"""

from __future__ import annotations


class StreamkitError(Exception):
    """The root of all errors that streamkit raises on purpose."""


class FormatError(StreamkitError, ValueError):
    """Stored bytes break a rule of the format; the message names the object and the place."""


class ChunkCorruptError(FormatError):
    """The bytes of a chunk do not match their checksum, or are not all there."""


class SchemaError(StreamkitError, TypeError):
    """A sample does not fit the schema; the message names column, sample, expected and found."""


class DatasetChangedError(StreamkitError):
    """A chunk of the opened version is gone because another version was published over it."""


class WriteConflictError(StreamkitError):
    """Another writer published to the same target first; this one has published nothing."""


class StateMismatchError(StreamkitError, ValueError):
    """A saved state belongs to other data, another order or another view; says what changed."""


class SampleError(StreamkitError, RuntimeError):
    """Reading or transforming a sample failed; the original error is the `__cause__`.

    Attributes:
        index: The sample's number in the dataset, or None where the failure has no one sample.
        position: The sample's position in the stream, or None.
    """

    def __init__(self, message: str, *, index: int | None = None, position: int | None = None):
        super().__init__(message)
        self.index = index
        self.position = position

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_sample_error, (str(self), self.index, self.position))


def _rebuild_sample_error(message: str, index: int | None, position: int | None) -> SampleError:
    return SampleError(message, index=index, position=position)


class MissingDependencyError(StreamkitError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    @classmethod
    def for_extra(cls, package: str, extra: str, purpose: str) -> MissingDependencyError:
        """Build the error for `package`, which `pip install streamkit-loader[extra]` brings."""
        return cls(
            f'{purpose} needs the package "{package}"; '
            f'install it with: pip install "streamkit-loader[{extra}]"'
        )
