"""RFC 4475, section 3: every torture message, at a running recorder. It answers as the RFC says, and stays well."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.loadtest.subject import Subject
from tests.torture.messages import messages
from tests.torture.wire import SOURCE, BusyApplication, Datagrams, over_tcp

# Many have one branch in common: each gets a transaction of its own here.
MESSAGES = {
    name: packet.replace(b"branch=z9hG4bKkdjuw", b"branch=z9hG4bKkdjuw.%s." % name.encode())
    for name, packet in messages().items()
}
BUSY = {486}  # a call, and the application's own answer
BAD = {400}
NO_REGISTRAR = {405}  # RFC 3261, section 8.2.1; the RFC's own scenarios have a registrar
FUZZED = int(os.environ.get("RECORDER_FUZZ_MESSAGES", "3000"))

# What each is answered with; nothing for what is no request.
ANSWERS: dict[str, set[int]] = {
    # 3.1.1 Valid
    "wsinv": {481},  # its To has a tag, and there is no such dialog
    "intmeth": {501},
    "esc01": BUSY,
    "escnull": NO_REGISTRAR,
    "esc02": {501},
    "lwsdisp": {200},
    "longreq": BUSY,
    "dblreq": NO_REGISTRAR,
    "semiuri": {200},
    "transports": {200},
    "mpart01": {405},
    "unreason": set(),
    "noreason": set(),
    # 3.1.2 Invalid
    "badinv01": BAD,
    "clerr": BAD,
    "ncl": BAD,
    "scalar02": BAD,
    "scalarlg": set(),
    "quotbal": BAD,
    "ltgtruri": BAD,
    "lwsruri": BAD,
    "lwsstart": BAD | BUSY,  # it may be taken all the same
    "trws": BAD | {200},
    "escruri": BAD,
    "baddate": BUSY,  # Date says nothing to us
    "regbadct": BAD | NO_REGISTRAR,
    "badaspec": BAD | {200},
    "baddn": BAD | {200},
    "badvers": {505},
    "mismatch01": BAD,
    "mismatch02": {501},
    "bigcode": set(),
    # 3.2 to 3.4
    "badbranch": {200},
    "insuf": BAD,
    "unkscm": {416},
    "novelsc": {416},
    "unksm2": BAD | NO_REGISTRAR,
    "bext01": {420},
    "invut": {415},
    "regaut01": BAD | NO_REGISTRAR,
    "multi01": BAD,
    "mcl01": BAD,
    "bcast": set(),
    "zeromf": {200},
    "cparam01": NO_REGISTRAR,
    "cparam02": NO_REGISTRAR,
    "regescrt": NO_REGISTRAR,
    "sdp01": BUSY | {406},
    "inv2543": BUSY | BAD,
}

# On a connection, where Content-Length alone says where a message ends: the answers to what it makes two of.
STREAMED: dict[str, list[set[int]]] = {
    "dblreq": [NO_REGISTRAR, BAD],  # "m =video" is no SDP
    "longreq": [BUSY],
    "ncl": [BAD],
    "inv2543": [BAD],
    "semiuri": [{200}],
    "badvers": [{505}],
    "lwsruri": [BAD],
    "scalar02": [BAD],
}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    subject = Subject(
        tmp_path_factory.mktemp("torture"),
        calls=200,
        changes={"trunks": [{"name": "torture", "sources": [f"{SOURCE}/32"]}]},
    )
    listen = subject.configuration["sip"]["listen"]
    listen.append({**listen[0], "transport": "tcp"})
    with subject:
        yield subject
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


@pytest.fixture(scope="module", autouse=True)
def application(subject: Subject) -> Iterator[BusyApplication]:
    with BusyApplication(subject.application_port) as application:
        yield application


@pytest.fixture(scope="module")
def peer(subject: Subject) -> Iterator[Datagrams]:
    peer = Datagrams(subject.sip_port)
    yield peer
    peer.close()


def call_id_of(packet: bytes) -> str:
    found = re.search(rb"^(?:call-id|i)[ \t]*:[ \t]*(.*?)\r$", packet, re.MULTILINE | re.IGNORECASE)
    return found[1].decode("utf-8", "surrogateescape") if found else ""


def live_calls(subject: Subject) -> float:
    return subject.api.metrics()["recorder_calls_live"]


def wait_for_no_calls(subject: Subject, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while live_calls(subject) > 0:
        assert time.monotonic() < end, subject.api.get("calls")
        time.sleep(0.02)


def test_there_is_an_answer_for_each() -> None:
    assert len(MESSAGES) == 49
    assert ANSWERS.keys() == MESSAGES.keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_torture_message(subject: Subject, peer: Datagrams, name: str) -> None:
    peer.send(MESSAGES[name])
    if ANSWERS[name]:
        answer = peer.final(call_id_of(MESSAGES[name]))
        assert answer is not None, "no answer"
        assert answer.code in ANSWERS[name], answer.start
    check = peer.options(name)
    assert check is not None
    assert check.code == 200
    wait_for_no_calls(subject)


@pytest.mark.parametrize("name", STREAMED)
def test_torture_message_on_a_connection(subject: Subject, peer: Datagrams, name: str) -> None:
    another = MESSAGES[name].replace(f"{name}.".encode(), f"{name}.tcp.".encode())  # not what UDP has brought again
    codes = over_tcp(subject.sip_port, another, len(STREAMED[name]))
    assert len(codes) == len(STREAMED[name]), codes
    assert all(code in expected for code, expected in zip(codes, STREAMED[name], strict=True)), codes
    check = peer.options(name)
    assert check is not None
    wait_for_no_calls(subject)


def mutated(packet: bytes, draw: random.Random) -> bytes:
    """The packet with something wrong in it."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(packet))
        end = min(len(packet), at + draw.randint(1, 40))
        match draw.randrange(7):
            case 0:  # an octet
                packet = packet[:at] + bytes([draw.randrange(256)]) + packet[at + 1 :]
            case 1:  # something left out
                packet = packet[:at] + packet[end:] or b"\0"
            case 2:  # something twice
                packet = packet[:end] + packet[at:end] * draw.randint(1, 30) + packet[end:]
            case 3:  # cut short
                packet = packet[:end]
            case 4:  # a character that means something
                packet = (
                    packet[:at]
                    + draw.choice([b"\r\n", b"<", b">", b'"', b";", b",", b"@", b":", b"\0", b"%"])
                    + packet[at:]
                )
            case 5:  # a number at its limits
                numbers = list(re.finditer(rb"\d+", packet))
                if numbers:
                    found = draw.choice(numbers)
                    value = draw.choice([b"0", b"-1", b"2147483648", b"4294967296", b"99999999999999999999"])
                    packet = packet[: found.start()] + value + packet[found.end() :]
            case _:  # a line of another message
                lines = draw.choice(list(MESSAGES.values())).split(b"\r\n")
                packet = packet[:at] + b"\r\n" + draw.choice(lines) + b"\r\n" + packet[at:]
    return packet[:16000]


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_mutated_messages(subject: Subject, peer: Datagrams) -> None:
    """Thousands of them (RECORDER_FUZZ_MESSAGES for more), the same every time."""
    draw = random.Random(4475)
    names = list(MESSAGES)
    before = resident_bytes(subject.pid)
    for number in range(FUZZED):
        packet = mutated(MESSAGES[draw.choice(names)], draw)
        # A transaction of its own, where the branch is still whole; otherwise all would be the same few again.
        peer.send(re.sub(rb"branch=z9hG4bK", b"branch=z9hG4bK%d." % number, packet))
        if number % 20 == 19:
            check = peer.options(number)
            assert check is not None, f"no answer after message {number}"
            assert check.code == 200
    # A call whose ACK was among what we could not read ends after 64 * T1 (RFC 3261, timer H).
    end = time.monotonic() + 45
    while live_calls(subject) > 0 and time.monotonic() < end:
        peer.final("", 0.2)
    assert live_calls(subject) == 0
    grown = resident_bytes(subject.pid) - before
    assert grown < 64_000_000, f"{grown / 1e6:.0f} MB more than before"


def test_a_real_call_afterwards(application: BusyApplication, peer: Datagrams) -> None:
    before = application.invites
    peer.send(MESSAGES["sdp01"].replace(b"sdp01.", b"afterwards.").replace(b"z9hG4bK", b"z9hG4bKafterwards"))
    answer = peer.final(call_id_of(MESSAGES["sdp01"]).replace("sdp01.", "afterwards."))
    assert answer is not None
    assert answer.code == 486
    assert application.invites == before + 1
