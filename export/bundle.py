"""Assemble a bundle: model files, what is fitted on validation pictures, and a manifest with hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeparse import windows
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import Bundle, open_bundle
from edgeparse.manifest import SCHEMA
from export.calibration import (
    choose_reported,
    compare_variants,
    fit_calibration,
    fit_gallery,
    fit_labels,
    fit_shrinkage,
    label_spaces,
    predict_photo_draws,
    validation_pictures,
)
from export.fp16 import to_fp16
from export.onnx_export import export, output_names, parity, round_weights, with_constants
from export.tf32 import max_output_shift
from export.variants import tf32_safe_variants, write_variants
from training.data.dataset import Collection, random_subset
from training.evaluate.attribution import same_generator_metrics
from training.evaluate.model_parsing import parsing_metrics
from training.evaluate.predict import Predictions, predict, with_photo_content
from training.evaluate.tasks import check_splits, detection_metrics
from training.labels import CONTINUOUS
from training.model.network import WINDOW, Network, NetworkConfig

# Largest shift of an fp16 output from fp32 that rounding explains, in standard deviations. INT8 shifts up to 0.23 in
# default-17.
MAX_FP16_SHIFT = 0.1


def build(
    network: Network,
    stored: dict[str, Any],
    collection: Collection,
    folder: Path,
    name: str,
    version: str,
    variant: str,
) -> Bundle:
    """Export a network as a bundle; see `replacing` for how it takes an existing bundle's place.

    Args:
        network: The trained network.
        stored: The facts of its training.
        collection: The pictures to fit on.
        folder: The bundle's folder.
        name: The bundle's name.
        version: The bundle's version.
        variant: The default precision.

    Raises:
        ValueError: The folder holds something other than a bundle.
    """
    with replacing(folder) as new:
        model = new / "model.onnx"
        export(network, output_names(network), model)
        zoo = validation_pictures(collection)["zoo"]
        shrinkage = fit_shrinkage(predict(OnnxRuntimeBackend(model.read_bytes()), zoo, "mixed"), collection)
        network = round_weights(shrinkage.folded(network))
        export(network, output_names(network), model)
        held = calibration_windows(collection)
        differences = parity(network, model, held[:32])
        variants = write_variants(model, held)
        manifest = {
            "schema": SCHEMA,
            "name": name,
            "version": version,
            "files": {},
            "window": WINDOW,
            "outputs": output_names(network),
            "variants": variants,
            "default_variant": variant,
            "tf32": tf32_safe_variants(model, variants, held),
            "metrics": {
                "parity_max_relative_error": differences,
                "shrinkage": dict(zip(CONTINUOUS, shrinkage.shares.tolist(), strict=True)),
            },
            "training": {
                **stored,
                "config": network.config.to_json(),
                "generators": stored["generators"]
                | {s.name: s.split for s in collection.sources if s.zoo and s.labels},
            },
        }
        _fit(new, manifest, collection)
    return open_bundle(folder)


def refit(bundle: Bundle, collection: Collection, version: str) -> Bundle:
    """Write the other precisions and fit everything again for a bundle's fp32 network.

    Generators that users enrolled with the bundle stay valid.

    Raises:
        ValueError: The bundle was not trained here, its label spaces differ from today's, or a generator changed splits.
    """
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    if "generators" not in manifest.get("training", {}):
        raise ValueError(
            f"bundle {bundle.label} does not say which generators it was trained on; refit a bundle of python -m export bundle"
        )
    if _label_meaning(manifest["labels"]) != _label_meaning(label_spaces(collection)):
        raise ValueError(f"bundle {bundle.label} has other label spaces than today's code; train a new network")
    check_splits(bundle, collection)
    with replacing(bundle.folder) as new:
        model = new / bundle.variants["fp32"]
        model.write_bytes(bundle.read(model.name))
        held = calibration_windows(collection)
        variants = write_variants(model, held)
        network = {"version": version, "network_from": manifest.get("network_from", bundle.label)}
        files = {"variants": variants, "tf32": tf32_safe_variants(model, variants, held)}
        manifest.pop("calibration_from", None)
        manifest["metrics"].pop("variants_zoo_regenerated", None)
        _fit(new, manifest | network | files, collection)
    return open_bundle(bundle.folder)


def rebuild_fp16(bundle: Bundle, collection: Collection, version: str, retrained_zoo: bool = False) -> Bundle:
    """Export only a bundle's fp16 file again, with today's graph passes and constants.

    All other files stay byte for byte, so their answers do too. Every precision's accuracy is measured again.

    Args:
        bundle: The bundle to change.
        collection: The pictures to compare on.
        version: The version of the new bundle.
        retrained_zoo: Whether the collection's zoo was trained again since the network learnt from it.

    Raises:
        ValueError: The bundle was not trained here or has no fp16 file, a generator changed splits, or today's constants
            change the network's outputs.
    """
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    if "config" not in manifest.get("training", {}) or "fp16" not in bundle.variants:
        raise ValueError(
            f"bundle {bundle.label} must have an fp16 file and its training configuration; export it first"
        )
    check_splits(bundle, collection)
    held = calibration_windows(collection)
    with replacing(bundle.folder) as new:
        for file in bundle.hashes:
            (new / file).write_bytes(bundle.read(file))
        # A hidden file is not part of the bundle.
        model, fp16 = new / f".{bundle.variants['fp32']}", new / bundle.variants["fp16"]
        fp32 = onnx.load_from_string(bundle.model("fp32"))
        onnx.save(with_constants(fp32, Network(NetworkConfig.from_json(manifest["training"]["config"]))), model)
        to_fp16(model, fp16)
        if (shift := max_output_shift(fp32, onnx.load(fp16), held)) > MAX_FP16_SHIFT:
            raise ValueError(
                f"with today's constants, outputs must shift by at most {MAX_FP16_SHIFT} standard deviations, got {shift:.2f}; "
                "train a new network"
            )
        manifest |= {
            "version": version,
            "network_from": manifest.get("network_from", bundle.label),
            "calibration_from": manifest.get("calibration_from", bundle.label),
            "tf32": tf32_safe_variants(model, bundle.variants, held),
        }
        model.unlink()
        rebuilt = write_manifest(new, manifest)
        val = validation_pictures(collection)
        backend = OnnxRuntimeBackend(rebuilt.model())
        known = {key: predict(backend, samples, "mixed") for key, samples in val.items()}
        manifest["metrics"] |= {
            "variants": compare_variants(new, val, known, collection, rebuilt),
            "variants_zoo_regenerated": retrained_zoo,
        }
        write_manifest(new, manifest)
    return open_bundle(bundle.folder)


def _label_meaning(labels: dict[str, Any]) -> object:
    """Return a manifest's label spaces without fitted values, as JSON types."""
    fitted = ("family_reported", "reported", "half_width", "threshold")

    def without(part: object) -> object:
        if isinstance(part, dict):
            return {key: without(value) for key, value in part.items() if key not in fitted}
        return [without(value) for value in part] if isinstance(part, list) else part

    return without(json.loads(json.dumps(labels)))


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `folder` on success; after an error, the old bundle stays.

    Raises:
        ValueError: The folder holds something other than a bundle.
    """
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "bundle.json").is_file():
        raise ValueError(f"{folder} must be empty or hold a bundle; it holds no bundle, so name another folder")
    new, old = (folder.with_name(f".{folder.name}.{which}") for which in ("new", "old"))
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _fit(folder: Path, manifest: dict[str, Any], collection: Collection) -> None:
    """Fit what `export.calibration` fits for the models in a folder, and write the gallery and the manifest."""
    backend = OnnxRuntimeBackend((folder / manifest["variants"][manifest["default_variant"]]).read_bytes())
    predict_samples = partial(predict, backend, condition="mixed")
    val = validation_pictures(collection)
    p = {key: predict_samples(samples) for key, samples in val.items()}
    gallery = fit_gallery(predict_samples, collection)
    with (folder / "gallery.npz").open("wb") as file:
        gallery.save(file)
    labels = label_spaces(collection)
    fit_labels(labels, p["zoo"], collection)
    manifest |= {
        "gallery": "gallery.npz",
        "labels": labels,
        "calibration": fit_calibration(p, predict_photo_draws(predict_samples, val, p), gallery, collection),
    }
    bundle = write_manifest(folder, manifest)
    assert bundle.calibration is not None
    choose_reported(labels, parsing_metrics(p["zoo"], collection, bundle))
    camera, generated = (
        Predictions(
            {"generated": np.concatenate([p[key].values["generated"] for key in keys])},
            np.concatenate([p[key].source for key in keys]),
        )
        for keys in (("crops", "photos"), ("zoo", "public"))
    )
    manifest["metrics"] |= {
        "validation_same_generator": {
            "zoo": same_generator_metrics(with_photo_content(p["zoo"], collection), bundle.same),
            "public": same_generator_metrics(p["public"], bundle.same),
        },
        "validation_detection": detection_metrics(camera, generated, collection, bundle.calibration),
        "variants": compare_variants(folder, val, p, collection, bundle),
    }
    write_manifest(folder, manifest)


def calibration_windows(collection: Collection, count: int = 256) -> np.ndarray:
    """Return windows of training pictures, half of them photos, uint8[count, 128, 128, 3]."""
    chosen = random_subset(collection.select(split="train", camera=True), count // 2, np.random.default_rng(1))
    chosen += random_subset(
        collection.select(split="train", camera=False, source_split="train"),
        count - count // 2,
        np.random.default_rng(2),
    )
    return np.stack([windows.cut(sample.pixels, 1).pixels[0] for sample in chosen])


def write_manifest(folder: Path, manifest: dict[str, Any]) -> Bundle:
    """Hash every file, write the manifest atomically, and open the bundle as users will."""
    manifest["files"] = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != "bundle.json" and not path.name.startswith(".")
    }
    temporary = folder / ".bundle.json"
    temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    temporary.replace(folder / "bundle.json")
    return open_bundle(folder)
