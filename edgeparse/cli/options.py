"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click


class _BackendChoice(click.Choice[str]):
    """Names of the backends, looked up on first use: the lookup imports NumPy, which `--version` must not wait for."""

    def __init__(self) -> None:
        self.case_sensitive = True

    @property
    def choices(self) -> Sequence[str]:  # type: ignore[override]
        from edgeparse.backends.select import NAMES

        return NAMES


backend_option = click.option(
    "--backend", type=_BackendChoice(), default="auto", show_default=True, help="Library that runs the network."
)
bundle_option = click.option(
    "--bundle", type=click.Path(path_type=Path), help="Folder of a bundle; by default the one in the package."
)
windows_option = click.option(
    "--windows", type=click.IntRange(1, 64), default=8, show_default=True, help="Maximum number of windows per image."
)
gallery_option = click.option(
    "--gallery",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="EDGEPARSE_GALLERY",
    show_envvar=True,
    help="Folder of enrolled generators; by default your own.",
)
recursive_option = click.option("-r", "--recursive", is_flag=True, help="Read folders recursively.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Hide progress and notices, but not errors.")
# An unreadable image is a failed input, not a usage error.
PICTURE = click.Path(allow_dash=True, readable=False)
pictures_argument = click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=PICTURE)


def examples(*lines: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Append examples to the help of a command, one per line."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        function.__doc__ = f"{function.__doc__}\n\n    \b\n    Examples:\n" + "\n".join(
            f"      {line}" for line in lines
        )
        return function

    return add


trust_option = click.option(
    "--trust",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Trust the certificates in this PEM file when content credentials are verified.",
)
