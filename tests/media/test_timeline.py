from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.media.source import LegName, Samples
from recorder.media.timeline import Block, Timeline
from tests.media.taps import FakeTap

BLOCK = 500
LEGS: tuple[LegName, ...] = ("a", "b")


def voice(leg: LegName, start: int, stop: int) -> Samples:
    """A signal that tells leg and position: never 0, the same for every source of the leg."""
    value = np.arange(start, stop) % 16000 + 1
    return (value if leg == "a" else -value).astype(np.int16)


def speak(tap: FakeTap, leg: LegName, count: int, at: int | None = None) -> None:
    start = tap.position if at is None else at
    tap.put(voice(leg, start, start + count), at)


def joined(blocks: list[Block]) -> tuple[Samples, Samples]:
    return np.concatenate([block.a for block in blocks]), np.concatenate([block.b for block in blocks])


def test_legs_in_step_come_out_as_they_went_in_and_are_not_copied() -> None:
    a, b = FakeTap(), FakeTap()
    timeline = Timeline(a, b, origin=1000, block_samples=BLOCK)
    for tap, leg in ((a, "a"), (b, "b")):
        speak(tap, leg, 400, at=1000)
    (block,) = timeline.blocks(1400)
    assert block.position == 1000
    assert np.array_equal(block.a, voice("a", 1000, 1400))
    assert np.array_equal(block.b, voice("b", 1000, 1400))
    assert (a.reads, b.reads) == (1, 1)


def test_what_is_not_asked_for_stays_in_the_taps() -> None:
    a, b = FakeTap(), FakeTap()
    timeline = Timeline(a, b, origin=0)
    speak(a, "a", 400, at=0)
    speak(b, "b", 400, at=0)
    list(timeline.blocks(100))
    assert len(a.read()[1]) == len(b.read()[1]) == 300


def test_the_origin_is_the_first_sample_of_either_leg() -> None:
    a, b = FakeTap(), FakeTap()
    timeline = Timeline(a, b)
    assert list(timeline.blocks(timeline.leader())) == []
    speak(b, "b", 300, at=2000)
    speak(a, "a", 200, at=2100)
    assert timeline.origin is None
    one, two = joined(list(timeline.blocks(2300)))
    assert timeline.origin == 2000
    assert np.array_equal(two, voice("b", 2000, 2300))
    assert not one[:100].any()
    assert np.array_equal(one[100:], voice("a", 2100, 2300))


def test_what_came_before_the_origin_is_cut_and_is_not_late() -> None:
    a = FakeTap()
    timeline = Timeline(a, None, origin=1050)
    speak(a, "a", 300, at=1000)
    (block,) = timeline.blocks(1300)
    assert block.position == 1050
    assert np.array_equal(block.a, voice("a", 1050, 1300))
    assert timeline.late_samples == 0


def test_a_leg_that_stands_still_is_not_waited_for_and_what_it_brings_late_is_counted() -> None:
    a, b = FakeTap(), FakeTap()
    timeline = Timeline(a, b, origin=0, block_samples=BLOCK)
    speak(a, "a", 1000, at=0)
    speak(b, "b", 300, at=0)
    _, two = joined(list(timeline.blocks(timeline.leader())))
    assert np.array_equal(two[:300], voice("b", 0, 300))
    assert not two[300:].any()
    speak(a, "a", 200)
    speak(b, "b", 900)
    one, two = joined(list(timeline.blocks(timeline.leader())))
    assert np.array_equal(one, voice("a", 1000, 1200))
    assert np.array_equal(two, voice("b", 1000, 1200))
    assert timeline.late_samples == 700


def test_zeros_that_a_tap_makes_up_for_a_pause_are_not_counted_as_late() -> None:
    a, b = FakeTap(), FakeTap()
    timeline = Timeline(a, b, origin=0, block_samples=BLOCK)
    speak(a, "a", 5000, at=0)
    speak(b, "b", 100, at=0)
    list(timeline.blocks(5000))
    speak(a, "a", 200)
    speak(b, "b", 200, at=5000)
    _, two = joined(list(timeline.blocks(5200)))
    assert np.array_equal(two, voice("b", 5000, 5200))
    assert timeline.late_samples == 0


def test_a_replaced_source_is_read_to_its_end_before_the_new_one() -> None:
    a, old, new = FakeTap(), FakeTap(), FakeTap()
    timeline = Timeline(a, old, origin=0, block_samples=BLOCK)
    speak(a, "a", 1000, at=0)
    speak(old, "b", 400, at=0)
    speak(new, "b", 400, at=600)
    timeline.replace("b", new)
    _, two = joined(list(timeline.blocks(1000)))
    assert np.array_equal(two[:400], voice("b", 0, 400))
    assert not two[400:600].any()
    assert np.array_equal(two[600:], voice("b", 600, 1000))
    assert timeline.late_samples == 0


def test_a_leg_can_be_taken_away_and_come_back() -> None:
    a, b, again = FakeTap(), FakeTap(), FakeTap()
    timeline = Timeline(a, b, origin=0, block_samples=BLOCK)
    speak(b, "b", 300, at=0)
    timeline.replace("b", None)
    speak(a, "a", 1000, at=0)
    timeline.replace("b", again)
    speak(again, "b", 100, at=900)
    _, two = joined(list(timeline.blocks(1000)))
    assert np.flatnonzero(two).tolist() == [*range(300), *range(900, 1000)]


