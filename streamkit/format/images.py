"""Image leaves: encoded bytes in storage, `[height, width, channels]` when read.

What comes back, by the mode of the stored image, and what `encode_pil` makes of a PIL image of
that mode that has no file of its own (an image that still is what its file says keeps the file):

| mode | decoded | saved as | with `quality` |
|---|---|---|---|
| 1 | uint8 `[h, w, 1]`, 0 and 255 | PNG | JPEG, grey |
| L | uint8 `[h, w, 1]` | PNG | JPEG, grey |
| LA | uint8 `[h, w, 2]` | PNG | SchemaError |
| P | uint8 `[h, w, 3]`, or `[h, w, 4]` where it has transparency | PNG | JPEG where opaque |
| PA | uint8 `[h, w, 4]` | PNG of mode RGBA | SchemaError |
| RGB | uint8 `[h, w, 3]` | PNG | JPEG |
| RGBA | uint8 `[h, w, 4]` | PNG | SchemaError |
| I;16 | uint16 `[h, w, 1]` | PNG | SchemaError |
| I, F | int32, float32 `[h, w, 1]` | TIFF | SchemaError |
| CMYK (YCCK too) | uint8 `[h, w, 3]`, RGB | TIFF | JPEG of CMYK |
| YCbCr | uint8 `[h, w, 3]`, RGB | TIFF | JPEG |
| LAB | uint8 `[h, w, 3]`, RGB | TIFF | SchemaError |
| HSV, others | FormatError | SchemaError | SchemaError |

`ImageOptions(mode="RGB")` asks for one mode for all. Of an animation the first frame comes back.
An EXIF orientation and an embedded colour profile are not applied. Pillow reads PNGs of 16 bits a
channel with more than one channel as 8 bits.

JPEG goes through simplejpeg (libjpeg-turbo), the other formats and CMYK through Pillow (extra
`image`). Both decode without the GIL, and give the same pixels where both can.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.errors import FormatError, MissingDependencyError, SchemaError

DEFAULT_MAX_PIXELS = 2**28
_MAGICS = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
)
# Pillow's `Image.open` would try every parser that it has, one of which starts a program (EPS),
# and warn of sizes by a limit that is not ours.
_PLUGINS = {
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "jpeg2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
}
_LIMITED_BY_PILLOW = ("gif", "tiff", "webp")
_MODES = ("RGB", "RGBA", "L", "LA")
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF_MODES = ("CMYK", "YCbCr", "LAB", "I", "F")
_JPEG_MODES = ("L", "RGB", "CMYK", "YCbCr")
_JPEG_SPACES = {"RGB": "RGB", "RGBA": "RGBA", "L": "GRAY"}
# Complaints of libjpeg about files that are whole; real collections of photographs have them.
_HARMLESS = ("extraneous bytes", "Adobe color transform", "Inconsistent progression")


class Image:
    """An encoded image; as a leaf it is stored as these bytes, and decoded when read.

    Two are equal when their bytes are. Nothing is decoded or checked before `decode`.

    Args:
        data: A whole image file: JPEG, PNG, GIF, BMP, TIFF, WebP or JPEG 2000.

    Raises:
        TypeError: `data` is not bytes.
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes | bytearray | memoryview):
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"sk.Image needs the bytes of an image file, not {type(data).__name__}")
        self._data = bytes(data)

    @property
    def data(self) -> bytes:
        """The encoded bytes."""
        return self._data

    @property
    def format(self) -> str | None:
        """The file format by its first bytes ("jpeg", "png", ...), or None if it is not known."""
        return _sniff(self._data)

    def decode(self, options: ImageOptions | None = None) -> NDArray[Any]:
        """Decode to `[height, width, channels]`; see `decode_image`."""
        return decode_image(self._data, options or ImageOptions())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other._data == self._data

    def __hash__(self) -> int:
        return hash(self._data)

    def __repr__(self) -> str:
        return f"<Image {self.format or 'of unknown format'}: {len(self._data):,} bytes>"


