"""Transfers: who may, where to, and one recording through it all. Each test bears the name of its scenario."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import CHANGES, Bench, Call, Kept, silent_port
from tests.peers.codecs import PCMU
from tests.peers.rtp import RtpPeer, encoded, voice_of
from tests.tones import Samples, amplitude_of, sine

pytestmark = pytest.mark.moments

CALLER_HZ, APPLICATION_HZ, TARGET_HZ = 440, 880, 660


@pytest.fixture(scope="module")
def allowing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A recorder whose trunk may transfer, and where numbers that begin with 9 lead to a party of their own."""
    changes = CHANGES | {"trunks": [CHANGES["trunks"][0] | {"transfer": "allow"}]}
    subject = Subject(tmp_path_factory.mktemp("allowing"), changes=changes)
    other = f"sip:{{user}}@127.0.0.1:{silent_port(subject)}"
    subject.configuration["routes"] = [
        {"name": "other", "match": {"called": "9[0-9]*"}, "target": other},
        {"name": "application", "match": {"called": "1.*"}, "target": subject.configuration["routes"][0]["target"]},
    ]
    with subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


@dataclass(frozen=True)
class Three:
    """What the two parties of a call saw, and the one that joined it."""

    call: Call
    target: Outcome | None


def play(
    bench: Bench,
    folder: Path,
    caller: str,
    application: str,
    target: str | None,
    seconds: float = 1,
    caller_edit: Sequence[tuple[str, str]] = (),
    caller_length_ms: int | None = None,
    **edits: Any,
) -> Three:
    """Place a call in which one side transfers the other to `target`, each with its own voice; all must go well."""

    def sound(name: str, hertz: int) -> dict[str, Path]:
        return {f"{name}.ulaw": write_raw(folder / f"{hertz}.ulaw", sine(hertz, 1.0), Codec.PCMU)}

    subject, length_ms = bench.subject, round(seconds * 1000)
    with ExitStack() as stack:
        plans = [Plan(application, port=subject.application_port, sounds=sound("callee", APPLICATION_HZ), **edits)]
        if target is not None:
            plans.append(Plan(target, port=silent_port(subject), sounds=sound("callee", TARGET_HZ)))
        calling = Plan(caller, remote=subject.sip_address, sounds=sound("caller", CALLER_HZ), edit=caller_edit)
        phones = [stack.enter_context(Sipp(with_length(plan, length_ms))) for plan in plans]
        phones.append(stack.enter_context(Sipp(with_length(calling, caller_length_ms or length_ms))))
        dialed, answered, *joined = [phone.wait(20) for phone in (phones[-1], *phones[:-1])]
    for who, outcome in (("caller", dialed), ("application", answered), *(("target", one) for one in joined)):
        assert outcome.ok, f"{who}: {outcome.errors}"
    return Three(Call(dialed, answered), joined[0] if joined else None)


def with_length(plan: Plan, length_ms: int) -> Plan:
    return replace(plan, length_ms=length_ms, timeout_s=15)


def check_voices(kept: Kept, before: set[int], after: set[int]) -> None:
    """Who is heard in the first third of the recording, and in the last."""
    third = len(kept.samples) // 3
    margin = kept.rate // 5
    for part, heard in ((kept.samples[margin:third], before), (kept.samples[-third : -2 * margin], after)):
        loud = {hz for hz in (CALLER_HZ, APPLICATION_HZ, TARGET_HZ) if amplitude_of(part, hz, kept.rate) > 1000}
        assert loud == heard


def the_transfer(bench: Bench, three: Three) -> dict[str, Any]:
    [story] = bench.cdr(three.call)["details"]["transfers"]
    return dict(story)


def test_refer(bench: Bench) -> None:
    """Nobody has been allowed to: it is declined, nobody is dialed, and the call goes on."""
    series = 'recorder_transfers_total{outcome="denied"}'
    before = bench.subject.api.metrics().get(series, 0)
    call = bench.call("uac-refer", "uas-answer", seconds=0.5)
    assert call.caller.received(603)
    assert len(call.application.received("INVITE")) == 1
    assert bench.cdr(call)["reason"] == "caller_hangup"
    assert bench.subject.api.metrics()[series] == before + 1


