"""Evidence in MP4 and QuickTime movies: credentials, XMP, labels, programs and cameras."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from edgeparse import provenance
from edgeparse.provenance.containers import isomedia, walk
from tests.conftest import noise
from tests.edgeparse.provenance import build
from tests.edgeparse.video.clips import encode

XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
LABEL = json.dumps(build.LABEL)


def movie(*boxes: bytes, brand: bytes = b"isom") -> bytes:
    return build.box(b"ftyp", brand + bytes(4) + brand) + b"".join(boxes) + build.box(b"mdat", bytes(100))


def data_box(value: bytes) -> bytes:
    return build.box(b"data", (1).to_bytes(4, "big") + bytes(4) + value)


def keyed(fields: dict[str, str]) -> bytes:
    """A moov with numbered keys, as `-movflags use_metadata_tags` writes them."""
    keys = b"".join(build.box(b"mdta", name.encode()) for name in fields)
    items = b"".join(
        build.box(number.to_bytes(4, "big"), data_box(value.encode()))
        for number, value in enumerate(fields.values(), 1)
    )
    listed = build.box(b"keys", bytes(4) + len(fields).to_bytes(4, "big") + keys)
    handler = build.box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    meta = build.box(b"meta", bytes(4) + handler + listed + build.box(b"ilst", items))
    return build.box(b"moov", build.box(b"udta", meta))


def itunes(code: bytes, value: str) -> bytes:
    items = build.box(b"ilst", build.box(code, data_box(value.encode())))
    return build.box(b"moov", build.box(b"udta", build.box(b"meta", bytes(4) + items)))


def quicktime(code: bytes, value: str) -> bytes:
    text = len(value.encode()).to_bytes(2, "big") + bytes(2) + value.encode()
    return build.box(b"moov", build.box(b"udta", build.box(code, text)))


def told(data: bytes) -> list[tuple[str, str, str | None, str]]:
    evidence = provenance.read(data)
    assert evidence.problems == ()
    return [(s.kind, s.says, s.name, s.strength) for s in evidence.signals]


@pytest.mark.parametrize("where", ["top", "moov", "XMP_"])
def test_xmp(where: str) -> None:
    packet = build.xmp(attributes='Iptc4xmpExt:DigitalSourceType="' + build.DST + 'trainedAlgorithmicMedia"')
    box = build.box(b"uuid", XMP_UUID + packet)
    boxes = {
        "top": box,
        "moov": build.box(b"moov", box),
        "XMP_": build.box(b"moov", build.box(b"udta", build.box(b"XMP_", packet))),
    }
    assert told(movie(boxes[where])) == [("xmp", "generated", None, "medium")]


@pytest.mark.parametrize("brand", [b"isom", b"qt  "])
def test_content_credentials(brand: bytes) -> None:
    purpose = bytes(4) + b"manifest\0" + bytes(8)
    data = movie(build.box(b"uuid", build.C2PA_UUID + purpose + build.generated_store()), brand=brand)
    (signal,) = provenance.read(data).signals
    assert signal.kind == "c2pa"
    assert signal.where == f"{'MOV' if brand == b'qt  ' else 'MP4'} uuid/JUMBF"


def test_aigc_label_under_its_key() -> None:
    assert told(movie(keyed({"major_brand": "isom", "AIGC": LABEL}))) == [
        ("aigc", "generated", build.LABEL["ContentProducer"], "medium")
    ]
    assert told(movie(keyed({"comment": LABEL}))) == []
    assert [t[:2] for t in told(movie(keyed({"comment": json.dumps({"AIGC": build.LABEL})})))] == [
        ("aigc", "generated")
    ]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (itunes(b"\xa9too", "Kling AI 2.1"), ("text", "generated", "Kling AI (Kuaishou)", "weak")),
        (keyed({"com.apple.quicktime.software": "Sora"}), ("text", "generated", "Sora (OpenAI)", "weak")),
        (quicktime(b"\xa9swr", "Adobe Photoshop 26.0"), ("text", "human edit", "Adobe Photoshop", "weak")),
    ],
)
def test_programs_are_weak(box: bytes, expected: tuple[str, str, str, str]) -> None:
    assert told(movie(box)) == [expected]


@pytest.mark.parametrize(
    "box", [itunes(b"\xa9too", "Lavf61.7.100"), itunes(b"\xa9nam", "Sora"), keyed({"title": "Kling AI"})]
)
def test_other_programs_and_captions_say_nothing(box: bytes) -> None:
    assert told(movie(box)) == []


def test_a_phone_names_itself() -> None:
    fields = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone 15 Pro"}
    assert told(movie(keyed(fields), brand=b"qt  ")) == [("text", "camera", "Apple iPhone 15 Pro", "weak")]
    assert told(movie(keyed({"com.apple.quicktime.make": "Apple"}))) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": json.dumps(build.COMFY)},
        {"comment": json.dumps({"prompt": json.dumps(build.COMFY)})},
        {"comment": json.dumps({"prompt": build.COMFY, "workflow": {}})},
    ],
)
def test_comfyui_graphs(fields: dict[str, str]) -> None:
    assert told(movie(keyed(fields)))[0][:3] == ("parameters", "generated", "ComfyUI")


def test_fields_that_a_real_muxer_writes() -> None:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", container_options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["AIGC"] = LABEL
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(noise(64, 64), format="rgb24")))
        container.mux(stream.encode(None))
    assert ("aigc", "generated") in [t[:2] for t in told(buffer.getvalue())]
    assert told(encode([noise(64, 64)] * 2)) == []


def test_a_large_movie_is_mapped_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with path.open("wb") as file:
        file.write(build.box(b"ftyp", b"isom" + bytes(4)) + keyed({"AIGC": LABEL}))
        file.write((1).to_bytes(4, "big") + b"mdat" + (3 * 2**30).to_bytes(8, "big"))
        # A hole: the file takes no space on the disk.
        file.truncate(file.tell() - 16 + 3 * 2**30)
    (signal,) = provenance.read(path).signals
    assert signal.kind == "aigc"


def test_damage_ends_the_walk_and_keeps_what_was_found() -> None:
    data = movie(keyed({"AIGC": LABEL})) + (2**31).to_bytes(4, "big") + b"free"
    container = walk(data)
    assert container.damage
    assert len(container.of("text")) == 1
    wrong = build.box(b"moov", build.box(b"meta", bytes(4) + build.box(b"keys", bytes(7) + b"\1" + bytes(3) + b"\2")))
    assert "key must lie" in (walk(movie(wrong)).damage or "")


def test_images_of_the_same_family_are_no_movies() -> None:
    assert isomedia.format_of(build.heif()) is None
    assert isomedia.format_of(build.heif(b"avif")) is None
    assert isomedia.format_of(b"\0\0\0\x08moov") == "MOV"
    assert isomedia.format_of(b"") is None
