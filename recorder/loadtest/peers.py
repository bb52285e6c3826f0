"""SIPp as the two ends of a call: one process a `Sipp`, in a folder and on ports of its own."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from recorder.errors import StartError
from recorder.loadtest import tones
from recorder.loadtest.ports import PortLease, lease
from recorder.loadtest.sipp_output import SipMessage, Statistics, read_log, read_messages, read_statistics

HOST = "127.0.0.1"
_SOUND = re.compile(r'rtp_stream="(?P<name>(?P<who>caller|callee)\.(?P<law>ulaw|alaw))')
_STOP_GRACE_S = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one SIPp run. `log` holds the lines of the scenario's <log> actions, as words."""

    exit_code: int
    statistics: Statistics
    messages: list[SipMessage] = field(repr=False)
    log: list[tuple[str, ...]] = field(repr=False)
    errors: str

    @property
    def ok(self) -> bool:
        """Whether every call went as its scenario says."""
        return self.exit_code == 0 and self.statistics.failed == 0

    def sent(self, what: str | int) -> list[SipMessage]:
        """The messages sent with this method or status."""
        return [m for m in self.messages if m.sent and what in (m.method, m.status)]

    def received(self, what: str | int) -> list[SipMessage]:
        """The messages received with this method or status."""
        return [m for m in self.messages if not m.sent and what in (m.method, m.status)]


@dataclass(frozen=True, slots=True)
class Plan:
    """One SIPp run.

    Args:
        scenario: the name of a file in sipp-scenarios/ without its ending, or a path.
        remote: `host:port` to call; None for a scenario that is called.
        calls: how many calls, after which SIPp ends; rate: how many are begun a second.
        length_ms: what a pause without a time of its own lasts (-d).
        called: user part that is dialled. variables: -set NAME VALUE for the scenario's own times.
        rows: lines of the injection file, one a call, each a tuple of fields.
        sounds: raw G.711 files under the names that the scenario plays; those not given are tone bursts.
        timeout_s: the whole run fails after it.
        trace: keep every SIP message. port: a SIP port leased elsewhere.
        auto_answer: answer requests within a call that the scenario does not expect (-aa).
        edit: pairs of text to replace in the scenario, each of which must occur; a lone surrogate stands for a byte.
        host: the address of its signalling and audio, IPv4 or IPv6.
    """

    scenario: str | Path
    remote: str | None = None
    calls: int = 1
    rate: float = 10
    length_ms: int = 1000
    called: str = "1000"
    variables: Mapping[str, str | int] = field(default_factory=dict)
    rows: Sequence[tuple[str, ...]] = ()
    sounds: Mapping[str, Path] = field(default_factory=dict)
    timeout_s: float = 60
    transport: str = "u1"
    trace: bool = True
    port: int | None = None
    auto_answer: bool = False
    edit: Sequence[tuple[str, str]] = ()
    host: str = HOST


