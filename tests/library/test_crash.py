"""kill -9 at every step of keeping a call, in a process of its own; then what the next start finds and makes good."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from recorder.library.index import Index
from recorder.library.manifest import Manifest, manifest_path
from recorder.library.recovery import find_unfinished, reindex
from recorder.library.search import Filters

from .conftest import CallMaker

_PROGRAM = """
    import os, signal, sys, time
    from pathlib import Path
    from recorder import byte_store
    from recorder.library import index as index_module, manifest as manifest_module
    from recorder.library.index import Index
    from recorder.library.keeper import EndedCall, Keeper
    from recorder.library.manifest import CommittedFile, Manifest
    from recorder.metrics import Metrics

    folder, step = Path(sys.argv[1]), sys.argv[2]
    cdr = {cdr!r}
    manifest = Manifest.model_validate_json({manifest!r})
    final = folder / manifest.file_name
    part = folder / (manifest.file_name + ".part")

    def die_at(here):
        if here == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def commit():
        die_at("before the rename")
        part.rename(final)
        byte_store.sync_folder(folder)
        die_at("after the rename")
        return CommittedFile(final, manifest.samples, manifest.bytes, manifest.sha256)

    class Dying(Path(".").__class__):
        def replace(self, target):
            die_at("before the manifest's rename")
            return super().replace(target)

    write = manifest_module.write_atomically

    def write_and_die(path, content):
        write(Dying(path), content)
        die_at("after the manifest")

    manifest_module.write_atomically = write_and_die
    index = Index(folder / "index.sqlite")
    enter = index_module._kept_row

    if step == "inside the transaction":
        # The recording's row and the CDR are written, the usage entry and the commit are not.
        from sqlalchemy import event
        def before(conn, cursor, statement, *rest):
            if statement.startswith("INSERT INTO usage"):
                die_at(step)
        event.listen(index._opened().writer, "before_cursor_execute", before)

    keeper = Keeper(index, folder, Metrics())
    keeper.start()
    keeper.submit(EndedCall(cdr, commit, lambda file: manifest, time.monotonic()))
    keeper.wait_idle(30)
    die_at("after the commit")
"""


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("before the rename", "part"),
        ("after the rename", "audio"),
        ("before the manifest's rename", "audio"),
        ("after the manifest", "manifest"),
        ("inside the transaction", "manifest"),
        ("after the commit", "row"),
    ],
)
def test_kill_9_loses_nothing_that_was_durable(folder: Path, make_call: CallMaker, step: str, left: str) -> None:
    call = make_call()
    file = call.write_audio(folder, ".wav.part")
    program = textwrap.dedent(_PROGRAM).format(cdr=call.cdr, manifest=call.manifest_of(file).model_dump_json())
    finished = subprocess.run([sys.executable, "-c", program, str(folder), step], check=False, timeout=120)
    assert finished.returncode == -9

    with closing(Index(folder / "index.sqlite")) as index:
        before = [entry.file_name for entry in index.search(Filters()).entries]
        assert before == ([call.file_name] if left == "row" else [])
        assert find_unfinished(folder) == ([file.path] if left == "part" else [])
        if left == "part":
            # What the composition root does by way of recorder.media, for a file that happens to be whole.
            file.path.rename(folder / call.file_name)

        report = reindex(folder, index)
        assert report.problems == []
        assert report.recordings == (0 if left == "row" else 1)
        entry = index.get(call.name.dialog_id)
        manifest = Manifest.read(manifest_path(folder / call.file_name))
        assert (entry.sha256, entry.samples, entry.bytes) == (file.sha256, file.samples, file.bytes)
        assert manifest.sha256 == file.sha256
        assert entry.recovered is manifest.recovered is (left in ("part", "audio"))
        (cdr,) = index.search_cdrs(Filters()).entries
        assert cdr["id"] == call.name.dialog_id
        if left in ("manifest", "row"):
            assert cdr == call.cdr
        assert [(total.kind, total.entries) for total in index.usage_totals(0, 2**62)] == [("recording", 1)]
        assert list(folder.glob("*.tmp")) == []
        assert (reindex(folder, index).recordings, reindex(folder, index).cdrs) == (0, 0)
