"""Each signal on a file that carries it, and on look-alikes that must not trigger it."""

from __future__ import annotations

import json
import time
import tracemalloc
import zlib

import pytest

from edgeparse import provenance
from edgeparse.provenance import Evidence, Signal
from tests.edgeparse.provenance import build
from tests.edgeparse.provenance.build import A1111, CAMERA, COMFY, DST, EXPOSURE, LABEL

XMP_KEY = "XML:com.adobe.xmp"
UUID = "0b8f0e0a-6c1d-4a57-9a51-1c1f9d2f3b11"
SIGNED = "Signature: " + "Ab3+" * 22 + "Zg=="


def only(data: bytes) -> Signal:
    evidence = provenance.read(data)
    assert not evidence.problems
    assert len(evidence.signals) == 1, evidence.signals
    return evidence.signals[0]


def says(evidence: Evidence) -> set[str]:
    return {signal.says for signal in evidence.signals}


def ai(data: bytes) -> list[Signal]:
    return [s for s in provenance.read(data).signals if s.says in ("generated", "edited with AI", "watermark")]


# Generation parameters

CARRIERS = {
    "tEXt": build.png(build.text("parameters", A1111)),
    "zTXt": build.png(build.text("parameters", A1111, "zTXt")),
    "iTXt": build.png(build.text("parameters", A1111, "iTXt")),
    "iTXt compressed": build.png(build.text("parameters", A1111, "iTXt compressed")),
    "behind IDAT": build.png(late=build.text("parameters", A1111)),
    "JPEG": build.jpeg_exif(build.exif({}, {0x9286: build.unicode_comment(A1111)})),
    "JPEG, big-endian comment": build.jpeg_exif(build.exif({}, {0x9286: build.unicode_comment(A1111, "utf-16-be")})),
    "JPEG, ASCII": build.jpeg_exif(build.exif({}, {0x9286: b"ASCII\0\0\0" + A1111.encode()})),
    "JPEG comment": build.jpeg(build.segment(0xFE, A1111.encode())),
    "WebP": build.webp((b"EXIF", build.exif({}, {0x9286: build.unicode_comment(A1111)}))),
    "HEIF": build.heif(exif=build.exif({}, {0x9286: build.unicode_comment(A1111)})),
    "AVIF": build.heif(b"avif", exif=build.exif({}, {0x9286: build.unicode_comment(A1111)})),
    "PNG eXIf": build.png(build.chunk(b"eXIf", build.exif({}, {0x9286: build.unicode_comment(A1111)}))),
}


@pytest.mark.parametrize("data", CARRIERS.values(), ids=CARRIERS)
def test_infotext(data: bytes) -> None:
    signal = only(data)
    assert (signal.says, signal.verification, signal.strength) == ("generated", "declared", "medium")
    assert signal.name == "Stable Diffusion web UI (AUTOMATIC1111)"
    assert signal.details["model"] == "dream"


DIALECTS = [
    ("parameters", A1111.replace("v1.10.1", "f2.0.1v1.10.1"), "Stable Diffusion web UI (Forge)"),
    ("parameters", A1111.replace("v1.10.1", "neo"), "Stable Diffusion web UI (Forge Neo)"),
    ("parameters", A1111 + ", App: SD.Next", "SD.Next"),
    ("prompt", json.dumps(COMFY), "ComfyUI"),
    ("workflow", json.dumps({"last_node_id": 1, "nodes": [{"type": "KSampler", "widgets_values": [1]}]}), "ComfyUI"),
    ("invokeai_metadata", json.dumps({"generation_mode": "txt2img", "model": {"name": "m"}}), "InvokeAI"),
    ("sd-metadata", json.dumps({"app_id": "invoke-ai/InvokeAI", "model_weights": "m"}), "InvokeAI"),
    ("Dream", '"a lighthouse" -s 50 -S 3 -W 512 -H 512', "InvokeAI"),
    ("Comment", json.dumps({"prompt": "a", "uc": "b", "n_samples": 1}), "NovelAI"),
    ("Source", "NovelAI Diffusion V4.5 C02D4F98", "NovelAI"),
    ("Software", "NovelAI", "NovelAI"),
    ("parameters", json.dumps({"performance": "Speed", "base_model": "x", "sharpness": 2}), "Fooocus"),
    ("parameters", json.dumps({"sui_image_params": {"model": "m", "prompt": "a"}}), "SwarmUI"),
    ("parameters", json.dumps({"use_stable_diffusion_model": "m", "prompt": "a"}), "Easy Diffusion"),
    ("Description", f"a cat --v 5.2 Job ID: {UUID}", "Midjourney"),
]


