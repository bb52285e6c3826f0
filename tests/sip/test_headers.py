"""Which headers cross, and that nothing in them can break out of the line it stands in or tell of an address."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.header_names import OURS, covered, is_pattern
from recorder.settings import PASSED_HEADERS
from recorder.sip.headers import (
    LONGEST_VALUE_BYTES,
    MOST_BYTES,
    MOST_HEADERS,
    Passing,
    addresses_in,
    display_of,
    host_and_port_of,
    host_of,
    hosts_in,
    is_value,
    names_one_of,
    quoted,
    rehosted,
)

HOME, FAR = "198.51.100.1:5060", "ivr.example.com"
texts = st.text(st.characters(codec=None), max_size=80)
names = st.one_of(st.sampled_from(["X-A", "x-b", "Reason", "Privacy", "Via", "P-Asserted-Identity"]), texts)


def selected(*fields: tuple[str, str], names: tuple[str, ...] = PASSED_HEADERS) -> tuple[tuple[str, str], ...]:
    return Passing(names).select(fields, home=HOME, target=FAR).headers


@given(st.lists(st.tuples(names, texts), max_size=60))
def test_whatever_comes_in_what_goes_out_is_lines_of_their_own(fields: list[tuple[str, str]]) -> None:
    passed = Passing(PASSED_HEADERS).select(fields, home=HOME, target=FAR)
    assert len(passed.headers) <= MOST_HEADERS
    written = "".join(f"{name}: {value}\r\n" for name, value in passed.headers)
    assert len(written.encode()) <= MOST_BYTES
    assert written.count("\r") == written.count("\n") == len(passed.headers)
    for name, value in passed.headers:
        assert re.fullmatch(r"[A-Za-z0-9!%_+`'~.-]+", name)
        assert name.lower() not in OURS
        assert value.strip()


@given(texts)
def test_no_address_is_left_in_what_names_people(value: str) -> None:
    result = rehosted(value.replace("sip", "sip:"), HOME)
    found = re.findall(r"\d+\.\d+\.\d+\.\d+", result or "")
    assert set(found) <= {"198.51.100.1"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("at 10.0.0.7", True),
        ("at 10.0.0.7:5060;x", True),
        ("<sip:a@10.0.0.7>.", True),
        ("10.0.0.70, 110.0.0.7, 10.0.0.7.1, x10.0.0.7", False),
        ("call AB-1@PBX.example today", True),
        ("ab-1@pbx.example.com", False),
    ],
)
def test_a_place_is_found_where_it_stands_by_itself(value: str, expected: bool) -> None:
    assert names_one_of(value, ["10.0.0.7", "ab-1@pbx.example"]) is expected


def test_addresses_and_hosts_are_found_wherever_they_are() -> None:
    value = "v=1.2.3.4, [2001:db8::1]:5060 and fe80::2; 12:30:00 a::b::c 1.2.3.4.5x 999.1.1.1"
    assert {str(address) for address in addresses_in(value)} >= {"1.2.3.4", "2001:db8::1", "fe80::2"}
    named = ["SIP/2.0/UDP [2001:DB8::1]:5060;branch=x", "<sip:a@Pbx.Example:5070>;x, <sips:10.0.0.9>"]
    assert list(hosts_in(named)) == ["2001:db8::1", "pbx.example", "10.0.0.9"]


def test_a_header_that_tells_of_a_hidden_place_is_left_out_unless_hosts_are_kept() -> None:
    fields = [("X-A", "secret"), ("X-B", "open"), ("Content-Disposition", "render"), ("Contact", "<sip:a@b>")]
    for hosts, whole, expected in (("ours", False, ["X-B"]), ("keep", True, ["X-A", "X-B", "Content-Disposition"])):
        passing = Passing(PASSED_HEADERS, hosts)  # type: ignore[arg-type]
        passed = passing.select(fields, home=HOME, target=FAR, tells=lambda value: value == "secret", whole=whole)
        assert [name for name, _ in passed.headers] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<sip:+1@10.0.0.1>", f"<sip:+1@{HOME}>"),
        ('"A" <sips:a;x=1@[2001:db8::1]:5061;user=phone>;q=1', f'"A" <sips:a;x=1@{HOME};user=phone>;q=1'),
        ("sip:10.0.0.1;transport=tcp", f"sip:{HOME}"),
        ("<sip:a@b;maddr=10.0.0.2;lr>, <tel:+1>", f"<sip:a@{HOME};lr>, <tel:+1>"),
        ('"Anonymous" <sip:anonymous@anonymous.invalid>', '"Anonymous" <sip:anonymous@anonymous.invalid>'),
        ('"10.0.0.1" <sip:a@b>', None),
        ("<sip:a@b>;seen=10.0.0.1", None),
        ("<sip:a@b>;seen=[2001:db8::1]", None),
    ],
)
def test_hosts_of_uris_are_replaced(value: str, expected: str | None) -> None:
    assert rehosted(value, HOME) == expected


@pytest.mark.parametrize(
    "value", ["", "a\r\nX: 1", "a\nb", "a\0b", "a\x7fb", "a\x85b", "\udcff", "x" * (LONGEST_VALUE_BYTES + 1), "é" * 600]
)
def test_a_value_that_cannot_be_written_is_left_out(value: str) -> None:
    assert not is_value(value)
    assert selected(("X-A", value), ("X-B", "b")) == (("X-B", "b"),)


def test_names_are_matched_in_any_case_and_kept_as_they_came() -> None:
    assert selected(("x-a", "1"), ("PRIVACY", "id"), ("Private", "2"), ("Subject", "3")) == (
        ("x-a", "1"),
        ("PRIVACY", "id"),
    )


def test_a_flood_of_headers_is_cut() -> None:
    passed = Passing(["X-*"]).select([(f"X-{n}", "v" * 100) for n in range(300)], home=HOME, target=FAR)
    assert len(passed.headers) == MOST_HEADERS
    assert len(passed.dropped) == 300 - MOST_HEADERS


def test_hosts_are_the_targets_or_as_they_came_when_configured() -> None:
    fields = [("P-Asserted-Identity", "<sip:a@10.0.0.1>")]
    names = ["P-Asserted-Identity"]
    assert Passing(names, "target").select(fields, home=HOME, target=FAR).headers[0][1] == f"<sip:a@{FAR}>"
    assert Passing(names, "keep").select(fields, home=HOME, target=FAR).headers[0][1] == "<sip:a@10.0.0.1>"
    assert Passing(names).host("10.0.0.1", home=HOME, target=FAR) == HOME
    assert Passing(names, "target").host("10.0.0.1", home=HOME, target=FAR) == FAR
    assert Passing(names, "keep").host("10.0.0.1", home=HOME, target=FAR) == "10.0.0.1"
    assert Passing(names, "keep").host('x"<', home=HOME, target=FAR) == HOME
    assert Passing(names).host("Anonymous.Invalid", home=HOME, target=FAR) == "Anonymous.Invalid"


@pytest.mark.parametrize(
    ("name_addr", "display"),
    [
        ('"Bob \\"B\\" \\\\ x" <sip:b@c>;tag=1', 'Bob "B" \\ x'),
        ("Bob Smith <sip:b@c>", "Bob Smith"),
        ("<sip:b@c>", ""),
        ("sip:b@c", ""),
        ('"a\rb" <sip:b@c>', ""),
        ('"open <sip:b@c>', ""),
        (f'"{"x" * 200}" <sip:b@c>', ""),
    ],
)
def test_display_names_are_read(name_addr: str, display: str) -> None:
    assert display_of(name_addr) == display


@given(texts)
def test_a_display_name_written_is_read_again(display: str) -> None:
    if is_value(display):
        assert display_of(f"{quoted(display)} <sip:a@b>") == display


@given(texts)
def test_reading_never_fails(text: str) -> None:
    display_of(text)
    host_of(text)
    host_and_port_of(text)


def test_hosts_are_read() -> None:
    assert host_of("sip:a@b.example:5060;x=y") == "b.example"
    assert host_and_port_of("sip:[::1]:5060;x=y") == "[::1]:5060"
    assert host_of("tel:+1") == ""


def test_no_pattern_covers_a_header_of_ours() -> None:
    assert covered("Via") == "via"
    assert covered("Con*") is not None
    assert covered("x-*") is None
    assert not any(is_pattern(text) for text in ("*a", "X A", "", "X\n"))