@dataclass(frozen=True)
class ImageOptions:
    """How images are decoded.

    Attributes:
        decode: False gives the encoded bytes as `sk.Image`.
        mode: Convert to "RGB", "RGBA", "L" or "LA"; None keeps the image's own. 16 bits become
            the upper 8, and an alpha channel that is not asked for is dropped.
        min_size: Decode about this size: a JPEG at the smallest of 1/1, 1/2, 1/4, 1/8 of its size
            that is still at least (height, width), or at least this number in both. The other
            scales of JPEG cost more than the whole image. Other formats are decoded in full.
        max_pixels: An image that claims more is a `FormatError`, before memory is taken for it.
    """

    decode: bool = True
    mode: str | None = None
    min_size: int | tuple[int, int] | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        if not isinstance(self.decode, bool):
            raise TypeError(f"decode={self.decode!r} must be True or False")
        if self.mode is not None and self.mode not in _MODES:
            raise ValueError(f"mode={self.mode!r} must be None or one of {', '.join(_MODES)}")
        sizes = self.min_size if isinstance(self.min_size, tuple) else (self.min_size,) * 2
        if self.min_size is not None and not (
            len(sizes) == 2 and all(type(n) is int and n >= 1 for n in sizes)
        ):
            raise ValueError(
                f"min_size={self.min_size!r} must be None, a number of pixels or (height, width)"
            )
        if type(self.max_pixels) is not int or self.max_pixels < 1:
            raise ValueError(f"max_pixels={self.max_pixels!r} must be an integer of at least 1")

    def scale(self, height: int, width: int) -> int:
        """By how much a JPEG of this size is scaled down: 1, 2, 4 or 8."""
        if self.min_size is None:
            return 1
        least = self.min_size if isinstance(self.min_size, tuple) else (self.min_size,) * 2
        for scale in (8, 4, 2):
            if min(height, width) >= scale and (
                -(-height // scale) >= least[0] and -(-width // scale) >= least[1]
            ):
                return scale
        return 1


def decode_image(data: bytes, options: ImageOptions) -> NDArray[Any]:
    """Decode an image file; thread-safe, and without the GIL where the time goes.

    Returns:
        `[height, width, channels]` in C order, fresh and writable; uint8 but for a few modes that
        the table of the module names.

    Raises:
        FormatError: The bytes are no image of a known format, are cut short or broken, have a
            mode that is not decoded, or claim more than `options.max_pixels` pixels.
        MissingDependencyError: The packages of the extra `image` are not installed.
    """
    kind = _sniff(data)
    if kind is None:
        raise FormatError(
            f"{len(data):,} bytes that begin with {bytes(data[:8])!r} are no image of a known "
            f"format ({', '.join(_PLUGINS)}); sk.Media(data, kind) keeps other bytes"
        )
    pixels = _decode_jpeg(data, options) if kind == "jpeg" else None
    return _decode_with_pillow(data, kind, options) if pixels is None else pixels


def _decode_jpeg(data: bytes, options: ImageOptions) -> NDArray[Any] | None:
    """Decode a JPEG with simplejpeg; None leaves it to Pillow (CMYK, what only Pillow reads)."""
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_pixels(height, width, options)
    gray = space.lower() == "gray"
    target = _JPEG_SPACES.get(options.mode or ("L" if gray else "RGB"))
    if target is None or space in ("CMYK", "YCCK"):
        return None
    scale = options.scale(height, width)
    try:
        pixels: NDArray[Any] = simplejpeg.decode_jpeg(
            data, target, min_height=-(-height // scale), min_width=-(-width // scale)
        )
    except ValueError as error:
        if any(complaint in str(error) for complaint in _HARMLESS):
            return None
        raise FormatError(f"a JPEG of {len(data):,} bytes does not decode: {error}") from error
    return pixels


def _decode_with_pillow(data: bytes, kind: str, options: ImageOptions) -> NDArray[Any]:
    _check_pillow("Decoding an image")
    try:
        if kind == "webp":
            _check_pixels(*_webp_size(data), options)  # Pillow takes the memory when it opens one
        with _open(data, kind) as image:
            _check_pixels(image.height, image.width, options, kind)
            if kind == "jpeg":
                scale = options.scale(image.height, image.width)
                # Brightness is stored as such: the other decoder does not compute it from RGB.
                mode = "L" if options.mode == "L" else None
                image.draft(mode, (image.width // scale, image.height // scale))
            return _pixels(image, options.mode)
    except (FormatError, MemoryError):
        raise
    except Exception as error:  # Pillow's parsers let through whatever broken bytes lead them to
        raise FormatError(f"a {kind} image of {len(data):,} bytes is broken: {error}") from error


def _pixels(image: Any, mode: str | None) -> NDArray[Any]:
    """The array `[height, width, channels]` of an opened PIL image."""
    stored = image.mode
    if stored.startswith("I;16") or (stored == "I" and image.format == "PNG"):
        wide = np.array(image).astype(np.uint16, copy=False)[:, :, None]
        if mode is None:
            return wide
        image = _pil().fromarray((wide[:, :, 0] >> 8).astype(np.uint8))
    elif stored in ("I", "F") and mode is not None:
        raise FormatError(
            f'an image of mode "{stored}" has no fixed range to convert to mode={mode!r}; open the '
            "dataset without mode= and scale the values"
        )
    elif stored in ("P", "PA"):
        see_through = stored == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if see_through else "RGB")
    elif stored in ("CMYK", "YCbCr", "LAB"):
        image = image.convert("RGB")
    elif stored not in ("1", "L", "LA", "RGB", "RGBA", "I", "F"):
        raise FormatError(
            f'an image of mode "{stored}" is not decoded; sk.ImageOptions(decode=False) gives its '
            "bytes"
        )
    array = np.array(image if mode in (None, image.mode) else image.convert(mode))
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    return array if array.ndim == 3 else array[:, :, None]


def is_pil_image(value: object) -> bool:
    """Whether a value is a PIL image, found out without importing PIL."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def encode_pil(image: Any, *, quality: int | None = None) -> bytes:
    """The bytes under which a PIL image is stored.

    An image that was opened from a file and certainly still has the file's pixels keeps the
    file's bytes; it is not loaded for that, and its file position stays. Any other is saved
    without loss, as the table of the module says. With `quality`, what is not a JPEG file is
    saved as JPEG.

    Args:
        image: A `PIL.Image.Image`.
        quality: 1 to 100 as in Pillow, or None for no loss.

    Raises:
        SchemaError: The image has no pixels, or a mode that cannot be saved this way.
    """
    mode = image.mode
    if not (image.width and image.height):
        raise SchemaError(f"a PIL image of size {image.size} has no pixels")
    encoded = _encoded_bytes(image)
    if encoded is not None and (quality is None or _sniff(encoded) == "jpeg"):
        return encoded
    buffer = io.BytesIO()
    if quality is not None:
        if mode == "1":
            image = image.convert("L")
        elif mode == "P" and "transparency" not in image.info:
            image = image.convert("RGB")
        if image.mode not in _JPEG_MODES:
            raise SchemaError(
                f'a PIL image of mode "{mode}" loses more than JPEG should (quality={quality}): '
                'convert it with image.convert("RGB"), or store the column without quality'
            )
        image.save(buffer, "JPEG", quality=quality)
    elif mode in _PNG_MODES:
        image.save(buffer, "PNG")
    elif mode == "PA":
        image.convert("RGBA").save(buffer, "PNG")
    elif mode in _TIFF_MODES:
        image.save(buffer, "TIFF")
    else:
        raise SchemaError(
            f'a PIL image of mode "{mode}" cannot be saved without loss: convert it with '
            'image.convert("RGB"), or write np.asarray(image) as an array column'
        )
    return buffer.getvalue()


def encode_array(array: NDArray[Any], *, quality: int | None = None) -> bytes:
    """Encode pixels as PNG, or as JPEG of a quality.

    Args:
        array: uint8 `[h, w]` or `[h, w, 1 to 4]`, or uint16 `[h, w]` or `[h, w, 1]`.
        quality: 1 to 100 for JPEG, which takes uint8 of one or three channels; None for no loss.

    Raises:
        SchemaError: Another dtype or shape.
        MissingDependencyError: Pillow is not installed.
    """
    pixels = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    native = pixels.dtype.newbyteorder("=")
    wide = native == np.uint16 and pixels.ndim == 2
    small = pixels.dtype == np.uint8 and pixels.ndim in (2, 3) and 1 <= channels <= 4
    if not (wide or small) or not pixels.size:
        raise SchemaError(
            f"an array of {array.dtype} {list(array.shape)} is no image: uint8 [h, w] or "
            "[h, w, 1 to 4], or uint16 [h, w], of at least one pixel, can be encoded"
        )
    _check_pillow("Encoding an image")
    image = _pil().fromarray(np.ascontiguousarray(pixels, native))
    return encode_pil(image, quality=quality)


def _encoded_bytes(image: Any) -> bytes | None:
    """The file that a PIL image was read from, if it certainly still has that file's pixels."""
    if getattr(image, "format", None) is None:
        return None
    # `tile` is what is yet to be loaded; until then nothing can have changed the pixels.
    untouched = bool(getattr(image, "tile", None)) and getattr(image, "fp", None) is not None
    data = _whole_file(image.fp if untouched else getattr(image, "filename", ""))
    kind = None if data is None else _sniff(data)
    if data is None or kind is None:
        return None
    try:
        with _open(data, kind) as original:
            same = (
                image.tell() == 0
                and original.mode == image.mode
                and original.size == image.size
                and original.info.get("transparency") == image.info.get("transparency")
                and (
                    # A draft shows in the tiles.
                    original.tile == image.tile and _raw_palette(original) == _raw_palette(image)
                    if untouched
                    else original.tobytes() == image.tobytes()
                    and original.getpalette() == image.getpalette()
                )
            )
    except Exception:  # the file has been replaced by a broken one: only the pixels count
        return None
    return data if same else None


def _raw_palette(image: Any) -> tuple[str, str | None, bytes] | None:
    """The palette of an image, which is not loaded for that."""
    palette = image.palette
    return None if palette is None else (palette.mode, palette.rawmode, bytes(palette.palette))


def _whole_file(source: Any) -> bytes | None:
    """The bytes of an open file, left where it stood, or of a path; None if they are gone."""
    try:
        if not hasattr(source, "read"):
            with open(source, "rb") as file:
                return file.read()
        position = source.tell()
        try:
            source.seek(0)
            data = source.read()
        finally:
            source.seek(position)
    except (OSError, ValueError, TypeError):
        return None
    return data if isinstance(data, bytes) else None


def _sniff(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for magic, name in _MAGICS if data.startswith(magic)), None)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Height and width of a WebP file, from its first chunk.

    Reference: RFC 9649, sections 2.5 to 2.7.
    """
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return height, width


def _check_pixels(height: int, width: int, options: ImageOptions, kind: str = "") -> None:
    limit, remedy = options.max_pixels, "sk.ImageOptions(max_pixels=...)"
    # Pillow warns of, or refuses, more in these formats, wherever they are opened.
    own = _pil().MAX_IMAGE_PIXELS if kind in _LIMITED_BY_PILLOW else None
    if own is not None and own < limit:
        limit, remedy = own, "PIL.Image.MAX_IMAGE_PIXELS"
    if height * width > limit:
        raise FormatError(
            f"an image claims {height:,} x {width:,} pixels; {remedy} allows {limit:,}: raise it "
            "if the image is to be trusted"
        )


def _open(data: bytes, kind: str) -> Any:
    module, name = _PLUGINS[kind]
    return getattr(import_module(module), name)(io.BytesIO(data))


def _pil() -> Any:
    return import_module("PIL.Image")


def _check_pillow(purpose: str) -> None:
    try:
        _pil()
    except ImportError as error:
        raise MissingDependencyError.for_extra("pillow", "image", purpose) from error


def _simplejpeg() -> Any:
    try:
        return import_module("simplejpeg")
    except ImportError:
        return None
