"""The zoo: labels are read off modules, builds resume, configs repeat."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import noise
from training.labels import DISCRETE, LOSSES, Labels
from training.zoo import build, losses
from training.zoo.blocks import Block, Sum
from training.zoo.build import Budget, Photos, Trainer, build_one
from training.zoo.families import REGISTRY
from training.zoo.files import differences, falls_short, passes, read_pictures
from training.zoo.inspection import inspect
from training.zoo.pool import build_all
from training.zoo.space import ADVERSARIAL, Config, Space, draw

CONFIG = Config(
    name="vae-000",
    family="vae",
    seed=1,
    width=16,
    levels=2,
    blocks_per_level=1,
    convs_per_block=2,
    kernel=5,
    normalization="group",
    nonlinearity="silu",
    last_nonlinearity="tanh",
    up_sampling="pixel_shuffle",
    down_sampling="none",
    skip=True,
    attention=False,
    latent=8,
    reconstruction="L1",
    regulariser="",
    adversary="",
    spectral=False,
    task="",
)


def photos(count: int = 6, size: int = 64) -> Photos:
    pixels = np.stack([noise(size, size, seed) for seed in range(count)])
    splits = np.array([("train", "val", "test")[i % 3] for i in range(count)])
    return Photos(pixels, splits, np.array([f"set/{i}.png" for i in range(count)]))


def test_inspection_of_a_known_module() -> None:
    """Counted by hand."""
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),  # convolution, 16 filters
        nn.BatchNorm2d(16),  # normalisation
        nn.LeakyReLU(),
        nn.MaxPool2d(2),  # pooling
        nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),  # convolution, 8 filters
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, 10),  # fully connected
        nn.Sigmoid(),
    )
    labels = inspect(module, torch.zeros(2, 3, 8, 8), "gan", ("hinge",))
    assert labels.continuous == {
        "layers": 5,
        "convolution_layers": 2,
        "fully_connected_layers": 1,
        "pooling_layers": 1,
        "normalization_layers": 1,
        "filters": 24,
        "blocks": 0,
        "layers_per_block": 0,
        "parameters": (3 * 16 * 9 + 16) + 32 + (16 * 8 * 16 + 8) + (512 * 10 + 10),
    }
    assert labels.discrete == {
        "normalization": "batch",
        "last_nonlinearity": "sigmoid",
        "block_nonlinearity": "none",
        "up_sampling": "transposed",
        "down_sampling": "max_pool",
        "skip_connections": "no",
        "kernel_size": "3",
    }
    assert labels.losses == ("hinge",)


def test_inspection_of_blocks_and_joins() -> None:
    labels = inspect(Block(16, CONFIG), torch.zeros(1, 16, 8, 8), "vae", ())
    assert labels.continuous["blocks"] == 1
    assert labels.continuous["layers_per_block"] == 4
    assert labels.discrete["block_nonlinearity"] == "silu"
    assert labels.discrete["skip_connections"] == "yes"
    assert labels.discrete["normalization"] == "group"
    assert labels.discrete["up_sampling"] == "none"
    assert torch.equal(Sum()(torch.ones(1), torch.ones(1)), torch.full((1,), 2.0))


def losses_of(config: Config) -> set[str]:
    """The losses that a config asks for."""
    prior = {"autoregressive": "cross_entropy", "attack": "cross_entropy", "flow": "KL"}.get(config.family, "")
    noise = "L2" if config.family == "diffusion" and config.task == "latent" else ""
    spectral = "spectral" if config.spectral else ""
    return {config.reconstruction, config.regulariser, config.adversary, spectral, prior, noise} - {""}


@pytest.mark.parametrize("config", draw(70, 3, list(REGISTRY)), ids=lambda config: config.name)
def test_what_is_inspected_is_what_was_drawn(config: Config) -> None:
    trainer = Trainer(config, photos(), torch.device("cpu"))
    _, terms = trainer.terms(trainer.sample())
    assert {name for name, _ in terms} == losses_of(config)
    assert all(torch.isfinite(term) for _, term in terms)
    with torch.no_grad():
        given, _ = trainer.maker.given(trainer.sample()[:1])
    labels = inspect(trainer.maker.generator, given, config.family, ())
    pictures = trainer.pictures(photos(2).pixels, 64)
    assert pictures.shape == (2, 64, 64, 3)
    assert pictures.dtype == np.uint8
    assert labels.discrete["normalization"] == config.normalization
    assert labels.discrete["block_nonlinearity"] == config.nonlinearity
    assert labels.discrete["last_nonlinearity"] == config.last_nonlinearity
    assert labels.discrete["up_sampling"] == config.up_sampling
    assert labels.discrete["down_sampling"] == config.down_sampling
    assert labels.discrete["kernel_size"] == str(config.kernel)
    assert labels.discrete["skip_connections"] == ("yes" if config.skip else "no")
    # The vectors know every value: an unknown one would raise.
    labels.discrete_vector(), labels.continuous_vector(), labels.loss_vector()
    assert Labels.from_json(json.loads(json.dumps(labels.to_json()))) == labels


def test_draws_repeat_and_are_balanced() -> None:
    first, second = draw(48, 1, list(REGISTRY)), draw(48, 1, list(REGISTRY))
    assert first == second
    assert draw(48, 2, list(REGISTRY)) != first
    assert len({config.name for config in first}) == 48
    assert set(Counter(config.family for config in first).values()) == {6, 7}
    for value in Space().up_sampling:
        assert sum(config.up_sampling == value for config in draw(48, 1, ["vae"])) == 12
    # A round more changes no earlier one, and its names go on where the last one's end.
    grown = draw(48, 1, list(REGISTRY), rounds=2)
    assert grown[:48] == first
    assert len({config.name for config in grown}) == 96
    assert grown[48].name == f"{grown[48].family}-007"
    assert len({config.seed for config in grown}) == 96
    # Another family more, or fewer, changes no other one's draw.
    assert draw(16, 1, ["vae", "gan"])[::2] == draw(8, 1, ["vae"])
    for config in first:
        assert losses_of(config) <= set(LOSSES)
        assert losses_of(config)
        assert config.normalization in DISCRETE["normalization"]


def test_build_writes_one_whole_file_and_resumes(tmp_path: Path) -> None:
    crops = photos()
    np.savez(tmp_path / "photos-64.npz", pixels=crops.pixels, splits=crops.splits, sources=crops.sources)
    budget = Budget(1e-6, {"train": 2, "val": 1, "test": 2}, min_steps=3, max_steps=3)
    configs = draw(3, 1, list(REGISTRY))
    made = list(build_all(configs[:2], tmp_path / "photos-64.npz", budget, tmp_path, 1, "cpu"))
    assert {entry["name"] for entry in made} == {config.name for config in configs[:2]}
    before = (tmp_path / f"{configs[0].name}.npz").stat().st_mtime_ns
    made = list(build_all(configs, tmp_path / "photos-64.npz", budget, tmp_path, 1, "cpu"))
    assert [entry["name"] for entry in made] == [configs[2].name]
    assert (tmp_path / f"{configs[0].name}.npz").stat().st_mtime_ns == before
    assert not list(tmp_path.glob(".*"))
    assert read_pictures(tmp_path / f"{configs[0].name}.npz").shape == (5, 64, 64, 3)
    with np.load(tmp_path / f"{configs[0].name}.npz", allow_pickle=False) as file:
        assert file["differences"].dtype == np.uint8
        assert [str(split) for split in file["splits"]] == ["train", "train", "val", "test", "test"]
        assert all(crops.splits[twin] == split for twin, split in zip(file["twins"], file["splits"], strict=True))


def test_pictures_come_back_from_their_file(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    smooth = np.stack([noise(96, 96, i) for i in range(4)]) // 4
    for each in (pictures, smooth):
        np.savez_compressed(tmp_path / "kept.npz", differences=differences(each))
        assert np.array_equal(read_pictures(tmp_path / "kept.npz"), each)
    np.savez_compressed(tmp_path / "plain.npz", pictures=smooth)
    assert (tmp_path / "kept.npz").stat().st_size < 0.95 * (tmp_path / "plain.npz").stat().st_size


def test_training_lowers_the_loss_and_repeats(tmp_path: Path) -> None:
    def error(steps: int) -> float:
        trainer = Trainer(CONFIG, photos(), torch.device("cpu"))
        trainer.train(steps)
        pixels = photos().pixels[:2]
        return float(np.abs(trainer.pictures(pixels, 64).astype(float) - pixels).mean())

    early, late = error(2), error(60)
    assert late < 0.7 * early
    entry = build_one(CONFIG, photos(), Budget(1e-6, {"test": 1}, 3, 3), tmp_path, torch.device("cpu"))
    assert entry["labels"]["losses"] == ["L1"]  # type: ignore[index]


def test_what_fails_the_quality_rule_is_trained_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps() -> object:
        return build_one(CONFIG, photos(), Budget(1e-6, {"test": 1}, 3, 3), tmp_path, torch.device("cpu"))["steps"]

    assert steps() == 6
    monkeypatch.setattr(build, "falls_short", lambda _entry: False)
    assert steps() == 3


def test_a_collapsed_generator_fails_the_quality_rule() -> None:
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (6, 4, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    one_over_and_over = np.repeat(smooth[:1], 6, axis=0)
    # Each another one, full of contrast between neighbours, and all the same from further away.
    checkerboards = np.stack([np.roll(np.indices((64, 64)).sum(0) % 2 * 255, shift) for shift in range(6)])[..., None]

    def kept(pictures: np.ndarray) -> bool:
        return passes({"quality": {"spectrum_distance": 0.5}, "variety": build.variety(pictures)})

    assert build.variety(smooth) == pytest.approx(smooth.std(0).mean(), rel=1e-4)
    assert kept(smooth)
    assert not kept(one_over_and_over)
    assert not kept(checkerboards.repeat(3, axis=-1).astype(np.uint8))


@pytest.mark.parametrize(("psnr_db", "kept", "again"), [(19.9, False, True), (20.0, True, False), (50.1, False, False)])
def test_what_is_too_far_from_its_photos_is_no_picture_and_what_is_too_near_is_the_photo(
    psnr_db: float, kept: bool, again: bool
) -> None:
    entry = {"quality": {"psnr_db": psnr_db}, "variety": 60.0}
    assert passes(entry) == kept
    # More training would not take it further from the photos.
    assert falls_short(entry) == again


def test_a_stack_without_skips_begins_near_the_identity() -> None:
    def centres(skip: bool) -> float:
        """Mean weight from each channel to itself."""
        torch.manual_seed(0)
        block = Block(16, replace(CONFIG, skip=skip))
        build.initialise(block)
        weight = next(part.weight for part in block.modules() if isinstance(part, nn.Conv2d))
        return float(weight.detach()[range(16), range(16), 2, 2].mean())

    assert centres(skip=False) == pytest.approx(1, abs=0.1)
    # Beside a connection, the identity would double the signal.
    assert centres(skip=True) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_losses_pull_apart(name: str) -> None:
    good, bad = torch.full((4,), 3.0), torch.full((4,), -3.0)
    assert losses.critic_loss(name, good, bad) < losses.critic_loss(name, bad, good)
    assert losses.generator_loss(name, torch.ones(4)) < losses.generator_loss(name, -torch.ones(4))
    trainer = Trainer(replace(CONFIG, adversary=name), photos(), torch.device("cpu"))
    trainer.train(3)
    assert name in trainer.summed


def test_distribution_losses_know_the_normal() -> None:
    torch.manual_seed(0)
    normal = torch.randn(2, 8, 16, 16)
    assert losses.mmd(normal) < losses.mmd(normal + 2) / 10
    assert float(losses.kl(torch.zeros(3), torch.zeros(3))) == 0
    assert float(losses.kl(torch.ones(3), torch.zeros(3))) == pytest.approx(0.5)
    assert float(losses.spectral(normal, normal)) == 0