class Sipp:
    """One SIPp process.

    `start` returns once it runs, and for a scenario that is called, once it listens. As a context manager it starts and
    stops the process, and removes its folder.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.folder = Path(tempfile.mkdtemp(prefix="sipp-"))
        self._lease: PortLease | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> Sipp:
        """Start SIPp. Raises StartError when it is not installed, or ends at once; then nothing of it is left."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        program = shutil.which("sipp")
        if program is None:
            raise StartError("sipp is not installed; install Debian's package sip-tester")
        # The SIP port, SIPp's control port, and its media port with RTCP and a spare pair.
        self._lease = lease(8)
        self.port = self._lease.first if self.plan.port is None else self.plan.port
        scenario = self._place_scenario()
        with (self.folder / "screen.txt").open("wb") as screen:
            self._process = subprocess.Popen(  # noqa: S603  # a fixed program and our own arguments
                [program, *self._arguments(scenario)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
            )
        if self.plan.remote is None:
            self._wait_until_it_listens()

    @property
    def pid(self) -> int:
        """The process id of a started run."""
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> str:
        """`host:port` on which it is called."""
        return f"{_in_uri(self.plan.host)}:{self.port}"

    @property
    def media_port(self) -> int:
        """The port that its RTP comes from."""
        assert self._lease is not None
        return self._lease.first + 2

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process is not None and self._process.poll() is None

    def pause(self, seconds: float) -> None:
        """Wait for the end of the process, but no longer than this."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def wait(self, timeout_s: float | None = None) -> Outcome:
        """Wait until all calls are over; stop the run when they are not after `timeout_s` (default: the plan's)."""
        assert self._process is not None
        try:
            self._process.wait((self.plan.timeout_s if timeout_s is None else timeout_s) + _STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self.stop()
        return self.outcome()

    def stop(self) -> Outcome:
        """End the process if it still runs, calls or no calls."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self.outcome()

    def kill(self) -> None:
        """End the process at once: its calls are not hung up."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def outcome(self) -> Outcome:
        """What is known of the run so far."""
        assert self._process is not None
        errors = self.folder / "errors.txt"
        code = self._process.poll()
        text = errors.read_text(errors="replace") if errors.exists() else ""
        if code not in (0, None) and not text:
            text = (self.folder / "screen.txt").read_text(errors="replace")[-2000:]
        return Outcome(
            exit_code=-1 if code is None else code,
            statistics=read_statistics(self.folder / "statistics.csv"),
            messages=read_messages(self.folder / "messages.txt"),
            log=read_log(self.folder / "log.txt"),
            errors=text,
        )

    def close(self) -> None:
        """Stop the process, remove its folder and give its ports back."""
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lease is not None:
            self._lease.release()

    def __enter__(self) -> Sipp:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # How it is set up ---------------------------------------------------------------------------------------------

    def _place_scenario(self) -> Path:
        text = scenario_path(self.plan.scenario).read_text(encoding="utf-8")
        for old, new in self.plan.edit:
            if old not in text:
                raise StartError(f"scenario {self.plan.scenario}: nothing to replace: {old!r}")
            text = text.replace(old, new)
        for found in _SOUND.finditer(text):
            self._place_sound(found["name"], found["who"], found["law"])
        path = self.folder / "scenario.xml"
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        return path

    def _place_sound(self, name: str, who: str, law: str) -> None:
        target = self.folder / name
        if target.exists() or target.is_symlink():
            return
        given = self.plan.sounds.get(name)
        if given is not None:
            target.symlink_to(given.resolve())
        else:
            voice = tones.CALLER if who == "caller" else tones.APPLICATION
            tones.write_voice(self.folder, name, voice, tones.Codec.PCMU if law == "ulaw" else tones.Codec.PCMA)

    def _arguments(self, scenario: Path) -> list[str]:
        plan, ports = self.plan, self._lease
        assert ports is not None
        # SIPp takes whole calls for a rate, over a period that it takes in milliseconds.
        arguments = [plan.remote] if plan.remote is not None else []
        host = _in_uri(plan.host)
        arguments += ["-sf", str(scenario), "-i", host, "-mi", plan.host, "-bind_local", "-p", str(self.port)]
        arguments += ["-cp", str(ports.first + 1), "-mp", str(self.media_port), "-t", plan.transport, "-nostdin"]
        arguments += ["-m", str(plan.calls), "-l", str(plan.calls + 1), "-d", str(plan.length_ms), "-s", plan.called]
        arguments += ["-r", str(round(plan.rate * 10)), "-rp", "10000"]
        arguments += ["-timeout", f"{plan.timeout_s:.0f}s", "-timeout_error", "-rtp_threadtasks", str(plan.calls + 20)]
        # What comes late for a call that is over must not pass for another call, of which there would be one less.
        arguments += ["-deadcall_wait", f"{plan.timeout_s * 1000:.0f}"]
        # The machine may be busy with others: a SIPp that was late is counted, not ended.
        arguments += ["-watchdog_minor_maxtriggers", "1000000", "-watchdog_major_maxtriggers", "1000000"]
        arguments += ["-buff_size", "4194304", "-trace_err", "-error_file", "errors.txt"]
        arguments += ["-trace_logs", "-log_file", "log.txt", "-trace_stat", "-stf", "statistics.csv", "-fd", "3600"]
        if plan.auto_answer:
            arguments.append("-aa")
        if plan.trace:
            arguments += ["-trace_msg", "-message_file", "messages.txt"]
        for name, value in plan.variables.items():
            arguments += ["-set", name, str(value)]
        if plan.rows:
            lines = ["SEQUENTIAL", *(";".join(row) for row in plan.rows)]
            (self.folder / "calls.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            arguments += ["-inf", "calls.csv"]
        return arguments

    def _wait_until_it_listens(self, timeout_s: float = 30) -> None:
        address = ip_address(self.plan.host)
        protocol = "tcp" if self.plan.transport.startswith("t") else "udp"
        table = Path(f"/proc/net/{protocol}{'6' if address.version == 6 else ''}")
        words = (address.packed[at : at + 4] for at in range(0, len(address.packed), 4))
        wanted = (
            f"{''.join(word[::-1].hex() for word in words).upper()}:{self.port:04X}"  # each word in the host's order
        )
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if not self.running:
                break
            if any(line.split()[1] == wanted for line in table.read_text().splitlines()[1:]):
                return
            time.sleep(0.02)
        raise StartError(
            f"sipp {self.plan.scenario} does not listen on {self.address}: {self.outcome().errors.strip()}"
        )


def _in_uri(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def scenario_path(scenario: str | Path) -> Path:
    """The file of a scenario: a path as it is, a name from the folder that ships with us. Raises StartError."""
    if isinstance(scenario, Path):
        return scenario
    here = Path(__file__).resolve().parent
    for folder in (here / "scenarios", here.parents[1] / "sipp-scenarios"):
        path = folder / f"{scenario}.xml"
        if path.exists():
            return path
    raise StartError(f"there is no scenario {scenario!r}; run from a checkout, where sipp-scenarios/ is")
