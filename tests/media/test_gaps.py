"""The list of gaps: bounded, joined, and put right when more is known."""

from __future__ import annotations

from recorder.media.gaps import LISTED, Gap, Gaps, Total

RATE = 8000


def test_what_goes_on_where_the_last_of_its_kind_ended_is_one_gap() -> None:
    gaps = Gaps(RATE)
    for start in range(0, 800, 160):
        gaps.add(Gap("loss", "a", start, 160))
        gaps.add(Gap("loss", "b", start, 80))
    gaps.close(RATE)
    assert [gap for gap in gaps.listed if gap.leg == "a"] == [Gap("loss", "a", 0, 800)]
    assert len([gap for gap in gaps.listed if gap.leg == "b"]) == 5
    assert gaps.totals == {("a", "loss"): Total(1, 800), ("b", "loss"): Total(5, 400)}


def test_the_list_is_bounded_and_the_totals_are_not() -> None:
    gaps = Gaps(RATE)
    for number in range(3 * LISTED):
        gaps.add(Gap("loss", "a", 320 * number, 160))
    gaps.add(Gap("ring_full", "b", 500, 100))
    gaps.close(320 * 3 * LISTED)
    assert gaps.listed[:2] == (Gap("loss", "a", 0, 160), Gap("loss", "a", 320, 160))
    assert len(gaps.listed) == LISTED + 1
    assert gaps.totals["a", "loss"] == Total(3 * LISTED, 3 * LISTED * 160)


def test_a_gap_is_within_the_recording() -> None:
    gaps = Gaps(RATE)
    gaps.add(Gap("loss", "a", -100, 160))
    gaps.add(Gap("no_rtp", "a", -300, 200))
    gaps.add(Gap("no_rtp", "b", 900, 5000))
    gaps.add(Gap("loss", "b", 6000, 160))
    gaps.close(1000)
    assert gaps.listed == (Gap("loss", "a", 0, 60), Gap("no_rtp", "b", 900, 100))


def test_what_was_thought_lost_and_came_late_was_late() -> None:
    gaps = Gaps(RATE)
    gaps.add(Gap("loss", "a", 0, 480))
    gaps.add(Gap("loss", "a", 960, 160))
    for start in (160, 240):
        gaps.add(Gap("late", "a", start, 160))
    gaps.close(RATE)
    assert gaps.listed == (
        Gap("loss", "a", 0, 160),
        Gap("late", "a", 160, 240),
        Gap("loss", "a", 400, 80),
        Gap("loss", "a", 960, 160),
    )
    assert gaps.totals["a", "loss"].samples == 400


def test_silence_around_a_hold_is_the_holds_and_loss_is_not() -> None:
    gaps = Gaps(RATE)
    gaps.hold(10_000, True)
    gaps.hold(10_100, True)
    gaps.hold(30_000, False)
    gaps.add(Gap("loss", "a", 20_000, 160))
    gaps.add(Gap("no_rtp", "a", 9_000, 22_000))
    gaps.add(Gap("dtx", "b", 2_000, 40_000))
    gaps.hold(60_000, True)
    gaps.add(Gap("no_rtp", "b", 61_000, 10_000))
    gaps.close(80_000)
    assert [(gap.cause, gap.leg, gap.start, gap.stop) for gap in gaps.listed] == [
        ("dtx", "b", 2_000, 6_000),
        ("hold", "b", 6_000, 34_000),
        ("hold", "a", 9_000, 31_000),
        ("loss", "a", 20_000, 20_160),
        ("dtx", "b", 34_000, 42_000),
        ("hold", "b", 61_000, 71_000),
    ]
