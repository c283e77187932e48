"""Render docs/zoo.md from the description of the zoo, the probe, and the measurements on the index."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES
from training.report.markdown import table
from training.zoo.files import HELD_OUT_AMONG, named_by_zoo
from training.zoo.inspection import DEFINITIONS

Json = dict[str, Any]


def _families(generators: list[Json]) -> str:
    rows: list[list[object]] = []
    for family, meaning in FAMILIES.items():
        mine = [g for g in generators if g["labels"]["family"] == family]
        kept = [g for g in mine if g["split"]]
        figures = [next(iter(g["quality"].values())) for g in kept]
        unit = "" if not kept else " dB" if "psnr_db" in kept[0]["quality"] else " (spectrum distance)"
        splits = Counter(g["split"] for g in kept)
        quality = f"{min(figures):.1f} / {np.median(figures):.1f} / {max(figures):.1f}{unit}" if figures else "none"
        rows.append([family, meaning, len(mine), len(kept), *(splits[s] for s in ("train", "val", "test")), quality])
    heads = ["family", "method", "built", "kept", "train", "val", "test", "quality: lowest / median / highest"]
    return table(heads, rows)


def _times(value: object, count: int) -> str:
    """Return a value with its relative frequency."""
    return (str(value) or "none") + (f" (x{count})" if count > 1 else "")


def _space(space: dict[str, list[Any]], kinds: dict[str, list[str]]) -> str:
    rows: list[list[object]] = [
        [name, ", ".join(_times(value, values.count(value)) for value in dict.fromkeys(values))]
        for name, values in space.items()
    ]
    rows += [
        [f"task of {family}", ", ".join(_times(task, tasks.count(task)) for task in dict.fromkeys(tasks))]
        for family, tasks in kinds.items()
    ]
    return table(["choice", "values"], rows)


def _labels(kept: list[Json]) -> str:
    rows: list[list[object]] = []
    for name, p in CONTINUOUS.items():
        values = [g["labels"]["continuous"][name] for g in kept]
        seen = f"{min(values):,.4g} / {np.median(values):,.4g} / {max(values):,.4g}"
        scale = f"{p.low:,.4g} to {p.high:,.4g}{', log' if p.log else ''}"
        rows.append([name, DEFINITIONS[name], p.unit, scale, seen])
    sizes = Counter(g["latent_size"] for g in kept)
    seen = ", ".join(f"{size}: {count}" for size, count in sorted(sizes.items()))
    rows.append(["latent_size", DEFINITIONS["latent_size"], "channels", "in the index only", seen])
    return table(["continuous", "definition", "unit", "scaled range", "lowest / median / highest in the zoo"], rows)


def _classes(kept: list[Json]) -> str:
    rows: list[list[object]] = []
    for name, values in DISCRETE.items():
        counts = Counter(g["labels"]["discrete"][name] for g in kept)
        rows.append([name, DEFINITIONS[name], ", ".join(f"{value} {counts[value]}" for value in values)])
    used = Counter(loss for g in kept for loss in g["labels"]["losses"])
    rows.append(["losses", DEFINITIONS["losses"], ", ".join(f"{loss} {used[loss]}" for loss in LOSSES)])
    return table(["discrete", "definition", "generators"], rows)


def _probe(probe: Json) -> str:
    rows: list[list[object]] = [
        [
            name,
            *(f"{f[key]:.3f}" for key in ("macro_f1", "mode_macro_f1", "random_macro_f1", "accuracy", "mode_accuracy")),
        ]
        for name, f in probe["heads"].items()
    ]
    return table(["label", "macro-F1", "mode", "random", "accuracy", "mode"], rows)


def _other_draw(kept: list[Json], manifest: Json) -> list[str]:
    """Return a note if the bundle was trained on another draw of the zoo."""
    trained = {name for name in manifest["training"]["generators"] if named_by_zoo(name)}
    if trained == {g["name"] for g in kept}:
        return []
    return [
        f"Bundle {manifest['name']}-{manifest['version']} was trained and evaluated on another draw with {len(trained)} accepted "
        "generators. Its model card describes those."
    ]


def _leaks(leakage: Json) -> str:
    rows: list[list[object]] = [
        [
            "near-duplicate photos (perceptual hash) in different splits",
            len(leakage["near_duplicates_across_splits"]),
        ],
        ["photos whose content lies in more than one split", len(leakage["contents_across_splits"])],
        ["generators with equal labels in different splits", len(leakage["equal_labels_across_splits"])],
        [
            "AUC of file format, size and quantisation tables alone, public pictures",
            f"{leakage['format_floor_auc']:.3f}",
        ],
    ]
    return table(["check", "result"], rows)


def render(description: Json, probe: Json, manifest: Json, leakage: Json | None) -> str:
    """Return the page as Markdown.

    Args:
        description: description of the zoo.
        probe: metrics of the linear probe.
        manifest: manifest of the default bundle.
        leakage: results of `training leakage`, if measured.
    """
    generators = description["generators"]
    kept = [g for g in generators if g["split"]]
    sections = [
        *_overview(description, kept, manifest),
        "## Search space",
        "Each choice of a family is drawn as often as it is listed here. `training/zoo/space.py` resolves incompatible choices.",
        _space(description["space"], description["tasks"]),
        "## Labels",
        "Labels are read off the trained module in one forward pass (`training/zoo/inspection.py`). For generators with two stages "
        "(latent diffusion, tokens), they describe the stage that outputs pixels, and the losses are those of both stages. For attacks, "
        "they describe the classifier that is attacked.",
        _labels(kept),
        _classes(kept),
        "L2 and MSE of the published list are the same function and share one label. `spectral` takes the free label.",
        "## Are the labels visible in pictures?",
        f"A linear probe reads the mean log spectrum of high-pass residuals. It is fitted on {probe['pictures']['train']} pictures of "
        f"{probe['generators']['train']} training generators and evaluated on {probe['pictures']['test']} pictures of "
        f"{probe['generators']['test']} test generators. The baselines are the most frequent value (mode) and random values with the "
        "frequencies of training.",
        _probe(probe),
    ]
    if leakage is not None:
        sections += [
            "## Leaks",
            "`python -m training leakage` checks this zoo together with the public pictures. It fails if anything lies in two splits.",
            _leaks(leakage),
        ]
    return "\n\n".join(sections) + "\n"


def _overview(description: Json, kept: list[Json], manifest: Json) -> list[str]:
    build, generators = description["build"], description["generators"]
    first = generators[0]
    return [
        "# The zoo",
        "Rendered by `python -m training zoo document` from zoo, zoo-probe and leakage in `training/results`; do not edit by hand.",
        f"The zoo has {len(generators)} generators that this project builds and trains, so that every label is exact. {len(kept)} of them "
        f"meet the quality rule. "
        f"Each has {first['pictures']} pictures of {first['side']}x{first['side']} pixels. The zoo takes "
        f"{build['bytes'] / 1e9:.2f} GB, stored losslessly, and "
        f"was built in {build['minutes']:.0f} minutes on {build['cores']} CPU cores.",
        *_other_draw(kept, manifest),
        "![Pictures of one generator of each family per row](zoo.webp)",
        "## Families",
        _families(generators),
        "**Quality rule.** Pictures that show a photo's content need a PSNR of 20 to 50 dB; above 50 dB hardly a value differs from the "
        "photo. Unconditional pictures need a mean log spectrum within 2.0 of that of photos (two halves of the photos differ by about "
        "0.1, a flat colour by 5). They must also "
        "differ from one another by 15 grey levels in 4x4 pixel means (photos differ by about 60). "
        "A generator that falls short is trained once more from the start, for twice as long, and dropped if it falls short again.",
        "All families but gan show photos: reconstructed, restored, or partly redrawn. Each of their pictures has a camera twin of "
        f"the same content and size. The first {HELD_OUT_AMONG} generators of a family are split by number (two thirds, a sixth, a sixth). "
        "Later ones are for training, so that a zoo that grows is tested on the same generators. "
        "Generators with equal labels share a split.",
    ]


def rendered(results: Path, bundle: Path) -> str:
    """Return the page about the JSON files in the folder `results` and a bundle.

    Raises:
        FileNotFoundError: the description or the probe is missing.
    """

    def load(name: str) -> Json | None:
        path = results / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    description, probe = load("zoo"), load("zoo-probe")
    if description is None or probe is None:
        raise FileNotFoundError(
            f"{results} must hold zoo.json and zoo-probe.json; run `python -m training zoo document`"
        )
    return render(description, probe, json.loads((bundle / "bundle.json").read_text()), load("leakage"))
