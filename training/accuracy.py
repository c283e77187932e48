"""Render docs/accuracy.md and docs/tried.md from the JSON that evaluations wrote: `python -m training.accuracy`. No figure in the first
is typed by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import onnx

from edgeparse.bundle import default_folder, open_bundle
from edgeparse.windows import SIZE, smallest
from training.bars import BARS, Bar, Evidence, above_mode, judge, l1_saved, points_lost
from training.card import attribution_table, comparing_sections, enrolment_table, variants_table
from training.data.folds import FOLDS
from training.edited import QUALITY
from training.enrolment import MANY
from training.markdown import figure_name, percent, table
from training.precisions import rows as precision_rows
from training.provenance import holds_for
from training.study_tables import lines_section, study_sections

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "training" / "results"
PAGE, TRIED_PAGE = ROOT / "docs" / "accuracy.md", ROOT / "docs" / "tried.md"
# As benchmarks/results names our network.
OURS = "edgeparse"
# What the figures of tried.json are called that were to move a bar, by how the bar's key begins; bars of cost and precision have others.
TRIED_FOR = {
    "detection_zoo": r"camera or generated, AUC, .*zoo",
    "detection_real": r"camera or generated, AUC, .*public",
    "unseen_cameras": r"photos .*called generated",
    "worst_cameras": r"photos .*called generated",
    "attribution_zoo": r"known (zoo )?generator",
    "attribution_real": r"known public generator",
    "same_generator_zoo": r"one generator or two, .*zoo",
    "same_generator_real": r"one generator or two, .*public|public .*called one",
    "enrolment": r"enrolled by",
    "continuous": r"continuous parameters",
    "interval": r"interval",
    "discrete": r"discrete parameters",
    "losses": r"loss types",
}
# Bars that are of generators of the zoo that training never saw, and of nothing else but photos.
OF_UNSEEN_ZOO = ("detection_zoo", "same_generator_zoo", "enrolment_zoo", "continuous", "discrete", "losses", "interval")


@dataclass(frozen=True)
class Sources:
    """All that the pages say comes from here: an evaluation, another one on a zoo that was trained anew, every precision's test figures,
    figures and cost of the bundle, milliseconds of a window on a CPU, the study, what lines tell alone, generators trained again, small
    pictures, all seven None where there is none, what the evaluation pack's pictures give, and what was tried outside the study."""

    evaluation: dict[str, Any]
    anew: dict[str, Any] | None
    precisions: dict[str, Any] | None
    variants: dict[str, dict[str, float]]
    variants_of_zoo_anew: bool
    label: str
    multiply_accumulates: int
    window_ms: float | None
    study: dict[str, Any] | None
    lines: dict[str, Any] | None
    again: dict[str, Any] | None
    small: dict[str, Any] | None
    pack: dict[str, Any]
    tried: list[dict[str, Any]]

    @staticmethod
    def read(folder: Path | None = None) -> Sources:
        """Those of the repository, for a bundle, by default its own.

        Raises:
            ValueError: the evaluation is of a bundle that answers otherwise.
        """
        bundle = open_bundle(folder or default_folder())
        evaluation = json.loads((RESULTS / "default.json").read_text())
        if not holds_for(evaluation, bundle):
            raise ValueError(
                "the evaluation is of a bundle that answers otherwise; run `python -m training.evaluate` again"
            )
        anew, precisions, study, lines, again, small = (
            _kept(name) for name in ("anew", "precisions", "study", "lines", "trained_again", "small")
        )
        measured = [anew, again, small, *(precisions["measured"] if precisions else ())]
        if not all(holds_for(found, bundle) for found in measured if found):
            raise ValueError(
                f"anew.json, trained_again.json, small.json or precisions.json in {RESULTS} is of a bundle that answers otherwise; "
                "measure it again or remove it"
            )
        return Sources(
            evaluation,
            anew,
            precisions,
            bundle.metrics["variants"],
            bool(bundle.metrics.get("variants_of_zoo_anew")),
            bundle.label,
            multiply_accumulates(bundle.model("fp32")),
            window_ms((ROOT / "benchmarks" / "results").glob("*.json"), bundle.sha256),
            study,
            lines,
            again,
            small,
            json.loads((RESULTS / "pack.json").read_text()),
            json.loads((RESULTS / "tried.json").read_text()),
        )

    def evidence(self) -> Evidence:
        """For the bars. What was not measured is not there."""
        found: Evidence = {
            "evaluation": self.evaluation,
            "unseen_photos": sorted(FOLDS[0].photos),
            "variants": self.variants,
            "multiply_accumulates": self.multiply_accumulates,
        }
        measured = {"window_ms": self.window_ms, "study": self.study, "precisions": self.precisions}
        return found | {name: value for name, value in measured.items() if value is not None}


