"""Reading SIP text: what trunks send, and what nobody should."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pjsua2")

from recorder.errors import InvalidRequestError
from recorder.sip import translate

INVITE = (
    "INVITE sip:%2B15551234;npdi@127.0.0.1:5060;transport=udp SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 127.0.0.1:5061;branch=z9hG4bK1\r\n"
    'From: "A \\"<sip:evil@x>\\" B" <sip:alice@example.com;user=phone>;tag=1\r\n'
    "t: <sip:100@127.0.0.1>\r\n"
    "i: abc@127.0.0.1\r\n"
    "X-Group-Id: one\r\n"
    "x-group-id: two\r\n"
    "Subject: folded\r\n line\r\n"
    "Content-Length: 7\r\n"
    "\r\n"
    "X-Body: no"
)


def test_an_invite_is_read() -> None:
    invite = translate.invite(INVITE, "127.0.0.1:5061", 42)
    assert invite.sip_call_id == "abc@127.0.0.1"
    assert (invite.called, invite.calling) == ("+15551234;npdi", "alice")
    assert invite.calling_uri == "sip:alice@example.com;user=phone"
    assert invite.source == "127.0.0.1"
    assert invite.time_ms == 42
    assert invite.headers["x-group-id"] == ("one", "two")
    assert invite.headers["subject"] == ("folded line",)
    assert "x-body" not in invite.headers


def test_the_source_of_an_ipv6_request_is_its_address() -> None:
    assert translate.invite(INVITE, "[2001:db8::1]:5061", 1).source == "2001:db8::1"


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:alice@example.com", "alice"),
        ("sips:alice:secret@example.com;x=y", "alice"),
        ("sip:example.com", ""),
        ("SIP:1@[::1]:5060", "1"),
        ("tel:+1-201-555-0123;phone-context=x", "+1-201-555-0123"),
        ("http://x@y", ""),
        ("", ""),
    ],
)
def test_the_user_part_of_a_uri(uri: str, user: str) -> None:
    assert translate.user_of(uri) == user


@pytest.mark.parametrize("message", ["", "INVITE\r\n\r\n", "INVITE sip:x SIP/2.0\r\nFrom: x\r\n\r\n"])
def test_what_cannot_be_read_is_refused(message: str) -> None:
    with pytest.raises(InvalidRequestError):
        translate.invite(message, "127.0.0.1:1", 1)


@given(st.text(), st.text())
def test_no_text_breaks_the_reader(line: str, rest: str) -> None:
    try:
        invite = translate.invite(f"INVITE {line} SIP/2.0\r\nCall-ID: 1\r\nFrom: {rest}\r\n{rest}\r\n\r\n", rest, 1)
    except InvalidRequestError:
        return
    assert isinstance(invite.called, str)


def test_octets_that_are_no_text_become_text_that_can_be_stored() -> None:
    text = b"INVITE sip:\xff@x SIP/2.0\r\nCall-ID: a\xfe\r\n\r\n".decode("utf-8", "surrogateescape")
    read = translate.invite(text, "192.0.2.1:5060", 1)
    assert (read.called, read.sip_call_id) == ("\ufffd", "a\ufffd")
    read.sip_call_id.encode()


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["Contact: <sip:9@192.0.2.1>"], ["<sip:9@192.0.2.1>;q=1"]),
        (["m: sip:9@192.0.2.1;q=0.3"], ["<sip:9@192.0.2.1>;q=0.3"]),
        (
            ['Contact: <sip:a@b;x=1>;q=0.2;expires=5, "A, <B>" <tel:+30210>;q=0.7', "Contact: <sip:c@d>"],
            ["<sip:c@d>;q=1", "<tel:+30210>;q=0.7", "<sip:a@b;x=1>;q=0.2"],
        ),
        (["Contact: *"], []),
        (['Contact: <sip:"@b>, <sip:\x02@b>, <http://a/>, <sip:a b@c>, <sip:x@y\x01>, <tel:+1 2>'], []),
        (["Subject: none"], []),
        (
            ["Contact: " + ", ".join(f"<sip:{number}@b>" for number in range(40))],
            [f"<sip:{n}@b>;q=1" for n in range(10)],
        ),
    ],
)
def test_where_a_redirection_points_to(lines: list[str], found: list[str]) -> None:
    message = "\r\n".join(["SIP/2.0 302 Moved Temporarily", *lines, "", ""])
    assert [str(contact) for contact in translate.contacts(message)] == found


@given(st.text())
def test_no_contact_off_the_wire_breaks_out_of_its_header(value: str) -> None:
    for contact in translate.contacts(f"SIP/2.0 302 Moved\r\nContact: {value}\r\n\r\n"):
        assert re.fullmatch(r"[!#-;=?-~]+", contact.uri)
        assert 0 <= contact.q <= 1
