"""The command `python -m training experiments`."""

from __future__ import annotations

import click

from training.experiments import ablations, retrained_generators, spectral_lines


@click.group("experiments")
def main() -> None:
    """Run an experiment and store its results in training/results."""


main.add_command(ablations.main)
main.add_command(retrained_generators.main)
main.add_command(spectral_lines.main)

if __name__ == "__main__":
    main()
