"""Checkpoints in the published layout with random weights, from export to reports and engines."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from edgeparse import BundleError, Parser
from edgeparse.backends.tensorrt.build import CompiledEngine, compile_engine
from edgeparse.bundle import open_bundle
from edgeparse.cli.main import main as edgeparse
from export.__main__ import main as export
from export.published import TASKS, CheckpointError, load
from export.published_networks import GREY, MEAN, STD, DnCNN, Spectrum
from tests.conftest import noise, sample_files
from tests.edgeparse.backends.tensorrt.test_build import key_for
from tests.edgeparse.cli.test_check import SCHEMA

CLASSES = "camera,one,two,three,four"
# The others are large: a minute and 2 GB.
EACH_TASK = ["parsing", *(pytest.param(task, marks=pytest.mark.slow) for task in ("deepfake", "attribution"))]
CAPABILITIES = ("sm75", "sm86", "sm89", "sm120")
Report = Callable[[str, CompiledEngine], None]


def checkpoint(task: str, path: Path) -> Path:
    """Write a checkpoint with the release's keys and shapes, spelled out so that the classes under test must fit them."""
    generator = torch.Generator().manual_seed(0)

    def layer(name: str, *shape: int) -> dict[str, torch.Tensor]:
        fan = int(np.prod(shape[1:]))
        weight = torch.randn(*shape, generator=generator) * (2 / fan) ** 0.5
        return {f"{name}.weight": weight, f"{name}.bias": torch.randn(shape[0], generator=generator) * 0.1}

    depth = {"parsing": 17, "deepfake": 31, "attribution": 17}[task]
    fen = layer("layers.0.0", 64, 3, 3, 3)
    for i in range(1, depth - 1):
        fen |= layer(f"layers.{i}.0", 64, 64, 3, 3)
        fen |= {
            f"layers.{i}.1.weight": torch.ones(64),
            f"layers.{i}.1.bias": torch.zeros(64),
            f"layers.{i}.1.running_mean": torch.randn(64, generator=generator) * 0.1,
            f"layers.{i}.1.running_var": torch.rand(64, generator=generator) + 0.5,
            f"layers.{i}.1.num_batches_tracked": torch.tensor(7),
        }
    fen |= layer(f"layers.{depth - 1}", 3, 64, 3, 3)
    widths = [3, 32, 64, 128, 256, 512]
    head: dict[str, torch.Tensor] = {}
    if task == "attribution":
        head |= layer("layer1.0", 32, 1, 5, 5) | layer("layer2.0", 64, 32, 5, 5)
        head |= layer("fc1", 512, 65536) | layer("fc2", 5, 512)
    else:
        for i in range(5):
            kernel = 3 if task == "parsing" or i == 4 else 5
            head |= layer(f"layer{i + 1}.0", widths[i + 1], widths[i], kernel, kernel)
    if task == "deepfake":
        head |= layer("fc1", 512, 12800) | layer("fc2", 2, 512)
    if task == "parsing":
        head |= layer("fc1", 512, 4608)
        for first in (2, 4, 6):
            head |= layer(f"fc{first}", 256, 512) | layer(f"fc{first + 1}", 64, 256)
        for i, size in enumerate((9, 4, 4, 4, 2, 2, 2), 1):
            head |= layer(f"fc8_{i}", size, 64)
        for i in range(1, 4):
            head |= layer(f"fc9_{i}", 2, 64)
        for i in range(1, 9):
            head |= layer(f"fc10_{i}", 2, 64)
    torch.save({"state_dict_cnn": fen, "state_dict_class": head, "optimizer_1": {}, "optimizer_2": {}}, path)
    return path