def test_transfer_by_the_caller(allowing: Bench, tmp_path: Path) -> None:
    """uac-transfer: the callee talks to the new party, in one recording; the caller is told and hung up."""
    three = play(allowing, tmp_path, "uac-transfer", "uas-answer", "uas-bye")
    kept = allowing.kept(three.call)
    check_voices(kept, {CALLER_HZ, APPLICATION_HZ}, {TARGET_HZ, APPLICATION_HZ})
    assert kept.manifest["gaps"] == []
    assert three.target is not None
    [invite] = three.target.received("INVITE")
    assert (invite.header("From") or "").startswith("<sip:1000@127.0.0.1>")
    assert invite.header("Max-Forwards") == "69"
    assert invite.header("Referred-By") == f"<sip:5550100@{allowing.subject.sip_address}>"
    assert invite.first_line.startswith("INVITE sip:9001@127.0.0.1:")
    story = the_transfer(allowing, three)
    assert (story["kind"], story["side"], story["result"], story["sip_status"]) == ("blind", "a", "completed", 200)
    assert story["new_sip_call_id"] == invite.header("Call-ID")
    legs = kept.manifest["legs"]
    [earlier] = legs["earlier"]
    assert (earlier["side"], earlier["sip_call_id"]) == ("a", three.call.sip_call_id)
    assert legs["a"]["sip_call_id"] == invite.header("Call-ID")
    assert all(leg["rx_packets"] > 30 for leg in (legs["a"], legs["b"], earlier))


def test_transfer_by_the_callee(allowing: Bench, tmp_path: Path) -> None:
    """uas-transfer: the same the other way round."""
    three = play(allowing, tmp_path, "uac-wait-bye", "uas-transfer", "uas-bye")
    check_voices(allowing.kept(three.call), {CALLER_HZ, APPLICATION_HZ}, {CALLER_HZ, TARGET_HZ})
    assert three.target is not None
    assert (three.target.received("INVITE")[0].header("From") or "").startswith("<sip:5550100@127.0.0.1>")
    notifies = three.call.application.received("NOTIFY")
    assert [m.header("Subscription-State") for m in notifies] == ["active;expires=180", "terminated;reason=noresource"]
    assert {m.header("Event") for m in notifies} == {"refer"}
    assert notifies[0].body == b"SIP/2.0 100 Trying\r\n"
    assert the_transfer(allowing, three)["side"] == "b"


def check_step(kept: Kept, call: Call, muted_s: float, unmuted_s: float, before: set[int], after: set[int]) -> None:
    """Nothing at all is kept between these moments (epoch seconds), whoever speaks; before and after, who is heard."""
    answered_s = next(m.time_s for m in call.caller.messages if m.status == 200)
    muted, unmuted = (round((moment - answered_s) * kept.rate) for moment in (muted_s, unmuted_s))
    margin = kept.rate // 5
    assert unmuted - muted > 3 * margin
    assert not kept.samples[muted:unmuted].any()
    for part, heard in (
        (kept.samples[margin : muted - 2 * margin], before),
        (kept.samples[unmuted + 2 * margin : -margin], after),
    ):
        assert len(part) > margin
        loud = {hz for hz in (CALLER_HZ, APPLICATION_HZ, TARGET_HZ) if amplitude_of(part, hz, kept.rate) > 1000}
        assert loud == heard
    [redaction] = kept.manifest["redactions"]
    assert redaction["resumed"]


def test_transfer_by_the_caller_within_a_step(allowing: Bench, tmp_path: Path) -> None:
    """uac-transfer while uas-answer-mute mutes: the new party is not recorded before the application ends the step."""
    step = {"mute_after": 900, "mute_for": 2000}
    three = play(allowing, tmp_path, "uac-transfer", "uas-answer-mute", "uas-bye", seconds=2, variables=step)
    assert three.target is not None
    mute, unmute = (m.time_s for m in three.call.application.sent("INFO"))
    assert mute < three.target.sent(200)[0].time_s < unmute - 0.5
    # The new party hangs up 2 s after its answer.
    kept = allowing.kept(three.call)
    check_step(kept, three.call, mute, unmute, {CALLER_HZ, APPLICATION_HZ}, {TARGET_HZ, APPLICATION_HZ})


