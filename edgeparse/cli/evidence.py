"""`edgeparse evidence FILE...`: what files themselves say about where they came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgeparse.cli.options import examples, trust_option

EXIT_INPUT = 1


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@trust_option
@click.option("--no-pixels", is_flag=True, help="Skip the open watermarks, which need the decoded picture.")
@examples(
    "edgeparse evidence photo.jpg",
    "edgeparse evidence photo.jpg --json",
    "edgeparse evidence photo.jpg --trust anchors.pem",
)
@click.pass_context
def evidence(ctx: click.Context, files: tuple[Path, ...], as_json: bool, trust: Path | None, no_pixels: bool) -> None:
    """Show what each FILE says about its origin, and how far that was verified.

    Reads content credentials (C2PA), XMP, IPTC, EXIF, AIGC labels, generation parameters and open
    watermarks. Nothing is sent or fetched. No evidence does not mean that a picture is authentic.
    """
    anchors = trust.read_text(encoding="utf-8") if trust else None
    failed = False
    for path in files:
        failed |= not _show(path, as_json=as_json, trust=anchors, decode=not no_pixels)
    if failed:
        ctx.exit(EXIT_INPUT)


def _show(path: Path, *, as_json: bool, trust: str | None, decode: bool) -> bool:
    """Print one file's evidence; return False when it cannot be read."""
    from edgeparse import provenance
    from edgeparse.provenance import phrases

    try:
        found = provenance.read(path, trust=trust, decode=decode)
    except (OSError, ValueError) as error:
        if as_json:
            click.echo(json.dumps({"path": _printable(path), "error": str(error)}))
        click.echo(f"{_printable(path)}: {error}", err=True)
        return False
    if as_json:
        record: dict[str, Any] = {"path": _printable(path), "evidence": found.to_json()}
        click.echo(json.dumps(record, ensure_ascii=False))
        return True
    click.echo(click.style(_printable(path), bold=True))
    for line in phrases.lines(found):
        click.echo(f"  {line}")
    for clash in provenance.contradictions(found):
        click.echo(f"  Contradiction: {clash}")
    return True


def _printable(path: Path) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(path))