def test_a_call_without_any_media_gives_silence_up_to_the_limit() -> None:
    blocks = list(Timeline(None, None, origin=10, block_samples=BLOCK).blocks(1210))
    assert [(block.position, len(block.a)) for block in blocks] == [(10, 500), (510, 500), (1010, 200)]
    assert not any(block.a.any() or block.b.any() for block in blocks)


def test_what_a_full_ring_lost_is_told_with_its_leg_also_when_its_source_is_gone() -> None:
    a, b = FakeTap(), FakeTap()
    timeline = Timeline(a, b, origin=0)
    speak(a, "a", 100, at=0)
    speak(b, "b", 50, at=0)
    b.lose(30)
    timeline.replace("b", FakeTap())
    a.lose(20)
    list(timeline.blocks(120))
    assert timeline.take_gaps() == [("ring_full", "a", 100, 20), ("ring_full", "b", 50, 30)]
    assert timeline.take_gaps() == []
    assert timeline.dropped_samples == 50


def test_read_only_samples_are_copied_so_that_they_can_be_silenced() -> None:
    class ReadOnlyTap(FakeTap):
        def read(self, max_samples: int = 1 << 30) -> tuple[int, Samples]:
            position, samples = super().read(max_samples)
            samples.flags.writeable = False
            return position, samples

    tap = ReadOnlyTap()
    speak(tap, "a", 100, at=0)
    (block,) = Timeline(tap, None, origin=0).blocks(100)
    block.a[:] = 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), st.integers(1, 400), st.integers(0, 15)),
        st.tuples(st.just("stall"), st.sampled_from(LEGS), st.integers(1, 3)),
        st.tuples(st.just("lose"), st.sampled_from(LEGS), st.integers(1, 300)),
        st.tuples(st.just("replace"), st.sampled_from(LEGS), st.booleans()),
        st.tuples(st.just("write"), st.integers(0, 300), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.one_of(st.none(), st.integers(0, 1500)), st.integers(1, 700))
def test_every_sample_is_at_its_position_or_is_accounted_for(
    steps: list[tuple[str, object, int]], origin: int | None, block_samples: int
) -> None:
    """The common clock ticks; legs stall and catch up, lose, are replaced; the writer writes at any moment.

    The model: a sample is due in the output when its tap had it at the moment when its block was made.
    """
    clock = 1000
    taps: dict[LegName, FakeTap | None] = {"a": FakeTap(), "b": FakeTap()}
    stalled: dict[LegName, int] = {"a": 0, "b": 0}
    had: dict[LegName, set[int]] = {"a": set(), "b": set()}
    lost = 0
    timeline = Timeline(taps["a"], taps["b"], origin=origin, block_samples=block_samples)
    due: dict[LegName, set[int]] = {"a": set(), "b": set()}
    blocks: list[Block] = []

    def write(limit: int) -> None:
        first = timeline.position if timeline.origin is not None else None
        new = list(timeline.blocks(limit))
        if not new:
            return
        blocks.extend(new)
        start = new[0].position if first is None else first
        for leg in LEGS:
            due[leg] |= {position for position in had[leg] if start <= position < limit}

    for verb, first, second in [*steps, ("wake", 0, 0), ("tick", 100, 0), ("write", 0, 0)]:
        if verb == "wake":
            stalled = {"a": 0, "b": 0}
        elif verb == "tick":
            assert isinstance(first, int)
            clock += first
            for leg, tap in taps.items():
                if stalled[leg]:
                    stalled[leg] -= 1
                elif tap is not None:
                    # A tap that stood still has kept what it heard, and brings it now.
                    start = max(clock - first, tap.position) if tap.origin is None else tap.position
                    speak(tap, leg, clock - start, at=start)
                    had[leg] |= set(range(start, clock))
        elif verb == "stall":
            stalled[first] = second  # type: ignore[index]
        elif verb == "lose":
            tap = taps[first]  # type: ignore[index]
            if tap is not None and tap.origin is not None:
                tap.lose(second)
                lost += second
                clock = max(clock, tap.position)
        elif verb == "replace":
            leg = first  # type: ignore[assignment]
            taps[leg] = FakeTap() if second else None
            timeline.replace(leg, taps[leg])
        else:
            assert isinstance(first, int)
            write(timeline.leader() - first)

    if not blocks:
        return
    assert timeline.origin == blocks[0].position
    position = blocks[0].position
    for block in blocks:
        assert block.position == position
        assert 0 < len(block.a) == len(block.b) <= block_samples
        position += len(block.a)
    assert timeline.position == position
    for leg, samples in zip(LEGS, joined(blocks), strict=True):
        expected = voice(leg, blocks[0].position, position)
        present = np.zeros(len(samples), bool)
        present[[p - blocks[0].position for p in due[leg]]] = True
        assert np.array_equal(samples, np.where(present, expected, 0))
    ever = sum(len([p for p in had[leg] if blocks[0].position <= p < position]) for leg in LEGS)
    assert timeline.late_samples == ever - sum(map(len, due.values()))
    assert sum(gap.length for gap in timeline.take_gaps()) == lost == timeline.dropped_samples
