"""Builds small files that carry one piece of evidence each."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

A1111 = (
    "a lighthouse\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x48, Model hash: abc, Model: dream, Version: v1.10.1"
)
COMFY = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"}},
    "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 48}},
}
DST = "http://cv.iptc.org/newscodes/digitalsourcetype/"
LABEL = {"Label": "1", "ContentProducer": "001191110102MACQD9K64010000", "ProduceID": "17"}
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def pixels(height: int = 48, width: int = 64, channels: int = 3, seed: int = 0) -> np.ndarray:
    """uint8[height, width, channels] of coloured texture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    image = np.clip(np.asarray(coarse) + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)
    return np.dstack([image, np.full((height, width), 255, np.uint8)]) if channels == 4 else image


def encode(image: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form, **options)
    return buffer.getvalue()


# JPEG


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg(*segments: bytes, image: np.ndarray | None = None, trailer: bytes = b"") -> bytes:
    data = encode(pixels() if image is None else image, "JPEG", quality=85)
    return data[:2] + b"".join(segments) + data[2:] + trailer


def app11(store: bytes, piece: int = 60_000) -> bytes:
    """A JUMBF box in APP11 segments; each repeats the box header."""
    parts = [store[at : at + piece] for at in range(0, len(store), piece)]
    return b"".join(
        segment(0xEB, b"JP\0\1" + struct.pack(">I", number + 1) + (store[:8] if number else b"") + part)
        for number, part in enumerate(parts)
    )


def jpeg_xmp(packet: bytes) -> bytes:
    return jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))


def jpeg_exif(block: bytes) -> bytes:
    return jpeg(segment(0xE1, b"Exif\0\0" + block))


def iptc(*datasets: tuple[int, str]) -> bytes:
    data = b"".join(b"\x1c\x02" + bytes((n,)) + struct.pack(">H", len(t.encode())) + t.encode() for n, t in datasets)
    body = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    return segment(0xED, b"Photoshop 3.0\0" + body)


# PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def text(key: str, value: str, kind: str = "tEXt") -> bytes:
    name, data = key.encode("latin-1"), value.encode()
    if kind == "zTXt":
        return chunk(b"zTXt", name + b"\0\0" + zlib.compress(data))
    if kind == "iTXt":
        return chunk(b"iTXt", name + b"\0\0\0\0\0" + data)
    if kind == "iTXt compressed":
        return chunk(b"iTXt", name + b"\0\1\0\0\0" + zlib.compress(data))
    return chunk(b"tEXt", name + b"\0" + data)


def png(*chunks: bytes, image: np.ndarray | None = None, trailer: bytes = b"", late: bytes = b"") -> bytes:
    """A PNG with chunks behind IHDR, `late` before IEND and `trailer` behind it."""
    data = encode(pixels() if image is None else image, "PNG")
    return data[:33] + b"".join(chunks) + data[33:-12] + late + data[-12:] + trailer


# Other containers


def webp(*chunks: tuple[bytes, bytes], lossless: bool = False) -> bytes:
    data = encode(pixels(), "WEBP", lossless=lossless)[12:]
    extended = b"VP8X" + struct.pack("<II", 10, 0) + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    for kind, body in chunks:
        data += kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(extended) + len(data)) + b"WEBP" + extended + data


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def heif(brand: bytes = b"heic", *, store: bytes = b"", exif: bytes = b"", xmp: bytes = b"") -> bytes:
    """The boxes of a HEIF file that evidence is read from; there is no picture in it."""
    data = box(b"ftyp", brand + b"\0\0\0\0mif1" + brand)
    if store:
        data += box(b"uuid", C2PA_UUID + b"\0\0\0\0manifest\0" + bytes(8) + store)
    items = [(b"Exif\0", b"\0\0\0\0" + exif)] if exif else []
    items += [(b"mime\0application/rdf+xml\0", xmp)] if xmp else []
    infe = b"".join(box(b"infe", b"\2\0\0\0" + struct.pack(">HH", n, 0) + kind) for n, (kind, _) in enumerate(items, 1))
    iinf = box(b"iinf", b"\0\0\0\0" + struct.pack(">H", len(items)) + infe)
    ispe = box(b"ispe", b"\0\0\0\0" + struct.pack(">II", 64, 48))
    iprp = box(b"iprp", box(b"ipco", ispe))

    def meta(start: int) -> bytes:
        places, at = b"", start
        for number, (_, body) in enumerate(items, 1):
            places += struct.pack(">HHHII", number, 0, 1, at, len(body))
            at += len(body)
        iloc = box(b"iloc", b"\0\0\0\0\x44\0" + struct.pack(">H", len(items)) + places)
        return box(b"meta", b"\0\0\0\0" + iinf + iloc + iprp)

    start = len(data) + len(meta(0)) + 8
    return data + meta(start) + box(b"mdat", b"".join(body for _, body in items))


def tiff_file(tags: dict[int, bytes]) -> bytes:
    """A TIFF of one grey pixel with further tags."""
    values = {
        256: b"\1\0",
        257: b"\1\0",
        258: b"\x08\0",
        259: b"\1\0",
        262: b"\1\0",
        273: b"\x08\0\0\0",
        279: b"\1\0\0\0",
    }
    entries, extra = b"", b""
    tags = dict(sorted({**values, **tags}.items()))
    base = 8 + 4 + 2 + 12 * len(tags) + 4
    for tag, value in tags.items():
        kind = {2: 3, 4: 4}.get(len(value), 7) if tag in values else 7
        count = 1 if tag in values else len(value)
        if len(value) <= 4:
            field = value.ljust(4, b"\0")
        else:
            field = struct.pack("<I", base + len(extra))
            extra += value
        entries += struct.pack("<HHI", tag, kind, count) + field
    return b"II*\0" + struct.pack("<I", 12) + b"\x80\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + extra


