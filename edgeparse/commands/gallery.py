"""`edgeparse gallery`: the user's own known generators."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from edgeparse.commands.common import (
    EXIT_INPUT,
    Interruptible,
    backend_option,
    bundle_option,
    errors_end_the_run,
    examples,
    expand,
    fail,
    gallery_option,
    notice,
    open_parser,
    pictures_argument,
    progress_console,
    quiet_option,
    recursive_option,
    sources_of,
    track,
    user_gallery,
    windows_option,
    writable,
)
from edgeparse.errors import BundleError, EdgeparseError, ImageError
from edgeparse.text import printable

if TYPE_CHECKING:
    from edgeparse.bundle import Bundle
    from edgeparse.enrolment import Store


def _store(folder: Path | None, bundle: Path | None) -> Store:
    from edgeparse.bundle import open_bundle
    from edgeparse.enrolment import Store

    return Store(folder or user_gallery(), open_bundle(bundle))


def _enrolled(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Enrolled names, for the shell; whatever is wrong with the gallery is not said in the middle of a line."""
    try:
        entries = _store(ctx.params.get("gallery"), ctx.params.get("bundle")).entries()
    except EdgeparseError:
        return []
    return [CompletionItem(entry.name) for entry in entries if entry.name.startswith(begun)]


@click.group()
@examples(
    "edgeparse gallery add 'my model' generated/*.png",
    "edgeparse check suspect.png --explain",
    "edgeparse gallery export mine.npz && edgeparse gallery import mine.npz",
)
def gallery() -> None:
    """Remember generators by ten pictures or more of each, so that check can name them.

    What is kept is a few kilobytes of numbers a picture, neither the pictures nor their paths. They belong to the network of a bundle:
    another network's have to be made again from the pictures.
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
    """Enrol the generator NAME by pictures that it made, ten or more; or add pictures to one that is enrolled."""
    import numpy as np

    from edgeparse.enrolment import Store, check_name

    try:
        check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error
    names = expand(paths, recursive, quiet)
    vectors, failed, photos = [], 0, 0
    run = Interruptible()
    with errors_end_the_run(), run.listening():
        parser = open_parser(backend, bundle, windows)
        sources = track(sources_of(names), len(names), progress_console(quiet), "looking")
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
            raise KeyboardInterrupt  # half of the pictures are not what was asked for
        if photos:
            notice(f"{photos} of {len(vectors)} look like camera photos; are they this generator's?", quiet)
        if not vectors:
            fail("none of the pictures could be read", EXIT_INPUT)
        entry = Store(gallery or user_gallery(), parser.bundle).add(name, np.stack(vectors))
        click.echo(f"{entry.name}: {entry.pictures} pictures")
    if failed:
        sys.exit(EXIT_INPUT)


@gallery.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@bundle_option
@gallery_option
@examples("edgeparse gallery list", "edgeparse gallery list --json")
def list_(as_json: bool, bundle: Path | None, gallery: Path | None) -> None:
    """List the enrolled generators, and those that the bundle knows by itself."""
    with errors_end_the_run():
        from edgeparse.bundle import open_bundle

        store, opened = _store(gallery, bundle), open_bundle(bundle)
        entries, others, own = store.entries(), store.others(), _of(opened)
        if as_json:
            listed = {"generators": [asdict(entry) for entry in entries], "others": others, "bundle": own}
            click.echo(json.dumps(listed, indent=2, allow_nan=False))
            return
        for entry in entries:
            click.echo(f"{entry.name}  {entry.pictures} pictures, changed {entry.changed[:10]}")
        for name in own:
            instead = ", of which yours is used" if name in {entry.name for entry in entries} else ""
            click.echo(printable(f"{name}  of the bundle {opened.label}{instead}"))
        if not entries:
            click.echo("none of your own yet: edgeparse gallery add NAME FILES...", err=True)
        for label, names in others.items():
            click.echo(f"of bundle {label}, to be enrolled again for this one: {', '.join(names)}", err=True)


@gallery.command()
@click.argument("name", shell_complete=_enrolled)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@bundle_option
@gallery_option
@examples("edgeparse gallery show 'my model'")
def show(name: str, as_json: bool, bundle: Path | None, gallery: Path | None) -> None:
    """Show one enrolled generator: how alike its pictures are, and which other known ones come close."""
    with errors_end_the_run():
        shown = _describe(name, bundle, gallery)
        if as_json:
            click.echo(json.dumps(shown, indent=2, allow_nan=False))
            return
        click.echo(
            f"{name}: {shown['pictures']} pictures, added {shown['added'][:10]}, changed {shown['changed'][:10]}"
        )
        mean, least, needed = (shown["similarity"][key] for key in ("mean", "least", "needed"))
        click.echo(
            f"similarity of its pictures to their centre: {mean:.3f} on average, {least:.3f} at least; named from about {needed:.3f} on, "
            "by the picture"
        )
        for near in shown["nearest"]:
            mark = "  (near enough to be taken for it)" if near["similarity"] >= needed else ""
            click.echo(printable(f"  {near['name']}  {near['similarity']:.3f}{mark}"))


def _of(bundle: Bundle) -> list[str]:
    """The generators that a bundle names by itself."""
    from edgeparse.gallery import Gallery

    if "attribution" in bundle.outputs:
        return [name for name in bundle.attribution if name != "camera"]
    return list(Gallery.load(bundle.read(bundle.gallery)).names) if bundle.gallery else []


def _describe(name: str, bundle: Path | None, folder: Path | None) -> dict[str, Any]:
    from edgeparse.bundle import open_bundle
    from edgeparse.gallery import Gallery, centre, usual

    store, opened = _store(folder, bundle), open_bundle(bundle)
    vectors = store.vectors(name)
    if opened.calibration is None:
        raise BundleError(f"bundle {opened.label} has no threshold from which a generator is named; export it again")
    (entry,) = (entry for entry in store.entries() if entry.name == name)
    middle = centre(vectors)
    own = Gallery.load(opened.read(opened.gallery)) if opened.gallery else Gallery.empty()
    known = store.gallery().over(own)
    similar = vectors @ middle
    needed = opened.calibration.needed(enrolled=True, usual=float(usual(known.background, vectors).mean()))
    return asdict(entry) | {
        "similarity": {
            "mean": float(similar.mean()),
            "least": float(similar.min()),
            "needed": needed,
        },
        "nearest": [
            {"name": other, "similarity": similarity} for other, similarity in known.nearest(middle, 6) if other != name
        ][:5],
    }


@gallery.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_enrolled)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@bundle_option
@gallery_option
@examples("edgeparse gallery remove 'my model'")
def remove(names: tuple[str, ...], yes: bool, bundle: Path | None, gallery: Path | None) -> None:
    """Forget enrolled generators. In a terminal it asks first: only the pictures bring them back."""
    with errors_end_the_run():
        store = _store(gallery, bundle)
        for name in names:
            store.vectors(name)  # all are there, or none is removed
        if not yes and sys.stdin is not None and sys.stdin.isatty():
            click.confirm(f"Forget {', '.join(names)}?", abort=True)
        for name in names:
            store.remove(name)
            click.echo(f"forgot {name}")


@gallery.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_enrolled)
@bundle_option
@gallery_option
@examples("edgeparse gallery export mine.npz", "edgeparse gallery export one.npz 'my model'")
def export(file: Path, names: tuple[str, ...], bundle: Path | None, gallery: Path | None) -> None:
    """Write enrolled generators, by default all, to FILE for another machine."""
    writable(file, [".npz"])
    with errors_end_the_run():
        for entry in _store(gallery, bundle).export(file, names):
            click.echo(f"{entry.name}: {entry.pictures} pictures")


@gallery.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@bundle_option
@gallery_option
@examples("edgeparse gallery import mine.npz")
def import_(file: Path, bundle: Path | None, gallery: Path | None) -> None:
    """Add the generators of an exported FILE; one of a name that is here gets the pictures of both."""
    with errors_end_the_run():
        for entry in _store(gallery, bundle).take(file):
            click.echo(f"{entry.name}: {entry.pictures} pictures")
