"""Train a generator from its config, generate its pictures, and write one file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.device import supports_fast_bfloat16, to_channels_last
from training.labels import Labels
from training.zoo import losses
from training.zoo.base import Terms
from training.zoo.blocks import Block
from training.zoo.families import REGISTRY
from training.zoo.files import differences, falls_short
from training.zoo.inspection import inspect, latent_size
from training.zoo.space import Config

BATCH = 4
PATCH = 64
# Training budget of a generator in 10^12 multiply-accumulates, and its minimum number of steps.
TERA_MACS, MIN_STEPS = 0.5, 450
# Photos that an unconditional generator is trained on.
TEXTURES = 4
ADVERSARIAL_WEIGHT = 0.03
# Patches that closed-form parts (principal components, codebooks) are fitted on.
FITTED_ON = 128


@dataclass(frozen=True)
class Photos:
    """Photo crops of one size.

    Attributes:
        pixels: uint8[N, S, S, 3].
        splits: split of each.
        sources: SET/FILE of each.
    """

    pixels: np.ndarray
    splits: np.ndarray
    sources: np.ndarray

    def of(self, split: str) -> np.ndarray:
        """Return the indices of one split."""
        return np.flatnonzero(self.splits == split)

    @staticmethod
    def load(path: Path) -> Photos:
        """Read the crops that `prepare_photos` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return Photos(file["pixels"], file["splits"], file["sources"])


@dataclass(frozen=True)
class Budget:
    """Budget of one generator.

    Attributes:
        tera_macs: training in 10^12 multiply-accumulates.
        pictures: number of pictures by split.
        min_steps: minimum number of training steps.
        max_steps: maximum number of training steps.
    """

    tera_macs: float
    pictures: dict[str, int]
    min_steps: int = 300
    max_steps: int = 900