# Metadata


def xmp(properties: str = "", attributes: str = "") -> bytes:
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:dcterms="http://purl.org/dc/terms/"'
        ' xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"'
        ' xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"'
        f" {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
    ).encode()


def exif(main: dict[int, Any], photo: dict[int, Any] | None = None, thumbnail: bytes = b"") -> bytes:
    """An EXIF block (little-endian) from text, bytes, whole numbers and (numerator, denominator) pairs."""

    def field(value: Any) -> tuple[int, int, bytes]:
        if isinstance(value, str):
            data = value.encode() + b"\0"
            return 2, len(data), data
        if isinstance(value, bytes):
            return 7, len(value), value
        if isinstance(value, tuple):
            return 5, 1, struct.pack("<II", *value)
        return 4, 1, struct.pack("<I", value)

    def directory(offset: int, values: dict[int, Any], following: int) -> bytes:
        entries, extra = b"", b""
        base = offset + 2 + 12 * len(values) + 4
        for tag, value in sorted(values.items()):
            kind, count, data = field(value)
            if len(data) > 4:
                data, extra = struct.pack("<I", base + len(extra)), extra + data
            entries += struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
        return struct.pack("<H", len(values)) + entries + struct.pack("<I", following) + extra

    main = {**main, **({0x8769: 0} if photo else {})}
    size = len(directory(8, main, 0))
    after = 8 + size + (len(directory(0, photo, 0)) if photo else 0)
    if photo:
        main[0x8769] = 8 + size
    data = b"II*\0\x08\0\0\0" + directory(8, main, after if thumbnail else 0)
    if photo:
        data += directory(8 + size, photo, 0)
    if thumbnail:
        small = {0x0201: 0, 0x0202: len(thumbnail)}
        small[0x0201] = after + len(directory(after, small, 0))
        data += directory(after, small, 0) + thumbnail
    return data


CAMERA = {0x010F: "Canon", 0x0110: "Canon EOS R5"}
EXPOSURE = {0x829A: (1, 200), 0x829D: (28, 10), 0x8827: 100, 0xA434: "RF50mm F1.2"}


def unicode_comment(value: str, encoding: str = "utf-16-le") -> bytes:
    return b"UNICODE\0" + value.encode(encoding)


def samsung_trailer(record: str, name: str = "PEg_Info") -> bytes:
    body = struct.pack("<HHI", 0, 0x0A01, len(name)) + name.encode() + record.encode()
    head = b"SEFH" + struct.pack("<II", 106, 1) + struct.pack("<HHII", 0, 0x0A01, len(body), len(body))
    return body + head + struct.pack("<I", len(head)) + b"SEFT"


def hide(payload: str, *, alpha: bool, compressed: bool, image: np.ndarray | None = None) -> np.ndarray:
    """Write stealth PNG info into a picture, column by column."""
    image = pixels(256, 256, 4) if image is None else image
    data = gzip.compress(payload.encode()) if compressed else payload.encode()
    magic = f"stealth_{'png' if alpha else 'rgb'}{'comp' if compressed else 'info'}".encode()
    bits = np.unpackbits(np.frombuffer(magic + struct.pack(">I", 8 * len(data)) + data, np.uint8))
    channels = slice(3, 4) if alpha else slice(0, 3)
    columns = image[:, :, channels].transpose(1, 0, 2)
    flat = columns.reshape(-1).copy()
    flat[: len(bits)] = flat[: len(bits)] & 254 | bits
    image = image.copy()
    image[:, :, channels] = flat.reshape(columns.shape).transpose(1, 0, 2)
    return image


# JUMBF and CBOR


def cbor(value: Any) -> bytes:
    def head(major: int, size: int) -> bytes:
        if size < 24:
            return bytes((major << 5 | size,))
        return bytes((major << 5 | 25,)) + struct.pack(">H", size)

    if isinstance(value, bool) or value is None:
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(key) + cbor(item) for key, item in value.items())


def superbox(label: str, *contents: bytes) -> bytes:
    return box(b"jumb", box(b"jumd", bytes(16) + b"\3" + label.encode() + b"\0") + b"".join(contents))


def manifest(
    label: str,
    actions: list[dict[str, Any]],
    *,
    generator: str = "maker/1",
    ingredients: tuple[dict[str, Any], ...] = (),
    signed: bool = True,
) -> bytes:
    assertions = [superbox("c2pa.actions", box(b"cbor", cbor({"actions": actions})))]
    assertions += [superbox("c2pa.ingredient", box(b"cbor", cbor(item))) for item in ingredients]
    claim = superbox("c2pa.claim", box(b"cbor", cbor({"claim_generator": generator})))
    # Nothing is signed: the structural reader looks no further than the box.
    signature = [superbox("c2pa.signature", box(b"cbor", cbor([b"", {}, None, b""])))] if signed else []
    return superbox(label, superbox("c2pa.assertions", *assertions), claim, *signature)


def store(*manifests: bytes) -> bytes:
    return superbox("c2pa", *manifests)


def generated_store(*, signed: bool = True) -> bytes:
    action = {"action": "c2pa.created", "softwareAgent": "DALL·E", "digitalSourceType": DST + "trainedAlgorithmicMedia"}
    return store(manifest("urn:uuid:1", [action], signed=signed))


def dumps(value: Any) -> str:
    return json.dumps(value)