def _kept(name: str) -> dict[str, Any] | None:
    """A result of the repository, where there is one."""
    path = RESULTS / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return found


def multiply_accumulates(model: bytes) -> int:
    """Of an exported network's convolutions, which its fully connected layers are, too, for one window."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            outputs, inputs, *kernel = weights[node.input[1]]
            _, _, height, width = shapes[node.output[0]]
            total += outputs * inputs * kernel[0] * kernel[1] * height * width
    return total


def window_ms(files: Iterable[Path], sha256: str) -> float | None:
    """Median milliseconds of a window on a CPU, of ONNX Runtime at its best precision, on the slowest machine that measured this bundle."""
    found = []
    for path in sorted(files):
        peers = json.loads(path.read_text())["sections"].get("peers", {})
        times = [
            entry["ms"]["all"]["p50"]
            for entry in peers.get("contenders", [])
            if (entry["network"], entry["runtime"]) == (OURS, "onnxruntime")
        ]
        if times and peers["bundle_sha256"] == sha256:
            found.append(min(times))
    return max(found, default=None)


def _range(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else ""


def _tried_for(bar: Bar, tried: Sequence[dict[str, Any]]) -> str:
    """How many changes were tried whose figure is the bar's, and how many of them are kept."""
    pattern = next((words for start, words in TRIED_FOR.items() if bar.key.startswith(start)), None)
    if pattern is None:
        return ""
    changes = {entry["tried"]: entry["kept"] for entry in tried if re.search(pattern, entry["figure"])}
    return f"{len(changes)}, {sum(changes.values())} kept" if changes else "none"


def _outcome(bar: Bar, value: float, interval: Sequence[float] | None) -> str:
    if not bar.met(value):
        return "**missed**"
    return "met" if interval is None or all(map(bar.met, interval)) else "met, the interval spans it"


def _bars(evidence: Evidence, tried: Sequence[dict[str, Any]]) -> Iterator[str]:
    judged = list(judge(evidence))
    met = sum(value is not None and bar.met(value) for bar, value, _ in judged)
    missing = sum(value is None for _, value, _ in judged)
    yield "## Bars"
    yield (
        f"{met} of {len(judged)} are met"
        + (f", {missing} not measured" if missing else "")
        + ". They are of the shipped bundle, on what fold 0 leaves out; short trainings over four folds are below. Intervals (95 %) are "
        "bootstraps over generators, of shares of photos exact binomial ones; of enrolled generators they include which were enrolled. The "
        "last column counts the changes that were tried for a figure ([tried.md](tried.md)); ablations below are more. "
        '"Mixed" is a random chain of resizing, blur, noise, JPEG and WebP for each picture; "social media" is at most 1080 pixels on '
        "the longest side and JPEG q75; of these pictures, which are smaller, the JPEG alone."
    )
    yield table(
        ("what", "bar", "reached", "95%", "", "changes tried"),
        [
            (bar.what, bar.text, "not measured", "", "", "")
            if value is None
            else (
                bar.what,
                bar.text,
                bar.shown(value),
                bar.range(interval),
                _outcome(bar, value, interval),
                _tried_for(bar, tried),
            )
            for bar, value, interval in judged
        ],
    )


def _robustness(evaluation: dict[str, Any]) -> Iterator[str]:
    yield "## Camera or generated, by what happened to the picture"
    yield table(
        (
            "condition",
            "AUC, zoo",
            "95%",
            "AUC, public",
            "95%",
            "photos called generated",
            "zoo pictures called generated",
            "public pictures called generated",
        ),
        [
            (
                condition,
                f"{zoo['auc']:.3f}",
                _range(zoo["auc_interval"]),
                f"{real['auc']:.3f}",
                _range(real["auc_interval"]),
                *(percent(part["generated"]) for part in (real["camera"], zoo["generated"], real["generated"])),
            )
            for condition, zoo in evaluation["detection_zoo"].items()
            for real in [evaluation["detection_real"][condition]]
        ],
    )


