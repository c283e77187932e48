"""Reading images: every kind of source, every mode, every failure."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import re
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from edgeparse import ImageError, Parser, images
from tests.conftest import encoded, noise


@pytest.mark.parametrize("given_as", ["path", "string", "bytes", "file", "pil", "array"])
def test_every_source_gives_the_same_pixels(tmp_path: Path, given_as: str) -> None:
    pixels = noise(40, 60)
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(pixels))
    with path.open("rb") as file, Image.open(path) as image:
        sources = {
            "path": path,
            "string": str(path),
            "bytes": path.read_bytes(),
            "file": file,
            "pil": image,
            "array": pixels,
        }
        picture = images.read(sources[given_as])
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.width, picture.height) == (60, 40)
    assert picture.format == (None if given_as == "array" else "PNG")


def test_names() -> None:
    assert images.source_name("a/b.jpg") == "a/b.jpg"
    assert images.source_name(Path("b.jpg")) == "b.jpg"
    assert images.source_name(b"bytes") is None
    assert images.source_name(noise(8, 8)) is None
    assert images.source_name("a\udcff\ud800.jpg") == "a\ufffd\ufffd.jpg"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text there")
def test_a_name_that_is_no_text_is_reported(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    with pytest.raises(ImageError, match=r"no file .*\ufffd") as caught:
        images.read(path)
    assert str(caught.value).encode()
    path.write_bytes(encoded(noise(8, 8)))
    assert images.read(path).height == 8
    assert images.source_name(path) == f"{tmp_path}/\ufffd.png"
    with path.open("rb") as file:
        assert images.source_name(file) == f"{tmp_path}/\ufffd.png"


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 70), width=st.integers(1, 70), channels=st.sampled_from([0, 1, 3, 4]), seed=st.integers(0, 9)
)
def test_arrays_become_rgb_of_their_size(height: int, width: int, channels: int, seed: int) -> None:
    shape = (height, width, channels) if channels else (height, width)
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    pixels = images.read(array).pixels
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    if channels == 3:
        assert np.array_equal(pixels, array)


@settings(max_examples=25, deadline=None)
@given(orientation=st.integers(1, 8), seed=st.integers(0, 9))
def test_exif_orientation_is_applied(orientation: int, seed: int) -> None:
    pixels = noise(24, 40, seed)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = images.read(encoded(pixels, "PNG", exif=exif))
    # Undo by hand: orientations 5 to 8 lie on their side.
    turned = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels),
    }[orientation]
    assert np.array_equal(picture.pixels, turned)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_parts_are_parts_of_the_whole(orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(noise(2 * images.BAND + 9, images.BAND + 40)).convert(mode).save(buffer, "PNG", exif=exif)
    picture = images.read(buffer.getvalue())
    assert picture.pixels.shape == (picture.height, picture.width, 3)
    assert picture.pixels.flags["C_CONTIGUOUS"]
    assert np.array_equal(picture.part(3, 10, 50, 31), picture.pixels[3:50, 10:31])
    for down, across in ((1, 1), (2, 3), (4, 2)):
        rows, columns = 121 // down * down, picture.width // across * across
        thinned = picture.pixels[20 : 20 + rows : down, :columns:across, 1]
        assert np.array_equal(picture.subsampled_green(20, 141, down, across), thinned)


def test_grey_palette_cmyk_and_16_bit(tmp_path: Path) -> None:
    rgb = noise(20, 30)
    grey = rgb[:, :, 0]
    assert np.array_equal(images.read(Image.fromarray(grey)).pixels, np.repeat(grey[:, :, None], 3, 2))

    palette = Image.fromarray(rgb).quantize(32)
    assert np.array_equal(images.read(palette).pixels, np.asarray(palette.convert("RGB")))

    cmyk = images.read(encoded_image(Image.fromarray(rgb).convert("CMYK"), "TIFF"))
    assert np.abs(cmyk.pixels.astype(int) - rgb).max() <= 2

    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(images.read(encoded_image(deep, "PNG")).pixels[:, :, 0], grey)
    assert not images.read(Image.fromarray(np.zeros((9, 9), np.uint16))).pixels.any()
    with pytest.raises(ImageError, match="16-bit values must use the range up to 65535, got at most 40") as told:
        # Twelve bits, as a sensor gives them.
        images.read(encoded_image(Image.fromarray(np.uint16(grey // 2 + 128) * 16), "PNG"))
    assert told.value.kind == "unsupported"
    wide = Image.fromarray(grey.astype(np.int32) * 257)
    assert np.array_equal(images.read(wide).pixels[:, :, 0], grey)
    narrow = Image.fromarray(grey.astype(np.int32))
    assert np.array_equal(images.read(narrow).pixels[:, :, 0], grey)


def encoded_image(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def test_alpha_is_laid_over_white() -> None:
    rgba = np.dstack([noise(10, 10), np.full((10, 10), 255, np.uint8)])
    assert np.array_equal(images.read(rgba).pixels, rgba[:, :, :3])
    rgba[:, :, 3] = 0
    assert (images.read(rgba).pixels == 255).all()
    rgba[:, :, 3] = 128
    expected = np.asarray(Image.alpha_composite(Image.new("RGBA", (10, 10), "white"), Image.fromarray(rgba)))[:, :, :3]
    assert np.abs(images.read(rgba).pixels.astype(int) - expected).max() <= 1


def error_kind(source: object) -> str:
    with pytest.raises(ImageError) as caught:
        images.read(source)  # type: ignore[arg-type]
    assert caught.value.kind in ImageError.KINDS
    assert len(str(caught.value)) > 15
    return caught.value.kind


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    assert error_kind(tmp_path / "none.jpg") == "not_found"
    assert error_kind(tmp_path) == "unreadable"
    assert error_kind(b"") == "empty"
    assert error_kind(np.empty((0, 4, 3), np.uint8)) == "empty"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "locked.png"
    path.write_bytes(encoded(noise(8, 8)))
    path.chmod(0)
    assert error_kind(path) == "unreadable"


def test_a_name_that_cannot_be_and_files_that_give_nothing(tmp_path: Path) -> None:
    assert error_kind("a\0b.jpg") == "unreadable"
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(noise(8, 8), "JPEG"))
    with path.open(encoding="utf-8") as file:
        assert error_kind(file) == "unsupported"
    assert error_kind(file) == "unreadable"


def test_not_an_image() -> None:
    assert error_kind(b"hello, this is no picture at all") == "not_an_image"


def test_pillows_other_decoders_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    # PostScript is a program, which Pillow would have Ghostscript run.
    buffer = io.BytesIO()
    Image.fromarray(noise(16, 16)).save(buffer, "EPS")
    assert error_kind(buffer.getvalue()) == "not_an_image"
    # A format that this Pillow has not is only not read.
    monkeypatch.setattr(images, "FORMATS", ("JPEG", "NOT YET"))
    assert error_kind(encoded(noise(16, 16))) == "not_an_image"


def test_filters_of_warnings_are_the_hosts_after_many_threads() -> None:
    data, before = encoded(noise(8, 8)), list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(images.read, [data] * 400))
    assert list(warnings.filters) == before


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_truncated(form: str) -> None:
    data = encoded(noise(200, 200), form)
    assert error_kind(data[: len(data) // 2]) in ("truncated", "not_an_image")


@settings(max_examples=150, deadline=None)
@given(
    form=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]),
    place=st.floats(0, 1),
    junk=st.binary(max_size=12),
)
def test_damaged_files_are_read_or_refused_but_never_crash(form: str, place: float, junk: bytes) -> None:
    data = encoded(noise(40, 40), form)
    at = int(place * len(data))
    damaged = data[:at] + junk + data[at + len(junk) :]
    with contextlib.suppress(ImageError):
        assert images.read(damaged).pixels.dtype == np.uint8


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a few bytes, mostly near the start: random, all ones, all zeros, or doubled."""
    damaged = bytearray(data)
    reach = min(len(data), 200) if rng.random() < 0.7 else len(data)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(0, reach))
        piece = damaged[at : at + int(rng.integers(1, 5))]
        what = rng.integers(0, 4)
        new = (rng.bytes(len(piece)), b"\xff" * len(piece), b"\0" * len(piece), bytes(piece * 2))[what]
        damaged[at : at + len(piece)] = new
    return bytes(damaged)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["TIFF", "TIFF_LZW", "PNG", "JPEG", "WEBP", "GIF"])
