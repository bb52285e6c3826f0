"""What `recorder doctor` finds, what it says to do, and when it calls the machine fit."""

from __future__ import annotations

import importlib
import resource
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from recorder import __version__, doctor
from recorder.doctor import Check, exit_code, render, report
from recorder.settings import Settings, Sip

LIMITS = {"max_calls": 4096, "max_conference_ports": 20000, "max_ioqueue_handles": 16384, "max_dialogs": 65535}


def codecs() -> list[str]:
    return ["PCMU/8000/1", "PCMA/8000/1", "opus/48000/2"]


def native(**changes: Any) -> types.ModuleType:
    module = types.ModuleType("recorder.native")
    module.__file__ = "/somewhere/native.so"
    functions: dict[str, Any] = {
        "limits": lambda: LIMITS,
        "pjproject_version": lambda: "2.17",
        "openssl_version": lambda: "OpenSSL 3.0.17",
    }
    for name, function in (functions | changes).items():
        setattr(module, name, function)
    return module


@pytest.fixture(autouse=True)
def fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine that has everything."""
    buffer = tmp_path / "rmem_max"
    buffer.write_text("8388608\n")
    monkeypatch.setattr(doctor, "_RECEIVE_BUFFER_LIMIT", buffer)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1024, 524288))
    install(monkeypatch, native())
    return monkeypatch


def install(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None, **others: Exception) -> None:
    """Let imports of the native module find `module`, and fail for what `others` names."""
    real = importlib.import_module

    def import_module(name: str) -> types.ModuleType:
        if name in others:
            raise others[name]
        if name == "recorder.native":
            if module is None:
                raise ImportError("libpjsua.so.2: cannot open shared object file")
            return module
        return real(name)

    monkeypatch.setattr(importlib, "import_module", import_module)


def find(checks: list[Check], name: str) -> Check:
    (check,) = (check for check in checks if check.name == name)
    return check


def test_a_machine_that_has_everything_is_fit() -> None:
    checks = report(codecs=codecs)
    assert exit_code(checks) == 0
    assert find(checks, "recorder").value == __version__
    assert find(checks, "pjproject").value == "2.17"
    assert find(checks, "OpenSSL").value == "OpenSSL 3.0.17"
    assert find(checks, "max_calls (legs)").value == "4096"
    assert find(checks, "opus/48000/2").ok
    assert {check.topic for check in checks} == {"Versions", "Limits", "Transports", "Codecs"}
    assert render(checks).endswith("\n\nNothing essential is missing.")


def test_whatever_is_not_well_has_a_remedy_and_what_is_well_has_none(fit: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(fit, None, soundfile=OSError("sndfile library not found"))
    fit.setenv("PATH", str(tmp_path))
    fit.setattr(doctor, "_RECEIVE_BUFFER_LIMIT", tmp_path / "none")
    fit.setattr(resource, "getrlimit", lambda _which: (64, 64))
    checks = report(codecs=list)
    assert sum(not check.ok for check in checks) >= 6
    assert all((check.verdict == "ok") == (check.remedy == "") for check in checks)


def test_without_the_native_module_it_says_why_and_how_to_build_it(fit: pytest.MonkeyPatch) -> None:
    install(fit, None)
    checks = report(codecs=codecs)
    check = find(checks, "recorder.native")
    assert check.value == "ImportError: libpjsua.so.2: cannot open shared object file"
    assert "scripts/bootstrap" in check.remedy
    assert not find(checks, "pjproject").ok
    assert exit_code(checks) == 1
    assert render(checks).endswith("Missing: recorder.native, pjproject, OpenSSL.")


def test_a_folder_of_sources_is_not_taken_for_the_built_module(fit: pytest.MonkeyPatch) -> None:
    install(fit, types.ModuleType("recorder.native"))
    assert find(report(codecs=codecs), "recorder.native").value == "not built"


def test_a_native_module_that_fails_is_reported_and_not_passed_on(fit: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("library\nnot initialised")

    install(fit, native(pjproject_version=broken))
    assert find(report(codecs=codecs), "pjproject").value == "RuntimeError: library not initialised"


def test_a_missing_libsndfile_names_its_package(fit: pytest.MonkeyPatch) -> None:
    install(fit, native(), soundfile=OSError("sndfile library not found"))
    check = find(report(codecs=codecs), "libsndfile")
    assert not check.ok
    assert "libsndfile1" in check.remedy


@pytest.mark.parametrize(
    ("limit", "value"), [("max_calls", 999), ("max_conference_ports", 2000), ("max_ioqueue_handles", 1999)]
)
def test_a_library_built_for_fewer_calls_than_configured_is_a_fault(
    fit: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    install(fit, native(limits=lambda: LIMITS | {limit: value}))
    settings = Settings(sip=Sip(max_calls=500))
    (fault,) = (check for check in report(settings, codecs) if not check.ok)
    assert fault.name.startswith(limit)
    assert fault.value.startswith(f"{value}; 500 calls need ")
    assert report(Settings(sip=Sip(max_calls=100)), codecs)
    assert exit_code(report(Settings(sip=Sip(max_calls=100)), codecs)) == 0


@pytest.mark.parametrize(
    ("soft", "hard", "fit_for_it"),
    [(1024, 2200, True), (2200, 2200, True), (1024, 2199, False), (1024, resource.RLIM_INFINITY, True)],
)
def test_the_hard_limit_of_file_descriptors_must_serve_all_calls(
    fit: pytest.MonkeyPatch, soft: int, hard: int, fit_for_it: bool
) -> None:
    fit.setattr(resource, "getrlimit", lambda _which: (soft, hard))
    check = find(report(Settings(sip=Sip(max_calls=500)), codecs), "file descriptors")
    assert check.ok is fit_for_it
    assert "500 calls need 2200" in check.value
    assert fit_for_it or "LimitNOFILE=2200" in check.remedy


@pytest.mark.parametrize("content", ["212992\n", "rubbish", None])
def test_a_small_receive_buffer_is_a_note_and_no_fault(
    fit: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "limit"
    if content is not None:
        file.write_text(content)
    fit.setattr(doctor, "_RECEIVE_BUFFER_LIMIT", file)
    checks = report(codecs=codecs)
    check = find(checks, "UDP receive buffer")
    assert (check.verdict, exit_code(checks)) == ("note", 0)
    assert "net.core.rmem_max" in check.remedy


def test_a_stack_without_g711_is_a_fault() -> None:
    checks = report(codecs=lambda: ["PCMA/8000/1"])
    assert [check.name for check in checks if not check.ok] == ["PCMU"]


def test_a_stack_that_does_not_start_is_a_fault() -> None:
    def broken() -> list[str]:
        raise ModuleNotFoundError("No module named 'pjsua2'")

    check = find(report(codecs=broken), "SIP stack")
    assert (check.ok, check.value) == (False, "ModuleNotFoundError: No module named 'pjsua2'")


def test_sipp_is_looked_for_and_not_essential(fit: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit.setenv("PATH", str(tmp_path))
    assert find(report(codecs=codecs), "SIPp").verdict == "note"
    sipp = tmp_path / "sipp"
    sipp.write_text(f"#!{sys.executable}\nprint('\\n SIPp v3.6.1-SCTP-PCAP-RTPSTREAM.\\n')\nraise SystemExit(99)\n")
    sipp.chmod(0o755)
    assert find(report(codecs=codecs), "SIPp").value == "3.6.1"
    sipp.write_text("not a program")
    check = find(report(codecs=codecs), "SIPp")
    assert (check.verdict, check.ok) == ("note", True)
    assert "does not run" in check.value


def test_a_sipp_that_hangs_does_not_hang_the_report(fit: pytest.MonkeyPatch) -> None:
    def hang(*_arguments: Any, **_options: Any) -> None:
        raise subprocess.TimeoutExpired("sipp", 10)

    fit.setattr(shutil, "which", lambda _name: "/usr/bin/sipp")
    fit.setattr(subprocess, "run", hang)
    assert "does not run" in find(report(codecs=codecs), "SIPp").value


def test_the_text_has_a_line_a_check_under_its_topic_and_the_remedy_below() -> None:
    checks = [
        Check("Versions", "a", "1"),
        Check("Versions", "long", "none", "missing", "get it"),
        Check("Limits", "b", "2"),
    ]
    assert render(checks).splitlines() == [
        "Versions",
        "  ok       a     1",
        "  missing  long  none",
        "                 -> get it",
        "",
        "Limits",
        "  ok       b     2",
        "",
        "Missing: long.",
    ]


def test_the_transports_are_listed(fit: pytest.MonkeyPatch) -> None:
    found = {check.name: check for check in report(codecs=codecs) if check.topic == "Transports"}
    assert {"UDP, TCP", "TLS", "SRTP"} <= found.keys()
    assert found["TLS"].value == "1.2 and 1.3, with OpenSSL 3.0.17"
    fit.setattr(doctor, "_has_ipv6", lambda: False)
    without = {check.name: check for check in report(codecs=codecs) if check.topic == "Transports"}
    assert without["IPv6"].verdict == "note"
    assert without["UDP, TCP"].value == "by IPv4"
