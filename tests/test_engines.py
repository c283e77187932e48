"""Engines for many devices: recipes, ahead-of-time builds, the script for the rest, comparison, Triton."""

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
from edgeparse.backends.flavours import FLAVOURS
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.backends.plans import Key, Record, Store, Tensor
from edgeparse.bundle import open_bundle
from edgeparse.errors import BundleError, EngineError, ImageError
from engines import fleet, recipes, triton, verify
from engines.__main__ import main
from tests.conftest import SAMPLES
from training.data.index.load import load
from training.pack import INDEX

RTX = {"rtx-20": "sm75", "rtx-30": "sm86", "rtx-40": "sm89", "rtx-50": "sm120"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fp32(name: str) -> recipes.Recipe:
    """A recipe in a precision that every bundle has."""
    return replace(recipes.load(name), precision="fp32")


def test_every_recipe_is_sound() -> None:
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
        assert recipe.ahead == (name in RTX)
        assert recipe.needs.startswith(recipe.flavour)
        assert (recipe.jetpack is not None) == name.startswith("jetson")
        assert recipe.batches[0] == recipe.batches[2] if recipe.dla is not None else recipe.batches[0] == 1
        assert not recipe.versions.contains("9.0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("surprise = 1", "has surprise"),
        ("not toml", "is not TOML"),
        ('flavour = "openvino"', "no flavour 'openvino'"),
        ('precision = "fp8"', "no precision 'fp8'"),
        ("batches = [8, 1]", "not one batch size"),
        ('versions = "newest"', "newest"),
        ("", "lacks 'note'"),
    ],
)
def test_a_recipe_that_is_wrong_says_where(tmp_path: Path, change: str, words: str) -> None:
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
        ("a; reboot", "", "no name for a recipe"),
        ("-x", "", "no name for a recipe"),
        ("$(reboot)", "", "no name for a recipe"),
        ("mine", 'device = "RTX\\nreboot"', "device is not printable"),
        ("mine", "device = 5", "a string was expected"),
    ],
)
def test_a_recipe_cannot_bring_words_into_the_script(tmp_path: Path, stem: str, change: str, words: str) -> None:
    lines = (recipes.FOLDER / "rtx-40.toml").read_text().splitlines()
    path = tmp_path / f"{stem}.toml"
    path.write_text("\n".join([change, *lines[1:]] if change else lines))
    with pytest.raises(recipes.RecipeError, match=words):
        recipes.load(str(path))


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(recipes.RecipeError, match=r"choose from .*jetson-orin-nano"):
        recipes.load("raspberry")


