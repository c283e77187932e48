"""What the study found, as tables of docs/accuracy.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from scipy.stats import t

from training.bars import BARS, published_is_better
from training.markdown import percent, table
from training.metrics import interval_of_fraction
from training.model.network import NetworkConfig

# A run, as `benchmarks.study.collect` keeps it.
Entry = dict[str, Any]
BAR = {bar.key: bar for bar in BARS}
# The run beside which seeds and changes are seen.
BESIDE = "fold-1"
# The runs of the largest photo source: which training sees, and does not.
LARGEST_SOURCE = ("with-largest", "without-largest")
# What the study's tables show of each run.
COLUMNS = {
    "detection_zoo_clean": "AUC zoo, clean",
    "detection_zoo_social_media": "AUC zoo, social media",
    "detection_real_clean": "AUC public, clean",
    "detection_real_social_media": "AUC public, social media",
    "unseen_cameras_called_generated": "unseen cameras called generated",
    "same_generator_zoo_auc": "one generator or two, AUC",
    "attribution_zoo_accuracy": "known zoo generator named",
    "continuous_l1_below_median": "L1 below median",
    "discrete_f1_above_mode": "discrete F1 above mode",
    "losses_f1_above_majority": "losses F1 above majority",
}


def study_sections(study: dict[str, Any] | None) -> Iterator[str]:
    """The study's part of the page, block by block."""
    yield "## Study: folds, seeds, ablations, the published network"
    if study is None or not study["runs"]:
        yield (
            "**Not yet run.** `python -m benchmarks.study run INDEX OUT` trains and evaluates its networks, and `python -m "
            "benchmarks.study collect OUT` puts their figures here. Until then every figure above is of one network on one split."
        )
        return
    runs = {entry["run"]["name"]: entry for entry in study["runs"]}
    missing = [name for name in study["declared"] if name not in runs]
    budgets = sorted({entry["budget_megapixels"] for entry in study["runs"]})
    minutes = [entry["training"]["minutes"] for entry in study["runs"] if not entry["run"]["published"]]
    # Parts of a network that a run of ours did not know of yet.
    known = [set(entry["run"]["network"]) for entry in study["runs"] if not entry["run"]["published"]]
    newer = sorted(set(asdict(NetworkConfig())) - set.intersection(*known))
    hardware = sorted({entry["training"]["hardware"] for entry in study["runs"]})
    unedited = [name for name, entry in runs.items() if not entry.get("heavy_edits")]
    plain = "all" if len(unedited) == len(runs) else ", ".join(unedited)
    yield (
        f"{len(runs)} networks, ours each trained on windows of {' or '.join(f'{m:g}' for m in budgets)} million pixels, "
        f"{min(minutes):.0f} to {max(minutes):.0f} minutes on a share of {' or '.join(hardware)}, and evaluated in float32 on at most "
        f"{study['windows']} windows a picture, with what was fitted on their own fold's validation pictures. That is far less training "
        "than the bundle had: they are to be compared with each other. "
        + (f"Unlike the bundle's, spectral lines and thresholds of {plain} have seen no heavy edits. " if plain else "")
        + (
            f"Ours are networks of before there was `{'`, `'.join(newer)}` (training/model/network.py). "
            if newer
            else ""
        )
        + (f"Not yet run: {', '.join(missing)}." if missing else "")
    ).strip()
    yield from _spread(
        "### Folds",
        "Each leaves other generators and photo sources out (training/data/folds.py). Mean with its 95 % interval (Student's t) as if they were"
        " independent: they share most of what they train on. What to build was decided by validation generators and by folds 1 to 3. "
        "Fold 0 leaves out what the bundle does, whose figures were looked at after every bundle.",
        [e for e in study["runs"] if e["run"]["name"].startswith("fold-")],
        lambda entry: f"fold {entry['run']['fold']}",
    )
    yield from _left_out([e for e in study["runs"] if e["run"]["name"].startswith("fold-")])
    if runs.keys() >= set(LARGEST_SOURCE):
        yield from _largest_source(*(runs[name] for name in LARGEST_SOURCE))
    seeds = [e for e in study["runs"] if e["run"]["name"] == BESIDE or e["run"]["name"].startswith("seed-")]
    if len(seeds) > 1:
        yield from _spread(
            "### Seeds",
            "The same data in another order, other first weights: how much of a difference between two networks is luck.",
            seeds,
            lambda entry: f"seed {entry['run']['seed']}",
        )
    if BESIDE in runs:
        yield from _ablations(runs, seeds)
    if "fold-0" in runs:
        yield from _published(runs, study["windows"])


def _cell(key: str, value: float | None) -> str:
    return "" if value is None else BAR[key].shown(value)


