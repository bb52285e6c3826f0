"""Outbound proxies: what goes to a trunk goes by way of its proxy, wherever the target is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import Bench
from tests.peers.dns import Nameserver

PROXY = "127.0.0.2"


@pytest.fixture(scope="module")
def nameserver() -> Iterator[Nameserver]:
    with Nameserver() as server:
        yield server


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, nameserver: Nameserver) -> Iterator[Bench]:
    """A recorder with a trunk whose proxy is an address, and one whose proxy is a name."""
    subject = Subject(tmp_path_factory.mktemp("recorder"))
    subject.configuration["sip"]["nameservers"] = [nameserver.address]
    nameserver.zone = {
        ("proxy.test", "A"): [PROXY],
        ("far.test", "A"): ["127.0.0.9"],  # an address of this machine on which nobody listens
    }
    port = subject.application_port
    subject.configuration["trunks"] += [
        {"name": "address", "sources": ["192.0.2.1"], "proxy": f"sip:{PROXY}:{port}"},
        {"name": "name", "sources": ["192.0.2.2"], "proxy": f"sip:proxy.test:{port}"},
    ]
    subject.configuration["routes"][:0] = [
        {
            "name": trunk,
            "match": {"called_prefix": digit},
            "targets": [{"uri": "sip:{user}@far.test", "trunk": trunk}],
        }
        for digit, trunk in (("6", "address"), ("7", "name"))
    ]
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


@pytest.mark.parametrize(("called", "proxy"), [("600", PROXY), ("700", "proxy.test")])
def test_an_outbound_proxy_gets_it_and_only_its_name_is_looked_up(
    bench: Bench, nameserver: Nameserver, called: str, proxy: str
) -> None:
    """The Request-URI stays the target's; the Route is the proxy's (RFC 3261, section 8.1.2)."""
    nameserver.questions.clear()
    call = bench.call(
        "uac-call",
        "uas-answer",
        seconds=0.3,
        caller_plan={"called": called},
        application_plan={"host": PROXY},
    )
    [invite] = call.application.received("INVITE")
    assert invite.first_line == f"INVITE sip:{called}@far.test SIP/2.0"
    assert invite.header("Route") == f"<sip:{proxy}:{bench.subject.application_port};lr>"
    asked = {name.rstrip(".") for name, _ in nameserver.questions}
    assert not any("far.test" in name for name in asked)
    assert bool(asked) == (proxy == "proxy.test")
    assert bench.cdr(call)["result"] == "completed"
