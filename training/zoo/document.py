"""Render docs/zoo.md from the description of the shipped build and the probe's figures; nothing in it is typed by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES
from training.report.markdown import table
from training.zoo.files import HELD_OUT_AMONG, named_by_zoo
from training.zoo.inspection import DEFINITIONS


def _families(generators: list[dict]) -> str:
    rows: list[list[object]] = []
    for family, meaning in FAMILIES.items():
        mine = [g for g in generators if g["labels"]["family"] == family]
        kept = [g for g in mine if g["split"]]
        figures = [next(iter(g["quality"].values())) for g in kept]
        unit = "" if not kept else " dB" if "psnr_db" in kept[0]["quality"] else " (spectrum distance)"
        splits = Counter(g["split"] for g in kept)
        quality = f"{min(figures):.1f} / {np.median(figures):.1f} / {max(figures):.1f}{unit}" if figures else "none"
        rows.append([family, meaning, len(mine), len(kept), *(splits[s] for s in ("train", "val", "test")), quality])
    heads = ["family", "what", "built", "kept", "train", "val", "test", "quality: lowest / median / highest"]
    return table(heads, rows)


def _times(value: object, count: int) -> str:
    """A choice, and how many times as often as one that is named once."""
    return (str(value) or "none") + (f" (x{count})" if count > 1 else "")


def _space(space: dict[str, list], kinds: dict[str, list[str]]) -> str:
    rows: list[list[object]] = [
        [name, ", ".join(_times(value, values.count(value)) for value in dict.fromkeys(values))]
        for name, values in space.items()
    ]
    rows += [
        [f"kind of {family}", ", ".join(_times(task, tasks.count(task)) for task in dict.fromkeys(tasks))]
        for family, tasks in kinds.items()
    ]
    return table(["choice", "values"], rows)


def _labels(kept: list[dict]) -> str:
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


def _classes(kept: list[dict]) -> str:
    rows: list[list[object]] = []
    for name, values in DISCRETE.items():
        counts = Counter(g["labels"]["discrete"][name] for g in kept)
        rows.append([name, DEFINITIONS[name], ", ".join(f"{value} {counts[value]}" for value in values)])
    used = Counter(loss for g in kept for loss in g["labels"]["losses"])
    rows.append(["losses", DEFINITIONS["losses"], ", ".join(f"{loss} {used[loss]}" for loss in LOSSES)])
    return table(["discrete", "definition", "generators"], rows)


def _probe(probe: dict) -> str:
    rows: list[list[object]] = [
        [
            name,
            *(f"{f[key]:.3f}" for key in ("macro_f1", "mode_macro_f1", "random_macro_f1", "accuracy", "mode_accuracy")),
        ]
        for name, f in probe["heads"].items()
    ]
    return table(["label", "macro-F1", "of the mode", "of chance", "accuracy", "of the mode"], rows)


def _other_draw(kept: list[dict], manifest: dict) -> list[str]:
    """That a bundle was trained on another zoo than this one, where it was."""
    trained = {name for name in manifest["training"]["generators"] if named_by_zoo(name)}
    if trained == {g["name"] for g in kept}:
        return []
    return [
        f"Bundle {manifest['name']}-{manifest['version']} was trained and evaluated on another draw, of which {len(trained)} generators "
        "passed: its model card speaks of those."
    ]


def _leaks(leakage: dict) -> str:
    aucs = leakage["format_aucs"]
    rows: list[list[object]] = [
        [
            "photos that look alike (perceptual hash) on two sides of a split",
            len(leakage["near_duplicates_across_splits"]),
        ],
        ["photos whose content is on two sides of a split", len(leakage["contents_across_splits"])],
        ["generators with equal labels on two sides of a split", len(leakage["equal_labels_across_splits"])],
        [
            "AUC of the picture's height alone, training pictures and their photos after their chains",
            f"{aucs['height']:.3f}",
        ],
        ["AUC of the JPEG grid's strength alone, the same", f"{aucs['blockiness']:.3f}"],
    ]
    return table(["what", "found"], rows)


def render(description: dict, probe: dict, manifest: dict, leakage: dict | None, stream: dict | None) -> str:
    """The whole page; `manifest` is the default bundle's, the others are in training/results, None where they were not measured."""
    build, generators = description["build"], description["generators"]
    kept = [g for g in generators if g["split"]]
    first = generators[0]
    sections = [
        "# The zoo",
        "Rendered by `python -m training zoo document` from zoo, zoo-probe, leakage and data in `training/results`; do not edit by hand.",
        f"{len(generators)} generators that this project builds and trains itself, so that every label is exact; {len(kept)} pass the "
        f"quality rule. {first['pictures']} pictures each at {first['side']}x{first['side']}, {build['bytes'] / 1e9:.2f} GB lossless. "
        f"Built in {build['minutes']:.0f} minutes on {build['cores']} CPU cores.",
        *_other_draw(kept, manifest),
        "![One generator of each kind a row](zoo.webp)",
        "## Families",
        _families(generators),
        "**Quality rule.** Pictures that show a photo's content reach 20 dB against it; unconditional ones lie within 2.0 of photos in the "
        "mean log spectrum (two halves of the photos differ by about 0.1, a flat colour by 5) and differ from one another by 15 grey "
        "levels, measured on averages of 4x4 pixels (photos by about 60). "
        "What falls short is trained once more from the start, for twice as long, and not used if it falls short again. Nor is what "
        "comes nearer to its photos than 50 dB: hardly a value there is another than the photo's.",
        "Every family but gan shows photos: reconstructed, restored, or with a part drawn anew, so that each picture has a camera twin of "
        f"the same content and size. The first {HELD_OUT_AMONG} of a family are split by number (two thirds, a sixth, a sixth); later ones "
        "are for training, so that a zoo that has grown is tested on the same generators. Those with equal labels stay together.",
        "## Search space",
        "Within a family every choice is drawn as often as it is named here; `training/zoo/space.py` settles those that exclude one "
        "another.",
        _space(description["space"], description["tasks"]),
        "## Labels",
        "Read off the built module by one forward pass (`training/zoo/inspection.py`). Of a generator in two stages (latent diffusion, "
        "tokens) it is the stage that makes pixels, but the losses are those of both; of an attack, the classifier whose gradient "
        "the pictures show.",
        _labels(kept),
        _classes(kept),
        "L2 and MSE of the published list are one function and have one name here; `spectral` takes the place that frees.",
        "## Is there something to learn?",
        f"A linear probe on the mean log spectrum of {probe['pictures']['train']} pictures' high-pass residuals, on "
        f"{probe['pictures']['test']} pictures of {probe['generators']['test']} generators that it never saw "
        f"({probe['generators']['train']} seen), against always answering the most frequent value, and "
        "against answers drawn as often as they occur:",
        _probe(probe),
    ]
    if leakage is not None:
        sections += [
            "## What must not tell",
            "`python -m training leakage`, over this zoo and the public pictures together; it fails where something is on two sides, or "
            "where the format alone is more than 0.05 from chance:",
            _leaks(leakage),
        ]
    if stream is not None:
        learnt = ", ".join(f"{rate:.0f} of {side} pixels" for side, rate in stream["learnt_per_s"].items())
        sections += [
            "## As training reads it",
            f"Codec chains are made once: {stream['chains_per_s']:.0f} pictures a second on {stream['cores']} cores. From what they made, "
            f"one thread cuts {stream['windows_per_s']:.0f} windows of {stream['window']} pixels a second "
            f"(`python -m training throughput`), and the network learns from {learnt} a second, "
            f"{'compiled' if stream['compiled'] else 'not compiled'}; training logs how long it waited for data.",
        ]
    return "\n\n".join(sections) + "\n"


def rendered(results: Path, bundle: Path) -> str:
    """The page about what is in the folder `results`, and the bundle in another."""

    def kept(name: str) -> dict | None:
        path = results / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    description, probe = kept("zoo"), kept("zoo-probe")
    if description is None or probe is None:
        raise FileNotFoundError(
            f"{results} has no zoo.json or zoo-probe.json; `python -m training zoo document` writes them"
        )
    return render(description, probe, json.loads((bundle / "bundle.json").read_text()), kept("leakage"), kept("data"))