def test_mute_transfer(allowing: Bench, tmp_path: Path) -> None:
    """The application transfers in the middle of a step: it stays muted until the new application ends the step."""
    three = play(allowing, tmp_path, "uac-wait-bye", "uas-mute-transfer", "uas-unmute-bye", seconds=1)
    assert three.target is not None
    [mute], [unmute] = three.call.application.sent("INFO"), three.target.sent("INFO")
    kept = allowing.kept(three.call)
    before, after = {CALLER_HZ, APPLICATION_HZ}, {CALLER_HZ, TARGET_HZ}
    check_step(kept, three.call, mute.time_s, unmute.time_s, before, after)


def test_transfer_refused(allowing: Bench, tmp_path: Path) -> None:
    """The new party is busy: the two that were talking go on talking."""
    three = play(allowing, tmp_path, "uac-wait-bye", "uas-transfer-refused", "uas-busy")
    check_voices(allowing.kept(three.call), {CALLER_HZ, APPLICATION_HZ}, {CALLER_HZ, APPLICATION_HZ})
    story = the_transfer(allowing, three)
    assert (story["result"], story["sip_status"]) == ("failed", 486)
    assert allowing.cdr(three.call)["reason"] == "callee_hangup"


def test_transfer_leave(allowing: Bench, tmp_path: Path) -> None:
    """The party that transfers leaves at once: the call waits for the new one, and goes on."""
    three = play(allowing, tmp_path, "uac-wait-bye", "uas-transfer-leave", "uas-ring-bye", seconds=0.8)
    check_voices(allowing.kept(three.call), {CALLER_HZ, APPLICATION_HZ}, {CALLER_HZ, TARGET_HZ})
    [accepted] = three.call.application.received(202)
    assert accepted.header("Refer-Sub") == "false"
    assert three.call.application.received("NOTIFY") == []


def test_transfer_leave_and_nobody_answers(allowing: Bench, tmp_path: Path) -> None:
    """uas-transfer-leave, and the new party is busy: there is nobody left to talk to, so the call ends."""
    three = play(allowing, tmp_path, "uac-wait-bye", "uas-transfer-leave", "uas-busy", seconds=0.5)
    assert three.call.caller.received("BYE")
    assert the_transfer(allowing, three)["result"] == "failed"


RINGBACK_HZ = 425


def heard_by(peer: RtpPeer, begin_s: float, end_s: float) -> Samples:
    """What a G.711 phone was sent between these moments (epoch seconds)."""
    return PCMU.decode([packet.payload for packet in peer.received if begin_s < packet.time_s < end_s])


def play_heard(
    bench: Bench, folder: Path, caller: str, application: str, target: str, **plans: Any
) -> tuple[Three, RtpPeer]:
    """As `play`; also what the caller heard."""
    with RtpPeer(encoded(sine(CALLER_HZ, 12.0)), when_heard=True) as phone:
        three = play(
            bench, folder, caller, application, target, caller_edit=voice_of(phone, "caller", Codec.PCMU), **plans
        )
    return three, phone


def test_ring_bye_is_heard_ringing_by_who_was_left_alone(allowing: Bench, tmp_path: Path) -> None:
    """uas-transfer-leave: while the new party rings (uas-ring-bye) the caller hears a tone, and it is not recorded."""
    three, phone = play_heard(allowing, tmp_path, "uac-wait-bye", "uas-transfer-leave", "uas-ring-bye", seconds=1.2)
    assert three.target is not None
    rang, answered = three.target.sent(180)[0].time_s, three.target.sent(200)[0].time_s
    began = max(rang, three.call.application.received(200)[-1].time_s)  # when both rang and had left
    assert amplitude_of(heard_by(phone, began + 0.2, min(answered, began + 1.1)), RINGBACK_HZ) > 1000
    assert amplitude_of(heard_by(phone, 0, three.call.application.sent("REFER")[0].time_s), RINGBACK_HZ) < 300
    talk = heard_by(phone, answered + 0.3, answered + 0.9)
    assert amplitude_of(talk, TARGET_HZ) > 1000
    assert amplitude_of(talk, RINGBACK_HZ) < 300
    kept = allowing.kept(three.call)
    check_voices(kept, {CALLER_HZ, APPLICATION_HZ}, {CALLER_HZ, TARGET_HZ})
    assert amplitude_of(kept.samples, RINGBACK_HZ, kept.rate) < 100


