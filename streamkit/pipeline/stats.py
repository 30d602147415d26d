"""What a loader has done so far, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoaderStats:
    """A snapshot of a loader's counters since it was made.

    Attributes:
        samples: Rows handed to the caller by iteration, in this process.
        batches: Batches handed to the caller by iteration.
        bytes_read: Bytes that the dataset has handed out since the loader was made, to this
            loader, to `batch()` and to anyone else who reads the same dataset object.
        wait_seconds: Time that the caller waited for a batch inside `next`.
        assemble_seconds: Time spent assembling the batches, added up over the threads.
        errors: Bad samples that `on_error` replaced or masked in the batches handed out.
    """

    samples: int = 0
    batches: int = 0
    bytes_read: int = 0
    wait_seconds: float = 0.0
    assemble_seconds: float = 0.0
    errors: int = 0


class Counters:
    """The numbers behind `LoaderStats`, changed only by the thread that iterates."""

    __slots__ = ("assemble_seconds", "batches", "errors", "samples", "wait_seconds")

    def __init__(self) -> None:
        self.samples = 0
        self.batches = 0
        self.wait_seconds = 0.0
        self.assemble_seconds = 0.0
        self.errors = 0

    def snapshot(self, bytes_read: int) -> LoaderStats:
        """Freeze the numbers as they are now."""
        return LoaderStats(
            samples=self.samples,
            batches=self.batches,
            bytes_read=bytes_read,
            wait_seconds=self.wait_seconds,
            assemble_seconds=self.assemble_seconds,
            errors=self.errors,
        )
