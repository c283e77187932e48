"""XMP packets (ISO 16684-1): the top-level properties of a packet, parsed within limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
MAX_PACKET = 4 * 1024 * 1024
MAX_DEPTH = 40
MAX_NODES = 50_000


class XmpError(ValueError):
    """The packet is no XMP, or exceeds the limits."""


@dataclass
class Packet:
    """Top-level properties by namespace and local name.

    Attributes:
        values: Text values of each property: one for a simple value, one for each item of an array.
        fields: Fields of structures directly below a property, by (namespace, name) of the property.
    """

    values: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    fields: dict[tuple[str, str], list[dict[str, str]]] = field(default_factory=dict)

    def first(self, namespace: str, name: str) -> str | None:
        """Return a property's first value."""
        values = self.values.get((namespace, name))
        return values[0] if values else None


def parse(data: bytes) -> Packet:
    """Return a packet's properties.

    The parser refuses document types, and with them every entity declaration: nothing is expanded and
    nothing is fetched.

    Raises:
        XmpError: The XML is damaged, has a document type, or is too large or too deep.
    """
    if len(data) > MAX_PACKET:
        raise XmpError(f"an XMP packet must hold at most {MAX_PACKET} bytes, got {len(data)}")
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator="\n")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = _refuse
    try:
        parser.Parse(data.strip(b"\0 \r\n\t"), True)
    except (expat.ExpatError, LookupError) as error:
        # An unknown encoding in the declaration is a LookupError.
        raise XmpError(f"the XMP packet is damaged: {error}") from error
    return builder.packet


def _refuse(*_: object) -> int:
    raise XmpError("an XMP packet must have no document type")


def _split(name: str) -> tuple[str, str]:
    namespace, _, local = name.rpartition("\n")
    return namespace, local


class _Builder:
    """Collects properties: children and attributes of an rdf:Description directly below rdf:RDF."""

    def __init__(self) -> None:
        self.packet = Packet()
        self._path: list[tuple[str, str]] = []
        self._texts: list[list[str]] = []
        self._base: int | None = None
        self._left = MAX_NODES

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._left -= 1 + len(attributes)
        if len(self._path) >= MAX_DEPTH or self._left < 0:
            raise XmpError(f"an XMP packet must have at most {MAX_DEPTH} levels and {MAX_NODES} nodes")
        tag = _split(name)
        if tag == (RDF, "Description") and self._path and self._path[-1] == (RDF, "RDF") and self._base is None:
            self._base = len(self._path)
            for key, value in attributes.items():
                pair = _split(key)
                if pair[0] != RDF and pair[0]:
                    self._add(pair, value)
        elif self._base is not None:
            self._nested(tag, attributes)
        self._path.append(tag)
        self._texts.append([])

    def _nested(self, tag: tuple[str, str], attributes: dict[str, str]) -> None:
        assert self._base is not None
        depth = len(self._path) - self._base
        prop = self._path[self._base + 1] if depth > 1 else tag
        resource = attributes.get(f"{RDF}\nresource")
        if resource and (depth == 1 or (depth == 3 and tag == (RDF, "li"))):
            self._add(prop, resource)
        if tag in ((RDF, "li"), (RDF, "Description")) or depth == 1:
            found = {_split(k)[1]: v for k, v in attributes.items() if _split(k)[0] not in (RDF, "")}
            if found:
                self.packet.fields.setdefault(prop, []).append(found)

    def text(self, data: str) -> None:
        if self._texts:
            self._texts[-1].append(data)

    def end(self, name: str) -> None:
        tag = self._path.pop()
        text = "".join(self._texts.pop()).strip()
        if self._base is None:
            return
        depth = len(self._path) - self._base
        if depth == 0:
            self._base = None
        elif text and depth == 1:
            self._add(tag, text)
        elif text and depth >= 2:
            prop = self._path[self._base + 1]
            if depth == 3 and tag == (RDF, "li"):
                self._add(prop, text)
            elif tag[0] != RDF and depth <= 5:
                fields = self.packet.fields.setdefault(prop, [])
                if not fields or tag[1] in fields[-1]:
                    fields.append({})
                fields[-1][tag[1]] = text

    def _add(self, pair: tuple[str, str], value: str) -> None:
        self.packet.values.setdefault(pair, []).append(value.strip())
