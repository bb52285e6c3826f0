"""Two real user agents with stacks of their own, baresip and Linphone: each calls the other through the recorder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recorder.loadtest.peers import HOST
from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import CHANGES
from tests.peers.agent import UserAgent
from tests.peers.baresip import Baresip
from tests.peers.linphone import Linphone
from tests.tones import amplitude_of, read_wav, sine

pytestmark = pytest.mark.moments

VOICE_HZ = {"baresip": 440, "linphone": 880}
PAIRS = [("baresip", "linphone"), ("linphone", "baresip")]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A recorder between the two user agents."""

    subject: Subject
    agents: dict[str, UserAgent]

    def ring(self, caller: UserAgent, called: UserAgent) -> int:
        """Have one call the other until it rings; returns the time of the INVITE, at the earliest, in epoch ms."""
        begun = int(time.time() * 1000)
        caller.dial(f"sip:{called.user}@{self.subject.sip_address}")
        called.wait_for("incoming")
        caller.wait_for("ringing")
        return begun

    def talk(self, caller: UserAgent, called: UserAgent) -> int:
        """Have one call the other, who answers."""
        begun = self.ring(caller, called)
        called.answer()
        caller.wait_for("up")
        called.wait_for("up")
        return begun

    def recorded(self, seconds: float) -> float:
        """Wait until so much more of the one call there is has been recorded; returns how much it is then, in s."""
        size = self._written() + round(seconds * 16000)
        self.eventually(lambda: self._written() >= size, f"{seconds} s more are not recorded")
        return size / 16000

    def over(self, begun: int) -> dict[str, Any]:
        """The CDR of the call that began after `begun`, once both ends have let go of it."""
        for agent in self.agents.values():
            agent.wait_for("idle")
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.subject.api.get("cdrs", from_ms=begun)["cdrs"]
            return bool(found)

        self.eventually(there, "there is no CDR")
        [cdr] = found
        return cdr

    def _written(self) -> int:
        return sum(path.stat().st_size for path in self.subject.recordings.glob("*.part"))

    @staticmethod
    def eventually(question: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        end = time.monotonic() + timeout_s
        while not question():
            assert time.monotonic() < end, what
            time.sleep(0.02)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    """A recorder that leads 1001 to baresip and 2001 to Linphone."""
    with (
        Baresip("1001", sine(VOICE_HZ["baresip"], 60.0)) as baresip,
        Linphone("2001", sine(VOICE_HZ["linphone"], 60.0)) as linphone,
    ):
        routes = [
            {"name": agent.user, "match": {"called": agent.user}, "target": f"sip:{{user}}@{HOST}:{agent.port}"}
            for agent in (baresip, linphone)
        ]
        changes = {
            "trunks": CHANGES["trunks"],
            "routes": routes,
            "accounts": [{"id": "a", "group": "g", "record": True}],
        }
        subject = Subject(tmp_path_factory.mktemp("recorder"), changes=changes)
        with subject:
            yield Exchange(subject, {"baresip": baresip, "linphone": linphone})
            assert subject.stop() == 0, subject.log_tail()
        assert subject.trouble() == []


@pytest.fixture(params=PAIRS, ids=["baresip-calls-linphone", "linphone-calls-baresip"])
def pair(request: pytest.FixtureRequest, exchange: Exchange) -> Iterator[tuple[UserAgent, UserAgent]]:
    """Who calls, and who is called. Neither they nor the recorder keep a call that a failed test has left."""
    caller, called = (exchange.agents[name] for name in request.param)
    yield caller, called
    for agent in (caller, called):
        if agent.state != "idle":
            agent.hang_up()
            agent.wait_for("idle")
    exchange.eventually(lambda: not list(exchange.subject.recordings.glob("*.part")), "a recording does not end")


def heard(path: Path, from_s: float, to_s: float) -> set[str]:
    """Whose voice is on the recording in that stretch."""
    samples, rate = read_wav(path)
    part = samples[int(from_s * rate) : int(to_s * rate)]
    assert len(part) >= 0.2 * rate, f"the recording has only {len(samples) / rate:.2f} s"
    return {name for name, tone in VOICE_HZ.items() if amplitude_of(part, tone, rate) > 2000}


def test_user_agents_talk_and_both_are_recorded_until_the_caller_hangs_up(
    exchange: Exchange, pair: tuple[UserAgent, UserAgent]
) -> None:
    caller, called = pair
    begun = exchange.talk(caller, called)
    exchange.recorded(2.0)
    caller.hang_up()
    cdr = exchange.over(begun)
    assert (cdr["result"], cdr["reason"], cdr["calling"], cdr["called"]) == (
        "completed",
        "caller_hangup",
        caller.user,
        called.user,
    )
    path = exchange.subject.recordings / cdr["file"]
    samples, rate = read_wav(path)
    assert len(samples) / rate == pytest.approx(cdr["duration_s"], abs=0.15)
    assert heard(path, cdr["duration_s"] - 0.8, cdr["duration_s"] - 0.3) == {"baresip", "linphone"}


def test_user_agents_press_digits(exchange: Exchange, pair: tuple[UserAgent, UserAgent]) -> None:
    """As telephone events (RFC 4733), from either side."""
    caller, called = pair
    begun = exchange.talk(caller, called)
    exchange.recorded(0.5)
    for sender, receiver, digit in ((caller, called, "5"), (called, caller, "7")):
        before = len(receiver.digits)
        sender.press(digit)
        receiver.eventually(lambda r=receiver, d=digit, n=before: r.digits[n:] == d, f"{digit} does not arrive: ")  # type: ignore[misc]
    called.hang_up()
    cdr = exchange.over(begun)
    assert (cdr["result"], cdr["reason"]) == ("completed", "callee_hangup")


def test_user_agents_hold_and_resume(exchange: Exchange, pair: tuple[UserAgent, UserAgent]) -> None:
    """Held by each side in turn: who is held is not heard, and both are heard afterwards."""
    caller, called = pair
    begun = exchange.talk(caller, called)
    exchange.recorded(1.0)
    held: list[float] = []
    resumed: list[float] = []
    for holder in pair:
        # The file is written some hundreds of ms behind: what is 2 s further in it was said after the request.
        holder.hold()
        holder.wait_for("held")
        held.append(exchange.recorded(2.0))
        holder.resume()
        for agent in pair:
            agent.wait_for("up")
        resumed.append(exchange.recorded(2.0))
    called.hang_up()
    cdr = exchange.over(begun)
    assert (cdr["result"], cdr["reason"]) == ("completed", "callee_hangup")
    path = exchange.subject.recordings / cdr["file"]
    names = {agent: name for name, agent in exchange.agents.items()}
    for other, on_hold, again in zip((called, caller), held, resumed, strict=True):
        assert names[other] not in heard(path, on_hold - 0.5, on_hold - 0.2)
        assert heard(path, again - 0.5, again - 0.2) == {"baresip", "linphone"}
    samples, rate = read_wav(path)
    assert len(samples) / rate == pytest.approx(cdr["duration_s"], abs=0.15)


def test_user_agents_give_up_while_it_rings(exchange: Exchange, pair: tuple[UserAgent, UserAgent]) -> None:
    caller, called = pair
    begun = exchange.ring(caller, called)
    caller.hang_up()
    cdr = exchange.over(begun)
    assert (cdr["result"], cdr["reason"], cdr["recorded"]) == ("cancelled", "caller_cancelled", False)


def test_user_agents_turn_a_call_down(exchange: Exchange, pair: tuple[UserAgent, UserAgent]) -> None:
    caller, called = pair
    begun = exchange.ring(caller, called)
    called.hang_up()
    cdr = exchange.over(begun)
    assert cdr["result"] == "rejected"
    assert cdr["reason"] in ("busy", "declined")
