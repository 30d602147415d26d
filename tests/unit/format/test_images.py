"""Images: encoded bytes stay as they are, every mode decodes as stated, broken files are errors."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import simplejpeg

import streamkit as sk
from streamkit.format.images import encode_array, encode_pil


def pixels(height: int = 37, width: int = 53) -> np.ndarray:
    """A smooth picture, so that JPEG loses little."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 4, x * 3, (x + y) * 2], axis=2).astype(np.uint8)


def jpeg(**options: Any) -> bytes:
    return simplejpeg.encode_jpeg(pixels(**options), quality=95)


def in_mode(mode: str) -> PIL.Image.Image:
    if mode in ("I;16", "LAB"):
        image = PIL.Image.new(mode, (53, 37))
        image.putpixel((3, 2), 40_000 if mode == "I;16" else (50, 100, 150))
        return image
    return PIL.Image.fromarray(pixels()).convert(mode)


@pytest.mark.parametrize(
    ("mode", "dtype", "channels"),
    [
        ("1", "uint8", 1), ("L", "uint8", 1), ("LA", "uint8", 2), ("P", "uint8", 3),
        ("PA", "uint8", 4), ("RGB", "uint8", 3), ("RGBA", "uint8", 4), ("CMYK", "uint8", 3),
        ("YCbCr", "uint8", 3), ("LAB", "uint8", 3), ("I;16", "uint16", 1), ("I", "int32", 1),
        ("F", "float32", 1),
    ],
)  # fmt: skip
def test_each_mode_decodes_to_the_stated_result(mode: str, dtype: str, channels: int) -> None:
    image = in_mode(mode)
    decoded = sk.Image(encode_pil(image)).decode()
    assert (decoded.dtype, decoded.shape) == (np.dtype(dtype), (37, 53, channels))
    assert decoded.flags.writeable
    if mode in ("L", "LA", "RGB", "RGBA", "I;16", "I", "F"):
        np.testing.assert_array_equal(decoded.squeeze(), np.asarray(image).squeeze())


def test_palette_with_transparency_gives_four_channels() -> None:
    image = in_mode("P")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0)
    assert sk.Image(buffer.getvalue()).decode().shape == (37, 53, 4)


def test_cmyk_jpeg_becomes_rgb() -> None:
    buffer = io.BytesIO()
    in_mode("CMYK").save(buffer, "JPEG", quality=95)
    decoded = sk.Image(buffer.getvalue()).decode()
    assert decoded.shape == (37, 53, 3)
    assert np.abs(decoded.astype(int) - pixels()).mean() < 6


def test_jpeg_decodes_as_pillow_does() -> None:
    data = jpeg()
    ours = sk.Image(data).decode()
    theirs = np.asarray(PIL.Image.open(io.BytesIO(data)))
    assert np.abs(ours.astype(int) - theirs).max() <= 2
    assert sk.Image(data).decode(sk.ImageOptions(mode="L")).shape == (37, 53, 1)


def test_min_size_uses_the_jpeg_scales() -> None:
    data = jpeg(height=375, width=500)
    assert sk.Image(data).decode(sk.ImageOptions(min_size=224)).shape == (235, 313, 3)
    assert sk.Image(data).decode(sk.ImageOptions(min_size=(300, 100))).shape == (329, 438, 3)
    assert sk.Image(data).decode(sk.ImageOptions(min_size=4000)).shape == (375, 500, 3)


def test_pil_image_keeps_its_file_only_while_it_has_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(jpeg())
    with PIL.Image.open(path) as image:
        assert encode_pil(image) == path.read_bytes()
        image.load()
        assert encode_pil(image) == path.read_bytes()
        image.putpixel((0, 0), (255, 0, 0))
        changed = encode_pil(image)
        assert sk.Image(changed).format == "png"
        np.testing.assert_array_equal(sk.Image(changed).decode(), np.asarray(image))
    with PIL.Image.open(path) as image:
        image.thumbnail((20, 20))
        assert sk.Image(encode_pil(image)).decode().shape == (14, 20, 3)


