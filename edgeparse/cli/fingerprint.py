"""`edgeparse fingerprint`: the fingerprint of an image, as a picture or as numbers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeparse.cli.console import EXIT_INPUT, exit_on_error
from edgeparse.cli.inputs import check_output_path, open_parser, reject_url, standard_input, write_file
from edgeparse.cli.options import PICTURE, backend_option, bundle_option, examples, windows_option
from edgeparse.errors import ImageError
from edgeparse.render.phrases import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".png", ".npy")


@click.command()
@click.argument("image", type=PICTURE)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Output file: PNG, or .npy with float32[N, 3, S, S], where S is the bundle's window (128 by default).",
)
@click.option(
    "--spectrum", is_flag=True, help="Write the mean spectrum of the windows instead; upsampling leaves peaks in it."
)
@backend_option
@bundle_option
@windows_option
@examples(
    "edgeparse fingerprint photo.jpg -o fingerprint.png",
    "edgeparse fingerprint photo.jpg -o spectrum.png --spectrum",
    "edgeparse fingerprint photo.jpg -o fingerprint.npy",
)
def fingerprint(image: str, output: Path, spectrum: bool, backend: str, bundle: Path | None, windows: int) -> None:
    """Write the fingerprint of IMAGE.

    A PNG shows it amplified, with the windows side by side; .npy holds the numbers. Exit status: as for check.
    """
    reject_url(image)
    if image != "-" and os.path.isdir(image):
        raise click.UsageError(printable(f"IMAGE must be a file, got the folder {image}"))
    check_output_path(output, SUFFIXES, [image])
    with exit_on_error():
        parser = open_parser(backend, bundle, windows)
        try:
            write_fingerprint(parser.fingerprint(standard_input() if image == "-" else image), output, spectrum)
        except ImageError as error:
            click.echo(printable(f"error: {image}: {error.kind}: {error}"), err=True)
            sys.exit(EXIT_INPUT)


def write_fingerprint(windows: NDArray[np.float32], output: Path, spectrum: bool = False) -> None:
    """Write float32[N, 3, S, S] as a picture, or as an array if the file ends in .npy."""
    import io

    import numpy as np

    from edgeparse.render import pictures

    if output.suffix.lower() == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, pictures.spectrum(windows) if spectrum else windows)
        data = buffer.getvalue()
    elif spectrum:
        data = pictures.png(pictures.spectrum_picture(windows))
    else:
        data = pictures.png(np.concatenate([pictures.fingerprint_picture(window) for window in windows], axis=1))
    write_file(output, data)
