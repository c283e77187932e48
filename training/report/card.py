"""MODEL_CARD.md: what the default bundle is, what it was trained on, and how it performs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from training.evaluate.targets import CONFIDENCE, MAX_FALSE_ALARMS, MAX_MISSES
from training.evaluate.tasks import MIN_CATEGORY, PUBLIC_CONDITION, ZOO_CONDITION
from training.labels import FAMILIES
from training.report.markdown import interval, percent, percents, table
from training.report.measured import ROOT, Measured, reported_attributes
from training.report.picture_sets import by_category

PAGE = ROOT / "MODEL_CARD.md"
VERDICTS = ("called_generated", "accused", "inconclusive_camera", "inconclusive_generated")


def _training(measured: Measured) -> Iterator[str]:
    training = measured.manifest["training"]
    yield "## Training"
    if "windows" not in training:
        yield (
            f"{measured.bundle.label} is older than the folds below. Its network was trained on 17 public generators, 6 photo sources and "
            f"{training['zoo_generators']} generators of the zoo, over several trainings that each started from the one before."
        )
        return
    sentences = [
        f"Trained for {training['minutes']:.0f} minutes ({training['steps']} steps) on {training['hardware']}, seed {training['seed']}."
    ]
    start = training.get("init_from")
    if isinstance(start, str):
        sentences.append(f"It started from the weights of `{start}`.")
    sentences.append(f"It saw {training['windows'] / 1e6:.1f} million windows.")
    yield " ".join(sentences)


def _data(measured: Measured) -> Iterator[str]:
    training = measured.manifest["training"]
    yield "## Data"
    if measured.sets:
        if "windows" not in training:
            yield f"These are the sets that the next bundle is trained and tested on; {measured.bundle.label} saw few of them."
        yield (
            "Folds leave out whole owners: what one account or package published lies in one split. *Partly generated* is in-painted. "
            "*Processed* was restored or enlarged by a network and trains no detection. Licences are counted in pictures: *free* allows "
            "redistribution, *research* restricts use, *other* was not read or is unclear. "
            "[sources.csv](training/results/sources.csv) lists every set."
        )
        yield table(
            ("role", "category", "owners", "sets", "train", "val", "test", "licence"), by_category(measured.sets)
        )
    yield (
        f"Besides, the [zoo](docs/zoo.md) has generators of every family ({', '.join(FAMILIES)}), built and trained by this project, so "
        f"that all their labels are known; {training['zoo_generators']} of them were trained on."
    )
    if measured.leakage is not None and "format_floor_auc" in measured.leakage:
        yield (
            f"**Leakage floor.** A classifier that sees only size, file format and quantisation tables separates the classes of the "
            f"validation fold with AUC {measured.leakage['format_floor_auc']:.3f}."
        )
    yield (
        "**Licence.** The code is Apache-2.0. Some pictures allow non-commercial research only, and many state no licence. Use "
        "these weights for research and evaluation, and train your own for anything else. The repository contains only "
        "pictures whose licence allows redistribution (`samples/`, `training/evaluate/testset.zip`)."
    )


def _detection(measured: Measured) -> Iterator[str]:
    if measured.evaluation is None:
        return
    detection = measured.evaluation["detection"]
    first = detection["as is"]
    pictures, sources = first["pictures"], first["sources"]
    yield "## Detection"
    yield (
        f"{pictures['camera']} photos of {sources['camera']} sources against {pictures['generated']} pictures of "
        f"{sources['generated']} public generators that training left out. Intervals (95 %) draw the sources of both classes "
        f"again. The last columns count verdicts."
    )
    yield table(
        (
            "condition",
            "AUC",
            "95%",
            "generated called so",
            "photos accused",
            "inconclusive photos",
            "inconclusive generated",
        ),
        [
            (
                condition,
                f"{found['auc']:.3f}",
                interval(found["auc_interval"]),
                *(percent(found[key]) for key in VERDICTS),
            )
            for condition, found in detection.items()
        ],
    )
    yield f"Photos called generated, as is, by categories of {MIN_CATEGORY} and more pictures:"
    yield table(
        ("category", "photos", "accused", "95%"),
        [
            (name.replace("_", " "), found["pictures"], percent(found["accused"]), percents(found["accused_interval"]))
            for name, found in sorted(first["by_category"].items(), key=lambda item: -item[1]["accused"])
            if found["pictures"] >= MIN_CATEGORY
        ],
    )


def _calibration(measured: Measured) -> Iterator[str]:
    calibration = measured.bundle.calibration
    assert calibration is not None
    yield "## Calibration"
    yield (
        f"A picture is called `generated` from a probability of {percent(calibration.generated)}, and `camera` below "
        f"{percent(calibration.camera)}; in between it is `inconclusive`. The first threshold lets at most {percent(MAX_FALSE_ALARMS)} of "
        f"validation photos pass, with a confidence of {percent(CONFIDENCE)}. Below the second lie at most {percent(MAX_MISSES)} of "
        "generated validation pictures."
    )


def _attribution(measured: Measured) -> Iterator[str]:
    if measured.evaluation is None:
        return
    yield "## Attribution"
    yield f"Public generators after {PUBLIC_CONDITION}, the zoo in the condition *{ZOO_CONDITION}* (a random chain of edits and codecs)."
    yield table(("question", "metric", "value", "95%", "generators"), list(_attribution_rows(measured.evaluation)))


def _attribution_rows(evaluation: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    zoo = evaluation.get("zoo") or {}
    for question, found, metric, count in (
        ("known public generator", evaluation.get("attribution"), "accuracy", "known"),
        ("lineage of a known generator", evaluation.get("lineages"), "accuracy", "known"),
        ("unknown told from known", evaluation.get("attribution"), "unknown_auroc", "known"),
        ("same generator or two, public", evaluation.get("same_generator"), "auc", "generators"),
        ("same generator or two, zoo", zoo.get("same_generator"), "auc", "generators"),
        ("enrolled by 10 pictures, public", evaluation.get("enrolment"), "accuracy", "names"),
        ("enrolled by 10 pictures, zoo", zoo.get("enrolment"), "accuracy", "names"),
    ):
        if found:
            name = metric.replace("_", " ").replace("auroc", "AUROC").replace("auc", "AUC")
            yield question, name, f"{found[metric]:.3f}", interval(found[f"{metric}_interval"]), found[count]


def _parsing(measured: Measured) -> Iterator[str]:
    if measured.evaluation is None:
        return
    yield "## Model parsing"
    yield (
        "Left-out public generators whose published code or weights give the label, in macro-F1, against the best constant answer. An "
        "attribute that does not beat it is not known."
    )
    yield table(
        ("attribute", "macro-F1", "constant", "gain", "95%", "generators"),
        [
            (
                name.replace("_", " "),
                *(f"{found[key]:.3f}" for key in ("macro_f1", "constant_macro_f1", "gain")),
                interval(found["gain_interval"]),
                found["generators"],
            )
            for name, found in measured.evaluation["parsing"].items()
        ],
    )
    zoo = (measured.evaluation.get("zoo") or {}).get("parsing")
    if zoo:
        gains = zoo["gains"]
        yield (
            f"On {zoo['generators']} left-out generators of the zoo, continuous attributes err {gains['continuous']:.1f} % less than the "
            f"training median, and discrete attributes and losses gain {gains['discrete']:.3f} and {gains['losses']:.3f} macro-F1 over "
            "the training mode. [parsing.csv](training/results/parsing.csv) has every attribute."
        )
    names = ", ".join(reported_attributes(measured.bundle)) or "none"
    yield f"A report lists only attributes that beat a constant by a margin on validation generators: {names}."


def _limits(measured: Measured) -> Iterator[str]:
    yield "## Limits"
    lines = ["A low probability is no proof of a camera, and a high one is no proof of a generator."]
    if measured.evaluation is not None:
        detection = measured.evaluation["detection"]
        first = detection["as is"]
        hardest = min(detection, key=lambda condition: float(detection[condition]["auc"]))
        generators = first["by_generator"]
        low = sorted(generators, key=lambda name: float(generators[name]["auc"]))[:3]
        lines += [
            f"{percent(1 - first['called_generated'])} of pictures of unseen generators are not called generated, and "
            f"{percent(first['accused'])} of photos of unseen sources are.",
            f"Detection is weakest after *{hardest}*: AUC {detection[hardest]['auc']:.3f}.",
            "Least recognised generators: "
            + ", ".join(f"{name} (AUC {generators[name]['auc']:.3f})" for name in low)
            + f". {percent(first['low_auc'])} of the unseen generators lie below 0.6.",
        ]
        if (worst := first["worst_category"]) is not None:
            lines.append(
                f"The most accused category of photos is *{worst['name'].replace('_', ' ')}*: {percent(worst['accused'])} of "
                f"{worst['pictures']}."
            )
    lines += [
        "Photos of screens and prints were not tested.",
        "The embedding recognises how a generator is built. Generators that share a last stage are mostly taken for one another.",
        "A picture with a side below the smallest accepted size is refused, see [usage](docs/usage.md).",
    ]
    yield "\n".join(f"- {line}" for line in lines)


def render(measured: Measured) -> str:
    """Return the model card."""
    bundle = measured.bundle
    head = [
        f"# Model card: bundle {bundle.label}",
        "Generated by `python -m training report` from the bundle's manifest and [training/results](training/results); edit the "
        "generator, not this page.",
        "## What it is",
        "One convolutional network that answers all questions in one pass over windows of 128x128 pixels at native resolution: camera "
        "or generated, which generator, and what is the generator like inside. A fingerprint estimation network (FEN), trained with "
        "the four constraints of arXiv 2106.07873, feeds a strided trunk and linear heads. The heads also read the energy "
        "of every frequency in 8x8 blocks and spectral lines, which up-sampling leaves. "
        f"CPUs run the {bundle.default_variant} file, to which all figures refer. "
        "[Accuracy](docs/accuracy.md) compares them with the targets.",
        "## Intended use",
        "Triage of single pictures and research on image forensics. Read the verdict together with other evidence. Do not use "
        "it as the only ground for a decision about a person, and not as proof that a picture is authentic.",
    ]
    parts = (_training, _data, _detection, _calibration, _attribution, _parsing, _limits)
    return "\n\n".join([*head, *(block for part in parts for block in part(measured))]) + "\n"
