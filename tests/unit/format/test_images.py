"""Images: encoded bytes stay as they are, every mode decodes as stated, broken files are errors."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import simplejpeg

import streamkit as sk
from streamkit.format.images import encode_array, encode_pil, is_pil_image


def pixels(height: int = 37, width: int = 53) -> np.ndarray:
    """A smooth picture, so that JPEG loses little."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 4, x * 3, (x + y) * 2], axis=2).astype(np.uint8)


def jpeg(**options: Any) -> bytes:
    return bytes(simplejpeg.encode_jpeg(pixels(**options), quality=95))


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


@pytest.mark.parametrize("mode", [None, "L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("gray", [False, True])
def test_both_jpeg_decoders_give_the_same(
    mode: str | None, gray: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pixels()[:, :, :1] if gray else pixels()
    space = {"colorspace": "GRAY", "colorsubsampling": "Gray"} if gray else {}
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(source), quality=95, **space)
    ours = sk.Image(data).decode(sk.ImageOptions(mode=mode))
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    theirs = sk.Image(data).decode(sk.ImageOptions(mode=mode))
    channels = {None: 1 if gray else 3, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    assert ours.shape == (37, 53, channels)
    assert ours.flags.c_contiguous
    # Each package brings a libjpeg-turbo of its own version.
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("wanted", ["L", "LA", "RGB", "RGBA"])
def test_options_ask_for_one_mode(mode: str, wanted: str) -> None:
    image = in_mode(mode)
    decoded = sk.Image(encode_pil(image)).decode(sk.ImageOptions(mode=wanted))
    assert decoded.shape == (37, 53, len(wanted))
    assert decoded.dtype == np.uint8


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_come_back_native_or_as_their_upper_eight(order: str) -> None:
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 13_000
    image = sk.Image(encode_array(values.astype(f"{order}u2")))
    decoded = image.decode()
    assert decoded.dtype.isnative
    np.testing.assert_array_equal(decoded[:, :, 0], values)
    rgb = image.decode(sk.ImageOptions(mode="RGB"))
    np.testing.assert_array_equal(rgb, np.repeat(values[:, :, None] >> 8, 3, axis=2))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_modes_without_a_range_are_not_converted(mode: str) -> None:
    image = sk.Image(encode_pil(in_mode(mode)))
    with pytest.raises(sk.FormatError, match=f'mode "{mode}" has no fixed range'):
        image.decode(sk.ImageOptions(mode="RGB"))


@pytest.mark.parametrize("simple", [True, False])
@pytest.mark.parametrize(
    ("min_size", "shape"),
    [
        (224, (375, 500)), (188, (188, 250)), (189, (375, 500)), ((94, 125), (94, 125)),
        ((94, 126), (188, 250)), ((40, 1), (47, 63)), (1, (47, 63)), (4000, (375, 500)),
    ],
)  # fmt: skip
def test_min_size_halves_a_jpeg_as_often_as_it_may(
    min_size: int | tuple[int, int],
    shape: tuple[int, int],
    simple: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not simple:
        monkeypatch.setitem(sys.modules, "simplejpeg", None)
    decoded = sk.Image(jpeg(height=375, width=500)).decode(sk.ImageOptions(min_size=min_size))
    assert decoded.shape == (*shape, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 8), (9, 17), (33, 31)])
@pytest.mark.parametrize("min_size", [1, 4])
def test_min_size_gives_the_same_shape_with_both_decoders(
    size: tuple[int, int], min_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, options = (
        sk.Image(jpeg(height=size[0], width=size[1])),
        sk.ImageOptions(min_size=min_size),
    )
    ours = image.decode(options)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert image.decode(options).shape == ours.shape
    assert min(ours.shape[:2]) >= min(*size, min_size)


def test_min_size_leaves_other_formats_whole() -> None:
    decoded = sk.Image(encode_array(pixels())).decode(sk.ImageOptions(min_size=4))
    np.testing.assert_array_equal(decoded, pixels())


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


def test_an_unloaded_pil_image_is_left_as_it_was() -> None:
    data = jpeg()
    file = io.BytesIO(data)
    image = PIL.Image.open(file)
    file.seek(17)
    assert encode_pil(image) == data
    assert file.tell() == 17
    assert image.tile
    np.testing.assert_array_equal(np.asarray(image), sk.Image(data).decode())


def test_a_draft_is_not_the_file() -> None:
    image = PIL.Image.open(io.BytesIO(jpeg(height=64, width=64)))
    image.draft("RGB", (32, 32))
    assert sk.Image(encode_pil(image)).decode().shape == (32, 32, 3)


def test_a_later_frame_is_not_the_file() -> None:
    frames = [PIL.Image.new("L", (8, 8), shade) for shade in (10, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    image = PIL.Image.open(buffer)
    assert encode_pil(image) == buffer.getvalue()
    image.seek(1)
    stored = sk.Image(encode_pil(image))
    assert stored.format == "png"
    assert set(stored.decode()[:, :, 0].ravel()) == {200}


def test_a_file_that_was_replaced_is_not_the_image(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    for other in (encode_array(pixels() // 2), b"no image", None):
        path.write_bytes(encode_array(pixels()))
        with PIL.Image.open(path) as image:
            image.load()
            path.unlink() if other is None else path.write_bytes(other)
            np.testing.assert_array_equal(sk.Image(encode_pil(image)).decode(), pixels())


@pytest.mark.parametrize("loaded", [False, True])
def test_a_changed_palette_is_not_the_file(loaded: bool, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    in_mode("P").save(path)
    with PIL.Image.open(path) as image:
        assert encode_pil(image) == path.read_bytes()
        if loaded:
            image.load()
        image.putpalette([7, 8, 9] * 256)
        assert set(sk.Image(encode_pil(image)).decode().reshape(-1, 3).tolist()[0]) == {7, 8, 9}


def test_quality_keeps_jpeg_files_and_encodes_others() -> None:
    data = jpeg()
    assert encode_pil(PIL.Image.open(io.BytesIO(data)), quality=50) == data
    png = PIL.Image.open(io.BytesIO(encode_array(pixels())))
    assert sk.Image(encode_pil(png, quality=50)).format == "jpeg"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_quality_takes_what_jpeg_holds(mode: str) -> None:
    stored = sk.Image(encode_pil(in_mode(mode), quality=90))
    assert stored.format == "jpeg"
    assert stored.decode().shape == (37, 53, 1 if mode in ("1", "L") else 3)


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA", "I;16", "I", "F", "LAB", "HSV"])
def test_quality_refuses_what_jpeg_would_lose(mode: str) -> None:
    image = in_mode(mode)
    with pytest.raises(sk.SchemaError, match=f'mode "{mode}".*quality=90'):
        encode_pil(image, quality=90)


def test_an_image_without_pixels_is_an_error() -> None:
    with pytest.raises(sk.SchemaError, match="no pixels"):
        encode_pil(PIL.Image.new("RGB", (0, 5)))


def test_a_mode_that_no_file_keeps_is_an_error() -> None:
    with pytest.raises(sk.SchemaError, match=r'mode "HSV".*convert'):
        encode_pil(PIL.Image.fromarray(pixels()).convert("HSV"))


@pytest.mark.parametrize("bad", [b"", b"no image", jpeg()[:100], jpeg()[:-300],
                                 b"\x89PNG\r\n\x1a\n" + bytes(50)])  # fmt: skip
def test_broken_files_are_format_errors(bad: bytes) -> None:
    with pytest.raises(sk.FormatError, match=f"{len(bad):,} bytes"):
        sk.Image(bad).decode()


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(sk.FormatError, match=r"37 x 53 pixels; .*max_pixels.* allows 1,000"):
        sk.Image(jpeg()).decode(sk.ImageOptions(max_pixels=1000))
    with pytest.raises(sk.FormatError, match=r"37 x 53 pixels; .*max_pixels.* allows 1,000"):
        sk.Image(encode_array(pixels())).decode(sk.ImageOptions(max_pixels=1000))


FORMATS = ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000"]


def saved(format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 30, (24, 40, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels(24, 40) // 2 + noise).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_decodes_as_pillow_does(format: str) -> None:
    data = saved(format)
    assert sk.Image(data).format == format.lower()
    with PIL.Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    decoded = sk.Image(data).decode()
    np.testing.assert_allclose(decoded.astype(int), expected.astype(int), atol=2)
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous


# Pillow tells of odd files by warnings, which are errors in this suite only.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("simple", [True, False])
@pytest.mark.parametrize(
    ("format", "options"),
    [*((format, {}) for format in FORMATS), ("JPEG", {"progressive": True})],
)
def test_cut_or_changed_bytes_are_format_errors_or_pixels(
    format: str, options: dict[str, Any], simple: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not simple:
        monkeypatch.setitem(sys.modules, "simplejpeg", None)
    whole = saved(format, **options)
    rng = np.random.default_rng(1)
    limits = sk.ImageOptions(max_pixels=2**20)
    for case in range(150):
        data = bytearray(whole)
        if case % 3 == 0:
            del data[int(rng.integers(len(data))) :]
        else:
            for at in rng.integers(0, len(data) if case % 3 == 1 else 64, 3):
                data[at] = rng.integers(256)
        try:
            decoded = sk.Image(data).decode(limits)
        except sk.FormatError:
            continue
        assert decoded.ndim == 3
        assert decoded.shape[0] * decoded.shape[1] <= 2**20


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_cut_file_is_never_half_an_image(format: str) -> None:
    whole = saved(format)
    for size in range(0, len(whole) * 3 // 4, 7):
        with pytest.raises(sk.FormatError):
            sk.Image(whole[:size]).decode()


@pytest.mark.parametrize("missing", [1, 2, 40, 400])
def test_a_jpeg_cut_near_its_end_is_an_error(missing: int) -> None:
    with pytest.raises(sk.FormatError, match="Premature end"):
        sk.Image(jpeg()[:-missing]).decode()


def test_a_jpeg_with_stray_bytes_before_a_marker_decodes() -> None:
    data = jpeg()
    stray = data[:-2] + bytes([1, 2, 3]) + data[-2:]
    np.testing.assert_allclose(sk.Image(stray).decode(), sk.Image(data).decode(), atol=2)


def claims(format: str, width: int, height: int) -> bytes:
    """A file that claims a size, and has no pixels to show for it."""
    if format == "PNG":
        head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n"
            + struct.pack(">I", 13)
            + head
            + zlib.crc32(head).to_bytes(4)
            + b"\0\0\0\0IDAT"
        )
    if format == "WEBP":
        sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + sizes
    data = saved("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_huge_claims_are_refused(format: str) -> None:
    data = claims(format, 16_384, 16_385 if format != "WEBP" else 16_384)
    options = sk.ImageOptions(max_pixels=2**28 - 1 if format == "WEBP" else 2**28)
    with pytest.raises(sk.FormatError, match=r"claims 16,38\d x 16,384 pixels.*max_pixels"):
        sk.Image(data).decode(options)


def test_webp_sizes_are_read_from_all_kinds_of_first_chunk() -> None:
    kinds = {
        b"VP8 ": saved("WEBP"),
        b"VP8L": saved("WEBP", lossless=True),
        b"VP8X": saved("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    }
    for name, data in kinds.items():
        assert data[12:16] == name
        with pytest.raises(sk.FormatError, match="claims 24 x 40 pixels"):
            sk.Image(data).decode(sk.ImageOptions(max_pixels=24 * 40 - 1))
        assert sk.Image(data).decode(sk.ImageOptions(max_pixels=24 * 40)).shape == (24, 40, 3)


def test_pillow_does_not_warn_of_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 600)
    for format in ("PNG", "BMP", "JPEG2000"):
        assert sk.Image(saved(format)).decode().shape == (24, 40, 3)
    for format in ("GIF", "TIFF", "WEBP"):
        with pytest.raises(sk.FormatError, match=r"24 x 40 pixels; PIL.Image.MAX_IMAGE_PIXELS"):
            sk.Image(saved(format)).decode()


@pytest.mark.parametrize("package", ["PIL", "PIL.Image"])
def test_without_pillow_the_error_names_the_extra(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    png = encode_array(pixels())
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "PIL.Image" if package == "PIL" else "-", raising=False)
    with pytest.raises(sk.MissingDependencyError, match=r"pillow.*streamkit-loader\[image\]"):
        sk.Image(png).decode()
    with pytest.raises(sk.MissingDependencyError, match=r"streamkit-loader\[image\]"):
        encode_array(pixels())
    assert sk.Image(jpeg()).decode().shape == (37, 53, 3)
    assert not is_pil_image(pixels())


def test_importing_streamkit_loads_no_image_package() -> None:
    program = (
        "import sys, streamkit; print(sorted({'PIL', 'simplejpeg', 'cv2'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"


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
    assert pickle.loads(pickle.dumps(image)) == image
    assert image != jpeg()
    with pytest.raises(AttributeError):
        image.data = b""  # type: ignore[misc]
    with pytest.raises(TypeError, match="bytes of an image file"):
        sk.Image("path.jpg")  # type: ignore[arg-type]
