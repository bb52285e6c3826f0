"""Who may call: trunks by address and by digest authentication, and what becomes of everybody else."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import HOST, Subject
from tests.endtoend.conftest import Bench
from tests.native.phone import Message

STRANGER = "127.0.0.9"
DIGEST = "127.0.0.3"
USER, PASSWORD, REALM = "carrier", 'secret "word"', "recorder"
FLOOD = int(os.environ.get("RECORDER_FLOOD_REQUESTS", "6000"))


class Sender:
    """A UDP socket that sends requests with what a test wants in them."""

    def __init__(self, subject: Subject, source: str = HOST) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((source, 0))
        self.remote = (HOST, subject.sip_port)
        self.serial = time.monotonic_ns()

    @property
    def address(self) -> str:
        host, port = self.socket.getsockname()
        return f"{host}:{port}"

    def request(self, method: str, *headers: str, body: str = "", call_id: str = "", cseq: str = "") -> str:
        self.serial += 1
        lines = [
            f"{method} sip:1000@{HOST}:{self.remote[1]} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.address};rport;branch=z9hG4bK{self.serial}",
            f"From: <sip:5550100@{self.address}>;tag=f{self.serial}",
            f"Call-ID: {call_id or self.serial}",
            f"CSeq: {cseq or f'1 {method}'}",
            f"Contact: <sip:5550100@{self.address}>",
            *headers,
            f"Content-Length: {len(body)}",
        ]
        if not any(header.startswith("To:") for header in headers):
            lines.insert(3, f"To: <sip:1000@{HOST}>")
        if not any(header.startswith("Max-Forwards:") for header in headers):
            lines.insert(3, "Max-Forwards: 70")
        return "\r\n".join([*lines, "", body])

    def send(self, text: str) -> None:
        self.socket.sendto(text.encode(), self.remote)

    def answer(self, timeout_s: float = 15) -> Message | None:
        """The next final response, acknowledged if it is that of an INVITE."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                message = Message.parse(self.socket.recv(65536))
            except TimeoutError:
                return None
            if message.code < 200:
                continue
            if message.method == "INVITE" and message.code >= 300:
                mirrored = [f"{name}: {message.all(name)[0]}" for name in ("Via", "From", "To", "Call-ID")]
                number = message.one("CSeq").split()[0]
                ack = ["ACK sip:1000@127.0.0.1 SIP/2.0", *mirrored, f"CSeq: {number} ACK", "Content-Length: 0", "", ""]
                self.send("\r\n".join(ack))
            return message
        return None

    def ask(self, method: str, *headers: str, **more: str) -> Message:
        self.send(self.request(method, *headers, **more))
        answer = self.answer()
        assert answer is not None, f"no answer to {method}"
        return answer

    def close(self) -> None:
        self.socket.close()


def offer(port: int = 9, media: str = "audio") -> str:
    lines = ["v=0", f"o=- 1 1 IN IP4 {HOST}", "s=-", f"c=IN IP4 {HOST}", "t=0 0", f"m={media} {port} RTP/AVP 0", ""]
    return "\r\n".join(lines)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("gate")
    (folder / "carrier.password").write_text(f"{PASSWORD}\n")
    digest = {"username": USER, "password_file": "carrier.password", "algorithms": ["sha-256", "md5"]}
    trunks = [
        {"name": "lab", "sources": [f"{HOST}/32"]},
        {"name": "carrier", "sources": [f"{DIGEST}/32"], "digest": digest},
    ]
    with Subject(folder, changes={"trunks": trunks}) as subject:
        yield subject
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []
    assert PASSWORD not in subject.log_path.read_text()


@pytest.fixture
def senders(subject: Subject) -> Iterator[Any]:
    made: list[Sender] = []

    def make(source: str = HOST) -> Sender:
        made.append(Sender(subject, source))
        return made[-1]

    yield make
    for sender in made:
        sender.close()


def counted(subject: Subject, series: str) -> float:
    return subject.api.metrics().get(series, 0)


def eventually(question: Any, what: str) -> Any:
    return Bench.eventually(question, what)


def cdr_of(subject: Subject, sip_call_id: str) -> dict[str, Any]:
    found: dict[str, Any] = eventually(
        lambda: next((c for c in subject.api.get("cdrs")["cdrs"] if c["a_sip_call_id"] == sip_call_id), None), "the CDR"
    )
    return found


def test_what_cannot_be_read_is_answered_behind_a_keep_alive_too(senders: Any) -> None:
    """Newlines (RFC 5626, section 3.5.1) come by themselves, or before a request."""
    sender = senders()
    unreadable = sender.request("OPTIONS", "Max-Forwards: seventy")
    for packets in (["\r\n\r\n", unreadable], ["\r\n\r\n" + unreadable], [unreadable]):
        for packet in packets:
            sender.send(packet)
        answer = sender.answer()
        assert answer is not None, packets
        assert answer.code == 400


