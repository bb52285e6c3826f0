"""kill -9 at any moment under running calls, then a start: every recording is there, playable, and hardly short."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from recorder import keys, settings
from recorder.byte_store import Storage
from recorder.keyring import add_key
from recorder.loadtest.audit import Guards, expectation
from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Subject
from recorder.loadtest.traffic import CallSeen, note
from recorder.loadtest.verify import Silence
from recorder.sealed_store import SealingStorage, fingerprint
from recorder.signing import make_pair
from tests.evidence.calls import judge
from tests.evidence.size import FULL, figures

KILLS = 200 if FULL else 1  # in small, test_power_loss kills another recorder, which encrypts
LANES = 3 if FULL else 1  # recorders side by side
KILLS_A_RECORDER = 20
LONG_CALLS, SHORT_CALLS = 14, 6
LONGEST_LOSS_S = 1.0 if FULL else 2.0  # the test run shares the machine
# Who was answered less long ago than this when the process died may have no file yet.
UNBORN_S = 0.1
# The second digit of the number that is called says what its recording is to be: encoding, in the manifest.
FORMATS = {
    "1": ("pcm16", "pcm_s16le"),
    "2": ("flac", "flac"),
    "3": ("ulaw", "pcm_mulaw"),
    "4": ("opus", "opus"),
}
ENCODE_S = 60  # FLAC and Opus are finished beside the running calls


@dataclass(slots=True)
class Found:
    """What a number of kills have left. Times in seconds; `kinds` counts those recovered and muted of each format."""

    kills: int = 0
    calls: int = 0
    recovered: int = 0
    muted: int = 0
    unborn: int = 0
    short_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Found) -> None:
        self.kinds += other.kinds
        for name in ("kills", "calls", "recovered", "muted", "unborn", "short_s", "faults"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@pytest.mark.timeout(1800)
def test_kill_9_at_any_moment_loses_no_recording(tmp_path: Path) -> None:
    found = Found()
    seeds = [secrets.randbits(32) for _ in range(-(-KILLS // min(KILLS, KILLS_A_RECORDER)))]
    shares = [KILLS // len(seeds)] * len(seeds)
    if not FULL:
        seeds, shares = seeds * LANES, [KILLS // LANES] * LANES
    began = time.monotonic()
    with ThreadPoolExecutor(LANES) as lanes:
        lane = [
            lanes.submit(
                kill_again_and_again, tmp_path / str(number), kills, random.Random(seed + number), number % 2 == 1
            )
            for number, (seed, kills) in enumerate(zip(seeds, shares, strict=True))
        ]
        for one in lane:
            found.add(one.result())
    ordered = sorted(found.short_s)
    figures.info(
        "%d kills (seeds %s) in %.0f s: %d calls, %d recovered, %d within a muted step; %d answered less than %.1f s "
        "before the kill and without a file; short by %.2f s (median), %.2f s (most); %d by more than 1 s",
        *(found.kills, seeds, time.monotonic() - began, found.calls, found.recovered, found.muted, found.unborn),
        *(UNBORN_S, ordered[len(ordered) // 2], ordered[-1], sum(short > 1.0 for short in ordered)),
    )
    figures.info("recovered, and of these muted: %s", dict(sorted(found.kinds.items())))
    assert found.faults == []
    assert found.calls > 10 * KILLS
    assert found.recovered > 5 * KILLS
    if ordered[-1] > LONGEST_LOSS_S and not FULL:  # a stalled machine loses more: it is asked once again
        again = kill_again_and_again(tmp_path / "again", 1, random.Random(seeds[0]), sealed=False)
        assert again.faults == []
        ordered = sorted(again.short_s)
    assert ordered[-1] <= LONGEST_LOSS_S


def kill_again_and_again(folder: Path, kills: int, chance: random.Random, sealed: bool) -> Found:
    found = Found()
    with recorder_of_all_formats(folder, sealed) as subject:
        for _ in range(kills):
            found.add(one_kill(subject, chance))
    return found


def recorder_of_all_formats(home: Path, sealed: bool, **recording: object) -> Subject:
    """A recorder with an account a format; `sealed`: it encrypts and signs."""
    home.mkdir()
    if sealed:
        make_pair(home / "signing.pem")
        add_key(home / "encryption.keys", "first")
        recording |= {"signing_key_file": "signing.pem", "encryption": {"key_file": "encryption.keys"}}
    accounts = [
        {
            "id": encoding,
            "group": "tests",
            "record": True,
            "match": {"called": f".{digit}.*"},
            "format": {"encoding": encoding},
        }
        for digit, (encoding, _) in FORMATS.items()
    ]
    changes = {"accounts": accounts, "recording": recording}
    return Subject(home, calls=LONG_CALLS + SHORT_CALLS + 4, changes=changes)


def one_kill(
    subject: Subject, chance: random.Random, die: Callable[[], None] | None = None, unborn_s: float = UNBORN_S
) -> Found:
    """Place calls, kill the recorder at a random moment of them, start it again, and look at what there is.

    `die` does it; it is kill -9 by default. Who was answered less than `unborn_s` before may have no file.
    """
    until_kill_s = chance.uniform(0.3, 3.2)
    calls = planned(chance)
    mute = {"mute_after": chance.randrange(100, 1500), "mute_for": chance.randrange(300, 4000)}
    sipps = [Sipp(Plan("uas-load", calls=len(calls), port=subject.application_port, variables=mute, trace=False))]
    # Those that end when the process dies, so that it dies in the middle of making their files durable, too.
    length_s = {False: 30.0, True: max(0.05, until_kill_s - chance.uniform(0.0, 0.5))}
    for short in (False, True):
        some = [call for call, ends in calls if ends is short]
        rows = [(call.called, f"5{call.called[1:]}", call.dialog_id) for call in some]
        plan = Plan(
            "uac-load",
            remote=subject.sip_address,
            calls=len(some),
            rate=100,
            length_ms=round(1000 * length_s[short]),
            rows=rows,
            trace=False,
        )
        sipps.append(Sipp(plan))
    try:
        for sipp in sipps:
            sipp.start()
        time.sleep(until_kill_s)  # the moment is what chance says, whatever is going on
        known = {one["dialog_id"] for one in subject.api.get("recordings", limit=200)["recordings"]}
        killed = time.time()
        (die or subject.kill)()
        seen = {call.called: call for call, _ in calls}
        for sipp in sipps:
            for line in sipp.outcome().log:
                note(seen, line)
    finally:
        for sipp in sipps:
            sipp.kill()
            sipp.close()
    subject.start()
    return look(subject, [call for call, _ in calls], killed, known, unborn_s, torn=die is not None)


def planned(chance: random.Random) -> list[tuple[CallSeen, bool]]:
    """The calls, and whether each is to end by itself. A number that begins with 8 has a sensitive step."""
    run = f"{chance.randrange(10**6):06}"
    calls = []
    for number in range(LONG_CALLS + SHORT_CALLS):
        sensitive = number % 3 == 0
        called = f"{8 if sensitive else 7}{1 + number % len(FORMATS)}{run}{number:03}"
        calls.append((CallSeen(called, secrets.token_hex(16).upper(), sensitive), number >= LONG_CALLS))
    return calls


def look(
    subject: Subject, calls: Sequence[CallSeen], killed: float, kept: Set[str], unborn_s: float, torn: bool
) -> Found:
    """Look at what there is of each call. Those in `kept` were in the index before: they are whole."""
    found = Found(kills=1)
    storage = keys.storage(settings.load(subject.folder / "recorder.yaml"))
    end = time.monotonic() + ENCODE_S
    while not finished(subject) and time.monotonic() < end:
        time.sleep(0.05)
    known = {one["id"] for one in subject.api.get("cdrs", limit=200)["cdrs"]}
    for call in calls:
        if call.answered is None or call.answered >= killed:
            continue
        found.calls += 1
        manifests = list(subject.recordings.glob(f"*~{call.dialog_id}.json"))
        if not manifests and killed - call.answered < unborn_s:
            found.unborn += 1
            continue
        if len(manifests) != 1:
            found.faults.append(f"{call.called}: {len(manifests)} manifests")
            continue
        faults, short_s, recovered = examine(manifests[0], call, killed, storage, torn)
        if call.dialog_id in kept and recovered:
            faults.append("was kept, and is not any more")
        if call.dialog_id not in known:
            faults.append("no CDR")
        if not subject.api.knows(call.dialog_id):
            faults.append("not in the index")
        found.faults += [f"{call.called}, answered {killed - call.answered:.2f} s before: {fault}" for fault in faults]
        found.short_s.append(short_s)
        found.recovered += recovered
        muted = recovered and call.muted is not None and call.unmuted is None
        found.muted += muted
        kind = FORMATS[call.called[1]][0] + (", sealed" if isinstance(storage, SealingStorage) else "")
        found.kinds[kind] += recovered
        found.kinds[f"{kind}, muted"] += muted
    left = [path.name for path in subject.recordings.iterdir() if path.suffix in (".part", ".tmp", ".journal")]
    if left:
        found.faults.append(f"left over: {left}")
    return found


def finished(subject: Subject) -> bool:
    unfinished = any(path.suffix == ".part" for path in subject.recordings.iterdir())
    return not unfinished and subject.api.metrics()["recorder_finish_queue_depth"] == 0


def examine(path: Path, call: CallSeen, killed: float, storage: Storage, torn: bool) -> tuple[list[str], float, bool]:
    """What is wrong with the recording of a call; by how much it is short; and whether it had to be recovered.

    `torn`: a disk may have made silence of the end of one that was being written.
    """
    manifest: dict[str, Any] = json.loads(path.read_text())
    torn = torn and manifest["recovered"] and not manifest["encrypted"]
    assert call.answered is not None
    until = min(killed, call.hung_up or killed)
    call.hung_up = call.hung_up or killed
    silences = expectation(call, Guards()).silences
    if call.muting is not None and call.muted is None:  # nobody knows whether the mute had come in
        silences = [Silence((0, 0), (call.muting - call.answered - 0.4, 60))]
    recording, encoding = path.with_name(manifest["file_name"]), FORMATS[call.called[1]][1]
    judged = judge(recording, silences, storage=storage, lossy=encoding == "opus", torn=torn)
    faults = judged.faults
    if (manifest["format"]["encoding"], manifest["encrypted"]) != (encoding, isinstance(storage, SealingStorage)):
        faults.append(f"is {manifest['format']}, encrypted: {manifest['encrypted']}")
    with recording.open("rb") as file:
        if fingerprint(file) != (manifest["bytes"], manifest["sha256"]):
            faults.append("the manifest has another checksum")
    if judged.length_s > 0.1 and (not manifest["legs"]["b"] or not manifest["cdr"]["details"].get("trunk")):
        faults.append(f"the manifest does not know the call: {manifest['legs']}, {manifest['cdr']}")
    reached_step = call.muted is not None and judged.length_s > call.muted - call.answered + 0.1
    if manifest["recovered"] and reached_step and not manifest["redactions"]:
        faults.append(f"the manifest does not tell of the muted step, and there are {judged.length_s:.2f} s")
    if manifest["duration_s"] != judged.length_s and not torn:
        faults.append(f"the manifest says {manifest['duration_s']} s, the file has {judged.length_s}")
    if judged.length_s > until - call.answered + 0.15:
        faults.append(f"{judged.length_s:.2f} s long, {until - call.answered:.2f} s were spoken")
    return faults, until - call.answered - judged.length_s, bool(manifest["recovered"])
