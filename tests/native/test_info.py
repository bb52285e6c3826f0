"""INFO within a dialog, through a real endpoint, with two phones that say and see raw packets."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.native.phone import Message, Phone
from tests.native.program import command, environment


class Relay:
    """The program under test, with what it said so far."""

    def __init__(self, far_uri: str, mode: str) -> None:
        self.process = subprocess.Popen(
            command("infos.py", far_uri, mode),
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict[str, Any]] = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # pjlib says a few lines of its own before it is told not to
                with self.changed:
                    self.said.append(json.loads(line))
                    self.changed.notify_all()

    def find(self, key: str) -> list[dict[str, Any]]:
        with self.changed:
            return [entry for entry in self.said if key in entry]

    def wait(self, condition: Callable[[], Any], timeout_s: float = 30) -> Any:
        with self.changed:
            assert self.changed.wait_for(condition, timeout_s), self.said
            return condition()

    def infos(self, count: int) -> list[dict[str, Any]]:
        """The INFOs that reached Python, once there are `count` of them."""
        return self.found("token", count)

    def found(self, key: str, count: int = 1) -> list[dict[str, Any]]:
        self.wait(lambda: len(self.find(key)) >= count)
        return self.find(key)

    def end(self) -> int:
        """Its exit code; may be asked again."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(30)
        self.reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Talk:
    """Near phone, the relay, far phone; in a call with one another unless the test sets it up itself."""

    def __init__(self, mode: str = "") -> None:
        self.near, self.far = Phone(), Phone()
        self.relay = Relay(self.far.uri, mode)
        self.relay.wait(lambda: self.relay.find("uri"))
        self.near.call(self.relay.find("uri")[0]["uri"])

    def connected(self) -> Talk:
        self.far.take_call()
        self.near.answered()
        return self

    def close(self) -> None:
        self.near.close()
        self.far.close()
        assert self.relay.end() == 0


@pytest.fixture
def talks() -> Iterator[Callable[..., Talk]]:
    made: list[Talk] = []

    def make(mode: str = "") -> Talk:
        made.append(Talk(mode))
        return made[-1]

    yield make
    for talk in made:
        talk.close()


@pytest.fixture
def talk(talks: Callable[..., Talk]) -> Talk:
    return talks().connected()


def finals(phone: Phone) -> list[Message]:
    return [m for m in phone.heard if m.method == "INFO" and m.code >= 200]


def test_info_is_answered_with_the_code_reason_and_headers_that_python_decides(talk: Talk) -> None:
    body = b'{"action":"mute"}'
    talk.near.request("INFO", [("X-Do", "answer 299 Very Fine"), ("Content-Type", "application/json;v=1")], body)
    answer = talk.near.expect("final INFO")
    assert (answer.code, answer.reason) == (299, "Very Fine")
    assert answer.one("X-Answered-By") == "python"
    assert answer.one("X-Two") == "2"
    [info] = talk.relay.infos(1)
    assert (info["content_type"], base64.b64decode(info["body"]), info["far"]) == ("application/json;v=1", body, False)
    assert ["X-Do", "answer 299 Very Fine"] in info["headers"]
    assert [name for name, _ in info["headers"]][:6] == ["Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq"]
    assert talk.relay.found("answered") == [{"answered": True, "again": False}]
    talk.close()
    assert not talk.relay.find("pjsua_saw_info")


def test_info_of_the_far_side_names_the_far_call(talk: Talk) -> None:
    talk.far.request("INFO", [("X-Do", "answer 200")])
    assert talk.far.expect("final INFO").reason == "OK"
    [info] = talk.relay.infos(1)
    assert info["far"]