def _other_questions(evaluation: dict[str, Any]) -> Iterator[str]:
    yield "## The other questions, by what happened to the picture"
    known = {part: evaluation[f"attribution_{part}"]["mixed"] for part in ("zoo", "real")}
    yield (
        "Of generators that training never saw: one generator or two, from one picture against one, also where two are of one "
        f"family of the zoo; which known generator, of the {known['zoo']['known_generators']} of the zoo and of the "
        f"{known['real']['known_generators']} public ones that training saw other pictures of, and whether any of them; enrolled by 10 "
        "pictures and named, zoo generators among 20; and the mean gain in the zoo's architecture and losses over one answer for all, "
        "taken from the training generators."
    )
    yield table(
        (
            "condition",
            "one or two, AUC, zoo",
            "95%",
            "accuracy",
            "AUC, two of one family",
            "AUC, public",
            "95%",
            "known zoo generator named",
            "unknown AUROC",
            "known public generator named",
            "unknown AUROC",
            "enrolled and named",
            "unknown AUROC",
            "L1 below median",
            "discrete F1 above mode",
            "losses F1 above majority",
        ),
        [
            (
                condition,
                f"{zoo['auc']:.3f}",
                _range(zoo["auc_interval"]),
                percent(zoo["accuracy"]),
                f"{evaluation['same_generator_of_family'][condition]['auc']:.3f}",
                f"{real['auc']:.3f}",
                _range(real["auc_interval"]),
                *(
                    cell
                    for part in ("zoo", "real")
                    for known in [evaluation[f"attribution_{part}"][condition]]
                    for cell in (percent(known["accuracy"]), f"{known['unknown_auroc']:.3f}")
                ),
                percent(enrolled["accuracy"]),
                f"{enrolled['unknown_auroc']:.3f}",
                percent(l1_saved(parsing) / 100),
                *(f"{above_mode(parsing, group):+.3f}" for group in ("discrete", "losses")),
            )
            for condition, parsing in evaluation["parsing"].items()
            for zoo in [evaluation["same_generator_zoo"][condition]]
            for real in [evaluation["same_generator_real"][condition]]
            for enrolled in [evaluation["enrolment_zoo"][condition][0]]
        ],
    )


def _generators(evaluation: dict[str, Any]) -> Iterator[str]:
    shown = ("clean", "social media", "mixed")
    yield "## Camera or generated, by generator that training never saw"
    rows = []
    for part, kind in (("detection_real", "public"), ("detection_zoo", "zoo")):
        by = {condition: evaluation[part][condition]["by_generator"] for condition in shown}
        rows += [
            (
                name,
                kind,
                *(f"{by[condition][name]['auc']:.3f}" for condition in shown),
                percent(by["mixed"][name]["called_generated"]),
            )
            for name in by["mixed"]
        ]
    yield table(("generator", "", *(f"AUC, {condition}" for condition in shown), "called generated, mixed"), rows)


def _cameras(evaluation: dict[str, Any]) -> Iterator[str]:
    shown = ("clean", "social media", "mixed")
    parts = [evaluation["detection_real"], evaluation["detection_zoo"]]
    yield "## Photos called generated, by source"
    yield (
        "Whole photos, as a user has them, and the crops of them that the zoo's pictures are as large as. Of an unseen source training saw "
        "no photo; of the others it saw other photos."
    )
    yield table(
        (
            "source",
            "unseen",
            "photos",
            *shown,
            "crops",
            *(f"crops, {condition}" for condition in shown),
        ),
        [
            (
                name,
                "yes" if name in FOLDS[0].photos else "",
                *(
                    cell
                    for part in parts
                    for cell in (
                        str(part["mixed"]["camera_pictures_by_source"][name]),
                        *(percent(part[condition]["camera_called_generated_by_source"][name]) for condition in shown),
                    )
                ),
            )
            for name in parts[0]["mixed"]["camera_called_generated_by_source"]
        ],
    )


def _small(small: dict[str, Any] | None) -> Iterator[str]:
    if small is None:
        return
    yield "## Small pictures"
    yield (
        "Whole photos and public generators' pictures, and those of the zoo, of which only the middle was left, or that were shrunk, by "
        f"their shorter side; then JPEG q{QUALITY} (`python -m training.small`). A window is {SIZE} pixels wide, and what a picture lacks "
        f"of that is its mirror image. A picture with a side below {smallest()} is refused: below that, the smaller the picture, the "
        "more photos are called generated."
    )
    yield table(
        (
            "",
            "shorter side",
            "photos called generated, validation",
            "test",
            "AUC public, validation",
            "test",
            "AUC zoo, validation",
            "test",
            "public ones called generated, test",
        ),
        [
            (
                how,
                side,
                *(percent(of["public"]["camera"]["generated"]) for of in (val, test)),
                *(f"{of[kind]['auc']:.3f}" for kind in ("public", "zoo") for of in (val, test)),
                percent(test["public"]["generated"]["generated"]),
            )
            for how, sides in small["splits"]["val"].items()
            for side, val in sides.items()
            for test in [small["splits"]["test"][how][side]]
        ],
    )


