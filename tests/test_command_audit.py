"""What commands, and each start, leave in the audit."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from recorder import command_audit
from recorder.cli import main
from recorder.keyring import add_key
from recorder.library.audit import restore
from recorder.library.index import Index
from recorder.library.search import Filters
from recorder.settings import Settings, load
from recorder.signing import make_pair


def settings_in(folder: Path, **changes: Any) -> Settings:
    (folder / "recorder.yaml").write_text(yaml.safe_dump({"recording": {"folder": str(folder)}, **changes}))
    return load(folder / "recorder.yaml")


def entries(folder: Path) -> list[dict[str, Any]]:
    with closing(Index(folder / "index.sqlite")) as index:
        return index.search_audit(Filters(), 500).entries[::-1]


def run(*arguments: str) -> int:
    return CliRunner().invoke(main, arguments).exit_code


def test_commands_say_who_did_what_and_what_came_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "jane")
    add_key(tmp_path / "keys", "first")
    settings_in(tmp_path, recording={"folder": str(tmp_path), "encryption": {"key_file": str(tmp_path / "keys")}})
    config = ("--config", str(tmp_path / "recorder.yaml"))
    name = "g~a~1700000000000~D1.wav"
    assert run("recover", *config) == 0
    assert run("verify", *config) == 0
    assert run("decrypt", name, *config, "--to", str(tmp_path / "plain.wav")) == 1
    assert run("keys", "rotate", *config) == 0
    found = entries(tmp_path)
    assert {(it["actor"], it["source"], it["who"].partition("/")[0]) for it in found} == {("command", "local", "jane")}
    assert [(it["action"], it["result"], it["dialog_id"], it["note"].partition(", ledger")[0]) for it in found] == [
        ("recover", "accepted", None, "repaired 0, indexed 0, failed 0"),
        ("verify", "accepted", None, "0 recordings, 0 problems"),
        ("decrypt", "accepted", "D1", f"{name} to {tmp_path}/plain.wav"),
        ("decrypt", "refused", "D1", f"{name} to {tmp_path}/plain.wav"),
        ("rotate", "accepted", None, "begins: 0 recordings, to key first"),
        (
            *("rotated", "accepted", None),
            "wrapped anew by 'first': 0, failed: 0, being recorded under an older key: 0",
        ),
    ]


def test_a_command_without_an_index_leaves_its_entry_for_the_next_start(tmp_path: Path) -> None:
    command_audit.enter(settings_in(tmp_path), "rotate", "begins")
    assert not (tmp_path / "index.sqlite").exists()
    with closing(Index(tmp_path / "index.sqlite")) as index:
        assert restore(tmp_path, index) == 1
    assert [it["action"] for it in entries(tmp_path)] == ["rotate"]


def test_a_start_names_what_of_the_configuration_is_not_as_it_was(tmp_path: Path) -> None:
    def recording(**changes: Any) -> Settings:
        return settings_in(tmp_path, recording={"folder": str(tmp_path), **changes})

    plain = command_audit.configuration(recording(), "")
    assert plain.reason == "first"
    assert command_audit.configuration(recording(), plain.note).reason == "unchanged"

    make_pair(tmp_path / "signing.pem")
    add_key(tmp_path / "keys", "first")
    keyed = {"signing_key_file": str(tmp_path / "signing.pem"), "encryption": {"key_file": str(tmp_path / "keys")}}
    signed = command_audit.configuration(recording(**keyed), plain.note)
    assert signed.reason == "changed"
    assert signed.note.startswith("changed=encryption_keys,recording,signing_key ")
    add_key(tmp_path / "keys", "second")
    rotated = command_audit.configuration(recording(**keyed), signed.note)
    assert rotated.note.startswith("changed=encryption_keys ")
    assert "encryption_keys=second,first" in rotated.note
    assert command_audit.configuration(recording(**keyed), rotated.note).reason == "unchanged"
    assert command_audit.configuration(recording(), rotated.note).note.startswith(
        "changed=recording,encryption_keys,signing_key "
    )
