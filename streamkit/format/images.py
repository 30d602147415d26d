"""Image leaves: encoded bytes in storage, uint8 `[height, width, channels]` when read.

What comes back, by the mode of the stored image:

| stored mode | decoded |
|---|---|
| 1, L | uint8 `[h, w, 1]` (1: 0 and 255) |
| LA | uint8 `[h, w, 2]` |
| P, PA | uint8 `[h, w, 3]`, or `[h, w, 4]` where it has transparency |
| RGB, YCbCr, LAB, CMYK (YCCK too) | uint8 `[h, w, 3]` RGB |
| RGBA | uint8 `[h, w, 4]` |
| I;16 | uint16 `[h, w, 1]` |
| I, F | int32, float32 `[h, w, 1]` |

`ImageOptions(mode="RGB")` asks for one mode for all. An EXIF orientation is not applied.

JPEG goes through simplejpeg (libjpeg-turbo), everything else through Pillow (extra `image`); both
decode without the GIL.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkit.errors import FormatError, MissingDependencyError, SchemaError

# Below the size at which Pillow itself begins to warn.
DEFAULT_MAX_PIXELS = 2**26
_JPEG_MAGIC = b"\xff\xd8\xff"
_MAGICS = (
    (_JPEG_MAGIC, "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
)
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_TIFF_MODES = ("CMYK", "YCbCr", "LAB", "I", "F", "PA")
_JPEG_SPACES = {"RGB": "RGB", "L": "GRAY", "RGBA": "RGBA"}


class Image:
    """An encoded image; as a leaf it is stored as these bytes and decoded when read.

    Args:
        data: A whole image file: JPEG, PNG, or whatever Pillow can read.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes):
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"sk.Image needs the bytes of an image file, not {type(data).__name__}")
        self.data = bytes(data)

    @property
    def format(self) -> str | None:
        """The file format by its first bytes ("jpeg", "png", ...), or None if it is not known."""
        if self.data[:4] == b"RIFF" and self.data[8:12] == b"WEBP":
            return "webp"
        return next((name for magic, name in _MAGICS if self.data.startswith(magic)), None)

    def decode(self, options: ImageOptions | None = None) -> NDArray[Any]:
        """Decode to `[height, width, channels]`; see the module for dtypes and channels."""
        return decode_image(self.data, options or ImageOptions())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and other.data == self.data

    def __hash__(self) -> int:
        return hash(self.data)

    def __repr__(self) -> str:
        return f"<Image {self.format or 'of unknown format'}: {len(self.data):,} bytes>"


@dataclass(frozen=True)
class ImageOptions:
    """How images are decoded.

    Attributes:
        decode: False gives the encoded bytes as `sk.Image`.
        mode: Convert to this Pillow mode ("RGB", "L", "RGBA"); None keeps the image's own.
        min_size: Decode JPEG at the smallest of its own scales (n/8) that is still at least
            (height, width), or at least this number in both; other formats in full. It costs
            less than decoding in full, and a resize to the exact size is still to be done.
        max_pixels: Images that claim more pixels are an error before memory is taken.
    """

    decode: bool = True
    mode: str | None = None
    min_size: int | tuple[int, int] | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        if self.mode is not None and self.mode not in ("RGB", "RGBA", "L", "LA", "CMYK", "F", "I"):
            raise ValueError(f"mode={self.mode!r} must be None, RGB, RGBA, L, LA, CMYK, F or I")
        sizes = self.min_size if isinstance(self.min_size, tuple) else (self.min_size,) * 2
        if self.min_size is not None and not (
            len(sizes) == 2 and all(type(n) is int and n >= 1 for n in sizes)
        ):
            raise ValueError(f"min_size={self.min_size!r} must be a number or (height, width)")
        if type(self.max_pixels) is not int or self.max_pixels < 1:
            raise ValueError(f"max_pixels={self.max_pixels!r} must be at least 1")

    @property
    def least(self) -> tuple[int, int]:
        """The least height and width; 0 asks for the full size."""
        if self.min_size is None:
            return 0, 0
        return self.min_size if isinstance(self.min_size, tuple) else (self.min_size,) * 2


def decode_image(data: bytes, options: ImageOptions) -> NDArray[Any]:
    """Decode an image file.

    Returns:
        `[height, width, channels]`, fresh and writable; see the module for dtypes and channels.

    Raises:
        FormatError: The bytes are no image, are cut short, or claim too many pixels.
        MissingDependencyError: Pillow is not installed.
    """
    if data[:3] == _JPEG_MAGIC:
        pixels = _decode_jpeg(data, options)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, options)


def _decode_jpeg(data: bytes, options: ImageOptions) -> NDArray[Any] | None:
    """Decode a JPEG with simplejpeg; None leaves it to Pillow (CMYK, other modes, broken files)."""
    try:
        import simplejpeg
    except ImportError:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        # simplejpeg converts no CMYK, and Pillow knows Adobe's inverted kind.
        if space not in ("RGB", "YCbCr", "Gray", "GRAY"):
            return None
        _check_pixels(height, width, options)
        wanted = options.mode or ("L" if space in ("Gray", "GRAY") else "RGB")
        if wanted not in _JPEG_SPACES:
            return None
        least = options.least
        pixels: NDArray[Any] = simplejpeg.decode_jpeg(
            data, _JPEG_SPACES[wanted], min_height=least[0], min_width=least[1]
        )
    except ValueError as error:
        if isinstance(error, FormatError):
            raise
        return None  # Pillow tells more precisely what is wrong, and reads some odd files
    return pixels


