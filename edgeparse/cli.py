"""The command line: arguments in, the parser's answers out, nothing decided here but how they look."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeparse import __version__
from edgeparse.backends.flavours import FLAVOURS
from edgeparse.backends.select import NAMES
from edgeparse.build import BATCHES
from edgeparse.errors import BackendError, BundleError, ImageError

if TYPE_CHECKING:
    from edgeparse.backends.compiler import Progress
    from edgeparse.images import Source
    from edgeparse.parser import Parser
    from edgeparse.report import Report

EXIT_INPUT = 1
EXIT_SETUP = 3

# What a folder is searched for; a file that is named is read whatever its name.
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".ppm", ".jp2"]
)

_backend = click.option(
    "--backend", type=click.Choice(NAMES), default="auto", show_default=True, help="What runs the network."
)
_bundle = click.option(
    "--bundle", type=click.Path(path_type=Path), help="A bundle's folder; by default the one in the package."
)
_windows = click.option(
    "--windows", type=click.IntRange(1, 64), default=8, show_default=True, help="Most windows looked at in a picture."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeparse")
def main() -> None:
    """Was a picture made by a camera or by a generative model, by which one, and what is that model like inside?

    \b
    edgeparse check photo.jpg
    edgeparse check -r pictures --jsonl > reports.jsonl
    edgeparse fingerprint photo.jpg -o fingerprint.png
    edgeparse build --backend tensorrt
    """


@main.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--recursive", is_flag=True, help="Look into folders.")
@click.option("--json", "as_json", is_flag=True, help="One JSON list of reports.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="One JSON report a line, each as it is done.")
@click.option(
    "--fingerprint",
    "fingerprint_file",
    type=click.Path(path_type=Path),
    help="Write the fingerprint of one picture to this PNG.",
)
@_backend
@_bundle
@_windows
def check(
    paths: tuple[str, ...],
    recursive: bool,
    as_json: bool,
    as_jsonl: bool,
    fingerprint_file: Path | None,
    backend: str,
    bundle: Path | None,
    windows: int,
) -> None:
    """Report on pictures: files, folders with -r, or - for standard input.

    Exit status: 0 all were read, 1 some could not be read, 2 wrong usage, 3 no usable bundle or backend.
    """
    if as_json and as_jsonl:
        raise click.UsageError("--json and --jsonl exclude each other; take --jsonl for many pictures")
    names = list(_expand(paths, recursive))
    if fingerprint_file is not None and len(names) != 1:
        raise click.UsageError(f"--fingerprint takes one picture, {len(names)} were given")
    with _setup_errors():
        parser = _open(backend, bundle, windows)
        if fingerprint_file is not None and names == ["-"]:
            raise click.UsageError("--fingerprint reads the picture a second time, which - cannot; name a file")
        sources: Iterator[Source] = (sys.stdin.buffer if name == "-" else name for name in names)
        reports = _progress(parser.parse_many(sources), len(names))
        if as_json:
            done = list(reports)
            click.echo(json.dumps([report.to_json() for report in done], indent=2))
        elif as_jsonl:
            done = []
            for report in reports:
                click.echo(json.dumps(report.to_json()))
                done.append(report)
        else:
            from edgeparse.table import show

            done = show(reports)
        if fingerprint_file is not None and done[0].status == "ok":
            _write_fingerprint(parser, names[0], fingerprint_file)
    if any(report.status == "error" for report in done):
        sys.exit(EXIT_INPUT)


@main.command()
@click.argument("image")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="PNG to write.")
@click.option(
    "--spectrum", is_flag=True, help="Write the windows' mean spectrum instead, where up-sampling leaves peaks."
)
@_backend
@_bundle
@_windows
def fingerprint(image: str, output: Path, spectrum: bool, backend: str, bundle: Path | None, windows: int) -> None:
    """Write the fingerprint of IMAGE as a picture, amplified, its windows side by side."""
    with _setup_errors():
        parser = _open(backend, bundle, windows)
        try:
            _write_fingerprint(parser, image, output, spectrum=spectrum)
        except ImageError as error:
            click.echo(f"error: {image}: {error.kind}: {error}", err=True)
            sys.exit(EXIT_INPUT)


@main.command()
@click.option(
    "--backend",
    "flavour",
    type=click.Choice(tuple(FLAVOURS)),
    default="tensorrt",
    show_default=True,
    help="Which library to compile with.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Of the bundle's models, the one of this precision; by default the best for a GPU.",
)
@click.option(
    "--batch",
    default=",".join(map(str, BATCHES)),
    show_default=True,
    help="Smallest, usual and largest number of windows in a run, or one number.",
)
@click.option(
    "--compute-capability",
    help="Compile for these GPUs, as sm86,sm89, instead of the one here (tensorrt-rtx only).",
)
@click.option("--workspace", type=click.IntRange(1), metavar="MIB", help="Most memory that the compiler may use.")
@click.option("--dla", type=click.IntRange(0), metavar="CORE", help="Compile for a DLA core (one batch size).")
@_bundle
def build(
    flavour: str,
    precision: str | None,
    batch: str,
    compute_capability: str | None,
    workspace: int | None,
    dla: int | None,
    bundle: Path | None,
) -> None:
    """Compile the network into a TensorRT engine and keep it in the cache, where `--backend auto` finds it.

    Prints the engine's file. Nothing is compiled twice.
    """
    from edgeparse import build as builder
    from edgeparse.backends.plans import Store
    from edgeparse.bundle import open_bundle

    try:
        batches = builder.parse_batches(batch)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--batch") from error
    capabilities = tuple(compute_capability.split(",")) if compute_capability else ()
    order = builder.Order(flavour, precision, batches, capabilities, workspace, dla)
    store = Store()
    with _setup_errors():
        with _compiling() as progress:
            record, compiled = builder.build(open_bundle(bundle), order, store, progress)
        key = record.key
        done = f"compiled in {record.seconds:.1f} s" if compiled else "was compiled before"
        click.echo(
            f"{key.flavour} {key.version}, {key.precision}, {key.gpu or ', '.join(key.capabilities)}, "
            f"{record.bytes / 1e6:.1f} MB, {done}",
            err=True,
        )
        click.echo(store.folder / record.file)


@contextlib.contextmanager
def _compiling() -> Iterator[Progress | None]:
    """A line on standard error that says what the compiler is doing; only in a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("compiling") as status:
        yield lambda phase, step, steps: status.update(f"compiling: {phase} {step}/{steps}")


