"""The table of a transfer, and what a REFER and a Replaces say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.calls.events import LegAnswered, LegConfirmed, LegEnded, LegMediaActive, LegRinging, Side
from recorder.calls.targets import Target
from recorder.calls.transfer import (
    AnswerParty,
    CallEnded,
    Conclude,
    DialParty,
    DropParty,
    Heard,
    LetHear,
    OldLegEnded,
    Replaced,
    Report,
    State,
    TakePlace,
    TimedOut,
    Transfer,
    referral,
    replaced,
)
from recorder.errors import IllegalEventError, InvalidRequestError

ONE, TWO = Target("sip:one@x"), Target("sip:two@x")
MEDIA = LegMediaActive(Side.B)
DONE = [Report(200, "OK", final=True), TakePlace(), Conclude("completed", 200)]


def begun(*targets: Target) -> Transfer:
    transfer = Transfer(targets or (ONE,))
    transfer.begin()
    return transfer


def test_it_dials_and_says_so() -> None:
    assert Transfer((ONE, TWO)).begin() == [Report(100, "Trying"), DialParty(ONE)]


def test_a_party_that_called_by_itself_is_answered_and_comes_in_when_it_has_confirmed() -> None:
    transfer = Transfer(())
    assert transfer.begin() == [AnswerParty()]
    assert transfer.handle(MEDIA) == []
    assert transfer.handle(LegConfirmed()) == DONE


@pytest.mark.parametrize("events", [(LegAnswered(), MEDIA), (MEDIA, LegAnswered())])
def test_the_new_party_takes_its_place_when_it_has_answered_and_is_heard(events: tuple[LegAnswered]) -> None:
    transfer = begun()
    first, last = events
    assert transfer.handle(first) == []
    assert transfer.handle(last) == DONE
    assert transfer.handle(LegEnded(Side.B, 200, "")) == []


def test_ringing_is_told_once() -> None:
    transfer = begun()
    assert transfer.handle(LegRinging(180, "Ringing")) == [Report(180, "Ringing")]
    assert transfer.handle(LegRinging(180, "Ringing")) == []
    assert transfer.handle(LegRinging(183, "Progress")) == [Report(183, "Progress")]


def test_a_target_that_fails_is_followed_by_the_next_one_and_its_early_media_is_forgotten() -> None:
    transfer = begun(ONE, TWO)
    transfer.handle(MEDIA)
    assert transfer.handle(LegEnded(Side.B, 503, "")) == [DialParty(TWO)]
    assert transfer.handle(LegAnswered()) == []


def test_a_busy_party_is_told_and_the_call_stays_as_it_was() -> None:
    assert begun(ONE, TWO).handle(LegEnded(Side.B, 486, "Busy Here")) == [
        Report(486, "Busy Here", final=True),
        Conclude("failed", 486),
    ]


def test_when_the_old_party_has_left_a_failure_ends_the_call() -> None:
    transfer = begun()
    assert transfer.handle(OldLegEnded()) == []
    assert transfer.handle(LegEnded(Side.B, 0, ""))[-1] == Conclude("failed", 503, alone=True)


def test_who_is_left_alone_hears_it_ring_and_then_what_the_new_party_sends_before_its_answer() -> None:
    transfer = begun(ONE, TWO)
    assert transfer.handle(LegRinging(180, "Ringing")) == [Report(180, "Ringing")]
    assert transfer.handle(OldLegEnded()) == [LetHear(Heard.RINGBACK)]
    assert transfer.handle(LegRinging(180, "Ringing")) == []
    assert transfer.handle(MEDIA) == [LetHear(Heard.EARLY_MEDIA)]
    assert transfer.handle(LegEnded(Side.B, 503, "")) == [LetHear(Heard.RINGBACK), DialParty(TWO)]
    assert LetHear(Heard.NOTHING) in transfer.handle(LegEnded(Side.B, 486, "Busy Here"))


def test_who_is_on_hold_hears_it_ring_too_and_who_is_talked_to_does_not() -> None:
    held = Transfer((ONE,), held=True)
    held.begin()
    assert held.handle(LegRinging(183, "Session Progress")) == [Report(183, "Session Progress")]
    assert held.handle(LegRinging(180, "Ringing"))[-1] == LetHear(Heard.RINGBACK)
    assert [begun().handle(MEDIA), begun().handle(LegRinging(180, "")) == [Report(180, "")]] == [[], True]


def test_the_end_of_the_call_and_a_time_out_turn_the_new_party_away() -> None:
    assert begun().handle(CallEnded()) == [DropParty(487), Conclude("abandoned", 487)]
    assert begun().handle(TimedOut())[0] == DropParty(408)


def test_nothing_happens_before_it_begins() -> None:
    with pytest.raises(IllegalEventError):
        Transfer((ONE,)).handle(MEDIA)


events = st.sampled_from(
    [
        LegRinging(180, ""),
        LegAnswered(),
        LegConfirmed(),
        MEDIA,
        LegEnded(Side.B, 503, ""),
        LegEnded(Side.B, 486, ""),
        OldLegEnded(),
        CallEnded(),
        TimedOut(),
    ]
)


@given(st.lists(events, max_size=20), st.integers(0, 3))
def test_it_concludes_once_at_most_and_nothing_comes_after(script: list[LegAnswered], targets: int) -> None:
    transfer = Transfer((ONE,) * targets)
    done = transfer.begin()
    for event in script:
        try:
            done += transfer.handle(event)
        except IllegalEventError:
            continue
    concluded = [action for action in done if isinstance(action, Conclude)]
    assert len(concluded) == (transfer.state is State.DONE)
    assert not concluded or done[-1] is concluded[0]
    assert sum(isinstance(action, TakePlace) for action in done) == (concluded[:1] == [Conclude("completed", 200)])


@pytest.mark.parametrize(
    ("value", "user"),
    [
        ("<sip:9001@198.51.100.1>", "9001"),
        ('"A <b>" <sips:+49%2030@host;transport=tls;user=phone>;x=y', "+49 30"),
        ("sip:bob@[2001:db8::1]:5060", "bob"),
        ("tel:+49301234;phone-context=x", "+49301234"),
        ("<sip:host>", ""),
        ("<sip:a;x=1@host;method=INVITE>", "a"),
    ],
)
def test_a_number_is_read(value: str, user: str) -> None:
    wanted = referral([("Refer-To", value)])
    assert (wanted.user, wanted.replaces, wanted.subscribed) == (user, None, True)


def test_the_dialog_to_be_replaced_is_read() -> None:
    wanted = referral(
        [("r", "<sip:a@h?Replaces=id%40x%3Bto-tag%3Dt1%3Bfrom-tag%3Df1&Require=replaces>"), ("Refer-Sub", "false")]
    )
    assert wanted.replaces == Replaced("id@x", "t1", "f1")
    assert not wanted.subscribed
    assert str(wanted.replaces) == "id@x;to-tag=t1;from-tag=f1"
    assert replaced(["id@x ; from-tag=f1;TO-TAG=t1 ;early-only"]) == Replaced("id@x", "t1", "f1", early_only=True)
    assert replaced([]) is None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Refer-To", "<sip:a@h>"), ("Refer-To", "<sip:b@h>")],
        [("Refer-To", "http://x")],
        [("Refer-To", "<sip:a@h;method=BYE>")],
        [("Refer-To", '"x <sip:a@h')],
        [("Refer-To", "<sip:a%0d%0ab@h>")],
        [("Refer-To", "<sip:a@h?Replaces=x>")],
        [("Refer-To", "<sip:a@h?Replaces=x%0d%0aX:1%3Bto-tag%3D1%3Bfrom-tag%3D2>")],
    ],
)
def test_what_cannot_be_dialed_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRequestError):
        referral(headers)


@given(st.text(max_size=60), st.text(max_size=60))
def test_reading_fails_in_one_way_only(value: str, inner: str) -> None:
    for text in (value, f"<sip:{value}@{inner}>", f"<sip:a@h?Replaces={value};to-tag={inner}>"):
        try:
            wanted = referral([("Refer-To", text)])
        except InvalidRequestError:
            continue
        assert wanted.user.isprintable()
        assert wanted.replaces is None or str(wanted.replaces).isprintable()
