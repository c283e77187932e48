"""The whole way on toy data: photos -> zoo -> index -> training, stopped and resumed -> bundle -> evaluation -> a report."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from edgeparse import Parser
from edgeparse.bundle import open_bundle
from export.__main__ import bundle as export_bundle
from export.__main__ import fp16 as fp16_bundle
from export.__main__ import refit as refit_bundle
from tests.conftest import edit_manifest, noise
from training.data.index import scan
from training.data.index.command import main as index
from training.evaluate.results import bundle_identity
from training.evaluate.run import main as evaluate
from training.fit.train import main as train
from training.zoo import probe
from training.zoo.command import main as zoo
from training.zoo.files import split_of_name

# A public generator of each split, and a second known one so that attribution has a choice.
GENERATORS = ("cyclegan-h2z-base", "sd1", "disco-diffusion", "ldm-fourier")


def make_data(folder: Path) -> None:
    rows = []
    for kind, name, count in [("photos", "camera", 30), *(("generated", name, 12) for name in GENERATORS)]:
        (folder / kind / name).mkdir(parents=True)
        for i in range(count):
            pixels = noise(80, 96, i)
            if kind == "generated":
                pixels = pixels // 32 * 32
            file = f"{kind}/{name}/{i:03d}_{name}.png"
            Image.fromarray(pixels).save(folder / file)
            rows.append({"kind": kind, "set": name, "file": file, "encoding": "lossless"})
    with (folder / "index.csv").open("w", newline="") as file_out:
        writer = csv.DictWriter(file_out, ["kind", "set", "file", "encoding"])
        writer.writeheader()
        writer.writerows(rows)


def run(command: object, *arguments: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output
    return done.stdout


# Everything from photos to a bundle: two and a half minutes on 2 quick cores.
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, zoo_folder, pictures, out, bundle = (
        tmp_path / name for name in ("data", "zoo", "index.jsonl", "run", "bundle")
    )
    make_data(data)
    options = [
        "--size",
        "64",
        "--tera-macs",
        "0.000001",
        "--pictures",
        "6,4,4",
        "--count",
        "21",
        "--rounds",
        "2",
        "--min-steps",
        "5",
    ]
    run(zoo, "build", data, "--out", zoo_folder, *options, "--split", "test")
    first = [path.stem for path in zoo_folder.glob("[a-z]*-0*.npz")]
    assert len(first) == 7
    assert {split_of_name(name) for name in first} == {"test"}
    run(zoo, "build", data, "--out", zoo_folder, *options)
    assert len(list(zoo_folder.glob("[a-z]*-0*.npz"))) == 42
    # Five steps make no picture that the zoo's rule would let through.
    monkeypatch.setattr(scan, "passes", lambda _entry: True)
    run(index, "write", data, zoo_folder, pictures)
    probed = probe.run(pictures, 2)
    assert set(probed["heads"]) == {"family", "normalization", "up_sampling"}  # type: ignore[call-overload]
    assert 0 < probed["pictures"]["test"] <= 2 * probed["generators"]["test"]  # type: ignore[index]

    small = ("--variants", "2", "--generators", "6", "--head-epochs", "1")
    run(train, pictures, out, "--minutes", "0.05", *small)
    first = (out / "network.pt").read_bytes()
    run(train, pictures, out, "--minutes", "0.1", *small)
    assert (out / "network.pt").read_bytes() != first
    best = torch.load(out / "checkpoint.pt", weights_only=True)["best"]
    kept = torch.load(out / "network.pt", weights_only=True)
    assert kept["kept_step"] == best["step"] <= kept["steps"]
    # All but what is learnt last.
    last = ("by_lines.", "compared.", "embedding.", "hidden.", "heads.")
    for name, value in best["values"].items():
        assert torch.equal(kept["network"][name], value) != name.startswith(last), name
    assert kept["head_epochs"] == 1
    # Another learning rate is another run.
    with pytest.raises(ValueError, match="other settings"):
        run(train, pictures, out, "--minutes", "0.2", *small, "--lr", "1e-3")

    bundle.mkdir()
    (bundle / "thesis.txt").write_text("no bundle")
    with pytest.raises(ValueError, match="holds no bundle"):
        run(export_bundle, out / "network.pt", pictures, bundle, "--name", "toy")
    assert (bundle / "thesis.txt").exists()
    (bundle / "thesis.txt").unlink()
    run(export_bundle, out / "network.pt", pictures, bundle, "--name", "toy")
    variants = open_bundle(bundle).variants
    assert set(variants) == {"fp32", "fp16", "int8", "int8-tensorrt"}
    heads = open_bundle(bundle).metrics["variants"]
    assert set(heads) == set(variants)
    assert all(set(figures) == set(heads["fp32"]) for figures in heads.values())
    before = open_bundle(bundle)
    run(refit_bundle, bundle, pictures, "--version", "1")
    # Of the same network and pictures come the same files, to the byte.
    assert open_bundle(bundle).hashes == before.hashes
    run(refit_bundle, bundle, pictures, "--version", "2")
    assert (open_bundle(bundle).label, open_bundle(bundle).hashes) == ("toy-2", before.hashes)
    # The fp16 file is the one that comes of the fp32 one, whatever was there, and no answer of another file changes by making it anew.
    shutil.copyfile(bundle / "model.onnx", bundle / "model.fp16.onnx")
    as_fp32 = {"sha256": before.hashes["model.onnx"], "bytes": before.sizes["model.onnx"]}
    edit_manifest(bundle, lambda fields: fields["files"].update({"model.fp16.onnx": as_fp32}))
    run(fp16_bundle, bundle, pictures, "--version", "3")
    halved = open_bundle(bundle)
    assert (halved.label, halved.hashes, halved.calibration) == ("toy-3", before.hashes, before.calibration)
    assert bundle_identity(halved)["answers_sha256"] == bundle_identity(before)["answers_sha256"]
    run(refit_bundle, bundle, pictures, "--version", "1")
    result = json.loads(run(evaluate, bundle, pictures))
    run(evaluate, bundle, pictures, "--suite", "precisions", "--output", tmp_path / "precisions.json")
    compared = json.loads((tmp_path / "precisions.json").read_text())
    assert set(compared["figures"]) == set(variants) == {"fp32", *compared["points_lost"]}
    assert compared["figures"]["int8"]["detection_zoo_clean"] == result["detection_zoo"]["clean"]["auc"]
    assert result["bundle"] == "toy-1"
    assert 0 <= result["detection_zoo"]["mixed"]["auc"] <= 1
    assert set(result["detection_public"]["mixed"]["by_generator"]) == {"ldm-fourier"}
    assert result["attribution_public"]["mixed"]["known_generators"] == 2
    report = Parser(bundle).parse(noise(200, 200))
    assert report.bundle == "toy-1"
    (pair,) = Parser(bundle).compare([noise(200, 200), noise(200, 200)]).pairs
    assert pair.reason is not None or (pair.probability_same is not None and pair.probability_same > 0.5)
    assert report.verdict in ("camera", "generated", "inconclusive")

    more = ("--minutes", "0.02", *small, "--init-from", bundle)
    run(train, pictures, tmp_path / "next", *more)
    begun = torch.load(tmp_path / "next" / "network.pt", weights_only=True)["init_from"]
    assert (begun["bundle"], begun["steps"]) == (
        "toy-1",
        json.loads((bundle / "bundle.json").read_text())["training"]["steps"],
    )
    assert begun["zoo_generators"] > 20
    assert (begun["head_epochs"], begun["online_augment"], begun["teacher"]) == (1, False, [])
    run(train, pictures, tmp_path / "third", *more[:-1], tmp_path / "next" / "network.pt")
    again = torch.load(tmp_path / "third" / "network.pt", weights_only=True)["init_from"]
    assert (again["bundle"], again["init_from"]["bundle"]) == (None, "toy-1")
    assert again["zoo_generators"] == begun["zoo_generators"]
    manifest = (bundle / "bundle.json").read_text()
    (bundle / "bundle.json").write_text(manifest.replace('"ldm-fourier": "test"', '"ldm-fourier": "train"'))
    refused = CliRunner().invoke(train, [str(a) for a in (pictures, tmp_path / "other", *more)])
    assert refused.exit_code == 1
    assert "was trained with other splits of these generators: ldm-fourier" in refused.output