@pytest.mark.parametrize(("key", "value", "name"), DIALECTS)
def test_dialect(key: str, value: str, name: str) -> None:
    signal = only(build.png(build.text(key, value)))
    assert (signal.says, signal.name) == ("generated", name)


def test_comfyui_names_the_model_out_of_the_graph() -> None:
    assert only(build.png(build.text("prompt", json.dumps(COMFY)))).details["model"] == "sd_xl_base_1.0.safetensors"


def test_comfyui_graph_on_a_screenshot_is_weak() -> None:
    graph = json.dumps({**COMFY, "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64}}})
    signal = only(build.png(build.text("prompt", graph)))
    assert signal.strength == "weak"
    assert "64x64" in signal.details["note"]


def test_comfyui_graph_in_make_is_no_camera() -> None:
    block = build.exif({0x010F: f"Prompt: {json.dumps(COMFY)}", 0x0110: "Workflow: {}"}, EXPOSURE)
    signal = only(build.jpeg_exif(block))
    assert (signal.says, signal.name) == ("generated", "ComfyUI")


def test_draw_things_in_xmp() -> None:
    value = json.dumps({"c": "a", "uc": "", "sampler": "DPM++", "seed": 1, "steps": 20, "model": "m.ckpt"})
    packet = build.xmp(
        f"<exif:UserComment><rdf:Alt><rdf:li>{value}</rdf:li></rdf:Alt></exif:UserComment>",
        'xmp:CreatorTool="Draw Things"',
    )
    names = {(s.kind, s.name) for s in provenance.read(build.png(build.text(XMP_KEY, packet.decode(), "iTXt"))).signals}
    assert names == {("parameters", "Draw Things"), ("xmp", "Draw Things")}


def test_fooocus_in_exif() -> None:
    block = build.exif({0x0131: "Fooocus v2.4.3"}, {0x927C: b"fooocus\0", 0x9286: b"ASCII\0\0\0{}"})
    assert {s.name for s in provenance.read(build.jpeg_exif(block)).signals} == {"Fooocus"}


PROSE = {
    "words in a caption": build.png(build.text("Description", "Steps: how to use a Sampler in Stable Diffusion")),
    "a title": build.png(build.text("Title", "Midjourney")),
    "a prompt that is prose": build.png(build.text("prompt", "Answer this prompt")),
    "a workflow of something else": build.png(build.text("workflow", json.dumps({"nodes": [1, 2]}))),
    "other JSON": build.png(build.text("parameters", json.dumps({"gain": 3}))),
    "screenshot comment": build.png(
        build.text(XMP_KEY, build.xmp("<exif:UserComment>Screenshot</exif:UserComment>").decode())
    ),
    "file of another tool": build.png(build.text("Software", "Midjourney Downloader Pro Max")),
    "a generator in a caption": build.jpeg_exif(build.exif({0x010E: "Made with Stable Diffusion? No: a photo"})),
    "a camera in a prompt": build.png(build.text("Description", "photo taken with nikon d750")),
    "behind IEND": build.png(trailer=build.text("parameters", A1111)),
    "in the pixels' data": build.png(build.chunk(b"prVt", build.text("parameters", A1111))),
    "behind EOI": build.jpeg(trailer=build.segment(0xE1, b"Exif\0\0" + build.exif({0x0131: "Midjourney"}))),
    "in a JPEG's picture": build.jpeg(build.segment(0xE5, b"Exif\0\0" + build.exif({0x0131: "Midjourney"}))),
    "an unknown container": b"\0\1\2\3" + build.text("parameters", A1111),
    "behind the RIFF": build.webp() + b"EXIF" + b"\x10\0\0\0" + b"a" * 16,
}


@pytest.mark.parametrize("data", PROSE.values(), ids=PROSE)
def test_look_alike_is_no_evidence_of_ai(data: bytes) -> None:
    assert ai(data) == []


def test_appended_bytes_change_nothing() -> None:
    for data in (CARRIERS["tEXt"], CARRIERS["JPEG"], CARRIERS["WebP"], build.png(), build.jpeg()):
        for extra in (b"c2pa jumb AIGC", b"trainedAlgori", bytes(13)):
            assert provenance.read(data + extra) == provenance.read(data)


# XMP and IPTC

TYPES = [
    ("trainedAlgorithmicMedia", "generated", "medium"),
    ("compositeWithTrainedAlgorithmicMedia", "edited with AI", "medium"),
    ("compositeSynthetic", "edited with AI", "weak"),
    ("algorithmicMedia", "other", "weak"),
    ("digitalCapture", "camera", "weak"),
    ("computationalCapture", "camera", "weak"),
    ("minorHumanEdits", "human edit", "weak"),
]


@pytest.mark.parametrize(("code", "statement", "strength"), TYPES)
def test_source_type(code: str, statement: str, strength: str) -> None:
    for packet in (
        build.xmp(f"<Iptc4xmpExt:DigitalSourceType>{DST}{code}</Iptc4xmpExt:DigitalSourceType>"),
        build.xmp(attributes=f'Iptc4xmpExt:DigitalSourceType="{DST}{code}"'),
        build.xmp(f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{DST}{code}"/>'),
    ):
        signal = only(build.jpeg_xmp(packet))
        assert (signal.says, signal.strength, signal.verification) == (statement, strength, "declared")
        assert signal.details["source_type"] == code


def test_source_type_in_every_container() -> None:
    packet = build.xmp(attributes=f'Iptc4xmpExt:DigitalSourceType="{DST}trainedAlgorithmicMedia"')
    for data in (
        build.png(build.text(XMP_KEY, packet.decode(), "iTXt")),
        build.png(build.text(XMP_KEY, packet.decode())),
        build.webp((b"XMP ", packet)),
        build.tiff_file({700: packet}),
        build.heif(xmp=packet),
    ):
        assert only(data).says == "generated"


def test_iptc_2025_ai_fields() -> None:
    packet = build.xmp(
        "<Iptc4xmpExt:AISystemUsed>Imagen</Iptc4xmpExt:AISystemUsed>"
        "<Iptc4xmpExt:AISystemVersionUsed>4</Iptc4xmpExt:AISystemVersionUsed>"
        "<Iptc4xmpExt:AIPromptInformation>a lighthouse</Iptc4xmpExt:AIPromptInformation>"
    )
    signal = only(build.jpeg_xmp(packet))
    assert (signal.says, signal.name) == ("generated", "Imagen")
    assert signal.details == {"version": "4", "prompt": "a lighthouse"}


XMP_LOOK_ALIKES = {
    "a source type of an artwork in the picture": build.xmp(
        "<Iptc4xmpExt:ArtworkOrObject><rdf:Bag><rdf:li rdf:parseType='Resource'>"
        f"<Iptc4xmpExt:DigitalSourceType>{DST}trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"
        "</rdf:li></rdf:Bag></Iptc4xmpExt:ArtworkOrObject>"
    ),
    "a source type in a caption": build.xmp(f"<dc:description>{DST}trainedAlgorithmicMedia</dc:description>"),
    "an unknown code": build.xmp(attributes=f'Iptc4xmpExt:DigitalSourceType="{DST}trainedAlgorithmicMediaNot"'),
    "another namespace": build.xmp(
        '<n:DigitalSourceType xmlns:n="urn:x">trainedAlgorithmicMedia</n:DigitalSourceType>'
    ),
    "a credit line with more in it": build.xmp("<photoshop:Credit>Not Made with Google AI</photoshop:Credit>"),
    "a tool's name inside another": build.xmp(attributes='xmp:CreatorTool="Anti-Midjourney 3"'),
}


@pytest.mark.parametrize("packet", XMP_LOOK_ALIKES.values(), ids=XMP_LOOK_ALIKES)
def test_xmp_look_alike(packet: bytes) -> None:
    assert ai(build.jpeg_xmp(packet)) == []


def test_credit_line() -> None:
    assert (
        only(build.jpeg_xmp(build.xmp("<photoshop:Credit>Made with Google AI</photoshop:Credit>"))).name == "Google AI"
    )
    signal = only(build.jpeg(build.iptc((110, "Made with Google AI"))))
    assert (signal.kind, signal.says, signal.where) == ("iptc", "generated", "JPEG APP13/IPTC 2:110 Credit")
    assert only(build.jpeg(build.iptc((110, "Edited with Google AI")))).says == "edited with AI"
    assert provenance.read(build.jpeg(build.iptc((110, "Getty"), (120, "Made with Google AI")))).signals == ()


def test_editor_is_a_human_edit() -> None:
    packet = build.xmp(attributes='xmp:CreatorTool="Adobe Photoshop 21.1 (Macintosh)"')
    signal = only(build.jpeg_xmp(packet))
    assert (signal.says, signal.name, signal.strength) == ("human edit", "Adobe Photoshop", "weak")


def test_editor_in_the_history() -> None:
    packet = build.xmp(
        '<xmpMM:History><rdf:Seq><rdf:li stEvt:action="saved" stEvt:softwareAgent="GIMP 2.10"/></rdf:Seq></xmpMM:History>'
    )
    assert only(build.jpeg_xmp(packet)).name == "GIMP"


def test_link_to_credentials() -> None:
    remote = only(build.jpeg_xmp(build.xmp("<dcterms:provenance>https://example.org/m</dcterms:provenance>")))
    assert (remote.kind, remote.says, remote.verification) == ("c2pa", "other", "present, not verified")
    assert "not fetched" in remote.details["state"]
    lost = only(build.jpeg_xmp(build.xmp("<dcterms:provenance>self#jumbf=/c2pa/x</dcterms:provenance>")))
    assert "missing" in lost.details["state"]


# TC260


def test_aigc_label() -> None:
    bare, wrapped = json.dumps(LABEL), json.dumps({"AIGC": LABEL})
    escaped = bare.replace('"', "&quot;")
    for data in (
        build.jpeg_xmp(build.xmp(f"<TC260:AIGC>{bare}</TC260:AIGC>")),
        build.jpeg_xmp(build.xmp(attributes=f'TC260:AIGC="{escaped}"')),
        build.jpeg_xmp(build.xmp('<TC260:AIGC rdf:parseType="Resource"><TC260:Label>1</TC260:Label></TC260:AIGC>')),
        build.jpeg_xmp(build.xmp(attributes='TC260:Label="1" TC260:ContentProducer="x"')),
        build.png(build.text("AIGC", bare)),
        build.png(build.text("AIGC", wrapped)),
        build.png(build.text("Comment", wrapped)),
        build.jpeg_exif(build.exif({}, {0x9286: b"ASCII\0\0\0" + wrapped.encode()})),
        build.jpeg_exif(build.exif({0x010E: wrapped})),
    ):
        signal = only(data)
        assert (signal.kind, signal.says, signal.strength) == ("aigc", "generated", "medium")
    assert signal.name == LABEL["ContentProducer"]


def test_aigc_label_of_a_suspicion_is_weak() -> None:
    assert only(build.png(build.text("AIGC", json.dumps({**LABEL, "Label": "3"})))).strength == "weak"


def test_aigc_look_alikes() -> None:
    for data in (
        build.png(build.text("Comment", json.dumps(LABEL))),
        build.png(build.text("AIGC", json.dumps({**LABEL, "Label": "value1"}))),
        build.png(build.text("Title", "AIGC Label 1")),
        build.jpeg_xmp(build.xmp(f'<n:AIGC xmlns:n="urn:x">{json.dumps(LABEL)}</n:AIGC>')),
    ):
        assert ai(data) == []


# EXIF


def test_camera() -> None:
    signal = only(build.jpeg_exif(build.exif(CAMERA, {**EXPOSURE, 0x927C: b"note" * 20})))
    assert (signal.says, signal.name, signal.strength) == ("camera", "Canon EOS R5", "weak")
    assert signal.details["lens"] == "RF50mm F1.2"


def test_make_alone_is_no_camera() -> None:
    assert provenance.read(build.jpeg_exif(build.exif(CAMERA))).signals == ()
    unknown = build.exif({0x010F: "Canonical Software", 0x0110: "x"}, EXPOSURE)
    assert provenance.read(build.jpeg_exif(unknown)).signals == ()


def test_software_counts_as_a_whole_name_only() -> None:
    assert only(build.jpeg_exif(build.exif({0x0131: "Adobe Firefly 3.0"}))).says == "generated"
    assert only(build.jpeg_exif(build.exif({0x0131: "Adobe Lightroom 5.3 (Windows)"}))).says == "human edit"
    for firmware in ("v981-79", "Ver.T2.10.gb", "Canon EOS Firefly Edition", "Sorabel 2", "GIMPy"):
        assert provenance.read(build.jpeg_exif(build.exif({0x0131: firmware}))).signals == ()


def test_xai_pair() -> None:
    signal = only(build.jpeg_exif(build.exif({0x010E: SIGNED, 0x013B: UUID})))
    assert (signal.says, signal.name) == ("generated", "Grok (xAI)")


@pytest.mark.parametrize(
    "main", [{0x010E: SIGNED}, {0x013B: UUID}, {0x010E: SIGNED, 0x013B: "Ann"}, {0x010E: "Signature: me", 0x013B: UUID}]
)
def test_half_of_the_xai_pair_means_nothing(main: dict[int, str]) -> None:
    assert provenance.read(build.jpeg_exif(build.exif(main))).signals == ()


def test_samsung_edit_record() -> None:
    record = '{"genImageVersion":"v1","genAIType":8}'
    for data in (build.jpeg(trailer=build.samsung_trailer(record)), build.png(trailer=build.samsung_trailer(record))):
        signal = only(data)
        assert (signal.kind, signal.says, signal.name) == ("samsung", "edited with AI", "Galaxy AI (Samsung)")


def test_samsung_look_alikes() -> None:
    record = '{"genAIType":8}'
    for data in (
        build.jpeg(trailer=build.samsung_trailer('{"genAIType":0}')),
        build.jpeg(trailer=build.samsung_trailer(record, "Other_Info")),
        build.jpeg(trailer=record.encode()),
        build.jpeg(trailer=record.encode() + b"SEFT"),
        build.jpeg(trailer=build.samsung_trailer(record)[:-1]),
    ):
        assert provenance.read(data).signals == ()


# Thumbnail


def _with_thumbnail(seed: int) -> tuple[bytes, object]:
    image = build.pixels(240, 320, seed=1)
    small = build.encode(build.pixels(240, 320, seed=seed)[::2, ::2], "JPEG")
    block = build.exif({}, {0x9003: "2024:01:01 00:00:00"}, small)
    return build.jpeg(build.segment(0xE1, b"Exif\0\0" + block), image=image), image


def test_thumbnail_of_another_picture() -> None:
    data, image = _with_thumbnail(2)
    [signal] = provenance.read(data, pixels=image).signals
    assert (signal.kind, signal.says, signal.strength) == ("thumbnail", "human edit", "weak")
    assert provenance.read(data).signals == ()


def test_thumbnail_of_the_picture() -> None:
    data, image = _with_thumbnail(1)
    assert provenance.read(data, pixels=image).signals == ()


# Stealth PNG info


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("height", [256, 60])
def test_stealth(alpha: bool, compressed: bool, height: int) -> None:
    image = build.pixels(height, 400, 4)
    [signal] = provenance.read(
        build.encode(build.hide(A1111, alpha=alpha, compressed=compressed, image=image), "PNG")
    ).signals
    assert (signal.kind, signal.says) == ("stealth", "generated")
    assert signal.name == "Stable Diffusion web UI (AUTOMATIC1111)"


def test_stealth_of_novelai() -> None:
    payload = json.dumps({"Software": "NovelAI", "Source": "NovelAI Diffusion V4.5", "Comment": "{}"})
    [signal] = provenance.read(build.encode(build.hide(payload, alpha=True, compressed=True), "PNG")).signals
    assert signal.name == "NovelAI"


def test_stealth_does_not_survive_jpeg_and_needs_its_signature() -> None:
    hidden = build.hide(A1111, alpha=False, compressed=True)[:, :, :3]
    assert provenance.read(build.encode(hidden, "JPEG", quality=95)).signals == ()
    hidden[0, 0] ^= 1
    assert provenance.read(build.encode(hidden, "PNG")).signals == ()


# Limits


def test_compressed_text_that_grows_too_large_is_left_out() -> None:
    bomb = build.chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 50_000_000, 9))
    evidence = provenance.read(build.png(bomb, build.text("parameters", A1111)))
    assert says(evidence) == {"generated"}


def test_many_bombs_cost_no_more_than_the_limit() -> None:
    bomb = build.chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 3_900_000, 9))
    data = build.png(*[bomb] * 1500)
    values = {0x010E + n: b"x" for n in range(900)}
    overlapping = bytearray(build.exif(values, {}) + b"y" * 30_000_000)
    for entry in range(900):
        at = 10 + 12 * entry
        overlapping[at + 4 : at + 12] = (25_000_000).to_bytes(4, "little") + (12_000).to_bytes(4, "little")
    extents = b"\0\0\0\0\0\0\xff\xff" + b"\0\1\0\0\xff\xff" * 5000
    heif = build.heif()[:20] + build.box(b"meta", bytes(4) + build.box(b"iloc", extents))
    start = time.perf_counter()
    tracemalloc.start()
    for hostile in (data, build.png(build.chunk(b"eXIf", bytes(overlapping))), heif):
        assert provenance.read(hostile, decode=False).signals == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000_000
    assert time.perf_counter() - start < 20


