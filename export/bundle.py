"""Assemble a bundle: models, what is fitted for them on validation pictures, manifest with hashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from edgeparse import windows
from edgeparse.backends.onnxruntime import OnnxRuntimeBackend
from edgeparse.bundle import SCHEMA, Bundle, open_bundle
from export.calibration import (
    choose_reported,
    compare_variants,
    fit_calibration,
    fit_gallery,
    fit_labels,
    fit_shrinkage,
    label_spaces,
    redrawn,
    validation_pictures,
)
from export.half import halve
from export.onnx_graph import export, output_names, parity, with_constants, with_short_weights
from export.tf32 import moved
from export.variants import bearing_tf32, write_variants
from training.data.dataset import Collection, some
from training.fit.train import NOT_SAID
from training.labels import CONTINUOUS
from training.model.network import WINDOW, Network, NetworkConfig
from training.predictions import Predictions, predict, with_photos_content
from training.questions import check_splits, detection, parsing, same_generator

# How far an fp16 file's outputs may lie from fp32, in their deviation over windows, in the window where they lie farthest; INT8's lie
# up to 0.23 away in default-17.
SAME_NETWORK = 0.1


def build(
    network: Network, stored: dict, collection: Collection, folder: Path, name: str, version: str, variant: str
) -> Bundle:
    """Export a network and write a bundle of it into `folder`, in the place of one that is there; only once it is whole.

    Raises:
        ValueError: what is in the folder is no bundle.
    """
    with replacing(folder) as new:
        model = new / "model.onnx"
        export(network, output_names(network), model)
        zoo = validation_pictures(collection)["zoo"]
        shrinkage = fit_shrinkage(predict(OnnxRuntimeBackend(model.read_bytes()), zoo, "mixed"), collection)
        network = with_short_weights(shrinkage.folded(network))
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
            "tf32": bearing_tf32(model, variants, held),
            "metrics": {
                "parity_max_relative_error": differences,
                "share_of_estimate": dict(zip(CONTINUOUS, shrinkage.shares.tolist(), strict=True)),
            },
            "training": {
                **{key: stored[key] for key in ("config", "steps", "kept_step", "minutes", "seed", "hardware")},
                **{key: stored.get(key, none) for key, none in NOT_SAID.items()},
                "begun": stored.get("begun"),
                "generators": stored["generators"],
                "zoo_generators": stored["zoo_generators"],
            },
        }
        _fit(new, manifest, collection)
    return open_bundle(folder)


def refit(bundle: Bundle, collection: Collection, version: str) -> Bundle:
    """Make what a bundle answers with anew for the network that it has: other precisions from the fp32 file, and all that is fitted. What
    users enrolled with it stays of use.

    Raises:
        ValueError: it was not trained here, its network answers with other label spaces than today's, or a generator has changed sides.
    """
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    if "generators" not in manifest.get("training", {}):
        raise ValueError(f"bundle {bundle.label} does not say which generators it was trained on")
    if _asked(manifest["labels"]) != _asked(label_spaces(collection)):
        raise ValueError(
            f"the network of bundle {bundle.label} answers with other label spaces than today's; train anew"
        )
    check_splits(bundle, collection)
    with replacing(bundle.folder) as new:
        model = new / bundle.variants["fp32"]
        model.write_bytes(bundle.read(model.name))
        held = calibration_windows(collection)
        variants = write_variants(model, held)
        network = {"version": version, "network_of": manifest.get("network_of", bundle.label)}
        files = {"variants": variants, "tf32": bearing_tf32(model, variants, held)}
        manifest.pop("fitted_of", None)
        manifest["metrics"].pop("variants_of_zoo_anew", None)
        _fit(new, manifest | network | files, collection)
    return open_bundle(bundle.folder)


def halved(bundle: Bundle, collection: Collection, version: str, anew: bool = False) -> Bundle:
    """Make a bundle's fp16 file anew as today's exporter lays it out, with today's constants, and leave all other files as they are, byte
    by byte: with these it answers as it did. How well each precision does is measured anew; `anew` says that the collection's zoo is
    another one than the network learnt from.

    Raises:
        ValueError: it was not trained here or has no fp16 file, a generator has changed sides, or constants of today make another network
            of it.
    """
    manifest = json.loads((bundle.folder / "bundle.json").read_text())
    if "config" not in manifest.get("training", {}) or "fp16" not in bundle.variants:
        raise ValueError(f"bundle {bundle.label} was not trained here, or has no fp16 file")
    check_splits(bundle, collection)
    held = calibration_windows(collection)
    with replacing(bundle.folder) as new:
        for file in bundle.hashes:
            (new / file).write_bytes(bundle.read(file))
        # Hidden, as it is no file of the bundle's.
        model, half = new / f".{bundle.variants['fp32']}", new / bundle.variants["fp16"]
        fp32 = onnx.load_from_string(bundle.model("fp32"))
        onnx.save(with_constants(fp32, Network(NetworkConfig.from_json(manifest["training"]["config"]))), model)
        halve(model, half)
        if (far := moved(fp32, onnx.load(half), held)) > SAME_NETWORK:
            raise ValueError(
                f"with today's constants an output moves by {far:.2f} of its deviation, more than {SAME_NETWORK}: this is another network; "
                "train anew"
            )
        manifest |= {
            "version": version,
            "network_of": manifest.get("network_of", bundle.label),
            "fitted_of": manifest.get("fitted_of", bundle.label),
            "tf32": bearing_tf32(model, bundle.variants, held),
        }
        model.unlink()
        made = write_manifest(new, manifest)
        val = validation_pictures(collection)
        backend = OnnxRuntimeBackend(made.model())
        known = {key: predict(backend, samples, "mixed") for key, samples in val.items()}
        manifest["metrics"] |= {
            "variants": compare_variants(new, val, known, collection, made),
            "variants_of_zoo_anew": anew,
        }
        write_manifest(new, manifest)
    return open_bundle(bundle.folder)


def _asked(labels: dict) -> object:
    """What a network's outputs mean, of a manifest's label spaces, as JSON gives it back; without what is fitted."""
    fitted = ("family_reported", "reported", "half_width", "threshold")

    def without(part: object) -> object:
        if isinstance(part, dict):
            return {key: without(value) for key, value in part.items() if key not in fitted}
        return [without(value) for value in part] if isinstance(part, list) else part

    return without(json.loads(json.dumps(labels)))


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of a bundle's once it is whole; whatever fails, the bundle that was there stays.

    Raises:
        ValueError: what is in the folder is no bundle.
    """
    folder = folder.resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "bundle.json").is_file():
        raise ValueError(f"{folder} is not empty, and holds no bundle that could be replaced; name another folder")
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


