"""Frames are chosen by time, keyframe, scene change and cost."""

from __future__ import annotations

import itertools

import pytest

from edgeparse.video.selection import PacketInfo, choose, keyframes_of


def packets(count: int, group: int, fps: float = 25, cuts: tuple[int, ...] = ()) -> list[PacketInfo]:
    return [
        PacketInfo(i / fps, 10_000 if i % group == 0 else 8_000 if i in cuts else 500, i % group == 0)
        for i in range(count)
    ]


def test_one_frame_a_slot_and_keyframes_first() -> None:
    clip = packets(240, 10)
    chosen = choose(clip, 6, most_decoded=0)
    assert len(chosen) == 6
    assert all(clip[i].key for i in chosen)
    times = [clip[i].time for i in chosen]
    assert [int(t / 1.6) for t in times] == list(range(6))


def test_slots_without_a_keyframe_take_what_can_be_afforded() -> None:
    clip = packets(100, 100)
    assert choose(clip, 10, most_decoded=0) == [0]
    # One group is decoded once, up to its last chosen frame.
    some = choose(clip, 10, most_decoded=50)
    assert 3 <= len(some) < 10
    assert max(some) <= 50
    assert len(choose(clip, 10, most_decoded=100)) == 10


def test_a_scene_change_is_preferred_to_the_middle_of_a_slot() -> None:
    cut = 63
    assert cut not in choose(packets(100, 100), 4, 1000)
    assert cut in choose(packets(100, 100, cuts=(cut,)), 4, 1000)


def test_every_frame_is_large_at_high_rates() -> None:
    clip = [PacketInfo(i / 25, 10_000 if i == 0 else 7_000, i == 0) for i in range(100)]
    assert choose(clip, 4, 1000) == choose(packets(100, 100), 4, 1000)


def test_fewer_frames_than_slots_are_all_chosen() -> None:
    assert choose(packets(3, 1), 24, 0) == [0, 1, 2]
    assert choose(packets(1, 1), 24, 0) == [0]
    assert choose([], 24, 0) == []
    assert choose([PacketInfo(0.0, 100, key=False)], 24, 100) == []


def test_rounded_times_choose_the_same_frames() -> None:
    for fps, count in itertools.product((24, 25, 29.97, 30), (1, 7, 24)):
        exact = packets(290, 30, fps)
        rounded = [PacketInfo(round(p.time, 3), p.size, p.key) for p in exact]
        assert choose(exact, count, 200) == choose(rounded, count, 200)


def test_hidden_frames_and_frames_before_their_keyframe_are_left_out() -> None:
    clip = packets(40, 20)
    clip[20] = PacketInfo(clip[20].time, 10_000, key=True, shown=False)
    clip[21] = PacketInfo(clip[19].time + 0.01, 500, key=False)
    assert not {20, 21} & set(choose(clip, 40, 1000))


def test_groups_are_decoded_from_their_keyframe() -> None:
    assert keyframes_of(packets(40, 20), [3, 0, 25, 39]) == {0: [0, 3], 20: [25, 39]}


@pytest.mark.parametrize("count", [1, 2, 24, 256])
def test_no_more_frames_than_asked(count: int) -> None:
    assert len(choose(packets(1000, 7), count, 10_000)) <= count
