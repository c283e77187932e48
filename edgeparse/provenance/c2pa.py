"""Content credentials (C2PA): what the manifest declares, and whether it holds.

Without the extra `provenance` the boxes are read but nothing is verified. With it, `c2pa-python` checks
the signature and the binding to the picture, offline. The signer's trust and the certificate's validity
are answered apart from them, because a lapsed certificate does not mean a changed picture.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from edgeparse.provenance import cbor, jumbf, source_types
from edgeparse.provenance.containers import Container
from edgeparse.provenance.names import CAMERA_SIGNERS, EDITORS, GENERATORS, find_name
from edgeparse.provenance.signals import Says, Signal, Strength, Verification, make_signal

_MIME = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "HEIF": "image/heif",
    "AVIF": "image/avif",
    "JXL": "image/jxl",
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
}
_MAX_ACTIONS = 500
_MAX_CHAIN = 8
_MAX_FILE = 256 * 1024 * 1024
_EDITS = frozenset(
    "c2pa." + action
    for action in (
        *("addedText", "adjustedColor", "color_adjustments", "cropped", "drawing", "edited", "enhanced", "filtered"),
        *("orientation", "placed", "redacted", "removed", "resized", "unknown"),
    )
)
# Failures that concern the certificate or a time stamp, not the signature or the picture.
_TRUST_CODES = ("signingCredential.", "timeStamp.", "timeOfSigning.", "cawg.")


@dataclass(frozen=True)
class Action:
    """One entry of a manifest's list of actions."""

    name: str
    agent: str
    source: str | None


@dataclass(frozen=True)
class Manifest:
    """What one manifest declares.

    Attributes:
        label: Its identifier in the store.
        generator: The claim generator's name.
        actions: What was done, in order.
        ingredients: Relationship and manifest label of each ingredient.
        signer: Name in the signer's certificate.
    """

    label: str
    generator: str
    actions: tuple[Action, ...] = ()
    ingredients: tuple[tuple[str, str], ...] = ()
    signer: str = ""


@dataclass(frozen=True)
class Validation:
    """What the verification found, each question answered apart."""

    signature: str
    binding: str
    trust: str
    certificate: str
    codes: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """True when the signature is valid and the picture is the one that was signed."""
        return self.signature == "valid" and self.binding == "match"

    @property
    def verified(self) -> bool:
        """True when, besides, a trusted signer with a valid certificate signed it."""
        return self.intact and self.trust == "trusted" and self.certificate == "valid"


@dataclass
class _Store:
    active: str
    manifests: dict[str, Manifest] = field(default_factory=dict)
    validation: Validation | None = None


def read(container: Container, data: bytes, *, trust: str | None = None) -> list[Signal]:
    """Return the signals of a file's content credentials.

    Args:
        container: The walked container.
        data: The whole file, which the signature is bound to.
        trust: Trust anchors as PEM text, or None for the library's own list.
    """
    blocks = container.of("c2pa")
    if not blocks:
        return []
    block = blocks[-1]
    try:
        store = _verify(data, container, trust) or _from_jumbf(block.data)
    except ValueError as error:
        return [make_signal("c2pa", "other", block.where, verification="invalid", strength="weak", problem=str(error))]
    return [_signal(store, block.where)]


def _signal(store: _Store, where: str) -> Signal:
    manifest = store.manifests.get(store.active) or Manifest(store.active, "")
    says, name, source = _statement(store, store.active, 0)
    validation = store.validation
    details: dict[str, object] = {
        "source_type": source,
        "claim_generator": manifest.generator,
        "signer": manifest.signer,
        "actions": ", ".join(dict.fromkeys(action.name for action in manifest.actions)),
        "software_agents": ", ".join(dict.fromkeys(a.agent for a in manifest.actions if a.agent)),
        "ingredients": str(len(manifest.ingredients) or ""),
    }
    verification, strength = _weight(says, source, validation)
    if validation:
        details |= {
            "signature": validation.signature,
            "binding": validation.binding,
            "trust": validation.trust,
            "certificate": validation.certificate,
            "codes": ", ".join(validation.codes),
        }
    if verification == "invalid":
        # A broken or copied manifest describes another picture.
        details["declares"] = says
        says = "other"
    raw = json.dumps({"label": manifest.label, **{k: str(v) for k, v in details.items() if v}}, ensure_ascii=False)
    return make_signal(
        "c2pa",
        says,
        where,
        name=name or manifest.generator,
        verification=verification,
        strength=strength,
        raw=raw,
        details=details,
    )


def _weight(says: Says, source: str | None, validation: Validation | None) -> tuple[Verification, Strength]:
    if validation and validation.verified:
        return "verified", "strong"
    if validation and not validation.intact:
        return "invalid", "weak"
    # Anybody can sign with a certificate of their own: a claim of AI then counts as a declaration does.
    clear = says in ("generated", "edited with AI") and source != "compositeSynthetic"
    return "present, not verified", "medium" if clear else "weak"


