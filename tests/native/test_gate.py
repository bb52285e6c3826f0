"""The answer to what pjsip cannot parse, and the gate's table. That it keeps strangers out is tested end to end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder import native
from recorder.native._native import _answer_malformed
from tests.torture.messages import messages

REQUEST = (
    b"%s sip:user@example.com %s\r\nVia: SIP/2.0/UDP one;branch=z9hG4bK1\r\nv: SIP/2.0/UDP two\r\n"
    b"f: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\ni: id@x\r\nCSeq: 1 %s\r\nContent-Length: -9\r\n\r\n"
)


def lines(method: bytes = b"OPTIONS", version: bytes = b"SIP/2.0", what: str = "") -> list[str]:
    return _answer_malformed(REQUEST % (method, version, method), what).decode().split("\r\n")


def test_the_answer_mirrors_what_tells_the_sender_what_it_is_about() -> None:
    assert lines(what="Content-Length") == [
        "SIP/2.0 400 Bad Request (Content-Length)",
        "Via: SIP/2.0/UDP one;branch=z9hG4bK1",
        "Via: SIP/2.0/UDP two",
        "From: <sip:a@x>;tag=1",
        "To: <sip:b@x>;tag=malformed",
        "Call-ID: id@x",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
        "",
        "",
    ]


def test_the_status_says_what_kind_of_fault_it_is() -> None:
    assert lines(version=b"SIP/7.0")[0] == "SIP/2.0 505 Version Not Supported"
    foreign = messages()["unkscm"]
    assert _answer_malformed(foreign, "").startswith(b"SIP/2.0 416 ")


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x\r\nCSeq: 1 INVITE\r\n\r\n",
        REQUEST % (b"ACK", b"SIP/2.0", b"ACK"),
        b"OPTIONS sip:x SIP/2.0\r\nTo: <sip:b@x>\r\n\r\n",
        b"OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x\r\n\r\n",
    ],
)
def test_what_cannot_or_must_not_be_answered_is_not(packet: bytes) -> None:
    assert _answer_malformed(packet, "") == b""


@given(st.binary(max_size=300), st.sampled_from(list(messages().values())), st.integers(0, 400))
def test_no_packet_makes_an_answer_with_lines_of_its_own(noise: bytes, packet: bytes, at: int) -> None:
    answer = _answer_malformed(packet[:at] + noise + packet[at:], "")
    names = {line.partition(b":")[0] for line in answer.split(b"\r\n")[1:] if line}
    assert names <= {b"Via", b"From", b"To", b"Call-ID", b"CSeq", b"Content-Length"}
    assert b"\n" not in answer.replace(b"\r\n", b"")


@pytest.mark.parametrize("source", ["10.0.0.0/33", "::/129", "host", "", "10.0.0/8"])
def test_what_is_no_network_is_refused(source: str) -> None:
    with pytest.raises(ValueError):  # the text is the network's
        native.GateTrunk("t", [source], [], "", "", "", [])


def test_an_unknown_digest_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="MD6"):
        native.GateTrunk("t", [], [], "user", "password", "realm", ["MD6"])


def test_a_trunk_shows_no_secret() -> None:
    assert "hunter2" not in repr(native.GateTrunk("t", [], [], "user", "hunter2", "realm", ["MD5"]))
