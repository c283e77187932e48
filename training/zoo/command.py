"""`python -m training zoo build DATA --out ZOO` builds the zoo; `document ZOO INDEX` describes it."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import click
import torch
from tqdm import tqdm

from edgeparse.bundle import default_folder
from training.evaluate.testset import PHOTO_SETS
from training.zoo import description, probe
from training.zoo.build import MIN_STEPS, TERA_MACS, Budget
from training.zoo.document import rendered
from training.zoo.families import REGISTRY
from training.zoo.files import split_of_name
from training.zoo.pool import build_all, prepare_photos
from training.zoo.space import draw

ROOT = Path(__file__).parent.parent.parent
RESULTS, DOCS = ROOT / "training" / "results", ROOT / "docs"


@click.group()
def main() -> None:
    """Build and describe the zoo of generators."""


@main.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the zoo.")
@click.option("--count", default=175, show_default=True, help="Generators per round, balanced over families.")
@click.option(
    "--rounds",
    default=4,
    show_default=True,
    help="Number of rounds. Another round adds generators and keeps the others. Generators numbered 50 and up are for training.",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["train", "val", "test"]),
    help="Build only generators of this split, which their number decides; may be repeated.  [default: all]",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the configs.")
@click.option("--families", default=",".join(REGISTRY), show_default=True, help="Comma-separated families.")
@click.option(
    "--tera-macs",
    default=TERA_MACS,
    show_default=True,
    help="Training budget of a generator in 10^12 multiply-accumulates.",
)
@click.option(
    "--min-steps", default=MIN_STEPS, show_default=True, help="Minimum number of training steps of a generator."
)
@click.option(
    "--pictures",
    default="120,30,50",
    show_default=True,
    help="Pictures per generator, from train, val and test photos.",
)
@click.option("--size", default=192, show_default=True, help="Side of a picture in pixels, a multiple of 16.")
@click.option(
    "--workers",
    default=multiprocessing.cpu_count(),
    show_default=True,
    help="Number of processes, with one thread each.",
)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
def build(
    data: Path,
    out: Path,
    count: int,
    rounds: int,
    splits: tuple[str, ...],
    seed: int,
    families: str,
    tera_macs: float,
    min_steps: int,
    pictures: str,
    size: int,
    workers: int,
    device: str,
) -> None:
    """Build the zoo from the photos in DATA into OUT, one file per generator. Skips finished generators."""
    out.mkdir(parents=True, exist_ok=True)
    photos = prepare_photos(data, out, size)
    budget = Budget(
        tera_macs, dict(zip(("train", "val", "test"), map(int, pictures.split(",")), strict=True)), min_steps=min_steps
    )
    configs = draw(count, seed, families.split(","), rounds)
    if splits:
        configs = [config for config in configs if split_of_name(config.name) in splits]
    for entry in build_all(configs, photos, budget, out, workers, device):
        tqdm.write(f"{entry['name']} {entry['steps']} steps {json.dumps(entry['quality'])}")


@main.command()
@click.argument("zoo", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("index", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--sheet",
    "sheet_file",
    type=click.Path(path_type=Path),
    help="Also write a contact sheet of all generators to this file.",
)
def document(zoo: Path, index: Path, sheet_file: Path | None) -> None:
    """Describe ZOO, probe its pictures in INDEX, and render docs/zoo.md.

    The page also shows what `training leakage` measured on the same index.
    """
    summary = description.describe(zoo)
    figures = probe.run(index)
    (RESULTS / "zoo.json").write_text(json.dumps(summary, indent=1) + "\n")
    (RESULTS / "zoo-probe.json").write_text(json.dumps(figures, indent=1) + "\n")
    (DOCS / "zoo.md").write_text(rendered(RESULTS, default_folder()))
    names = [entry["name"] for entry in summary["generators"] if entry["split"]]
    one_per_family = [next(n for n in names if n.startswith(f"{family}-")) for family in REGISTRY]
    description.sheet(zoo, one_per_family, columns=8, side=72, sets=PHOTO_SETS).save(DOCS / "zoo.webp", quality=80)
    if sheet_file:
        description.sheet(zoo, names, columns=12, side=64).save(sheet_file)
    click.echo(json.dumps(figures["heads"], indent=1))
