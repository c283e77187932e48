"""`edgeparse`: the group of commands."""

from __future__ import annotations

import importlib
from typing import Any

import click
from click.exceptions import NoSuchCommand

from edgeparse import __version__
from edgeparse.cli.console import exit_on_closed_pipe, prepare_streams
from edgeparse.cli.options import examples


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    COMMANDS = (
        "bench",
        "build",
        "bundle",
        "check",
        "compare",
        "completion",
        "doctor",
        "evidence",
        "fingerprint",
        "gallery",
    )

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        prepare_streams()
        try:
            return super().make_context(*arguments, **extra)
        except BrokenPipeError:  # `edgeparse --help | true`
            exit_on_closed_pipe()

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            exit_on_closed_pipe()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"edgeparse.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            # click's own suggestions cover loaded commands only.
            raise NoSuchCommand(error.command_name, possibilities=self.list_commands(ctx), ctx=ctx) from None


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeparse")
@examples(
    "edgeparse check photo.jpg",
    "edgeparse check -r pictures --jsonl > reports.jsonl",
    "edgeparse check photo.jpg --report photo.html",
    "edgeparse evidence photo.jpg",
    "edgeparse compare a.png b.png",
    "edgeparse gallery add 'my model' generated/*.png",
    "edgeparse build --backend tensorrt",
    "edgeparse bench",
)
def main() -> None:
    """Detect generated images and identify the generator.

    Reports whether an image came from a camera or a generative model, from which model, and what that model is like inside.
    """
