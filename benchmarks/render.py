"""`BENCHMARKS.md` from the JSON of every machine: no figure in it is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, judge
from benchmarks.growth import shares, speed_up

HEAD = """# Benchmarks

Rendered by `python -m benchmarks render` from [benchmarks/results](benchmarks/results); edit neither by hand.
`python -m benchmarks all` measures a machine.

Ratios are medians over rounds in which every contender had its turn, in a process of its own that slept while the others ran; they are
what to compare. Times in milliseconds are medians and hold for the machine that is named. What a network costs does not depend on its
weights: the published networks, our network in PyTorch and the light detector have random ones. The scenarios under load are those of
MLPerf's load generator; these are not MLPerf results: nobody has reviewed them.
"""


def render(results: Iterable[dict[str, Any]]) -> str:
    """The document for machines' results, in their order."""
    parts = [HEAD]
    for stored in results:
        parts += machine(stored)
    return "\n".join(parts)


def machine(stored: dict[str, Any]) -> Iterator[str]:
    """A machine's part, block by block."""
    sections = stored["sections"]
    yield f"## {stored['name']}\n"
    told = next(iter(sections.values()))["machine"]
    gpu = f", {told['gpu']['name']}" if told["gpu"] else ""
    instructions = f" ({', '.join(told['instructions'])})" if told["instructions"] else ""
    yield f"{told['cpu']}{instructions}, {told['cores']} cores{gpu}, {told['system']}.\n"
    yield "### Bars\n"
    heads = ("what", "bar", "figure", "", "with `--backend openvino`")
    yield table(heads, [_bar(*judged) for judged in judge(sections)])
    for name, block in (
        ("peers", peers),
        ("report", report),
        ("growth", growth),
        ("soak", soak),
        ("scenarios", scenarios),
    ):
        if name in sections:
            yield from block(sections[name], stored["name"])
            yield from _foot(sections[name])


def _bar(bar: Bar, value: float | None, in_openvino: float | None) -> tuple[str, ...]:
    if value is None:
        return bar.what, bar.text, "not measured", "", ""
    other = "" if in_openvino is None else f"{bar.shown(in_openvino)}, {_verdict(bar, in_openvino)}"
    return bar.what, bar.text, bar.shown(value), _verdict(bar, value), other


def _verdict(bar: Bar, value: float) -> str:
    return "reached" if bar.reached(value) else "**missed**"


def peers(found: dict[str, Any], name: str) -> Iterator[str]:
    """Everyone's time and ratio, the fastest first."""
    yield "### Beside others\n"
    reference = found["reference"]
    yield (
        f"One window, every output, {found['threads']} threads, {found['rounds']} rounds; the last column is how many times as long "
        f"it takes as ours ({reference['runtime']}, {reference['precision']}, bundle {found['bundle']}), with the middle half of the "
        "rounds. AUC is of detection, on generators of the zoo and on real ones, where the bundle's evaluation has it.\n"
    )
    ratios = {(_who(entry), entry["parts"]): entry for entry in found["ratios"]}
    rows = []
    for entry in found["contenders"]:
        for part, latency in entry["ms"].items():
            ratio = ratios.get((_who(entry), part))
            again = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else ""
            known = entry["accuracy"] or {}
            auc = [known.get(f"detection_{kind}_auc") for kind in ("zoo", "real")]
            rows.append(
                (
                    latency["p50"],
                    (
                        entry["network"] + ("" if part == "all" else f": {part}"),
                        entry["runtime"],
                        entry["precision"],
                        ms(latency["p50"]),
                        ms(latency["p90"]),
                        " / ".join("-" if value is None else f"{value:.3f}" for value in auc) if known else "",
                        "1" if _who(entry) == _who(reference) else again,
                    ),
                )
            )
    heads = ("network", "runtime", "precision", "p50 ms", "p90 ms", "AUC", "times ours")
    yield table(heads, [row for _, row in sorted(rows, key=lambda row: row[0])])
    for entry in found["failed"]:
        yield f"- {' / '.join(_who(entry))} could not run: {entry['error']}"
    if found["failed"]:
        yield ""
    yield f"![Latency and accuracy](benchmarks/results/{name}-peers.svg)\n"