def _fit(folder: Path, manifest: dict, collection: Collection) -> None:
    """Fit all that `export.calibration` fits for the models in a folder, and write gallery and manifest beside them."""
    backend = OnnxRuntimeBackend((folder / manifest["variants"][manifest["default_variant"]]).read_bytes())
    look = partial(predict, backend, condition="mixed")
    val = validation_pictures(collection)
    p = {key: look(samples) for key, samples in val.items()}
    gallery = fit_gallery(look, collection)
    with (folder / "gallery.npz").open("wb") as file:
        gallery.save(file)
    labels = label_spaces(collection)
    fit_labels(labels, p["zoo"], collection)
    manifest |= {
        "gallery": "gallery.npz",
        "labels": labels,
        "calibration": fit_calibration(p, redrawn(look, val, p), gallery, collection),
    }
    bundle = write_manifest(folder, manifest)
    choose_reported(labels, parsing(p["zoo"], collection, bundle))
    cameras, made = (
        Predictions(
            {"generated": np.concatenate([p[key].values["generated"] for key in keys])},
            np.concatenate([p[key].source for key in keys]),
        )
        for keys in (("crops", "photos"), ("zoo", "real"))
    )
    manifest["metrics"] |= {
        "validation_same_generator": {
            "zoo": same_generator(with_photos_content(p["zoo"], collection), bundle.same),
            "real": same_generator(p["real"], bundle.same),
        },
        "validation_detection": detection(cameras, made, collection, bundle.calibration),
        "variants": compare_variants(folder, val, p, collection, bundle),
    }
    write_manifest(folder, manifest)


def calibration_windows(collection: Collection, count: int = 256) -> np.ndarray:
    """uint8[count, 128, 128, 3] windows of training pictures, half of them camera."""
    chosen = some(collection.select(split="train", camera=True), count // 2, np.random.default_rng(1))
    chosen += some(
        collection.select(split="train", camera=False, source_split="train"),
        count - count // 2,
        np.random.default_rng(2),
    )
    return np.stack([windows.cut(sample.pixels, 1).pixels[0] for sample in chosen])


def write_manifest(folder: Path, manifest: dict) -> Bundle:
    """Hash every file, write the manifest atomically, and open the result as its users will."""
    manifest["files"] = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != "bundle.json" and not path.name.startswith(".")
    }
    temporary = folder / ".bundle.json"
    temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    temporary.replace(folder / "bundle.json")
    return open_bundle(folder)
