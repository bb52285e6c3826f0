"""Running the recorder: what it says when it cannot start, how it ends, and what it survives."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Subject
from tests.endtoend.conftest import Bench, audio_port, later
from tests.peers.rtp import RtpPeer, encoded
from tests.tones import has_tone, read_wav, silence, sine, tone_onset

COMMAND = [sys.executable, "-c", "from recorder.cli import main; main()"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def eventually(question: Callable[[], Any], timeout_s: float = 30) -> Any:
    end = time.monotonic() + timeout_s
    while not (answer := question()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
    return answer


@pytest.fixture
def subject(tmp_path: Path) -> Any:
    subject = Subject(tmp_path)
    yield subject
    subject.close()


def started_with(tmp_path: Path, subject: Subject, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Run `serve` with a configuration that cannot work."""
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**subject.configuration, **changes}))
    return run("serve", "--config", path)


def test_a_sip_port_in_use_is_named_with_what_to_do(tmp_path: Path, subject: Subject) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        listen = [{"transport": "udp", "host": "127.0.0.1", "port": port}]
        ended = started_with(tmp_path, subject, sip={**subject.configuration["sip"], "listen": listen})
    assert ended.returncode == 1
    assert f"udp 127.0.0.1 port {port}" in ended.stderr
    assert "change sip.listen" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_http_port_in_use_is_named_with_what_to_do(tmp_path: Path, subject: Subject) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = started_with(tmp_path, subject, http={"host": "127.0.0.1", "port": port})
    assert ended.returncode == 1
    assert str(port) in ended.stderr
    assert "http.port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_is_surely_not_meant_is_in_the_log_at_the_start(tmp_path: Path, subject: Subject) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        http = {"host": "127.0.0.1", "port": taken.getsockname()[1]}  # so that it ends at once
        ended = started_with(tmp_path, subject, http=http, accounts=[{"id": "sales", "group": "acme"}])
    assert "settings_warning" in ended.stderr
    assert "record" in next(line for line in ended.stderr.splitlines() if "settings_warning" in line)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, subject: Subject) -> None:
    (tmp_path / "file").write_text("")
    ended = started_with(tmp_path, subject, recording={"folder": str(tmp_path / "file" / "recordings")})
    assert ended.returncode == 1
    assert str(tmp_path / "file" / "recordings") in ended.stderr
    assert "recording.folder" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sip: [", r"line \d+"),
        ("sip: {max_cals: 5}", r"sip\.max_cals: unknown key"),
        ("accounts: [{id: a, record: true}]", r"accounts\.0\.group"),
        ("sip: {max_calls: many}", r"sip\.max_calls"),
    ],
)
def test_check_config_says_what_and_where(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    ended = run("check-config", path)
    assert ended.returncode == 1
    assert re.search(complaint, ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_configuration_that_ships_is_correct() -> None:
    ended = run("check-config", Path(__file__).parents[2] / "config" / "recorder.yaml")
    assert ended.returncode == 0, ended.stderr


def test_help_names_every_command() -> None:
    shown = run("--help").stdout
    for command in ("serve", "check-config", "demo", "loadtest", "recover", "token", "doctor"):
        assert command in shown


def test_a_call_that_is_up_is_shown_and_ends_in_peace_when_the_recorder_is_told_to_stop(subject: Subject) -> None:
    subject.start()
    with Sipp(Plan("uas-answer", port=subject.application_port)) as application:
        with Sipp(Plan("uac-call", remote=subject.sip_address, length_ms=3000)) as caller:
            [live] = eventually(lambda: [call for call in subject.api.get("calls")["calls"] if call["state"] == "up"])
            assert live["recorded"]
            assert not live["muted"]
            assert subject.stop() == 0, subject.log_tail()
            assert caller.wait().ok
        assert application.wait().ok
    [manifest] = [json.loads(path.read_text()) for path in subject.recordings.glob("*.json")]
    assert later(manifest["duration_s"], 3.0)
    assert manifest["cdr"]["reason"] == "caller_hangup"
    assert subject.trouble() == []


def test_after_a_crash_the_next_start_repairs_and_indexes_what_was_being_written(subject: Subject) -> None:
    subject.start()
    with (
        Sipp(Plan("uas-answer", port=subject.application_port, timeout_s=20)),
        Sipp(Plan("uac-call", remote=subject.sip_address, length_ms=20000, timeout_s=20)),
    ):
        [part] = eventually(lambda: [path for path in subject.recordings.glob("*.part") if path.stat().st_size > 40000])
        subject.kill()
    subject.start()
    [found] = subject.api.get("recordings")["recordings"]
    samples, rate = read_wav(subject.recordings / found["file_name"])
    assert not part.exists()
    assert len(samples) / rate > 2
    assert has_tone(samples[int(0.6 * rate) : int(0.9 * rate)], 440)
    manifest = json.loads((subject.recordings / found["file_name"]).with_suffix(".json").read_text())
    assert manifest["recovered"]
    assert manifest["cdr"]["details"] == manifest["cdr"]["details"] | {"trunk": "caller", "recovered": True}
    assert manifest["cdr"]["b_sip_call_id"] == manifest["legs"]["b"]["sip_call_id"]
    assert (manifest["legs"]["a"]["codec"], manifest["legs"]["a"]["rx_packets"]) == ("PCMU", None)
    assert [manifest["cdr"]["details"]] == [cdr["details"] for cdr in subject.api.get("cdrs")["cdrs"]]
    assert not list(subject.recordings.glob("*.journal"))
    assert subject.stop() == 0


def test_rtp_that_is_no_rtp_hurts_nobody(subject: Subject) -> None:
    subject.start()
    noise = np.random.default_rng(7)
    with RtpPeer(encoded(sine(440, 4.0))) as a, Sipp(Plan("uas-answer", port=subject.application_port)) as application:
        edit = [
            ("m=audio [rtpstream_audio_port]", f"m=audio {a.port}"),
            ('  <nop><action><exec rtp_stream="caller.ulaw,-1,0,PCMU/8000"/></action></nop>\n', ""),
        ]
        with (
            Sipp(Plan("uac-call", remote=subject.sip_address, length_ms=3000, edit=edit)) as caller,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        ):
            a.begin(audio_port(eventually(lambda: caller.outcome().received(200))[0]))
            for number in range(2000):
                port = subject.rtp_ports[number % 16]
                stranger.sendto(noise.bytes(number % 1400), ("127.0.0.1", port))
            assert caller.wait().ok
        assert application.wait().ok
    [found] = eventually(lambda: subject.api.get("recordings")["recordings"])
    samples, rate = read_wav(subject.recordings / found["file_name"])
    assert has_tone(samples[2 * rate : int(2.8 * rate)], 440, amplitude=4000)
    assert subject.stop() == 0
    assert subject.trouble() == []


def test_the_audio_is_served_in_ranges_to_those_with_a_token(subject: Subject) -> None:
    subject.start()
    with Sipp(Plan("uas-answer", port=subject.application_port)) as application:
        with Sipp(Plan("uac-call", remote=subject.sip_address, length_ms=1000)) as caller:
            assert caller.wait().ok
        assert application.wait().ok
    [found] = eventually(lambda: subject.api.get("recordings")["recordings"])
    path = f"/api/v1/recordings/{found['dialog_id']}/audio"
    status, audio = subject.api.request(path)
    assert status == 200
    assert audio == (subject.recordings / found["file_name"]).read_bytes()
    stranger = type(subject.api)("127.0.0.1", subject.http_port)
    assert stranger.request(path)[0] == 401


@pytest.mark.moments
def test_at_16_khz_the_tones_are_where_they_were_spoken(tmp_path: Path) -> None:
    caller = encoded(np.concatenate([silence(1.0), sine(440, 1.0), silence(2.0)]))
    application = encoded(np.concatenate([silence(2.0), sine(880, 1.0), silence(1.0)]))
    changes = {"media": {"clock_rate_hz": 16000}}
    with Subject(tmp_path, changes=changes) as subject, RtpPeer(caller) as a, RtpPeer(application) as b:
        call = Bench(subject).talk(a, b, 3.5)
        kept = Bench(subject).kept(call)
    assert kept.rate == 16000
    assert later(len(kept.samples) / kept.rate, 3.5)
    assert a.first_sent_s is not None
    assert b.first_sent_s is not None
    answered = kept.manifest["answered_ms"] / 1000
    # The bridge's jitter buffer and its ticks stand between the speaker and this tap.
    assert tone_onset(kept.samples[:32000], 440, 16000) / 16000 + answered == pytest.approx(
        a.first_sent_s + 1.0, abs=0.15
    )
    assert (tone_onset(kept.samples[28000:], 880, 16000) + 28000) / 16000 + answered == pytest.approx(
        b.first_sent_s + 2.0, abs=0.15
    )
