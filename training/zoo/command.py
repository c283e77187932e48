"""`python -m training zoo build DATA --out ZOO`: build the zoo, or go on with it; `document ZOO INDEX`: say what is in it."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import click
import torch
from tqdm import tqdm

from edgeparse.bundle import default_folder
from training.pack import PHOTO_SETS
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
    """Generators that this project builds and trains itself, with exact labels."""


@main.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The zoo's folder.")
@click.option("--count", default=175, show_default=True, help="Generators a round, balanced over families.")
@click.option(
    "--rounds",
    default=4,
    show_default=True,
    help="How many rounds; the zoo grows by one without another draw. Numbers from 50 of a family are for training.",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["train", "val", "test"]),
    help="Only generators that are of this split by their number, val and test say, for an evaluation; may be repeated.  [default: all]",
)
@click.option("--seed", default=0, show_default=True, help="The same seed draws the same configs.")
@click.option("--families", default=",".join(REGISTRY), show_default=True, help="Which families, by commas.")
@click.option(
    "--tera-macs", default=TERA_MACS, show_default=True, help="Training a generator, in 10^12 multiply-accumulates."
)
@click.option("--min-steps", default=MIN_STEPS, show_default=True, help="Steps that even a costly generator gets.")
@click.option(
    "--pictures", default="120,30,50", show_default=True, help="Pictures a generator: train, val, test photos."
)
@click.option("--size", default=192, show_default=True, help="Side of a picture, a multiple of 16.")
@click.option("--workers", default=multiprocessing.cpu_count(), show_default=True, help="Processes, one thread each.")
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
    """Build the zoo from the photos in DATA into OUT: one file a generator. What is there already is kept."""
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
    "--sheet", "sheet_file", type=click.Path(path_type=Path), help="Also write the whole zoo's contact sheet here."
)
def document(zoo: Path, index: Path, sheet_file: Path | None) -> None:
    """Describe the ZOO, probe its pictures in INDEX, and render docs/zoo.md from these and from what `training leakage` and
    `training throughput` found in the same index."""
    found = description.describe(zoo)
    figures = probe.run(index)
    (RESULTS / "zoo.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "zoo-probe.json").write_text(json.dumps(figures, indent=1) + "\n")
    (DOCS / "zoo.md").write_text(rendered(RESULTS, default_folder()))
    names = [entry["name"] for entry in found["generators"] if entry["split"]]
    every_kind = [next(n for n in names if n.startswith(f"{family}-")) for family in REGISTRY]
    description.sheet(zoo, every_kind, columns=8, side=72, sets=PHOTO_SETS).save(DOCS / "zoo.webp", quality=80)
    if sheet_file:
        description.sheet(zoo, names, columns=12, side=64).save(sheet_file)
    click.echo(json.dumps(figures["heads"], indent=1))