def test_early_media_of_a_new_party_is_heard_by_who_was_left_alone(allowing: Bench, tmp_path: Path) -> None:
    """uas-transfer-leave, to uas-early-media: the caller hears that party, not a tone, before it has answered."""
    scenarios = "uac-call", "uas-transfer-leave", "uas-early-media"
    three, phone = play_heard(allowing, tmp_path, *scenarios, caller_length_ms=3500)
    assert three.target is not None
    spoke, answered = three.target.sent(183)[0].time_s, three.target.sent(200)[0].time_s
    early = heard_by(phone, spoke + 0.3, answered)
    assert amplitude_of(early, TARGET_HZ) > 1000
    assert amplitude_of(early, RINGBACK_HZ) < 300


def test_transfer_held(allowing: Bench, tmp_path: Path) -> None:
    """Who is on hold meanwhile hears the new party ring; it is busy, and the two talk again."""
    three, phone = play_heard(allowing, tmp_path, "uac-held", "uas-transfer-held", "uas-ring-busy")
    rang, refused = (
        next(m.time_s for m in three.call.application.received("NOTIFY") if status in m.body)
        for status in (b" 180 ", b" 486 ")
    )
    assert amplitude_of(heard_by(phone, rang + 0.2, refused), RINGBACK_HZ) > 1000
    resumed = three.call.application.sent("ACK")[-1].time_s
    talk = heard_by(phone, resumed + 0.3, resumed + 0.9)
    assert amplitude_of(talk, APPLICATION_HZ) > 1000
    assert amplitude_of(talk, RINGBACK_HZ) < 300
    check_voices(allowing.kept(three.call), {CALLER_HZ, APPLICATION_HZ}, {CALLER_HZ, APPLICATION_HZ})


def test_transfer_malformed(allowing: Bench, tmp_path: Path) -> None:
    play(allowing, tmp_path, "uac-wait-bye", "uas-transfer-malformed", None, seconds=0.5)


def test_transfer_to_where_no_route_leads(allowing: Bench, tmp_path: Path) -> None:
    """uas-transfer-malformed, to a number without a route: 404, and nobody is dialed."""
    edit = [('"x <sip:9001@', "<sip:700@198.51.100.1>"), ('<recv response="400"/>', '<recv response="404"/>')]
    play(allowing, tmp_path, "uac-wait-bye", "uas-transfer-malformed", None, seconds=0.5, edit=edit)


def test_a_transfer_needs_the_room_of_a_call(tmp_path: Path) -> None:
    """uas-transfer-malformed, to a number that is there, but its trunk has all the calls it may: 503, as for a call."""
    trunk = CHANGES["trunks"][0] | {"transfer": "allow", "max_calls": 1}
    edit = [('"x <sip:9001@', "<sip:9001@198.51.100.1>"), ('<recv response="400"/>', '<recv response="503"/>')]
    with Subject(tmp_path, changes=CHANGES | {"trunks": [trunk]}) as subject:
        three = play(Bench(subject), tmp_path, "uac-wait-bye", "uas-transfer-malformed", None, seconds=0.5, edit=edit)
        metrics = subject.api.metrics()
    [refused] = three.call.application.received(503)
    assert refused.header("Retry-After")
    assert len(three.call.application.received("INVITE")) == 1
    assert metrics['recorder_transfers_total{outcome="trunk_capacity"}'] == 1


