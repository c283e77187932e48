"""XMP: digital source type, the AI fields of IPTC 2025.1, creator tool, credit line and the TC260 label."""

from __future__ import annotations

from edgeparse.provenance import aigc, parameters, source_types
from edgeparse.provenance.containers import Container
from edgeparse.provenance.iptc import credit_signal
from edgeparse.provenance.names import AI_EDITORS, EDITORS, GENERATORS, find_name
from edgeparse.provenance.signals import Signal, make_signal
from edgeparse.provenance.xmp_packet import Packet, parse

EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
XMP = "http://ns.adobe.com/xap/1.0/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
DCTERMS = "http://purl.org/dc/terms/"
EXIF = "http://ns.adobe.com/exif/1.0/"
# Both spellings occur in files.
_SOURCE_TYPES = ("DigitalSourceType", "digitalsourcetype", "DigitalSourcefileType")
_AI_FIELDS = ("AISystemUsed", "AISystemVersionUsed", "AIPromptInformation", "AIPromptWriterName")


def read(container: Container) -> list[Signal]:
    """Return the signals of every XMP packet.

    Raises:
        XmpError: Every packet of the file is damaged.
    """
    signals: list[Signal] = []
    error: ValueError | None = None
    for block in container.of("xmp"):
        try:
            packet = parse(block.data)
        except ValueError as failure:
            error = failure
            continue
        signals += _packet(packet, block.where, has_manifest=bool(container.of("c2pa")))
    if error and not signals:
        raise error
    return signals


def _packet(packet: Packet, where: str, *, has_manifest: bool) -> list[Signal]:
    found = [
        *_source_type(packet, where),
        _tool(packet, where),
        _label(packet, where),
        _remote(packet, where, has_manifest=has_manifest),
    ]
    credit = packet.first(PHOTOSHOP, "Credit")
    if credit:
        found.append(credit_signal("xmp", credit, f"{where} photoshop:Credit"))
    comment = packet.first(EXIF, "UserComment")
    if comment:
        found += parameters.read_text("UserComment", comment, f"{where} exif:UserComment")
        found.append(aigc.from_text(comment, f"{where} exif:UserComment", wrapped=True))
    return [signal for signal in found if signal]


def _source_type(packet: Packet, where: str) -> list[Signal]:
    """Return the signal of the source type joined with the AI fields, or of either alone."""
    fields = {name: packet.first(EXT, name) for name in _AI_FIELDS}
    system = fields["AISystemUsed"]
    details = {
        "version": fields["AISystemVersionUsed"],
        "prompt": fields["AIPromptInformation"],
    }
    codes = [source_types.code_of(packet.first(EXT, name)) for name in _SOURCE_TYPES]
    signals = []
    code = next((code for code in codes if code), None)
    if code:
        says = source_types.says_of(code)
        ai = says in ("generated", "edited with AI")
        signals.append(
            make_signal(
                "xmp",
                says,
                f"{where} Iptc4xmpExt:DigitalSourceType",
                name=system if ai else None,
                strength="weak" if code == "compositeSynthetic" else None,
                raw=code,
                source_type=code,
                details=details if ai else None,
            )
        )
        if ai:
            return signals
    if system or fields["AIPromptInformation"]:
        place = "AISystemUsed" if system else "AIPromptInformation"
        signals.append(
            make_signal(
                "xmp", "generated", f"{where} Iptc4xmpExt:{place}", name=system, raw=system or "", details=details
            )
        )
    return signals


def _tool(packet: Packet, where: str) -> Signal | None:
    """Return the signal of CreatorTool, or of the last known editor in the history."""
    tool = packet.first(XMP, "CreatorTool") or ""
    place = f"{where} xmp:CreatorTool"
    if name := find_name(tool, AI_EDITORS):
        return make_signal("xmp", "edited with AI", place, name=name, raw=tool)
    if name := find_name(tool, GENERATORS):
        return make_signal("xmp", "generated", place, name=name, raw=tool)
    history = packet.fields.get(("http://ns.adobe.com/xap/1.0/mm/", "History"), [])
    agents = [entry["softwareAgent"] for entry in history if "softwareAgent" in entry]
    for value, spot in ((tool, place), *((agent, f"{where} xmpMM:History") for agent in reversed(agents))):
        if name := find_name(value, EDITORS):
            return make_signal("xmp", "human edit", spot, name=name, raw=value)
    return None


def _label(packet: Packet, where: str) -> Signal | None:
    """Return the signal of the TC260 label: JSON text, or a structure's fields."""
    place = f"{where} TC260:AIGC"
    for namespace in aigc.NAMESPACES:
        text = packet.first(namespace, "AIGC")
        signal = aigc.from_text(text, place, wrapped=False) if text else None
        if signal:
            return signal
        for fields in packet.fields.get((namespace, "AIGC"), []):
            if signal := aigc.from_fields(fields, place, str(fields)):
                return signal
        flat = {name: packet.first(namespace, name) for name in aigc.FIELDS}
        if flat["Label"]:
            return aigc.from_fields(flat, place, str(flat))
    return None


def _remote(packet: Packet, where: str, *, has_manifest: bool) -> Signal | None:
    """Return the signal of a link to credentials that the file does not hold."""
    link = packet.first(DCTERMS, "provenance")
    if not link or has_manifest:
        return None
    place = f"{where} dcterms:provenance"
    if link.startswith(("http://", "https://")):
        state = "remote credentials, not fetched"
    elif link.startswith("self#jumbf="):
        state = "credentials are missing; they were removed or lost"
    else:
        return None
    return make_signal("c2pa", "other", place, verification="present, not verified", raw=link, state=state)
