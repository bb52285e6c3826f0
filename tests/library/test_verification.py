"""Each kind of damage is named, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from recorder.cli import main
from recorder.library.index import Index
from recorder.library.ledger import LEDGER_NAME, Ledger, enroll, read_lines
from recorder.library.manifest import Manifest, encoded, manifest_path
from recorder.library.verification import IndexFacts, Report, verify
from recorder.signing import PublicKeys, Signer, canonical, make_pair

from .conftest import CallMaker, SampleCall

CALLS = 6


class Kept:
    """A folder of recordings, as the recorder leaves it: signed, in ledger and index."""

    def __init__(self, folder: Path, index: Index, signer: Signer, make_call: CallMaker) -> None:
        self.folder, self.index, self.signer, self.make_call = folder, index, signer, make_call
        self.keys = PublicKeys([signer.public_key])
        self.calls = [make_call(samples=800 + number) for number in range(CALLS)]
        with closing(Ledger(folder, signer)) as ledger:
            for call in self.calls:
                manifest = self.write(call)
                ledger.append([(manifest, encoded(manifest))])
                index.add_calls([(call.cdr, manifest)], ledger.head)
            self.head = ledger.head

    def write(self, call: SampleCall, signer: Signer | None = None) -> Manifest:
        manifest = call.manifest_of(call.write_audio(self.folder)).model_copy(update={"cdr": call.cdr})
        manifest = manifest.signed(signer or self.signer)
        manifest.write(self.folder)
        return manifest

    def audio(self, number: int) -> Path:
        return self.folder / self.calls[number].file_name

    def manifest(self, number: int) -> Path:
        return manifest_path(self.audio(number))

    def verify(self, *only: str, **changes: Any) -> Report:
        values: dict[str, Any] = {
            "index": IndexFacts(self.index.ledger_head(), self.index.fingerprints()),
            "keys": self.keys,
            "only": only,
        }
        return verify(self.folder, **values | changes)

    def named(self, **changes: Any) -> list[tuple[str, str]]:
        return [(problem.kind, problem.name) for problem in self.verify(**changes).problems]


@pytest.fixture
def kept(folder: Path, index: Index, make_call: CallMaker, tmp_path: Path) -> Kept:
    make_pair(tmp_path / "signing.pem")
    return Kept(folder, index, Signer.load(tmp_path / "signing.pem"), make_call)


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_what_is_as_it_was_kept_is_right(kept: Kept) -> None:
    report = kept.verify()
    assert (report.ok, report.recordings, report.done, report.waiting, report.in_work) == (True, CALLS, CALLS, 0, 0)
    assert report.bytes == report.done_bytes == sum(kept.audio(number).stat().st_size for number in range(CALLS))
    assert (report.head, report.signed_by) == (kept.head, kept.signer.key_id)


@pytest.mark.parametrize("offset", [0, 60, -1])
def test_a_changed_byte_is_named(kept: Kept, offset: int) -> None:
    flip(kept.audio(2), offset)
    [problem] = kept.verify().problems
    assert (problem.kind, problem.name) == ("changed", kept.audio(2).name)
    assert "its SHA-256 is" in problem.what


@pytest.mark.parametrize("change", [-2, 2])
def test_a_changed_length_is_named(kept: Kept, change: int) -> None:
    size = kept.audio(2).stat().st_size
    os.truncate(kept.audio(2), size + change)
    [problem] = kept.verify().problems
    assert (problem.kind, problem.name) == ("changed", kept.audio(2).name)
    assert problem.what == f"has {size + change} bytes, and the ledger says {size}"


def test_a_removed_recording_is_named(kept: Kept) -> None:
    kept.audio(1).unlink()
    assert kept.named() == [("removed", kept.audio(1).name)]


def test_a_recording_that_was_removed_with_its_manifest_is_named(kept: Kept) -> None:
    kept.audio(1).unlink()
    kept.manifest(1).unlink()
    [problem] = kept.verify().problems
    assert (problem.kind, problem.name) == ("removed", kept.audio(1).name)
    assert problem.what == "the recording is gone, and so is its manifest; the ledger has it"


def test_a_removed_manifest_is_named(kept: Kept) -> None:
    kept.manifest(1).unlink()
    assert kept.named() == [("removed", kept.manifest(1).name)]


def test_a_manifest_that_was_removed_and_made_anew_is_named(kept: Kept) -> None:
    kept.manifest(1).unlink()
    kept.calls[1].manifest(sha256=hashlib.sha256(kept.audio(1).read_bytes()).hexdigest()).signed(kept.signer).write(
        kept.folder
    )
    with closing(Ledger(kept.folder, kept.signer, kept.head)) as ledger:
        assert enroll(kept.folder, ledger) == []
    assert kept.named() == [("manifest", kept.manifest(1).name)]


def test_swapped_manifests_are_named(kept: Kept) -> None:
    first, second = kept.manifest(3).read_bytes(), kept.manifest(4).read_bytes()
    kept.manifest(3).write_bytes(second)
    kept.manifest(4).write_bytes(first)
    assert kept.named() == [("swapped", kept.manifest(3).name), ("swapped", kept.manifest(4).name)]


def test_swapped_recordings_are_named(kept: Kept) -> None:
    kept.audio(3).rename(kept.folder / "other")
    kept.audio(4).rename(kept.audio(3))
    (kept.folder / "other").rename(kept.audio(4))
    first, second = kept.verify().problems
    assert (first.kind, first.name) == ("swapped", kept.audio(3).name)
    assert first.what == f"holds what was recorded as {kept.audio(4).name}"
    assert (second.kind, second.name) == ("swapped", kept.audio(4).name)


def edited(kept: Kept, number: int) -> dict[str, Any]:
    """Another file in a recording's place, and a manifest that fits it."""
    flip(kept.audio(number), 100)
    content: dict[str, Any] = json.loads(kept.manifest(number).read_bytes())
    content["sha256"] = hashlib.sha256(kept.audio(number).read_bytes()).hexdigest()
    return content


