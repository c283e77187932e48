"""`edgeparse gallery`: the user's own known generators."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from edgeparse.cli.console import (
    EXIT_INPUT,
    Interruptible,
    exit_on_error,
    fail,
    notice,
    progress_console,
    track,
)
from edgeparse.cli.inputs import check_output_path, collect_inputs, open_parser, sources_of, user_gallery
from edgeparse.cli.options import (
    backend_option,
    bundle_option,
    examples,
    gallery_option,
    pictures_argument,
    quiet_option,
    recursive_option,
    windows_option,
)
from edgeparse.errors import BundleError, EdgeparseError, ImageError
from edgeparse.render.phrases import printable

if TYPE_CHECKING:
    from edgeparse.bundle import Bundle
    from edgeparse.gallery_store import GalleryStore


def _store(folder: Path | None, bundle: Path | None) -> GalleryStore:
    from edgeparse.bundle import open_bundle
    from edgeparse.gallery_store import GalleryStore

    return GalleryStore(folder or user_gallery(), open_bundle(bundle))


def _complete_name(ctx: click.Context, _parameter: click.Parameter, prefix: str) -> list[CompletionItem]:
    """Complete enrolled names. Errors are ignored, because a message would disturb the command line."""
    try:
        entries = _store(ctx.params.get("gallery"), ctx.params.get("bundle")).entries()
    except EdgeparseError:
        return []
    return [CompletionItem(entry.name) for entry in entries if entry.name.startswith(prefix)]


@click.group()
@examples(
    "edgeparse gallery add 'my model' generated/*.png",
    "edgeparse check suspect.png --explain",
    "edgeparse gallery export mine.npz && edgeparse gallery import mine.npz",
)
def gallery() -> None:
    """Enrol generators, so that check names them.

    A generator is enrolled by ten or more of its images. A gallery keeps a few kilobytes of numbers per image, but neither
    images nor paths. They belong to a bundle's network: another network needs the images again.
    """


@gallery.command()
@click.argument("name")
@pictures_argument
@recursive_option
@quiet_option
@backend_option
@bundle_option
@windows_option
@gallery_option
@examples("edgeparse gallery add 'my model' generated/*.png", "edgeparse gallery add 'my model' -r more-of-it")
def add(
    name: str,
    paths: tuple[str, ...],
    recursive: bool,
    quiet: bool,
    backend: str,
    bundle: Path | None,
    windows: int,
    gallery: Path | None,
) -> None:
    """Enrol the generator NAME, or add images to it.

    A new generator needs ten or more images.
    """
    import numpy as np

    from edgeparse.gallery_store import GalleryStore, check_name

    try:
        check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    names = collect_inputs(paths, recursive, quiet)
    vectors, failed, photos = [], 0, 0
    run = Interruptible()
    with exit_on_error(), run.listening():
        parser = open_parser(backend, bundle, windows)
        sources = track(sources_of(names), len(names), progress_console(quiet), "analysing")
        for source in run.until(sources):
            try:
                report, vector = parser.embed(source)
            except ImageError as error:
                failed += 1
                click.echo(printable(f"error: {getattr(source, 'name', source)}: {error.kind}: {error}"), err=True)
                continue
            photos += report.verdict == "camera"
            vectors.append(vector)
        if run.interrupted:
            raise KeyboardInterrupt  # enrolling only some of the images was not requested
        if photos:
            notice(
                f"{photos} of {len(vectors)} images look like camera photos; check that this generator made them", quiet
            )
        if not vectors:
            fail("no image could be read", EXIT_INPUT)
        entry = GalleryStore(gallery or user_gallery(), parser.bundle).add(name, np.stack(vectors))
        click.echo(f"{entry.name}: {entry.pictures} images")
    if failed:
        sys.exit(EXIT_INPUT)


@gallery.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@bundle_option
@gallery_option
@examples("edgeparse gallery list", "edgeparse gallery list --json")
def list_(as_json: bool, bundle: Path | None, gallery: Path | None) -> None:
    """List enrolled generators and the bundle's own."""
    with exit_on_error():
        from edgeparse.bundle import open_bundle

        store, opened = _store(gallery, bundle), open_bundle(bundle)
        entries, others, own = store.entries(), store.other_networks(), _bundle_generators(opened)
        if as_json:
            listed = {"generators": [asdict(entry) for entry in entries], "others": others, "bundle": own}
            click.echo(json.dumps(listed, indent=2, allow_nan=False))
            return
        for entry in entries:
            click.echo(f"{entry.name}  {entry.pictures} images, changed {entry.changed[:10]}")
        for name in own:
            overridden = ", replaced by yours" if name in {entry.name for entry in entries} else ""
            click.echo(printable(f"{name}  from the bundle {opened.label}{overridden}"))
        if not entries:
            click.echo("you have enrolled no generator; run edgeparse gallery add NAME FILES...", err=True)
        for label, names in others.items():
            click.echo(f"enrolled with bundle {label}, enrol again for this bundle: {', '.join(names)}", err=True)


