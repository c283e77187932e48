"""Read an image from any source: a path, bytes, a file object, a PIL image or an array -> RGB pixels, within limits."""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeparse.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

    Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8]

# Accepts a 108-megapixel phone photo and rejects decompression bombs.
MAX_PIXELS = 128_000_000
MAX_BYTES = 512 * 1024 * 1024
# Read size. Python allocates the requested size up front, so asking for MAX_BYTES would allocate it.
CHUNK = 1024 * 1024

# Formats that cameras and generators write. Pillow decodes many more, one of which starts Ghostscript. Formats whose plugin Pillow
# loads lazily come last; AVIF, which old Pillow versions lack, comes at the end.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
# Warning filters are global to the process. Without the lock, two threads that restore them could leave one's filter behind.
_opening = threading.Lock()

# Rows copied out of Pillow at a time: the copy stays in the CPU cache and its memory is reused. A 1-megapixel image took 1.1 ms
# instead of 4.6 ms.
BAND = 128

# EXIF orientation -> (reverse rows, reverse columns, swap axes), applied in this order to make the stored image upright.
_TURNS = {
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}

_SURROGATES = re.compile("[\ud800-\udfff]")


class Picture:
    """A decoded image, upright and in RGB.

    Pixels are copied out of Pillow only when they are requested, because windows cover a small part of a large image.

    Args:
        decoded: uint8[H, W, 3], or a Pillow image of mode RGB, as stored in the file.
        format: file format ("JPEG", ...), or None.
        orientation: EXIF orientation of `decoded`.

    Attributes:
        width: width in pixels, upright.
        height: height in pixels, upright.
        format: as given.
    """

    def __init__(
        self, decoded: NDArray[np.uint8] | Image.Image, format: str | None = None, orientation: int = 1
    ) -> None:
        self._decoded = decoded
        self._rows, self._columns, self._swapped = _TURNS.get(orientation, (False, False, False))
        height, width = decoded.shape[:2] if isinstance(decoded, np.ndarray) else decoded.size[::-1]
        self.width, self.height = (height, width) if self._swapped else (width, height)
        self.format = format

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The whole image, uint8[height, width, 3], contiguous."""
        if isinstance(self._decoded, np.ndarray):
            return np.ascontiguousarray(self.part(0, 0, self.height, self.width))
        return _copy_in_bands(self.height, self.width, lambda top, bottom: self.part(top, 0, bottom, self.width))

    def top_rows(self, count: int) -> NDArray[np.uint8]:
        """Return the first `count` rows as stored in the file, not turned, uint8[count, W, 3]; it may be a view."""
        if isinstance(self._decoded, np.ndarray):
            return self._decoded[:count]
        return np.asarray(self._decoded.crop((0, 0, self._decoded.width, count)))

    def part(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """Return a rectangle, uint8[bottom - top, right - left, 3]; it may be a view."""
        box = left, upper, right, lower = self._stored(top, left, bottom, right)
        if isinstance(self._decoded, np.ndarray):
            return self._upright(self._decoded[upper:lower, left:right])
        image = self._decoded if box == (0, 0, *self._decoded.size) else self._decoded.crop(box)
        return self._upright(np.frombuffer(image.tobytes(), np.uint8).reshape(lower - upper, right - left, 3))

    def subsampled_green(self, top: int, bottom: int, down: int, across: int) -> NDArray[np.uint8]:
        """Return every `down`-th row and `across`-th column of the green channel between two rows; it may be a view.

        Returns:
            uint8[(bottom - top) // down, width // across].
        """
        rows, columns = (bottom - top) // down, self.width // across
        left, upper, right, lower = self._stored(top, 0, top + rows * down, columns * across)
        if self._swapped:
            rows, columns, down, across = columns, rows, across, down
        # On a reversed axis, the first pixel of each group is stored last.
        left, upper = left + (across - 1) * self._columns, upper + (down - 1) * self._rows
        if isinstance(self._decoded, np.ndarray):
            return self._upright(self._decoded[upper:lower:down, left:right:across, 1])
        from PIL import Image

        # Maps the centre of a subsampled pixel, i + 1/2, to the centre of its source pixel.
        matrix = (across, 0, left + (1 - across) / 2, 0, down, upper + (1 - down) / 2)
        sampled = self._decoded.transform((columns, rows), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
        return self._upright(np.frombuffer(sampled.tobytes("raw", "G"), np.uint8).reshape(rows, columns))

    def _stored(self, top: int, left: int, bottom: int, right: int) -> tuple[int, int, int, int]:
        """Convert an upright rectangle to stored coordinates: left, upper, right, lower."""
        height, width = self.height, self.width
        if self._swapped:
            top, left, bottom, right, height, width = left, top, right, bottom, width, height
        if self._rows:
            top, bottom = height - bottom, height - top
        if self._columns:
            left, right = width - right, width - left
        return left, top, right, bottom

    def _upright(self, part: NDArray[np.uint8]) -> NDArray[np.uint8]:
        part = part[:: -1 if self._rows else 1, :: -1 if self._columns else 1]
        return part.swapaxes(0, 1) if self._swapped else part


def read(source: Source) -> Picture:
    """Read an image.

    Args:
        source: a path, encoded bytes, a binary file object, a PIL image, or uint8[H, W], [H, W, 1], [H, W, 3] or [H, W, 4] in
            RGB order.

    Raises:
        ImageError: the image cannot be read; `kind` says why.
    """
    return decode(load(source))


def load(source: Source) -> bytes | Image.Image | NDArray[np.uint8]:
    """Return the bytes of an encoded source; an array or a PIL image is returned as it is.

    Raises:
        ImageError: the source cannot be read, or is larger than `MAX_BYTES`.
    """
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _from_path(Path(os.fsdecode(source)))
    if isinstance(source, (bytes, bytearray, memoryview)):
        _check_bytes(memoryview(source).nbytes)
        return bytes(source)
    return _from_file(source) if hasattr(source, "read") else source


def decode(loaded: bytes | Image.Image | NDArray[np.uint8]) -> Picture:
    """Decode what `load` returned.

    Raises:
        ImageError: the image cannot be read; `kind` says why.
    """
    if isinstance(loaded, np.ndarray):
        return Picture(_from_array(loaded))
    return _decode(loaded) if isinstance(loaded, bytes) else _from_pil(loaded)


def source_name(source: Source) -> str | None:
    """Return the name of a source for a report: its path, or the name of the file object, or None.

    Bytes of a file name that are not valid text become U+FFFD, so that reports can always be printed and written as UTF-8.
    """
    if isinstance(source, (str, os.PathLike)):
        return _as_text(os.fsdecode(source))
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return _as_text(name) if isinstance(name, str) and name else None


def out_of_memory() -> ImageError:
    """Return the error for an image that needs more memory than is available."""
    return ImageError("too_large", "the image needs more memory than is available; crop it")


def _as_text(name: str) -> str:
    # Unlike os.fsencode(name).decode("utf-8", "replace"), this works for any file system encoding.
    return _SURROGATES.sub("\ufffd", name)


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise ImageError("unsupported", f"an array must be uint8, got {array.dtype}; scale it to 0..255 and convert it")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(
            "unsupported",
            f"an array must have the shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], got {list(array.shape)}",
        )
    _check_size(array.shape[1], array.shape[0])
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    elif array.shape[2] == 4:
        array = _over_white(array)
    return np.ascontiguousarray(array)


def _copy_in_bands(height: int, width: int, rows: Callable[[int, int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Assemble uint8[height, width, 3] from bands: `rows(top, bottom)` returns one band."""
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BAND):
        bottom = min(top + BAND, height)
        pixels[top:bottom] = rows(top, bottom)
    return pixels


