"""What is told to the other side of a hold: once, and again after a glare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.calls.actions import Reinvite, StartTimer
from recorder.calls.events import Direction, Side, Timer
from recorder.calls.holding import Holding

SENDRECV, SENDONLY, INACTIVE = Direction.SENDRECV, Direction.SENDONLY, Direction.INACTIVE
RECVONLY = Direction.RECVONLY


def up(side: Side = Side.B) -> Holding:
    holding = Holding(side, lambda least, _most: least)
    assert holding.begin() == []
    return holding


def test_a_hold_and_its_end_are_told_once_each() -> None:
    holding = up()
    assert holding.want(SENDONLY) == [Reinvite(Side.B, SENDONLY)]
    assert holding.ended(200) == []
    assert holding.want(SENDONLY) == []
    assert holding.want(SENDRECV) == [Reinvite(Side.B, SENDRECV)]
    assert holding.ended(200) == []


def test_nothing_is_sent_before_the_call_is_up() -> None:
    holding = Holding(Side.B)
    assert holding.want(INACTIVE) == []
    assert holding.begin() == [Reinvite(Side.B, INACTIVE)]


def test_what_changes_while_one_is_under_way_is_told_after_it() -> None:
    holding = up()
    holding.want(SENDONLY)
    assert holding.want(INACTIVE) == []
    assert holding.want(SENDRECV) == []
    assert holding.ended(200) == [Reinvite(Side.B, SENDRECV)]


@pytest.mark.parametrize(("side", "timer", "pause"), [(Side.A, Timer.REINVITE_A, 0.0), (Side.B, Timer.REINVITE_B, 2.1)])
def test_after_a_glare_it_is_tried_again_after_a_pause_by_the_owner_of_the_call_id(
    side: Side, timer: Timer, pause: float
) -> None:
    holding = up(side)
    holding.want(SENDONLY)
    assert holding.ended(491) == [StartTimer(timer, pause)]
    assert holding.retry() == [Reinvite(side, SENDONLY)]
    assert holding.ended(200) == []
    assert holding.retry() == []


def test_a_glare_that_will_not_end_is_left_alone() -> None:
    holding = up()
    holding.want(SENDONLY)
    tries = 1
    while holding.ended(491):
        assert holding.retry() == [Reinvite(Side.B, SENDONLY)]
        tries += 1
    assert 3 < tries < 10


@pytest.mark.parametrize("status", [400, 403, 415, 488, 603])
def test_a_refusal_leaves_the_other_side_as_it_was(status: int) -> None:
    holding = up()
    holding.want(SENDONLY)
    assert holding.ended(status) == []
    assert holding.want(SENDRECV) == []  # it never knew of the hold
    assert holding.want(SENDONLY) == [Reinvite(Side.B, SENDONLY)]


def test_one_way_that_both_agree_on_is_told_to_neither() -> None:
    caller, callee = Holding(Side.A), Holding(Side.B)
    for holding, its_own, the_others in ((caller, SENDONLY, RECVONLY), (callee, RECVONLY, SENDONLY)):
        assert holding.asked(its_own) + holding.want(the_others) + holding.begin() == []


def test_what_was_not_worth_telling_is_told_when_the_far_end_asks_for_more() -> None:
    holding = up(Side.A)
    assert holding.asked(SENDONLY) == []
    assert holding.want(RECVONLY) == []
    assert holding.asked(SENDRECV) == [Reinvite(Side.A, RECVONLY)]


def test_a_hold_of_one_that_holds_as_well_is_told() -> None:
    holding = up()
    holding.asked(SENDONLY)
    assert holding.want(SENDONLY) == [Reinvite(Side.B, SENDONLY)]


@given(st.lists(st.one_of(st.sampled_from(Direction), st.sampled_from([200, 488, 491, "retry"])), max_size=30))
def test_there_is_never_more_than_one_under_way(script: list[object]) -> None:
    holding, under_way = up(), 0
    for step in script:
        if isinstance(step, Direction):
            actions = holding.want(step)
        elif step == "retry":
            actions = holding.retry()
        else:
            assert isinstance(step, int)
            actions, under_way = holding.ended(step), 0
        under_way += sum(isinstance(action, Reinvite) for action in actions)
        assert under_way <= 1