class _Sampler:
    """Random patches of training photos (of `limit` of them only), in the range of the generator's last layer."""

    def __init__(self, photos: Photos, limit: int | None, low: float, device: torch.device, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pixels = photos.pixels[self.rng.permutation(photos.of("train"))[:limit]]
        self.low, self.device = low, device

    def __call__(self) -> Tensor:
        size = self.pixels.shape[1]
        picks = self.rng.integers(0, len(self.pixels), BATCH)
        corners = self.rng.integers(0, size - PATCH + 1, (BATCH, 2))
        patches = [self.pixels[i, y : y + PATCH, x : x + PATCH] for i, (y, x) in zip(picks, corners, strict=True)]
        return to_range(torch.from_numpy(np.stack(patches)).to(self.device), self.low)


def to_range(pixels: Tensor, low: float) -> Tensor:
    """Convert uint8[N, H, W, 3] to float32[N, 3, H, W] in [low, 1], channels last in memory."""
    x = pixels.permute(0, 3, 1, 2).float() / 255
    return (x * (1 - low) + low).contiguous(memory_format=torch.channels_last)


def to_pixels(picture: Tensor, low: float) -> np.ndarray:
    """Convert float[N, 3, H, W] in [low, 1] to uint8[N, H, W, 3]."""
    x = ((picture.float() - low) / (1 - low)).clamp(0, 1) * 255
    return x.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def initialise(module: nn.Module) -> None:
    """Apply He initialisation (arXiv 1502.01852). PyTorch's default shrinks the signal, which stalls networks without norms.

    A convolution that keeps size and channels starts near the identity. Otherwise a deep stack stays blurred in its few steps. Convolutions
    inside residual blocks are excepted, because signals would double.
    """
    residual = {
        part for block in module.modules() if isinstance(block, Block) and block.join for part in block.modules()
    }
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            # Only 1 / stride^2 of a strided transposed kernel contributes to each output.
            fan_in = (
                part.in_channels
                * part.kernel_size[0]
                * part.kernel_size[1]
                / (part.stride[0] ** 2 if isinstance(part, nn.ConvTranspose2d) else 1)
            )
            nn.init.normal_(part.weight, std=(2.0 / fan_in) ** 0.5)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if (
            type(part) is nn.Conv2d
            and part.stride == (1, 1)
            and part.in_channels == part.out_channels
            and part not in residual
        ):
            with torch.no_grad():
                part.weight.mul_(0.2).add_(nn.init.dirac_(torch.empty_like(part.weight)))


class Trainer:
    """Trains one generator.

    Training may use bfloat16, but pictures are generated in float32: eight bits of mantissa would leave a trace that no other generator
    has.
    """

    def __init__(self, config: Config, photos: Photos, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        # TF32, the default of CUDA's convolutions, would leave a trace too.
        torch.backends.cudnn.allow_tf32 = False
        maker = REGISTRY[config.family](config)
        initialise(maker)
        self.sample = _Sampler(photos, None if maker.sees_photos else TEXTURES, maker.low, device, config.seed)
        self.maker = to_channels_last(maker, device)
        maker.prepare(torch.cat([self.sample() for _ in range(FITTED_ON // BATCH)]))
        self.critic = to_channels_last(losses.PatchCritic(), device) if config.adversary else None
        self.summed: list[str] = []

    def terms(self, photo: Tensor) -> tuple[Tensor | None, Terms]:
        """Return pictures, if training makes any, and all losses of the generator by name."""
        picture, terms = self.maker.terms(photo)
        if self.critic is not None and picture is not None:
            weight = ADVERSARIAL_WEIGHT if self.maker.sees_photos else 1.0
            score = self.critic(picture).float()
            terms.append((self.config.adversary, weight * losses.generator_loss(self.config.adversary, score)))
        return picture, terms

    def macs(self) -> float:
        """Return the multiply-accumulates of one forward pass over a batch, including the critic."""
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.terms(self.sample())
        return float(counter.get_total_flops()) / 2

    def train(self, steps: int) -> None:
        """Train with Adam and a one-cycle learning rate. The critic, if any, takes one step per step."""
        values = [parameter for parameter in self.maker.parameters() if parameter.requires_grad]
        lr = 2e-3 if self.maker.sees_photos else 8e-4
        optimizer = torch.optim.Adam(values, lr, betas=(0.9 if self.maker.sees_photos else 0.5, 0.99))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
        critic_optimizer = (
            torch.optim.Adam(self.critic.parameters(), 8e-4, betas=(0.5, 0.99)) if self.critic is not None else None
        )
        # On early noise, an adversary only slows reconstruction down.
        critic_from = steps // 3 if self.maker.sees_photos else 0
        for step in range(steps):
            photo = self.sample()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_fast_bfloat16(self.device)):
                picture, terms = self.terms(photo)
            self.summed = sorted({*self.summed, *(name for name, _ in terms)})
            used = [term for name, term in terms if name != self.config.adversary or step >= critic_from]
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(sum(used[1:], start=used[0]))
            nn.utils.clip_grad_norm_(values, 1.0)
            optimizer.step()
            schedule.step()
            if picture is not None and critic_optimizer is not None:
                self._step_critic(critic_optimizer, photo, picture.detach(), step)

    def _step_critic(self, optimizer: torch.optim.Optimizer, photo: Tensor, picture: Tensor, step: int) -> None:
        assert self.critic is not None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=supports_fast_bfloat16(self.device)):
            photo_scores, scores = self.critic(photo).float(), self.critic(picture).float()
        loss = losses.critic_loss(self.config.adversary, photo_scores, scores)
        if self.config.adversary == "WGAN" and step % 4 == 0:
            loss = loss + 10.0 * losses.gradient_penalty(self.critic, photo, picture)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()

    @torch.no_grad()
    def pictures(self, photos: np.ndarray, size: int) -> np.ndarray:
        """Generate one picture per photo, uint8[N, size, size, 3]. Unconditional generators use only the number of photos."""
        self.maker.eval()
        pictures = []
        for start in range(0, len(photos), 8):
            pixels = torch.from_numpy(photos[start : start + 8]).to(self.device)
            pictures.append(to_pixels(self.maker.pictures(to_range(pixels, self.maker.low)), self.maker.low))
        return np.concatenate(pictures)[:, :size, :size]

    @torch.no_grad()
    def given(self) -> Tensor:
        """Return the generator's input for one patch."""
        patch: Tensor = self.sample()[:1]
        return self.maker.given(patch)[0]

    @torch.no_grad()
    def labels(self) -> Labels:
        """Return the labels by inspection, with the losses that training summed."""
        return inspect(self.maker.generator, self.given(), self.config.family, tuple(self.summed))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB of two stacks uint8[N, H, W, 3], averaged over pictures."""
    error = np.square(a.astype(np.float32) - b.astype(np.float32)).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-3))))


def spectrum_distance(pictures: np.ndarray, photos: np.ndarray) -> float:
    """Return the mean absolute difference of the sets' log mean spectra (natural log)."""
    a, b = (np.log(np.abs(np.fft.rfft2(x.astype(np.float32).mean(-1))).mean(0) + 1) for x in (pictures, photos))
    return float(np.abs(a - b).mean())


def variety(pictures: np.ndarray) -> float:
    """Return how much pictures uint8[N, S, S, 3] differ, in grey levels.

    This is the deviation over pictures of 4x4 pixel means, averaged over positions. It is small if all pictures, or their blocks, are
    alike.
    """
    count, side = len(pictures), pictures.shape[1] // 4
    blocks = pictures[:, : 4 * side, : 4 * side].reshape(count, side, 4, side, 4, 3)
    return float(blocks.mean(axis=(2, 4), dtype=np.float32).std(axis=0).mean())


def build_one(config: Config, photos: Photos, budget: Budget, out: Path, device: torch.device) -> dict[str, object]:
    """Train a generator, write `out`/NAME.npz atomically, and return its entry: config, labels and quality.

    A generator that falls short of the quality rule is trained once more from the start, for twice as many steps.
    """
    size = photos.pixels.shape[1]
    rng = np.random.default_rng(config.seed)
    twins = np.concatenate([rng.permutation(photos.of(split))[:count] for split, count in budget.pictures.items()])
    for attempt in (1, 2):
        trainer = Trainer(config, photos, device)
        steps = int(np.clip(budget.tera_macs * 1e12 / (3 * trainer.macs()), budget.min_steps, budget.max_steps))
        trainer.train(steps * attempt)
        pictures = trainer.pictures(photos.pixels[twins], size)
        quality = (
            {"psnr_db": psnr(pictures, photos.pixels[twins])}
            if trainer.maker.sees_photos
            else {"spectrum_distance": spectrum_distance(pictures, photos.pixels[twins])}
        )
        entry: dict[str, object] = {
            "name": config.name,
            "config": asdict(config),
            "labels": trainer.labels().to_json(),
            "latent_size": latent_size(trainer.given(), PATCH),
            "steps": steps * attempt,
            "quality": quality,
            "variety": variety(pictures),
        }
        if not falls_short(entry):
            break
    temporary = out / f".{config.name}.{os.getpid()}.npz"
    np.savez_compressed(
        temporary,
        differences=differences(pictures),
        splits=photos.splits[twins],
        # -1 if a picture shows no photo's content.
        twins=twins if trainer.maker.sees_photos else np.full(len(twins), -1),
        entry=np.array(json.dumps(entry)),
    )
    temporary.replace(out / f"{config.name}.npz")
    return entry
