"""Encrypted recordings, by hand: their keys wrapped anew (`recorder keys rotate`), their audio in plain."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from recorder import command_audit
from recorder.byte_store import reading
from recorder.errors import KeyMaterialError, StorageError
from recorder.file_format import SUFFIXES
from recorder.identifiers import RecordingName
from recorder.keys import keyring, storage
from recorder.library.folder import file_names
from recorder.library.recovery import find_unfinished
from recorder.sealed_store import key_ids, rewrap
from recorder.settings import Settings

_PLAIN_MODE = 0o600


def run(settings: Settings) -> int:
    """Wrap anew what is wrapped by an older key; say what was done. Returns the exit code.

    Raises KeyMaterialError when there is no key, StorageError when the folder cannot be read.
    """
    keys, folder = keyring(settings), settings.recording.folder
    if not keys:
        raise KeyMaterialError("recording.encryption has no key, so that nothing can be wrapped anew")
    unfinished = find_unfinished(folder)
    names = [name for name in file_names(folder) if name.endswith(SUFFIXES)]
    command_audit.enter(settings, "rotate", f"begins: {len(names)} recordings, to key {keys.first}")
    changed, failed = 0, 0
    for name in track(names, "recordings", console=Console(stderr=True), disable=not sys.stderr.isatty()):
        try:
            changed += rewrap(folder / name, keys)
        except (KeyMaterialError, OSError) as error:
            failed += 1
            click.echo(f"{name}: {error}", err=True)
    older = sum(bool(set(_key_ids(path)) - {keys.first}) for path in unfinished)
    said = f"wrapped anew by {keys.first!r}: {changed}, failed: {failed}, being recorded under an older key: {older}"
    command_audit.enter(settings, "rotated", said, failed="problems" if failed else "")
    click.echo(said)
    return 1 if failed else 0


def decrypt(settings: Settings, name: str, target: Path) -> None:
    """Write a recording's plain audio to `target`, once it stands in the audit that it is done. Raises StorageError."""
    path = settings.recording.folder / Path(name).name
    try:
        dialog_id = RecordingName.parse(path.stem).dialog_id
    except ValueError:
        dialog_id = None
    note = f"{path.name} to {target.absolute()}"
    command_audit.enter(settings, "decrypt", note, dialog_id=dialog_id)
    try:
        _decrypt(settings, path, target)
    except (StorageError, KeyMaterialError):
        command_audit.enter(settings, "decrypt", note, failed="failed", dialog_id=dialog_id)
        raise


def _decrypt(settings: Settings, path: Path, target: Path) -> None:
    try:
        with (
            reading(path, storage(settings)) as source,
            os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PLAIN_MODE), "wb") as plain,
        ):
            try:
                shutil.copyfileobj(source, plain, 1 << 18)
                plain.flush()
            except OSError:
                target.unlink(missing_ok=True)  # a beginning could be taken for the whole
                raise
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror}") from error


def _key_ids(path: Path) -> list[str]:
    try:
        return key_ids(path)
    except OSError:  # it has been finished meanwhile
        return []
