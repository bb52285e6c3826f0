"""Which targets are up, when they are asked again, and in which order calls try them."""

from __future__ import annotations

import pytest

from recorder.calls.health import Health, key_of
from recorder.calls.targets import Address, Target

ONE, TWO = Target("sip:100@one:5060"), Target("sip:100@two:5060")
KEY = "sip:one:5060"


def probed() -> Health:
    return Health({KEY: 30.0}, 0.0)


def failed(health: Health, *moments: float) -> list[bool]:
    """Let probes go unanswered at these moments; return after which of them the target has changed."""
    changes = []
    for now in moments:
        assert health.due(now) == [KEY], now
        changes.append(health.answered(KEY, now, well=False))
    return changes


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("sip:+30210@192.0.2.1:5060;transport=tcp", "sip:192.0.2.1:5060;transport=tcp"),
        ("sip:{user}@ivr.test", "sip:ivr.test"),
        ("sips:ivr.test", "sips:ivr.test"),
    ],
)
def test_a_target_is_the_same_whichever_number_is_called_there(uri: str, key: str) -> None:
    assert key_of(uri) == key


def test_a_target_is_asked_at_once_and_then_every_interval() -> None:
    health = probed()
    assert health.due(0.0) == [KEY]
    assert health.due(100.0) == []  # it has not answered yet
    assert not health.answered(KEY, 0.1, well=True)
    assert health.due(30.0) == []
    assert health.due(30.2) == [KEY]


def test_one_failure_is_none_two_are_down_and_the_first_answer_is_up() -> None:
    health = probed()
    assert failed(health, 0.0, 2.0) == [False, True]
    assert not health.is_up(KEY)
    assert health.in_order((ONE, TWO), 3.0) == (TWO, ONE)
    assert health.due(32.0) == [KEY]
    assert health.answered(KEY, 32.0, well=True)
    assert health.in_order((ONE, TWO), 33.0) == (ONE, TWO)


def test_a_target_that_stays_down_is_asked_ever_more_seldom_up_to_a_bound() -> None:
    health = probed()
    moments = [0.0, 2.0, 32.0, 92.0, 212.0, 452.0, 692.0]
    assert failed(health, *moments) == [False, True, False, False, False, False, False]
    assert health.due(692.0 + 239.0) == []
    assert health.due(692.0 + 240.0) == [KEY]


def test_a_target_that_a_call_could_not_reach_is_asked_at_once_and_tried_last_until_it_is_heard() -> None:
    health = probed()
    health.due(0.0)
    health.answered(KEY, 0.0, well=True)
    health.call_failed(ONE, 5.0)
    assert health.due(5.0) == [KEY]
    assert health.in_order((ONE, TWO), 6.0) == (TWO, ONE)
    health.call_reached(ONE)
    assert health.in_order((ONE, TWO), 6.0) == (ONE, TWO)


def test_a_target_that_nobody_probes_is_suspect_for_a_while() -> None:
    health = Health({}, 0.0)
    health.call_failed(ONE, 0.0)
    assert health.in_order((ONE, TWO), 29.0) == (TWO, ONE)
    assert health.in_order((ONE, TWO), 31.0) == (ONE, TWO)


def test_when_all_are_suspect_they_are_tried_all_the_same() -> None:
    health = Health({}, 0.0)
    for target in (ONE, TWO):
        health.call_failed(target, 0.0)
    assert health.in_order((ONE, TWO), 1.0) == (ONE, TWO)


def test_of_a_names_addresses_only_the_one_that_failed_comes_last() -> None:
    here, there = Address("192.0.2.1", 5060, "udp"), Address("192.0.2.2", 5060, "udp")
    health = Health({}, 0.0)
    health.call_failed(Target("sip:100@ivr.test", address=here), 0.0)
    assert health.addresses_in_order(Target("sip:200@ivr.test"), (here, there), 1.0) == (there, here)
    assert health.in_order((Target("sip:100@ivr.test"), TWO), 1.0)[0].uri == "sip:100@ivr.test"


def test_however_many_targets_fail_the_memory_of_them_is_bounded() -> None:
    health = Health({}, 0.0)
    for number in range(5000):
        health.call_failed(Target(f"sip:{number}"), 0.0)
    assert len(health._suspects) <= 1000
    health.call_failed(ONE, 31.0)
    assert len(health._suspects) == 1