def test_raw_values_are_cut() -> None:
    signal = only(build.png(build.text("parameters", "a" * 30_000 + "\n" + A1111)))
    assert len(signal.raw) == 2000


@pytest.mark.parametrize(
    "packet",
    [
        b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        b"<a>" * 100_000,
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + b"<x:a>" * 500 + b"</x:a>" * 500 + b"</x:xmpmeta>",
        b"\xff\xfe\0",
        b"<?xml version='1.0' encoding='UTF-6'?><x/>",
    ],
)
def test_hostile_xml_is_a_problem_of_its_reader_alone(packet: bytes) -> None:
    data = build.jpeg(
        build.segment(0xFE, A1111.encode()),
        build.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet[:60_000]),
    )
    evidence = provenance.read(data)
    assert says(evidence) == {"generated"}
    assert [problem.reader for problem in evidence.problems] == ["xmp"]


def test_deep_json() -> None:
    deep = '{"a":' + "[" * 200_000 + "]" * 200_000 + "}"
    assert provenance.read(build.png(build.text("workflow", deep))).signals == ()


def test_every_truncation_is_read_without_an_error() -> None:
    files = [*CARRIERS.values(), build.jpeg(build.app11(build.generated_store())), build.tiff_file({700: build.xmp()})]
    for data in files:
        for end in range(0, len(data), max(1, len(data) // 60)):
            for problem in provenance.read(data[:end], decode=False).problems:
                assert problem.reader in ("container", "c2pa", "xmp", "stealth")


def test_huge_lengths() -> None:
    for data in (
        build.png()[:33] + b"\xff\xff\xff\xfftEXtparameters\0x",
        b"RIFF\xff\xff\xff\xffWEBPEXIF\xff\xff\xff\xff",
        b"\0\0\0\1ftypavif" + b"\xff" * 40,
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\1uuid" + b"\xff" * 8,
        b"II*\0\x08\0\0\0\xff\xff" + b"\x01\0\x07\0\xff\xff\xff\xff\0\0\0\0" * 100,
        b"\xff\xd8\xff\xe1\xff\xff",
    ):
        assert provenance.read(data).signals == ()


def test_empty_and_unknown() -> None:
    assert provenance.read(b"") == Evidence(None)
    assert provenance.read(b"hello") == Evidence(None)


def test_path_and_json(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "picture.jpg"
    path.write_bytes(CARRIERS["tEXt"])
    evidence = provenance.read(path)
    assert evidence.format == "PNG"
    assert json.loads(json.dumps(evidence.to_json()))["signals"][0]["says"] == "generated"
    with pytest.raises(OSError, match="missing"):
        provenance.read(tmp_path / "missing.png")
