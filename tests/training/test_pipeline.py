"""The whole way on toy data: pictures -> zoo -> index -> training, stopped and resumed -> bundle -> evaluation -> a report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeparse import Parser
from edgeparse.bundle import open_bundle
from export.__main__ import bundle as export_bundle
from export.__main__ import fp16 as fp16_bundle
from export.__main__ import refit as refit_bundle
from tests.conftest import edit_manifest, noise
from tests.training.public_data import write_data
from training.data import public_sets, zoo_sets
from training.data.index import scan
from training.data.index.command import main as index
from training.evaluate.results import bundle_identity
from training.evaluate.run import main as evaluate
from training.fit import train as training
from training.zoo import probe
from training.zoo.command import main as zoo
from training.zoo.files import split_of_name

# Fold of each owner: two generators and two photo sets for training, and one generator and photo set each for validation and test.
FOLDS = {
    **dict.fromkeys(("sd1", "taef2-reconstruction", "fsrcnn-x2", "cq100", "urban100", "iphone7-bark__alicevision"), 4),
    **dict.fromkeys(("muse__muse-model", "camvid-dashcam"), public_sets.VAL_FOLD),
    **dict.fromkeys(("adain-style__xunhuang1995", "web-raccoons__datitran"), public_sets.TEST_FOLD),
}
ZOO = [
    "--size",
    "64",
    "--tera-macs",
    "0.000001",
    "--pictures",
    "6,4,4",
    "--count",
    "42",
    "--rounds",
    "1",
    "--min-steps",
    "5",
]


def run(command: object, *arguments: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (public_sets, scan, training):
        monkeypatch.setattr(module, "folds_of", lambda _: FOLDS)
    # Five steps make no picture that the zoo's rule would let through.
    for module in (scan, zoo_sets):
        monkeypatch.setattr(module, "passes", lambda _entry: True)
    return write_data(tmp_path / "data", count=10)


# Everything from pictures to a report takes two minutes on 2 quick cores.
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_pipeline(data: Path, tmp_path: Path) -> None:
    zoo_folder, pictures, out, bundle = (tmp_path / name for name in ("zoo", "index.jsonl", "run", "bundle"))
    run(zoo, "build", data, "--out", zoo_folder, *ZOO, "--split", "test")
    first = [path.stem for path in zoo_folder.glob("[a-z]*-0*.npz")]
    assert {split_of_name(name) for name in first} == {"test"}
    run(zoo, "build", data, "--out", zoo_folder, *ZOO)
    assert len(list(zoo_folder.glob("[a-z]*-0*.npz"))) == 42
    run(index, "write", data, zoo_folder, pictures)
    probed = probe.run(pictures, 2)
    assert 0 < probed["pictures"]["test"] <= 2 * probed["generators"]["test"]  # type: ignore[index]

    run(training.main, data, out, "--zoo", zoo_folder, "--workers", "0", "--minutes", "0.05")
    before = (out / "network.safetensors").read_bytes()
    run(training.main, data, out, "--zoo", zoo_folder, "--workers", "0", "--minutes", "0.1")
    assert (out / "network.safetensors").read_bytes() != before

    _export(out / "network.safetensors", pictures, bundle)
    result = json.loads(run(evaluate, bundle, pictures, "--split", "test"))
    assert (result["bundle"], result["split"]) == ("toy-1", "test")
    assert set(result["detection"]["as is"]["by_generator"]) == {"adain-style__xunhuang1995"}
    assert set(result["detection"]["as is"]["by_photo_source"]) == {"web-raccoons__datitran"}
    assert 0 <= result["zoo"]["detection"]["auc"] <= 1
    run(evaluate, bundle, pictures, "--output", tmp_path / "val.json")
    assert set(json.loads((tmp_path / "val.json").read_text())["detection"]["as is"]["by_generator"]) == {
        "muse__muse-model"
    }
    report = Parser(bundle).parse(noise(200, 200))
    assert report.bundle == "toy-1"
    assert report.verdict in ("camera", "generated", "inconclusive")
    # A bundle that was trained on validation pictures is not judged by them, nor one of other splits.
    edit_manifest(bundle, lambda fields: fields["training"].update(all_but_test=True))
    refused = CliRunner().invoke(evaluate, [str(bundle), str(pictures)])
    assert (refused.exit_code, "split must be test" in refused.output) == (1, True)
    edit_manifest(bundle, lambda fields: fields["training"]["generators"].update(sd1="test"))
    refused = CliRunner().invoke(evaluate, [str(bundle), str(pictures), "--split", "test"])
    assert (refused.exit_code, "but these are not: sd1" in refused.output) == (1, True)

    run(training.main, data, tmp_path / "next", "--workers", "0", "--minutes", "0.02", "--init-from", bundle)


def _export(network: Path, pictures: Path, bundle: Path) -> None:
    """Export a bundle, and check that fitting it again changes nothing."""
    bundle.mkdir()
    (bundle / "thesis.txt").write_text("no bundle")
    with pytest.raises(ValueError, match="holds no bundle"):
        run(export_bundle, network, pictures, bundle, "--name", "toy")
    (bundle / "thesis.txt").unlink()
    run(export_bundle, network, pictures, bundle, "--name", "toy")
    before = open_bundle(bundle)
    assert set(before.variants) == {"fp32", "fp16", "int8", "int8-tensorrt"} == set(before.metrics["variants"])
    run(refit_bundle, bundle, pictures, "--version", "2")
    assert (open_bundle(bundle).label, open_bundle(bundle).hashes) == ("toy-2", before.hashes)
    # A new fp16 file comes from the fp32 one, and changes no answer of the other files.
    shutil.copyfile(bundle / "model.onnx", bundle / "model.fp16.onnx")
    as_fp32 = {"sha256": before.hashes["model.onnx"], "bytes": before.sizes["model.onnx"]}
    edit_manifest(bundle, lambda fields: fields["files"].update({"model.fp16.onnx": as_fp32}))
    run(fp16_bundle, bundle, pictures, "--version", "3")
    halved = open_bundle(bundle)
    assert (halved.label, halved.hashes, halved.calibration) == ("toy-3", before.hashes, before.calibration)
    assert bundle_identity(halved)["answers_sha256"] == bundle_identity(before)["answers_sha256"]
    run(refit_bundle, bundle, pictures, "--version", "1")