def export_bundle(task: str, folder: Path, *extra: object) -> Path:
    path = checkpoint(task, folder / "checkpoint.pt")
    command = ["published", path, "--task", task, "-o", folder / "bundle", *extra]
    done = CliRunner().invoke(export, [str(part) for part in command], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "outputs fingerprint" in done.output
    return folder / "bundle"


@pytest.fixture(scope="module")
def bundle_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a task's bundle in fp32 and fp16 with the command, once."""
    classes = {"attribution": ["--classes", CLASSES]}
    return cache(lambda task: export_bundle(task, tmp_path_factory.mktemp(task), *classes.get(task, [])))


@pytest.fixture(scope="module")
def int8_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parsing bundle in every precision, calibrated on pictures."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / "pictures").mkdir()
    for i in range(10):
        Image.fromarray(noise(90, 110, i)).save(folder / "pictures" / f"{i}.png")
    return export_bundle("parsing", folder, "--pictures", folder / "pictures")


@pytest.mark.parametrize("task", EACH_TASK)
def test_reports_answer_what_the_checkpoint_can(bundle_for: Callable[[str], Path], task: str) -> None:
    done = CliRunner().invoke(edgeparse, ["check", "--json", "--bundle", str(bundle_for(task)), str(sample_files()[0])])
    assert done.exit_code == 0, done.stderr
    reports = json.loads(done.stdout)
    jsonschema.validate(reports, SCHEMA)
    (report,) = reports
    assert report["bundle"] == f"published-{task}-1"
    assert report["windows"] == 1
    answered = {"verdict", "probability_generated", "generator", "architecture", "losses"}
    answered = {field for field in answered if report[field] is not None}
    if task == "parsing":
        assert answered == {"architecture", "losses"}
        assert len(report["architecture"]) == 15
        assert report["architecture"]["parameters"]["high"] == 267_000_000
        assert len(report["losses"]) == 8
    elif report["verdict"] == "camera":
        assert answered == {"verdict", "probability_generated"}
    else:
        assert answered == {"verdict", "probability_generated"} | ({"generator"} if task == "attribution" else set())
    table = CliRunner().invoke(edgeparse, ["check", "--bundle", str(bundle_for(task)), str(sample_files()[0])])
    assert table.exit_code == 0
    assert ("probability generated" not in table.stdout) == (task == "parsing")


@pytest.mark.parametrize("task", EACH_TASK)
def test_pytorch_and_onnx_agree(bundle_for: Callable[[str], Path], task: str) -> None:
    bundle = open_bundle(bundle_for(task))
    errors = bundle.metrics["parity_max_relative_error"]
    assert set(errors) == set(bundle.outputs)
    assert max(errors.values()) <= 1e-4
    assert bundle.window == {"parsing": 64, "deepfake": 128, "attribution": 128}[task]
    assert bundle.framing == "resize"
    manifest = json.loads((bundle_for(task) / "bundle.json").read_text())
    assert manifest["normalization"]["mean"] == 0.6490
    assert manifest["normalization"]["std"] == 0.1269
    order = {"parsing": None, "deepfake": ["generated", "camera"], "attribution": CLASSES.split(",")}
    assert manifest["training"]["class_order"] == order[task]
    for heads in bundle.metrics["variants"].values():
        assert max(heads.values()) < 0.1


@pytest.mark.slow
def test_attribution_names_its_classes(bundle_for: Callable[[str], Path]) -> None:
    parser = Parser(bundle_for("attribution"))
    verdicts = set()
    for seed in range(6):
        report = parser.parse(np.full((128, 128, 3), 40 * seed, np.uint8) + noise(128, 128, seed) // 8)
        verdicts.add(report.verdict)
        assert report.probability_generated is not None
        assert (report.verdict == "generated") == (report.probability_generated >= 0.5)
        if report.generator is not None:
            assert report.generator.name in CLASSES.split(",")[1:]
            assert report.generator.known
            assert len(report.generator.candidates) == 3
    assert verdicts <= {"camera", "generated"}


def test_class_0_of_deepfake_is_generated(tmp_path: Path) -> None:
    """Class 0 is fake: with its bias raised, everything is generated."""
    network = load("deepfake", checkpoint("deepfake", tmp_path / "checkpoint.pt"))
    windows = torch.from_numpy(noise(128, 128)[None])
    with torch.no_grad():
        network.head.fc2.bias[:] = torch.tensor([50.0, -50.0])
        assert network(windows)[1].item() > 50
        network.head.fc2.bias[:] = torch.tensor([-50.0, 50.0])
        assert network(windows)[1].item() < -50


def test_losses_are_multiplied_by_their_groups(tmp_path: Path) -> None:
    network = load("parsing", checkpoint("parsing", tmp_path / "checkpoint.pt"))
    windows = torch.from_numpy(noise(64, 64)[None])
    with torch.no_grad():
        before = network(windows)[-1].sigmoid()
        network.head.get_submodule("fc9_2").bias[1] = -60.0
        after = network(windows)[-1].sigmoid()
    assert torch.equal(before[:, :4], after[:, :4])
    assert torch.equal(before[:, 7:], after[:, 7:])
    assert (after[:, 4:7] < 1e-5).all()


def test_spectrum_matches_the_fourier_transform() -> None:
    x = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    grey = sum(weight * x[:, i] for i, weight in enumerate(GREY))
    expected = torch.fft.fftshift(torch.fft.fft2(grey), dim=(1, 2)).abs()
    got = Spectrum(128)(x)[:, 0]
    assert (got - expected).abs().max() < 1e-5 * expected.max()


@pytest.mark.slow
def test_graph_normalises_pixels_without_a_fourier_operator(bundle_for: Callable[[str], Path], tmp_path: Path) -> None:
    import onnx

    operators = {node.op_type for node in onnx.load(bundle_for("attribution") / "model.onnx").graph.node}
    assert not operators & {"DFT", "STFT"}
    network = load("attribution", checkpoint("attribution", tmp_path / "checkpoint.pt"))
    pixels = noise(128, 128)[None]
    with torch.no_grad():
        inside = network(torch.from_numpy(pixels))[0]
        scaled = torch.from_numpy(((pixels / 255 - MEAN) / STD).astype(np.float32)).permute(0, 3, 1, 2)
        outside = network.fen(scaled)
    assert torch.allclose(inside, outside, atol=1e-4)


def compiles(folder: Path, precision: str, capability: str, report_compiled: Report) -> None:
    model = open_bundle(folder).model(precision)
    done = compile_engine(model, key_for(model, precision, (capability,)))
    report_compiled(f"published parsing {precision} {capability}", done)
    assert {tensor.name for tensor in done.tensors if not tensor.input} == set(open_bundle(folder).outputs)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_published_parsing_network_compiles(
    bundle_for: Callable[[str], Path], precision: str, capability: str, report_compiled: Report
) -> None:
    compiles(bundle_for("parsing"), precision, capability, report_compiled)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_published_parsing_network_compiles_in_int8(
    int8_bundle: Path, capability: str, report_compiled: Report
) -> None:
    compiles(int8_bundle, "int8-tensorrt", capability, report_compiled)


@pytest.mark.slow
def test_pictures_give_every_precision(int8_bundle: Path) -> None:
    bundle = open_bundle(int8_bundle)
    assert set(bundle.variants) == {"fp32", "fp16", "int8", "int8-tensorrt"}
    for heads in bundle.metrics["variants"].values():
        assert max(heads.values()) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("task", ["deepfake", "attribution"])
def test_other_published_networks_compile(
    bundle_for: Callable[[str], Path], task: str, report_compiled: Report
) -> None:
    model = open_bundle(bundle_for(task)).model("fp32")
    done = compile_engine(model, key_for(model, "fp32", ("sm75", "sm86")))
    report_compiled(f"published {task} fp32 sm75+sm86", done)
    assert len(done.plan) > len(model)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must not run",))


@pytest.mark.parametrize("case", ["junk", "pickle", "missing", "empty"])
def test_other_files_are_refused(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.pt"
    if case == "junk":
        path.write_bytes(b"junk")
    elif case == "pickle":
        path.write_bytes(pickle.dumps(Harmful()))
    elif case == "empty":
        torch.save({"state_dict_cnn": {}}, path)
    with pytest.raises(CheckpointError, match=r"file\.pt"):
        load("parsing", path)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("change", ["extra", "renamed", "shape"])
def test_keys_are_strict(tmp_path: Path, change: str) -> None:
    path = checkpoint("parsing", tmp_path / "checkpoint.pt")
    stored = torch.load(path, weights_only=True)
    head = stored["state_dict_class"]
    if change == "extra":
        head["fc11.weight"] = torch.zeros(1)
    elif change == "renamed":
        head["fc_one.weight"] = head.pop("fc1.weight")
    else:
        head["fc8_1.weight"] = torch.zeros(8, 64)
    torch.save(stored, path)
    with pytest.raises(CheckpointError, match="state_dict_class is not that of parsing"):
        load("parsing", path)


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="state_dict_cnn is not that of deepfake"):
        load("deepfake", checkpoint("parsing", tmp_path / "checkpoint.pt"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "attribution"], "five class names"),
        (["--task", "attribution", "--classes", "a,b,c,d,e"], "one of them camera"),
        (["--task", "attribution", "--classes", "camera,a,b"], "five different names"),
        (["--task", "parsing", "--classes", CLASSES], "other tasks take none"),
        (["--task", "deepfake"], "state_dict_cnn"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], words: str) -> None:
    torch.save({}, tmp_path / "checkpoint.pt")
    command = ["published", str(tmp_path / "checkpoint.pt"), "-o", str(tmp_path / "out"), *arguments]
    done = CliRunner().invoke(export, command)
    assert done.exit_code == 1
    assert words in done.output
    assert not (tmp_path / "out").exists()


def test_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    torch.save({}, tmp_path / "checkpoint.pt")
    done = CliRunner().invoke(
        export, ["published", str(tmp_path / "checkpoint.pt"), "--task", "parsing", "-o", str(tmp_path)]
    )
    assert done.exit_code == 1
    assert "must be empty" in done.output
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_missing_fingerprint_is_an_error(bundle_for: Callable[[str], Path], tmp_path: Path) -> None:
    manifest = json.loads((bundle_for("parsing") / "bundle.json").read_text())
    manifest["outputs"].remove("fingerprint")
    for file in bundle_for("parsing").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "bundle.json").write_text(json.dumps(manifest))
    parser = Parser(tmp_path)
    assert parser.parse(noise(80, 80)).status == "ok"
    with pytest.raises(BundleError, match="fingerprint"):
        parser.fingerprint(noise(80, 80))


def test_parameter_counts_match_the_paper() -> None:
    """Millions of parameters of the FENs and heads, as counted in the release."""
    counts = {}
    for task, layout in TASKS.items():
        parts = (DnCNN(layout.depth), layout.head())
        counts[task] = [round(sum(p.numel() for p in part.parameters()) / 1e6, 1) for part in parts]
    assert counts == {"parsing": [0.6, 4.4], "deepfake": [1.1, 8.8], "attribution": [0.6, 33.6]}