def test_a_stranger_is_answered_403_and_leaves_a_count_and_one_line(subject: Subject, senders: Any) -> None:
    stranger, before = senders(STRANGER), counted(subject, "recorder_calls_started_total")
    for method in ("INVITE", "OPTIONS", "REGISTER", "BYE", "NONSENSE"):
        answer = stranger.ask(method, "User-Agent: friendly-scanner", "Content-Type: application/sdp", body=offer())
        assert answer.code == 403
        assert not answer.all("Server")
        assert not answer.all("User-Agent")
    series = 'recorder_strangers_total{reason="source"}'
    eventually(lambda: counted(subject, series) >= 5 or None, series)
    assert counted(subject, "recorder_calls_started_total") == before
    [line] = [entry for entry in subject.log_lines() if entry["event"] == "stranger" and entry["source"] == STRANGER]
    assert line["user_agent"] == "friendly-scanner"


def test_options_of_a_trunk_is_answered_200_with_what_we_can(senders: Any) -> None:
    answer = senders().ask("OPTIONS")
    assert answer.code == 200
    assert "INVITE" in answer.one("Allow")
    assert "application/sdp" in answer.one("Accept")
    assert answer.all("Supported")


@pytest.mark.parametrize(
    ("method", "headers", "status", "names"),
    [
        ("REGISTER", (), 405, "Allow"),
        ("SUBSCRIBE", (), 405, "Allow"),
        ("NONSENSE", (), 501, "Allow"),
        ("BYE", (), 481, None),
        ("INFO", (), 481, None),
        ("CANCEL", (), 481, None),
        ("INVITE", ("To: <sip:1000@127.0.0.1>;tag=unknown",), 481, None),
        ("OPTIONS", ("Require: telepathy",), 420, "Unsupported"),
        ("INVITE", ("Require: telepathy",), 420, "Unsupported"),
        ("INVITE", ("Max-Forwards: 0",), 483, None),
        ("OPTIONS", ("Max-Forwards: 0",), 200, None),
        ("INVITE", ("Content-Type: application/json",), 415, "Accept"),
        ("INVITE", ("Content-Type: application/sdp", "Content-Encoding: gzip"), 415, "Accept-Encoding"),
        ("OPTIONS", ("Content-Length: 0", "Content-Length: 7"), 400, None),
    ],
)
def test_what_a_uas_cannot_take(
    senders: Any, method: str, headers: tuple[str, ...], status: int, names: str | None
) -> None:
    answer = senders().ask(method, *headers, body="{}" if "INVITE" in method else "")
    assert answer.code == status, answer.start
    assert names is None or answer.all(names)


def test_an_ack_of_nothing_is_not_answered(senders: Any) -> None:
    sender = senders()
    sender.send(sender.request("ACK"))
    assert sender.ask("OPTIONS").code == 200  # and nothing before it


@pytest.mark.parametrize(
    ("headers", "body", "status", "reason"),
    [
        ((), offer(media="video"), 488, "not_acceptable"),
        ((), "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", 400, "bad_request"),
        (("Max-Forwards: 0",), offer(), 483, "too_many_hops"),
        (("Require: telepathy",), offer(), 420, "bad_extension"),
    ],
)
def test_no_audio_and_what_else_is_refused_leaves_a_record(
    subject: Subject, senders: Any, headers: tuple[str, ...], body: str, status: int, reason: str
) -> None:
    sender = senders()
    call_id = f"refused-{status}-{time.monotonic_ns()}"
    series = f'recorder_calls_ended_total{{reason="{reason}",result="refused"}}'
    before = counted(subject, series)
    answer = sender.ask("INVITE", "Content-Type: application/sdp", *headers, body=body, call_id=call_id)
    assert answer.code == status, answer.start
    cdr = cdr_of(subject, call_id)
    assert (cdr["result"], cdr["reason"], cdr["sip_status"]) == ("refused", reason, status)
    assert (cdr["calling"], cdr["called"]) == ("5550100", "1000")
    assert cdr["details"]["trunk"] == "lab"
    assert counted(subject, series) == before + 1
    assert [entry for entry in subject.log_lines() if entry["event"] == "call" and entry["a_sip_call_id"] == call_id]


def test_a_request_of_our_own_that_comes_back_is_a_loop(subject: Subject, senders: Any) -> None:
    caller, mirror = senders(), senders()
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as application:
        application.bind((HOST, subject.application_port))
        application.settimeout(5)
        caller.send(caller.request("INVITE", "Content-Type: application/sdp", body=offer()))
        ours = Message.parse(application.recv(65536))
        vias = [f"Via: {via}" for via in ours.all("Via")]
        assert mirror.ask("INVITE", *vias, "Content-Type: application/sdp", body=offer()).code == 482
        mirrored = [f"{name}: {ours.one(name)}" for name in ("From", "Call-ID", "CSeq")]
        busy = ["SIP/2.0 486 Busy Here", *vias, *mirrored, f"To: {ours.one('To')};tag=b", "Content-Length: 0", "", ""]
        application.sendto("\r\n".join(busy).encode(), caller.remote)
        refused = caller.answer()
    assert refused is not None
    assert refused.code == 486