def _parsing(evaluation: dict[str, Any]) -> Iterator[str]:
    mixed, clean = (evaluation["parsing"][condition] for condition in ("mixed", "clean"))
    yield "## Architecture and losses of zoo generators that training never saw"
    yield (
        f"{mixed['pictures']} pictures of {mixed['generators']} generators. Median, mean, mode and random are what knowing the training "
        'generators and not looking reaches; "of the family" knows the recognised family besides. Continuous values are scaled to '
        "their range."
    )
    yield table(
        (
            "continuous",
            "L1, mixed",
            "L1, clean",
            "median",
            "mean",
            "of the family",
            "mixed below median by",
            "correlation",
            "80 % interval covers, mixed",
            "clean",
        ),
        [
            (
                name,
                *(f"{v:.3f}" for v in (f["l1"], clean["continuous"][name]["l1"])),
                *(f"{f[key]:.3f}" for key in ("median_l1", "mean_l1", "family_l1")),
                percent(1 - f["l1"] / f["median_l1"]) if f["median_l1"] else "",
                "" if f["correlation"] is None else f"{f['correlation']:.2f}",
                *(percent(part["continuous"][name]["interval_coverage"]) for part in (mixed, clean)),
            )
            for name, f in mixed["continuous"].items()
        ],
    )
    for title, groups in (
        ("discrete", [{"family": part["family"], **part["discrete"]} for part in (mixed, clean)]),
        ("loss", [part["losses"] for part in (mixed, clean)]),
    ):
        yield table(
            (title, "macro-F1, mixed", "clean", "mode", "random", "of the family", "mixed above mode by", "AUC, mixed"),
            [
                (
                    name,
                    *(f"{v:.3f}" for v in (f["macro_f1"], groups[1][name]["macro_f1"])),
                    *(f"{f[key]:.3f}" for key in ("mode_macro_f1", "random_macro_f1")),
                    f"{f['family_macro_f1']:.3f}" if "family_macro_f1" in f else "",
                    f"{f['macro_f1'] - f['mode_macro_f1']:+.3f}",
                    "" if f.get("auc") is None else f"{f['auc']:.3f}",
                )
                for name, f in groups[0].items()
            ],
        )


def _same(evaluation: dict[str, Any], again: dict[str, Any] | None) -> Iterator[str]:
    yield "## Which generator"
    yield attribution_table(evaluation)
    yield from comparing_sections(evaluation)
    if again is None:
        return
    yield (
        f"The hardest pairs: {again['generators']} test generators of the zoo and the same ones trained again, with the same architecture, "
        f"losses and steps, and other first weights and photos (`python -m benchmarks.trained_again`; bundle {again['bundle']}). Of a pair "
        "of two, here, one picture is of each."
    )
    yield table(
        ("condition", "AUC (95%)", "accuracy", "same called same", "different called same"),
        [
            (
                condition,
                f"{f['auc']:.3f} ({_range(f['auc_interval'])})",
                f"{f['accuracy']:.3f}",
                *(percent(f[key]) for key in ("same_called_same", "different_called_same")),
            )
            for condition, f in again["conditions"].items()
        ],
    )


def _anew(sources: Sources) -> Iterator[str]:
    if sources.anew is None:
        return
    photos = {"unseen_photos": sorted(FOLDS[0].photos)}
    judged = (judge({"evaluation": evaluation} | photos) for evaluation in (sources.evaluation, sources.anew))
    yield "## Test generators trained anew"
    yield (
        "The zoo is not shipped but trained, and on another kind of CPU its generators come out as others: of the same architectures, "
        "losses, photos and first weights, with other weights in the end. So what the bundle says of test generators was measured once "
        f"more, on {sources.anew['parsing']['mixed']['generators']} trained on a machine of another kind, in the rows that are of them."
    )
    yield table(
        ("what", "above", "95%", "trained anew", "95%"),
        [
            (bar.what, bar.shown(value), bar.range(interval), bar.shown(now), bar.range(now_interval))
            for (bar, value, interval), (_, now, now_interval) in zip(*judged, strict=True)
            if value is not None and now is not None and bar.key.startswith(OF_UNSEEN_ZOO)
        ],
    )
    yield (
        "Enrolled by more pictures, too: by 10 and 25 of the pictures that show photos of test, and the others looked for; by "
        f"{MANY} that show photos of training, and those of test looked for. Public ones are enrolled by some of their pictures, and the "
        "others looked for."
    )
    yield from enrolment_table(sources.anew)


