"""`python -m training COMMAND`: every step from a folder of pictures to an evaluated bundle."""

from __future__ import annotations

import importlib

import click

# Command -> "module:function", in the order of use. A command's module is imported only when the command runs.
COMMANDS = {
    "zoo": ("training.zoo.command:main", "Build and describe the zoo of generators."),
    "twins": ("training.data.twins:main", "Enlarge training photos with public super-resolution networks."),
    "index": ("training.data.index.command:main", "Write the index of all pictures."),
    "leakage": ("training.data.leakage:main", "Check that no photo, generator or label lies in two splits."),
    "train": ("training.fit.train:main", "Train a network."),
    "source-curve": ("training.fit.source_curve:main", "Train on fewer and fewer sources, to see how many are enough."),
    "left-out": ("training.evaluate.left_out:main", "Measure detection on public sources that training left out."),
    "content-rule": ("training.evaluate.content_rule:main", "Measure how many photos count as without content."),
    "evaluate": ("training.evaluate.run:main", "Evaluate a bundle."),
    "video": ("training.evaluate.video:main", "Measure a bundle on clips, by codec and rate."),
    "testset": ("training.evaluate.testset:main", "Write or check the small test set of the repository."),
    "report": ("training.report:main", "Render the model card and the accuracy page."),
}


class LazyGroup(click.Group):
    """A click group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, or return None if the name is unknown."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), function)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup)
def main() -> None:
    """Train and evaluate the networks of edgeparse."""


if __name__ == "__main__":
    main(prog_name="python -m training")
