"""Anything a caller has -> RGB pixels: a path, bytes, a file object, a PIL image or an array, within limits."""

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

# A 108-megapixel phone picture passes; what unpacks to several gigabytes does not.
MAX_PIXELS = 128_000_000
MAX_BYTES = 512 * 1024 * 1024
# Asked for at a time: to ask for as much as is allowed would be to allocate it first.
CHUNK = 1024 * 1024

# Pillow has decoders for many more, of which one starts Ghostscript; none of them is what cameras and generators write. Those that it
# loads only when it needs them come last, and those that an old Pillow has not at the end.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
# Filters of warnings are the process's: two threads that both put them back may leave one's behind.
_opening = threading.Lock()

# Rows copied at a time out of Pillow: what is copied stays in the processor's cache, and the memory for it is used again. A 1-megapixel
# picture took 1.1 ms and not 4.6.
BAND = 128

# How the picture in a file becomes upright, by its EXIF orientation: its rows are reversed, its columns are, then both change places.
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
    """A decoded picture, seen upright and in RGB. Only what is asked for is copied out of Pillow, which keeps four bytes a pixel: of a
    large picture the windows are a small part.

    Args:
        decoded: uint8[H, W, 3], or a Pillow image of mode RGB, as in the file.
        format: the file's ("JPEG", ...), or None.
        orientation: EXIF's, what turns `decoded` upright.
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
        """The whole picture, uint8[height, width, 3], contiguous."""
        if isinstance(self._decoded, np.ndarray):
            return np.ascontiguousarray(self.part(0, 0, self.height, self.width))
        return _by_bands(self.height, self.width, lambda top, bottom: self.part(top, 0, bottom, self.width))

    def part(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """uint8[bottom - top, right - left, 3]; perhaps a view."""
        box = left, upper, right, lower = self._stored(top, left, bottom, right)
        if isinstance(self._decoded, np.ndarray):
            return self._upright(self._decoded[upper:lower, left:right])
        image = self._decoded if box == (0, 0, *self._decoded.size) else self._decoded.crop(box)
        return self._upright(np.frombuffer(image.tobytes(), np.uint8).reshape(lower - upper, right - left, 3))

    def thinned_green(self, top: int, bottom: int, down: int, across: int) -> NDArray[np.uint8]:
        """The green of the first of every `down` rows and of every `across` columns between two rows: uint8[(bottom - top) // down,
        width // across]; perhaps a view."""
        rows, columns = (bottom - top) // down, self.width // across
        left, upper, right, lower = self._stored(top, 0, top + rows * down, columns * across)
        if self._swapped:
            rows, columns, down, across = columns, rows, across, down
        # Of a reversed side the first pixel is stored last, and those between come first.
        left, upper = left + (across - 1) * self._columns, upper + (down - 1) * self._rows
        if isinstance(self._decoded, np.ndarray):
            return self._upright(self._decoded[upper:lower:down, left:right:across, 1])
        from PIL import Image

        # From the middle of a thinned pixel, i + 1/2, to the middle of the one in the picture.
        places = (across, 0, left + (1 - across) / 2, 0, down, upper + (1 - down) / 2)
        thinned = self._decoded.transform((columns, rows), Image.Transform.AFFINE, places, Image.Resampling.NEAREST)
        return self._upright(np.frombuffer(thinned.tobytes("raw", "G"), np.uint8).reshape(rows, columns))

    def _stored(self, top: int, left: int, bottom: int, right: int) -> tuple[int, int, int, int]:
        """Where a part is in what was decoded: left, upper, right, lower."""
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
    """Read a picture.

    Args:
        source: a path, encoded bytes, a binary file object, a PIL image, or uint8[H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (RGB order).

    Raises:
        ImageError: it cannot be read; `kind` says why.
    """
    if isinstance(source, np.ndarray):
        return Picture(_from_array(source))
    if isinstance(source, (str, os.PathLike)):
        return _decode(_from_path(Path(os.fsdecode(source))))
    if isinstance(source, (bytes, bytearray, memoryview)):
        _check_bytes(memoryview(source).nbytes)
        return _decode(bytes(source))
    if hasattr(source, "read"):
        return _decode(_from_file(source))
    return _from_pil(source)


def name_of(source: Source) -> str | None:
    """What a report calls the source: its path, or the file object's name, where it has one.

    Bytes of a file's name that are no text are U+FFFD: a report can be printed and written as UTF-8, whatever the file is called.
    """
    if isinstance(source, (str, os.PathLike)):
        return _as_text(os.fsdecode(source))
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return _as_text(name) if isinstance(name, str) and name else None


def _as_text(name: str) -> str:
    # os.fsencode(name).decode("utf-8", "replace") would do where the file system's encoding is UTF-8, and for every string.
    return _SURROGATES.sub("\ufffd", name)


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise ImageError(
            "unsupported", f"an array of {array.dtype} was given; scale it to 0..255 and convert it to uint8"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageError(
            "unsupported",
            f"an array of shape {array.shape} was given; expected [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]",
        )
    _check_size(array.shape[1], array.shape[0])
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    elif array.shape[2] == 4:
        array = _over_white(array)
    return np.ascontiguousarray(array)


def _by_bands(height: int, width: int, rows: Callable[[int, int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """uint8[height, width, 3] from what `rows` gives between two of them."""
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BAND):
        bottom = min(top + BAND, height)
        pixels[top:bottom] = rows(top, bottom)
    return pixels


def _over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Composite over white, as a viewer would; opaque pixels keep their values exactly."""
    alpha = rgba[:, :, 3:]
    if alpha.min() == 255:
        return rgba[:, :, :3]
    weight = alpha.astype(np.uint16)
    mixed = (rgba[:, :, :3].astype(np.uint16) * weight + 255 * (255 - weight) + 127) // 255
    return mixed.astype(np.uint8)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageError("empty", f"the picture is {width}x{height} pixels; there is nothing to look at")
    if width * height > MAX_PIXELS:
        raise ImageError(
            "too_large",
            (
                f"the picture is {width}x{height} = {width * height / 1e6:.0f} megapixels, "
                f"more than the {MAX_PIXELS // 10**6} that are read; crop it"
            ),
        )


def _check_bytes(length: int) -> None:
    if length > MAX_BYTES:
        raise ImageError("too_large", f"the file is larger than {MAX_BYTES // 2**20} MiB; no ordinary picture is")


def _from_path(path: Path) -> bytes:
    name = _as_text(str(path))
    try:
        if path.is_dir():
            if not os.access(path, os.R_OK | os.X_OK):
                raise ImageError("unreadable", f"{name} is a folder that may not be looked into; ask who owns it")
            raise ImageError(
                "unreadable", f"{name} is a folder; name a file in it, or read the folder with `edgeparse check -r`"
            )
        with path.open("rb") as file:
            return _from_file(file)
    except FileNotFoundError as error:
        raise ImageError("not_found", f"there is no file {name}") from error
    except OSError as error:
        raise ImageError("unreadable", f"{name} cannot be opened: {error.strerror or error}") from error
    except ValueError as error:  # a name with a null in it
        raise ImageError("unreadable", f"{_as_text(repr(str(path)))} cannot be opened: {error}") from error


def _from_file(file: Any) -> bytes:
    parts: list[bytes] = []
    length = 0
    try:
        # Until there is no more: a pipe or socket that is not buffered gives what has come so far.
        while part := _bytes_of(file.read(CHUNK)):
            parts.append(part)
            length += len(part)
            _check_bytes(length)
        return b"".join(parts)
    except ImageError:
        raise
    except UnicodeDecodeError as error:
        raise ImageError("unsupported", "the file object reads text; open it in binary mode") from error
    except MemoryError as error:
        raise ImageError("too_large", f"the file needs more memory than there is, after {length} bytes") from error
    except Exception as error:  # OSError; ValueError: it is closed; EOFError, BadZipFile: what it unpacks is damaged
        raise ImageError(
            "unreadable", f"the file cannot be read: {_as_text(str(error)) or type(error).__name__}"
        ) from error


def _bytes_of(part: object) -> bytes:
    if not isinstance(part, bytes):
        raise ImageError("unsupported", f"the file object gave {type(part).__name__}; open it in binary mode")
    return part


def _decode(data: bytes) -> Picture:
    if not data:
        raise ImageError("empty", "the file is empty")
    from PIL import Image, UnidentifiedImageError

    try:
        with _opening, warnings.catch_warnings():
            # Our own, stricter, limit is checked right after the header is read.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (UnidentifiedImageError, KeyError) as error:  # KeyError: of a format that this Pillow has not
        raise ImageError(
            "not_an_image", f"these {len(data)} bytes are in no picture format that is read: {', '.join(FORMATS)}"
        ) from error
    except Exception as error:
        raise _refusal(error, "the picture's header is damaged") from error
    with image:
        return _from_pil(image)


def _from_pil(image: Image.Image) -> Picture:
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise ImageError(
            "unsupported",
            f"a {type(image).__name__} is not a picture; give a path, bytes, a file, a PIL image or an array",
        )
    form = image.format
    try:
        _check_size(*image.size)
        frames = getattr(image, "n_frames", 1)
        # A phone's MPO holds the photo first and a preview or depth map behind it.
        if frames > 1 and form != "MPO":
            raise ImageError("animated", f"the {form} has {frames} frames; extract the one to look at")
        image.load()
        plain = image.mode == "RGB" and "transparency" not in image.info
        return Picture(image if plain else _from_array(_to_array(image)), form, _orientation(image))
    except ImageError:
        raise
    except Exception as error:
        raise _refusal(error, f"the {form or 'picture'} ends early or is damaged") from error


def _orientation(image: Image.Image) -> int:
    """EXIF's; 1, upright, where there is no EXIF that can be read: a scrubber may have left zeros there, and the picture is whole."""
    from PIL import ExifTags

    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # SyntaxError, ValueError, struct.error: whatever its parser stumbles over
        return 1
    return found if isinstance(found, int) else 1


def _refusal(error: Exception, damage: str) -> ImageError:
    """What a decoder's error means. On hostile files Pillow raises whatever its parsers stumble over: KeyError, TypeError, zlib.error."""
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        return ImageError("too_large", f"the picture would unpack to too many pixels: {error}")
    if isinstance(error, MemoryError):
        return needs_memory()
    return ImageError("truncated", f"{damage}: {_as_text(str(error)) or type(error).__name__}")


def needs_memory() -> ImageError:
    """What is said of a picture for which there was not enough, wherever that shows."""
    return ImageError("too_large", "the picture needs more memory than there is; crop it")


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    """uint8[H, W] or [H, W, 3]."""
    if image.mode.startswith("I;16"):
        return _high_byte(np.asarray(image).astype(np.uint16))
    if image.mode == "I":
        # Pillow widens some 16-bit files to 32 bits.
        values = np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
        return _high_byte(values) if values.max() > 255 else values.astype(np.uint8)
    if image.mode == "F":
        raise ImageError("unsupported", "the picture holds floating-point values; convert it to 8 or 16 bits")
    transparent = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    mode, (width, height) = "RGBA" if transparent else "RGB", image.size

    def rows(top: int, bottom: int) -> NDArray[np.uint8]:
        return _from_array(np.asarray(image.crop((0, top, width, bottom)).convert(mode)))

    return _by_bands(height, width, rows)


def _high_byte(values: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Of a picture of 16 bits.

    Raises:
        ImageError: it leaves the upper four bits out, as what a sensor gave with 10 or 12 does: hardly a trace would be left.
    """
    if 0 < (highest := int(values.max())) < 4096:
        raise ImageError(
            "unsupported", f"the picture's 16-bit values go up to {highest} of 65535; scale them to 16 bits, or to 8"
        )
    return (values >> 8).astype(np.uint8)