def _decode_with_pillow(data: bytes, options: ImageOptions) -> NDArray[Any]:
    pil = _pillow("Decoding an image")
    try:
        with pil.open(io.BytesIO(data)) as image:
            _check_pixels(image.height, image.width, options)
            if options.min_size is not None and image.format == "JPEG":
                height, width = options.least
                image.draft(image.mode, (width, height))
            image.load()
            array = np.array(_in_mode(image, options.mode))
    except FormatError:
        raise
    except Exception as error:  # Pillow raises what its many parsers raise
        raise FormatError(f"{len(data):,} bytes that are no whole image: {error}") from error
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    return array if array.ndim == 3 else array[:, :, None]


def _in_mode(image: Any, mode: str | None) -> Any:
    """The image in the mode that comes back."""
    if mode is None:
        if image.mode in ("P", "PA"):
            mode = "RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB"
        elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
            mode = "RGB"
        elif image.mode in ("La", "RGBa"):
            mode = image.mode[:-1] + "A"
    return image if mode in (None, image.mode) else image.convert(mode)


def is_pil_image(value: Any) -> bool:
    """Whether a value is a PIL image, without importing PIL."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(value, pil.Image)


def encode_pil(image: Any, *, quality: int | None = None) -> bytes:
    """The bytes under which a PIL image is stored.

    An image that was opened from a file and still has its pixels keeps the file's bytes. Any
    other is saved losslessly: as PNG, or as TIFF in the modes that PNG does not have (CMYK, YCbCr,
    LAB, I, F, PA). `quality` saves as JPEG instead.

    Raises:
        SchemaError: A mode that neither format keeps.
    """
    encoded = _encoded_bytes(image)
    if encoded is not None:
        return encoded
    buffer = io.BytesIO()
    if quality is not None:
        image = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
        image.save(buffer, "JPEG", quality=quality)
    elif image.mode in _PNG_MODES:
        image.save(buffer, "PNG")
    elif image.mode in _TIFF_MODES:
        image.save(buffer, "TIFF", compression="raw")
    else:
        raise SchemaError(f'a PIL image of mode "{image.mode}"; convert it first: .convert("RGB")')
    return buffer.getvalue()


def encode_array(array: NDArray[Any], *, quality: int | None = None) -> bytes:
    """Encode pixels `[h, w]` or `[h, w, channels]` as PNG, or as JPEG of a quality.

    Raises:
        SchemaError: Not uint8 with 1 to 4 channels, nor uint16 with one.
    """
    pixels = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    wide = pixels.dtype == np.uint16 and pixels.ndim == 2
    if not wide and not (
        pixels.dtype == np.uint8 and pixels.ndim in (2, 3) and channels in (1, 2, 3, 4)
    ):
        raise SchemaError(
            f"an array of {array.dtype} {list(array.shape)} is no image: uint8 [h, w] or "
            "[h, w, 1 to 4], or uint16 [h, w], can be encoded"
        )
    if not pixels.size:
        raise SchemaError(f"an image of shape {list(array.shape)} has no pixels")
    image = _pillow("Encoding an image").fromarray(np.ascontiguousarray(pixels))
    return encode_pil(image, quality=quality)


def _encoded_bytes(image: Any) -> bytes | None:
    """The file that a PIL image was read from, if it certainly still has those pixels."""
    if getattr(image, "format", None) is None:
        return None
    if getattr(image, "tile", None) and getattr(image, "fp", None) is not None:
        # Not loaded yet, so nothing can have changed; a draft would change the size, though.
        data = _whole_file(image.fp)
        return data if data is not None and _same_shape(image, data) else None
    filename = getattr(image, "filename", "")
    if not isinstance(filename, str) or not filename:
        return None
    try:
        with open(filename, "rb") as file:
            data = file.read()
    except OSError:
        return None
    return data if _same_pixels(image, data) else None


def _whole_file(file: Any) -> bytes | None:
    try:
        position = file.tell()
        file.seek(0)
        data = file.read()
        file.seek(position)
    except (OSError, ValueError, AttributeError):
        return None
    return data if isinstance(data, bytes) else None


def _same_shape(image: Any, data: bytes) -> bool:
    with _pillow("Reading an image").open(io.BytesIO(data)) as original:
        return bool(original.size == image.size and original.mode == image.mode)


def _same_pixels(image: Any, data: bytes) -> bool:
    try:
        with _pillow("Reading an image").open(io.BytesIO(data)) as original:
            return bool(
                original.size == image.size
                and original.mode == image.mode
                and original.tobytes() == image.tobytes()
                and original.getpalette() == image.getpalette()
            )
    except Exception:  # the file was replaced by something else: the pixels are what counts
        return False


def _check_pixels(height: int, width: int, options: ImageOptions) -> None:
    if height * width > options.max_pixels:
        raise FormatError(
            f"an image that claims {height:,} x {width:,} pixels; at most {options.max_pixels:,} "
            "are allowed (sk.ImageOptions(max_pixels=...))"
        )


def _pillow(purpose: str) -> Any:
    try:
        from PIL import Image as pil
    except ImportError as error:
        raise MissingDependencyError.for_extra("pillow", "image", purpose) from error
    return pil
