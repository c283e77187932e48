"""Choose the frames of a clip to analyse, from its packets alone: nothing is decoded."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Containers round times differently: Matroska to a millisecond. Two times that are this close count as equal, so that a remuxed
# clip gives the same frames.
TOLERANCE = 0.003
# A predicted frame of this share of a keyframe's bytes was coded mostly without prediction: the scene changed.
CUT_SHARE = 0.5


@dataclass(frozen=True)
class PacketInfo:
    """One coded frame, in decoding order.

    Attributes:
        time: when it is shown, in seconds from the clip's first frame.
        size: bytes.
        key: whether it decodes without other frames.
        shown: whether it is shown at all; an edit list may hide frames.
    """

    time: float
    size: int
    key: bool
    shown: bool = True


def choose(packets: Sequence[PacketInfo], count: int, most_decoded: int) -> list[int]:
    """Return the positions of the packets whose frames to analyse, by time.

    The clip is divided into `count` slots of equal length with one frame each. A slot's keyframe is preferred, because it is
    compressed least and decodes alone. Other slots take the frame after a scene change, or the one in their middle, cheapest
    first, as long as at most `most_decoded` frames have to be decoded for them.

    Args:
        packets: all packets in decoding order.
        count: largest number of frames, at least 1.
        most_decoded: largest number of frames to decode besides keyframes.
    """
    keys = _keyframe_of(packets)
    # A frame that is shown before its keyframe refers to the group before, too.
    usable = [i for i, p in enumerate(packets) if p.shown and keys[i] >= 0 and p.time >= packets[keys[i]].time]
    if not usable:
        return []
    cuts = _cuts(packets)
    slot_length = _duration([packets[i].time for i in usable]) / count
    best: dict[int, tuple[int, int, float]] = {}
    for i in sorted(usable, key=lambda i: packets[i].time):
        slot = min(count - 1, int((packets[i].time + TOLERANCE) / slot_length))
        distance = abs(packets[i].time - (slot + 0.5) * slot_length)
        rank = 0 if packets[i].key else 1 if i in cuts else 2
        if slot not in best or (rank, distance + TOLERANCE) < best[slot][1:]:
            best[slot] = i, rank, distance
    chosen = [i for i, *_ in best.values() if packets[i].key]
    others = [i for i, *_ in best.values() if not packets[i].key]
    chosen += _affordable(sorted(others, key=lambda i: (i not in cuts, i - keys[i])), keys, most_decoded)
    return sorted(chosen, key=lambda i: packets[i].time)


def _affordable(candidates: Sequence[int], keys: Sequence[int], most_decoded: int) -> list[int]:
    """Return the candidates that fit: a group of frames is decoded once, up to its last chosen frame."""
    decoded: dict[int, int] = {}
    chosen = []
    for i in candidates:
        extra = max(0, i - keys[i] - decoded.get(keys[i], 0))
        if extra <= most_decoded:
            most_decoded -= extra
            decoded[keys[i]] = max(decoded.get(keys[i], 0), i - keys[i])
            chosen.append(i)
    return chosen


def keyframes_of(packets: Sequence[PacketInfo], chosen: Sequence[int]) -> dict[int, list[int]]:
    """Return the chosen positions by the position of the keyframe from which they decode."""
    keys = _keyframe_of(packets)
    groups: dict[int, list[int]] = {}
    for i in sorted(chosen):
        groups.setdefault(keys[i], []).append(i)
    return groups


def _keyframe_of(packets: Sequence[PacketInfo]) -> list[int]:
    """Return for each packet the position of the last keyframe up to it, or -1."""
    last, found = -1, []
    for i, packet in enumerate(packets):
        last = i if packet.key else last
        found.append(last)
    return found


def _cuts(packets: Sequence[PacketInfo]) -> frozenset[int]:
    """Return the positions of predicted frames after a scene change."""
    sizes = [packet.size for packet in packets if packet.key]
    if not sizes:
        return frozenset()
    threshold = CUT_SHARE * statistics.median(sizes)
    predicted = [packet.size for packet in packets if not packet.key]
    # At high rates, or with much motion, every frame is that large.
    if not predicted or statistics.median(predicted) > threshold / 2:
        return frozenset()
    return frozenset(i for i, packet in enumerate(packets) if not packet.key and packet.size >= threshold)


def _duration(times: Sequence[float]) -> float:
    """Return the clip's length in seconds: the last frame is shown as long as the others on average."""
    span = max(times) - min(times)
    return span * len(times) / (len(times) - 1) if len(times) > 1 and span > 0 else 1.0
