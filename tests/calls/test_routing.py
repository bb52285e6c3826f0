"""Who may call, where to, whose call it is, and that nothing off the wire becomes a name unchecked."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.calls.events import Invite
from recorder.calls.routing import Router
from recorder.calls.targets import Target, in_order
from recorder.errors import NoRouteError
from recorder.identifiers import RecordingName
from recorder.settings import Settings

CONFIGURATION: dict[str, Any] = {
    "trunks": [
        {
            "name": "carrier",
            "sources": ["192.0.2.0/24", "2001:db8::/32"],
            "identity_headers": {"group": "X-Group-Id", "account": "X-Account-Id", "dialog": "X-Dialog-Id"},
        },
        {"name": "lab", "sources": ["127.0.0.1/32"]},
    ],
    "routes": [
        {"name": "ivr", "match": {"called": "[0-9]{3}"}, "target": "sip:{user}@198.51.100.1:5070"},
        {"name": "lab", "match": {"trunk": "lab"}, "target": "sip:127.0.0.1:5070"},
    ],
    "accounts": [
        {"id": "sales", "group": "acme", "record": True, "match": {"called": "1.."}},
        {"id": "quiet", "group": "acme", "match": {"called": "2.."}},
    ],
}
ROUTER = Router(Settings.model_validate(CONFIGURATION))


def invite(called: str = "100", trunk: str = "carrier", **headers: str) -> Invite:
    fields = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return Invite("id@x", "192.0.2.7", called, "alice", "sip:alice@x", 1, fields, trunk)


def test_the_first_matching_route_names_the_target_with_the_called_user() -> None:
    decision = ROUTER.decide(invite("123"))
    assert (decision.trunk, [target.uri for target in decision.targets]) == ("carrier", ["sip:123@198.51.100.1:5070"])


@pytest.mark.parametrize(
    ("match", "called", "calling", "matches"),
    [
        ({"called_prefix": "+30"}, "+30210", "alice", True),
        ({"called_prefix": "+30"}, "0030210", "alice", False),
        ({"calling_prefix": "al"}, "1", "alice", True),
        ({"calling_prefix": "al", "called": "[0-9]"}, "x", "alice", False),
    ],
)
def test_a_route_matches_numbers_by_their_beginning(
    match: dict[str, str], called: str, calling: str, matches: bool
) -> None:
    router = Router(Settings.model_validate({"routes": [{"name": "r", "match": match, "target": "sip:127.0.0.1"}]}))
    asked = Invite("id@x", "127.0.0.1", called, calling, f"sip:{calling}@x", 1, {})
    if matches:
        assert router.decide(asked).route == "r"
    else:
        with pytest.raises(NoRouteError):
            router.decide(asked)


@pytest.mark.parametrize(
    ("rewrite", "number", "rewritten"),
    [
        ({}, "+30210", "+30210"),
        ({"strip": 3}, "+30210", "210"),
        ({"strip": 3, "prefix": "0"}, "+30210", "0210"),
        ({"prefix": "00"}, "", ""),
        ({"strip": 9}, "123", ""),
        ({"pattern": "0([1-9].*)", "replacement": "+30\\1"}, "0210", "+30210"),
        ({"pattern": "0([1-9].*)", "replacement": "+30\\1"}, "00210", "00210"),
        ({"pattern": "(0)?(.*)", "replacement": "\\1\\2", "prefix": "9"}, "210", "9210"),
    ],
)
def test_numbers_are_rewritten_as_a_dial_plan_says(rewrite: dict[str, Any], number: str, rewritten: str) -> None:
    for which in ("called", "calling"):
        route = {"name": "r", "target": "sip:{user}@127.0.0.1", "rewrite": {which: rewrite}}
        asked = Invite("id@x", "127.0.0.1", number, number, "sip:x@x", 1, {})
        decision = Router(Settings.model_validate({"routes": [route]})).decide(asked)
        other = decision.calling if which == "called" else decision.called
        assert (getattr(decision, which), other) == (rewritten, number)
        if which == "called":
            assert decision.targets[0].uri == (f"sip:{rewritten}@127.0.0.1" if rewritten else "sip:127.0.0.1")


def test_targets_come_by_priority_and_within_one_drawn_by_weight() -> None:
    targets = [
        Target("spare", priority=20),
        Target("light", priority=10, weight=1),
        Target("heavy", priority=10, weight=3),
        Target("never", priority=10, weight=0),
    ]
    random = Random(7)
    drawn = [[target.uri for target in in_order(targets, random)] for _ in range(4000)]
    assert all(sorted(order[:3]) == ["heavy", "light", "never"] and order[3] == "spare" for order in drawn)
    first = Counter(order[0] for order in drawn)
    # RFC 2782 draws from 0 to the sum: one chance in five for weight 0, then 1 and 3.
    assert first["heavy"] / 4000 == pytest.approx(3 / 5, abs=0.05)
    assert first["light"] / 4000 == pytest.approx(1 / 5, abs=0.05)
    assert drawn == [
        [target.uri for target in in_order(targets, random)] for random in [Random(7)] for _ in range(4000)
    ]


def test_a_number_that_no_route_knows_is_not_found() -> None:
    with pytest.raises(NoRouteError, match="'12345'"):
        ROUTER.decide(invite("12345"))


def test_only_an_enabled_account_is_recorded() -> None:
    assert ROUTER.decide(invite("100")).unrecorded_because is None
    assert ROUTER.decide(invite("200")).unrecorded_because == "not_enabled"
    assert ROUTER.decide(invite("300")).unrecorded_because == "no_account"


def test_identity_comes_from_the_account_with_a_dialog_id_of_our_own() -> None:
    identity = ROUTER.decide(invite("100")).identity
    assert (identity.group_id, identity.account_id) == ("acme", "sales")
    assert len(identity.dialog_id) == 32
    assert set(identity.dialog_id) <= set("0123456789ABCDEF")


def test_mapped_headers_name_the_call() -> None:
    identity = ROUTER.decide(invite("100", x_group_id="g1", x_account_id="a.b", x_dialog_id="D-1")).identity
    assert (identity.group_id, identity.account_id, identity.dialog_id) == ("g1", "a.b", "D-1")


def test_a_mapped_account_that_is_configured_decides_about_recording() -> None:
    assert ROUTER.decide(invite("100", x_account_id="quiet")).unrecorded_because == "not_enabled"


def test_headers_are_not_read_from_a_trunk_that_does_not_map_them() -> None:
    assert ROUTER.decide(invite("100", trunk="lab", x_group_id="g1")).identity.group_id == "acme"


@pytest.mark.parametrize("bad", ["../../etc/x", "a~b", "", "x" * 65, ".hidden", "a/b", "a\x00b", "..", "ä", "a b"])
def test_a_bad_identifier_is_replaced_and_reported(bad: str) -> None:
    identity = ROUTER.decide(invite("100", x_group_id=bad, x_dialog_id=bad)).identity
    assert identity.group_id == "acme"
    assert len(identity.dialog_id) == 32
    assert identity.replaced == (("group_id", bad), ("dialog_id", bad))


@given(st.text(), st.text(), st.text())
def test_no_header_value_makes_a_name_that_leaves_its_folder(group: str, account: str, dialog: str) -> None:
    identity = ROUTER.decide(invite("100", x_group_id=group, x_account_id=account, x_dialog_id=dialog)).identity
    stem = RecordingName(identity.group_id, identity.account_id, 1, identity.dialog_id).stem
    assert "/" not in stem
    assert ".." not in stem
    assert stem.count("~") == 3
    assert RecordingName.parse(stem).stem == stem


@given(st.text(max_size=40))
def test_no_called_number_can_change_the_target_host(called: str) -> None:
    settings = Settings.model_validate({"routes": [{"name": "all", "target": "sip:{user}@127.0.0.1:5070"}]})
    target = Router(settings).decide(invite(called)).targets[0].uri
    assert target.endswith("127.0.0.1:5070")
    assert target.count("@") <= 1
    assert not any(character in target for character in '\r\n <>"')
