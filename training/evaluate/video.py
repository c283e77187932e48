"""Detection on clips, by codec and rate.

Pictures of both classes become clips with the same encoders at the same rates: still ones, and ones that move slowly over the
picture. The runtime reads them like any clip. Two figures that `edgeparse.video.answer` reads from its `measured.json` come from here:
how far the log-odds of frames correlate, and the bits per pixel below which the traces are gone.
"""

from __future__ import annotations

import io
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from PIL import Image

from edgeparse import Parser, VideoLimits
from edgeparse.bundle import open_bundle
from edgeparse.postprocess import logit
from edgeparse.system import usable_cores
from edgeparse.video.answer import MEASURED, effective_frames
from training.data.chains import Pixels
from training.data.public_sets import PublicPicture, read_pictures, split
from training.evaluate.left_out import Scores
from training.evaluate.results import RESULTS, bundle_identity, write_result

# Constant rate factors of both encoders: visually lossless, x264's default, a usual upload, and a small file.
ENCODERS = {"h264": "libx264", "hevc": "libx265"}
RATES = (18, 23, 28, 34)
MOTIONS = ("still", "slow")
# Frames of a clip, frames that are analysed, and pixels of movement per frame.
LENGTH, STEP = 8, 1
ANALYSED = {"still": 1, "slow": 2}
# Edges of the bins of keyframe bits per pixel on which the rule for "inconclusive" is fitted.
EDGES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, np.inf)
# The traces are gone where less than this share of the advantage over chance is left, or with this many times the false alarms.
KEPT_ADVANTAGE, MORE_FALSE_ALARMS, FALSE_ALARM_MARGIN = 0.5, 2.0, 0.02
# No codec reaches this many bits per pixel.
NEVER = 1000.0
# Fewer clips of a class than this say nothing about a bin.
MIN_CLIPS = 15


@dataclass(frozen=True)
class ClipResult:
    """What the runtime answered on one clip.

    Attributes:
        picture: number of the picture that it shows.
        codec, rate, motion: how it was made; codec "none" is the picture itself.
        bits: bits per pixel of its keyframes.
        log_odds: of each frame, calibrated as for images.
        probability: the clip's.
    """

    picture: int
    codec: str
    rate: int
    motion: str
    bits: float
    log_odds: tuple[float, ...]
    probability: float


