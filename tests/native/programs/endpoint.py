"""A pjsua2 endpoint on loopback for these programs. pjsua2 is one to a process, so each test runs one of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

import pjsua2 as pj

from recorder import native

FRAME = 160


class Endpoint(pj.Endpoint):
    """Subclassed in Python on purpose: the bridge would then take the GIL for each of its reports."""

    reports = 0

    def onAudioMediaOpCompleted(self, prm: object) -> None:  # noqa: ARG002
        Endpoint.reports += 1


class LoopbackEndpoint:
    """Started on a free UDP port; `until` is its event loop, in the calling (sip) thread."""

    def __init__(self, log_level: int = 0) -> None:
        native.log_to_stderr(log_level)  # standard output is for what the program has to say
        self.pj = Endpoint()
        self.pj.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 0
        config.uaConfig.maxCalls = 64
        config.uaConfig.userAgent = "endpoint under test"
        config.logConfig.level = config.logConfig.consoleLevel = log_level
        config.medConfig.clockRate = 8000
        config.medConfig.sndClockRate = 8000
        config.medConfig.audioFramePtime = 20
        config.medConfig.sndAutoCloseTime = -1
        config.medConfig.noVad = True
        self.pj.libInit(config)
        native.log_to_stderr(log_level)
        native.install_relay()
        transport = pj.TransportConfig()
        transport.boundAddress = "127.0.0.1"
        transport_id = self.pj.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        self.pj.audDevManager().setNullDev()
        self.pj.libStart()
        self.address = self.pj.transportGetInfo(transport_id).localName
        for codec in self.pj.codecEnum2():
            self.pj.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMU") else 0)

    def account(self, account: pj.Account) -> pj.Account:
        config = pj.AccountConfig()
        config.idUri = f"sip:test@{self.address}"
        config.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
        account.create(config)
        return account

    def until(self, condition: Callable[[], object], timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the condition did not come true")
            self.pj.libHandleEvents(5)

    def close(self, flags: int = pj.PJSUA_DESTROY_NO_NETWORK) -> None:
        """By default without saying goodbye to anyone, which takes a second."""
        self.pj.libDestroy(flags)


def audio_only() -> pj.CallOpParam:
    parameters = pj.CallOpParam(True)
    parameters.opt.audioCount = 1
    parameters.opt.videoCount = 0
    parameters.opt.textCount = 0
    return parameters


def answer(call: pj.Call, code: int = 200) -> None:
    parameters = pj.CallOpParam()
    parameters.statusCode = code
    call.answer(parameters)