def _figures(entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    """Each figure that one of the entries has, a row, and the entries' own, a column each."""
    return [
        (bar.what, *(_cell(bar.key, entry["figures"].get(bar.key)) for entry in entries))
        for bar in BARS
        if any(bar.key in entry["figures"] for entry in entries)
    ]


def _spread(title: str, words: str, entries: list[Entry], name: Callable[[Entry], str]) -> Iterator[str]:
    """Each entry's figures, one a column, with their mean and interval where there are two or more."""
    if not entries:
        return
    yield title
    yield words
    rows = []
    for key in (bar.key for bar in BARS):
        values = [entry["figures"].get(key) for entry in entries]
        known = [value for value in values if value is not None]
        if not known:
            continue
        rows.append((BAR[key].what, *(_cell(key, value) for value in values), _mean(key, known)))
    yield table(("", *(name(entry) for entry in entries), "mean"), rows)


def _mean(key: str, values: Sequence[float]) -> str:
    middle = BAR[key].shown(statistics.fmean(values))
    if len(values) < 2:
        return middle
    return f"{middle} ± {BAR[key].shown(_half_width(values, 1 / len(values)))}"


def _half_width(values: Sequence[float], variance: float) -> float:
    """Of a 95 % interval (Student's t) of what varies by so much of the values' variance."""
    half: float = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) * variance**0.5
    return half


def _left_out(entries: list[Entry]) -> Iterator[str]:
    """What each fold left out, once over all of them."""
    if not entries:
        return
    conditions = list(entries[0]["public_generators"])
    yield "Public generators, each in the fold in which training saw none of it:"
    yield table(
        ("generator", "fold", *(f"AUC, {condition}" for condition in conditions)),
        [
            (name, str(entry["run"]["fold"]), *(f"{entry['public_generators'][c][name]:.3f}" for c in conditions))
            for entry in entries
            for name in entry["public_generators"][conditions[0]]
        ],
    )
    yield "Photos called generated, each source in the fold in which training saw none of it:"
    yield table(
        ("source", "fold", *conditions),
        [
            (name, str(entry["run"]["fold"]), *(percent(entry["photos"][name][c]) for c in conditions))
            for entry in entries
            for name in entry["unseen_photos"]
        ],
    )


def _largest_source(seen: Entry, unseen: Entry) -> Iterator[str]:
    """Photos called generated where training saw the largest of their sources and where it did not, and every figure of both."""
    (largest,) = unseen["run"]["photos_left_out"]
    yield "### The largest photo source left out"
    yield (
        f"Fold 0 twice more, the second time without a photo of {largest}, or a picture made from one, in training, early stop or "
        "thresholds: all of them are for test. No fold does that, for it is nearly half of all photos. The two were trained on another zoo "
        "of the same descriptions than the other networks, and with heavy edits: they are to be compared with each other. That zoo was "
        "indexed as a part of the whole one: training generators whose pictures were not made are listed and were never shown, in both "
        "runs alike. Each is one network of one seed; the seeds below say how far two such figures differ by luck. Photos called "
        "generated, with their 95 % interval, which has the luck of the photos and not that of the training:"
    )
    conditions = [key for key in unseen["photos"][largest] if key != "pictures"]
    yield table(
        ("source", *(f"{which}: {c}" for which in ("seen", "left out") for c in ("photos", *conditions))),
        [
            (name, *_called_generated(seen["photos"][name], conditions), *_called_generated(of, conditions))
            for name, of in unseen["photos"].items()
        ],
    )
    yield "All figures of both; the photos that they are tested on are more where the source is left out:"
    yield table(("", "seen", "left out"), _figures([seen, unseen]))


def _called_generated(source: dict[str, Any], conditions: Sequence[str]) -> Iterator[str]:
    """How many photos there are of a source, and the share of them that is called generated on each condition."""
    count: int = source["pictures"]
    yield str(count)
    for condition in conditions:
        low, high = interval_of_fraction(round(source[condition] * count), count)
        yield f"{percent(source[condition])} ({100 * low:.1f} to {100 * high:.1f})"


def _beyond_luck(value: float, seeds: Sequence[float]) -> bool:
    """Whether one more seed would give such a figure less than once in twenty times, by these seeds' (prediction interval, Student's t)."""
    return len(seeds) >= 3 and abs(value - statistics.fmean(seeds)) > _half_width(seeds, 1 + 1 / len(seeds))


def _difference(key: str, value: float, usual: float, seeds: Sequence[float]) -> str:
    """A figure and how far it is from the usual network's, bold where that is beyond luck."""
    decimals = 1 if BAR[key].unit else 3
    shown = f"{BAR[key].shown(value)} ({value - usual:+.{decimals}f})"
    return f"**{shown}**" if _beyond_luck(value, seeds) else shown