@gallery.command()
@click.argument("name", shell_complete=_complete_name)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@bundle_option
@gallery_option
@examples("edgeparse gallery show 'my model'")
def show(name: str, as_json: bool, bundle: Path | None, gallery: Path | None) -> None:
    """Show details of an enrolled generator.

    Shows how similar its images are, and the nearest other generators.
    """
    with exit_on_error():
        shown = _describe(name, bundle, gallery)
        if as_json:
            click.echo(json.dumps(shown, indent=2, allow_nan=False))
            return
        click.echo(f"{name}: {shown['pictures']} images, added {shown['added'][:10]}, changed {shown['changed'][:10]}")
        mean, least, threshold = (shown["similarity"][key] for key in ("mean", "min", "threshold"))
        click.echo(
            f"similarity of its images to their centroid: mean {mean:.3f}, minimum {least:.3f}; threshold about {threshold:.3f}, "
            "depending on the image"
        )
        for near in shown["nearest"]:
            mark = "  (may be confused with it)" if near["similarity"] >= threshold else ""
            click.echo(printable(f"  {near['name']}  {near['similarity']:.3f}{mark}"))


def _bundle_generators(bundle: Bundle) -> list[str]:
    """Return the generators that a bundle can name."""
    from edgeparse.gallery import Gallery

    if "attribution" in bundle.outputs:
        return [name for name in bundle.attribution if name != "camera"]
    return list(Gallery.load(bundle.read(bundle.gallery)).names) if bundle.gallery else []


def _describe(name: str, bundle: Path | None, folder: Path | None) -> dict[str, Any]:
    from edgeparse.bundle import open_bundle
    from edgeparse.gallery import Gallery, centroid, cohort_similarity

    store, opened = _store(folder, bundle), open_bundle(bundle)
    vectors = store.vectors(name)
    if opened.calibration is None:
        raise BundleError(f"bundle {opened.label} has no threshold for naming generators; export it again")
    (entry,) = (entry for entry in store.entries() if entry.name == name)
    centre = centroid(vectors)
    own = Gallery.load(opened.read(opened.gallery)) if opened.gallery else Gallery.empty()
    known = store.gallery().over(own)
    similarity = vectors @ centre
    cohort = float(cohort_similarity(known.cohort, vectors).mean())
    return asdict(entry) | {
        "similarity": {
            "mean": float(similarity.mean()),
            "min": float(similarity.min()),
            "threshold": opened.calibration.threshold(enrolled=True, cohort_similarity=cohort),
        },
        "nearest": [
            {"name": other, "similarity": similarity} for other, similarity in known.nearest(centre, 6) if other != name
        ][:5],
    }


@gallery.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_complete_name)
@click.option("-y", "--yes", is_flag=True, help="Skip the confirmation.")
@bundle_option
@gallery_option
@examples("edgeparse gallery remove 'my model'")
def remove(names: tuple[str, ...], yes: bool, bundle: Path | None, gallery: Path | None) -> None:
    """Remove enrolled generators.

    In a terminal it asks for confirmation, because only the images can restore them.
    """
    with exit_on_error():
        store = _store(gallery, bundle)
        for name in names:
            store.vectors(name)  # raises for an unknown name before anything is removed
        if not yes and sys.stdin is not None and sys.stdin.isatty():
            click.confirm(f"Remove {', '.join(names)}?", abort=True)
        for name in names:
            store.remove(name)
            click.echo(f"removed {name}")


@gallery.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_complete_name)
@bundle_option
@gallery_option
@examples("edgeparse gallery export mine.npz", "edgeparse gallery export one.npz 'my model'")
def export(file: Path, names: tuple[str, ...], bundle: Path | None, gallery: Path | None) -> None:
    """Write enrolled generators to FILE.

    Writes the named generators, by default all, for another machine.
    """
    check_output_path(file, [".npz"])
    with exit_on_error():
        for entry in _store(gallery, bundle).export_file(file, names):
            click.echo(f"{entry.name}: {entry.pictures} images")


@gallery.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@bundle_option
@gallery_option
@examples("edgeparse gallery import mine.npz")
def import_(file: Path, bundle: Path | None, gallery: Path | None) -> None:
    """Add the generators of an exported FILE.

    For a name that exists, the images are merged.
    """
    with exit_on_error():
        for entry in _store(gallery, bundle).import_file(file):
            click.echo(f"{entry.name}: {entry.pictures} images")
