"""`edgeparse completion`: the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edgeparse.cli.console import exit_on_error
from edgeparse.cli.options import examples

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@examples(
    "edgeparse completion bash > ~/.local/share/bash-completion/completions/edgeparse",
    "edgeparse completion zsh > ~/.zfunc/_edgeparse   # a folder of your $fpath",
    "edgeparse completion fish > ~/.config/fish/completions/edgeparse.fish",
)
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None
    with exit_on_error():
        click.echo(kind(ctx.find_root().command, {}, "edgeparse", "_EDGEPARSE_COMPLETE").source())
