"""Engines for many devices: recipes, builds ahead of time, the script for the rest, comparison, Triton."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from packaging.specifiers import SpecifierSet

from edgeparse import windows
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.backends.tensorrt.engine_cache import EngineCache, EngineKey, EngineRecord, TensorSpec
from edgeparse.backends.tensorrt.library import LIBRARIES
from edgeparse.bundle import open_bundle
from edgeparse.errors import BundleError, EngineError, ImageError
from engines import fleet, recipes, triton, verify
from engines.__main__ import main
from tests.conftest import SAMPLES
from training.evaluate.testset import load_testset

RTX = {"rtx-20": "sm75", "rtx-30": "sm86", "rtx-40": "sm89", "rtx-50": "sm120"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fp32(name: str) -> recipes.Recipe:
    """Return a recipe in fp32, which every bundle has."""
    return replace(recipes.load(name), precision="fp32")


def test_shipped_recipes_are_valid() -> None:
    assert set(recipes.names()) >= {
        "jetson-orin-nano",
        "jetson-orin-nx",
        "jetson-agx-orin",
        "jetson-agx-orin-dla",
        "jetson-thor",
        *RTX,
        "l4",
        "h100",
        "h200",
    }
    for name in recipes.names():
        recipe = recipes.load(name)
        assert recipe.name == name
        assert recipe.compiles_ahead == (name in RTX)
        assert recipe.needs.startswith(recipe.flavour)
        assert (recipe.jetpack is not None) == name.startswith("jetson")
        assert recipe.batches[0] == recipe.batches[2] if recipe.dla is not None else recipe.batches[0] == 1
        assert not recipe.versions.contains("9.0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("surprise = 1", "unknown fields surprise"),
        ("not toml", "is not TOML"),
        ('flavour = "openvino"', "got 'openvino'"),
        ('precision = "fp8"', "got 'fp8'"),
        ("batches = [8, 1]", "batch size"),
        ('versions = "newest"', "newest"),
        ("", "lacks 'note'"),
    ],
)
def test_invalid_recipes_name_the_field(tmp_path: Path, change: str, words: str) -> None:
    good = dict(line.split(" = ", 1) for line in (recipes.FOLDER / "rtx-40.toml").read_text().splitlines())
    if " = " in change:
        good |= dict([change.split(" = ", 1)])
    elif not change:
        del good["note"]
    text = "\n".join(f"{key} = {value}" for key, value in good.items())
    path = tmp_path / "mine.toml"
    path.write_text(change if change == "not toml" else text)
    with pytest.raises(recipes.RecipeError, match=words):
        recipes.load(str(path))
    assert run("build", tmp_path / "out", "--recipe", path).exit_code == 3


@pytest.mark.parametrize(
    ("stem", "change", "words"),
    [
        ("a; reboot", "", "a recipe's name must"),
        ("-x", "", "a recipe's name must"),
        ("$(reboot)", "", "a recipe's name must"),
        ("mine", 'device = "RTX\\nreboot"', "device must be printable"),
        ("mine", "device = 5", "must be a string"),
    ],
)
def test_recipes_cannot_inject_shell_words(tmp_path: Path, stem: str, change: str, words: str) -> None:
    lines = (recipes.FOLDER / "rtx-40.toml").read_text().splitlines()
    path = tmp_path / f"{stem}.toml"
    path.write_text("\n".join([change, *lines[1:]] if change else lines))
    with pytest.raises(recipes.RecipeError, match=words):
        recipes.load(str(path))


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(recipes.RecipeError, match=r"choose from .*jetson-orin-nano"):
        recipes.load("raspberry")


def test_engines_compile_here_or_in_a_script(tmp_path: Path) -> None:
    chosen = [fp32(name) for name in ("rtx-30", "rtx-50", "jetson-orin-nano", "jetson-agx-orin-dla")]
    lines: list[str] = []
    built, deferred = fleet.make(chosen, open_bundle(), tmp_path, lines.append)
    assert [entry.recipe for entry in built] == ["rtx-30", "rtx-50"]
    assert [entry.recipe for entry in deferred] == ["jetson-orin-nano", "jetson-agx-orin-dla"]
    assert len(lines) == 4
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["bundle_sha256"] == open_bundle().sha256
    for entry in manifest["engines"]:
        data = (tmp_path / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert len(data) == entry["bytes"]
        (record,) = EngineCache(tmp_path / entry["recipe"]).records()
        assert record.key.capabilities == (RTX[entry["recipe"]],)
    assert fleet.verify_files(tmp_path) == []

    script = tmp_path / fleet.SCRIPT
    assert "JetPack 6.1 or later" in script.read_text()
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "edgeparse").write_text('#!/bin/sh\nprintf "%s|" "$@"\nprintf %s "$EDGEPARSE_ENGINES" >&2\n')
    (bin_folder / "edgeparse").chmod(0o755)

    def on_device(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{bin_folder}:/usr/bin:/bin"} | extra
        return subprocess.run([script, *arguments], env=environment, capture_output=True, text=True, check=False)

    done = on_device("jetson-orin-nano", "a bundle")
    assert done.returncode == 0
    assert done.stdout == (
        "build|--backend|tensorrt|--precision|fp32|--batch|1,8,16|--workspace|256|--bundle|a bundle|"
    )
    assert done.stderr == str(tmp_path / "jetson-orin-nano"), "verify --recipe looks elsewhere"
    assert on_device("jetson-orin-nano", EDGEPARSE_ENGINES="/mine").stderr == "/mine"
    assert "--dla|0|" in on_device("jetson-agx-orin-dla").stdout
    for wrong in ((), ("rtx-30",)):
        done = on_device(*wrong)
        assert done.returncode == 2
        assert "recipes: jetson-orin-nano jetson-agx-orin-dla" in done.stderr


def test_other_library_versions_do_not_compile(tmp_path: Path) -> None:
    old = replace(fp32("rtx-40"), versions=SpecifierSet("<1"))
    built, deferred = fleet.make([old], open_bundle(), tmp_path)
    assert built == []
    assert "must be <1" in deferred[0].reason


def test_missing_precision_is_refused_before_compiling(tmp_path: Path) -> None:
    bundle = replace(open_bundle(), variants={"fp32": "model.onnx"})
    with pytest.raises(BundleError, match="no int8 model for TensorRT"):
        fleet.make([fp32("rtx-40"), replace(fp32("rtx-50"), precision="int8")], bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["changed", "plan gone", "sidecar gone", "manifest changed"])
def test_damaged_fleet_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    fleet.make([fp32("rtx-40")], open_bundle(), tmp_path)
    (plan,) = tmp_path.glob("rtx-40/*.plan")
    if damage == "changed":
        plan.write_bytes(plan.read_bytes()[:-1] + b"!")
    elif damage == "plan gone":
        plan.unlink()
    elif damage == "sidecar gone":
        plan.with_suffix(".json").unlink()
    else:
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        manifest["engines"][0]["sha256"] = "0" * 64
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(
        "edgeparse.backends.tensorrt.backend.load_engine",
        lambda *_: pytest.fail("what differs from the manifest was run"),
    )
    done = run("verify", tmp_path, "--recipe", "rtx-40", "--pictures", SAMPLES)
    assert done.exit_code == 1
    (wrong,) = json.loads(done.stdout)["files_wrong"]
    assert plan.name in wrong


def test_verify_on_the_command_line(tmp_path: Path) -> None:
    fleet.make([fp32("rtx-40")], open_bundle(), tmp_path)
    done = run("verify", tmp_path)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"files_wrong": []}
    assert run("verify", tmp_path, "--recipe", "rtx-40").exit_code == 2
    done = run("verify", tmp_path / "nowhere")
    assert done.exit_code == 3
    assert "manifest.json cannot be read" in done.stderr
    (tmp_path / "manifest.json").write_text('{"schema": 9}')
    assert "got 9" in run("verify", tmp_path).stderr


def test_outputs_are_compared_one_by_one(model_files: dict[str, Path]) -> None:
    bundle = open_bundle()
    backends = {name: OnnxRuntimeBackend(path.read_bytes()) for name, path in model_files.items()}
    # A mean over a dozen windows says little about a network, so take some from all over the test set.
    shown = np.concatenate([windows.cut(sample.pixels, 1).pixels for sample in load_testset().samples[::6]])
    same = verify.compare(backends["fp32"], backends["fp32"], shown[:8], bundle.outputs)
    assert set(same) == set(bundle.outputs)
    assert all(d.mean == 0 and d.same_choice == 1 for d in same.values())
    for name, precision in (("fp16", "fp16"), ("int8-tensorrt", "int8")):
        differences = verify.compare(backends[name], backends["fp32"], shown, bundle.outputs)
        assert verify.exceeding_tolerance(differences, precision) == []
        assert all(d.mean > 0 for d in differences.values())
    assert verify.exceeding_tolerance(differences, "fp32"), "INT8 is not as close as fp32 has to be"


def test_nan_exceeds_the_tolerance() -> None:
    differences = {"generated": verify.Difference(float("nan"), float("nan"), 0.0)}
    assert verify.exceeding_tolerance(differences, "int8") == ["generated"]


def test_windows_come_from_readable_pictures(tmp_path: Path) -> None:
    assert verify.windows_from(SAMPLES, open_bundle(), 10).shape == (10, 128, 128, 3)
    resized = replace(open_bundle(), framing="resize", window=64)
    assert verify.windows_from(SAMPLES, resized, 3).shape == (3, 64, 64, 3)
    (tmp_path / "text.txt").write_text("no picture")
    with pytest.raises(ImageError, match="readable picture"):
        verify.windows_from(tmp_path, open_bundle(), 3)


TENSORS = (TensorSpec("windows", True, "uint8", (-1, 128, 128, 3)), TensorSpec("generated", False, "float", (-1, 1)))


def keep(
    store: EngineCache, capability: str, flavour: str = "tensorrt", batches: tuple[int, int, int] = (1, 8, 32)
) -> None:
    """Store a fake engine; Triton's configuration does not read its bytes."""
    model = open_bundle().hashes["model.onnx"]
    key = EngineKey(model, flavour, "10.16.0", (capability,), f"GPU {capability}", "linux-x86_64", "fp32", batches)
    plan = f"plan for {capability}".encode()
    store.write(EngineRecord(key, hashlib.sha256(plan).hexdigest(), len(plan), TENSORS, "default-1", 1.0), plan)


