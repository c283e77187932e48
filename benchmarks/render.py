"""Render `BENCHMARKS.md`: one headline table per question, with a column for each machine. The JSON holds the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from benchmarks.competitors import OURS
from benchmarks.scaling import TYPICAL, shares, speed_up
from benchmarks.targets import judge
from edgeparse.bundle import Bundle

Machine = dict[str, Any]

HEAD = """# Benchmarks

How fast edgeparse is, compared with the published networks and with other runtimes. `python -m benchmarks render` writes this
page from [benchmarks/results](benchmarks/results), which holds every run's details; edit neither by hand.
`python -m benchmarks all` measures a machine ([how](CONTRIBUTING.md#benchmarks)).

- Compare ratios, not milliseconds: each is a median over rounds in which every competitor had a turn in its own process.
- "published" are the parsing and the deepfake network of arXiv 2106.07873, run one after another; "floor" is a light detector.
- These networks and ours in PyTorch have random weights, because speed does not depend on weights.
- The load scenarios use MLPerf's load generator. They are not MLPerf results, because nobody has reviewed them.
- [trials.csv](benchmarks/results/trials.csv) lists the changes that were tried for speed, with each one's gain.
"""


def render_document(results: Iterable[Machine], shipped: Bundle) -> str:
    """Return the document for these machines; `shipped` is the bundle that figures should be of."""
    machines = list(results)
    parts = [HEAD, *_machines(machines, shipped), *_targets(machines)]
    for title, section, block in SECTIONS:
        measured = [machine for machine in machines if section in machine["sections"]]
        if measured:
            parts += [f"## {title}\n", *block(measured)]
    return "\n".join(parts)


def _machines(machines: Sequence[Machine], shipped: Bundle) -> Iterator[str]:
    """Describe each machine and the bundle that its sections were measured with."""
    yield "## Machines\n"
    rows = []
    for number, machine in enumerate(machines, 1):
        sections = machine["sections"]
        facts = next(iter(sections.values()))["machine"]
        gpu = f", {facts['gpu']['name']}" if facts["gpu"] else ""
        bundles = ", ".join(dict.fromkeys(_bundle_label(section) for section in sections.values()))
        dates = sorted(str(section["date"])[:10] for section in sections.values())
        rows.append((str(number), machine["name"], f"{facts['cores']} cores{gpu}", bundles, dates[-1]))
    yield table(("", "machine", "hardware", "bundle", "date"), rows)
    outdated = [machine["name"] for machine in machines if not _all_of(machine, shipped)]
    if outdated:
        yield f"Not (or not only) measured with {shipped.label}, which is shipped now: {', '.join(outdated)}.\n"
    warnings = [(m["name"], text) for m in machines for s in m["sections"].values() for text in _warnings(s)]
    for name, text in dict.fromkeys(warnings):
        yield f"**Do not trust** {name}: {text}.\n"


def _warnings(section: dict[str, Any]) -> list[str]:
    return [*section.get("warnings", ()), *(w for entry in section.get("performance", ()) for w in entry["warnings"])]


def _bundle_source(section: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a section that names its bundle; empty if none does."""
    candidates = (section, section.get("setup", {}), *section.get("performance", ()))
    return next((candidate for candidate in candidates if "bundle" in candidate), {})


def _bundle_label(section: dict[str, Any]) -> str:
    return str(_bundle_source(section).get("bundle", "not recorded"))


def _all_of(machine: Machine, bundle: Bundle) -> bool:
    """Tell whether all sections were measured with this bundle; sections up to 2026-11-27 may lack its hash."""
    sources = [_bundle_source(section) for section in machine["sections"].values()]
    return all(
        source.get("bundle") == bundle.label and source.get("bundle_sha256", bundle.sha256) == bundle.sha256
        for source in sources
    )


def _targets(machines: Sequence[Machine]) -> Iterator[str]:
    """Show every target with a column per machine."""
    yield "## Targets\n"
    yield "Bold figures miss the target. In brackets: with `--backend openvino`.\n"
    rows: dict[tuple[str, str], list[str]] = {}
    for column, machine in enumerate(machines):
        for target, value, with_openvino in judge(machine["sections"]):
            cells = rows.setdefault((target.what, target.text), [""] * len(machines))
            if value is not None:
                other = (
                    ""
                    if with_openvino is None
                    else f" ({_judged(target.shown(with_openvino), target.met(with_openvino))})"
                )
                cells[column] = _judged(target.shown(value), target.met(value)) + other
    heads = ("target", "limit", *(str(number) for number in range(1, len(machines) + 1)))
    yield table(heads, [(what, limit, *(cell or "-" for cell in cells)) for (what, limit), cells in rows.items()])


def _judged(text: str, met: bool) -> str:
    return text if met else f"**{text}**"


def _cpu(machines: Sequence[Machine]) -> Iterator[str]:
    """Compare networks and runtimes on CPUs."""
    yield (
        "One window with every output: median milliseconds, and time relative to ours. AUC is of detection on validation pictures of the "
        "zoo / of public generators; for OpenVINO, the largest loss in points on the test set.\n"
    )
    rows: dict[tuple[str, str, str], list[str]] = {}
    accuracy: dict[tuple[str, str, str], str] = {}
    for column, machine in enumerate(machines):
        found = machine["sections"]["cpu"]
        ratios = {_key(entry): entry["median"] for entry in found["ratios"] if entry["parts"] != "all three"}
        for entry in sorted(found["competitors"], key=lambda entry: _together(entry)["p50"]):
            cells = rows.setdefault(_key(entry), ["-"] * 2 * len(machines))
            cells[2 * column : 2 * column + 2] = [ms(_together(entry)["p50"]), f"{ratios.get(_key(entry), 1.0):.2f}"]
            accuracy[_key(entry)] = _accuracy(entry, found.get("openvino_points_lost", {})) or accuracy.get(
                _key(entry), ""
            )
    heads = [f"{unit}, {machine['name']}" for machine in machines for unit in ("ms", "ratio")]
    yield table(
        ("network", "runtime", "precision", *heads, "AUC"),
        [(*key, *cells, accuracy[key]) for key, cells in rows.items()],
    )
    for machine in machines:
        failed = ", ".join(" / ".join(_key(entry)) for entry in machine["sections"]["cpu"]["failed"])
        if failed:
            yield f"Could not run on {machine['name']}: {failed}.\n"
        yield f"[Plot of {machine['name']}](benchmarks/results/{machine['name']}-cpu.svg)\n"


def _together(entry: dict[str, Any]) -> dict[str, float]:
    times: dict[str, dict[str, float]] = entry["ms"]
    return times["all"] if "all" in times else times["parsing + deepfake"]


def _accuracy(entry: dict[str, Any], lost: dict[str, float]) -> str:
    if (entry["network"], entry["runtime"]) == (OURS, "openvino") and entry["precision"] in lost:
        return f"loses {lost[entry['precision']]:.2f}"
    known = entry["accuracy"] or {}
    figures = [known.get("detection_zoo_auc"), known.get("detection_public_auc", known.get("detection_public_auc"))]
    return " / ".join("-" if value is None else f"{value:.3f}" for value in figures) if known else ""


def _graph_passes(machines: Sequence[Machine]) -> Iterator[str]:
    """Show what each graph pass is worth."""
    for machine in machines:
        found = machine["sections"]["graph_passes"]
        yield f"Time on {machine['name']} without one pass (export/graph_passes.py), relative to all; quartiles in brackets.\n"
        entries = {(entry["without"], entry["runtime"]): entry for entry in found["files"]}
        runtimes = list(dict.fromkeys(runtime for _, runtime in entries))
        yield table(
            ("without", *runtimes),
            [
                (f"`{name}`" if name else "nothing, ms", *(_pass_cell(entries[name, runtime]) for runtime in runtimes))
                for name in dict.fromkeys(name for name, _ in entries)
            ],
        )


def _pass_cell(entry: dict[str, Any]) -> str:
    if entry["without"] is None:
        return ms(entry["ms"])
    middle, low, high = (f"{entry['times'][key]:.3f}" for key in ("median", "low", "high"))
    return f"{middle} ({low} to {high})"


def _report(machines: Sequence[Machine]) -> Iterator[str]:
    """Show the stages of one report."""
    yield "JPEG of 1 megapixel, 8 windows: median milliseconds (p99). The cold start is a new process.\n"
    rows: dict[str, list[str]] = {}
    for column, machine in enumerate(machines):
        found = machine["sections"]["report"]
        for part, value in (("whole report", found["report_ms"]), *found["stages_ms"].items()):
            cells = rows.setdefault(part.replace("_", " "), ["-"] * len(machines))
            cells[column] = ms(value["p50"]) + ("" if value["p99"] is None else f" ({ms(value['p99'])})")
        if found["cold_start"] is not None:
            rows.setdefault("cold start", ["-"] * len(machines))[column] = f"{found['cold_start']['command_ms']:.0f}"
        if found["energy_j_per_report"] is not None:
            cells = rows.setdefault(f"mJ of {found.get('energy_of', 'the GPU')}", ["-"] * len(machines))
            cells[column] = f"{found['energy_j_per_report'] * 1e3:.1f}"
    yield table(("ms", *(machine["name"] for machine in machines)), [(part, *cells) for part, cells in rows.items()])


def _scaling(machines: Sequence[Machine]) -> Iterator[str]:
    """Show how cost grows with picture size, and link to the plots."""
    yield "A report with 8 windows: milliseconds, share of decoding, peak memory in MB.\n"
    rows: dict[str, list[str]] = {}
    for column, machine in enumerate(machines):
        for point in machine["sections"]["scaling"]["sizes"]:
            cells = rows.setdefault(f"{point['megapixels']:g}", ["-"] * len(machines))
            peak = point["peak_memory_mb"]
            memory = "-" if peak is None else f"{peak:.0f}"
            cells[column] = f"{ms(point['ms']['report']['p50'])}, {shares(point)['decode']:.0%}, {memory}"
    yield table(
        ("megapixels", *(machine["name"] for machine in machines)), [(size, *row) for size, row in rows.items()]
    )
    for machine in machines:
        points = machine["sections"]["scaling"]["processes"]
        yield (
            f"On {machine['name']}, {points[-1]['processes']} processes of one thread do {speed_up(points):.2f} times the reports of "
            f"one, for pictures of {TYPICAL:g} megapixel ([plots](benchmarks/results/{machine['name']}-scaling.svg)).\n"
        )


def _memory(machines: Sequence[Machine]) -> Iterator[str]:
    """Show how memory grows over many pictures."""
    for machine in machines:
        found = machine["sections"]["memory"]
        yield (
            f"- {machine['name']}: {found['growth_mb']:+.1f} MB over {found['pictures']} pictures in one process, after the first "
            f"{found['settled']}; {found['resident_mb'][-1][1]:.0f} MB at the end."
        )
    yield ""


def _mlperf_load(machines: Sequence[Machine]) -> Iterator[str]:
    """Show the load generator's figures."""
    for machine in machines:
        found = machine["sections"]["mlperf_load"]
        yield f"On {machine['name']}:\n"
        rows = [
            (
                entry["scenario"],
                f"{entry['backend']}, {entry['precision']}",
                _load_figure(entry),
                str(entry["found"].get("result_validity", "")).lower(),
            )
            for entry in found["performance"]
        ]
        yield table(("scenario", "backend", "result", "valid"), rows)
        largest = max((entry["largest_difference"] for entry in found["accuracy"]), default=0.0)
        yield f"Answers under load match those alone to {largest:.1g}.\n"


def _load_figure(entry: dict[str, Any]) -> str:
    """Return the figure that a scenario is about: Offline's rate, or else the latencies."""
    found = entry["found"]
    if entry["scenario"] == "Offline":
        return f"{found['result_samples_per_second']:.1f} windows a second"
    percentiles = ((percent, found.get(f"result_{percent}.00_percentile_latency_ns")) for percent in (50, 90, 99))
    return ", ".join(f"p{percent} {value / 1e6:.2f} ms" for percent, value in percentiles if value is not None)


def _gpu(machines: Sequence[Machine]) -> Iterator[str]:
    """Compare networks and runtimes on GPUs, at the smallest and the largest batch."""
    for machine in machines:
        found = machine["sections"]["gpu"]
        few, many = str(found["batches"][0]), str(found["batches"][-1])
        device = found["device"]
        reference = found["reference"]
        yield (
            f"{device['name']} ({device['capability']}, {device['memory_bytes'] / 2**30:.0f} GiB): milliseconds for {few} and {many} "
            f"windows on the device; windows a second; milliseconds for {few} from host to host; time relative to ours by default "
            f"({reference['runtime']}, {reference['precision']}).\n"
        )
        entries = sorted(found["competitors"], key=lambda entry: entry["ms"]["device"].get(many, float("inf")))
        yield table(
            ("network", "runtime", "precision", few, many, "windows/s", "host", f"ratio, {few}", f"ratio, {many}"),
            [
                (
                    *_key(entry),
                    *(ms(entry["ms"]["device"].get(size)) for size in (few, many)),
                    f"{entry['windows_per_second'][many]:.0f}" if many in entry["windows_per_second"] else "-",
                    ms(entry["ms"]["host"].get(few)),
                    *(_ratio_cell(entry["times_reference"].get(f"device {size}")) for size in (few, many)),
                )
                for entry in entries
            ],
        )
        measured = {_key(entry) for entry in found["competitors"]}
        failed = dict.fromkeys(" / ".join(_key(entry)) for entry in found["failed"] if _key(entry) not in measured)
        if failed:
            yield f"Not measured: {', '.join(failed)} (the JSON says why).\n"
        if found.get("roofline"):
            yield _roofline(found)


def _ratio_cell(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _roofline(found: dict[str, Any]) -> str:
    """Compare our default runtime with the ceilings of the GPU."""
    ceilings, line = found["ceilings"], found["roofline"]
    moved = line["moved"]
    binds = "memory" if moved["binds"] == "memory" else "the matrix units"
    return (
        f"The GPU reaches {ceilings['tflops']['fp16']:.0f} TFLOP/s in fp16 and {ceilings['bandwidth_tb_s']:.2f} TB/s. Ours computes "
        f"{line['work']['flops'] / 1e9:.2f} GFLOP a window. For {line['batch']} windows, its layers move {moved['bytes'] / 1e6:.0f} MB, "
        f"so {binds} would allow {ms(moved['floor_ms'])} ms; it takes {ms(line['ms'])} ms.\n"
    )


def _key(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["network"], entry["runtime"], entry["precision"]


# Title, section of the JSON, and what renders it.
SECTIONS: tuple[tuple[str, str, Callable[[Sequence[Machine]], Iterator[str]]], ...] = (
    ("Networks and runtimes on a CPU", "cpu", _cpu),
    ("Networks and runtimes on a GPU", "gpu", _gpu),
    ("One picture", "report", _report),
    ("Picture size and processes", "scaling", _scaling),
    ("Memory over time", "memory", _memory),
    ("Under load", "mlperf_load", _mlperf_load),
    ("Graph passes of the INT8 file", "graph_passes", _graph_passes),
)


def ms(value: float | None) -> str:
    """Format milliseconds with three digits; a dash if there were too few samples."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
