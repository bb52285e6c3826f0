"""Host names to addresses, against a real nameserver: which records are asked for, in what order, and for how long."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pytest

from recorder.calls.targets import Address, Place, place_of
from recorder.sip import resolver
from recorder.sip.resolver import Resolver
from tests.peers.dns import Nameserver


class Desk:
    """A resolver, and in the sip thread's place the test."""

    def __init__(self, nameserver: Nameserver, families: tuple[int, ...] = (4,)) -> None:
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.resolver = Resolver(
            self._commands.put, (("127.0.0.1", nameserver.port),), ("udp", "tcp", "tls"), families, Random(7)
        )

    def ask(self, uri: str) -> list[str]:
        """The addresses of a URI, as texts."""
        place = place_of(uri)
        assert place is not None
        found: list[tuple[Address, ...]] = []
        self.resolver.look_up(place, found.append)
        while not found:
            self._commands.get(timeout=10)()
        return [str(address) for address in found[0]]

    def both(self, place: Place) -> int:
        """Ask twice before there is an answer; return how many answers came."""
        found: list[tuple[Address, ...]] = []
        self.resolver.look_up(place, found.append)
        self.resolver.look_up(place, found.append)
        self._commands.get(timeout=10)()
        return len(found)


@pytest.fixture
def nameserver() -> Iterator[Nameserver]:
    with Nameserver() as server:
        server.zone = {
            ("ivr.test", "A"): ["192.0.2.1", "192.0.2.2"],
            ("ivr.test", "AAAA"): ["2001:db8::1"],
            ("_sip._udp.pool.test", "SRV"): [
                "10 1 5062 one.pool.test.",
                "10 3 5064 two.pool.test.",
                "20 0 5066 spare.pool.test.",
            ],
            ("_sip._tcp.pool.test", "SRV"): ["10 0 5070 one.pool.test."],
            ("_sips._tcp.pool.test", "SRV"): ["10 0 5071 one.pool.test."],
            ("one.pool.test", "A"): ["192.0.2.11"],
            ("two.pool.test", "A"): ["192.0.2.12"],
            ("spare.pool.test", "A"): ["192.0.2.13"],
            ("named.test", "NAPTR"): [
                '20 50 "s" "SIP+D2U" "" _sip._udp.pool.test.',
                '10 50 "s" "SIP+D2T" "" _sip._tcp.pool.test.',
                '5 50 "s" "SIP+D2S" "" _sip._sctp.pool.test.',
            ],
            ("_sip._udp.closed.test", "SRV"): ["0 0 0 ."],
            ("closed.test", "A"): ["192.0.2.20"],
        }  # fmt: skip
        yield server


@pytest.fixture
def desk(nameserver: Nameserver) -> Iterator[Desk]:
    desk = Desk(nameserver)
    yield desk
    desk.resolver.close()


def test_a_port_in_the_uri_means_the_hosts_addresses(desk: Desk, nameserver: Nameserver) -> None:
    assert sorted(desk.ask("sip:x@ivr.test:5080")) == ["udp:192.0.2.1:5080", "udp:192.0.2.2:5080"]
    assert sorted(desk.ask("sip:x@IVR.test:5080;transport=tcp")) == ["tcp:192.0.2.1:5080", "tcp:192.0.2.2:5080"]
    assert {kind for _, kind in nameserver.questions} == {"A"}


def test_without_port_the_srv_records_say_where_and_by_what(desk: Desk) -> None:
    first = Counter()  # type: ignore[var-annotated]
    for _ in range(400):
        found = desk.ask("sip:x@pool.test")
        assert found[2] == "udp:192.0.2.13:5066"
        assert sorted(found[:2]) == ["udp:192.0.2.11:5062", "udp:192.0.2.12:5064"]
        first[found[0]] += 1
    assert first["udp:192.0.2.12:5064"] > 1.5 * first["udp:192.0.2.11:5062"]  # drawn by weight, anew for each call


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sip:pool.test;transport=tcp", "tcp:192.0.2.11:5070"),
        ("sips:pool.test", "tls:192.0.2.11:5071"),
        ("sip:named.test", "tcp:192.0.2.11:5070"),
    ],
)
def test_the_transport_comes_from_the_uri_or_from_naptr(desk: Desk, uri: str, address: str) -> None:
    assert desk.ask(uri) == [address]


def test_without_srv_records_it_is_the_hosts_address_and_the_default_port(desk: Desk) -> None:
    assert sorted(desk.ask("sip:ivr.test")) == ["udp:192.0.2.1:5060", "udp:192.0.2.2:5060"]
    assert sorted(desk.ask("sips:ivr.test")) == ["tls:192.0.2.1:5061", "tls:192.0.2.2:5061"]


def test_both_families_are_tried_where_both_are_listened_on(nameserver: Nameserver) -> None:
    desk = Desk(nameserver, (4, 6))
    assert desk.ask("sip:ivr.test:5060")[2] == "udp:[2001:db8::1]:5060"
    desk.resolver.close()


def test_a_name_without_address_is_remembered_as_such(desk: Desk, nameserver: Nameserver) -> None:
    assert desk.ask("sip:nowhere.test") == []
    asked = nameserver.questions.total()
    assert desk.ask("sip:nowhere.test") == []
    assert nameserver.questions.total() == asked


def test_an_answer_is_remembered_for_as_long_as_it_says(desk: Desk, nameserver: Nameserver) -> None:
    nameserver.ttl = 1
    assert desk.ask("sip:ivr.test:5060") == desk.ask("sip:ivr.test:5060")
    assert nameserver.questions["ivr.test", "A"] == 1
    nameserver.zone["ivr.test", "A"] = ["192.0.2.9"]
    known = desk.resolver._known[Place("ivr.test", 5060)]
    desk.resolver._known[Place("ivr.test", 5060)] = resolver._Known(known.servers, known.until - 1.1)  # time goes by
    assert desk.ask("sip:ivr.test:5060") == ["udp:192.0.2.9:5060"]


def test_what_no_nameserver_answers_any_more_is_still_known(
    desk: Desk, nameserver: Nameserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_LIFETIME_S", 0.3)
    assert len(desk.ask("sip:ivr.test:5060")) == 2
    known = desk.resolver._known[Place("ivr.test", 5060)]
    desk.resolver._known[Place("ivr.test", 5060)] = resolver._Known(known.servers, known.until - 61)
    nameserver.silent = True
    assert len(desk.ask("sip:ivr.test:5060")) == 2
    assert desk.ask("sip:one.pool.test:5060") == []


def test_two_who_ask_at_a_time_cost_one_question(desk: Desk, nameserver: Nameserver) -> None:
    assert desk.both(Place("ivr.test", 5060)) == 2
    assert nameserver.questions["ivr.test", "A"] == 1


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "..", "-", "a..b"])
def test_what_is_no_name_has_no_address(desk: Desk, host: str) -> None:
    found: list[tuple[Address, ...]] = []
    desk.resolver.look_up(Place(host, 5060), found.append)
    desk._commands.get(timeout=10)()
    assert found == [()]


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("sip:10@ivr.test", Place("ivr.test")),
        ("sip:10;a=b@ivr.test:5080;transport=TCP;lr", Place("ivr.test", 5080, "tcp")),
        ("sips:[2001:DB8::1]:5061", Place("2001:db8::1", 5061, "tls")),
        ("sip:ivr.test;x=y?Subject=a", Place("ivr.test")),
        ("tel:+30210", None),
        ("sip:a b@c", None),
    ],
)
def test_where_a_uri_leads(uri: str, place: Place | None) -> None:
    assert place_of(uri) == place
