"""ComfyUI graphs: what tells them from other JSON, the models they load and the size they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_MAX_NODES = 5000
_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name", "diffusion_model_name")
_MODEL_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".gguf", ".sft", ".bin")


@dataclass(frozen=True)
class Graph:
    """A graph's model files, and the size of its latent image (0 when it has none)."""

    models: tuple[str, ...] = ()
    width: int = 0
    height: int = 0

    def fits(self, width: int, height: int) -> bool:
        """Return False when the picture's aspect ratio or size cannot come from this graph."""
        if not (self.width and self.height and width and height):
            return True
        ratio = (width * self.height) / (height * self.width)
        return 0.97 <= ratio <= 1.03 and width * 1.02 >= self.width


def parse(value: Any) -> Graph | None:
    """Return a graph in API form or in the editor's form, or None for other JSON."""
    if not isinstance(value, dict):
        return None
    nodes = value.get("nodes")
    if isinstance(nodes, list):
        return _editor(nodes) if "links" in value or "last_node_id" in value else None
    return _api(value)


def _api(value: dict[str, Any]) -> Graph | None:
    nodes = [node for node in value.values() if isinstance(node, dict) and isinstance(node.get("class_type"), str)]
    if not nodes or len(nodes) * 2 < len(value):
        return None
    models: list[str] = []
    size = (0, 0)
    for node in nodes[:_MAX_NODES]:
        inputs = node.get("inputs")
        if not isinstance(inputs, dict):
            continue
        models += [inputs[key] for key in _MODEL_INPUTS if _is_model(inputs.get(key))]
        width, height = inputs.get("width"), inputs.get("height")
        if "Latent" in node["class_type"] and isinstance(width, int) and isinstance(height, int):
            size = (width, height)
    return Graph(tuple(dict.fromkeys(models)), *size)


def _editor(nodes: list[Any]) -> Graph | None:
    typed = [node for node in nodes if isinstance(node, dict) and isinstance(node.get("type"), str)]
    if not typed:
        return None
    models: list[str] = []
    size = (0, 0)
    for node in typed[:_MAX_NODES]:
        widgets = node.get("widgets_values")
        if not isinstance(widgets, list):
            continue
        if "Loader" in node["type"] and not any(kind in node["type"] for kind in ("Lora", "VAE", "CLIP")):
            models += [value for value in widgets if _is_model(value)]
        if "Latent" in node["type"] and len(widgets) >= 2 and all(type(value) is int for value in widgets[:2]):
            size = (widgets[0], widgets[1])
    return Graph(tuple(dict.fromkeys(models)), *size)


def _is_model(value: Any) -> bool:
    return isinstance(value, str) and value.casefold().endswith(_MODEL_ENDINGS)