def test_transfer_attended_elsewhere(allowing: Bench, tmp_path: Path) -> None:
    """The other call is none of ours: the new party is dialed and told which call to take the place of."""
    three = play(allowing, tmp_path, "uac-wait-bye", "uas-transfer-attended-elsewhere", "uas-bye")
    assert three.target is not None
    [invite] = three.target.received("INVITE")
    assert invite.header("Replaces") == "elsewhere@pbx;to-tag=t1;from-tag=f1"
    assert invite.header("Require") == "replaces"
    assert the_transfer(allowing, three)["kind"] == "attended"


def dialog_of(outcome: Outcome, *, of_caller: bool) -> tuple[str, str, str]:
    """The Call-ID of an answered call, and the tags of the recorder and of the phone that `outcome` is of."""
    answer = (outcome.received(200) if of_caller else outcome.sent(200))[0]
    tags = [(answer.header(name) or "").rpartition(";tag=")[2] for name in ("To", "From")]
    ours, theirs = tags if of_caller else tags[::-1]
    return answer.header("Call-ID") or "", ours, theirs


def test_transfer_attended(allowing: Bench, tmp_path: Path) -> None:
    """Both calls are ours: the far ends are connected without another INVITE, in the first call's recording."""
    subject = allowing.subject
    tone = {"callee.ulaw": write_raw(tmp_path / "660.ulaw", sine(TARGET_HZ, 1.0), Codec.PCMU)}
    # The transferor's second call, seen from the far end of it: that one is the callee here, and hangs up at the end.
    with Sipp(Plan("uas-bye", port=silent_port(subject), sounds=tone, length_ms=3500)) as consulted:
        with Sipp(Plan("uac-wait-bye", remote=subject.sip_address, called="9001", length_ms=3000)) as consulting:
            Bench.eventually(lambda: consulted.outcome().received("ACK") or None, "the ACK")
            sip_call_id, ours, theirs = dialog_of(consulting.outcome(), of_caller=True)
            named = f"{sip_call_id.replace('@', '%40')}%3Bto-tag%3D{ours}%3Bfrom-tag%3D{theirs}"
            three = play(allowing, tmp_path, "uac-wait-bye", "uas-transfer-attended", None, edit=[("REPLACED", named)])
            near = consulting.wait(10)
        far = consulted.wait(10)
    assert near.ok, near.errors
    assert far.ok, far.errors
    kept = allowing.kept(three.call)
    check_voices(kept, {CALLER_HZ, APPLICATION_HZ}, {CALLER_HZ, TARGET_HZ})
    assert len(far.received("INVITE")) == 1
    assert the_transfer(allowing, three)["kind"] == "attended"
    assert allowing.cdr(Call(near, far))["reason"] == "transferred"


def test_replaces(allowing: Bench, tmp_path: Path) -> None:
    """A caller takes the place of the first one, whose call goes on with it, in one recording."""
    subject = allowing.subject

    def tone(name: str, hertz: int) -> dict[str, Path]:
        return {name: write_raw(tmp_path / f"{hertz}.ulaw", sine(hertz, 1.0), Codec.PCMU)}

    bye = Plan("uas-bye", port=subject.application_port, sounds=tone("callee.ulaw", APPLICATION_HZ), length_ms=3000)
    with Sipp(bye) as callee:
        first = Plan("uac-wait-bye", remote=subject.sip_address, sounds=tone("caller.ulaw", CALLER_HZ))
        with Sipp(first) as caller:
            Bench.eventually(lambda: callee.outcome().received("ACK") or None, "the ACK")
            caller.pause(1.2)
            sip_call_id, ours, theirs = dialog_of(caller.outcome(), of_caller=True)
            replaces = f"{sip_call_id};to-tag={ours};from-tag={theirs}"
            sounds = tone("caller.ulaw", TARGET_HZ)
            second = Plan("uac-replaces", remote=subject.sip_address, sounds=sounds, edit=[("REPLACED", replaces)])
            with Sipp(second) as taking:
                left = caller.wait(10)  # hung up in the middle of the call
                came = taking.wait(10)
        stayed = callee.wait(10)
    for outcome in (left, came, stayed):
        assert outcome.ok, outcome.errors
    call = Call(left, stayed)
    check_voices(allowing.kept(call), {CALLER_HZ, APPLICATION_HZ}, {TARGET_HZ, APPLICATION_HZ})
    assert allowing.cdr(call)["details"]["transfers"][0]["kind"] == "replaces"
    assert len(stayed.received("INVITE")) == 1


