"""The call's state machine under events in any order: what no order may ever do, with the shell's side of it kept."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from recorder.calls.actions import (
    AbandonLeg,
    AnswerLeg,
    DialLeg,
    FinishCall,
    HangUpLeg,
    ReleaseCall,
    StartRecording,
    StopRecording,
    StopTimers,
)
from recorder.calls.call import Call, Limits, State
from recorder.calls.events import (
    CallAdmitted,
    Event,
    HangUpRequested,
    InfoReceived,
    LegAnswered,
    LegConfirmed,
    LegEnded,
    LegMediaActive,
    LegRinging,
    Side,
    TargetLookedUp,
)
from recorder.calls.targets import Address, Place, Target
from recorder.errors import IllegalEventError
from tests.fuzz.cases import fuzzed

sides = st.sampled_from(Side)
PLAIN = Target("sip:1@192.0.2.1")
NAMED, OTHER = (Target(f"sip:1@{host}", lookup=Place(host)) for host in ("a.example", "b.example"))
admitted = st.builds(CallAdmitted, st.lists(st.sampled_from([PLAIN, NAMED, OTHER]), min_size=1, max_size=3).map(tuple))
looked_up = st.builds(
    TargetLookedUp, st.sampled_from([NAMED, OTHER]), st.lists(st.from_type(Address), max_size=2).map(tuple)
)
RIGHT = {CallAdmitted: admitted, TargetLookedUp: looked_up}
anything = st.one_of(*(RIGHT.get(kind, st.from_type(kind)) for kind in get_args(Event)))
likely = st.one_of(
    admitted,
    looked_up,
    st.builds(LegRinging, st.sampled_from([100, 180, 181, 183, 199]), st.just("")),
    st.builds(LegMediaActive, sides),
    st.from_type(LegAnswered),
    st.from_type(LegConfirmed),
    st.builds(
        LegEnded, sides, st.sampled_from([0, 200, 302, 404, 408, 481, 486, 487, 503, 603]), st.just(""), st.booleans()
    ),
    st.builds(
        InfoReceived,
        sides,
        st.integers(1, 9),
        st.just(""),
        st.just(b""),
        st.lists(st.tuples(st.just("Record"), st.sampled_from(["on", "off", "?"])), max_size=2).map(tuple),
    ),
)


class Shell:
    """Carries actions out on nothing: it knows which legs are there, and holds the core to its promises."""

    def __init__(self) -> None:
        self.call = Call(Limits(setup_timeout_s=10, ring_timeout_s=60), now=0.0)
        self.legs = {Side.A}
        self.ending: set[Side] = set()
        self.done: list[Any] = []
        self.now = 0.0

    def post(self, event: Event) -> None:
        """Let an event happen; an illegal one changes nothing and does nothing."""
        self.now += 1
        before, snapshot = self.call.state, frozen(self.call)
        if isinstance(event, LegEnded):
            self.legs.discard(event.side)
        try:
            actions = self.call.handle(event, self.now)
        except IllegalEventError:
            assert frozen(self.call) == snapshot
            return
        assert before is not State.ENDED or actions == [], f"{event} moves a call that is over"
        for action in actions:
            self.perform(action)
        if FinishCall in map(type, actions):
            # Nothing is left to itself: every leg that is there has been told, and no timer runs on.
            assert self.legs <= self.ending
            assert StopTimers in map(type, actions)
        assert (self.call.state in (State.ENDING, State.ENDED)) == (self.count(FinishCall) == 1)
        assert (self.call.state is State.ENDED) == (self.count(ReleaseCall) == 1)

    def perform(self, action: Any) -> None:
        """What the session does, as far as it matters here."""
        assert self.count(ReleaseCall) == 0, f"{action} after the call was released"
        self.done.append(action)
        match action:
            case DialLeg():
                assert self.count(FinishCall) == 0
                assert Side.B not in self.legs, "a second B leg while the first is there"
                self.legs.add(Side.B)
                self.ending.discard(Side.B)
            case AbandonLeg():
                self.legs.discard(Side.B)
            case HangUpLeg():
                self.ending.add(action.side)
            case ReleaseCall():
                assert not self.legs

    def count(self, kind: type) -> int:
        """How many actions of a kind there have been."""
        return sum(isinstance(action, kind) for action in self.done)


def frozen(call: Call) -> dict[str, str]:
    return {name: repr(value) for name, value in vars(call).items()}


@fuzzed(script=st.lists(likely | anything, max_size=40))
def test_any_order_of_events_ends_once_with_both_legs_told_and_nothing_after(script: list[Event]) -> None:
    shell = Shell()
    for event in script:
        shell.post(event)
    # However far it came: told to end, and with the legs gone, it is over.
    shell.post(HangUpRequested("operator"))
    for side in (Side.B, Side.A):
        if side in shell.legs:
            shell.post(LegEnded(side, 200, ""))
    while shell.legs:
        shell.post(LegEnded(next(iter(shell.legs)), 200, ""))
    over(shell)


@fuzzed(choices=st.lists(st.integers(0, 10_000), min_size=5, max_size=60), data=st.data())
def test_a_walk_that_two_real_legs_could_make_ends_once_and_leaves_no_leg(
    choices: list[int], data: st.DataObject
) -> None:
    """Only what can happen with these legs: no leg says anything after its end, and every leg that is hung up ends."""
    shell = Shell()
    shell.post(data.draw(admitted))
    for choice in choices:
        event = data.draw(likely)
        side = getattr(event, "side", Side.B if isinstance(event, LegRinging | LegAnswered) else Side.A)
        if side not in shell.legs or isinstance(event, CallAdmitted):
            continue
        shell.post(event)
        if shell.ending and choice % 4 == 0 and shell.ending & shell.legs:
            shell.post(LegEnded(sorted(shell.ending & shell.legs, key=lambda leg: leg.value)[0], 487, ""))
    shell.post(HangUpRequested("shutdown"))
    for side in sorted(shell.legs, key=lambda leg: leg.value):
        shell.post(LegEnded(side, 200, ""))
    over(shell)


def over(shell: Shell) -> None:
    assert shell.call.state is State.ENDED
    assert shell.call.termination is not None
    assert isinstance(shell.done[-1], ReleaseCall)
    assert shell.count(FinishCall) == shell.count(ReleaseCall) == 1
    assert shell.count(AnswerLeg) == shell.count(StartRecording) <= 1
    assert shell.count(StopRecording) == shell.count(StartRecording)