def _over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Composite over white, as viewers do. Opaque pixels keep their exact values."""
    alpha = rgba[:, :, 3:]
    if alpha.min() == 255:
        return rgba[:, :, :3]
    weight = alpha.astype(np.uint16)
    mixed = (rgba[:, :, :3].astype(np.uint16) * weight + 255 * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError("empty", f"the image has no pixels: {width}x{height}")
    if width * height > MAX_PIXELS:
        raise ImageError(
            "too_large",
            f"the image must have at most {MAX_PIXELS // 10**6} megapixels, got {width}x{height} = "
            f"{width * height / 1e6:.0f} megapixels; crop it",
        )


def _check_bytes(length: int) -> None:
    if length > MAX_BYTES:
        raise ImageError("too_large", f"the file must be at most {MAX_BYTES // 2**20} MiB; export the image again")


def _from_path(path: Path) -> bytes:
    name = _as_text(str(path))
    try:
        if path.is_dir():
            if not os.access(path, os.R_OK | os.X_OK):
                raise ImageError("unreadable", f"{name} is a folder that you may not read; check its permissions")
            raise ImageError(
                "unreadable", f"{name} is a folder; name a file in it, or read the folder with `edgeparse check -r`"
            )
        with path.open("rb") as file:
            return _from_file(file)
    except FileNotFoundError as error:
        # pathlib joins the two slashes of a URL.
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):
            message = f"{name} is a URL, and edgeparse does not use the network; download it and pass the bytes"
            raise ImageError("not_found", message) from error
        raise ImageError("not_found", f"there is no file {name}") from error
    except OSError as error:
        raise ImageError("unreadable", f"{name} cannot be opened: {error.strerror or error}") from error
    except ValueError as error:  # a name with a null character
        raise ImageError("unreadable", f"{_as_text(repr(str(path)))} cannot be opened: {error}") from error


def _from_file(file: Any) -> bytes:
    parts: list[bytes] = []
    length = 0
    try:
        # Unbuffered pipes and sockets return what has arrived so far, so read until the end.
        while part := _as_bytes(file.read(CHUNK)):
            parts.append(part)
            length += len(part)
            _check_bytes(length)
        return b"".join(parts)
    except ImageError:
        raise
    except UnicodeDecodeError as error:
        raise ImageError("unsupported", "the file object must return bytes; open it in binary mode") from error
    except MemoryError as error:
        raise ImageError(
            "too_large", f"the file needs more memory than is available ({length} bytes were read)"
        ) from error
    except Exception as error:  # OSError; ValueError if closed; EOFError or BadZipFile from damaged archives
        raise ImageError(
            "unreadable", f"the file cannot be read: {_as_text(str(error)) or type(error).__name__}"
        ) from error


def _as_bytes(part: object) -> bytes:
    if not isinstance(part, bytes):
        raise ImageError(
            "unsupported", f"the file object must return bytes, got {type(part).__name__}; open it in binary mode"
        )
    return part


def _decode(data: bytes) -> Picture:
    if not data:
        raise ImageError("empty", "the file is empty")
    from PIL import Image, UnidentifiedImageError

    try:
        with _opening, warnings.catch_warnings():
            # Our stricter limit is checked right after the header is read.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (UnidentifiedImageError, KeyError) as error:  # KeyError: this Pillow lacks the format
        raise ImageError("not_an_image", _what_instead(data)) from error
    except Exception as error:
        raise _decoder_error(error, "the image's header is damaged") from error
    with image:
        return _from_pil(image)


# First bytes of files that people take for images, and what to do about them.
_OTHER_FILES = (
    (b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
    (b"%PDF", "a PDF document; export its images"),
    (b"\xff\x0a", "a JPEG XL image; save it as PNG"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image; save it as PNG"),
    (b"PK\x03\x04", "a ZIP archive; extract it"),
    (b"<svg", "an SVG drawing; only photos and other raster images can be judged"),
    (b"<!doctype html", "an HTML page, perhaps an error page of a download; fetch the image itself"),
    (b"<html", "an HTML page, perhaps an error page of a download; fetch the image itself"),
)
_BRANDS = {
    b"avif": "an AVIF image, which this Pillow cannot read; update Pillow",
    b"heic": "a HEIC image; save it as JPEG or PNG",
}
_BRANDS |= dict.fromkeys((b"heix", b"mif1", b"msf1", b"heim"), _BRANDS[b"heic"])


def _what_instead(data: bytes) -> str:
    """Return what a file is that is no supported image, with a remedy if it is a known kind of file."""
    head = data[:64].lstrip().lower()
    for start, kind in _OTHER_FILES:
        if data.startswith(start) or head.startswith(start):
            return f"the file is {kind}"
    if data[4:8] == b"ftyp" and (kind := _BRANDS.get(data[8:12], "")):
        return f"the file is {kind}"
    return f"the {len(data)} bytes are not in a supported image format: {', '.join(FORMATS)}"


def _from_pil(image: Image.Image) -> Picture:
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise ImageError(
            "unsupported",
            f"an image must be a path, bytes, a file object, a PIL image or an array, got {type(image).__name__}",
        )
    form = image.format
    try:
        _check_size(*image.size)
        frames = getattr(image, "n_frames", 1)
        # A phone's MPO holds the photo first, then a preview or depth map.
        if frames > 1 and form != "MPO":
            raise ImageError("animated", f"the {form} must have one frame, got {frames}; extract one")
        image.load()
        direct = image.mode == "RGB" and "transparency" not in image.info
        return Picture(image if direct else _from_array(_to_array(image)), form, _orientation(image))
    except ImageError:
        raise
    except Exception as error:
        raise _decoder_error(error, f"the {form or 'image'} is truncated or damaged") from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, or 1 (upright) if EXIF is missing or unreadable, for example zeroed by a scrubber."""
    from PIL import ExifTags

    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the parser raises SyntaxError, ValueError, struct.error and others
        return 1
    return orientation if isinstance(orientation, int) else 1