def test_info_can_be_answered_later_and_its_retransmissions_reach_python_once(talk: Talk) -> None:
    raw = talk.near.request("INFO", [("X-Do", "later answer 488 Later")])
    talk.relay.infos(1)
    for _ in range(3):
        talk.near.socket.sendto(raw, talk.near.peer)
    answer = talk.near.expect("final INFO")
    assert (answer.code, answer.reason) == (488, "Later")
    talk.near.socket.sendto(raw, talk.near.peer)
    assert talk.near.expect("final INFO").raw == answer.raw
    talk.close()
    assert len(talk.relay.infos(1)) == 1


def test_a_failing_handler_is_answered_500_and_reported_and_the_next_info_works(talk: Talk) -> None:
    talk.near.request("INFO", [("X-Do", "raise")])
    assert talk.near.expect("final INFO").code == 500
    assert talk.relay.found("unraisable") == [{"unraisable": "the handler failed"}]
    talk.near.request("INFO", [("X-Do", "answer 202")])
    assert talk.near.expect("final INFO").code == 202


def test_what_cannot_stand_in_an_answer_is_refused(talk: Talk) -> None:
    talk.near.request("INFO", [("X-Do", "bad")])
    assert talk.near.expect("final INFO").code == 200
    refused = [entry["refused"] for entry in talk.relay.found("refused", 6)]
    assert len(refused) == 2 + 4  # two of them at the start: a second handler, a call that is not there
    assert "already" in refused[0]
    assert "no dialog" in refused[1]


ODD_BODIES = {
    "json": ("application/json", b'{"a": 1}\r\n'),
    "nuls": ("application/octet-stream", b"\0a\0\r\n\r\n\0"),
    "eight kilobytes": ("application/x-big", bytes(range(256)) * 32),
    "multipart": ("multipart/mixed; boundary=xx", b"--xx\r\nContent-Type: a/b\r\n\r\none\r\n--xx--  \r\nepilogue"),
    "broken multipart": ("multipart/mixed", b"--no boundary\r\n"),
    "odd parameters": ('text/plain;Charset="utf-8" ; x = y', b"pause"),
    "no body": ("application/json", b""),
    "dtmf-relay": ("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"),
    "dtmf": ("application/dtmf", b"5"),
    "media control": ("application/media_control+xml", b"<media_control/>"),
    "trickle ice": ("application/trickle-ice-sdpfrag", b"a=end-of-candidates\r\n"),
}


@pytest.mark.parametrize("kind", ODD_BODIES)
def test_info_goes_end_to_end_byte_for_byte_and_the_far_answer_comes_back(talk: Talk, kind: str) -> None:
    content_type, body = ODD_BODIES[kind]
    passing = [("Info-Package", "foo"), ("Record", "on"), ("X-Utf8", "blå"), ("Content-Disposition", "Info-Package")]
    hop = [("User-Agent", "near phone"), ("Supported", "timer"), ("Allow", "INFO"), ("Authorization", "Digest x=1")]
    talk.near.request("INFO", [*passing, *hop, ("Content-Type", content_type)], body)
    sent = talk.far.expect("INFO")
    assert sent.body == body
    assert sent.one("Content-Type") == content_type
    assert sent.one("Content-Length") == str(len(body))
    assert [header for header in sent.headers if header in passing] == passing
    assert sent.all("User-Agent") == ["endpoint under test"]
    assert not any(sent.all(name) for name in ("Supported", "Allow", "Authorization"))
    assert len(sent.all("Via")) == len(sent.all("Max-Forwards")) == len(sent.all("Call-ID")) == 1
    assert sent.one("Call-ID") == talk.far.call_id

    talk.far.respond(sent, 289, "Far Away", [("X-Far", "1"), ("Server", "far"), ("Content-Type", "a/b;c=d")], b"\0far")
    answer = talk.near.expect("final INFO")
    assert (answer.code, answer.reason, answer.body) == (289, "Far Away", b"\0far")
    assert answer.one("X-Far") == "1"
    assert answer.one("Content-Type") == "a/b;c=d"
    assert not answer.all("Server")
    assert answer.one("Call-ID") == talk.near.call_id
    assert talk.relay.found("forwarded") == [{"forwarded": True, "again": False}]
    talk.near.request("INFO", [("X-Do", "answer 200")])
    talk.near.expect("200 INFO")
    assert len(finals(talk.near)) == 2  # nobody else has answered the first
    talk.close()
    assert not talk.relay.find("pjsua_saw_digit")
    assert not talk.relay.find("pjsua_saw_info")


