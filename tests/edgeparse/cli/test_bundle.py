"""`edgeparse bundle migrate`: bundles of schema 1 become bundles of schema 2 with the same content."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeparse import BundleError, Parser
from edgeparse.bundle import open_bundle
from edgeparse.cli import bundle as command
from edgeparse.cli.main import main
from tests.conftest import edit_manifest, sample_files


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bundle", "migrate", *map(str, arguments)])


def old_names(fields: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    before = {new: old for old, new in names.items()}
    return {before.get(key, key): value for key, value in fields.items()}


def old_training(training: dict[str, Any]) -> dict[str, Any]:
    if training.get("init_from"):
        training = training | {"init_from": old_training(training["init_from"])}
    return old_names(training, command._TRAINING)


@pytest.fixture
def old_bundle(bundle_copy: Path) -> Path:
    """The default bundle as schema 1 had it."""
    fields = json.loads((bundle_copy / "bundle.json").read_text())
    with np.load(bundle_copy / "gallery.npz") as file:
        arrays = {{"cohort": "background"}.get(name, name): file[name] for name in file.files}
    np.savez_compressed(bundle_copy / "gallery.npz", **arrays)
    data = (bundle_copy / "gallery.npz").read_bytes()
    fields["files"]["gallery.npz"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    metrics = old_names(fields["metrics"], command._METRICS)
    metrics["variants"] = {
        name: old_names(figures, command._VARIANT_METRICS) for name, figures in metrics["variants"].items()
    }
    metrics["validation_same_generator"] = old_names(metrics["validation_same_generator"], command._SAME_GENERATOR)
    fields = old_names(fields, command._TOP) | {
        "schema": 1,
        "calibration": old_names(fields["calibration"], command._CALIBRATION),
        "metrics": metrics,
        "training": old_training(fields["training"]),
    }
    (bundle_copy / "bundle.json").write_text(json.dumps(fields))
    return bundle_copy


def test_an_old_bundle_names_the_command_and_is_migrated(old_bundle: Path, parser: Parser) -> None:
    with pytest.raises(BundleError, match=f"must have schema 2, got 1; run `edgeparse bundle migrate {old_bundle}`"):
        open_bundle(old_bundle)
    models = {path.name: path.read_bytes() for path in old_bundle.glob("*.onnx")}
    done = run(old_bundle)
    assert done.exit_code == 0, done.stderr
    assert "schema 2" in done.stdout
    assert {path.name: path.read_bytes() for path in old_bundle.glob("*.onnx")} == models
    migrated, shipped = (
        json.loads((folder / "bundle.json").read_text()) for folder in (old_bundle, parser.bundle.folder)
    )
    assert {**migrated, "files": None} == {**shipped, "files": None}
    for name in parser.bundle.hashes:
        assert open_bundle(old_bundle).read(name)
    assert np.array_equal(Parser(old_bundle).gallery.cohort, parser.gallery.cohort)
    source = sample_files()[0]
    answer, expected = Parser(old_bundle).parse(source), parser.parse(source)
    assert (answer.probability_generated, answer.generator) == (expected.probability_generated, expected.generator)


def test_a_new_bundle_is_left_alone(bundle_copy: Path) -> None:
    before = (bundle_copy / "bundle.json").read_bytes()
    done = run(bundle_copy)
    assert done.exit_code == 3
    assert "must have schema 1, got 2" in done.stderr
    assert (bundle_copy / "bundle.json").read_bytes() == before


@pytest.mark.parametrize("file", ["gallery.npz", "model.onnx"])
def test_new_hashes_never_vouch_for_a_changed_file(old_bundle: Path, file: str) -> None:
    (old_bundle / file).write_bytes(b"changed")
    before = (old_bundle / "bundle.json").read_bytes()
    done = run(old_bundle)
    assert done.exit_code == 3
    assert f"{file} was changed" in done.stderr
    assert (old_bundle / "bundle.json").read_bytes() == before
    assert (old_bundle / file).read_bytes() == b"changed"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}'])
def test_what_is_no_manifest_is_refused(old_bundle: Path, text: str) -> None:
    (old_bundle / "bundle.json").write_text(text)
    assert run(old_bundle).exit_code == 3


def test_a_file_outside_the_folder_is_refused(old_bundle: Path) -> None:
    edit_manifest(old_bundle, lambda fields: fields["files"].update({"../x": {"sha256": "0" * 64}}))
    assert run(old_bundle).exit_code == 3


def test_a_bundle_without_a_gallery_is_migrated(old_bundle: Path) -> None:
    edit_manifest(old_bundle, lambda fields: (fields.pop("gallery"), fields["files"].pop("gallery.npz")))
    assert run(old_bundle).exit_code == 0
    assert open_bundle(old_bundle).gallery is None


def test_arrays_of_a_gallery_keep_their_values() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(["a"]), background=np.eye(2, dtype=np.float16))
    with np.load(io.BytesIO(command._migrate_gallery(buffer.getvalue()))) as file:
        assert set(file.files) == {"names", "cohort"}
        assert np.array_equal(file["cohort"], np.eye(2, dtype=np.float16))