def test_a_manifest_that_was_edited_to_fit_a_changed_file_is_named(kept: Kept) -> None:
    kept.manifest(2).write_text(json.dumps(edited(kept, 2), indent=1))
    assert kept.named() == [("manifest", kept.manifest(2).name), ("changed", kept.audio(2).name)]


def test_a_manifest_that_was_edited_alone_is_named(kept: Kept) -> None:
    content = json.loads(kept.manifest(2).read_bytes())
    content["parties"]["calling"] = "+306900000000"
    kept.manifest(2).write_text(json.dumps(content, indent=1))
    assert kept.named() == [("manifest", kept.manifest(2).name)]


def test_a_manifest_that_is_no_json_is_named(kept: Kept) -> None:
    kept.manifest(2).write_bytes(b"\xff")
    assert kept.named() == [("manifest", kept.manifest(2).name)]


@pytest.mark.parametrize("with_manifest", ["unsigned", "another's key", "none"])
def test_an_added_recording_is_named(kept: Kept, tmp_path: Path, with_manifest: str) -> None:
    added = kept.make_call(samples=80)
    make_pair(tmp_path / "theirs.pem")
    signer = Signer.load(tmp_path / "theirs.pem") if with_manifest == "another's key" else None
    manifest = kept.write(added, signer)
    if with_manifest == "unsigned":
        manifest.model_copy(update={"signature": None}).write(kept.folder)
    if with_manifest == "none":
        manifest.path_in(kept.folder).unlink()
    assert kept.named() == [("added", added.file_name)]


def test_a_recording_that_the_index_alone_has_is_told_from_an_added_one(kept: Kept) -> None:
    call = kept.make_call(samples=80)
    manifest = kept.write(call).model_copy(update={"signature": None})
    manifest.write(kept.folder)
    kept.index.add_calls([(call.cdr, manifest)])
    assert kept.named() == [("ledger", call.file_name)]


def test_a_signed_recording_that_waits_for_its_line_is_no_fault(kept: Kept) -> None:
    kept.write(kept.make_call(samples=80))
    report = kept.verify()
    assert (report.problems, report.waiting) == ([], 1)


