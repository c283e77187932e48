"""Export matches PyTorch, and bundles are replaced only when complete."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgeparse.bundle import default_folder, open_bundle
from export.bundle import refit, replacing
from export.onnx_export import differences, with_constants
from tests.conftest import edit_manifest
from tests.export.conftest import NAMES, Small, operators
from training.data.dataset import Collection, Generator
from training.labels import Labels
from training.model.network import Network, NetworkConfig


def test_exported_model_matches_pytorch(network: Small, model: Path, windows: np.ndarray) -> None:
    assert max(differences(network, NAMES, model, windows).values()) < 1e-5
    assert "Gemm" not in operators(model)
    with torch.no_grad():
        other = Small().eval()
    with pytest.raises(ValueError, match="differs from PyTorch"):
        differences(other, NAMES, model, windows)


@pytest.mark.parametrize("there", [True, False])
def test_unfinished_bundle_replaces_nothing(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    if there:
        shutil.copytree(default_folder(), folder)

    def stop_half_way() -> None:
        with replacing(folder) as new:
            (new / "model.onnx").write_bytes(b"half of it")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        stop_half_way()
    assert folder.exists() == there
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"] * there
    with replacing(folder) as new:
        shutil.copytree(default_folder(), new, dirs_exist_ok=True)
    assert open_bundle(folder).sha256 == open_bundle().sha256
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_refitting_requires_the_same_label_spaces(bundle_copy: Path) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["labels"]["continuous"][0]["high"] += 1

    nothing = Collection([Generator("one", Labels("vae", {}, {}, ()), zoo=True, split="train")], [])
    edit_manifest(bundle_copy, change)
    with pytest.raises(ValueError, match="other label spaces"):
        refit(open_bundle(bundle_copy), nothing, "9")
    edit_manifest(bundle_copy, lambda fields: fields["training"].pop("generators"))
    with pytest.raises(ValueError, match="does not say which generators"):
        refit(open_bundle(bundle_copy), nothing, "9")


def test_todays_constants_replace_stored_ones(shipped_kind: Path) -> None:
    """No weight changes, so a model with other constants computes as if it were exported today."""
    network = Network(NetworkConfig(trunk=(32, 48, 64), hidden=64, compared=64, embedding=16))
    today, other = onnx.load(shipped_kind), onnx.load(shipped_kind)
    for tensor in other.graph.initializer:
        if tensor.name.endswith((".colours", ".waves")):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), tensor.name))
    assert other != today
    assert with_constants(other, network) == with_constants(today, network) == today
    (lines,) = (tensor for tensor in other.graph.initializer if tensor.name.endswith("lines.colours"))
    other.graph.initializer.remove(lines)
    with pytest.raises(ValueError, match=r"must have a constant lines\.colours"):
        with_constants(other, network)