def _cost(sources: Sources) -> Iterator[str]:
    yield "## Precision and cost"
    of_zoo = ", of generators of the zoo that were trained anew" if sources.variants_of_zoo_anew else ""
    yield f"Validation pictures, mixed{of_zoo}; points are hundredths, lost against fp32 in the row that loses most."
    yield "\n".join(variants_table(sources.variants))
    yield table(
        ("precision", "most lost, points"),
        [(name, f"{points_lost(sources.variants, name):.2f}") for name in sources.variants if name != "fp32"],
    )
    if sources.precisions is not None:
        figures = sources.precisions["figures"]
        yield (
            "Test pictures, in the rows in which accuracy is to reach something (`python -m training.precisions`): of test generators "
            "trained anew, and of the same public ones and photos."
            + (
                f" Known generators of the zoo are {known} here, trained anew too, which the network never saw."
                if (known := sources.precisions["known_zoo"])
                else ""
            )
        )
        yield table(("what", *figures), precision_rows(figures))
        lost = sources.precisions["points_lost"]
        yield table(
            ("precision", "most lost, points", "in"),
            [
                (name, f"{of[worst]:.2f}", next(bar.what for bar in BARS if bar.key == worst))
                for name, of in lost.items()
                for worst in [max(of, key=lambda key: of[key])]
            ],
        )
    time = "not measured yet" if sources.window_ms is None else f"{sources.window_ms:.2f} ms"
    yield (
        f"{sources.multiply_accumulates / 1e9:.3f} billion multiply-accumulates a window, of convolutions in the bundle's fp32 file; the "
        "study counts other matrix products, too. A window on a CPU, of the machines in BENCHMARKS.md that measured this bundle the "
        f"slowest: {time}."
    )


def _pack(pack: dict[str, Any]) -> Iterator[str]:
    yield "### On the evaluation pack"
    yield (
        "Test pictures that may be shipped are too few and too hard to stand for all (`python -m training.evaluate BUNDLE --pack`): "
        "these figures are there to be held, to a point, by every precision."
    )
    rows = list(next(iter(pack["figures"].values())))
    yield table(
        ("precision", *map(figure_name, rows)),
        [(name, *(f"{of[row]:.3f}" for row in rows)) for name, of in pack["figures"].items()],
    )


def render_tried(tried: Sequence[dict[str, Any]]) -> str:
    """The page of what was tried outside the study."""
    head = [
        "# Tried outside the study",
        "Rendered by `python -m training.accuracy` from [training/results/tried.json](../training/results/tried.json). Short comparisons "
        'on which a decision rests; "unseen" generators are those that were left out of the training at hand, for validation or by a fold '
        "other than the bundle's, unless a figure says that it is of test. Where a row names no command, a script measured it that is not "
        "in this repository: that row is a note of why something was kept or left, and no claim.",
    ]
    rows = table(
        ("what", "figure", "without", "with", "kept", "source"),
        [
            (
                entry["tried"],
                entry["figure"],
                f"{entry['without']:.3f}",
                f"{entry['with']:.3f}",
                "yes" if entry["kept"] else "no",
                entry["source"],
            )
            for entry in tried
        ],
    )
    return "\n\n".join([*head, rows]) + "\n"


def _measured_as(sources: Sources) -> str:
    measured = sources.evaluation["bundle"]
    return "" if measured == sources.label else f" (measured as {measured}, which answers the same, to the last bit)"


def render(sources: Sources) -> str:
    """The whole page."""
    head = [
        "# Accuracy",
        "Rendered by `python -m training.accuracy` from [training/results](../training/results) and the bundle's manifest; edit neither "
        f"by hand. Bundle {sources.label}, file {sources.evaluation['variant']}{_measured_as(sources)}, on generators and photos that "
        "training never saw. What it was trained on and its limits are in the [model card](../MODEL_CARD.md).",
    ]
    parts = (
        _bars(sources.evidence(), sources.tried),
        _robustness(sources.evaluation),
        _other_questions(sources.evaluation),
        _generators(sources.evaluation),
        _cameras(sources.evaluation),
        _small(sources.small),
        _parsing(sources.evaluation),
        _same(sources.evaluation, sources.again),
        _anew(sources),
        _cost(sources),
        _pack(sources.pack),
        study_sections(sources.study),
        lines_section(sources.lines),
    )
    return "\n\n".join([*head, *(block for part in parts for block in part)]) + "\n"


@click.command()
def main() -> None:
    """Write docs/accuracy.md and docs/tried.md."""
    sources = Sources.read()
    PAGE.write_text(render(sources))
    TRIED_PAGE.write_text(render_tried(sources.tried))


if __name__ == "__main__":
    main()
