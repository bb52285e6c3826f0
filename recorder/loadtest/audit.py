"""Holds what was recorded against the calls that were made: every call, every file, every manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recorder.byte_store import PLAIN, Storage
from recorder.file_format import FileFormat, split_name
from recorder.identifiers import RecordingName
from recorder.loadtest.subject import Api
from recorder.loadtest.traffic import CallSeen
from recorder.loadtest.verify import Expected, Silence, Verdict, verify_file
from recorder.sealed_store import fingerprint

# What the clocks of SIPp and of the recording may differ by, on top of the guards.
_SLACK_S = 0.060
_READERS = 4


@dataclass(frozen=True, slots=True)
class Guards:
    """The recorder's guard intervals around a muted span."""

    before_s: float = 0.300
    after_s: float = 0.060


@dataclass(slots=True)
class Finding:
    """One call and what there is of it. `durable_s`: from the hang-up to its finished manifest on the disk."""

    called: str
    dialog_id: str
    sensitive: bool
    file: str | None = None
    faults: list[str] = field(default_factory=list)
    verdict: Verdict | None = None
    durable_s: float | None = None
    gaps: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with this call's recording."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings of one phase. `left_over` names unfinished files (.part) that lie in the folder."""

    findings: list[Finding]
    left_over: list[str]

    @property
    def good(self) -> int:
        """How many calls have a right and complete recording."""
        return sum(finding.ok for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether all have, and nothing unfinished lies about."""
        return self.good == len(self.findings) and not self.left_over

    def faults(self) -> list[str]:
        """One line for each call that has a fault, and for each unfinished file."""
        lines = [
            f"call {finding.called} ({finding.file or 'no file'}): {'; '.join(finding.faults)}"
            for finding in self.findings
            if finding.faults
        ]
        return lines + [f"{name}: is still unfinished" for name in self.left_over]


def audit(
    folder: Path,
    calls: Iterable[CallSeen],
    guards: Guards,
    api: Api | None = None,
    strict: bool = False,
    file_format: FileFormat = FileFormat(),  # noqa: B008 - immutable
    storage: Storage = PLAIN,
) -> Audit:
    """Check the recordings in `folder` of all `calls`; with `api`, also that its index knows each of them."""
    manifests = _read_manifests(folder)

    def examine(call: CallSeen) -> Finding:
        return _examine(folder, call, manifests, expectation(call, guards, strict), file_format, storage)

    with ThreadPoolExecutor(_READERS) as readers:
        findings = list(readers.map(examine, calls))
    if api is not None:
        for finding in findings:
            _check_index(finding, api)
    return Audit(findings, sorted(path.name for path in folder.glob("*.part")))


def expectation(call: CallSeen, guards: Guards, strict: bool = False) -> Expected:
    """What a call's recording has to hold, going by what its two ends did and when."""
    silences = []
    if call.sensitive and call.answered is not None and call.muting is not None:
        start = call.answered
        end = call.hung_up if call.hung_up is not None else start
        # Silent for sure from the moment the application had its 200; perhaps from the moment it asked. Never resumed:
        # silent to the end.
        muted, unmuting = call.muted or call.muting, call.unmuting or end + 10
        unmuted = call.unmuted or end + 10
        must = (muted - start - guards.before_s + _SLACK_S, unmuting - start + guards.after_s - _SLACK_S)
        may = (call.muting - start - guards.before_s - _SLACK_S, unmuted - start + guards.after_s + _SLACK_S)
        silences.append(Silence(must, may))
    expected = Expected(call.length_s, silences)
    return expected.strict() if strict else expected


def _read_manifests(folder: Path) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """Manifests by called number. A broken one is none: its call is found to have no recording."""
    found: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for path in folder.glob("*.json"):
        try:
            manifest = json.loads(path.read_bytes())
            called = str(manifest["parties"]["called"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.setdefault(called, []).append((path, manifest))
    return found


def _examine(
    folder: Path,
    call: CallSeen,
    manifests: Mapping[str, list[tuple[Path, dict[str, Any]]]],
    expected: Expected,
    file_format: FileFormat,
    storage: Storage,
) -> Finding:
    finding = Finding(call.called, call.dialog_id, call.sensitive)
    if call.answered is None:
        finding.faults.append("call: it was never answered")
        return finding
    if call.hung_up is None or call.ended is None:
        finding.faults.append("call: it did not end as it should")
    if call.sensitive and call.unmuted is None:
        finding.faults.append("call: its mute or its unmute was not answered with 200")
    mine = manifests.get(call.called, [])
    if len(mine) != 1:
        unnamed = [path.name for path in folder.glob(f"*{call.dialog_id}*")]
        finding.faults.append(
            f"missing: there is no manifest of it{', but ' + ', '.join(unnamed) if unnamed else ''}"
            if not mine
            else f"twice: {', '.join(path.name for path, _ in mine)}"
        )
        return finding
    path, manifest = mine[0]
    finding.file = str(manifest.get("file_name"))
    finding.gaps = len(manifest.get("gaps", ()))
    if call.hung_up is not None:
        finding.durable_s = path.stat().st_mtime - call.hung_up
    _check_manifest(path, manifest, call, finding)
    recording = path.parent / finding.file
    if recording.exists():
        finding.verdict = verify_file(recording, expected, file_format, storage)
        finding.faults += finding.verdict.faults
    return finding


def _check_manifest(path: Path, manifest: Mapping[str, Any], call: CallSeen, finding: Finding) -> None:
    faults = finding.faults
    recording = path.parent / str(manifest.get("file_name"))
    try:
        name = RecordingName.parse(split_name(recording.name)[0])
        finding.dialog_id = name.dialog_id
    except ValueError as error:
        faults.append(f"name: {error}")
    if not recording.exists():
        faults.append("missing: the manifest is there, the recording is not")
        return
    with recording.open("rb") as file:
        size, sha256 = fingerprint(file)
    if sha256 != manifest.get("sha256"):
        faults.append("manifest: its sha256 is not that of the file")
    if size != manifest.get("bytes"):
        faults.append(f"manifest: it says {manifest.get('bytes')} bytes, the file has {size}")
    redactions = len(manifest.get("redactions", ()))
    if redactions != int(call.sensitive):
        faults.append(f"manifest: {redactions} redactions instead of {int(call.sensitive)}")
    if manifest.get("dropped_samples"):
        faults.append(f"manifest: {manifest['dropped_samples']} samples were dropped")
    if manifest.get("recovered"):
        faults.append("manifest: marked as recovered")


def _check_index(finding: Finding, api: Api) -> None:
    if finding.file is None:
        return
    if not api.knows(finding.dialog_id):
        finding.faults.append(f"index: GET /api/v1/recordings/{finding.dialog_id} does not find it")