def report(found: dict[str, Any], _name: str) -> Iterator[str]:
    """What `edgeparse bench` said."""
    setup = found["setup"]
    picture = setup["pictures"][0]
    yield "### One picture\n"
    yield (
        f"`edgeparse bench`: {picture['width']}x{picture['height']} {picture['format']}, {picture['windows']} windows, "
        f"{setup['backend']}, {setup['precision']}, {setup['threads']} threads, bundle {setup['bundle']}.\n"
    )
    rows = [("report", found["report_ms"]), *found["stages_ms"].items()]
    yield table(
        ("ms", "samples", "p50", "p90", "p99", "max"),
        [
            (part.replace("_", " "), str(value["samples"]), *(ms(value[key]) for key in ("p50", "p90", "p99", "max")))
            for part, value in rows
        ],
    )
    if (cold := found["cold_start"]) is not None:
        phases = ", ".join(f"{phase} {value:.0f}" for phase, value in cold["phases_ms"].items())
        yield f"In a new process, ms: {phases}; `edgeparse check` {cold['command_ms']:.0f}.\n"
    if found["energy_j_per_report"] is not None:
        yield f"{found['energy_j_per_report'] * 1e3:.1f} mJ of the GPU a report.\n"


def growth(found: dict[str, Any], name: str) -> Iterator[str]:
    """How cost grows."""
    yield "### How cost grows\n"
    yield f"![How cost grows](benchmarks/results/{name}-growth.svg)\n"
    yield table(
        ("megapixels", "report ms", "decoding", "network", "peak MB"),
        [
            (
                f"{point['megapixels']:g}",
                ms(point["ms"]["report"]["p50"]),
                f"{shares(point)['decode']:.0%}",
                f"{shares(point)['network']:.0%}",
                "-" if point["peak_memory_mb"] is None else f"{point['peak_memory_mb']:.0f}",
            )
            for point in found["sizes"]
        ],
    )
    for key, what in (("windows", "windows"), ("threads", "threads")):
        yield table(
            (what, "report ms", "network ms"),
            [
                (str(point[key]), ms(point["ms"]["report"]["p50"]), ms(point["ms"]["network"]["p50"]))
                for point in found[key]
            ],
        )
    yield table(
        ("batch", "ms", "windows a second"),
        [
            (str(point["batch"]), ms(point["ms"]["network"]["p50"]), f"{point['per_second']:.0f}")
            for point in found["batches"]
        ],
    )
    yield table(
        ("processes", "reports a second"),
        [(str(point["processes"]), f"{point['per_second']:.1f}") for point in found["processes"]],
    )
    yield f"All processes together do {speed_up(found['processes']):.2f} times what one does.\n"


def soak(found: dict[str, Any], _name: str) -> Iterator[str]:
    """Memory over many pictures."""
    yield "### Steady memory\n"
    last = found["resident_mb"][-1][1]
    yield (
        f"{found['pictures']} pictures in one process: {found['growth_mb']:+.1f} MB after the first {found['settled']}, "
        f"{last:.0f} MB at the end.\n"
    )


def scenarios(found: dict[str, Any], _name: str) -> Iterator[str]:
    """What the load generator said."""
    yield "### Under load\n"
    yield table(
        ("scenario", "backend", "asked", "found", "valid"),
        [
            (
                entry["scenario"],
                f"{entry['backend']}, {entry['precision']}",
                ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in entry["asked"].items()),
                _headline(entry),
                str(entry["found"].get("result_validity", "")).lower(),
            )
            for entry in found["performance"]
        ],
    )
    for entry in found["accuracy"]:
        yield (
            f"- {entry['scenario']}: {entry['windows']} windows have the answers that they have alone, "
            f"to {entry['largest_difference']:.1g}"
        )
    yield ""


def _headline(entry: dict[str, Any]) -> str:
    """The figure that a scenario is about: the rate of Offline, of the others the latencies."""
    found = entry["found"]
    if entry["scenario"] == "Offline":
        return f"{found['result_samples_per_second']:.1f} windows a second"
    percentiles = ((percent, found.get(f"result_{percent}.00_percentile_latency_ns")) for percent in (50, 90, 99))
    return ", ".join(f"p{percent} {value / 1e6:.2f} ms" for percent, value in percentiles if value is not None)


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _who(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["network"], entry["runtime"], entry["precision"]


def _foot(found: dict[str, Any]) -> Iterator[str]:
    versions = ", ".join(f"{name} {value}" for name, value in found["machine"]["versions"].items())
    yield f"<sub>{found['date']}, commit {found['commit']}; {versions}</sub>\n"
    warnings = [*found.get("warnings", ()), *(w for e in found.get("performance", ()) for w in e["warnings"])]
    for warning in dict.fromkeys(warnings):
        yield f"**Not to be believed:** {warning}.\n"


def ms(value: float | None) -> str:
    """Milliseconds with three digits; a dash where too few samples tell."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write(target: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write the document."""
    target.write_text(render(results), encoding="utf-8")
