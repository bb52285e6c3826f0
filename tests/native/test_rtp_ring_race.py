"""The threads of an RtpRing at full speed under the compiler's race and memory checkers, outside Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "recorder" / "native"
SOURCES = [*NATIVE.glob("rtp_*.cpp"), NATIVE / "codecs.cpp", NATIVE / "g722.cpp"]
LIBRARIES = ["-lopus", "-lgsm", "-lbcg729", "-lspeexdsp"]


@pytest.mark.parametrize(
    ("flags", "packets"),
    [
        pytest.param(["-O1", "-g", "-fsanitize=thread"], "20000", id="thread sanitizer"),
        pytest.param(["-O1", "-g", "-fsanitize=address,undefined"], "20000", id="address sanitizer"),
    ],
)
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
def test_media_writer_and_gate_race_without_a_leak_or_a_report(flags: list[str], packets: str, tmp_path: Path) -> None:
    program = tmp_path / "rtp_ring_race"
    source = [Path(__file__).with_name("rtp_ring_race.cpp"), *SOURCES]
    compiler = ["c++", "-std=c++20", "-pthread", *flags, f"-I{NATIVE}"]
    subprocess.run([*compiler, *source, *LIBRARIES, "-o", program], check=True)
    # setarch: ThreadSanitizer of GCC 12 cannot map its shadow under a kernel's wider address randomisation.
    done = subprocess.run(["setarch", "-R", program, packets], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