def test_hostile_files_are_read_or_refused_as_pictures(form: str) -> None:
    """A batch survives whatever a decoder raises: hundreds of mutants, identical in every run."""
    options = {"compression": "tiff_lzw"} if form == "TIFF_LZW" else {}
    data, rng = encoded(noise(24, 24), form.split("_")[0], **options), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        try:
            images.read(mutated(data, rng))
        except ImageError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize("error", [KeyError(273), TypeError("x"), SyntaxError("x"), zlib.error("x"), RecursionError()])
@pytest.mark.parametrize("where", ["n_frames", "load"])
def test_whatever_pillow_raises_is_damage(monkeypatch: pytest.MonkeyPatch, error: Exception, where: str) -> None:
    def stumble(*_: object) -> None:
        raise error

    data = encoded(noise(8, 8), "TIFF")
    monkeypatch.setattr(TiffImageFile, where, property(stumble) if where == "n_frames" else stumble)
    assert error_kind(data) == "truncated"


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(TiffImageFile, "load", stumble)
    assert error_kind(encoded(noise(8, 8), "TIFF")) == "too_large"


def png_that_claims(width: int, height: int) -> bytes:
    """A small PNG whose header claims many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [11_400, 14_000, 60_000])
def test_decompression_bomb(side: int) -> None:
    assert error_kind(png_that_claims(side, side)) == "too_large"


def test_file_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    assert error_kind(io.BytesIO(encoded(noise(50, 50)))) == "too_large"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(data).cast("H")])
def test_bytes_too_many(monkeypatch: pytest.MonkeyPatch, kind: Callable[[bytes], object]) -> None:
    data = encoded(noise(50, 50))
    monkeypatch.setattr(images, "MAX_BYTES", len(data) // 2 * 2 - 1)
    assert error_kind(kind(data[: len(data) // 2 * 2])) == "too_large"


def test_an_archive_that_is_damaged_is_one_picture_that_cannot_be_read(parser: Parser) -> None:
    data = encoded(noise(64, 64))
    packed = gzip.compress(data)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", data)
    damaged = bytearray(buffer.getvalue())
    damaged[200] ^= 1
    with zipfile.ZipFile(io.BytesIO(damaged)) as archive, archive.open("a.png") as member:
        sources = [gzip.GzipFile(fileobj=io.BytesIO(packed[:-9])), member, data]
        reports = list(parser.parse_many(sources))
    assert [report.error and report.error.kind for report in reports] == ["unreadable", "unreadable", None]


def test_what_comes_in_pieces_is_read_whole() -> None:
    class Pipe(io.RawIOBase):
        """Return fewer bytes than requested, like an unbuffered socket."""

        def __init__(self, data: bytes) -> None:
            self.left, self.most = data, 0

        def read(self, size: int = -1) -> bytes:
            self.most = max(self.most, size)
            part, self.left = self.left[:100], self.left[100:]
            return part

    pipe = Pipe(encoded(noise(40, 60)))
    assert np.array_equal(images.read(pipe).pixels, noise(40, 60))  # type: ignore[arg-type]
    # What is asked for is allocated before anything is there.
    assert pipe.most <= 2**20

    class Full(Pipe):
        def read(self, size: int = -1) -> bytes:
            raise MemoryError

    assert error_kind(Full(b"")) == "too_large"  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_whole_picture_is_read_whatever_its_exif(form: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise(40, 60)).save(buffer, form, exif=b"Exif\0\0" + bytes(40), dpi=(72, 72))
    assert images.read(buffer.getvalue()).pixels.shape == (40, 60, 3)


def test_errors_survive_the_way_between_processes() -> None:
    found = pickle.loads(pickle.dumps(ImageError("too_large", "crop it")))
    assert (type(found), found.kind, str(found)) == (ImageError, "too_large", "crop it")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animated(form: str) -> None:
    frames = [Image.fromarray(noise(20, 20, seed)) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    assert error_kind(buffer.getvalue()) == "animated"


def test_first_picture_of_a_phones_mpo_is_read() -> None:
    buffer = io.BytesIO()
    frames = [Image.fromarray(noise(64, 64, seed)) for seed in range(2)]
    frames[0].save(buffer, "MPO", save_all=True, append_images=frames[1:])
    picture = images.read(buffer.getvalue())
    assert picture.format == "MPO"
    assert np.abs(picture.pixels.astype(int) - noise(64, 64, 0)).mean() < 20


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros(5, np.uint8),
        io.StringIO("text"),
        object(),
        Image.new("F", (4, 4)),
    ],
)
def test_unsupported(source: object) -> None:
    assert error_kind(source) == "unsupported"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!DOCTYPE html><html></html>", "an HTML page"),
        (b"\n  <html><body>404</body></html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a Git LFS pointer; run `git lfs pull`"),
        (b"\xff\x0a" + bytes(40), "a JPEG XL image"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "a HEIC image"),
        (b"%PDF-1.7 ", "a PDF document"),
        (b"hello", "the 5 bytes are not in a supported image format"),
    ],
)
def test_what_is_no_image_says_what_it_is(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=re.escape(message)) as caught:
        images.read(data)
    assert caught.value.kind == "not_an_image"


def test_a_url_says_that_nothing_is_downloaded() -> None:
    with pytest.raises(ImageError, match="is a URL, and edgeparse does not use the network") as caught:
        images.read("https://example.org/picture.jpg")
    assert caught.value.kind == "not_found"