def test_triton_repository_with_the_onnx_file(tmp_path: Path) -> None:
    done = run("triton", tmp_path)
    assert done.exit_code == 0, done.stderr
    config = triton.parse(Path(done.stdout.strip()))
    assert (config.name, config.platform, config.max_batch_size) == ("edgeparse", "onnxruntime_onnx", 32)
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 32]
    (given,) = config.input
    assert (given.name, given.data_type, list(given.dims)) == ("windows", triton.pb.TYPE_UINT8, [128, 128, 3])
    assert {output.name for output in config.output} == set(open_bundle().outputs)
    assert {output.data_type for output in config.output} == {triton.pb.TYPE_FP32}
    assert config.parameters["bundle_sha256"].string_value == open_bundle().sha256
    model = tmp_path / "edgeparse" / "1" / config.default_model_filename
    assert hashlib.sha256(model.read_bytes()).hexdigest() in open_bundle().hashes.values()
    assert OnnxRuntimeBackend(model.read_bytes()).run(np.zeros((1, 128, 128, 3), np.uint8), ["generated"])


def test_triton_repository_has_one_engine_per_capability(tmp_path: Path) -> None:
    stores = [EngineCache(tmp_path / "a"), EngineCache(tmp_path / "b")]
    keep(stores[0], "sm89")
    keep(stores[1], "sm120")
    keep(stores[1], "sm86", "tensorrt-rtx")
    done = run("triton", tmp_path / "out", "--plans", tmp_path / "a", "--plans", tmp_path / "b")
    assert done.exit_code == 0, done.stderr
    config = triton.parse(Path(done.stdout.strip()))
    assert config.platform == "tensorrt_plan"
    assert dict(config.cc_model_filenames) == {"8.9": "model-sm89.plan", "12.0": "model-sm120.plan"}
    for name in config.cc_model_filenames.values():
        capability = name.removeprefix("model-").removesuffix(".plan")
        assert (tmp_path / "out" / "edgeparse" / "1" / name).read_text() == f"plan for {capability}"


def test_incompatible_engines_are_refused(tmp_path: Path) -> None:
    empty, rtx, two, mixed = (EngineCache(tmp_path / name) for name in ("empty", "rtx", "two", "mixed"))
    keep(rtx, "sm89", "tensorrt-rtx")
    keep(two, "sm89")
    keep(two, "sm89", batches=(1, 8, 32))
    keep(mixed, "sm89")
    keep(mixed, "sm90", batches=(1, 8, 64))
    for stores, words in (
        ([empty], "no TensorRT engine of bundle"),
        ([rtx], "Triton cannot load engines of TensorRT for RTX"),
        ([two, two], "two engines for sm89"),
        ([mixed], "different batches"),
    ):
        with pytest.raises(EngineError, match=words):
            triton.write_engine_repository(tmp_path / "out", open_bundle(), stores)
    assert run("triton", tmp_path / "out", "--plans", tmp_path / "empty").exit_code == 3


def test_triton_rejects_unknown_fields(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "x"\nmax_batch: 3\n')
    with pytest.raises(Exception, match="max_batch"):
        triton.parse(path)


def test_recipes_use_known_libraries() -> None:
    assert {recipes.load(name).flavour for name in recipes.names()} == set(LIBRARIES)