def choose_pictures(pictures: Sequence[PublicPicture], per_set: int) -> list[PublicPicture]:
    """Return at most `per_set` pictures of every set of both classes, evenly spread over the set."""
    sets = defaultdict(list)
    for picture in pictures:
        if picture.set.role in ("camera", "generated"):
            sets[picture.set.name].append(picture)
    return [
        members[i * len(members) // min(per_set, len(members))]
        for _, members in sorted(sets.items())
        for i in range(min(per_set, len(members)))
    ]


def encode_clip(pixels: Pixels, codec: str, rate: int, motion: str) -> bytes:
    """Return an MP4 of a picture, uint8[H, W, 3], at native resolution, cropped to even sides.

    Args:
        pixels: the picture.
        codec: a key of `ENCODERS`.
        rate: constant rate factor.
        motion: "still", or "slow": the view moves diagonally by `STEP` pixels per frame.
    """
    import av

    moved = STEP * (LENGTH - 1)
    height, width = ((side - moved) // 2 * 2 for side in pixels.shape[:2])
    buffer = io.BytesIO()
    # The encoders' own threads would compete with the clips that are encoded at the same time.
    options = {"crf": str(rate), "preset": "fast"}
    options |= {"x265-params": "pools=1:frame-threads=1:log-level=none"} if codec == "hevc" else {"threads": "1"}
    with av.open(buffer, "w", format="mp4") as container:
        stream = cast(av.VideoStream, container.add_stream(ENCODERS[codec], rate=24, options=options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(LENGTH):
            at = STEP * number if motion == "slow" else moved // 2
            view = np.ascontiguousarray(pixels[at : at + height, at : at + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def analyse_picture(parser: Parser, number: int, pixels: Pixels) -> Iterator[ClipResult]:
    """Yield the answer about a picture and about every clip of it."""
    moved = STEP * (LENGTH - 1)
    # The still clip's crop.
    height, width = ((side - moved) // 2 * 2 for side in pixels.shape[:2])
    view = pixels[moved // 2 :, moved // 2 :][:height, :width]
    probability = parser.parse(np.ascontiguousarray(view)).probability_generated
    assert probability is not None
    yield ClipResult(number, "none", 0, "still", np.inf, (_log_odds(probability),), probability)
    for codec, rate, motion in itertools.product(ENCODERS, RATES, MOTIONS):
        report = parser.parse_video(encode_clip(pixels, codec, rate, motion), VideoLimits(frames=ANALYSED[motion]))
        assert report.video is not None
        assert report.probability_generated is not None
        log_odds = tuple(_log_odds(frame.probability_generated or 0.0) for frame in report.frames)
        bits = report.video.bits_per_pixel
        yield ClipResult(number, codec, rate, motion, bits, log_odds, report.probability_generated)


def _log_odds(probability: float) -> float:
    return logit(min(max(probability, 1e-6), 1 - 1e-6))


def correlation(groups: Sequence[Sequence[float]]) -> float:
    """Return the correlation of two members of one group: the intraclass correlation of a one-way analysis of variance."""
    groups = [group for group in groups if len(group) > 1]
    sizes = np.array([len(group) for group in groups])
    total, values = sizes.sum(), np.concatenate(groups)
    between = sum(n * (np.mean(group) - values.mean()) ** 2 for n, group in zip(sizes, groups, strict=True))
    within = sum(((np.array(group) - np.mean(group)) ** 2).sum() for group in groups)
    between, within = between / (len(groups) - 1), within / (total - len(groups))
    typical = (total - (sizes**2).sum() / total) / (len(groups) - 1)
    return float((between - within) / (between + (typical - 1) * within))


def correlations(results: Sequence[ClipResult], pictures: Sequence[PublicPicture]) -> dict[str, float]:
    """Return the correlation of frames of one scene, and of frames of two scenes from one source.

    Classes are centred first, as is every way of encoding. Moved clips of one picture stand for a scene, pictures of one set for
    the scenes of one clip: one camera or generator made them.
    """
    ways = defaultdict(list)
    for result in results:
        if result.motion == "slow":
            ways[result.codec, result.rate, pictures[result.picture].set.role].append(result)
    scene: list[list[float]] = []
    clip: list[list[float]] = []
    for members in ways.values():
        centre = float(np.mean([value for result in members for value in result.log_odds]))
        scene += [[value - centre for value in result.log_odds] for result in members]
        sets = defaultdict(list)
        for result in members:
            sets[pictures[result.picture].set.name].append(result.log_odds[0] - centre)
        clip += sets.values()
    return {"scene": correlation(scene), "clip": correlation(clip)}


def figures(results: Sequence[ClipResult], pictures: Sequence[PublicPicture], thresholds: tuple[float, float]) -> Any:
    """Return the detection metrics of clips.

    Args:
        results: answers on clips.
        pictures: the pictures that they show, by number.
        thresholds: probabilities below which the verdict is "camera", and from which it is "generated".
    """
    sets = [pictures[result.picture].set for result in results]
    probability = np.array([result.probability for result in results])
    scores = Scores(
        np.array([_log_odds(p) for p in probability]),
        np.array([s.name for s in sets]),
        np.array([s.role == "generated" for s in sets]),
    )
    called = {"camera": probability < thresholds[0], "generated": probability >= thresholds[1]}
    called["inconclusive"] = ~called["camera"] & ~called["generated"]
    classes = {"camera": ~scores.generated, "generated": scores.generated}
    return {
        "clips": {name: int(of.sum()) for name, of in classes.items()},
        "bits_per_pixel": float(np.median([result.bits for result in results if result.bits < np.inf] or [0.0])),
        "auc": scores.auc(),
        "interval": scores.interval(),
    } | {
        name: {verdict: float(chosen[of].mean()) for verdict, chosen in called.items()} for name, of in classes.items()
    }


def bins(
    results: Sequence[ClipResult], pictures: Sequence[PublicPicture], thresholds: tuple[float, float]
) -> list[dict[str, Any]]:
    """Return the metrics by bits per pixel, from low to high, where both classes have enough clips."""
    found = []
    for low, high in itertools.pairwise(EDGES):
        members = [result for result in results if low <= result.bits < high]
        roles = [pictures[result.picture].set.role for result in members]
        if min(roles.count("camera"), roles.count("generated")) >= MIN_CLIPS:
            found.append({"from": low} | figures(members, pictures, thresholds))
    return found


def least_bits(binned: Sequence[dict[str, Any]], uncompressed: dict[str, Any]) -> float:
    """Return the bits per pixel from which the traces are left, in every bin from there on; `NEVER` if in none.

    Args:
        binned: what `bins` returned.
        uncompressed: the metrics of the pictures themselves.
    """
    allowed = MORE_FALSE_ALARMS * uncompressed["camera"]["generated"] + FALSE_ALARM_MARGIN
    advantage = KEPT_ADVANTAGE * (uncompressed["auc"] - 0.5)
    least = NEVER
    for entry in reversed(binned):
        if entry["auc"] - 0.5 < advantage or entry["camera"]["generated"] > allowed:
            break
        least = float(entry["from"])
    return least


def losses(results: Sequence[ClipResult], pictures: Sequence[PublicPicture]) -> dict[str, float]:
    """Return the log loss of moved clips if the log-odds of frames are averaged, counted by effective frames, or added up."""
    moved = [result for result in results if result.motion == "slow"]
    generated = np.array([pictures[result.picture].set.role == "generated" for result in moved])
    mean = np.array([np.mean(result.log_odds) for result in moved])
    weights = {"mean": 1.0, "effective": effective_frames([0] * ANALYSED["slow"]), "sum": float(ANALYSED["slow"])}
    # Both classes count alike.
    found = {}
    for name, weight in weights.items():
        loss = np.logaddexp(0, np.where(generated, -1, 1) * weight * mean)
        found[name] = float((loss[generated].mean() + loss[~generated].mean()) / 2)
    return found


def measure(data: Path, folder: Path, per_set: int) -> dict[str, Any]:
    """Measure a bundle on clips of the validation fold's pictures."""
    pictures = choose_pictures(split(read_pictures(data)).val, per_set)
    bundle = open_bundle(folder)
    assert bundle.calibration is not None
    thresholds = (bundle.calibration.camera, bundle.calibration.generated)
    parser = Parser(folder, backend="cpu", threads=1)

    def analyse(number: int) -> list[ClipResult]:
        with Image.open(data / pictures[number].file) as image:
            pixels = np.asarray(image.convert("RGB"))
        return list(analyse_picture(parser, number, pixels))

    with ThreadPoolExecutor(usable_cores()) as pool:
        results = list(itertools.chain.from_iterable(pool.map(analyse, range(len(pictures)))))
    by_codec = {codec: [result for result in results if result.codec == codec] for codec in ("none", *ENCODERS)}
    uncompressed = figures(by_codec["none"], pictures, thresholds)
    binned = {codec: bins(by_codec[codec], pictures, thresholds) for codec in ENCODERS}
    return bundle_identity(bundle) | {
        "pictures": len(pictures),
        "uncompressed": uncompressed,
        "rows": [
            {"codec": codec, "rate": rate, "motion": motion}
            | figures([r for r in by_codec[codec] if (r.rate, r.motion) == (rate, motion)], pictures, thresholds)
            for codec, rate, motion in itertools.product(ENCODERS, RATES, MOTIONS)
        ],
        "bins": binned,
        "correlation": correlations([r for r in results if r.codec != "none"], pictures),
        "log_loss": losses([r for r in results if r.codec != "none"], pictures),
        "min_bits_per_pixel": {codec: least_bits(entries, uncompressed) for codec, entries in binned.items()},
    }


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--per-set", default=3, show_default=True, help="Pictures of each set; time grows with them.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=RESULTS / "video.json",
    help="Where to write the JSON; by default training/results/video.json.",
)
@click.option(
    "--rule",
    type=click.Path(dir_okay=False, path_type=Path),
    default=MEASURED,
    help="Where to write the figures that the runtime reads; by default edgeparse/video/measured.json.",
)
def main(data: Path, bundle: Path, per_set: int, output: Path, rule: Path) -> None:
    """Measure BUNDLE on clips made from the validation pictures of DATA, by codec and rate."""
    start = time.monotonic()
    found = measure(data, bundle, per_set)
    write_result(output, found)
    write_result(rule, {key: found[key] for key in ("bundle", "correlation", "min_bits_per_pixel")})
    click.echo(f"{found['pictures']} pictures in {time.monotonic() - start:.0f} s: {output}, {rule}")