@main.command()
@_bundle
def doctor(bundle: Path | None) -> None:
    """Say what can run here, what `auto` takes and why, what stands in the way of an engine, and the bundle's hash."""
    from edgeparse.doctor import examine

    healthy = True
    for line in examine(bundle):
        mark = {True: "ok  ", False: "--  ", None: "    "}[line.good]
        click.echo(f"{mark}{line.name}: {line.text}")
        healthy = healthy and not (line.required and line.good is False)
    if not healthy:
        sys.exit(EXIT_SETUP)


def _open(backend: str, bundle: Path | None, windows: int) -> Parser:
    from edgeparse.parser import Parser

    return Parser(bundle=bundle, backend=backend, windows=windows)


@contextlib.contextmanager
def _setup_errors() -> Iterator[None]:
    try:
        yield
    except (BundleError, BackendError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_SETUP)
    except BrokenPipeError:
        # The reader, `head` say, has seen enough; keep the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_INPUT)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)


def _expand(paths: Iterable[str], recursive: bool) -> Iterator[str]:
    for path in paths:
        if path == "-" or not os.path.isdir(path):
            yield path
        elif not recursive:
            raise click.UsageError(f"{path} is a folder; add -r to look into it")
        else:
            found = sorted(
                str(file) for file in Path(path).rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()
            )
            if not found:
                raise click.UsageError(f"there is no picture in {path} (looked for {' '.join(sorted(SUFFIXES))})")
            yield from found


def _progress(reports: Iterator[Report], count: int) -> Iterator[Report]:
    """A progress bar on standard error, for people with patience to spare: only in a terminal, only when results go elsewhere."""
    if count < 3 or not sys.stderr.isatty() or sys.stdout.isatty():
        yield from reports
        return
    with click.progressbar(reports, length=count, label="checking", file=sys.stderr, show_eta=True) as bar:
        yield from bar


def _write_fingerprint(parser: Parser, image: str, output: Path, spectrum: bool = False) -> None:
    import numpy as np
    from PIL import Image

    from edgeparse import render

    windows = parser.fingerprint(sys.stdin.buffer if image == "-" else image)
    picture = (
        render.spectrum_picture(windows)
        if spectrum
        else np.concatenate([render.fingerprint_picture(w) for w in windows], axis=1)
    )
    try:
        Image.fromarray(picture).save(output, format="PNG")
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror or error}") from error
