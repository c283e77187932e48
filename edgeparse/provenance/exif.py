"""EXIF (Exif 2.32): camera, software, generation parameters and xAI's pair of fields.

A camera's fields are weak support: every editor can write them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeparse.provenance import aigc, parameters
from edgeparse.provenance.containers import Block, Container
from edgeparse.provenance.containers.tiff import Tiff, parse
from edgeparse.provenance.names import AI_EDITORS, EDITORS, GENERATORS, find_name, is_camera_maker
from edgeparse.provenance.signals import Signal, make_signal

DESCRIPTION, MAKE, MODEL, SOFTWARE, ARTIST = 0x010E, 0x010F, 0x0110, 0x0131, 0x013B
EXIF_IFD, XP_COMMENT, MAKER_NOTE, USER_COMMENT, LENS = 0x8769, 0x9C9C, 0x927C, 0x9286, 0xA434
# Exposure time, aperture, sensitivity, focal length, exposure programme, metering.
_EXPOSURE = {0x829A: "exposure", 0x829D: "aperture", 0x8827: "ISO", 0x920A: "focal length", 0x9207: "metering"}
_TEXT_TAGS = {
    DESCRIPTION: "ImageDescription",
    MAKE: "Make",
    MODEL: "Model",
    SOFTWARE: "Software",
    ARTIST: "Artist",
    XP_COMMENT: "XPComment",
}
_SIGNATURE = re.compile(r"Signature: [A-Za-z0-9+/]{60,}={0,2}\s*$")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NAME_LENGTH = 80
_MAX_BLOCKS = 8


@dataclass(frozen=True)
class Directories:
    """The raw values of an EXIF block's directories."""

    main: dict[int, bytes]
    photo: dict[int, bytes]
    thumbnail: dict[int, bytes]
    tiff: Tiff


def directories(data: bytes) -> Directories | None:
    """Return the directories of an EXIF block, or None when it is damaged."""
    tiff = parse(data)
    if tiff is None:
        return None
    main, following = tiff.directory(tiff.first)
    photo, _ = tiff.directory(tiff.integer(main.get(EXIF_IFD)))
    thumbnail, _ = tiff.directory(following) if following else ({}, 0)
    return Directories(main, photo, thumbnail, tiff)


def read(container: Container) -> list[Signal]:
    """Return the signals of every EXIF block."""
    signals: list[Signal] = []
    for block in container.of("exif")[:_MAX_BLOCKS]:
        found = directories(block.data)
        if found:
            signals += _block(found, block, container)
    return signals


def _block(found: Directories, block: Block, container: Container) -> list[Signal]:
    texts = {name: _text(found.main.get(tag), tag) for tag, name in _TEXT_TAGS.items()}
    texts["UserComment"] = user_comment(found.photo.get(USER_COMMENT), big_endian=found.tiff.order == "big")
    size = (container.width, container.height)
    signals: list[Signal] = []
    for name, text in texts.items():
        if not text:
            continue
        where = f"{block.where} {name}"
        key = "UserComment" if name in ("XPComment", "ImageDescription") else name
        signals += parameters.read_text(key, text, where, size=size)
        label = aigc.from_text(text, where, wrapped=True)
        signals += [label] if label else []
    signals += _fooocus(found, texts, block.where)
    signals += _software(texts["Software"], block.where)
    signals += _xai(texts, block.where)
    signals += _camera(found, texts, block.where)
    return signals


def _text(value: bytes | None, tag: int) -> str:
    """Return a text value: UTF-16 in Windows' tags, otherwise UTF-8 or Latin-1."""
    if not value:
        return ""
    value = value[: parameters.MAX_JSON]
    if tag == XP_COMMENT:
        return value.decode("utf-16-le", "replace").rstrip("\0")
    value = value.rstrip(b"\0 ")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def user_comment(value: bytes | None, *, big_endian: bool) -> str:
    """Return a UserComment: eight bytes name its character set.

    Writers disagree about the byte order of UNICODE, so the one that gives Latin zeros wins.
    """
    if not value or len(value) <= 8:
        return ""
    code, body = value[:8], value[8 : 8 + parameters.MAX_JSON]
    if code.startswith(b"UNICODE"):
        if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return body.decode("utf-16", "replace").rstrip("\0")
        sample = body[:2000]
        even, odd = sample[::2].count(0), sample[1::2].count(0)
        big = even > odd if even != odd else big_endian
        return body.decode("utf-16-be" if big else "utf-16-le", "replace").rstrip("\0")
    if code in (b"ASCII\0\0\0", b"\0" * 8, b"JIS\0\0\0\0\0"):
        return body.decode("utf-8", "replace").rstrip("\0")
    # No character set at all: some writers begin with the text.
    return value[: parameters.MAX_JSON].decode("utf-8", "replace").rstrip("\0")


def _fooocus(found: Directories, texts: dict[str, str], where: str) -> list[Signal]:
    """Fooocus writes its scheme into MakerNote and its parameters into UserComment."""
    if found.photo.get(MAKER_NOTE, b"")[:20].rstrip(b"\0") not in (b"fooocus", b"a1111"):
        return []
    if not texts["Software"].startswith("Fooocus"):
        return []
    return [make_signal("parameters", "generated", f"{where} MakerNote", name="Fooocus", raw=texts["Software"])]


def _software(text: str, where: str) -> list[Signal]:
    for table, says in ((AI_EDITORS, "edited with AI"), (GENERATORS, "generated"), (EDITORS, "human edit")):
        name = find_name(text, table)
        if name:
            return [make_signal("exif", says, f"{where} Software", name=name, raw=text)]  # type: ignore[arg-type]
    return []


def _xai(texts: dict[str, str], where: str) -> list[Signal]:
    """Grok signs the description and puts a UUID into the artist; either alone means nothing."""
    artist = texts["Artist"].strip()
    if not _SIGNATURE.match(texts["ImageDescription"]) or not _UUID.fullmatch(artist):
        return []
    return [
        make_signal(
            "exif",
            "generated",
            f"{where} ImageDescription and Artist",
            name="Grok (xAI)",
            raw=texts["ImageDescription"],
            note="recognised by its pair of fields; no name is declared",
        )
    ]


def _camera(found: Directories, texts: dict[str, str], where: str) -> list[Signal]:
    make, model = texts["Make"].strip(), texts["Model"].strip()
    exposure = [name for tag, name in _EXPOSURE.items() if tag in found.photo]
    note = len(found.photo.get(MAKER_NOTE, b""))
    if not _is_name(make) or not _is_name(model) or not is_camera_maker(make):
        return []
    if len(exposure) < 2 and not note:
        return []
    maker, device = make.split()[0].casefold(), model.casefold()
    return [
        make_signal(
            "exif",
            "camera",
            f"{where} Make and Model",
            name=model if device.startswith(maker) else f"{make} {model}",
            raw=f"{make} | {model} | {texts['Software']}",
            exposure=", ".join(exposure),
            lens=_text(found.photo.get(LENS), LENS),
            maker_note=f"{note} bytes" if note else "",
        )
    ]


def _is_name(text: str) -> bool:
    """Return True for a short printable name: ComfyUI can write a graph into Make."""
    return 0 < len(text) <= _NAME_LENGTH and text.isprintable() and not {"{", "}", "\n"} & set(text)
