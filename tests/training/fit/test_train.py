from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.public_data import write_data
from training.data.public_labels import read_labels
from training.data.public_sets import read_pictures
from training.data.stream import NOT_ASKED, Batch, Composition, Store, Stream
from training.fit.train import train
from training.fit.trainer import Hardness, Settings, Trainer, targets_of
from training.fit.warm_start import initial_network, load_network, training_facts
from training.model.network import Network, NetworkConfig

SMALL = NetworkConfig(fen_width=16, fen_blocks=1, trunk=(16, 16, 16), compared=16, embedding=16, hidden=32)
QUICK = Settings(sizes={64: 1.0}, final_sizes={64: 1.0}, workers=0, warm_up=5, lr=3e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store.read(folder, read_pictures(folder))


def sets_of(store: Store) -> list:
    return sorted({picture.set for picture in store.pictures}, key=lambda one: one.name)


def trainer_of(store: Store, folder: Path, settings: Settings = QUICK) -> Trainer:
    torch.manual_seed(0)
    sets = sets_of(store)
    return Trainer(Network(SMALL), sets, targets_of(sets, read_labels(folder), torch.device("cpu")), settings)


def test_learns_to_tell_the_classes(store: Store, folder: Path) -> None:
    trainer = trainer_of(store, folder)
    composition = Composition(generators=3, pairs=2)
    stream = Stream(store, [one.name for one in sets_of(store)], 1, {64: 1.0}, trainer.hardness.factors, composition)
    batches = iter(stream)
    figures = [trainer.learn(next(batches), 1.0) for _ in range(70)]
    assert np.mean([f["accuracy"] for f in figures[:2]]) < 0.75
    assert np.mean([f["accuracy"] for f in figures[-10:]]) > 0.85
    assert all(np.isfinite(list(f.values())).all() for f in figures)


def test_detection_loss_ignores_processed_pictures(store: Store, folder: Path) -> None:
    trainer = trainer_of(store, folder)
    outputs = {
        name: value.requires_grad_()
        for name, value in trainer.network.eval()(torch.zeros(4, 64, 64, 3, dtype=torch.uint8)).items()
    }
    names = [one.name for one in sets_of(store)]
    source = torch.tensor([names.index(name) for name in ("cq100", "sd1", "fsrcnn-x2", "fsrcnn-x2")])
    terms, losses = trainer.objective(outputs, source, torch.tensor([0.0, 1.0, NOT_ASKED, NOT_ASKED]))
    gradient = torch.autograd.grad(terms["generated"], outputs["generated"])[0][:, 0]
    assert gradient[:2].abs().min() > 0
    assert torch.equal(gradient[2:], torch.zeros(2))
    assert torch.isclose(terms["generated"], losses[:2].mean())


def test_hardness_follows_the_loss_and_leaves_other_sets_alone() -> None:
    hardness = Hardness(3, 0.5)
    batch = Batch(np.zeros((3, 8, 8, 3), np.uint8), np.array([0, 1, 2]), np.array([0, 1, NOT_ASKED], np.float32))
    for _ in range(100):
        hardness.update(batch, np.array([0.01, 2.0, 2.0], np.float32))
    assert hardness.factors[1] > 4 * hardness.factors[0]
    assert hardness.loss[2] == pytest.approx(np.log(2))


def test_learning_rate_rises_stays_and_falls() -> None:
    settings = Settings(warm_up=10, decay=0.2)
    factors = [
        settings.lr_factor(step, progress)
        for step, progress in ((0, 0.0), (10, 0.1), (500, 0.79), (600, 0.9), (700, 1.0))
    ]
    assert factors[0] == pytest.approx(0.1)
    assert factors[1] == factors[2] == 1.0
    assert 0.4 < factors[3] < 0.6
    assert factors[4] == pytest.approx(0.01)


def test_a_run_is_resumed(store: Store, folder: Path, tmp_path: Path) -> None:
    settings = Settings(**{**vars(QUICK), "minutes": 0.02})
    first = trainer_of(store, folder, settings)
    train(first, store, store, sets_of(store), tmp_path, {"seed": 1})
    again = trainer_of(store, folder, settings)
    again.resume(tmp_path / "checkpoint.pt")
    assert (again.step, again.windows) == (first.step, first.windows)
    assert np.array_equal(again.hardness.factors, first.hardness.factors)
    for mine, theirs in zip(again.network.state_dict().values(), first.network.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    lines = (tmp_path / "validation.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["as is"]["auc"] > 0
    loaded, stored = load_network(tmp_path / "checkpoint.pt"), load_network(tmp_path / "network.safetensors")
    assert not loaded.training
    assert training_facts(tmp_path / "network.safetensors").items() >= {"seed": 1, "steps": first.step}.items()
    assert stored.config == loaded.config
    for name, value in loaded.state_dict().items():
        assert torch.allclose(stored.state_dict()[name], value, rtol=1e-3, atol=1e-4), name


def test_a_checkpoint_of_another_shape_is_refused(store: Store, folder: Path, tmp_path: Path) -> None:
    trainer_of(store, folder).save(tmp_path / "checkpoint.pt")
    other = Trainer(
        Network(NetworkConfig(fen_width=32)),
        sets_of(store),
        targets_of(sets_of(store), read_labels(folder), torch.device("cpu")),
        QUICK,
    )
    with pytest.raises(ValueError, match="checkpoint must have the network's shape"):
        other.resume(tmp_path / "checkpoint.pt")


def test_starts_from_a_bundle(tmp_path: Path, store: Store) -> None:
    """A bundle's folded weights give the same embedding again."""
    windows = np.stack([pixels[:128, :128] for pixels in store.pixels[::4]])
    network = initial_network(Path("edgeparse/models/default"), windows).eval()
    with torch.no_grad():
        outputs = network(torch.from_numpy(windows[:4]))
    from edgeparse.backends.onnxruntime import OnnxRuntimeBackend

    expected = OnnxRuntimeBackend(Path("edgeparse/models/default/model.onnx").read_bytes()).run(
        windows[:4], ["embedding"]
    )
    assert np.allclose(outputs["embedding"].numpy(), expected["embedding"], atol=1e-3)


def test_labels_outside_the_label_space_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "set,family,up_sampling,block_nonlinearity,layers,losses\nfsrcnn-x2,translation,pixel_shuffle,prelu,8,L2;perceptual\n"
    )
    labels = read_labels(tmp_path)["fsrcnn-x2"]
    assert labels.discrete == {"up_sampling": "pixel_shuffle"}
    assert labels.continuous == {"layers": 8.0}
    assert labels.losses == ("L2",)
    (tmp_path / "labels.csv").write_text("set,family,losses\nx,unheard_of,\n")
    with pytest.raises(ValueError, match="family must be one of"):
        read_labels(tmp_path)
