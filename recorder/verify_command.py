"""`recorder verify`: which recordings, with which keys, and how what is found is shown."""

from __future__ import annotations

import json
import re
import sys
import time
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from recorder import command_audit, settings
from recorder.errors import SettingsError, StorageError
from recorder.keys import signer
from recorder.library.index import Index
from recorder.library.ledger import Head
from recorder.library.verification import IndexFacts, Report, verify
from recorder.signing import PublicKeys

_LINE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to verify, as the command line says it."""

    names: tuple[str, ...] = ()
    config: Path | None = None
    folder: Path | None = None
    public_keys: tuple[Path, ...] = ()
    head: str | None = None
    as_json: bool = False


def run(options: Options) -> int:
    """Verify, and show what was found. Returns the exit code. Raises RecorderError when it cannot be done."""
    loaded = settings.load(options.config) if options.config else None
    folder = options.folder or (loaded.recording.folder if loaded else None)
    if folder is None:
        raise SettingsError(["--config or --folder is needed: where the recordings are"], "recorder verify")
    keys = PublicKeys.load(options.public_keys)
    if loaded is not None and not keys and (own := signer(loaded)) is not None:
        keys = PublicKeys([own.public_key])
    index = _index_facts(loaded.index_path) if loaded else None
    with _Bar() if sys.stderr.isatty() else nullcontext(_Lines()) as progress:
        report = verify(folder, index, keys, options.names, _head(options.head), progress.show)
    if loaded is not None and options.folder is None:
        _audit(loaded, report, options.names)
    click.echo(_as_json(report) if options.as_json else _as_text(report, bool(keys), index is not None))
    return 0 if report.ok else 1


def _audit(loaded: settings.Settings, report: Report, names: tuple[str, ...]) -> None:
    """Enter that it was looked at, and what came of it; who may only read verifies all the same."""
    note = f"{report.done} recordings{', of those named' if names else ''}, {len(report.problems)} problems"
    note += f", ledger head {report.head}" if report.head else ""
    try:
        command_audit.enter(loaded, "verify", note, failed="" if report.ok else "problems")
    except StorageError as error:
        click.echo(f"not entered in the audit: {error}", err=True)


def _head(text: str | None) -> Head | None:
    if text is None:
        return None
    shape = re.fullmatch(r"([0-9]{1,15}):([0-9a-f]{64})", text)
    if shape is None:
        raise SettingsError([f"--head {text!r}: must be LINE:SHA256, as an earlier run printed it"], "recorder verify")
    return Head(int(shape[1]), 0, shape[2])


def _index_facts(path: Path) -> IndexFacts | None:
    if not path.exists():
        raise StorageError(
            f"{path}: the index is gone, and with it what the ledger's end can be told by; 'recorder recover' makes it "
            "anew from the manifests; to verify without it, give --folder in place of --config"
        )
    with closing(Index(path)) as index:
        return IndexFacts(index.ledger_head(), index.fingerprints())


def _as_text(report: Report, with_keys: bool, with_index: bool) -> str:
    lines = [str(problem) for problem in report.problems]
    sums = [f"{report.done} recordings", decimal(report.done_bytes)]
    if report.waiting:
        sums.append(f"{report.waiting} of them not in the ledger yet, and signed")
    if report.in_work:
        sums.append(f"{report.in_work} left alone, as the recorder has them in work")
    if not with_index:
        sums.append("the index was not looked at")
    lines.append(", ".join(sums))
    signed = f"signed by {report.signed_by}" if report.signed_by else "signature not checked" if not with_keys else ""
    if report.head is not None:
        lines.append(f"ledger: head {report.head}{', ' + signed if signed else ''}")
    lines.append("all is right" if report.ok else f"{len(report.problems)} problems")
    return "\n".join(lines)


def _as_json(report: Report) -> str:
    return json.dumps(
        {
            "ok": report.ok,
            "recordings": report.done,
            "bytes": report.done_bytes,
            "waiting": report.waiting,
            "in_work": report.in_work,
            "ledger_head": str(report.head) if report.head else None,
            "signed_by": report.signed_by,
            "problems": [asdict(problem) for problem in report.problems],
        },
        indent=1,
    )


class _Bar:
    """A bar on a terminal, with rate and time left."""

    def __init__(self) -> None:
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)
        self._task = self._bar.add_task("recordings")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, report: Report) -> None:
        what = f"{report.done} of {report.recordings} recordings, {len(report.problems)} problems"
        self._bar.update(self._task, total=report.bytes, completed=report.done_bytes, description=what)


class _Lines:
    """A line now and then, where nobody looks at a bar."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def show(self, report: Report) -> None:
        now = time.monotonic()
        if now - self._last < _LINE_EVERY_S:
            return
        self._last = now
        rate = report.done_bytes / (now - self._began)
        left_s = (report.bytes - report.done_bytes) / rate if rate else 0.0
        done = f"{report.done} of {report.recordings} recordings"
        amount = f"{decimal(report.done_bytes)} of {decimal(report.bytes)}"
        problems = f"{len(report.problems)} problems"
        click.echo(f"{done}, {amount}, {decimal(int(rate))}/s, {left_s:.0f} s left, {problems}", err=True)
