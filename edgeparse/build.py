"""Compile a bundle's network for the GPU here, or for GPUs elsewhere, and keep the engine where the runtime looks for it."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from edgeparse.backends import compiler, cuda, flavours
from edgeparse.backends.batches import BATCHES
from edgeparse.backends.compiler import Progress
from edgeparse.backends.plans import Key, Place, Record, Store
from edgeparse.backends.tensorrt import TensorRTBackend
from edgeparse.bundle import Bundle
from edgeparse.errors import BackendError, EngineDamagedError
from edgeparse.precision import variant_for

# Of the name of a variant that is made for TensorRT; an engine's precision goes without.
_OWN = "-tensorrt"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What to compile. Without `capabilities` it is compiled for the GPU here. `precision` None is the bundle's best for a GPU."""

    flavour: str = "tensorrt"
    precision: str | None = None
    batches: tuple[int, int, int] = BATCHES
    capabilities: tuple[str, ...] = ()
    workspace: int | None = None
    dla: int | None = None


def command(flavour: str, precision: str | None = None) -> str:
    """What a person types to compile an engine."""
    return f"edgeparse build --backend {flavour}" + (f" --precision {precision}" if precision else "")


def key_of(bundle: Bundle, order: Order) -> tuple[Key, bytes]:
    """The key that an order comes to on this machine, and the model file's bytes.

    Raises:
        BundleError: the bundle has no model of that precision for TensorRT.
        BackendError: the library is missing, there is no GPU and no compute capability was named, or the order contradicts itself.
    """
    flavour = flavours.flavour(order.flavour)
    variant = variant_for(bundle, order.flavour, order.precision)
    model = bundle.model(variant)
    if order.capabilities and not flavour.capabilities:
        raise BackendError(
            f"{flavour.name} compiles only for the GPU that it runs on; leave the compute capability out"
        )
    version = flavours.library(flavour).__version__
    gpu = None if order.capabilities else cuda.gpu()
    key = Key(
        onnx=hashlib.sha256(model).hexdigest(),
        flavour=flavour.name,
        version=version,
        capabilities=tuple(sorted(order.capabilities)) or ((gpu.capability,) if gpu else ()),
        gpu=gpu.name if gpu is not None and not flavour.capabilities else None,
        system=flavours.system(),
        precision=variant.removesuffix(_OWN),
        batches=order.batches,
        workspace=order.workspace,
        dla=order.dla,
        tf32=variant in bundle.tf32,
    )
    compiler.check(key, flavour)
    return key, model


def build(bundle: Bundle, order: Order, store: Store, progress: Progress | None = None) -> tuple[Record, bool]:
    """Compile an engine, or find the one that was compiled from the same; the second value is whether it was compiled now.

    Two processes that want the same engine compile it once: the other waits. A damaged one is compiled again; one that others may
    have written is refused, and so is never mistaken for damage.

    Raises:
        BundleError: the bundle has no such model, or a damaged one.
        BackendError: one of its subclasses says what is missing or was refused.
    """
    key, model = key_of(bundle, order)
    with store.lock(key):
        present = store.get(key)
        if present is not None:
            try:
                store.read(present)
            except EngineDamagedError as error:
                _log.warning("compiled anew: %s", error)
            else:
                return present, False
        compiled = compiler.compile_engine(model, key, progress)
        record = Record(
            key=key,
            sha256=hashlib.sha256(compiled.plan).hexdigest(),
            bytes=len(compiled.plan),
            tensors=compiled.tensors,
            bundle=bundle.label,
            seconds=round(compiled.seconds, 3),
        )
        store.write(record, compiled.plan)
    return record, True


def models_of(bundle: Bundle) -> frozenset[str]:
    """The hashes of the bundle's models, as its manifest states them: an engine of any of them answers for the bundle."""
    return frozenset(bundle.hashes[file] for file in bundle.variants.values() if file in bundle.hashes)


def find(bundle: Bundle, flavour_name: str, store: Store, precision: str | None = None) -> Record:
    """The engine of a bundle that fits the library and the GPU here: of the precision that is named, else of the bundle's best for a
    GPU where there is one; not one for a DLA core where there is another.

    Raises:
        EngineMissingError, EngineMismatchError: there is none, why, and how to compile one.
        LibraryMissingError, DriverError, NoDeviceError: nothing can run here.
    """
    flavour = flavours.flavour(flavour_name)
    version = flavours.library(flavour).__version__
    gpu = cuda.gpu()
    place = Place(flavour.name, version, gpu.capability, gpu.name, flavours.system(), models_of(bundle))
    preferred = variant_for(bundle, flavour.name).removesuffix(_OWN)
    wanted = precision.removesuffix(_OWN) if precision else None
    return store.find(place, command(flavour.name, wanted), wanted, preferred)


def built_for(bundle: Bundle, flavour_name: str, store: Store) -> bool:
    """Whether any engine of this bundle and flavour was ever compiled; loads no library."""
    models = models_of(bundle)
    return any(r.key.flavour == flavour_name and r.key.onnx in models for r in store.records())


def load(bundle: Bundle, flavour_name: str, store: Store, precision: str | None = None) -> TensorRTBackend:
    """The engine that `find` finds, loaded.

    Raises:
        BackendError: as `find`, or the engine is damaged or the GPU has not enough memory.
    """
    record = find(bundle, flavour_name, store, precision)
    return TensorRTBackend(record, store.read(record), store.runtime_cache(record))
