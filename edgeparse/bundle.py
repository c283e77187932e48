"""An opened model bundle: a folder with `bundle.json` and the files whose SHA-256 it states.

A bundle cannot run code: it consists of JSON, ONNX, and NumPy archives that are read without pickle.
"""

from __future__ import annotations

import hashlib
import reprlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeparse.errors import BundleError
from edgeparse.manifest import SCHEMA, Manifest, SchemaError, parse_manifest

MAX_MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Bundle(Manifest):
    """A bundle whose manifest is valid. The hash of each file is checked when the file is read.

    Attributes:
        folder: where the files are.
        sha256: SHA-256 of `bundle.json`.
    """

    folder: Path
    sha256: str

    @property
    def label(self) -> str:
        """Name and version, as in reports."""
        return f"{self.name}-{self.version}"

    @property
    def network(self) -> str:
        """SHA-256 of the fp32 model. Embeddings of two bundles are comparable only if it is equal, at any precision."""
        return self.hashes[self.variants.get("fp32", self.variants[self.default_variant])]

    def check_io(self, shapes: Mapping[str, tuple[int | None, ...]], embedding: int | None) -> None:
        """Check that a network's inputs and outputs match the manifest.

        Args:
            shapes: shape of `windows` and of each output without the batch axis; None is an open side
                (`backends.base.Shaped`).
            embedding: width of the gallery's vectors, or None without a gallery.

        Raises:
            BundleError: an input or output is missing or has another shape.
        """
        side = self.window
        # None accepts any width: no label space describes that output.
        widths: dict[str, int | None] = dict.fromkeys(self.outputs)
        widths |= {
            "generated": 1,
            "embedding": embedding,
            "family": len(self.families),
            "continuous": len(self.continuous),
            "losses": len(self.losses),
            "attribution": len(self.attribution),
            **{discrete.name: len(discrete.values) for discrete in self.discrete},
        }
        expected: dict[str, tuple[int | None, ...]] = {name: (widths[name],) for name in self.outputs}
        if "fingerprint" in expected:
            expected["fingerprint"] = (3, side, side)
        for name, shape in {**expected, "windows": (side, side, 3)}.items():
            if name not in shapes:
                raise BundleError(
                    f"the model of bundle {self.label} must have {name}, got only {list(shapes)}; export the bundle again"
                )
            got = shapes[name]
            if len(got) != len(shape) or any(want not in (None, has) for want, has in zip(shape, got, strict=True)):
                raise BundleError(
                    f"{name} of bundle {self.label} must have the shape {_format_shape(shape)} that its manifest states, got "
                    f"{_format_shape(got)}; export the bundle again"
                )

    def read(self, file: str) -> bytes:
        """Read a file and verify its hash. Use the returned bytes: the file on disk may change afterwards.

        Raises:
            BundleError: the manifest does not list the file, or the file is missing or was changed.
        """
        path = self.folder / file
        if file not in self.hashes:
            raise BundleError(f"{path} is not listed in bundle.json; export the bundle again")
        try:
            data = _read_limited(path, self.sizes[file])
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
        if len(data) > self.sizes[file]:
            raise BundleError(
                f"{path} must have {self.sizes[file]} bytes according to its manifest, got more; it was changed or damaged: "
                "install or export the bundle again"
            )
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.hashes[file]:
            raise BundleError(
                f"{path} must have the SHA-256 {self.hashes[file][:12]}... according to its manifest, got {digest[:12]}...; it "
                "was changed or damaged: install or export the bundle again"
            )
        return data

    def model(self, variant: str | None = None) -> bytes:
        """Read the ONNX file of a variant, by default of the bundle's default variant.

        Raises:
            BundleError: the bundle has no such variant, or the file was changed.
        """
        wanted = variant or self.default_variant
        if wanted not in self.variants:
            raise BundleError(f"bundle {self.label} has no {wanted} model; choose from {', '.join(self.variants)}")
        return self.read(self.variants[wanted])


def default_folder() -> Path:
    """Return the folder of the default bundle, which is part of the package."""
    return Path(__file__).parent / "models" / "default"


def open_bundle(folder: Path | str | None = None) -> Bundle:
    """Open a bundle, by default the one in the package.

    Raises:
        BundleError: the manifest is missing, is not JSON, has another schema, or has a missing or invalid field.
    """
    root = Path(folder) if folder is not None else default_folder()
    path = root / "bundle.json"
    try:
        data = _read_limited(path, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror or error}); name a folder that `python -m export bundle` wrote"
        ) from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} must be at most {MAX_MANIFEST_BYTES // 2**20} MiB; this is not a bundle's manifest")
    try:
        manifest = parse_manifest(data)
    except SchemaError as error:
        schema = error.args[0]
        remedy = f"run `edgeparse bundle migrate {root}`" if schema == 1 else "use the edgeparse version that wrote it"
        raise BundleError(f"{path} must have schema {SCHEMA}, got {reprlib.repr(schema)}; {remedy}") from error
    except ValueError as error:
        raise BundleError(f"{path} is not a valid manifest: {error}; export the bundle again") from error
    return Bundle(**vars(manifest), folder=root, sha256=hashlib.sha256(data).hexdigest())


def _format_shape(shape: tuple[int | None, ...]) -> str:
    return f"[N, {', '.join('any' if side is None else str(side) for side in shape)}]"


def _read_limited(path: Path, limit: int) -> bytes:
    """Read a regular file; of a file larger than `limit`, read `limit` + 1 bytes.

    Raises:
        OSError: the path cannot be read, or is a device or pipe, which may never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    with path.open("rb") as file:
        # Python allocates the requested size up front.
        return file.read(min(limit, status.st_size) + 1)