# Digest -----------------------------------------------------------------------------------------------------------


def challenge(answer: Message, algorithm: str) -> dict[str, str]:
    """The parameters of the challenge with this algorithm."""
    assert answer.code == 401
    asked = [dict(re.findall(r'(\w+)="?([^",]*)"?', value)) for value in answer.all("WWW-Authenticate")]
    return next(one for one in asked if one["algorithm"] == algorithm)


def proof(asked: dict[str, str], method: str, password: str = PASSWORD, count: int = 1, user: str = USER) -> str:
    """The Authorization header that answers it (RFC 7616, section 3.4)."""
    digest = hashlib.sha256 if asked["algorithm"] == "SHA-256" else hashlib.md5

    def hashed(*parts: str) -> str:
        return digest(":".join(parts).encode()).hexdigest()

    uri, nc, cnonce = "sip:1000@127.0.0.1", f"{count:08x}", "c0ffee"
    response = hashed(hashed(user, asked["realm"], password), asked["nonce"], nc, cnonce, "auth", hashed(method, uri))
    return (
        f'Authorization: Digest username="{user}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", uri="{uri}", '
        f'response="{response}", algorithm={asked["algorithm"]}, cnonce="{cnonce}", qop=auth, nc={nc}'
    )


def invite(sender: Sender, *headers: str) -> Message:
    return sender.ask("INVITE", "Content-Type: application/sdp", *headers, body=offer())


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_who_proves_the_password_may_call_and_only_once_with_it(subject: Subject, senders: Any, algorithm: str) -> None:
    sender = senders(DIGEST)
    asked = invite(sender)
    assert [re.search(r"algorithm=([^,]*)", one)[1] for one in asked.all("WWW-Authenticate")] == ["SHA-256", "MD5"]  # type: ignore[index]
    given = challenge(asked, algorithm)
    assert given["realm"] == REALM
    # A request that is not taken for another reason shows that it was let in, without a call.
    call_id = f"digest-{time.monotonic_ns()}"
    body = offer(media="video")
    right = proof(given, "INVITE")
    answer = sender.ask("INVITE", "Content-Type: application/sdp", right, body=body, call_id=call_id)
    assert answer.code == 488
    assert cdr_of(subject, call_id)["details"]["trunk"] == "carrier"
    again = sender.ask("INVITE", "Content-Type: application/sdp", right, body=body)
    assert challenge(again, algorithm)["stale"] == "true"
    next_one = sender.ask("INVITE", "Content-Type: application/sdp", proof(given, "INVITE", count=2), body=body)
    assert next_one.code == 488


def test_wrong_credentials_are_answered_403_and_counted(subject: Subject, senders: Any) -> None:
    series = 'recorder_strangers_total{reason="credentials"}'
    before = counted(subject, series)
    sender = senders(DIGEST)
    asked = challenge(invite(sender), "MD5")
    assert invite(sender, proof(asked, "INVITE", password="guess")).code == 403  # wrong on purpose
    assert invite(sender, proof(asked, "INVITE", user="admin")).code == 403
    assert invite(sender, proof(asked, "BYE")).code == 403
    eventually(lambda: counted(subject, series) == before + 3 or None, series)
    assert counted(subject, "recorder_challenges_total") > 0


def test_a_nonce_that_is_not_ours_is_asked_for_again(senders: Any) -> None:
    sender = senders(DIGEST)
    asked = challenge(invite(sender), "MD5")
    forged = asked | {"nonce": asked["nonce"][:-1] + ("0" if asked["nonce"][-1] != "0" else "1")}
    assert challenge(invite(sender, proof(forged, "INVITE")), "MD5")["stale"] == "true"
    assert "stale" not in challenge(invite(sender, proof(forged, "INVITE", password="guess")), "MD5")


def test_options_of_a_trunk_known_by_its_address_needs_no_password(senders: Any) -> None:
    assert senders(DIGEST).ask("OPTIONS").code == 200


@pytest.fixture
def digest_only(tmp_path: Path) -> Iterator[Subject]:
    trunk = {"name": "roaming", "digest": {"username": USER, "password": "secret"}}
    with Subject(tmp_path, changes={"sip": {"strangers": "drop"}, "trunks": [trunk]}) as subject:
        yield subject