def _decoder_error(error: Exception, damage: str) -> ImageError:
    """Convert a decoder's error. On hostile files Pillow raises anything: KeyError, TypeError, zlib.error."""
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        return ImageError("too_large", f"the image would unpack to too many pixels: {error}")
    if isinstance(error, MemoryError):
        return out_of_memory()
    return ImageError("truncated", f"{damage}: {_as_text(str(error)) or type(error).__name__}")


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    """Return uint8[H, W] or [H, W, 3]."""
    if image.mode.startswith("I;16"):
        return _high_byte(np.asarray(image).astype(np.uint16))
    if image.mode == "I":
        # Pillow widens some 16-bit files to 32 bits.
        values = np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
        return _high_byte(values) if values.max() > 255 else values.astype(np.uint8)
    if image.mode == "F":
        raise ImageError("unsupported", "the image must not have floating-point values; convert it to 8 or 16 bits")
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    mode, (width, height) = "RGBA" if transparent else "RGB", image.size

    def rows(top: int, bottom: int) -> NDArray[np.uint8]:
        return _from_array(np.asarray(image.crop((0, top, width, bottom)).convert(mode)))

    return _copy_in_bands(height, width, rows)


def _high_byte(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the high bytes of 16-bit values.

    Raises:
        ImageError: the upper four bits are unused, as in raw 10- or 12-bit sensor data. Few traces would remain.
    """
    if 0 < (highest := int(values.max())) < 4096:
        raise ImageError(
            "unsupported", f"16-bit values must use the range up to 65535, got at most {highest}; scale the image"
        )
    return (values >> 8).astype(np.uint8)