def test_info_of_the_far_side_goes_to_the_near_side(talk: Talk) -> None:
    talk.far.request("INFO", [("Content-Type", "text/plain")], b"pause")
    sent = talk.near.expect("INFO")
    assert sent.body == b"pause"
    talk.near.respond(sent, 415, "No")
    assert talk.far.expect("final INFO").code == 415


@pytest.mark.parametrize(("length", "arrives"), [(None, b"abcdef"), (100, b"abcdef"), (3, b"abc")])
def test_a_content_length_that_is_missing_or_wrong(talk: Talk, length: int | None, arrives: bytes) -> None:
    talk.near.request("INFO", [("Content-Type", "text/plain")], b"abcdef", length)
    sent = talk.far.expect("INFO")
    assert sent.body == arrives
    assert sent.one("Content-Length") == str(len(arrives))
    talk.far.respond(sent, 200, "OK")
    assert talk.near.expect("final INFO").code == 200


@pytest.mark.parametrize("code", [401, 407, 408, 481])
def test_a_far_answer_that_pjsua_would_act_on_is_handed_back_and_the_call_goes_on(talk: Talk, code: int) -> None:
    challenge = [("WWW-Authenticate" if code == 401 else "Proxy-Authenticate", 'Digest realm="r",nonce="n"')]
    talk.near.request("INFO")
    talk.far.respond(talk.far.expect("INFO"), code, "Handed Back", challenge)
    answer = talk.near.expect("final INFO")
    assert (answer.code, answer.reason) == (code, "Handed Back")
    assert [header for header in answer.headers if header in challenge] == challenge
    talk.near.request("INFO", [("X-Second", "yes")])
    second = talk.far.expect("INFO")
    assert second.one("X-Second") == "yes"  # so the first was not tried again
    talk.far.respond(second, 200, "OK")
    talk.near.expect("200 INFO")
    assert "BYE" not in [m.method for m in talk.far.heard + talk.near.heard]


def test_a_far_side_that_never_answers_is_408_and_the_call_goes_on(talk: Talk) -> None:
    talk.near.request("INFO")
    talk.far.expect("INFO")
    assert talk.near.expect("final INFO", timeout_s=45).code == 408  # 64 * T1 = 32 s
    talk.near.request("INFO", [("X-Do", "answer 200")])
    talk.near.expect("200 INFO")
    assert "BYE" not in [m.method for m in talk.far.heard + talk.near.heard]


def test_info_in_an_early_dialog_is_answered_and_sent_on(talks: Callable[..., Talk]) -> None:
    talk = talks()
    talk.far.take_call(code=183)
    talk.near.in_dialog(talk.near.expect("180 INVITE"))
    talk.near.request("INFO", [("X-Do", "answer 200")])
    talk.near.expect("200 INFO")
    talk.near.request("INFO", [("X-Do", "forward")])
    talk.far.respond(talk.far.expect("INFO"), 200, "OK")
    talk.near.expect("200 INFO")


def test_info_cannot_be_sent_on_before_the_far_dialog_exists(talks: Callable[..., Talk]) -> None:
    talk = talks("ring-at-once")
    talk.near.in_dialog(talk.near.expect("180 INVITE"))
    talk.far.invite = talk.far.expect("INVITE")
    talk.far.respond(talk.far.invite, 100, "Trying")
    talk.near.request("INFO", [("X-Do", "forward")])
    assert talk.near.expect("final INFO").code == 481
    assert talk.relay.found("forwarded") == [{"forwarded": False, "again": False}]
    talk.far.respond(talk.far.invite, 486, "Busy")
    assert talk.near.expect("final INVITE").code >= 400


