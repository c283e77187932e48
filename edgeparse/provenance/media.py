"""Movies: the camera and the program that MP4 and QuickTime files name, and the graph that ComfyUI's video nodes write.

Content credentials, XMP and the AIGC label have readers of their own. All of this is weak: any program writes such fields.
"""

from __future__ import annotations

from edgeparse.provenance import parameters
from edgeparse.provenance.containers import Block, Container
from edgeparse.provenance.names import EDITORS, GENERATORS, find_name, is_camera_maker
from edgeparse.provenance.signals import Signal, make_signal

# Generators of clips, by the whole name that a program field would hold.
_CLIP_GENERATORS = {
    "google veo": "Veo (Google)",
    "hailuo ai": "Hailuo AI (MiniMax)",
    "kling ai": "Kling AI (Kuaishou)",
    "luma dream machine": "Luma Dream Machine",
    "pika labs": "Pika",
    "runway gen": "Runway",
    "runwayml": "Runway",
    "seedance": "Seedance (ByteDance)",
}
_PREFIX = "com.apple.quicktime."
_PROGRAM = frozenset(("\xa9too", "\xa9swr", "\xa9enc", "encoder", "encoded_by", "software", "creationtool", "tool"))
_MAKE, _MODEL, _COMMENT = ("\xa9mak", "make"), ("\xa9mod", "model"), ("\xa9cmt", "comment")


def read(container: Container) -> list[Signal]:
    """Return the signals of a movie's program, camera and comment fields."""
    fields = {_key(block): block for block in reversed(container.of("text"))}
    signals = [_program(block) for key, block in fields.items() if key in _PROGRAM]
    signals.append(_camera(fields))
    for key in _COMMENT:
        if key in fields:
            signals += _graph(fields[key])
    return [signal for signal in signals if signal]


def _key(block: Block) -> str:
    return block.key.removeprefix(_PREFIX).casefold()


def _value(block: Block | None) -> str:
    return "" if block is None else block.data.decode("utf-8", "replace").strip("\0 \r\n\t")


def _program(block: Block) -> Signal | None:
    text = _value(block)
    if name := find_name(text, GENERATORS | _CLIP_GENERATORS):
        return make_signal("text", "generated", block.where, name=name, strength="weak", raw=text)
    if name := find_name(text, EDITORS):
        return make_signal("text", "human edit", block.where, name=name, raw=text)
    return None


def _camera(fields: dict[str, Block]) -> Signal | None:
    """Return the signal of a known maker with a model; every phone writes both into its clips."""
    block = next((fields[key] for key in _MAKE if key in fields), None)
    make, model = _value(block), _value(next((fields[key] for key in _MODEL if key in fields), None))
    if block is None or not model or not is_camera_maker(make):
        return None
    return make_signal("text", "camera", block.where, name=f"{make} {model}", raw=f"{make} {model}")


def _graph(block: Block) -> list[Signal]:
    """Return the signals of a comment that holds a graph: `{"prompt": "{...}", "workflow": {...}}`."""
    text = _value(block)
    value = parameters.load_json(text) if text.startswith("{") else None
    if not isinstance(value, dict):
        return []
    for key in ("prompt", "workflow"):
        inner = value.get(key)
        if isinstance(inner, (dict, str)):
            found = parameters.read_text(
                key, inner if isinstance(inner, str) else parameters.to_json(inner), block.where
            )
            if found:
                return found
    return []
