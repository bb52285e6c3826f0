"""A user agent on pjsua2, a process of its own: TLS, SRTP by SDES or DTLS, digest. Takes or places one call.

    python -m tests.peers.ua '{"listen": {"transport": "tls", "host": "127.0.0.2"}, "call": "sips:100@127.0.0.1:5061"}'

It prints one JSON object a line: {"event": "listening", "port": ...}, {"event": "state", ...}, {"event": "media", ...}.
It plays `sound` (a WAV of 8 kHz) and writes what it hears to `heard`. `UserAgent` starts one from a test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

_ROOT = Path(__file__).parents[2]


class UserAgent:
    """The process, as a test holds it. `options` are those of `main`."""

    def __init__(self, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "tests.peers.ua", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def port(self) -> int:
        """The SIP port it listens on."""
        return int(self.wait_for("listening")["port"])

    def find(self, event: str, **values: Any) -> dict[str, Any] | None:
        """The last event of this kind with these values."""
        wanted = {"event": event, **values}
        return next((it for it in reversed(self.events) if wanted.items() <= it.items()), None)

    def wait_for(self, event: str, timeout_s: float = 30, **values: Any) -> dict[str, Any]:
        """Wait for an event and return it."""
        with self._news:
            self._news.wait_for(lambda: self._ended or self.find(event, **values) is not None, timeout_s)
            found = self.find(event, **values)
        assert found is not None, f"no {event} {values}; there was {self.events}"
        return found

    def wait(self, timeout_s: float = 30) -> int:
        """Wait for the end of the call, and of the process."""
        code = self._process.wait(timeout_s)
        self._reader.join(5)
        return code

    def hang_up(self) -> None:
        """End the call from this side, or the wait for one."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def __enter__(self) -> UserAgent:
        self.wait_for("listening")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                with self._news:
                    self.events.append(json.loads(line))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


def tell(event: str, **values: Any) -> None:
    """Print one event."""
    print(json.dumps({"event": event, **values}), flush=True)  # noqa: T201


