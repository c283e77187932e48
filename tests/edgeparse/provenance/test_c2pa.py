"""Content credentials: what is declared without the extra, and what is verified with it."""

from __future__ import annotations

import sys
import time

import pytest

from edgeparse import provenance
from edgeparse.provenance import Signal
from tests.edgeparse.provenance import build
from tests.edgeparse.provenance.build import DST

GENERATED = DST + "trainedAlgorithmicMedia"


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)


def credentials(data: bytes, trust: str | None = None) -> Signal:
    [signal] = [s for s in provenance.read(data, trust=trust).signals if s.kind == "c2pa"]
    return signal


def declared(*manifests: bytes) -> Signal:
    return credentials(build.jpeg(build.app11(build.store(*manifests))))


# Structure alone

PLACES = {
    "JPEG APP11/JUMBF": build.jpeg(build.app11(build.generated_store())),
    "PNG caBX/JUMBF": build.png(build.chunk(b"caBX", build.generated_store())),
    "WebP C2PA/JUMBF": build.webp((b"C2PA", build.generated_store())),
    "TIFF tag 52545/JUMBF": build.tiff_file({52545: build.generated_store()}),
    "HEIF uuid/JUMBF": build.heif(store=build.generated_store()),
    "AVIF uuid/JUMBF": build.heif(b"avif", store=build.generated_store()),
}


@pytest.mark.usefixtures("without_extra")
@pytest.mark.parametrize(("where", "data"), PLACES.items(), ids=PLACES)
def test_declared_in_every_container(where: str, data: bytes) -> None:
    signal = credentials(data)
    assert (signal.where, signal.says, signal.name) == (where, "generated", "DALL·E (OpenAI)")
    assert (signal.verification, signal.strength) == ("present, not verified", "medium")


@pytest.mark.usefixtures("without_extra")
def test_box_split_over_segments() -> None:
    assert credentials(build.jpeg(build.app11(build.generated_store(), piece=100))).says == "generated"


@pytest.mark.usefixtures("without_extra")
@pytest.mark.parametrize(
    ("actions", "says", "strength"),
    [
        ([{"action": "c2pa.created", "digitalSourceType": GENERATED}], "generated", "medium"),
        ([{"action": "c2pa.created", "softwareAgent": {"name": "GPT-4o"}}], "generated", "medium"),
        ([{"action": "c2pa.edited", "digitalSourceType": GENERATED}], "edited with AI", "medium"),
        ([{"action": "c2pa.created", "digitalSourceType": DST + "digitalCapture"}], "camera", "weak"),
        ([{"action": "c2pa.created", "digitalSourceType": DST + "algorithmicMedia"}], "other", "weak"),
        ([{"action": "c2pa.created", "digitalSourceType": "http://x/trainedAlgorithmicMedia"}], "other", "weak"),
        ([{"action": "c2pa.created", "softwareAgent": "not DALL·E"}], "other", "weak"),
        ([{"action": "c2pa.created", "reason": "trainedAlgorithmicMedia"}], "other", "weak"),
        ([{"action": "c2pa.opened"}], "other", "weak"),
        ([], "other", "weak"),
    ],
)
def test_actions(actions: list[dict[str, object]], says: str, strength: str) -> None:
    signal = declared(build.manifest("urn:uuid:1", actions))
    assert (signal.says, signal.strength) == (says, strength)


@pytest.mark.usefixtures("without_extra")
@pytest.mark.parametrize(("relationship", "says"), [("parentOf", "generated"), ("componentOf", "edited with AI")])
def test_ingredients(relationship: str, says: str) -> None:
    link = {"relationship": relationship, "c2pa_manifest": {"url": "self#jumbf=/c2pa/urn:uuid:1"}}
    parent = build.manifest("urn:uuid:1", [{"action": "c2pa.created", "digitalSourceType": GENERATED}])
    child = build.manifest("urn:uuid:2", [{"action": "c2pa.converted"}], ingredients=(link,))
    assert declared(parent, child).says == says


@pytest.mark.usefixtures("without_extra")
def test_ingredients_that_name_each_other() -> None:
    links = [{"relationship": "parentOf", "c2pa_manifest": {"url": f"self#jumbf=/c2pa/urn:uuid:{n}"}} for n in (2, 1)]
    first, second = (build.manifest(f"urn:uuid:{n}", [], ingredients=(link,)) for n, link in enumerate(links, 1))
    assert declared(first, second).says == "other"