# What a manifest says


def _statement(store: _Store, label: str, depth: int) -> tuple[Says, str, str | None]:
    """Return what a manifest says, the tool it names and the source type, following parents."""
    manifest = store.manifests.get(label)
    if manifest is None or depth > _MAX_CHAIN:
        return "other", "", None
    own = _own_statement(manifest)
    if own[0] in ("generated", "edited with AI"):
        return own
    for relationship, ingredient in manifest.ingredients:
        inherited = _statement(store, ingredient, depth + 1)
        if inherited[0] not in ("generated", "edited with AI"):
            continue
        # A converted or edited child of a generated picture is a generated picture.
        # A generated component makes a composite.
        if relationship == "parentOf":
            return inherited
        return "edited with AI", inherited[1], None
    return own


def _own_statement(manifest: Manifest) -> tuple[Says, str, str | None]:
    """Return what a manifest's own actions say, without its ingredients."""
    created = [action for action in manifest.actions if action.name == "c2pa.created"]
    for action in created:
        if action.source:
            says = source_types.says_of(action.source)
            return says, _tool(action, manifest), action.source
        name = find_name(action.agent, GENERATORS)
        if name:
            return "generated", name, None
    edits = [
        a for a in manifest.actions if a.source and source_types.says_of(a.source) in ("generated", "edited with AI")
    ]
    if edits:
        # Photoshop also marks the opening of a file; the entry that names an agent says which tool it was.
        edit = next((action for action in edits if action.agent), edits[0])
        return "edited with AI", _tool(edit, manifest), edit.source
    for action in manifest.actions:
        if action.source:
            return source_types.says_of(action.source), _tool(action, manifest), action.source
    editor = find_name(manifest.generator.replace("_", " "), EDITORS)
    if editor and any(action.name in _EDITS for action in manifest.actions):
        return "human edit", editor, None
    if not manifest.actions and manifest.signer.casefold().startswith(CAMERA_SIGNERS):
        return "camera", manifest.generator or manifest.signer, None
    return "other", manifest.generator, None


def _tool(action: Action, manifest: Manifest) -> str:
    for value in (action.agent, manifest.generator, manifest.generator.split("/", 1)[0]):
        name = find_name(value, GENERATORS)
        if name:
            return name
    if manifest.signer.casefold().startswith("google llc"):
        return "Google generative AI" if action.source == "trainedAlgorithmicMedia" else "Google"
    return action.agent or manifest.generator


def _text(value: Any) -> str:
    """Return a name that is stored as text or as an object with a name and a version."""
    if isinstance(value, list):
        value = value[0] if value else ""
    if isinstance(value, dict):
        value = f"{value.get('name') or ''} {value.get('version') or ''}"
    return value.strip() if isinstance(value, str) else ""


def _actions(value: Any) -> tuple[Action, ...]:
    found = value.get("actions") if isinstance(value, dict) else None
    actions = []
    for entry in (found if isinstance(found, list) else [])[:_MAX_ACTIONS]:
        if isinstance(entry, dict):
            source = source_types.code_of(entry.get("digitalSourceType"))
            actions.append(Action(_text(entry.get("action")), _text(entry.get("softwareAgent")), source))
    return tuple(actions)


def _is_actions(label: str) -> bool:
    return label.split("__", 1)[0] in ("c2pa.actions", "c2pa.actions.v2")


# Without the extra: JUMBF


def _from_jumbf(data: bytes) -> _Store:
    box = jumbf.parse(data)
    if box.label != "c2pa" or not box.children:
        raise jumbf.JumbfError(f"a C2PA manifest store was expected, got a box named {box.label[:40]!r}")
    active = box.children[-1]
    if active.child("c2pa.signature") is None:
        raise jumbf.JumbfError(f"the manifest {active.label[:60]!r} must have a signature")
    store = _Store(active.label)
    for child in box.children:
        store.manifests[child.label] = _manifest(child)
    return store


def _manifest(box: jumbf.Superbox) -> Manifest:
    claim_box = box.child("c2pa.claim.v2") or box.child("c2pa.claim")
    claim = claim_box.value() if claim_box else None
    claim = claim if isinstance(claim, dict) else {}
    actions: tuple[Action, ...] = ()
    ingredients = []
    assertions = box.child("c2pa.assertions")
    for assertion in assertions.children if assertions else ():
        if _is_actions(assertion.label):
            actions += _actions(assertion.value())
        elif assertion.label.startswith("c2pa.ingredient"):
            ingredient = _ingredient(assertion.value())
            if ingredient:
                ingredients.append(ingredient)
    generator = _text(claim.get("claim_generator_info")) or _text(claim.get("claim_generator"))
    return Manifest(box.label, generator, actions, tuple(ingredients), _signer(box))


