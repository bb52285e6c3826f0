"""Routing decisions for whatever an INVITE says: a decision or a verdict, and identifiers that match their patterns."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from recorder.calls.events import Invite
from recorder.calls.routing import Router
from recorder.errors import RecorderError
from recorder.identifiers import RecordingName, is_valid_dialog_id, is_valid_name
from recorder.settings import Settings
from tests.fuzz.cases import fuzzed

MAPPED = {"group": "X-Group-Id", "account": "X-Account-Id", "dialog": "X-Dialog-Id"}
CONFIGURATION: dict[str, Any] = {
    "trunks": [
        {"name": "carrier", "sources": ["192.0.2.0/24", "2001:db8::/32"], "identity_headers": MAPPED},
        {"name": "lab", "sources": ["127.0.0.0/8"]},
    ],
    "routes": [
        {"name": "numbers", "match": {"called": r"\+?[0-9]{3,15}"}, "target": "sip:{user}@198.51.100.1:5070"},
        {
            "name": "lab",
            "match": {"trunk": "lab"},
            "targets": [
                {"uri": "sip:{user}@198.51.100.1:5070;transport=udp", "weight": 0},
                {"uri": "sip:{user}@198.51.100.1:5070", "weight": 3},
                {"uri": "sip:198.51.100.1:5070", "priority": 2},
            ],
            "rewrite": {
                "called": {"pattern": r"0(.*)", "replacement": r"00\1", "prefix": "+"},
                "calling": {"strip": 2, "prefix": "9"},
            },
        },
        {"name": "alice", "match": {"calling": "ali.*"}, "target": "sip:198.51.100.1:5070"},
    ],
    "accounts": [
        {"id": "sales", "group": "acme", "record": True, "match": {"called": "1.*"}},
        {"id": "quiet", "group": "acme", "match": {"calling": ".{3}"}},
        {"id": "rest", "group": "acme", "record": True, "match": {"trunk": "lab"}},
    ],
}
ROUTER = Router(Settings.model_validate(CONFIGURATION))
TARGET = re.compile(r"sip:(?:[^@<>\s\"]*@)?198\.51\.100\.1:5070(?:;transport=udp)?")

wire = st.text(max_size=70) | st.text('ab01~/.\\@:;<>"% \r\n\x00{}é', max_size=70)
users = st.one_of(
    wire, st.from_regex(r"\+?[0-9]{1,16}", fullmatch=True), st.sampled_from(["{user}", "{user}@", "alice"])
)
values = st.one_of(
    wire, st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,64}", fullmatch=True), st.sampled_from(["sales", "quiet"])
)
header_maps = st.dictionaries(
    st.sampled_from([*map(str.lower, MAPPED.values()), "from", "to", "diversion"]) | wire.map(str.lower),
    st.lists(values, min_size=1, max_size=3).map(tuple),
    max_size=5,
)
sources = st.one_of(
    wire,
    st.ip_addresses().map(str),
    st.sampled_from(["192.0.2.7", "127.0.0.1", "2001:db8::7", "::ffff:192.0.2.7", "fe80::1%eth0", "192.0.2.07", ""]),
)


@fuzzed(source=sources, called=users, calling=users, uri=wire, fields=header_maps, call_id=wire)
def test_an_invite_is_routed_or_refused_and_its_identifiers_are_strict(
    source: str, called: str, calling: str, uri: str, fields: dict[str, tuple[str, ...]], call_id: str
) -> None:
    try:
        decision = ROUTER.decide(Invite(call_id, source, called, calling, uri, 1, fields))
    except RecorderError:
        return
    identity = decision.identity
    assert is_valid_name(identity.group_id)
    assert is_valid_name(identity.account_id)
    assert is_valid_dialog_id(identity.dialog_id)
    assert RecordingName.parse(RecordingName(identity.group_id, identity.account_id, 1, identity.dialog_id).stem)
    if decision.trunk == "lab":
        assert identity.replaced == ()
    assert decision.targets
    for target in decision.targets:
        assert TARGET.fullmatch(target.uri), target
