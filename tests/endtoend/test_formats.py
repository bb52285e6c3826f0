"""A real call in each format: who is heard in which channel, what the file is, how it is found and handed out."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import numpy as np
import pytest

from recorder.file_format import FileFormat
from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import Codec, write_raw
from tests.endtoend.conftest import CHANGES, Bench, Kept, check_silent, later, silent_port
from tests.endtoend.test_transfer import APPLICATION_HZ, CALLER_HZ, TARGET_HZ, play
from tests.tones import Samples, amplitude_of, read_wav, sine

pytestmark = pytest.mark.moments

FORMATS = {
    "300": FileFormat("pcm16", 2),
    "301": FileFormat("ulaw", 2),
    "302": FileFormat("alaw", 1),
    "303": FileFormat("flac", 1),
    "304": FileFormat("opus", 2),
}
CONTENT_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".opus": "audio/ogg"}
ACCOUNTS = [
    {
        "id": f"{one.encoding}-{one.channels}",
        "group": "tests",
        "record": True,
        "match": {"called": called},
        "format": {"encoding": one.encoding, "channels": "stereo" if one.channels == 2 else "mono"},
    }
    for called, one in FORMATS.items()
]


def configured(folder: Path) -> Subject:
    """A recorder with an account a format; numbers that begin with 9 lead to a party of their own."""
    trunks = [CHANGES["trunks"][0] | {"transfer": "allow"}]
    stereo = {"id": "stereo", "group": "tests", "record": True, "format": {"encoding": "ulaw", "channels": "stereo"}}
    subject = Subject(folder, changes={"trunks": trunks, "accounts": [*ACCOUNTS, stereo]})
    other = f"sip:{{user}}@127.0.0.1:{silent_port(subject)}"
    subject.configuration["routes"].insert(0, {"name": "other", "match": {"called": "9[0-9]*"}, "target": other})
    return subject


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with configured(tmp_path_factory.mktemp("formats")) as subject:
        yield Bench(subject)
        assert subject.stop() == 0, subject.log_tail()
    assert subject.trouble() == []


def heard(samples: Samples, rate: int) -> set[int]:
    """Whose tone is in one channel; a tenth of what a speaker sends is not him, but what a codec leaks."""
    return {hz for hz in (CALLER_HZ, APPLICATION_HZ, TARGET_HZ) if amplitude_of(samples, hz, rate) > 800}


@pytest.mark.parametrize("called", FORMATS, ids=lambda called: f"{FORMATS[called].encoding}-{FORMATS[called].channels}")
def test_a_call_in_each_format(formats: Bench, tmp_path: Path, called: str) -> None:
    one, api = FORMATS[called], formats.subject.api
    sounds = [{f"{who}.ulaw": write_raw(tmp_path / who, sine(hz, 1.0), Codec.PCMU)}
              for who, hz in (("caller", CALLER_HZ), ("callee", APPLICATION_HZ))]  # fmt: skip
    call = formats.call(
        "uac-call",
        "uas-answer",
        seconds=1.2,
        caller_plan={"called": called, "sounds": sounds[0]},
        application_plan={"sounds": sounds[1]},
    )
    kept, cdr = formats.kept(call), formats.cdr(call)
    length = len(kept.samples)
    assert later(length / kept.rate, 1.2)
    assert kept.path.suffix == one.suffix
    assert not list(formats.subject.recordings.glob("*.tmp"))
    middle = kept.samples[length // 4 : -length // 4]
    if one.channels == 2:
        assert (heard(middle[:, 0], kept.rate), heard(middle[:, 1], kept.rate)) == ({CALLER_HZ}, {APPLICATION_HZ})
    else:
        assert heard(middle, kept.rate) == {CALLER_HZ, APPLICATION_HZ}

    if one == FileFormat("ulaw", 2):  # what came in is there bit for bit; two codes of G.711 stand for 0
        zero = bytes.maketrans(b"\x7f", b"\xff")
        raw = kept.path.read_bytes()[-2 * length :].translate(zero)
        for channel, who in enumerate(("caller", "callee")):
            sent = (tmp_path / who).read_bytes().translate(zero)
            assert raw[channel::2][length // 4 : length // 4 + 2000] in 2 * sent

    written = kept.manifest["format"]
    assert written == {
        "container": one.container,
        "encoding": one.codec,
        "channels": one.channels,
        "sample_rate_hz": kept.rate,
    }
    assert (kept.manifest["file_name"], kept.manifest["samples"]) == (kept.path.name, length)
    with av.open(kept.path) as container:
        said = {key.lower(): text for key, text in (container.metadata | container.streams[0].metadata).items()}
    assert said["title"] == cdr["id"]
    assert said["comment"] == f"calling=5550100 called={called} encoding={one.encoding}"

    [found] = api.get("recordings", dialog_id=cdr["id"])["recordings"]
    assert found["file_name"] == kept.path.name
    url = f"http://127.0.0.1:{formats.subject.http_port}{found['links']['audio']}?access_token={api.token}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPES[one.suffix]
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{kept.path.name}"'
        assert answer.read() == kept.path.read_bytes()


def sides(kept: Kept) -> list[list[set[int]]]:
    """Who is heard left and right, in the first third and in the last."""
    third, margin = len(kept.samples) // 3, kept.rate // 5
    parts = kept.samples[margin:third], kept.samples[-third : -2 * margin]
    return [[heard(part[:, channel], kept.rate) for channel in (0, 1)] for part in parts]


def test_stereo_and_a_transfer_by_the_caller(formats: Bench, tmp_path: Path) -> None:
    """Who comes in the caller's place is heard in his channel, and nobody is ever in the other's."""
    three = play(formats, tmp_path, "uac-transfer", "uas-answer", "uas-bye")
    assert sides(formats.kept(three.call)) == [[{CALLER_HZ}, {APPLICATION_HZ}], [{TARGET_HZ}, {APPLICATION_HZ}]]


def test_stereo_and_a_transfer_by_the_callee(formats: Bench, tmp_path: Path) -> None:
    three = play(formats, tmp_path, "uac-wait-bye", "uas-transfer", "uas-bye")
    assert sides(formats.kept(three.call)) == [[{CALLER_HZ}, {APPLICATION_HZ}], [{CALLER_HZ}, {TARGET_HZ}]]


def test_stereo_and_a_muted_step(formats: Bench) -> None:
    """Both channels are silent to the last bit, which G.711 has as one code."""
    step = {"variables": {"mute_for": 1500}}
    call = formats.call("uac-call", "uas-answer-mute", seconds=4.5, application_plan=step)
    kept = formats.kept(call)
    [span] = kept.manifest["redactions"]
    silent = kept.samples[span["start_sample"] : span["start_sample"] + span["samples"]]
    assert len(silent) > kept.rate
    check_silent(silent)
    assert set(kept.path.read_bytes()[-2 * len(kept.samples) :][2 * span["start_sample"] :][: 2 * len(silent)]) == {255}


def test_killed_each_call_is_recovered_in_its_format(tmp_path: Path) -> None:
    """kill -9 under calls of two formats: the next start makes of each `.part` what it was to become."""
    subject = configured(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(subject)
        stack.enter_context(Sipp(Plan("uas-answer", port=subject.application_port, calls=2, timeout_s=20)))
        for called in ("301", "303"):
            plan = Plan("uac-call", remote=subject.sip_address, called=called, length_ms=20000, timeout_s=20)
            stack.enter_context(Sipp(plan))

        def parts() -> list[Path] | None:
            found = sorted(subject.recordings.glob("*.part"))
            return found if len(found) == 2 and all(one.stat().st_size > 30000 for one in found) else None

        left = Bench.eventually(parts, "two recordings of 1 s")
        subject.kill()
        for part in left:
            part.with_name(part.name.removesuffix(".part") + ".tmp").write_bytes(b"half of it")
        subject.start()

        def indexed() -> list[dict[str, object]] | None:
            found = subject.api.get("recordings")["recordings"]
            return found if len(found) == 2 else None

        names = [str(one["file_name"]) for one in Bench.eventually(indexed, "both recordings")]
        assert sorted(names) == sorted(part.name.removesuffix(".part") for part in left)
        assert not {path.suffix for path in subject.recordings.iterdir()} & {".part", ".tmp"}
        for name in names:
            path = subject.recordings / name
            manifest = json.loads(path.with_suffix(".json").read_text())
            samples, rate = read_wav(path)
            assert manifest["recovered"]
            assert manifest["samples"] == len(samples) > 0.9 * rate
            one = FORMATS["303" if path.suffix == ".flac" else "301"]
            assert (manifest["format"]["encoding"], manifest["format"]["channels"]) == (one.codec, one.channels)
            called = next(number for number, each in FORMATS.items() if each == one)
            assert manifest["parties"] == {"calling": "5550100", "called": called}
            assert 0 <= manifest["answered_ms"] - manifest["started_ms"] < 5000
            assert manifest["cdr"]["called"] == called
            assert np.abs(samples).max() > 1000
        assert subject.stop() == 0