def test_a_mode_that_no_file_keeps_is_an_error() -> None:
    with pytest.raises(sk.SchemaError, match='mode "HSV".*convert'):
        encode_pil(PIL.Image.fromarray(pixels()).convert("HSV"))


@pytest.mark.parametrize("bad", [b"", b"no image", jpeg()[:100], jpeg()[:-300],
                                 b"\x89PNG\r\n\x1a\n" + bytes(50)])  # fmt: skip
def test_broken_files_are_format_errors(bad: bytes) -> None:
    with pytest.raises(sk.FormatError, match="bytes that are no whole image"):
        sk.Image(bad).decode()


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(sk.FormatError, match=r"37 x 53 pixels; at most 1,000"):
        sk.Image(jpeg()).decode(sk.ImageOptions(max_pixels=1000))
    with pytest.raises(sk.FormatError, match=r"37 x 53 pixels; at most 1,000"):
        sk.Image(encode_array(pixels())).decode(sk.ImageOptions(max_pixels=1000))


@pytest.mark.parametrize("options", [{"mode": "XYZ"}, {"min_size": 0}, {"min_size": (1, 2, 3)},
                                     {"min_size": 1.5}, {"max_pixels": 0}])  # fmt: skip
def test_wrong_options_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        sk.ImageOptions(**options)


def test_arrays_encode_losslessly_or_as_jpeg() -> None:
    np.testing.assert_array_equal(sk.Image(encode_array(pixels())).decode(), pixels())
    assert sk.Image(encode_array(pixels(), quality=80)).format == "jpeg"
    for wrong in (
        np.zeros((3, 3), np.float32),
        np.zeros((3, 3, 5), np.uint8),
        np.zeros((0, 3), "u1"),
    ):
        with pytest.raises(sk.SchemaError):
            encode_array(wrong)


def test_images_in_a_dataset(tmp_path: Path) -> None:
    sizes = [(20, 30), (40, 10), (16, 16)]
    with sk.DatasetWriter(tmp_path / "d") as writer:
        for number, (height, width) in enumerate(sizes):
            writer.write({"image": sk.Image(jpeg(height=height, width=width)), "n": number})
        writer.write({"image": PIL.Image.fromarray(pixels()), "n": 3})
    ds = sk.open(tmp_path / "d")
    assert [sample["image"].shape[:2] for sample in ds[:3]] == sizes
    np.testing.assert_array_equal(ds[3]["image"], pixels())
    assert isinstance(ds.gather([0, 1])["image"], list)
    encoded = sk.open(tmp_path / "d", images=sk.ImageOptions(decode=False))
    assert encoded[0]["image"] == sk.Image(jpeg(height=20, width=30))
    assert encoded.element_spec["image"].dtype is None


def test_schema_may_ask_for_jpeg(tmp_path: Path) -> None:
    schema = {"image": sk.Column("image", quality=90)}
    with sk.DatasetWriter(tmp_path / "d", schema=schema) as writer:
        writer.write({"image": pixels()})
        writer.write({"image": PIL.Image.fromarray(pixels())})
    encoded = sk.open(tmp_path / "d", images=sk.ImageOptions(decode=False))
    assert [sample["image"].format for sample in encoded[:]] == ["jpeg", "jpeg"]


def test_threads_decode_the_same() -> None:
    files = [jpeg(height=30 + n, width=40 + n) for n in range(40)]
    alone = [sk.Image(data).decode() for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: sk.Image(data).decode(), files))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_image_leaf() -> None:
    image = sk.Image(jpeg())
    assert image == sk.Image(bytearray(jpeg()))
    assert hash(image) == hash(sk.Image(jpeg()))
    assert "jpeg" in repr(image)
    with pytest.raises(TypeError, match="bytes of an image file"):
        sk.Image("path.jpg")  # type: ignore[arg-type]
