"""2,000 JPEGs of 500x375, decoded and resized to 224x224 in the loader's two threads.

The limits do the same to the same files in two threads and keep nothing: one with the decoder
that streamkit uses, and the other with Pillow alone, as most loaders do. The files are pieces of
two photographs that scikit-learn brings, cut, flipped, enlarged and shifted in brightness, so that
no two are the same. None of JPEG's cheap scales of that size reaches 224, so all decode in full.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import simplejpeg
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images

import streamkit as sk
from benchmarks.measure import Result, Settings, interleave, timed

Pixels = NDArray[np.uint8]
_HEIGHT, _WIDTH, _SIDE = 375, 500, 224
_THREADS = 2
_BATCH = 64


def run(settings: Settings) -> Iterator[Result]:
    """Race the loader against both limits."""
    count = settings.pick(2_000, 3 * _BATCH)
    options = sk.ImageOptions(min_size=_SIDE)
    path = _stored(settings.data, count)
    with sk.open(path, images=sk.ImageOptions(decode=False)) as encoded:
        files = [sample["image"].data for sample in encoded[:]]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # both threads are busy; more would only get in each other's way
    try:
        with sk.open(path, images=options) as dataset:
            _check(dataset, files)
            seconds = interleave(
                {
                    "ours": lambda: _load(dataset),
                    "decoder": lambda: _in_threads(_decoded, files),
                    "pillow": lambda: _in_threads(_with_pillow, files),
                },
                settings.repeats,
            )
    finally:
        cv2.setNumThreads(threads)
    for case, limit, target in (
        ("JPEG to 224, the decoder in 2 threads", "decoder", 0.95),
        ("JPEG to 224, Pillow in 2 threads", "pillow", 1.4),
    ):
        yield Result.against(
            case, "images/s", count, seconds["ours"], seconds[limit], target=target
        )


def make_files(count: int) -> list[bytes]:
    """Different JPEGs of 500x375, quality 90, chroma halved in both directions (4:2:0)."""
    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    files = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        share = rng.uniform(0.6, 1)
        height, width = int(_HEIGHT * share), int(_WIDTH * share)
        top = rng.integers(photograph.shape[0] - height + 1)
        left = rng.integers(photograph.shape[1] - width + 1)
        piece = photograph[top : top + height, left : left + width]
        piece = piece[:, :: rng.choice([-1, 1])]
        large = cv2.resize(
            np.ascontiguousarray(piece), (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        shifted = np.clip(large.astype(np.int16) + rng.integers(-20, 21), 0, 255).astype(np.uint8)
        files.append(simplejpeg.encode_jpeg(shifted, quality=90, colorsubsampling="420"))
    return files


def _load(dataset: sk.Dataset) -> float:
    begin = time.perf_counter()
    with _loader(dataset) as loader:
        for _batch in loader:
            pass
    return time.perf_counter() - begin


def _loader(dataset: sk.Dataset) -> sk.Loader:
    return sk.Loader(
        dataset,
        batch_size=_BATCH,
        shuffle=True,
        epochs=1,
        remainder="keep",
        transform=_transform,
        threads=_THREADS,
    )


def _transform(sample: Any, _: np.random.Generator) -> Any:
    return {**sample, "image": _resized(sample["image"])}


def _resized(pixels: Pixels) -> Any:
    return cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)


def _decoded(data: bytes) -> Any:
    return _resized(simplejpeg.decode_jpeg(data))


def _with_pillow(data: bytes) -> Any:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.resize((_SIDE, _SIDE), PIL.Image.Resampling.BILINEAR))


def _in_threads(work: Callable[[bytes], Any], files: list[bytes]) -> float:
    def part(number: int) -> None:
        for data in files[number::_THREADS]:
            work(data)

    with ThreadPoolExecutor(_THREADS) as pool:
        return timed(lambda: list(pool.map(part, range(_THREADS))))


def _check(dataset: sk.Dataset, files: list[bytes]) -> None:
    """Compare all images of an epoch with the decoder's.

    Raises:
        AssertionError: An image is missing or not what the decoder alone makes of the file.
    """
    seen: list[int] = []
    with _loader(dataset) as loader:
        for batch in loader:
            for number, pixels in zip(batch["number"].tolist(), batch["image"], strict=True):
                if not np.array_equal(pixels, _decoded(files[number])):
                    raise AssertionError(f"image {number} is not what the decoder makes of it")
                seen.append(number)
    if sorted(seen) != list(range(len(files))):
        raise AssertionError(f"{len(seen)} images instead of each of {len(files)} once")


def _stored(data: Path, count: int) -> Path:
    path = data / f"images-{count}"
    if not (path / "index.json").exists():
        with sk.DatasetWriter(path) as writer:
            for number, file in enumerate(make_files(count)):
                writer.write({"image": sk.Image(file), "number": number})
    return path
