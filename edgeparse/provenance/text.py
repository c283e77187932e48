"""Text fields of PNG chunks and JPEG comments."""

from __future__ import annotations

from edgeparse.provenance import aigc, parameters
from edgeparse.provenance.containers import Container
from edgeparse.provenance.names import AI_EDITORS, EDITORS, GENERATORS, find_name
from edgeparse.provenance.signals import Signal, make_signal

# Fields that name the program; a caption or a title is no place for it.
_PROGRAM_KEYS = ("Software", "Creator Tool", "CreatorTool")
_LABEL_KEYS = ("AIGC", "TC260:AIGC")


def read(container: Container) -> list[Signal]:
    """Return the signals of every text field."""
    fields = [(block, block.data.decode("utf-8", "replace")) for block in container.of("text")]
    keys = {block.key: text for block, text in fields}
    signals: list[Signal] = []
    for block, text in fields:
        signals += parameters.read_text(block.key, text, block.where, size=(container.width, container.height))
        label = aigc.from_text(text, block.where, wrapped=block.key not in _LABEL_KEYS)
        signals += [label] if label else []
        signals += _program(block.key, text, block.where, keys)
    for block in container.of("comment"):
        text = block.data.decode("utf-8", "replace")
        signals += parameters.read_text("Comment", text, block.where)
        label = aigc.from_text(text, block.where, wrapped=True)
        signals += [label] if label else []
    return signals


def _program(key: str, text: str, where: str, keys: dict[str, str]) -> list[Signal]:
    if key == "fooocus_scheme" and "parameters" in keys:
        return [make_signal("parameters", "generated", where, name="Fooocus", raw=text)]
    if key == "Source" and text.startswith("NovelAI Diffusion"):
        return [make_signal("parameters", "generated", where, name="NovelAI", raw=text, model=text)]
    if key not in _PROGRAM_KEYS:
        return []
    for table, says in ((AI_EDITORS, "edited with AI"), (GENERATORS, "generated"), (EDITORS, "human edit")):
        name = find_name(text, table)
        if name:
            return [make_signal("text", says, where, name=name, raw=text)]  # type: ignore[arg-type]
    return []
