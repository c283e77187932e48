"""MODEL_CARD.md: what the default bundle is, what it was trained on, and how it performs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from training.evaluate.model_parsing import beats_baselines
from training.evaluate.robustness import QUALITY, ZOO_PICTURES
from training.evaluate.targets import CONFIDENCE, MAX_FALSE_ALARMS, MAX_MISSES, points_lost
from training.fit.heads_outputs import LABEL_WEIGHT
from training.labels import FAMILIES
from training.report.markdown import interval, percent, table
from training.report.sources import ROOT, Sources, reported_attributes

PAGE = ROOT / "MODEL_CARD.md"
DATA = """\
| set | content | source | licence | use |
|---|---|---|---|---|
| ImageNet-1k samples | 520 photos, JPEG | EliSchwartz/imagenet-sample-images | non-commercial research | split by photo |
| BSDS500 | 290 photos, JPEG | BIDS/BSDS500 | non-commercial research | split by photo |
| Urban100 | 84 photos of buildings, lossless | Urban100 | research | split by photo |
| CQ100 | 84 photos, lossless | Ivordir/quantette | CC BY-SA 4.0 | split by photo |
| DreamBooth photos | 118 photos of 30 subjects, JPEG | google/dreambooth | CC BY 4.0, Unsplash licence | test |
| CMP facades, aerial photos | 90, lossless | mminerva/GAN-SOM | GPL-3 repository | split by photo |
| latent diffusion, GLID-3-XL, Majesty, a Stability beta | generated | dcsan/imagen | none stated | train, held-out part |
| Stable Diffusion 1 | generated | Extile1/stable-diffusion, bento170502/stable-diffusion | OpenRAIL-M, none stated | train, held-out part |
| CycleGAN, two sets of weights | generated | blechn/3dcv-final | none stated | train, held-out part |
| pix2pix, three kinds | generated | mminerva/GAN-SOM | GPL-3 repository | train, held-out part |
| TAEF2 autoencoder, on CQ100 and Urban100 | generated | made here with its MIT weights | that of the photos | train, held-out part |
| Disco Diffusion | generated | dcsan/imagen | none stated | validation |
| Stable Diffusion 1, custom diffusion | generated | HelloAcorn/custom-diffusion-pogny | Adobe research | validation |
| pix2pix facades | generated | mminerva/GAN-SOM | GPL-3 repository | validation |
| a fork of latent diffusion | generated | dakshces/FourierImageDiffuse | MIT | test |
| Stable Diffusion 3.5 Large | generated | EnragedAntelope/Styles-SD35L | MIT | test |
| DALL-E mini | generated | dcsan/imagen | none stated | test |
| StyleGAN2, resized | generated | radically-straightforward | NVIDIA non-commercial | test |"""
# Conditions of the tables of attribution, comparing and enrolment.
CONDITIONS = ("mixed", "clean")
KINDS = ("zoo", "public")


def lineage(label: str, training: dict[str, Any]) -> list[str]:
    """Return the bundles whose weights a network started from, the latest first."""
    names: list[str] = []
    step: dict[str, Any] | None = training | {"bundle": label}
    while step:
        names.append(str(step["bundle"] or "an unreleased network"))
        step = step.get("init_from")
    return names


def training_text(training: dict[str, Any], network: str) -> str:
    """Describe how a network was trained."""
    found = []
    if training["steps"]:
        average = (
            "the last moving average was kept"
            if training["kept_step"] == training["steps"]
            else f"the moving average of step {training['kept_step']} was kept, which validation scored highest"
        )
        found.append(
            f"{network} was trained for {training['minutes']:.0f} minutes ({training['steps']} steps) on {training['hardware']}, "
            f"seed {training['seed']}; {average}."
        )
    else:
        found.append(f"For {network} only the heads were trained, on features of the network that it starts from.")
    if training.get("online_augment"):
        heavy = f", {training['strong']:.0%} of them with heavy edits" if training.get("strong") else ""
        found.append(f"Codec chains were renewed during training{heavy}.")
    if training.get("teacher"):
        labels = "; zoo generators used labels" if training.get("hard_labels_for_zoo") else ""
        teachers = ", ".join(training["teacher"])
        found.append(f"Detection was distilled from the mean of other networks ({teachers}){labels}.")
    if training.get("passes"):
        heavy_looks = training.get("strong_head_epochs")
        edited = f" and {heavy_looks} times after heavy edits" if heavy_looks else ""
        found.append(
            f"The heads saw every training picture {training['passes']} times{edited}. The target of detection was "
            f"{LABEL_WEIGHT:.0%} label, and otherwise the network's own earlier prediction."
        )
    return " ".join(found)


def _training(sources: Sources) -> Iterator[str]:
    fields, label = sources.manifest, sources.bundle.label
    network = fields.get("network_from", label)
    yield "## Training"
    yield training_text(fields["training"], network)
    names = lineage(network, fields["training"])
    if len(names) > 1:
        yield f"It starts from the weights of {names[1]}, which goes back to {names[-1]} over {len(names) - 1} trainings."
    if network != label:
        yield f"{label} is the network of {network} with another fp16 file. Its other files and its calibration are the same."


def _data(sources: Sources) -> Iterator[str]:
    training = sources.manifest["training"]
    splits = list(training["generators"].values())
    yield "## Data"
    yield DATA
    yield (
        f"Besides, the [zoo](docs/zoo.md) has generators of every family ({', '.join(FAMILIES)}), built and trained by this project, so "
        f"that all their labels are known. Together {splits.count('train')} generators are for training "
        f"(the last run used {training['zoo_generators']} of the zoo), {splits.count('val')} for validation and "
        f"{splits.count('test')} for test. Zoo generators that reconstruct photos see the photos above, so each of their "
        "pictures is paired with a photo. Training saw no test generator, no test photo, and no picture made from one. "
        "Both classes pass the same codec chains. Generated pictures are first saved in the format of photos; the "
        "condition *as stored* shows what the difference in format would add."
    )
    yield (
        "**Licence.** The code is Apache-2.0. Some pictures allow non-commercial research only, and some state no licence. Use "
        "these weights for research and evaluation, and train your own for anything else. The repository contains only "
        "pictures whose licence allows redistribution (`samples/`, `training/evaluate/testset.zip`)."
    )


def _detection(sources: Sources) -> Iterator[str]:
    evaluation = sources.evaluation
    zoo, public = (evaluation[f"detection_{kind}"]["mixed"] for kind in KINDS)
    yield "## Detection, and its robustness"
    yield (
        f"{zoo['pictures']['camera']} photo crops against {zoo['pictures']['generated']} pictures of unseen zoo generators, and "
        f"{public['pictures']['camera']} whole photos against {public['pictures']['generated']} pictures of unseen public generators. "
        "Intervals are 95 % bootstraps over generators. The last three columns count the verdict `generated`."
    )
    yield table(
        ("condition", "AUC, zoo", "95%", "AUC, public", "95%", "photos", "zoo", "public"),
        [
            (
                condition,
                f"{of_zoo['auc']:.3f}",
                interval(of_zoo["auc_interval"]),
                f"{of_public['auc']:.3f}",
                interval(of_public["auc_interval"]),
                *(percent(s["generated"]) for s in (of_public["camera"], of_zoo["generated"], of_public["generated"])),
            )
            for condition, of_zoo in evaluation["detection_zoo"].items()
            for of_public in [evaluation["detection_public"][condition]]
        ],
    )
    edits = sources.edits["edits"]
    yield (
        f"After common edits and JPEG q{QUALITY}, with {ZOO_PICTURES} pictures of each zoo generator. Training contains edits of the "
        "kinds marked *yes*, in other strengths."
    )
    yield table(
        ("edit", "in training", "AUC, zoo", "AUC, public", "photos called camera", "photos called generated"),
        [
            (
                name,
                "yes" if edit["in_training"] else "no",
                *(f"{edit[kind]['auc']:.3f}" for kind in KINDS),
                *(percent(edit["public"]["camera"][verdict]) for verdict in ("camera", "generated")),
            )
            for name, edit in edits.items()
        ],
    )


def _calibration(sources: Sources) -> Iterator[str]:
    calibration = sources.bundle.calibration
    assert calibration is not None
    zoo, public = (sources.evaluation[f"detection_{kind}"]["mixed"] for kind in KINDS)
    yield "## Calibration"
    yield (
        f"A picture is called `generated` from a probability of {percent(calibration.generated)}, and `camera` below "
        f"{percent(calibration.camera)}; in between it is `inconclusive`. The first threshold lets at most "
        f"{percent(MAX_FALSE_ALARMS)} of photos pass, with a confidence of {percent(CONFIDENCE)}. Below the second lie at most "
        f"{percent(MAX_MISSES)} of generated validation pictures, of the zoo or of public generators, whichever is harder."
    )
    yield table(
        (
            "mixed pictures",
            "average precision",
            "balanced accuracy",
            "calibration error",
            "inconclusive photos",
            "inconclusive generated",
        ),
        [
            (
                f"{kind} generators",
                f"{found['average_precision']:.3f}",
                percent(found["balanced_accuracy"]),
                f"{found['calibration_error']:.3f}",
                *(percent(found[part]["inconclusive"]) for part in ("camera", "generated")),
            )
            for kind, found in (("zoo", zoo), ("public", public))
        ],
    )


def _attribution(sources: Sources) -> Iterator[str]:
    evaluation = sources.evaluation
    yield "## Attribution"
    yield (
        "Known generators are named on pictures that training never saw. Zoo pictures show photos, so content does not reveal the "
        "generator. Public generators differ in what they show, which flatters their metrics."
    )
    yield table(
        ("generators", "condition", "known", "accuracy", "chance", "unknown AUROC", "OSCR"),
        [
            (
                kind,
                c,
                f["known_generators"],
                *(f"{f[key]:.3f}" for key in ("accuracy", "chance", "unknown_auroc", "oscr")),
            )
            for kind in KINDS
            for c in CONDITIONS
            if (f := evaluation.get(f"attribution_{kind}", {}).get(c))
        ],
    )
    yield from comparing_sections(evaluation)


def comparing_sections(evaluation: dict[str, Any]) -> Iterator[str]:
    """Yield tables of comparing two pictures and of enrolment; nothing if there were too few generators."""
    compared = [
        (
            kind,
            condition,
            f["generators"],
            f"{f['auc']:.3f}",
            interval(f["auc_interval"]),
            *(f"{f[key]:.3f}" for key in ("accuracy", "calibration_error")),
            *(percent(f[key]) for key in ("same_called_same", "different_called_same")),
        )
        for kind in KINDS
        for condition in CONDITIONS
        if (f := evaluation[f"same_generator_{kind}"][condition]) and "calibration_error" in f
    ]
    if compared:
        yield "Did one generator make both pictures? Pairs of unseen generators:"
        heads = ("generators", "condition", "number", "AUC", "95%", "accuracy", "calibration error")
        yield table((*heads, "same called same", "different called same"), compared)
    enrolled = [
        (
            kind,
            condition,
            f["pictures"],
            f"{f['enrolled']} of {f['names']}",
            percent(f["accuracy"]),
            f"{f['unknown_auroc']:.3f}",
            *(percent(f[key]) for key in ("named_rightly", "unknown_named")),
        )
        for kind in KINDS
        for condition in CONDITIONS
        for f in evaluation[f"enrolment_{kind}"][condition]
        if f is not None
    ]
    if enrolled:
        yield "Unseen generators enrolled with a few pictures each; unknown generators are not enrolled:"
        columns = ("generators", "condition", "pictures each", "new names", "accuracy", "unknown AUROC")
        yield table((*columns, "named correctly", "unknown named"), enrolled)


def _parsing(sources: Sources) -> Iterator[str]:
    bundle, mixed, clean = (sources.bundle, *(sources.evaluation["parsing"][c] for c in CONDITIONS))
    groups = (
        ("continuous", "L1 (lower is better)", "l1", min, ("median_l1", "mean_l1"), "family_l1"),
        ("discrete", "macro-F1", "macro_f1", max, ("mode_macro_f1", "random_macro_f1"), "family_macro_f1"),
        ("losses", "macro-F1", "macro_f1", max, ("mode_macro_f1", "random_macro_f1"), "family_macro_f1"),
    )

    def mean(found: dict[str, Any], group: str, *keys: str, best: Any = min) -> str:
        values = [best(f[key] for key in keys) for f in found[group].values()]
        return f"{sum(values) / len(values):.3f}"

    yield "## Model parsing"
    yield (
        f"{mixed['pictures']} pictures of {mixed['generators']} unseen zoo generators. The constant is the better of the training "
        "median and mean, or of mode and random answers. The family baseline answers with the constant of the recognised family. "
        "Continuous attributes are scaled to their range. [parsing.csv](training/results/parsing.csv) has every attribute."
    )
    yield table(
        ("attributes", "metric", "mixed", "clean", "constant, mixed", "family, clean"),
        [
            (
                group,
                name,
                mean(mixed, group, key),
                mean(clean, group, key),
                mean(mixed, group, *constants, best=best),
                mean(clean, group, family),
            )
            for group, name, key, best, constants, family in groups
        ],
    )
    beaten = beats_baselines(mixed["family"])
    reported = reported_attributes(bundle)
    yield (
        f"The family is recognised with macro-F1 {mixed['family']['macro_f1']:.3f} "
        f"({'above' if beaten else 'not above'} its baselines). A report lists only attributes that beat a constant baseline by a "
        f"margin on validation generators: {', '.join(reported)}. "
        "Some of them do not hold up on test generators."
    )


def _precision(sources: Sources) -> Iterator[str]:
    variants = sources.bundle.metrics["variants"]
    lost = ", ".join(f"{name} {points_lost(variants, name):.2f}" for name in variants if name != "fp32")
    parity = max(sources.bundle.metrics["parity_max_relative_error"].values())
    yield "## Precisions"
    yield (
        f"Largest loss against fp32 in any validation metric, in points (hundredths): {lost}. fp32 in ONNX Runtime differs from PyTorch "
        f"by at most {parity:.1e} of an output's scale. [precisions.csv](training/results/precisions.csv) has every metric."
    )


def _limits(sources: Sources) -> Iterator[str]:
    edits, zoo = sources.edits["edits"], sources.evaluation["detection_zoo"]
    misleading = max(edits, key=lambda name: edits[name]["public"]["camera"]["generated"])
    hardest = min(zoo, key=lambda condition: float(zoo[condition]["auc"]))
    yield "## Limits"
    yield "\n".join(
        f"- {line}"
        for line in (
            "A low probability is no proof of a camera, and a high one is no proof of a generator.",
            "Public diffusion models leave weaker traces than the small generators of the zoo.",
            "There are few test generators, so intervals over generators are wide.",
            f"Resizing and recompression remove traces: after *{hardest}* the AUC on the zoo is {zoo[hardest]['auc']:.3f}.",
            f"The most misleading edit is *{misleading}*: {percent(edits[misleading]['public']['camera']['generated'])} of photos "
            "are then called generated.",
            "Composites, local retouching and photos of screens were not tested.",
            "The embedding recognises how a generator is built. The same generator trained again is mostly taken for the same one.",
            "Nothing was fitted on test pictures, but their metrics were known when the next bundle was planned "
            "([accuracy](docs/accuracy.md)).",
        )
    )


def render(sources: Sources) -> str:
    """Return the model card."""
    bundle = sources.bundle
    head = [
        f"# Model card: bundle {bundle.label}",
        "Generated by `python -m training report` from the bundle's manifest and [training/results](training/results); edit the "
        "generator, not this page.",
        "## What it is",
        "One convolutional network that answers all questions in one pass over windows of 128x128 pixels at native resolution: camera "
        "or generated, which generator, and what is the generator like inside. A fingerprint estimation network (FEN), trained with "
        "the four constraints of arXiv 2106.07873, feeds a strided trunk and linear heads. The heads also read the energy "
        "of every frequency in 8x8 blocks. Detection adds a logit of spectral lines: frequencies that repeat with the same "
        "phase over the whole window, as up-sampling leaves them. That logit was fitted on public generators and whole photos. "
        f"CPUs run the {bundle.default_variant} file, to which all figures refer unless another is named.",
        "## Intended use",
        "Triage of single pictures and research on image forensics. Read the verdict together with other evidence. Do not use "
        "it as the only ground for a decision about a person, and not as proof that a picture is authentic.",
    ]
    parts = (_training, _data, _detection, _calibration, _attribution, _parsing, _precision, _limits)
    return "\n\n".join([*head, *(block for part in parts for block in part(sources))]) + "\n"