def test_replaces_unknown(allowing: Bench) -> None:
    with Sipp(Plan("uac-replaces-unknown", remote=allowing.subject.sip_address)) as caller:
        outcome = caller.wait()
    assert outcome.ok, outcome.errors
    assert outcome.received(481)


def test_replaces_of_a_party_that_rings(allowing: Bench) -> None:
    """uac-replaces-unknown, of the early dialog of a caller whose callee rings: 481, and it rings on (RFC 3891)."""
    subject = allowing.subject
    with (
        Sipp(Plan("uas-ring", port=subject.application_port)) as callee,
        Sipp(Plan("uac-cancel", remote=subject.sip_address, length_ms=1500)) as calling,
    ):
        ringing = Bench.eventually(lambda: calling.outcome().received(180) or None, "the 180")[0]
        tags = [(ringing.header(name) or "").rpartition(";tag=")[2] for name in ("To", "From")]
        named = "{};to-tag={};from-tag={}".format(ringing.header("Call-ID"), *tags)
        edit = [("nobody@nowhere;to-tag=1;from-tag=2", named)]
        with Sipp(Plan("uac-replaces-unknown", remote=subject.sip_address, edit=edit)) as taking:
            refused = taking.wait()
        outcomes = calling.wait(10), callee.wait(10)
    assert refused.received(481), refused.errors
    assert all(outcome.ok for outcome in outcomes)
    assert outcomes[1].received("CANCEL")


def test_replaces_of_a_phone_that_rings(allowing: Bench, tmp_path: Path) -> None:
    """uac-replaces, of the early dialog of the callee that rings: it is cancelled, and the caller is answered."""
    subject = allowing.subject

    def tone(name: str, hertz: int) -> dict[str, Path]:
        return {name: write_raw(tmp_path / f"{hertz}.ulaw", sine(hertz, 1.0), Codec.PCMU)}

    first = Plan("uac-call", remote=subject.sip_address, sounds=tone("caller.ulaw", CALLER_HZ), length_ms=1200)
    with Sipp(Plan("uas-ring", port=subject.application_port)) as phone, Sipp(first) as calling:
        ringing = Bench.eventually(lambda: phone.outcome().sent(180) or None, "the 180")[0]
        theirs, ours = ((ringing.header(name) or "").rpartition(";tag=")[2] for name in ("To", "From"))
        named = f"{ringing.header('Call-ID')};to-tag={ours};from-tag={theirs}"
        sounds = tone("caller.ulaw", TARGET_HZ)
        second = Plan("uac-replaces", remote=subject.sip_address, sounds=sounds, edit=[("REPLACED", named)])
        with Sipp(second) as taking:
            caller, rang, took = calling.wait(15), phone.wait(10), taking.wait(10)
    for outcome in (caller, rang, took):
        assert outcome.ok, outcome.errors
    assert rang.received("CANCEL")
    call = Call(caller, rang)
    cdr = allowing.cdr(call)
    assert (cdr["result"], cdr["reason"]) == ("completed", "caller_hangup")
    assert cdr["b_sip_call_id"] == took.sent("INVITE")[0].header("Call-ID")
    [story] = cdr["details"]["transfers"]
    assert (story["kind"], story["side"], story["result"]) == ("pickup", "b", "completed")
    kept = allowing.kept(call)
    middle = kept.samples[kept.rate // 4 : -kept.rate // 4]
    voices = {hz for hz in (CALLER_HZ, APPLICATION_HZ, TARGET_HZ) if amplitude_of(middle, hz, kept.rate) > 1000}
    assert voices == {CALLER_HZ, TARGET_HZ}


def test_replaces_of_a_trunk_that_may_not(bench: Bench) -> None:
    """uac-replaces-unknown, and the trunk may not transfer: 603, whether there is such a call or not."""
    with Sipp(Plan("uac-replaces-unknown", remote=bench.subject.sip_address)) as caller:
        outcome = caller.wait()
    assert outcome.ok, outcome.errors
    assert outcome.received(603)
