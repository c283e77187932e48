"""The published parsing network (arXiv 2106.07873), to be trained next to ours: its layers and input, our label spaces."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeparse import windows
from export.published_networks import MEAN, STD, DnCNN, ParsingHead
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES


@dataclass(frozen=True)
class PublishedConfig:
    """Layers of the FEN, side of the input in pixels, and size of the embedding."""

    depth: int = 17
    size: int = 64
    embedding: int = 64

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON."""
        return asdict(self)


class PublishedNetwork(nn.Module):
    """uint8[N, 64, 64, 3] -> every raw output by name, as from `training.model.network.Network`.

    Only the last layers differ from the published network, because they have our label spaces. The authors use separate
    networks for detection, the family and comparing; here these read the same 64 values, the cheapest variant.
    """

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        self.fen = DnCNN(config.depth)
        self.head = ParsingHead()
        sizes = {"embedding": config.embedding, "generated": 1, "family": len(FAMILIES), "continuous": len(CONTINUOUS)}
        sizes |= {name: len(values) for name, values in DISCRETE.items()} | {"losses": len(LOSSES)}
        self.heads = nn.ModuleDict({name: nn.Linear(64, size) for name, size in sizes.items()})

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        """Return the outputs for windows."""
        x = ((windows.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
        # bfloat16 merges neighbouring dark values after this normalisation; the first layer is cheap in float32.
        with torch.autocast(x.device.type, enabled=False):
            first = self.fen.layers[0](x)
        fingerprint = self.fen.layers[1:](first)
        shared = self.head.branch(fingerprint)
        outputs = {name: head(shared) for name, head in self.heads.items()}
        outputs["continuous"] = outputs["continuous"].sigmoid()
        outputs["embedding"] = F.normalize(outputs["embedding"], dim=1)
        return {"fingerprint": fingerprint, **outputs}


def frame(pixels: np.ndarray) -> np.ndarray:
    """Shrink a whole picture to the published input, uint8[1, 64, 64, 3]."""
    return windows.resize_whole(pixels, PublishedConfig().size).pixels