def main(options: dict[str, Any]) -> None:
    """Run one call.

    Args:
        options: listen {transport, host, port}; tls {certificate, private_key, ca, verify_server, verify_client};
            identity, a URI; call, the URI to call (without it, one call is taken); srtp (off, optional, required);
            keying [sdes, dtls]; seconds until it hangs up; rtp_port; sound; heard; username and password;
            log, a level.
    """
    import pjsua2 as pj

    listen = {"transport": "udp", "host": "127.0.0.1", "port": 0, **options.get("listen", {})}
    ipv6 = ":" in listen["host"]
    srtp = {
        "off": pj.PJMEDIA_SRTP_DISABLED,
        "optional": pj.PJMEDIA_SRTP_OPTIONAL,
        "required": pj.PJMEDIA_SRTP_MANDATORY,
    }
    keying = {"sdes": pj.PJMEDIA_SRTP_KEYING_SDES, "dtls": pj.PJMEDIA_SRTP_KEYING_DTLS_SRTP}
    over = threading.Event()
    kept: list[Any] = []

    class Call(pj.Call):  # type: ignore[misc]
        def onCallState(self, _prm: Any) -> None:
            info = self.getInfo()
            tell("state", state=info.stateText, status=info.lastStatusCode, phrase=info.lastReason)
            if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
                over.set()

        def onCallMediaState(self, _prm: Any) -> None:
            info = self.getInfo()  # held on to: the list below is a part of it
            for index, media in enumerate(info.media):
                if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                    self.play(self.getAudioMedia(index))
                    stream = self.getStreamInfo(index)
                    tell("media", codec=stream.codecName, remote=stream.remoteRtpAddress)

        def play(self, audio: Any) -> None:
            if "sound" in options and not any(isinstance(it, pj.AudioMediaPlayer) for it in kept):
                player = pj.AudioMediaPlayer()
                player.createPlayer(options["sound"])
                kept.append(player)
                player.startTransmit(audio)
            if "heard" in options and not any(isinstance(it, pj.AudioMediaRecorder) for it in kept):
                recorder = pj.AudioMediaRecorder()
                recorder.createRecorder(options["heard"])
                kept.append(recorder)
                audio.startTransmit(recorder)

    class Account(pj.Account):  # type: ignore[misc]
        def onIncomingCall(self, prm: Any) -> None:
            tell("invite", message=prm.rdata.wholeMsg, source=prm.rdata.srcAddress)
            calls.append((Call(self, prm.callId), 200))

    def answer() -> None:
        while calls:
            call, status = calls.pop()
            kept.append(call)
            answered = pj.CallOpParam()
            answered.statusCode = status
            call.answer(answered)

    calls: list[tuple[Any, int]] = []
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.userAgent = "ua"
    config.logConfig.level = config.logConfig.consoleLevel = options.get("log", 0)
    config.medConfig.clockRate = config.medConfig.sndClockRate = 8000
    config.medConfig.noVad = True
    config.medConfig.ecTailLen = 0
    endpoint.libInit(config)
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMU/") else 0)
    transport = pj.TransportConfig()
    transport.boundAddress, transport.port = listen["host"], listen["port"]
    kind = f"PJSIP_TRANSPORT_{listen['transport'].upper()}{'6' if ipv6 else ''}"
    if listen["transport"] == "tls":
        tls = options["tls"]
        transport.tlsConfig.certFile, transport.tlsConfig.privKeyFile = tls["certificate"], tls["private_key"]
        transport.tlsConfig.CaListFile = tls["ca"]
        transport.tlsConfig.verifyServer = tls.get("verify_server", True)
        transport.tlsConfig.verifyClient = transport.tlsConfig.requireClientCert = tls.get("verify_client", False)
        transport.tlsConfig.proto = pj.PJ_SSL_SOCK_PROTO_TLS1_2
    transport_id = endpoint.transportCreate(getattr(pj, kind), transport)
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    name = endpoint.transportGetInfo(transport_id).localName
    account_config = pj.AccountConfig()
    account_config.idUri = options.get("identity", f"sip:ua@{name}")
    account_config.sipConfig.transportId = transport_id
    account_config.natConfig.iceEnabled = False
    account_config.natConfig.sdpNatRewriteUse = 0
    account_config.mediaConfig.srtpUse = srtp[options.get("srtp", "off")]
    account_config.mediaConfig.srtpSecureSignaling = 0
    for one in options.get("keying", ["sdes"]):
        account_config.mediaConfig.srtpOpt.keyings.append(keying[one])
    account_config.mediaConfig.transportConfig.boundAddress = listen["host"]
    account_config.mediaConfig.transportConfig.port = options.get("rtp_port", 40000)
    account_config.mediaConfig.transportConfig.portRange = 200
    if ipv6:
        account_config.mediaConfig.ipv6Use = pj.PJSUA_IPV6_ENABLED_USE_IPV6_ONLY
    if "username" in options:
        credentials = pj.AuthCredInfo("digest", "*", options["username"], 0, options["password"])
        account_config.sipConfig.authCreds.append(credentials)
    account = Account()
    account.create(account_config, True)
    tell("listening", port=int(name.rpartition(":")[2]), name=name)

    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    deadline = None
    if "call" in options:
        call = Call(account)
        kept.append(call)
        prm = pj.CallOpParam(True)
        prm.opt.audioCount, prm.opt.videoCount, prm.opt.textCount = 1, 0, 0
        call.makeCall(options["call"], prm)
        deadline = time.monotonic() + options.get("seconds", 3)
    while not over.is_set():
        endpoint.libHandleEvents(10)
        answer()
        if stop.is_set() or (deadline is not None and time.monotonic() > deadline):
            stop.clear()
            deadline = None
            endpoint.hangupAllCalls()
            if not any(isinstance(it, pj.Call) for it in kept):
                over.set()
    kept.clear()
    account.shutdown()
    endpoint.libDestroy()
    tell("ended")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
