"""The published parsing network (arXiv 2106.07873) to be trained beside ours: its layers, its input, our questions."""

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
class PeerConfig:
    """Layers of the FEN, the side in pixels of the picture that it reads, and how many numbers an embedding has."""

    depth: int = 17
    size: int = 64
    embedding: int = 64

    def to_json(self) -> dict[str, object]:
        return asdict(self)


class Peer(nn.Module):
    """uint8 [N, 64, 64, 3] -> every raw output by name, as `training.model.network.Network` gives them.

    Only the last layers differ from the published network: they answer with our label spaces, and what it has separate networks for
    (detection, the family, comparing) they read off the same 64 values, which is the least that it can cost.
    """

    def __init__(self, config: PeerConfig) -> None:
        super().__init__()
        self.config = config
        self.fen = DnCNN(config.depth)
        self.head = ParsingHead()
        sizes = {"embedding": config.embedding, "generated": 1, "family": len(FAMILIES), "continuous": len(CONTINUOUS)}
        sizes |= {name: len(values) for name, values in DISCRETE.items()} | {"losses": len(LOSSES)}
        self.heads = nn.ModuleDict({name: nn.Linear(64, size) for name, size in sizes.items()})

    def forward(self, windows: Tensor) -> dict[str, Tensor]:
        x = ((windows.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
        # bfloat16 cannot tell neighbouring dark values of its normalisation apart, and the first layer's convolutions are few.
        with torch.autocast(x.device.type, enabled=False):
            first = self.fen.layers[0](x)
        fingerprint = self.fen.layers[1:](first)
        shared = self.head.branch(fingerprint)
        outputs = {name: head(shared) for name, head in self.heads.items()}
        outputs["continuous"] = outputs["continuous"].sigmoid()
        outputs["embedding"] = F.normalize(outputs["embedding"], dim=1)
        return {"fingerprint": fingerprint, **outputs}


def frame(pixels: np.ndarray) -> np.ndarray:
    """A picture as the published networks are shown it, shrunk as a whole: uint8[1, 64, 64, 3]."""
    return windows.whole(pixels, PeerConfig().size).pixels