def test_the_near_side_hangs_up_with_an_info_pending(talk: Talk) -> None:
    talk.near.request("INFO", [("X-Do", "nothing")])
    talk.relay.infos(1)
    talk.near.request("INFO", [("X-Do", "forward")])
    talk.far.expect("INFO")
    talk.near.request("BYE")
    assert {talk.near.expect("final INFO").code, talk.near.expect("final INFO").code} == {487}
    talk.near.expect("200 BYE")
    talk.far.respond(talk.far.expect("BYE"), 200, "OK")
    talk.close()
    assert talk.relay.find("end") == [{"end": True, "pending": 0}]


def test_the_far_side_hangs_up_with_an_info_on_its_way(talks: Callable[..., Talk]) -> None:
    talk = talks("legs-are-independent").connected()
    talk.near.request("INFO")
    late = talk.far.expect("INFO")
    talk.far.request("BYE")
    talk.far.expect("200 BYE")
    assert talk.near.expect("final INFO").code == 481
    talk.far.respond(late, 200, "Too Late")
    talk.near.request("INFO")
    assert talk.near.expect("final INFO").code == 481  # the relay's own: it cannot be sent on now
    assert talk.relay.found("forwarded", 2)[-1]["forwarded"] is False
    talk.near.request("INFO", [("X-Do", "answer 200")])
    talk.near.expect("200 INFO")


def test_an_info_after_bye_is_481_and_does_not_reach_python(talk: Talk) -> None:
    talk.near.request("BYE")
    talk.near.expect("200 BYE")
    talk.near.request("INFO")
    assert talk.near.expect("final INFO").code == 481
    talk.close()
    assert not talk.relay.infos(0)


@pytest.mark.parametrize("mode", ["", "destroy-without-uninstall"])
def test_the_process_ends_in_order_with_infos_pending(mode: str) -> None:
    talk = Talk(mode).connected()
    talk.near.request("INFO", [("X-Do", "nothing")])
    talk.near.request("INFO", [("X-Do", "forward")])
    talk.far.expect("INFO")
    talk.relay.infos(2)
    stop = threading.Event()

    def answer_byes() -> None:
        while not stop.is_set():
            for phone in (talk.near, talk.far):
                try:
                    phone.respond(phone.expect("BYE", timeout_s=0.05), 200, "OK")
                except AssertionError:
                    continue

    answering = threading.Thread(target=answer_byes)
    answering.start()
    code = talk.relay.end()
    stop.set()
    answering.join()
    assert code == 0
    assert talk.relay.find("end") == [{"end": True, "pending": 2}]
    if not mode:
        assert [m.code for m in finals(talk.near)] == [503, 503]
        assert talk.relay.find("pending_after_uninstall") == [{"pending_after_uninstall": 0}]
    talk.near.close()
    talk.far.close()


def test_hundreds_of_infos_a_second_are_all_answered_once(talk: Talk) -> None:
    count = 500
    started = time.monotonic()
    for i in range(count):
        forwarded = i % 2 == 0
        talk.near.request("INFO", [("X-Do", "forward" if forwarded else "answer 200"), ("X-Number", str(i))])
        if forwarded:
            talk.far.respond(talk.far.expect("INFO"), 200, "OK")
        talk.near.expect("200 INFO")
    assert time.monotonic() - started < 30
    talk.close()
    assert len(talk.relay.infos(count)) == count
    assert len(finals(talk.near)) == count


def test_an_info_outside_any_dialog_is_not_ours(talk: Talk) -> None:
    stranger = Phone(peer=talk.near.peer, target=talk.near.target, call_id="nobody@nowhere")
    stranger.local, stranger.remote = f"<{stranger.uri}>;tag=1", f"<{talk.near.target}>;tag=2"
    stranger.request("INFO", [("X-Do", "answer 200")])
    assert stranger.expect("final INFO").code >= 400
    stranger.close()
    talk.close()
    assert not talk.relay.infos(0)
