"""The section on clips: detection by codec and rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeparse.bundle import Bundle
from training.evaluate.results import is_measured_on
from training.report.markdown import interval, percent, table

CODECS = {"h264": "H.264", "hevc": "HEVC"}


def section(result: dict[str, Any] | None, bundle: Bundle) -> Iterator[str]:
    """Yield the section's blocks; nothing if clips were never measured.

    Args:
        result: training/results/video.json.
        bundle: the bundle that the page is about.

    Raises:
        ValueError: the result was measured on a bundle that predicts differently.
    """
    if result is None:
        return
    if not is_measured_on(result, bundle):
        raise ValueError(
            f"video.json must be measured on {bundle.label}; run `python -m training video DATA BUNDLE` again"
        )
    clips, pairs = result["uncompressed"]["clips"], result["correlation"]
    yield "## Clips"
    yield (
        f"{clips['camera']} photos and {clips['generated']} generated pictures of owners that training left out, made into clips with "
        "one encoder at the same rates: still, and moved by a pixel a frame. Bits per pixel are the median of keyframes. "
        "Shares count the bundle's thresholds, before the rule below."
    )
    yield table(
        (
            *("codec", "CRF", "bits per pixel", "AUC, still", "AUC, moved", "95%, moved"),
            *("photos called generated", "inconclusive", "generated called generated"),
        ),
        [_uncompressed(result["uncompressed"]), *_rates(result["rows"])],
    )
    least = ", ".join(f"{CODECS[codec]} {bits:g}" for codec, bits in result["min_bits_per_pixel"].items())
    yield (
        f"**Rule.** A clip is `inconclusive` if its keyframes have fewer bits per pixel than: {least}. From there on, at least half of "
        "the pictures' advantage over chance is left, and false alarms at most double (plus two points). "
        f"**Frames.** The log-odds of two frames of one scene correlate by {pairs['scene']:.2f}, those of two pictures of one source "
        f"by {pairs['clip']:.2f}, so 24 frames of one scene count as {24 / (1 + 23 * pairs['scene']):.1f} and 24 scenes as "
        f"{24 / (1 + 23 * pairs['clip']):.1f}. The log loss of moved clips is {result['log_loss']['effective']:.2f}; it would be "
        f"{result['log_loss']['sum']:.2f} if frames counted as independent."
    )


def _uncompressed(found: dict[str, Any]) -> tuple[str, ...]:
    return ("none", "", "", f"{found['auc']:.3f}", "", "", *_shares([found]))


def _rates(rows: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each codec and rate, still and moved clips together."""
    for still in (row for row in rows if row["motion"] == "still"):
        moved = next(r for r in rows if (r["codec"], r["rate"], r["motion"]) == (still["codec"], still["rate"], "slow"))
        yield (
            CODECS[still["codec"]],
            str(still["rate"]),
            f"{moved['bits_per_pixel']:.2f}",
            f"{still['auc']:.3f}",
            f"{moved['auc']:.3f}",
            interval(moved["interval"]),
            *_shares([still, moved]),
        )


def _shares(found: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Return the shares of photos called generated and inconclusive, and of generated pictures called generated."""
    shares = (("camera", "generated"), ("camera", "inconclusive"), ("generated", "generated"))
    camera, unsure, generated = (percent(sum(f[kind][verdict] for f in found) / len(found)) for kind, verdict in shares)
    return camera, unsure, generated
