"""Pictures, bundles and fixtures that several tests share."""

from __future__ import annotations

import ctypes
import gc
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeparse import BackendError, Parser, images, windows
from edgeparse.backends.tensorrt import cuda
from edgeparse.backends.tensorrt.build import CompiledEngine
from edgeparse.bundle import default_folder, open_bundle

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
# Only pictures with equal embeddings count as one generator's, so that tests pass with any network.
SAME = {"scale": 5000.0, "bias": -4990.0, "threshold": 0.7}
# A threshold that every similarity passes.
ANY = -0.5


def sample_files() -> list[Path]:
    return sorted(p for p in SAMPLES.iterdir() if p.suffix in (".jpg", ".png", ".webp"))


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return uint8[height, width, 3] with texture at every scale."""
    rng = np.random.default_rng(seed)
    coarse = np.asarray(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((width, height)))
    return np.clip(coarse + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def parser() -> Parser:
    return Parser()


@pytest.fixture(autouse=True)
def own_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep tests away from the gallery of the user who runs them."""
    monkeypatch.setenv("EDGEPARSE_GALLERY", str(tmp_path / "gallery"))
    return tmp_path / "gallery"


@pytest.fixture(scope="module", autouse=True)
def freed_memory() -> Iterator[None]:
    """Return freed memory to the system after each module, so that the peak of a run is that of one module."""
    yield
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture
def bundle_copy(tmp_path: Path) -> Path:
    """Return a copy of the default bundle that a test may damage."""
    return Path(shutil.copytree(default_folder(), tmp_path / "bundle"))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a bundle's manifest and return its folder."""
    manifest = folder / "bundle.json"
    fields = json.loads(manifest.read_text())
    change(fields)
    manifest.write_text(json.dumps(fields))
    return folder


def comparing(
    folder: Path,
    same: dict[str, float] | None = SAME,
    *,
    known: float | None = None,
    reported: bool = False,
) -> Path:
    """Change a bundle so that it calls no picture `camera` and compares as requested."""

    def change(fields: dict[str, Any]) -> None:
        fields["calibration"]["camera"] = 0.0
        fields["calibration"].pop("same", None)
        if same is not None:
            fields["calibration"]["same"] = dict(same)
        if known is not None:
            fields["calibration"] |= {"known": known, "enrolled": known, "cohort_weight": 0.0}
        if reported:
            fields["labels"]["family_reported"] = True
            for group in ("continuous", "discrete", "losses"):
                for entry in fields["labels"][group]:
                    entry["reported"] = True

    return edit_manifest(folder, change)


def sample_windows(size: int = 128) -> np.ndarray:
    """Return windows of the samples, uint8[N, size, size, 3]."""
    return np.concatenate([windows.cut(images.read(path).pixels, 8, size).pixels for path in sample_files()])


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the default bundle's model in every precision; export the precisions that it lacks."""
    import onnx

    from export.graph_passes import gemm_to_conv
    from export.variants import PRECISIONS, write_variants

    bundle = open_bundle()
    if {"fp32", *PRECISIONS} <= bundle.variants.keys():
        return {name: bundle.folder / file for name, file in bundle.variants.items()}
    folder = tmp_path_factory.mktemp("models")
    onnx.save(gemm_to_conv(onnx.load_from_string(bundle.model("fp32"))), folder / "model.onnx")
    return {name: folder / file for name, file in write_variants(folder / "model.onnx", sample_windows()).items()}


_compiled = pytest.StashKey[list[str]]()


@pytest.fixture
def report_compiled(request: pytest.FixtureRequest) -> Callable[[str, CompiledEngine], None]:
    """Add a compilation's time and size to the summary at the end of the run."""
    lines = request.config.stash.setdefault(_compiled, [])
    return lambda what, done: lines.append(f"{what:<40} {done.seconds:6.2f} s {len(done.plan) / 1e6:7.1f} MB")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(_compiled, []):
        terminalreporter.section("engines compiled by TensorRT for RTX")
        for line in lines:
            terminalreporter.line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` if CUDA finds none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        cuda.gpu()
    except BackendError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=str(error)))