def test_digest_from_anywhere_and_silence_for_the_rest(digest_only: Subject) -> None:
    """SIPp proves the password; who does not is not even told so."""
    bench = Bench(digest_only)
    call = bench.call("uac-digest", "uas-answer", seconds=0.5)
    assert bench.cdr(call)["details"]["trunk"] == "roaming"
    sender = Sender(digest_only, STRANGER)
    asked = challenge(invite(sender), "MD5")
    sender.send(
        sender.request("INVITE", "Content-Type: application/sdp", proof(asked, "INVITE", password="x"), body=offer())
    )
    assert sender.answer(0.5) is None
    sender.close()


def test_options_is_answered_503_while_the_recorder_drains(digest_only: Subject) -> None:
    sender = Sender(digest_only)
    with (
        Sipp(Plan("uas-answer", port=digest_only.application_port)),
        Sipp(Plan("uac-digest", remote=digest_only.sip_address, length_ms=4000)),
    ):
        eventually(lambda: any(c["state"] == "up" for c in digest_only.api.get("calls")["calls"]) or None, "the call")
        os.kill(digest_only.pid, signal.SIGTERM)
        eventually(lambda: any(line["event"] == "draining" for line in digest_only.log_lines()) or None, "the drain")
        asked = challenge(sender.ask("OPTIONS"), "MD5")  # this trunk is known by its password alone
        answer = sender.ask("OPTIONS", proof(asked, "OPTIONS", password="secret"))
        assert answer.code == 503
        assert int(answer.one("Retry-After")) > 0
    assert digest_only.stop() == 0
    sender.close()


# Hostile ----------------------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_flood_of_strangers_does_not_touch_a_call(subject: Subject, senders: Any) -> None:
    """Thousands of them (RECORDER_FLOOD_REQUESTS) while a call is recorded; --log-cli-level=info shows the cost."""
    flooder, seconds = senders("127.0.0.66"), 4.0
    packets = [
        flooder.request(method, "User-Agent: friendly-scanner", "Content-Type: application/sdp", body=offer()).encode()
        for method in ("INVITE", "OPTIONS", "REGISTER")
    ]
    series = 'recorder_strangers_total{reason="source"}'
    before = counted(subject, series)
    calls: list[Any] = []
    calling = threading.Thread(
        target=lambda: calls.append(Bench(subject).call("uac-call", "uas-answer", seconds=seconds))
    )
    calling.start()
    eventually(lambda: any(call["state"] == "up" for call in subject.api.get("calls")["calls"]) or None, "the call")
    spent = cpu_s(subject.pid)
    begun = time.monotonic()
    for number in range(FLOOD):
        flooder.socket.sendto(packets[number % 3], flooder.remote)
        if number % 30 == 29:  # some 10,000 a second
            time.sleep(0.003)
    eventually(lambda: counted(subject, series) >= before + 0.9 * FLOOD or None, series)
    lasted = time.monotonic() - begun
    cost_us = (cpu_s(subject.pid) - spent) / FLOOD * 1e6
    logging.getLogger().info("%.0f requests a second, each %.0f us of CPU", FLOOD / lasted, cost_us)
    calling.join()
    assert calls, "the call failed"
    kept = Bench(subject).kept(calls[0])
    assert len(kept.samples) / kept.rate == pytest.approx(seconds, abs=0.5)
    assert kept.manifest["dropped_samples"] == 0
    assert kept.manifest["gaps"] == []
    lines = [entry for entry in subject.log_lines() if entry["event"] == "stranger" and entry["source"] == "127.0.0.66"]
    assert len(lines) == 1
    assert cost_us < 1000


def test_in_dialog_requests_are_known_by_their_dialog(subject: Subject) -> None:
    """A BYE with the tags of a call ends it, wherever it comes from; one with a guess does not."""
    with Sipp(Plan("uas-answer", port=subject.application_port, length_ms=1000)) as application:
        with Sipp(Plan("uac-wait-bye", remote=subject.sip_address, length_ms=20000)) as caller:
            answered = eventually(lambda: next(iter(caller.outcome().received(200)), None), "200")
            eventually(lambda: any(c["state"] == "up" for c in subject.api.get("calls")["calls"]) or None, "the call")
            stranger = Sender(subject, STRANGER)
            values = {name: answered.header(name) or "" for name in ("From", "To", "Call-ID")}

            def bye(to: str) -> int:
                text = stranger.request("BYE", f"To: {to}", call_id=values["Call-ID"], cseq="77 BYE")
                stranger.send(re.sub(r"From: .*\r\n", f"From: {values['From']}\r\n", text))
                answer = stranger.answer()
                assert answer is not None
                return answer.code

            assert bye(values["To"] + "x") == 403
            assert bye(values["To"]) == 200
            stranger.close()
            eventually(lambda: not subject.api.get("calls")["calls"] or None, "the end")
            caller.stop()
        application.stop()