def _ingredient(value: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return None
    link = value.get("activeManifest") or value.get("c2pa_manifest")
    url = link.get("url") if isinstance(link, dict) else None
    if not isinstance(url, str):
        return None
    return _text(value.get("relationship")), url.rsplit("/c2pa/", 1)[-1].split("/", 1)[0]


def _signer(box: jumbf.Superbox) -> str:
    """Return the name in the signature's first certificate, or "" when it cannot be read."""
    signature = box.child("c2pa.signature")
    try:
        cose = signature.value() if signature else None
        if not isinstance(cose, list) or len(cose) < 2:
            return ""
        protected = cbor.decode(cose[0]) if isinstance(cose[0], bytes) and cose[0] else {}
        for header in (protected, cose[1]):
            for key in ("33", "x5chain"):
                chain = header.get(key) if isinstance(header, dict) else None
                certificate = chain[0] if isinstance(chain, list) and chain else chain
                if isinstance(certificate, bytes):
                    subject = jumbf.certificate_subject(certificate)
                    return ", ".join(subject[k] for k in ("organization", "common_name") if k in subject)
    except (ValueError, IndexError):
        return ""
    return ""


# With the extra: c2pa-python


def _verify(data: bytes, container: Container, trust: str | None) -> _Store | None:
    """Return the verified store, or None when the library is missing or cannot read the file."""
    mime = _MIME.get(container.format or "")
    if mime is None or len(data) > _MAX_FILE:
        return None
    try:
        import c2pa
    except ImportError:
        return None
    try:
        # A mapped movie is a stream itself; a copy would fill the memory.
        stream: Any = io.BytesIO(data) if isinstance(data, bytes) else data
        with c2pa.Reader(mime, stream, context=_context(trust)) as reader:
            report = json.loads(reader.json())
    except (c2pa.C2paError.NotSupported, c2pa.C2paError.ManifestNotFound):
        # The structural reader then says what is present, unverified.
        return None
    except c2pa.C2paError as error:
        # Present, and broken: it must not count as merely unverified.
        store = _from_jumbf(container.of("c2pa")[-1].data)
        store.validation = Validation("unreadable", "unknown", "not checked", "not checked", (str(error)[:100],))
        return store
    return _from_report(report, trusted_list=trust is not None)


@lru_cache(maxsize=4)
def _context(trust: str | None) -> Any:
    """Return the library's settings: nothing is fetched; one context serves every file."""
    import c2pa

    settings: dict[str, Any] = {
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    if trust is not None:
        settings["trust"] = {"user_anchors": trust}
    return c2pa.Context.from_dict(settings)


def _from_report(report: dict[str, Any], *, trusted_list: bool) -> _Store:
    store = _Store(str(report.get("active_manifest", "")))
    for label, entry in report.get("manifests", {}).items():
        store.manifests[label] = _manifest_of(label, entry)
    store.validation = _validation(report, trusted_list=trusted_list)
    return store


def _manifest_of(label: str, entry: dict[str, Any]) -> Manifest:
    actions: tuple[Action, ...] = ()
    for assertion in entry.get("assertions", ()):
        if _is_actions(assertion.get("label", "")):
            actions += _actions(assertion.get("data"))
    ingredients = tuple(
        (_text(item.get("relationship")), _text(item.get("active_manifest"))) for item in entry.get("ingredients", ())
    )
    info = entry.get("signature_info") or {}
    signer = ", ".join(_text(info.get(key)) for key in ("issuer", "common_name") if info.get(key))
    generator = _text(entry.get("claim_generator_info")) or _text(entry.get("claim_generator"))
    return Manifest(label, generator, actions, ingredients, signer)


def _validation(report: dict[str, Any], *, trusted_list: bool) -> Validation:
    results = (report.get("validation_results") or {}).get("activeManifest") or {}
    good = {entry.get("code", "") for entry in results.get("success", ())}
    bad = [entry.get("code", "") for entry in results.get("failure", ())]
    broken = [code for code in bad if not code.startswith(_TRUST_CODES)]
    signed = "claimSignature.validated" in good and not any(code.startswith("claimSignature.") for code in broken)
    bound = any(code.endswith(("Hash.match", "sHash.match")) for code in good if code.startswith("assertion."))
    if "signingCredential.expired" in bad:
        certificate = "expired"
    elif {"signingCredential.invalid", "signingCredential.revoked", "signingCredential.ocsp.revoked"} & set(bad):
        certificate = "invalid"
    else:
        certificate = "valid"
    untrusted = "untrusted" if trusted_list else "not in the trust list"
    return Validation(
        "valid" if signed else "invalid",
        "match" if bound and not [code for code in broken if not code.startswith("claimSignature.")] else "mismatch",
        "trusted" if "signingCredential.trusted" in good else untrusted,
        certificate,
        tuple(dict.fromkeys(bad)),
    )
