"""`BENCHMARKS.md` from the JSON of every machine: no figure in it is written by hand."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, judge
from benchmarks.contenders import OURS
from benchmarks.growth import MANY, USUAL, shares, speed_up
from benchmarks.worker import LATE
from edgeparse.backends.select import NAMES
from edgeparse.bundle import Bundle

# Not among the results, each of which is a machine's.
TRIED = Path(__file__).parent / "tried.json"

HEAD = """# Benchmarks

Rendered by `python -m benchmarks render` from [benchmarks/results](benchmarks/results); edit neither by hand.
`python -m benchmarks all` measures a machine.

Ratios are medians over rounds in which every contender had its turn, in a process of its own that slept while the others ran; they are
what to compare. Times in milliseconds are medians and hold for the machine that is named. What a network costs does not depend on its
weights: the published networks, our network in PyTorch and the light detector have random ones. The scenarios under load are those of
MLPerf's load generator; these are not MLPerf results: nobody has reviewed them. What was tried for the bars of speed, kept or not, is
[at the end](#tried-for-speed).
"""


def render(results: Iterable[dict[str, Any]], tried: Iterable[dict[str, Any]], shipped: Bundle) -> str:
    """The document for machines' results, in their order, with what was tried; `shipped` is the bundle that figures should be of."""
    parts = [HEAD]
    for stored in results:
        parts += machine(stored, shipped)
    return "\n".join([*parts, *_tried(tried)])


def machine(stored: dict[str, Any], shipped: Bundle) -> Iterator[str]:
    """A machine's part, block by block."""
    sections = stored["sections"]
    yield f"## {stored['name']}\n"
    told = next(iter(sections.values()))["machine"]
    beside = f", {told['gpu']['name']}" if told["gpu"] else ""
    instructions = f" ({', '.join(told['instructions'])})" if told["instructions"] else ""
    yield f"{told['cpu']}{instructions}, {told['cores']} cores{beside}, {told['system']}.\n"
    yield from _other_bundles(sections, shipped)
    yield "### Bars\n"
    yield _bars(sections, shipped)
    for name, (title, block) in BLOCKS.items():
        if name in sections:
            yield f"### {title}\n"
            yield from block(sections[name], stored["name"])
            yield from _foot(sections[name], shipped)


def _other_bundles(sections: dict[str, Any], shipped: Bundle) -> Iterator[str]:
    """What of a machine was not measured with the bundle that is shipped now."""
    others: dict[str, list[str]] = {}
    for name, (title, _) in BLOCKS.items():
        if name in sections and not _is_of(sections[name], shipped):
            others.setdefault(_label(sections[name]), []).append(title)
    if others:
        told = "; ".join(f"{', '.join(titles)} (bundle {label})" for label, titles in others.items())
        yield f"Not measured with {shipped.label}, which is shipped now: {told}.\n"


def _told(section: dict[str, Any]) -> dict[str, Any]:
    """What names the bundle that a section was measured with: `edgeparse bench` keeps it with its setup, load scenarios of 2026-11-25 with
    each of them. Empty where nothing does."""
    places = (section, section.get("setup", {}), *section.get("performance", ()))
    return next((place for place in places if "bundle" in place), {})


def _label(section: dict[str, Any]) -> str:
    return str(_told(section).get("bundle", "not recorded"))


def _is_of(section: dict[str, Any], bundle: Bundle) -> bool:
    told = _told(section)
    # Not everything that was measured up to 2026-11-27 has the hash.
    return told.get("bundle") == bundle.label and told.get("bundle_sha256", bundle.sha256) == bundle.sha256


def _bundle(section: dict[str, Any], shipped: Bundle) -> str:
    """What a section was measured with, marked where that is not what is shipped now."""
    return _label(section) + (" (not shipped now)" if _told(section) and not _is_of(section, shipped) else "")


def _bars(sections: dict[str, Any], shipped: Bundle) -> str:
    rows = []
    for bar, value, in_openvino in judge(sections):
        section = bar.section(sections)
        # Of a machine whose GPU was measured, only what was measured.
        if value is not None and section is not None:
            rows.append((*_bar(bar, value, in_openvino), _bundle(section, shipped)))
        elif "gpu" not in sections:
            rows.append((bar.what, bar.text, "not measured", "", "", ""))
    return table(("what", "bar", "figure", "", "with `--backend openvino`", "bundle"), rows)


def _bar(bar: Bar, value: float, in_openvino: float | None) -> tuple[str, ...]:
    other = "" if in_openvino is None else f"{bar.shown(in_openvino)}, {_verdict(bar, in_openvino)}"
    return bar.what, bar.text, bar.shown(value), _verdict(bar, value), other


def _verdict(bar: Bar, value: float) -> str:
    return "reached" if bar.reached(value) else "**missed**"


def peers(found: dict[str, Any], name: str) -> Iterator[str]:
    """Everyone's time and ratio, the fastest first."""
    reference = found["reference"]
    yield (
        f"One window, every output, {found['threads']} threads, {found['rounds']} rounds; the last column is how many times as long "
        f"it takes as ours ({reference['runtime']}, {reference['precision']}), with the middle half of the rounds. AUC is of detection, "
        "of the zoo's validation generators / of public ones, mixed, as the bundle's manifest has it; of ours in OpenVINO the most that "
        "any figure of the test set loses against fp32, where it was measured.\n"
    )
    lost = found.get("openvino_points_lost", {})
    ratios = {(_who(entry), entry["parts"]): entry for entry in found["ratios"]}
    rows = []
    for entry in found["contenders"]:
        for part, latency in entry["ms"].items():
            ratio = ratios.get((_who(entry), part))
            again = _spread(ratio, 2) if ratio else ""
            rows.append(
                (
                    latency["p50"],
                    (
                        entry["network"] + ("" if part == "all" else f": {part}"),
                        entry["runtime"],
                        entry["precision"],
                        ms(latency["p50"]),
                        ms(latency["p90"]),
                        _accuracy(entry, lost),
                        "1" if _who(entry) == _who(reference) else again,
                    ),
                )
            )
    heads = ("network", "runtime", "precision", "p50 ms", "p90 ms", "AUC, validation, mixed", "times ours")
    yield table(heads, [row for _, row in sorted(rows, key=lambda row: row[0])])
    for entry in found["failed"]:
        yield f"- {' / '.join(_who(entry))} could not run: {entry['error']}"
    if found["failed"]:
        yield ""
    yield f"![Latency and accuracy](benchmarks/results/{name}-peers.svg)\n"


def _accuracy(entry: dict[str, Any], lost: dict[str, float]) -> str:
    """What is known of a contender's answers; `lost` has points by precision of our network in OpenVINO."""
    if (entry["network"], entry["runtime"]) == (OURS, "openvino") and entry["precision"] in lost:
        return f"loses {lost[entry['precision']]:.2f} points"
    known = entry["accuracy"] or {}
    auc = [known.get(f"detection_{kind}_auc") for kind in ("zoo", "real")]
    return " / ".join("-" if value is None else f"{value:.3f}" for value in auc) if known else ""


def rewrites(found: dict[str, Any], _name: str) -> Iterator[str]:
    """What changes of the INT8 file's layout are worth."""
    yield (
        f"One window, every output, {found['threads']} threads, {found['rounds']} rounds. A row leaves out one "
        "rewrite of the graph, which changes no result (export/onnx_rewrite.py): its time over that with all of them, with the middle half "
        "of the rounds.\n"
    )
    of = {(entry["without"], entry["runtime"]): entry for entry in found["files"]}
    runtimes = list(dict.fromkeys(runtime for _, runtime in of))
    yield table(
        ("without", *runtimes),
        [
            (f"`{name}`" if name else "none of them, ms", *(_rewritten(of[name, runtime]) for runtime in runtimes))
            for name in dict.fromkeys(name for name, _ in of)
        ],
    )


def _rewritten(entry: dict[str, Any]) -> str:
    return ms(entry["ms"]) if entry["without"] is None else _spread(entry["times"], 3)


def _spread(ratio: dict[str, Any], digits: int) -> str:
    """A median with the middle half around it."""
    middle, low, high = (f"{ratio[key]:.{digits}f}" for key in ("median", "low", "high"))
    return f"{middle} ({low} to {high})"


def report(found: dict[str, Any], _name: str) -> Iterator[str]:
    """What `edgeparse bench` said."""
    setup = found["setup"]
    picture = setup["pictures"][0]
    yield (
        f"`edgeparse bench`: {picture['width']}x{picture['height']} {picture['format']}, {picture['windows']} windows, "
        f"{setup['backend']}, {setup['precision']}, {setup['threads']} threads.\n"
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
        # Results from before there was another meter were all of the GPU.
        yield f"{found['energy_j_per_report'] * 1e3:.1f} mJ of {found.get('energy_of', 'the GPU')} a report.\n"


def growth(found: dict[str, Any], name: str) -> Iterator[str]:
    """How cost grows."""
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
    for key, picture in (("windows", MANY), ("threads", USUAL)):
        yield f"With more {key}, a picture of {picture:g} megapixel{'s' if picture > 1 else ''}:\n"
        yield table(
            (key, "report ms", "network ms"),
            [
                (str(point[key]), ms(point["ms"]["report"]["p50"]), ms(point["ms"]["network"]["p50"]))
                for point in found[key]
            ],
        )
    yield "The network alone, on more windows at once:\n"
    yield table(
        ("batch", "ms", "windows a second"),
        [
            (str(point["batch"]), ms(point["ms"]["network"]["p50"]), f"{point['per_second']:.0f}")
            for point in found["batches"]
        ],
    )
    yield f"With more processes of one thread, a picture of {USUAL:g} megapixel:\n"
    yield table(
        ("processes", "reports a second"),
        [(str(point["processes"]), f"{point['per_second']:.1f}") for point in found["processes"]],
    )
    yield f"All processes together do {speed_up(found['processes']):.2f} times what one does.\n"


def soak(found: dict[str, Any], _name: str) -> Iterator[str]:
    """Memory over many pictures."""
    last = found["resident_mb"][-1][1]
    yield (
        f"{found['pictures']} pictures in one process: {found['growth_mb']:+.1f} MB after the first {found['settled']}, "
        f"{last:.0f} MB at the end.\n"
    )


def scenarios(found: dict[str, Any], _name: str) -> Iterator[str]:
    """What the load generator said."""
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


def gpu(found: dict[str, Any], _name: str) -> Iterator[str]:
    """A GPU: everyone's times, and how near ours comes to what the GPU can do."""
    device = found["device"]
    told = [f"{device['name']} ({device['capability']}, {device['memory_bytes'] / 2**30:.0f} GiB)"]
    told += [f"driver {device['driver']}, {device['power_limit_w']:.0f} W"] if "driver" in device else []
    yield f"{', '.join(told)}.\n"
    yield from _gpu_times(found)
    yield from _gpu_in_the_same_runtime(found)
    yield from _gpu_failed(found)
    yield from _gpu_left_out(found)
    if found.get("roofline"):
        yield from _gpu_roofline(found)
    for name in ("device", "host", "batch", "published", "fp32", "tf32", "fp16, bf16", "graphs", "ratio"):
        yield f"- {name}: {found['definitions'][name]}"
    yield ""


def _gpu_times(found: dict[str, Any]) -> Iterator[str]:
    """Everyone's milliseconds a batch; the fastest at the largest first."""
    sizes = [str(size) for size in found["batches"]]
    reference = found["reference"]
    few, many = sizes[0], sizes[-1]
    yield (
        f"Milliseconds that {', '.join(sizes)} windows take on the device; windows a second at {many}; milliseconds from windows to "
        f"answers in main memory; and how many times as long as ours by default ({reference['runtime']}, {reference['precision']}) it "
        f"takes on the device, below 1 where it is faster. Medians over {found.get('rounds', 1)} rounds; what the words mean is below.\n"
    )
    rows = sorted(found["contenders"], key=lambda entry: entry["ms"]["device"].get(many, float("inf")))
    heads = (
        *("network", "runtime", "precision"),
        *sizes,
        *("windows a second", f"host to host, {few}", f"host to host, {many}"),
        *(f"times ours, {few}", f"times ours, {many}"),
    )
    yield table(
        heads,
        [
            (
                *_who(entry),
                *(ms(entry["ms"]["device"].get(size)) for size in sizes),
                f"{entry['windows_per_second'][many]:.0f}" if many in entry["windows_per_second"] else "-",
                *(ms(entry["ms"]["host"].get(size)) for size in (few, many)),
                *(_times(entry["times_reference"].get(f"device {size}")) for size in (few, many)),
            )
            for entry in rows
        ],
    )


def _gpu_in_the_same_runtime(found: dict[str, Any]) -> Iterator[str]:
    """The published networks against ours where nothing else differs: a ratio to ours by default holds what graphs are worth, too."""
    sizes = [str(size) for size in (found["batches"][0], found["batches"][-1])]
    ours = {_who(entry)[1:]: entry["ms"]["device"] for entry in found["contenders"] if entry["network"] == OURS}
    for entry in found["contenders"]:
        beside, device = ours.get(_who(entry)[1:], {}), entry["ms"]["device"]
        if entry["network"] != OURS and all(size in beside and size in device for size in sizes):
            ratios = " and ".join(f"{_times(device[size] / beside[size])} times at {size}" for size in sizes)
            yield (
                f"Both in {entry['runtime']} and {entry['precision']}, the published networks take {ratios} as long as ours (quotients "
                "of these medians); the rest of what is between them and ours by default is the runtime's and the precision's.\n"
            )


def _gpu_failed(found: dict[str, Any]) -> Iterator[str]:
    """Who has no times: those that were too slow to open in a line, the others with their reason."""
    measured = {_who(entry) for entry in found["contenders"]}
    # Results of 2026-11-26 have the signal instead that ended the process then.
    late = [
        entry
        for entry in found["failed"]
        if entry["error"] in (LATE, "the process ended with status -9") and _who(entry) not in measured
    ]
    if late:
        yield f"Not measured, as it did not open in time: {'; '.join(' / '.join(_who(entry)) for entry in late)}.\n"
    others = [entry for entry in found["failed"] if entry not in late]
    for entry in others:
        yield f"- {' / '.join(_who(entry))} could not run: {textwrap.shorten(entry['error'], 120, placeholder=' ...')}"
    if others:
        yield ""


def _gpu_left_out(found: dict[str, Any]) -> Iterator[str]:
    """Which of the runtime's backends for GPUs nobody was measured with."""
    measured = {entry["runtime"] for entry in (*found["contenders"], *found["failed"])}
    if missing := [f"`{name}`" for name in NAMES if "tensorrt" in name and name not in measured]:
        yield f"Backends that were not measured: {', '.join(missing)}.\n"


def _gpu_roofline(found: dict[str, Any]) -> Iterator[str]:
    """How near ours by default comes to what the GPU can do."""
    most, line, definitions = found["ceilings"], found["roofline"], found["definitions"]
    ridge = line["ridge_flops_per_byte"]
    yield (
        f"What the GPU can do, measured beside them: {most['tflops']['fp16']:.0f} TFLOP/s in fp16 ({definitions['tflops']}), "
        f"{most['bandwidth_tb_s']:.2f} TB/s ({definitions['bandwidth']}). A network that computes less than {ridge:.0f} FLOP for each byte "
        "that it moves is bound by memory, another by the matrix units. Ours computes "
        f"{line['work']['flops'] / 1e9:.2f} GFLOP a window. How many bytes it moves depends on what is counted; {line['batch']} windows "
        f"in {ms(line['ms'])} ms, by both counts:\n"
    )
    yield table(
        ("bytes", "MB", "FLOP a byte", "bound by", "at best, ms", "of the matrix peak", "of the bandwidth"),
        [
            (
                name,
                f"{line[name]['bytes'] / 1e6:.0f}",
                f"{line[name]['flops_per_byte']:.0f}",
                {"memory": "memory", "matrix": "matrix units"}[line[name]["binds"]],
                ms(line[name]["floor_ms"]),
                f"{100 * line[name]['share_of_matrix_peak']:.3g} %",
                f"{100 * line[name]['share_of_bandwidth']:.3g} %",
            )
            for name in ("moved", "least")
        ],
    )
    for name in ("moved", "least", "flops"):
        yield f"- {name}: {definitions[name].removeprefix('bytes: ')}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


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


# A machine's sections in the document's order, with their titles.
BLOCKS: dict[str, tuple[str, Callable[[dict[str, Any], str], Iterator[str]]]] = {
    "peers": ("Beside others", peers),
    "rewrites": ("Layout of the INT8 file", rewrites),
    "report": ("One picture", report),
    "growth": ("How cost grows", growth),
    "soak": ("Steady memory", soak),
    "scenarios": ("Under load", scenarios),
    "gpu": ("On the GPU", gpu),
}


def _foot(found: dict[str, Any], shipped: Bundle) -> Iterator[str]:
    # What a GPU was measured with is what was loaded there, not what else is installed.
    told = found.get("device", found["machine"])["versions"]
    versions = ", ".join(f"{name} {value}" for name, value in told.items() if value)
    yield f"<sub>{found['date']}, commit {found['commit']}, bundle {_bundle(found, shipped)}; {versions}</sub>\n"
    warnings = [*found.get("warnings", ()), *(w for e in found.get("performance", ()) for w in e["warnings"])]
    for warning in dict.fromkeys(warnings):
        yield f"**Not to be believed:** {warning}.\n"


def _tried(tried: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "## Tried for speed\n"
    yield (
        "A change that makes a window faster in ONNX Runtime betters every ratio; it stands by the one to OpenVINO. A percentage alone is "
        "how much longer a window takes without the change, in brackets for the middle half of the rounds.\n"
    )
    yield table(
        ("bar", "what", "gain", "kept", "source"),
        [
            (entry["bar"], entry["tried"], entry["gain"], "yes" if entry["kept"] else "no", entry["source"])
            for entry in tried
        ],
    )


def ms(value: float | None) -> str:
    """Milliseconds with three digits; a dash where too few samples tell."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def write(target: Path, results: Sequence[dict[str, Any]], tried: Sequence[dict[str, Any]], shipped: Bundle) -> None:
    """Write the document."""
    target.write_text(render(results, tried, shipped), encoding="utf-8")
