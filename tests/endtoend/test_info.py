"""SIP INFO that is not ours crosses the recorder as if it were not there."""

from __future__ import annotations

from tests.endtoend.conftest import Bench


def test_info_unknown(bench: Bench) -> None:
    call = bench.call("uac-info-unknown", "uas-info-unknown", seconds=0.5)
    [sent], [arrived] = call.caller.sent("INFO"), call.application.received("INFO")
    assert arrived.body == sent.body
    assert arrived.header("Content-Type") == sent.header("Content-Type")
    assert arrived.header("Call-ID") != sent.header("Call-ID")
    answer = next(m for m in call.application.messages if m.sent and (m.header("CSeq") or "").endswith("INFO"))
    returned = next(m for m in call.caller.messages if not m.sent and (m.header("CSeq") or "").endswith("INFO"))
    assert returned.status == answer.status == 299
    assert returned.body == answer.body
    assert returned.body


def test_info_dtmf(bench: Bench) -> None:
    call = bench.call("uac-info-dtmf", "uas-info-dtmf", seconds=0.5)
    assert [m.body for m in call.application.received("INFO")] == [m.body for m in call.caller.sent("INFO")]


def test_info_garbage(bench: Bench) -> None:
    """Controls that are none: each gets a final answer, nothing is muted, the call goes on."""
    call = bench.call("uac-info-garbage", "uas-info-garbage", seconds=1)
    answers = [m for m in call.caller.messages if not m.sent and (m.header("CSeq") or "").endswith("INFO")]
    assert len({m.header("CSeq") for m in answers}) == len({m.header("CSeq") for m in call.caller.sent("INFO")})
    kept = bench.kept(call)
    assert kept.manifest["redactions"] == []
