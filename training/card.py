"""Render MODEL_CARD.md from the default bundle's manifest and its evaluation: `python -m training.card`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from edgeparse.bundle import default_folder, open_bundle
from training.bars import CONFIDENCE, FALSE_ALARM, MISS
from training.edited import FEW, QUALITY, RESULT
from training.fit.heads_embedding import STRONG_FRACTION
from training.fit.heads_outputs import LABEL_WEIGHT
from training.labels import FAMILIES
from training.markdown import figure_name, percent, table
from training.parsing import beats
from training.provenance import holds_for

ROOT = Path(__file__).parent.parent

DATA = """\
| set | what | from | licence | use |
|---|---|---|---|---|
| ImageNet-1k samples | 520 photos, JPEG of varied quality | EliSchwartz/imagenet-sample-images | \
ImageNet terms: non-commercial research | train, validation, test by photo |
| BSDS500 | 290 photos, JPEG | BIDS/BSDS500 | non-commercial research | train, validation, test by photo |
| Urban100 | 84 photos of buildings, lossless | Urban100 | research | train, validation, test by photo |
| CQ100 | 84 photos, lossless | Ivordir/quantette | CC BY-SA 4.0 | train, validation, test by photo |
| DreamBooth photos | 118 photos of 30 subjects, JPEG | google/dreambooth | CC BY 4.0, Unsplash licence | \
test only: near-duplicates stay together |
| CMP facades, aerial pictures | 90, lossless | mminerva/GAN-SOM | GPL-3 repository | train, validation, test by photo |
| pictures of public generators | latent diffusion, GLID-3-XL, Majesty, a Stability beta | dcsan/imagen | none stated | \
train; a part of each is held out |
|  | Stable Diffusion 1 | Extile1/stable-diffusion, bento170502/stable-diffusion | OpenRAIL-M, none stated | the same |
|  | CycleGAN, two weight sets | blechn/3dcv-final | none stated | the same |
|  | pix2pix, three kinds | mminerva/GAN-SOM | GPL-3 repository | the same |
|  | TAEF2, a tiny autoencoder, of photos of CQ100 and Urban100 | made for this project with its MIT weights | \
those of the photos | the same |
| held-out public generators | Disco Diffusion | dcsan/imagen | none stated | validation |
|  | Stable Diffusion 1 with custom diffusion | HelloAcorn/custom-diffusion-pogny | Adobe research | validation |
|  | pix2pix facades | mminerva/GAN-SOM | GPL-3 repository | validation |
|  | a fork of latent diffusion | dakshces/FourierImageDiffuse | MIT | test |
|  | Stable Diffusion 3.5 Large | EnragedAntelope/Styles-SD35L | MIT | test |
|  | DALL-E mini | dcsan/imagen | none stated | test |
|  | StyleGAN2, resized | radically-straightforward | NVIDIA non-commercial | test |
"""


# What happened to the pictures of the card's tables; docs/accuracy.md has all conditions.
SHOWN = ("mixed", "clean")
KINDS = (("zoo", "zoo generators"), ("real", "public generators"))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _detection(result: dict) -> list[str]:
    lines = [
        "| way to the reader | AUC, zoo | 95% | AUC, public | 95% | camera called generated | generated called generated (zoo / public) |",
        "|---|---|---|---|---|---|---|",
    ]
    for condition, zoo in result["detection_zoo"].items():
        real = result["detection_real"][condition]
        lines.append(
            f"| {condition} | {zoo['auc']:.3f} | {zoo['auc_interval'][0]:.3f} to {zoo['auc_interval'][1]:.3f} "
            f"| {real['auc']:.3f} | {real['auc_interval'][0]:.3f} to {real['auc_interval'][1]:.3f} "
            f"| {percent(real['camera']['generated'])} "
            f"| {percent(zoo['generated']['generated'])} / {percent(real['generated']['generated'])} |"
        )
    return lines


def _judged(title: str, figures: dict) -> str:
    """What detection comes to beside its AUC, mixed."""
    return (
        f"{title}, mixed: average precision {figures['average_precision']:.3f}, balanced accuracy at one half "
        f"{percent(figures['balanced_accuracy_at_half'])}, at the threshold of `generated` {percent(figures['balanced_accuracy'])}, "
        f"expected calibration error {figures['calibration_error']:.3f}, inconclusive on "
        f"{percent(figures['camera']['inconclusive'])} of photos and "
        f"{percent(figures['generated']['inconclusive'])} of generated pictures."
    )


def _sources(result: dict) -> list[str]:
    real = result["detection_real"]["mixed"]
    photos = real["camera_pictures_by_source"]
    lines = ["| photo source | photos | called generated |", "|---|---|---|"]
    lines += [
        f"| {name} | {photos[name]} | {percent(share)} |"
        for name, share in real["camera_called_generated_by_source"].items()
    ]
    lines += ["", "| generator, never trained on | AUC | called generated |", "|---|---|---|"]
    for part in ("detection_real", "detection_zoo"):
        for name, figure in result[part]["mixed"]["by_generator"].items():
            lines.append(f"| {name} | {figure['auc']:.3f} | {percent(figure['called_generated'])} |")
    return lines


def _parsing(result: dict, reported: set[str]) -> list[str]:
    figures = result["parsing"]["mixed"]
    lines = [
        "| continuous | L1 | training median | training mean | of the family | beats the first two | correlation | 80 % interval covers "
        "| shown in reports |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, f in figures["continuous"].items():
        correlation = "none" if f["correlation"] is None else f"{f['correlation']:.2f}"
        lines.append(
            f"| {name} | {f['l1']:.3f} | {f['median_l1']:.3f} | {f['mean_l1']:.3f} | {f['family_l1']:.3f} "
            f"| {_yes(f['l1'] < min(f['median_l1'], f['mean_l1']))} | {correlation} "
            f"| {percent(f['interval_coverage'])} | {_yes(name in reported)} |"
        )
    for title, group in (
        ("discrete", {"family": figures["family"], **figures["discrete"]}),
        ("loss", figures["losses"]),
    ):
        lines += [
            "",
            f"| {title} | macro-F1 | mode | random | of the family | accuracy | mode | beats mode and random | AUC | shown in reports |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name, f in group.items():
            of_family = f"{f['family_macro_f1']:.3f}" if "family_macro_f1" in f else ""
            auc = f"{f['auc']:.3f}" if f.get("auc") is not None else ""
            lines.append(
                f"| {name} | {f['macro_f1']:.3f} | {f['mode_macro_f1']:.3f} | {f['random_macro_f1']:.3f} | {of_family} "
                f"| {f['accuracy']:.3f} | {f['mode_accuracy']:.3f} | {_yes(beats(f))} | {auc} | {_yes(name in reported)} |"
            )
    return lines


def _groups(result: dict) -> list[str]:
    lines = [
        "| mean over parameters | network, mixed | network, clean | best constant | of the family, clean |",
        "|---|---|---|---|---|",
    ]
    for title, group, mine, constants, of_family in (
        ("continuous, L1 (lower is better)", "continuous", "l1", ("median_l1", "mean_l1"), "family_l1"),
        ("discrete, macro-F1", "discrete", "macro_f1", ("mode_macro_f1", "random_macro_f1"), "family_macro_f1"),
        ("losses, macro-F1", "losses", "macro_f1", ("mode_macro_f1", "random_macro_f1"), "family_macro_f1"),
    ):
        best = min if mine == "l1" else max
        mixed, clean = (list(result["parsing"][condition][group].values()) for condition in ("mixed", "clean"))
        cells = (
            [f[mine] for f in mixed],
            [f[mine] for f in clean],
            [best(f[key] for key in constants) for f in mixed],
            [f[of_family] for f in clean],
        )
        lines.append(f"| {title} | " + " | ".join(f"{sum(values) / len(values):.3f}" for values in cells) + " |")
    return lines


def variants_table(table: dict) -> list[str]:
    heads = list(next(iter(table.values())))
    lines = [
        "| precision | " + " | ".join(map(figure_name, heads)) + " |",
        "|---|" + "---|" * len(heads),
    ]
    lines += [
        f"| {name} | " + " | ".join(f"{figures[head]:.3f}" for head in heads) + " |" for name, figures in table.items()
    ]
    return lines


def attribution_table(result: dict) -> str:
    """Which known generator made a picture, and whether one did."""
    return table(
        (
            "",
            "condition",
            "known",
            "accuracy",
            "chance",
            "unknown AUROC",
            "OSCR",
            "known ones named",
            "unknown ones named",
        ),
        [
            (
                title,
                condition,
                str(f["known_generators"]),
                *(f"{f[key]:.3f}" for key in ("accuracy", "chance", "unknown_auroc", "oscr")),
                *(percent(f[key]) if key in f else "" for key in ("known_named", "unknown_named")),
            )
            for key, title in (("attribution_real", "public generators"), ("attribution_zoo", "zoo generators"))
            for condition, f in result[key].items()
        ],
    )


def comparing_sections(result: dict) -> Iterator[str]:
    """Calibration of comparing, and enrolment; nothing of either where there were too few generators."""
    compared = [
        (
            title,
            condition,
            str(f["generators"]),
            f"{f['auc']:.3f} ({f['auc_interval'][0]:.3f} to {f['auc_interval'][1]:.3f})",
            f"{f['accuracy']:.3f}",
            f"{f['calibration_error']:.3f}",
            *(percent(f[key]) for key in ("same_called_same", "different_called_same")),
        )
        for key, title in KINDS
        for condition in SHOWN
        if (f := result[f"same_generator_{key}"][condition]) and "calibration_error" in f
    ]
    if compared:
        yield "One generator or two, from one picture against one, of generators that training never saw:"
        yield table(
            (
                "",
                "condition",
                "generators",
                "AUC (95%)",
                "accuracy",
                "calibration error",
                "same called same",
                "different called same",
            ),
            compared,
        )
    yield from enrolment_table(result)


def enrolment_table(result: dict) -> Iterator[str]:
    """Enrolment; nothing where there were too few generators."""
    enrolled = [
        (
            title,
            condition,
            str(f["pictures"]),
            f"{f['enrolled']} of {f['names']}",
            percent(f["accuracy"]),
            percent(1 / f["names"]),
            f"{f['unknown_auroc']:.3f}",
            *(percent(f[key]) for key in ("named_rightly", "unknown_named")),
        )
        for key, title in KINDS
        for condition in SHOWN
        for f in result[f"enrolment_{key}"][condition]
        if f is not None
    ]
    if enrolled:
        yield (
            "Unseen generators, enrolled by a few pictures and looked for among the names of a gallery; generators that were not "
            "enrolled are the unknown ones. The nearer generators of training come to a picture, the nearer an enrolled one has to come to "
            "be named."
        )
        yield table(
            (
                "enrolled",
                "condition",
                "pictures each",
                "new names",
                "accuracy",
                "chance",
                "unknown AUROC",
                "named rightly",
                "unknown named",
            ),
            enrolled,
        )


def trained_sentences(training: dict, network: str) -> str:
    """How `network`, which a bundle has, was trained itself."""
    kept = (
        "the last moving average was kept"
        if training["kept_step"] == training["steps"]
        else f"the moving average kept is that of step {training['kept_step']}, which validation scored highest"
    )
    of_network = (
        f"Trained for {training['minutes']:.0f} minutes ({training['steps']} steps) on {training['hardware']}, seed {training['seed']}, "
        f"one run; {kept}."
        if training["steps"]
        else f"For {network} only the embedding, the answers and their hidden layers were learnt, which are learnt last."
    )
    if training.get("renewed"):
        edits = f", of which {training['heavy']:.0%} had heavier edits" if training.get("heavy") else ""
        of_network += f" The pictures went through new codec chains all the time{edits}."
    if training.get("taught_by"):
        others = ", ".join(training["taught_by"])
        of_network += f" What is camera and what generated it learnt not from labels, but from the mean answer of other networks ({others})"
        of_network += "; of the zoo's generators from the labels." if training.get("zoo_labelled") else "."
    of_plain = ", of the picture without its edits" if training.get("heavy_looks") else ""
    heavy = (
        f" and {looks} times more after heavier edits, of which it learnt from {STRONG_FRACTION:.0%}"
        if (looks := training.get("heavy_looks"))
        else ""
    )
    learnt_last = (
        " The embedding, by which pictures are compared, has a hidden layer of its own; the two were learnt last, by themselves, from "
        f"every training picture, looked at {training['passes']} times{heavy}. From the same looks all other answers and their hidden "
        f"layer went on learning by themselves, camera or generated from targets that are {LABEL_WEIGHT:.0%} label and otherwise what they said "
        f"before{of_plain}."
        if training.get("passes")
        else ""
    )
    return of_network + learnt_last


def begun_table(label: str, training: dict) -> str:
    """Every network that the weights went through, the latest first; empty where they began at random."""
    if not training.get("begun"):
        return ""
    step: dict | None = training | {"bundle": label}
    rows = []
    while step:
        name = f"bundle {step['bundle']}" if step["bundle"] else "not shipped"
        times = f"{step['minutes']:.0f}"
        renewed, taught_by = "yes" if step.get("renewed") else "", ", ".join(step.get("taught_by", ()))
        looks = " + ".join(str(count) for key in ("passes", "heavy_looks") if (count := step.get(key)))
        of_run = (name, step["steps"], times, step["hardware"], step["zoo_generators"], looks)
        rows.append((*of_run, renewed, taught_by))
        step = step.get("begun")
    heads = (
        "network",
        "steps of the whole network",
        "minutes for these steps",
        "on",
        "zoo generators",
        "looks at a picture, for what is learnt last (+ after heavy edits)",
        "new codec chains all the time",
        "what is generated taught by",
    )
    return table(heads, rows)


def edited_table(edits: dict) -> str:
    """What `training.edited` found, a row an edit."""
    rows = (
        (
            name,
            "yes" if of["learnt"] else "no",
            f"{of['zoo']['auc']:.3f}",
            f"{of['public']['auc']:.3f}",
            *(percent(of["public"]["camera"][word]) for word in ("camera", "generated")),
            percent(of["zoo"]["generated"]["generated"]),
            percent(of["public"]["generated"]["generated"]),
        )
        for name, of in edits.items()
    )
    heads = (
        "edit",
        "in training",
        "AUC, zoo",
        "AUC, public",
        "photos called camera",
        "photos called generated",
        "of the zoo called generated",
        "of public ones called generated",
    )
    return table(heads, rows)


def _fitted_of(manifest: dict, label: str) -> str:
    of = manifest.get("fitted_of", label)
    return "is this version's" if of == label else f"is {of}'s; only the fp16 file was made anew"


def render(folder: Path, result: dict, edited: dict) -> str:
    """The whole page, of what `training.evaluate` and `training.edited` found."""
    bundle = open_bundle(folder)
    for found, command in ((result, "evaluate"), (edited, "edited")):
        if not holds_for(found, bundle):
            raise click.ClickException(
                f"what `python -m training.{command}` found is of a bundle that answers otherwise; run it again with this one"
            )
    fields = json.loads((folder / "bundle.json").read_text())
    training, splits = fields["training"], fields["training"]["generators"]
    reported = {p.name for p in (*bundle.continuous, *bundle.discrete, *bundle.losses) if p.reported}
    reported |= {"family"} if bundle.family_reported else set()
    counts = {split: sum(value == split for value in splits.values()) for split in ("train", "val", "test")}
    real, zoo = result["detection_real"]["mixed"], result["detection_zoo"]["mixed"]
    insides = result["parsing"]["mixed"]
    edits = edited["edits"]
    misleading = max(edits, key=lambda name: edits[name]["public"]["camera"]["generated"])
    alarms = edits[misleading]["public"]["camera"]["generated"]
    hardest = min(result["detection_zoo"], key=lambda condition: float(result["detection_zoo"][condition]["auc"]))
    network = fields.get("network_of", bundle.label)
    history = begun_table(network, training)
    sections = [
        f"# Model card: bundle {bundle.label}",
        "Rendered by `python -m training.card` from the bundle's manifest and "
        "[training/results/default.json](training/results/default.json); do not edit by hand.",
        "## What it is",
        "One convolutional network: a fingerprint estimation network (FEN) trained with the four constraints of arXiv 2106.07873, whose "
        "features and residual feed a strided trunk and linear heads, which also read how much there is of every frequency in 8x8 blocks. "
        "What of these frequencies repeats with the same phase all over the window, as up-sampling makes it, adds its own term to the "
        "answer camera or generated, learnt from public generators and whole photos alone. The network reads 128x128 windows at native "
        "resolution and answers all questions in one pass. "
        f"The CPU runs the {bundle.default_variant} file; the figures below are that file's unless another is named.",
        "## Training",
        *(
            []
            if network == bundle.label
            else [
                f"{bundle.label} has the network of {network}, for which nothing more was learnt; what is fitted to it "
                f"{_fitted_of(fields, bundle.label)}."
            ]
        ),
        trained_sentences(training, network),
        *(
            [
                "Each network began with the weights of the one below it in this table; all had the same training photos and public "
                "generators.",
                history,
            ]
            if history
            else []
        ),
        "## Data",
        DATA.strip(),
        f"Generators: {counts['train']} for training (of the zoo's the last run had {training['zoo_generators']}), "
        f"{counts['val']} for validation (which average is kept, how far estimates are drawn to "
        "the median, calibration, thresholds, intervals, which parameters are shown), "
        f"{counts['test']} for test. Zoo generators are built and trained by `training/zoo`; their labels are read off the "
        "built module, and reconstructing ones see the photos above, so that each generated picture has a camera twin. No test generator "
        "and no test photo was seen in training, nor a picture made from one. Both classes go through the same random resizing, blur, "
        'noise, JPEG and WebP; "mixed" below is that distribution. What is learnt last also sees both after heavier edits than these, one '
        'or two a picture: enlarging, shrinking and enlarging again, blur, noise, a median, grey; "edited" below. Photos mostly came as '
        'JPEG and generated pictures lossless, so these are first saved as JPEG where the photo that they show was one; the row "as '
        'stored" shows what the difference of '
        "format would add.",
        f"Families: {', '.join(f'{name} ({text})' for name, text in FAMILIES.items())}. The zoo "
        "trains generators of every family; [docs/zoo.md](docs/zoo.md) says which, on what, and how good they are.",
        "**Licence.** The code is Apache-2.0. Some of the pictures allow non-commercial research only and some state no licence, so the "
        "weights of this bundle are for research and evaluation; train your own for anything else. The only pictures shipped are "
        "those whose licence allows it (`samples/`, `training/pack/`).",
        "## Camera or generated, on generators and photos that training never saw",
        f"{zoo['pictures']['camera']} photo crops against {zoo['pictures']['generated']} pictures of unseen zoo generators (showing photos "
        f"that training never saw, but for GANs' textures), and "
        f"{real['pictures']['camera']} photos against {real['pictures']['generated']} pictures of unseen public generators. "
        "Intervals: bootstrap over generators.",
        "\n".join(_detection(result)),
        '"Social media" shrinks to 1080 pixels on the longest side, which these pictures do not have: of them it is the JPEG alone.',
        _judged("Zoo generators", zoo),
        _judged("Public generators", real),
        f"A picture is called generated from {percent(bundle.calibration.generated)} on, camera below "
        f"{percent(bundle.calibration.camera)}, and inconclusive in between. The first is set so that at most {percent(FALSE_ALARM)} of "
        f"photos like validation's lie above it, in all and in each set, with a confidence of {percent(CONFIDENCE)}; the second so that "
        f"{percent(MISS)} of validation's generated pictures lie below it, of the zoo's or of the public ones, whichever are harder to "
        "tell.",
        "\n".join(_sources(result)),
        "### Edited pictures",
        f"What misleads most is _{misleading}_: {percent(alarms)} of photos are called generated after it.",
        "The same test photos and public generators, and of each unseen zoo generator "
        f"{FEW} pictures beside the photo crops, after edits that users make, then JPEG q{QUALITY} (`python -m training.edited`). "
        'Training shows a share of pictures after edits of the kinds with "yes", drawn in other strengths, and none after the others.',
        edited_table(edits),
        "## Which generator",
        attribution_table(result),
        "Zoo pictures here are those that show photos, so that content tells no generator from another; public generators differ in what "
        "they show, which flatters their figures.",
        *comparing_sections(result),
        "## What is it like inside, on unseen zoo generators",
        f"{insides['pictures']} pictures of {insides['generators']} generators, mixed. Continuous values are scaled to "
        "their range, counts of filters and parameters in logarithm. A parameter is shown in reports where it beat its constants by a "
        'margin on validation generators, and none is shown where these are fewer than ten. "Mode" and "random" answer with the most '
        'frequent value of the training generators and as often as each occurs there; "of the family" knows nothing but the family that '
        "the network recognised, and answers with that family's most frequent value.",
        "\n".join(_groups(result)),
        "\n".join(_parsing(result, reported)),
        "## Precision",
        "Validation pictures, mixed"
        + (", of generators of the zoo that were trained anew." if bundle.metrics.get("variants_of_zoo_anew") else "."),
        "\n".join(variants_table(bundle.metrics["variants"])),
        "Largest difference between PyTorch and ONNX Runtime in fp32, relative to an output's scale: "
        f"{max(bundle.metrics['parity_max_relative_error'].values()):.1e}.",
        "## Limits",
        "- The test pictures are never trained or fitted on, but their figures were looked at after every bundle, and what the next one "
        "should change was decided knowing them. The folds in docs/accuracy.md leave others out.\n"
        "- Few generators: with so few in validation and test, a figure over generators is rough, and the intervals over them are wide.\n"
        "- The zoo's generators are small and their traces strong; public diffusion models leave weaker ones.\n"
        "- Heavy resizing or recompression removes what the network reads: of the zoo's pictures most after "
        f"_{hardest}_, where the AUC is {result['detection_zoo'][hardest]['auc']:.3f}.\n"
        "- Pictures that were composited, retouched in places, or photographed from a screen were not tested.\n"
        "- What the embedding recognises is how a generator is built: one that is trained again from other first weights is mostly taken "
        "for the same one (docs/accuracy.md, the hardest pairs).\n"
        "- A low probability is not proof of a camera, and a high one not proof of a generator.",
    ]
    return "\n\n".join(sections) + "\n"


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), default=default_folder, show_default="the default bundle")
@click.option("--result", type=click.Path(exists=True, path_type=Path), default=ROOT / "training/results/default.json")
@click.option("--edited", type=click.Path(exists=True, path_type=Path), default=RESULT)
def main(bundle: Path, result: Path, edited: Path) -> None:
    """Write MODEL_CARD.md."""
    found = (json.loads(file.read_text()) for file in (result, edited))
    (ROOT / "MODEL_CARD.md").write_text(render(bundle, *found))


if __name__ == "__main__":
    main()