def test_what_can_be_compiled_here_is_and_the_rest_becomes_a_script(tmp_path: Path) -> None:
    chosen = [fp32(name) for name in ("rtx-30", "rtx-50", "jetson-orin-nano", "jetson-agx-orin-dla")]
    said: list[str] = []
    built, left = fleet.make(chosen, open_bundle(), tmp_path, said.append)
    assert [entry.recipe for entry in built] == ["rtx-30", "rtx-50"]
    assert [entry.recipe for entry in left] == ["jetson-orin-nano", "jetson-agx-orin-dla"]
    assert len(said) == 4
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["bundle_sha256"] == open_bundle().sha256
    for entry in manifest["engines"]:
        data = (tmp_path / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert len(data) == entry["bytes"]
        (record,) = Store(tmp_path / entry["recipe"]).records()
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


def test_an_engine_is_not_compiled_with_a_version_the_recipe_does_not_want(tmp_path: Path) -> None:
    old = replace(fp32("rtx-40"), versions=SpecifierSet("<1"))
    built, left = fleet.make([old], open_bundle(), tmp_path)
    assert built == []
    assert "the recipe wants <1" in left[0].reason


def test_a_bundle_without_a_recipes_precision_is_refused_before_anything_is_compiled(tmp_path: Path) -> None:
    bundle = replace(open_bundle(), variants={"fp32": "model.onnx"})
    with pytest.raises(BundleError, match="no int8 model for TensorRT"):
        fleet.make([fp32("rtx-40"), replace(fp32("rtx-50"), precision="int8")], bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["changed", "plan gone", "sidecar gone", "manifest changed"])
def test_a_damaged_fleet_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
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
    monkeypatch.setattr("edgeparse.build.load", lambda *_: pytest.fail("what differs from the manifest was run"))
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
    assert "has schema 9" in run("verify", tmp_path).stderr


def test_heads_are_compared_one_by_one(model_files: dict[str, Path]) -> None:
    bundle = open_bundle()
    backends = {name: OnnxRuntimeBackend(path.read_bytes(), threads=1) for name, path in model_files.items()}
    # A mean over a dozen windows says little of a network: a window of every picture of the evaluation pack.
    given = np.concatenate([windows.cut(sample.pixels, 1).pixels for sample in load(INDEX).samples])
    for name in ("fp32", "fp16", "int8-tensorrt"):
        differences = verify.compare(backends[name], backends["fp32"], given, bundle.outputs)
        assert set(differences) == set(bundle.outputs)
        precision = name.removesuffix("-tensorrt")
        assert verify.too_far(differences, precision) == []
        if name == "fp32":
            assert all(d.mean == 0 and d.same_choice == 1 for d in differences.values())
        else:
            assert all(d.mean > 0 for d in differences.values())
    assert verify.too_far(verify.compare(backends["int8-tensorrt"], backends["fp32"], given, bundle.outputs), "fp32")


def test_a_head_that_is_not_a_number_is_too_far() -> None:
    differences = {"generated": verify.Difference(float("nan"), float("nan"), 0.0)}
    assert verify.too_far(differences, "int8") == ["generated"]


def test_pictures_to_compare_on(tmp_path: Path) -> None:
    assert verify.windows_of(SAMPLES, open_bundle(), 10).shape == (10, 128, 128, 3)
    resized = replace(open_bundle(), framing="resize", window=64)
    assert verify.windows_of(SAMPLES, resized, 3).shape == (3, 64, 64, 3)
    (tmp_path / "text.txt").write_text("no picture")
    with pytest.raises(ImageError, match="no picture"):
        verify.windows_of(tmp_path, open_bundle(), 3)


TENSORS = (Tensor("windows", True, "uint8", (-1, 128, 128, 3)), Tensor("generated", False, "float", (-1, 1)))


def keep(store: Store, capability: str, flavour: str = "tensorrt", batches: tuple[int, int, int] = (1, 8, 32)) -> None:
    """An engine that no compiler made: Triton's configuration does not look into it."""
    model = open_bundle().hashes["model.onnx"]
    key = Key(model, flavour, "10.16.0", (capability,), f"GPU {capability}", "linux-x86_64", "fp32", batches)
    plan = f"plan for {capability}".encode()
    store.write(Record(key, hashlib.sha256(plan).hexdigest(), len(plan), TENSORS, "default-1", 1.0), plan)


def test_a_triton_repository_of_the_onnx_file(tmp_path: Path) -> None:
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


def test_a_triton_repository_of_engines_has_one_a_capability(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "a"), Store(tmp_path / "b")]
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


def test_engines_that_triton_cannot_serve_together(tmp_path: Path) -> None:
    empty, rtx, two, mixed = (Store(tmp_path / name) for name in ("empty", "rtx", "two", "mixed"))
    keep(rtx, "sm89", "tensorrt-rtx")
    keep(two, "sm89")
    keep(two, "sm89", batches=(1, 8, 32))
    keep(mixed, "sm89")
    keep(mixed, "sm90", batches=(1, 8, 64))
    for stores, words in (
        ([empty], "no TensorRT engine of bundle"),
        ([rtx], "Triton cannot load them"),
        ([two, two], "two engines for sm89"),
        ([mixed], "different batches"),
    ):
        with pytest.raises(EngineError, match=words):
            triton.with_plans(tmp_path / "out", open_bundle(), stores)
    assert run("triton", tmp_path / "out", "--plans", tmp_path / "empty").exit_code == 3


def test_triton_refuses_what_is_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "x"\nmax_batch: 3\n')
    with pytest.raises(Exception, match="max_batch"):
        triton.parse(path)


def test_recipes_know_only_flavours_that_are() -> None:
    assert {recipes.load(name).flavour for name in recipes.names()} == set(FLAVOURS)
