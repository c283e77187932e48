"""Generation parameters that front ends of diffusion models write as text.

Every dialect is recognised by its structure, never by a word: a caption about AI is no evidence.
"""

from __future__ import annotations

import json
import re
from typing import Any

from edgeparse.provenance import comfyui
from edgeparse.provenance.signals import Signal, make_signal

MAX_JSON = 4 * 1024 * 1024
# The last paragraph of AUTOMATIC1111's infotext: "Steps: 20, Sampler: Euler a, CFG scale: 7, ..."
_INFOTEXT = re.compile(r"(?:^|\n)Steps: \d{1,5}, ([^\n]{1,20000})", re.DOTALL)
_PAIR = re.compile(r"\s*([A-Z][\w /-]{0,40}): (\"(?:\\.|[^\"\\])*\"|[^,]*)(?:,|$)")
_INFOTEXT_KEYS = frozenset(("Sampler", "CFG scale", "Seed", "Size", "Model hash", "Model"))
_MIDJOURNEY = re.compile(r"Job ID: [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\s*$")
_EASY_DIFFUSION = frozenset(("use_stable_diffusion_model", "Stable Diffusion model", "Stable Diffusion Model"))


def read_text(key: str, text: str, where: str, *, size: tuple[int, int] = (0, 0)) -> list[Signal]:
    """Return the signals of one text field.

    Args:
        key: The field's keyword, for example "parameters" or "UserComment".
        text: The value.
        where: Its place in the container.
        size: Width and height of the picture in pixels, (0, 0) when unknown.
    """
    if len(text) > MAX_JSON:
        return []
    stripped = text.strip("\0 \r\n\t")
    if stripped.startswith("{"):
        value = load_json(stripped)
        signal = _from_json(key, value, stripped, where, size) if isinstance(value, dict) else None
    else:
        signal = _from_prose(key, stripped, where, size)
    return [signal] if signal else []


def load_json(text: str) -> Any:
    """Return decoded JSON, or None when it is damaged, too deep or too large."""
    if len(text) > MAX_JSON:
        return None
    try:
        # ComfyUI writes NaN and Infinity; Python's decoder takes them.
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def to_json(value: dict[str, Any]) -> str:
    """Return JSON text of a decoded object."""
    return json.dumps(value)


def _signal(name: str, where: str, raw: str, *, strength: str | None = None, **details: object) -> Signal:
    return make_signal("parameters", "generated", where, name=name, raw=raw, strength=strength, **details)  # type: ignore[arg-type]


def _from_prose(key: str, text: str, where: str, size: tuple[int, int]) -> Signal | None:
    infotext = _infotext(text)
    if infotext is not None:
        return _signal(_web_ui(infotext), where, text, model=infotext.get("Model"), version=infotext.get("Version"))
    if key == "Description" and _MIDJOURNEY.search(text[-200:]):
        return _signal("Midjourney", where, text)
    if key == "Dream" and re.search(r'^".*" -s ?\d+ -S ?\d+ ', text[:20000], re.DOTALL):
        return _signal("InvokeAI", where, text)
    # Savers that have no text chunks write "Prompt: {graph}" and "Workflow: {graph}".
    lead, brace, rest = text.partition("{")
    if brace and lead.strip().casefold() in ("prompt:", "workflow:"):
        value = load_json(brace + rest)
        graph = comfyui.parse(value)
        return _comfyui(graph, where, text, size) if graph else None
    return None


def _infotext(text: str) -> dict[str, str] | None:
    """Return the settings of AUTOMATIC1111's infotext, or None when the text is something else."""
    found = None
    for found in _INFOTEXT.finditer(text[-40000:]):  # noqa: B007
        pass
    if found is None:
        return None
    settings = {key: value.strip('" ') for key, value in _PAIR.findall(found.group(1))}
    return settings if len(_INFOTEXT_KEYS & settings.keys()) >= 3 else None


def _web_ui(settings: dict[str, str]) -> str:
    version, app = settings.get("Version", ""), settings.get("App", "")
    if app == "SD.Next":
        return "SD.Next"
    if version.startswith("ComfyUI"):
        return "ComfyUI"
    if version == "neo" or version.startswith("neo"):
        return "Stable Diffusion web UI (Forge Neo)"
    if re.match(r"f\d", version):
        return "Stable Diffusion web UI (Forge)"
    if version.startswith("Fooocus"):
        return "Fooocus"
    if re.match(r"v\d", version) or not version:
        return "Stable Diffusion web UI (AUTOMATIC1111)"
    return "Stable Diffusion web UI"


def _from_json(key: str, value: dict[str, Any], text: str, where: str, size: tuple[int, int]) -> Signal | None:
    graph = comfyui.parse(value) if key in ("prompt", "workflow", "UserComment", "Comment") else None
    if graph:
        return _comfyui(graph, where, text, size)
    for reader in (_invokeai, _novelai, _draw_things, _fooocus, _swarmui, _easy_diffusion):
        found = reader(key, value)
        if found:
            name, model = found
            return _signal(name, where, text, model=model)
    return None


def _comfyui(graph: comfyui.Graph, where: str, text: str, size: tuple[int, int]) -> Signal:
    # A screenshot of the editor carries the graph too; its size is not the one that the graph makes.
    fits = graph.fits(*size)
    note = "" if fits else f"the graph makes {graph.width}x{graph.height}, the picture is {size[0]}x{size[1]}"
    return _signal(
        "ComfyUI",
        where,
        text,
        strength="medium" if fits else "weak",
        model=", ".join(graph.models),
        note=note,
    )


def _name(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("model_name") or value.get("name")
    return value if isinstance(value, str) else ""


def _invokeai(key: str, value: dict[str, Any]) -> tuple[str, str] | None:
    if key == "sd-metadata" and str(value.get("app_id", "")).casefold() == "invoke-ai/invokeai":
        return "InvokeAI", _name(value.get("model_weights"))
    if key == "invokeai_metadata" and ("generation_mode" in value or "positive_prompt" in value):
        return "InvokeAI", _name(value.get("model"))
    if key == "invokeai_graph" and isinstance(value.get("nodes"), dict):
        return "InvokeAI", ""
    return None


def _novelai(key: str, value: dict[str, Any]) -> tuple[str, str] | None:
    if value.get("Software") == "NovelAI" or value.get("Title") == "NovelAI generated image":
        return "NovelAI", _name(value.get("Source"))
    if key == "Comment" and "prompt" in value and {"uc", "n_samples", "request_type"} & value.keys():
        return "NovelAI", ""
    return None


def _draw_things(key: str, value: dict[str, Any]) -> tuple[str, str] | None:
    if key == "UserComment" and {"c", "uc", "sampler", "seed", "steps"} <= value.keys():
        return "Draw Things", _name(value.get("model"))
    return None


def _fooocus(key: str, value: dict[str, Any]) -> tuple[str, str] | None:
    keys = {name.casefold().replace(" ", "_") for name in value}
    if key in ("parameters", "UserComment", "Comment") and {"performance", "base_model", "sharpness"} <= keys:
        return "Fooocus", _name(value.get("base_model") or value.get("Base Model"))
    return None


def _swarmui(_: str, value: dict[str, Any]) -> tuple[str, str] | None:
    inner = value.get("sui_image_params")
    return ("SwarmUI", _name(inner.get("model"))) if isinstance(inner, dict) else None


def _easy_diffusion(_: str, value: dict[str, Any]) -> tuple[str, str] | None:
    for name in _EASY_DIFFUSION & value.keys():
        return "Easy Diffusion", _name(value.get(name))
    return None
