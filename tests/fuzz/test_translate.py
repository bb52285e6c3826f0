"""SIP text that trunks and strangers may send: it is read or refused, in time that its length explains."""

from __future__ import annotations

import time

from hypothesis import example
from hypothesis import strategies as st

from recorder.calls.events import Invite
from recorder.errors import InvalidRequestError
from recorder.sip import translate
from tests.fuzz.cases import fuzzed

surrogates = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"])
awkward = st.text('abc019 \t"\\<>@:;,=%+?&[](){}\r\n\x00\x7fäٱ', max_size=60)
texts = st.text(max_size=60) | awkward | st.text(st.characters(exclude_categories=["Cs"]) | surrogates, max_size=30)
uris = st.one_of(
    texts,
    st.tuples(
        st.sampled_from(["sip:", "sips:", "SIP:", "tel:", "tel:+", "http:", "sip", ""]),
        texts,
        st.sampled_from(["@", "", ":", ":x@", "@@"]),
        st.sampled_from(["127.0.0.1", "[::1]:5060", "h;transport=udp", "", ">"]),
    ).map("".join),
)
name_addrs = st.one_of(
    uris,
    st.tuples(texts, uris, texts).map(lambda parts: f"{parts[0]}<{parts[1]}>{parts[2]}"),
    st.tuples(texts, uris).map(lambda parts: f'"{parts[0]}" <{parts[1]}>;tag=1'),
)
names = st.sampled_from(["From", "f", "FROM", "Call-ID", "i", "To", "t", "Via", "X-Group-Id", "x-group-id", "", " "])
lines = st.one_of(
    texts,
    st.tuples(names | texts, st.sampled_from([":", " :", ": ", ""]), name_addrs).map("".join),
    name_addrs.map(lambda value: f" {value}"),
)
messages = st.tuples(
    st.one_of(texts, uris.map(lambda uri: f"INVITE {uri} SIP/2.0")),
    st.lists(lines, max_size=8),
    st.sampled_from(["\r\n", "\n", "\r\n\r\n"]),
    texts,
).map(lambda parts: parts[2].join([parts[0], *parts[1], "", parts[3]]))
good_messages = st.tuples(uris, name_addrs, st.lists(lines, max_size=6)).map(
    lambda parts: "\r\n".join(
        [f"INVITE {parts[0]} SIP/2.0", "Call-ID: 1@x", f"From: {parts[1]}", *parts[2], "", "body: no"]
    )
)


@fuzzed(message=messages | good_messages, source=texts | st.sampled_from(["127.0.0.1:5060", "[::1]:5060"]))
@example(message="INVITE sip:x SIP/2.0\r\nCall-ID: \udcff\r\nFrom: x\r\n\r\n", source="127.0.0.1:1")
@example(message="INVITE tel:; SIP/2.0\r\nCall-ID: 1\r\nFrom: tel:\r\n\r\n", source="127.0.0.1:1")
def test_an_invite_is_read_or_refused(message: str, source: str) -> None:
    try:
        invite = translate.invite(message, source, 1)
    except InvalidRequestError:
        return
    assert isinstance(invite, Invite)
    assert all(isinstance(value, str) for value in (invite.called, invite.calling, invite.calling_uri, invite.source))
    for name, values in invite.headers.items():
        assert name == name.strip().lower()
        assert values
        assert not any("\r\n" in value for value in values)
    assert invite.headers["call-id"][0] == invite.sip_call_id
    # Whatever bytes came, this can be written to the index, the manifest and the log.
    assert repr(invite).encode().decode() == repr(invite)
    assert invite.sip_call_id.encode() is not None
    assert all(value.encode() is not None for values in invite.headers.values() for value in values)


@fuzzed(value=name_addrs, uri=uris)
def test_any_name_addr_and_uri_can_be_taken_apart(value: str, uri: str) -> None:
    assert isinstance(translate.uri_of(value), str)
    user = translate.user_of(uri)
    assert isinstance(user, str)
    # A user part that is only percent signs, digits and letters may grow by no unescaping.
    assert len(user) <= len(uri)


PIECES = ['"', "\\", '\\"', "<", ">", "sip:", "tel:", "@", ":", ";", "%", "%41", " ", "\t", "\r\n ", "a", "("]


@fuzzed(piece=st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join), tail=st.sampled_from(PIECES))
@example(piece='\\"', tail="%")
def test_a_long_value_takes_no_longer_than_its_length(piece: str, tail: str) -> None:
    """No pattern here backtracks its way through what a stranger sends: a whole datagram's worth takes milliseconds."""
    text = piece * (16_000 // len(piece)) + tail
    spent = []
    for _ in range(3):  # one of them may have been charged for something else
        begun = time.thread_time()
        translate.user_of(translate.uri_of(text))
        translate.headers(translate.fields(f"From: {text}\r\n\r\n"))
        spent.append(time.thread_time() - begun)
        if spent[-1] < 0.1:
            return
    raise AssertionError(f"{min(spent):.3f} s of CPU for {len(text)} characters")
