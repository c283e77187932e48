"""`edgeparse bundle`: upgrade bundles that an older version wrote."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import click

from edgeparse.cli.console import exit_on_error
from edgeparse.cli.options import examples
from edgeparse.errors import BundleError

# Keys of schema 1 and their names in schema 2, by the section of the manifest.
_TOP = {"network_of": "network_from", "fitted_of": "calibration_from"}
_CALIBRATION = {"enrolled_share": "cohort_weight"}
_METRICS = {"share_of_estimate": "shrinkage", "variants_of_zoo_anew": "variants_zoo_regenerated"}
_VARIANT_METRICS = {"detection_real_auc": "detection_public_auc"}
_SAME_GENERATOR = {"real": "public"}
_TRAINING = {
    "begun": "init_from",
    "passes": "head_epochs",
    "heavy_looks": "strong_head_epochs",
    "heavy": "strong",
    "renewed": "online_augment",
    "taught_by": "teacher",
    "zoo_labelled": "hard_labels_for_zoo",
    "twins": "paired",
}
_GALLERY = {"background": "cohort"}


@click.group()
def bundle() -> None:
    """Manage bundles."""


@bundle.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@examples("edgeparse bundle migrate my-bundle")
def migrate(folder: Path) -> None:
    """Upgrade the bundle in FOLDER from schema 1 to schema 2, in place. Models do not change; copy the folder first."""
    with exit_on_error():
        migrate_bundle(folder)
        from edgeparse.bundle import open_bundle

        click.echo(f"{folder}: {open_bundle(folder).label}, schema 2")


def migrate_bundle(folder: Path) -> None:
    """Rename the keys of a bundle's manifest and the arrays of its gallery from schema 1 to schema 2.

    All files are verified first, so that the new hashes vouch for the same content.

    Raises:
        BundleError: the bundle cannot be read, has another schema, or a file was changed.
    """
    from edgeparse.safe_files import write_output

    path = folder / "bundle.json"
    try:
        fields = json.loads(path.read_bytes())
        schema = fields["schema"]
        if schema != 1:
            raise BundleError(f"{path} must have schema 1, got {schema!r}; there is nothing to migrate")
        gallery = _verified(folder, fields)
        if gallery is not None:
            data = _migrate_gallery(gallery)
            fields["files"][fields["gallery"]] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            write_output(folder / fields["gallery"], data)
        write_output(path, json.dumps(_migrate_manifest(fields), indent=1).encode() + b"\n")
    except OSError as error:
        raise BundleError(f"{error.filename or folder} cannot be read or written: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} is not a valid manifest: {error!r}; export the bundle again") from error


def _verified(folder: Path, fields: dict[str, Any]) -> bytes | None:
    """Verify the hash of every file, and return the bytes of the gallery, or None without one."""
    gallery = None
    for name, entry in fields["files"].items():
        if Path(name).name != name:
            raise ValueError(f"{name!r} must be a file name without folders")
        data = (folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise BundleError(
                f"{folder / name} was changed: its SHA-256 differs from the manifest; export the bundle again"
            )
        if name == fields.get("gallery"):
            gallery = data
    return gallery


def _renamed(fields: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Rename keys and keep their order."""
    return {names.get(key, key): value for key, value in fields.items()}


def _migrate_gallery(data: bytes) -> bytes:
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = _renamed({name: file[name] for name in file.files}, _GALLERY)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _migrate_manifest(fields: dict[str, Any]) -> dict[str, Any]:
    fields = _renamed(fields, _TOP) | {"schema": 2}
    if fields.get("calibration"):
        fields["calibration"] = _renamed(fields["calibration"], _CALIBRATION)
    metrics = _renamed(fields["metrics"], _METRICS)
    if "variants" in metrics:
        metrics["variants"] = {name: _renamed(each, _VARIANT_METRICS) for name, each in metrics["variants"].items()}
    if "validation_same_generator" in metrics:
        metrics["validation_same_generator"] = _renamed(metrics["validation_same_generator"], _SAME_GENERATOR)
    fields["metrics"] = metrics
    if "training" in fields:
        fields["training"] = _migrate_training(fields["training"])
    return fields


def _migrate_training(training: dict[str, Any]) -> dict[str, Any]:
    """Rename the keys of a training run, and of the runs that it was initialised from."""
    training = _renamed(training, _TRAINING)
    if training.get("init_from"):
        training["init_from"] = _migrate_training(training["init_from"])
    return training
