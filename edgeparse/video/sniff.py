"""Recognise clips by their first bytes, without a video library."""

from __future__ import annotations

import os
from typing import Any

from edgeparse.provenance.containers import isomedia

# Bytes that the decision needs: brands of ISO media, and three packets of an MPEG transport stream.
HEAD = 600
# Files with these suffixes are clips if a folder is searched. A file that is named is recognised by its bytes.
_SUFFIXES = "mp4 m4v mov qt 3gp mkv webm avi ts mts m2ts mpg mpeg vob flv wmv asf ogv"
SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())

_TS_PACKET, _M2TS_PACKET = 188, 192
_MAGIC = (
    (b"\x1aE\xdf\xa3", "matroska", "MKV"),
    (b"FLV\x01", "flv", "FLV"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf", "ASF"),
    (b"OggS", "ogg", "OGG"),
    (b"\0\0\x01\xba", "mpeg", "MPEG"),
)


def clip_format(head: bytes) -> tuple[str, str] | None:
    """Return FFmpeg's demuxer and the format's name ("MP4", "MKV", ...), or None if the bytes do not begin a clip.

    Naming the demuxer keeps FFmpeg from probing: playlists, which may refer to other files and URLs, are never opened.

    Args:
        head: the first `HEAD` bytes; fewer of a shorter file.
    """
    for magic, demuxer, name in _MAGIC:
        if head.startswith(magic):
            return demuxer, "WEBM" if name == "MKV" and b"webm" in head[:64] else name
    if head.startswith(b"RIFF") and head[8:11] == b"AVI":
        return "avi", "AVI"
    if form := isomedia.format_of(head):
        return "mov", form
    if any(head[at::packet][:3] == b"G" * 3 for packet, at in ((_TS_PACKET, 0), (_M2TS_PACKET, 4))):
        return "mpegts", "TS"
    return None


def is_clip(source: object) -> bool:
    """Return whether a path, bytes or a seekable or buffered binary file holds a clip. Unreadable sources do not."""
    if isinstance(source, (bytes, bytearray)):
        return clip_format(bytes(source[:HEAD])) is not None
    if isinstance(source, (str, os.PathLike)):
        # Reading a pipe would take bytes away from the decoder, and may block.
        if not os.path.isfile(source):
            return False
        try:
            with open(source, "rb") as file:  # noqa: PTH123 (os.PathLike may be no Path)
                return clip_format(file.read(HEAD)) is not None
        except OSError:
            return False
    return hasattr(source, "read") and clip_format(_peek(source)) is not None


def _peek(file: Any) -> bytes:
    """Return the first bytes of a file object and leave its position; empty if that is impossible."""
    try:
        if hasattr(file, "peek"):
            return bytes(file.peek(HEAD)[:HEAD])
        start = file.tell()
        head = file.read(HEAD)
        file.seek(start)
    except (OSError, ValueError, AttributeError):
        return b""
    return head if isinstance(head, bytes) else b""
