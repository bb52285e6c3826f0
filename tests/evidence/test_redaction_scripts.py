"""Generated calls with sensitive steps through the real recorder: nothing of them is kept, and little else is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Subject
from tests.evidence.redaction import (
    ACCOUNTS,
    AUDIBLE,
    GUARD_AFTER_S,
    GUARD_BEFORE_S,
    LOUD,
    Judgement,
    PartWatch,
    Script,
    Stage,
    Theatre,
    generate,
    judge,
    scan,
)
from tests.evidence.redaction_sipp import deeds_of, spans_of, write
from tests.peers.crowd import PACKET_S, Choir
from tests.tones import read_wav

_log = logging.getLogger(__name__)

FULL = os.environ.get("RECORDER_EVIDENCE") == "full"
AT_ONCE = 100 if FULL else 30
SCRIPTS = 1000 if FULL else 30
SPREAD_S = 0.02  # between two INVITEs
SLACK_S = 0.100  # this machine's clocks and threads


def changes() -> dict[str, Any]:
    """The accounts of the scripts, by the first digit that is called; the trunk may transfer."""
    trunk = {"name": "caller", "sources": ["127.0.0.0/8"], "identity_headers": {"dialog": "X-Dialog-Id"}}
    accounts = [
        {"id": f"steps-{digit}", "group": "tests", "record": True, "match": {"called_prefix": digit}, **account}
        for digit, account in ACCOUNTS.items()
    ]
    return {"trunks": [trunk | {"transfer": "allow"}], "accounts": accounts}


async def play(subject: Subject, choir: Choir, scripts: list[Script]) -> list[Stage]:
    """All of them at once, each a little later than the one before."""

    async def one(theatre: Theatre, place: int, script: Script) -> Stage:
        await asyncio.sleep(place * SPREAD_S)
        return await theatre.play(script)

    async with Theatre(subject, choir) as theatre:
        return list(await asyncio.gather(*(one(theatre, place, script) for place, script in enumerate(scripts))))


@pytest.mark.moments
@pytest.mark.timeout(900)
def test_redaction_scripts(tmp_path: Path) -> None:
    """0 sensitive samples in file, `.part` and memory, 0 secrets in what is written; no more lost than the guards."""
    subject = Subject(tmp_path / "recorder", calls=2 * AT_ONCE, changes=changes())
    subject.configuration["http"]["tokens"][0]["may"] = ["control"]
    scripts = [generate(number) for number in range(1, SCRIPTS + 1)]
    judged: list[tuple[Stage, Judgement]] = []
    memory = {"decoded": 0, "packets": 0, "normal": 0}
    with subject, Choir() as choir, PartWatch(subject.recordings) as watch:
        for first in range(0, len(scripts), AT_ONCE):
            stages = asyncio.run(play(subject, choir, scripts[first : first + AT_ONCE]))
            for name, count in scan(subject.pid).items():
                memory[name] += count
            deadline = time.monotonic() + 30
            while not all(subject.api.knows(stage.dialog_id) for stage in stages):
                assert time.monotonic() < deadline, "not all recordings were indexed"
                time.sleep(0.1)
            judged += [(stage, judge(stage, subject.recordings)) for stage in stages]
        metrics = subject.api.metrics()
        assert subject.stop() == 0, subject.log_tail()
    report(judged, watch, memory)
    leaked = [(stage.script, found.leaked) for stage, found in judged if found.leaked and stage.slowest_s < 0.2]
    if watch.leaks or leaked or memory["decoded"]:  # for which no moment is an excuse
        pytest.fail(f"{watch.leaks}, {leaked}, {memory}")
    assert [(stage.script, found.trouble) for stage, found in judged if found.trouble] == []
    most_s = GUARD_BEFORE_S + PACKET_S + SLACK_S, GUARD_AFTER_S + PACKET_S + SLACK_S
    lost = [(stage.script, found.before_s, found.after_s) for stage, found in judged]
    assert [one for one in lost if one[1] > most_s[0] or one[2] > most_s[1]] == []
    assert metrics["recorder_redactions_unresumed_total"] == sum(len(stage.open_steps) for stage, _ in judged)
    assert subject.trouble() == []
    written = {
        path: path.read_bytes() for path in subject.folder.rglob("*") if path.is_file() and path.suffix != ".wav"
    }
    assert [path for stage, _ in judged for path, content in written.items() if stage.secret.encode() in content] == []


@pytest.mark.moments
def test_redaction_scripts_by_sipp(tmp_path: Path) -> None:
    """The same between two SIPps, with the application's own steps alone."""
    scripts = [script for script in map(generate, range(1, 10_000)) if deeds_of(script)][: 40 if FULL else 1]
    leaked, silences = [], 0
    with Subject(tmp_path / "recorder", changes=changes()) as subject, PartWatch(subject.recordings) as watch:
        for script in scripts:
            folder = tmp_path / str(script.number)
            folder.mkdir()
            caller, application = write(script, folder)
            dialog_id = f"{script.number:032X}"
            edit = [("CSeq: 1 INVITE", f"CSeq: 1 INVITE\nX-Dialog-Id: {dialog_id}")]
            with (
                Sipp(Plan(application, port=subject.application_port, timeout_s=30)) as callee,
                Sipp(
                    Plan(caller, subject.sip_address, called=f"{script.account}000", edit=edit, timeout_s=30)
                ) as calling,
            ):
                for phone in (calling, callee):
                    outcome = phone.wait(20)
                    assert outcome.ok, (script, outcome.errors)
            deadline = time.monotonic() + 10
            while not subject.api.knows(dialog_id):
                assert time.monotonic() < deadline, "the recording was not indexed"
                time.sleep(0.05)
            [path] = [path for path in subject.recordings.glob(f"*~{dialog_id}.*") if path.suffix != ".json"]
            samples = read_wav(path)[0]
            spans = spans_of(deeds_of(script), script.length_s)
            if spans[0][0] > GUARD_BEFORE_S:  # otherwise it may be silent from the first to the last
                assert (samples > AUDIBLE).any()
            leaked += [script] if (np.abs(samples.astype(int)) > LOUD).any() else []
            redactions = json.loads(path.with_suffix(".json").read_text())["redactions"]
            silences += len(redactions)
            assert len(redactions) <= len(spans)
    assert subject.trouble() == []
    _log.info(
        "%d scripts by SIPp, %d silences, %d leaked; .part read %d times",
        len(scripts),
        silences,
        len(leaked),
        watch.reads,
    )
    assert watch.leaks == []
    assert leaked == []


def report(judged: list[tuple[Stage, Judgement]], watch: PartWatch, memory: dict[str, int]) -> None:
    """Show the figures."""
    measured = [found for _, found in judged if found.measured]
    kinds = {deed.what for stage, _ in judged for deed in stage.script.deeds}
    _log.info(
        "%d scripts (%s), %d silences, %d never resumed; leaked samples: %d; .part read %d times: %d leaks; "
        "memory: %s; lost of what is not sensitive in %d scripts: at most %.0f ms before and %.0f ms after; "
        "slowest answer %.0f ms",
        len(judged),
        ", ".join(sorted(kinds)),
        sum(len(stage.asked) for stage, _ in judged),
        sum(bool(stage.open_steps) for stage, _ in judged),
        sum(found.leaked for _, found in judged),
        watch.reads,
        len(watch.leaks),
        memory,
        len(measured),
        1000 * max((found.before_s for found in measured), default=0),
        1000 * max((found.after_s for found in measured), default=0),
        1000 * max(stage.slowest_s for stage, _ in judged),
    )