def rewrite(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = folder / LEDGER_NAME
    path.write_bytes(b"".join(line + b"\n" for line in change([content for _, content in read_lines(path)])))


def test_a_cut_ledger_is_named(kept: Kept) -> None:
    rewrite(kept.folder, lambda lines: lines[:-2])
    [problem] = kept.verify().problems
    assert (problem.kind, problem.name) == ("ledger", LEDGER_NAME)
    assert problem.what == "ends at line 5, and the index knows line 7: lines were cut off"


def test_a_ledger_that_is_gone_is_named(kept: Kept) -> None:
    (kept.folder / LEDGER_NAME).unlink()
    assert kept.named() == [("ledger", LEDGER_NAME)]


def test_a_cut_ledger_is_found_without_the_index_by_a_head_that_was_noted(kept: Kept) -> None:
    rewrite(kept.folder, lambda lines: lines[:-2])
    for number in (4, 5):
        kept.audio(number).unlink()
        kept.manifest(number).unlink()
    assert kept.named(index=None) == []  # nobody can tell
    assert kept.named(index=None, noted=kept.head) == [("ledger", LEDGER_NAME)]


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_line_that_was_removed_with_its_recording_is_named(kept: Kept, number: int) -> None:
    rewrite(kept.folder, lambda lines: lines[: number + 1] + lines[number + 2 :])
    kept.audio(number).unlink()
    kept.manifest(number).unlink()
    problems = kept.verify().problems
    assert all(problem.kind in ("ledger", "removed") for problem in problems)
    assert problems[0].what.startswith(f"line {number + 2}: does not follow the line before it")
    assert [problem.name for problem in problems if problem.kind == "removed"] == [kept.audio(number).name]


def forged(lines: list[bytes], number: int) -> list[bytes]:
    """The ledger of somebody who has no key: one line left out, and all behind it chained anew."""
    made, previous = lines[:number], hashlib.sha256(lines[number - 1]).hexdigest()
    for content in lines[number + 1 :]:
        line = json.loads(content) | {"previous": previous, "line": len(made) + 1}
        made.append(canonical(line))
        previous = hashlib.sha256(made[-1]).hexdigest()
    return made


def test_a_chain_that_was_made_anew_is_named_by_its_signatures(kept: Kept) -> None:
    rewrite(kept.folder, lambda lines: forged(lines, 4))
    kept.audio(3).unlink()
    kept.manifest(3).unlink()
    [problem] = kept.verify(index=None).problems
    assert (problem.kind, problem.name) == ("ledger", LEDGER_NAME)
    assert problem.what == "line 5: bears a signature that does not fit it; nothing that is signed follows"


@pytest.mark.parametrize("name", ["../secret.wav", "a\0b.wav", "../acme~sales~5~X.wav"])
def test_a_line_of_what_is_no_recording_is_named_and_leads_nowhere(kept: Kept, name: str) -> None:
    rewrite(kept.folder, lambda lines: [*lines[:-1], canonical(json.loads(lines[-1]) | {"file": name})])
    report = kept.verify(index=None, keys=PublicKeys())
    assert report.problems[0].what == f"line {CALLS + 1}: {name!r} cannot be the name of a recording of ours"
    assert report.recordings == CALLS


def test_a_ledger_without_signatures_is_named_where_there_is_a_key(kept: Kept) -> None:
    def unsigned(lines: list[bytes]) -> list[bytes]:
        made: list[bytes] = []
        for content in lines:
            line = json.loads(content)
            del line["signature"]
            line["previous"] = hashlib.sha256(made[-1]).hexdigest() if made else "0" * 64
            made.append(canonical(line))
        return made

    rewrite(kept.folder, unsigned)
    [problem] = kept.verify(index=None).problems
    assert problem.what == "line 1: is not signed; nothing that is signed follows"


def test_a_key_that_is_not_known_is_told(kept: Kept, tmp_path: Path) -> None:
    make_pair(tmp_path / "theirs.pem")
    [problem] = kept.verify(keys=PublicKeys([Signer.load(tmp_path / "theirs.pem").public_key])).problems
    assert f"line 1: is signed by {kept.signer.key_id}, which is none of the known keys" in problem.what


def test_lines_of_an_earlier_key_are_covered_by_those_of_the_new_one(kept: Kept, tmp_path: Path) -> None:
    make_pair(tmp_path / "new.pem")
    new = Signer.load(tmp_path / "new.pem")
    with closing(Ledger(kept.folder, new, kept.head)) as ledger:
        call = kept.make_call(samples=80)
        manifest = kept.write(call, new)
        kept.index.add_calls([(call.cdr, manifest)], ledger.append([(manifest, encoded(manifest))]))
    assert kept.named(keys=PublicKeys([new.public_key])) == []


def test_an_index_that_was_changed_is_named(kept: Kept) -> None:
    facts = IndexFacts(kept.head, kept.index.fingerprints() | {kept.audio(2).name: (1, "0" * 64)})
    assert kept.named(index=facts) == [("index", kept.audio(2).name)]


def test_what_only_the_index_knows_is_named(kept: Kept) -> None:
    facts = IndexFacts(kept.head, kept.index.fingerprints() | {"g~a~1~B.wav": (1, "0" * 64)})
    [problem] = kept.verify(index=facts).problems
    assert str(problem) == "removed: g~a~1~B.wav: the recording is gone, and so is its manifest; the index has it"


def test_only_those_that_are_asked_for_are_looked_at(kept: Kept) -> None:
    flip(kept.audio(0), 60)
    flip(kept.audio(3), 60)
    other = kept.calls[1].name
    for name in (other.dialog_id, other.stem, f"{other.stem}.wav"):
        report = kept.verify(name)
        assert (report.ok, report.recordings) == (True, 1)
    report = kept.verify(other.dialog_id, kept.calls[3].name.dialog_id, "NOBODY")
    assert [(problem.kind, problem.name) for problem in report.problems] == [
        ("unknown", "NOBODY"),
        ("changed", kept.audio(3).name),
    ]


def test_what_a_running_recorder_has_in_hand_is_left_alone(kept: Kept) -> None:
    with closing(Ledger(kept.folder, kept.signer, kept.head)):
        fresh = kept.make_call(samples=80).write_audio(kept.folder).path
        kept.make_call(samples=80).write_audio(kept.folder, ".wav.part")
        report = kept.verify()
        assert (report.problems, report.in_work) == ([], 1)
        os.utime(fresh, (1, 1))
        assert kept.named() == [("added", fresh.name)]


def test_the_command_names_what_is_wrong_and_says_how_it_ended(kept: Kept, tmp_path: Path) -> None:
    config = tmp_path / "recorder.yaml"
    config.write_text(
        f"recording: {{folder: {kept.folder}, signing_key_file: signing.pem}}\nlibrary: {{index: {kept.index.path}}}\n"
    )
    run = CliRunner().invoke
    right = run(main, ["verify", "--config", str(config)])
    assert right.exit_code == 0, right.output
    assert f"ledger: head {kept.head}, signed by {kept.signer.key_id}\nall is right\n" in right.output

    flip(kept.audio(2), 60)
    wrong = run(main, ["verify", "--config", str(config), "--json"])
    assert wrong.exit_code == 1
    found = json.loads(wrong.stdout)
    assert (found["ok"], found["recordings"], found["ledger_head"]) == (False, CALLS, str(kept.head))
    assert [problem["name"] for problem in found["problems"]] == [kept.audio(2).name]

    elsewhere = ["verify", "--folder", str(kept.folder), "--public-key", str(tmp_path / "signing.pem.pub")]
    others = run(main, [*elsewhere, "--head", str(kept.head), kept.calls[1].name.dialog_id])
    assert others.exit_code == 0, others.output
    assert run(main, ["verify"]).exit_code == 1
    assert "must be LINE:SHA256" in run(main, [*elsewhere, "--head", "6"]).output