@pytest.mark.usefixtures("without_extra")
def test_damaged_store_is_invalid() -> None:
    store = build.generated_store()
    unsigned = build.generated_store(signed=False)
    for broken in (unsigned, store[:60], store[:30] + b"\xff\xff\xff\xff" + store[34:]):
        signal = credentials(build.png(build.chunk(b"caBX", broken)))
        assert (signal.says, signal.verification, signal.strength) == ("other", "invalid", "weak")


@pytest.mark.usefixtures("without_extra")
def test_store_in_the_wrong_place_is_ignored() -> None:
    store = build.generated_store()
    for data in (
        build.jpeg(trailer=build.app11(store)),
        build.jpeg(build.segment(0xE5, store[:60_000])),
        build.jpeg(build.segment(0xFE, store[:60_000])),
        build.png(trailer=build.chunk(b"caBX", store)),
        build.png(build.chunk(b"tEXt", b"caBX\0" + store)),
        build.heif() + store,
    ):
        assert provenance.read(data).signals == ()


# Verified with the extra

c2pa = pytest.importorskip("c2pa", reason="the extra `provenance` is not installed")
from tests.edgeparse.provenance import signing  # noqa: E402


@pytest.fixture(scope="module")
def signer() -> signing.Credential:
    return signing.credential()


@pytest.fixture(scope="module")
def signed(signer: signing.Credential) -> bytes:
    actions = signing.created("trainedAlgorithmicMedia", "DALL-E")
    return signing.sign(build.jpeg(), "image/jpeg", actions, signer)


def test_trusted_signer(signed: bytes, signer: signing.Credential) -> None:
    signal = credentials(signed, signer.root)
    assert (signal.says, signal.verification, signal.strength) == ("generated", "verified", "strong")
    answers = {key: signal.details[key] for key in ("signature", "binding", "trust", "certificate")}
    assert answers == {"signature": "valid", "binding": "match", "trust": "trusted", "certificate": "valid"}
    assert signal.details["signer"] == "Throw-away, Throw-away Signer"


@pytest.mark.parametrize("other", [True, False])
def test_signer_who_is_not_trusted(signed: bytes, other: bool) -> None:
    signal = credentials(signed, signing.credential().root if other else None)
    assert (signal.verification, signal.strength) == ("present, not verified", "medium")
    assert signal.details["signature"] == "valid"
    assert signal.details["trust"] == ("untrusted" if other else "not in the trust list")


@pytest.mark.parametrize(("mime", "form"), [("image/png", "PNG"), ("image/webp", "WEBP"), ("image/tiff", "TIFF")])
def test_other_containers(mime: str, form: str, signer: signing.Credential) -> None:
    data = signing.sign(build.encode(build.pixels(), form), mime, signing.created("digitalCapture"), signer)
    signal = credentials(data, signer.root)
    assert (signal.says, signal.verification, signal.strength) == ("camera", "verified", "strong")


def test_changed_picture_is_invalid(signed: bytes, signer: signing.Credential) -> None:
    data = bytearray(signed)
    data[-20] ^= 1
    signal = credentials(bytes(data), signer.root)
    assert (signal.says, signal.verification, signal.strength) == ("other", "invalid", "weak")
    assert signal.details["declares"] == "generated"
    assert signal.details["binding"] == "mismatch"


def test_manifest_copied_to_another_picture_is_invalid(signed: bytes, signer: signing.Credential) -> None:
    from edgeparse.provenance.containers import walk

    [block] = walk(signed).of("c2pa")
    other = build.jpeg(build.app11(block.data), image=build.pixels(seed=9))
    signal = credentials(other, signer.root)
    assert (signal.says, signal.verification) == ("other", "invalid")


def test_broken_signature_is_invalid(signed: bytes, signer: signing.Credential) -> None:
    at = signed.index(b"trainedAlgorithmicMedia")
    signal = credentials(signed[:at] + b"T" + signed[at + 1 :], signer.root)
    assert (signal.says, signal.verification) == ("other", "invalid")


def test_expired_certificate_is_told_apart_from_a_changed_picture() -> None:
    brief = signing.credential(seconds=2)
    data = signing.sign(build.jpeg(), "image/jpeg", signing.created("digitalCapture"), brief)
    time.sleep(2.5)
    signal = credentials(data, brief.root)
    assert (signal.verification, signal.strength) == ("present, not verified", "weak")
    assert (signal.details["signature"], signal.details["binding"]) == ("valid", "match")
    assert signal.details["certificate"] == "expired"


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, signed: bytes) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    credentials(signed)
    remote = build.xmp("<dcterms:provenance>http://127.0.0.1:9/manifest</dcterms:provenance>")
    assert credentials(build.jpeg_xmp(remote)).says == "other"
