"""The recorder under test, as its users run it: a process of its own, a configuration file, its HTTP API, SIGTERM."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from recorder.errors import StartError
from recorder.loadtest.ports import PortLease, lease

HOST = "127.0.0.1"
_READY_S = 30
_METRIC = re.compile(r"^(?P<name>[a-zA-Z_:]\w*)(?P<labels>\{[^}]*\})? (?P<value>\S+)$")
_TROUBLE = re.compile(r'"level": ?"(error|critical)"|\[(error|critical) *\]|^Traceback |exception was never retrieved')

Tree = dict[str, Any]


class Api:
    """The HTTP side of a recorder. `token` is the bearer token; None sends none."""

    def __init__(self, host: str, port: int, token: str | None = None) -> None:
        self.host = host
        self.port = port
        self.token = token

    def request(
        self,
        path: str,
        parameters: Mapping[str, object] | None = None,
        method: str = "GET",
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        """Send one request; returns status and body. Raises OSError when nobody listens."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, target, body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()

    def get(self, path: str, **parameters: object) -> Any:
        """Get a JSON resource under /api/v1. Raises StartError when the answer is not 200."""
        status, body = self.request(f"/api/v1/{path}", parameters)
        if status != 200:
            raise StartError(f"GET /api/v1/{path} answered {status}: {body[:300].decode(errors='replace')}")
        return json.loads(body)

    def is_ready(self) -> bool:
        """Whether /readyz says that calls may come."""
        try:
            return self.request("/readyz")[0] == 200
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        """Scrape /metrics: the value of each series under its name, labels as written."""
        _, body = self.request("/metrics")
        found = (_METRIC.match(line) for line in body.decode().splitlines())
        return {m["name"] + (m["labels"] or ""): float(m["value"]) for m in found if m}

    def knows(self, dialog_id: str) -> bool:
        """Whether its index has the recording of this dialog."""
        return self.request(f"/api/v1/recordings/{dialog_id}")[0] == 200


class Subject:
    """A recorder in a folder of its own, on leased ports, whose calls all go to one application on loopback.

    Args:
        folder: where configuration, log and recordings are put.
        calls: how many calls at a time its ports are to suffice for.
        changes: sections and keys laid over the configuration made here, which `configuration` shows.
    """

    def __init__(self, folder: Path, calls: int = 20, changes: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.token = "loadtest-" + os.urandom(18).hex()
        self.recordings = folder / "recordings"
        self.log_path = folder / "recorder.log"
        self._rtp_ports = 4 * calls + 40
        self._lease: PortLease = lease(self._rtp_ports + 4)
        first = self._lease.first
        self.sip_port, self.http_port, self.application_port = first, first + 1, first + 2
        self.configuration = _overlaid(self._configuration(), changes or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def sip_address(self) -> str:
        """`host:port` to call."""
        return f"{HOST}:{self.sip_port}"

    @property
    def pid(self) -> int:
        """The process id of the running recorder."""
        assert self._process is not None
        return self._process.pid

    @property
    def rtp_ports(self) -> range:
        """Every port the recorder may use for media."""
        media = self.configuration["media"]
        return range(int(media["rtp_port_first"]), int(media["rtp_port_last"]) + 1)

    @property
    def api(self) -> Api:
        """Its API, with a token of the role owner."""
        return Api(HOST, self.http_port, self.token)

    def start(self) -> Subject:
        """Start it and wait until it is ready. Raises StartError with its own words when it does not get there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recordings.mkdir(exist_ok=True)
        path = self.folder / "recorder.yaml"
        path.write_text(yaml.safe_dump(self.configuration, sort_keys=False), encoding="utf-8")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # ourselves
                [*_command(), "serve", "--config", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C on the terminal is ours to pass on
            )
        end = time.monotonic() + _READY_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise StartError(f"the recorder ended with exit code {self._process.returncode}:\n{self.log_tail()}")
            if self.api.is_ready():
                return self
            time.sleep(0.05)
        self.kill()
        raise StartError(f"the recorder was not ready after {_READY_S} s:\n{self.log_tail()}")

    def stop(self, timeout_s: float = 60) -> int:
        """End it with SIGTERM; returns its exit code, or minus the signal that had to end it."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return int(process.returncode)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Make sure that it has ended, and give its ports back. The folder stays."""
        self.kill()
        self._lease.release()

    def trouble(self) -> list[str]:
        """Lines of its log that tell of an error or a traceback."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return [line for line in text.splitlines() if _TROUBLE.search(line)]

    def log_lines(self) -> list[Tree]:
        """Its structured log lines."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def log_tail(self, lines: int = 20) -> str:
        """The end of its log."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Subject:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.close()

    def _configuration(self) -> Tree:
        first = self._lease.first + 4
        digest = hashlib.sha256(self.token.encode()).hexdigest()
        return {
            "sip": {
                "listen": [{"transport": "udp", "host": HOST, "port": self.sip_port}],
                "max_calls": self._rtp_ports // 4,
                "drain_timeout_s": 5,
            },
            "media": {"rtp_port_first": first, "rtp_port_last": first + self._rtp_ports - 1, "address": HOST},
            "trunks": [{"name": "caller", "sources": ["127.0.0.0/8"], "identity_headers": {"dialog": "X-Dialog-Id"}}],
            "routes": [{"name": "application", "target": f"sip:{{user}}@{HOST}:{self.application_port}"}],
            "accounts": [{"id": "loadtest", "group": "tests", "record": True}],
            "recording": {"folder": str(self.recordings), "disk_floor_mb": 0},
            "http": {
                "host": HOST,
                "port": self.http_port,
                "tokens": [{"name": "loadtest", "role": "owner", "sha256": digest}],
            },
            "log": {"format": "json"},
        }


def _overlaid(base: Tree, changes: Mapping[str, Any]) -> Tree:
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = _overlaid(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return result


def _command() -> list[str]:
    beside = Path(sys.executable).with_name("recorder")
    return [str(beside)] if beside.exists() else [sys.executable, "-c", "from recorder.cli import main; main()"]


def _environment() -> dict[str, str]:
    # Overrides meant for another recorder must not reach this one; the package may be a checkout that is not installed.
    from recorder.settings import ENVIRONMENT_PREFIX

    kept = {key: value for key, value in os.environ.items() if not key.startswith(ENVIRONMENT_PREFIX)}
    root = str(Path(__file__).resolve().parents[2])
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    kept["PYTHONUNBUFFERED"] = "1"
    return kept