def _ablations(runs: dict[str, Entry], seeds: Sequence[Entry]) -> Iterator[str]:
    """One thing changed each, beside the usual network of the same fold and seed; `seeds` are all networks with nothing changed."""
    usual = runs[BESIDE]["figures"]
    changed = [
        entry
        for name, entry in runs.items()
        if entry["run"]["fold"] == runs[BESIDE]["run"]["fold"]
        and not name.startswith(("fold-", "seed-"))
        and not entry["run"]["published"]
    ]
    if not changed:
        return
    keys = [key for key in COLUMNS if key in usual]
    yield "### Ablations"
    yield (
        "Fold 1, seed 1, one thing changed each; in brackets the difference from the network with nothing changed. Bold is what another "
        "seed would give less than once in twenty times, as far as three seeds tell: of all these figures some are by chance. Not fold 0, "
        "whose test generators are those of the bundle."
    )
    of_seeds = {key: [e["figures"][key] for e in seeds if key in e["figures"]] for key in keys}
    yield table(
        ("changed", *(COLUMNS[key] for key in keys)),
        [
            ("nothing", *(BAR[key].shown(usual[key]) for key in keys)),
            *(
                (
                    entry["run"]["changed"],
                    *(
                        _difference(key, entry["figures"][key], usual[key], of_seeds[key])
                        if key in entry["figures"]
                        else ""
                        for key in keys
                    ),
                )
                for entry in changed
            ),
        ],
    )
    beyond: dict[str, dict[str, list[str]]] = {"Worse": {}, "Better": {}}
    for entry in changed:
        for key in keys:
            if key in entry["figures"] and _beyond_luck(entry["figures"][key], of_seeds[key]):
                side = "Better" if BAR[key].better(entry["figures"][key], usual[key]) else "Worse"
                beyond[side].setdefault(entry["run"]["changed"], []).append(f"_{COLUMNS[key]}_")
    if not any(beyond.values()):
        return
    for side, changes in beyond.items():
        if changes:
            told = "; ".join(f"{what} ({' and '.join(figures)})" for what, figures in changes.items())
            yield f"{side} than by luck: {told}."
    yield (
        "What else was changed makes no difference that a training of this length shows; of the fingerprint's constraints all four stay, "
        "without which what is written out is no fingerprint as the method defines it."
    )


def _passes(run: dict[str, Any], windows: int) -> str:
    """In how many passes a picture is judged; the published network's windows are a quarter as large."""
    if run["published"] and not run["windows"]:
        return "1"
    return f"up to {4 * windows if run['published'] else windows}"


def _published(runs: dict[str, Entry], windows: int) -> Iterator[str]:
    """The published network's figures beside ours."""
    peers = [entry for entry in runs.values() if entry["run"]["published"]]
    if not peers:
        return
    shown = [runs["fold-0"], *peers]
    yield "### The published network beside ours"
    yield (
        "DnCNN-17 and the five convolutions of the published parsing network, with its input (the whole picture, shrunk to 64x64 pixels) "
        "and its normalisation, trained on the same pictures, labels and objectives"
        + ("; also by another optimizer" if "published-adamw" in runs else "")
        + ("; also shown windows of 64x64 pixels in place of shrunk pictures" if "published-windows" in runs else "")
        + ". In that time it takes fewer steps, and tells little of the zoo yet: which would be better "
        "after a long training is not known. It answers our questions from the 64 values that its own outputs read: it was made for "
        "architecture and losses; for the others the authors have networks of their own, larger ones, which are not trained here. Rates "
        "were not searched for any of them."
    )
    rows = [
        ("multiply-accumulates of a pass", *(f"{entry['multiply_accumulates'] / 1e9:.3f} billion" for entry in shown)),
        (
            "passes for a picture",
            *(_passes(e["run"], windows) for e in shown),
        ),
        ("training, minutes", *(f"{entry['training']['minutes']:.0f}" for entry in shown)),
        ("training, steps", *(str(entry["training"]["steps"]) for entry in shown)),
        ("learning rate, highest", *(f"{entry['run']['rate']:g}" for entry in shown)),
    ]
    rows += _figures(shown)
    yield table(("", *("ours" if not e["run"]["published"] else e["run"]["name"] for e in shown)), rows)
    for entry in peers:
        worse = published_is_better(shown[0], entry)
        yield (
            f"`{entry['run']['name']}` costs {entry['multiply_accumulates'] / shown[0]['multiply_accumulates']:.1f} times as much a pass, "
            f"and is better in {len(worse)} of {len(shown[0]['figures'].keys() & entry['figures'].keys())} figures"
            + (f": {'; '.join(BAR[key].what for key in worse)}." if worse else ".")
        )


def lines_section(found: dict[str, Any] | None) -> Iterator[str]:
    """What `benchmarks.lines_alone` found; nothing before it has run."""
    if found is None:
        return
    generators = sorted(found["generators"].items(), key=lambda item: item[1]["fold"])
    conditions = list(generators[0][1]["auc"])
    yield "### Spectral lines by themselves"
    yield (
        "What repeats every eight pixels (`SpectralLines` in training/model/network.py), and nothing else of the network: fitted anew "
        "in every fold, and public generators judged that they did not learn from (`python -m benchmarks.lines_alone`). In a bundle "
        "this is added to what the rest of the network says."
        + ("" if found.get("heavy_edits") else " Unlike the bundle's, these lines have seen no heavy edits.")
    )
    rows = [(name, str(of["fold"]), *(f"{of['auc'][c]:.3f}" for c in conditions)) for name, of in generators]
    means = [statistics.fmean(of["auc"][c] for _, of in generators) for c in conditions]
    yield table(
        ("generator", "fold", *(f"AUC, {condition}" for condition in conditions)),
        [*rows, ("mean", "", *(f"{mean:.3f}" for mean in means))],
    )
