"""A small B2BUA whose INFO handler does what the INFO's own `X-Do` header says; argv[1] is where the B legs go.

It prints its own SIP URI, then one JSON line for each INFO the handler sees, and ends when its standard input closes.
"""

from __future__ import annotations

import base64
import json
import os
import select
import sys
import time

import pjsua2 as pj
from endpoint import LoopbackEndpoint, answer, audio_only

from recorder import native

MODE = sys.argv[2] if len(sys.argv) > 2 else ""
far_uri = sys.argv[1]
legs: dict[int, Leg] = {}
later: list[tuple[float, int, list[str]]] = []


def say(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


class Leg(pj.Call):
    other: Leg | None = None
    is_far = False

    def onCallState(self, prm: object) -> None:  # noqa: ARG002
        state = self.getInfo().state
        if self.is_far and self.other and state == pj.PJSIP_INV_STATE_CONFIRMED:
            answer(self.other)
        elif self.is_far and self.other and state == pj.PJSIP_INV_STATE_EARLY:
            answer(self.other, 180)
        elif state == pj.PJSIP_INV_STATE_DISCONNECTED:
            legs.pop(self.getId())
            say(ended=self.getId(), far=self.is_far)
            if self.other and self.other.isActive() and MODE != "legs-are-independent":
                self.other.hangup(pj.CallOpParam())

    def onCallTsxState(self, prm: pj.OnCallTsxStateParam) -> None:
        if prm.e.body.tsxState.tsx.method == "INFO":
            say(pjsua_saw_info=True)

    def onDtmfDigit(self, prm: pj.OnDtmfDigitParam) -> None:
        say(pjsua_saw_digit=prm.digit)


class Account(pj.Account):
    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        near, far = Leg(self, prm.callId), Leg(self)
        near.other, far.other = far, near
        far.is_far = True
        legs[near.getId()] = near
        native.claim_info(near.getId())
        native.claim_info(near.getId())
        if MODE == "ring-at-once":
            answer(near, 180)
        far.makeCall(far_uri, audio_only())
        legs[far.getId()] = far
        native.claim_info(far.getId())


def beyond(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without those of the hop and the dialog."""
    passing = ("x-", "info-package", "record", "content-disposition", "www-authenticate", "proxy-authenticate")
    return [(name, value) for name, value in headers if name.lower().startswith(passing) and name != "Record-Route"]


def act(token: int, call_id: int, words: list[str]) -> None:
    match words:
        case ["answer", code, *reason]:
            done = native.answer_info(token, int(code), " ".join(reason), [("X-Answered-By", "python"), ("X-Two", "2")])
            say(answered=done, again=native.answer_info(token, 200))
        case ["forward"]:
            other = legs[call_id].other
            sent = other is not None and native.forward_info(token, other.getId(), beyond(requests[token]))
            say(forwarded=sent, again=other is not None and native.forward_info(token, other.getId(), []))
            if not sent:
                native.answer_info(token, 481)
        case ["later", *rest]:
            later.append((time.monotonic() + 0.7, token, rest))
        case ["raise"]:
            raise LookupError("the handler failed")
        case ["bad"]:
            for arguments in ((token, 100), (token, 700), (token, 200, "a\r\nb"), (token, 200, "", [("X", "a\nb")])):
                try:
                    native.answer_info(*arguments)
                except ValueError as error:
                    say(refused=str(error))
            native.answer_info(token, 200)
        case ["nothing"]:
            pass


def on_info(request: native.InfoRequest) -> None:
    headers = request.headers
    say(
        call_id=request.call_id,
        far=legs[request.call_id].is_far,
        token=request.token,
        content_type=request.content_type,
        body=base64.b64encode(request.body).decode(),
        headers=headers,
        pending=native.pending_infos(),
    )
    requests[request.token] = headers
    todo = next((value for name, value in headers if name == "X-Do"), "forward").split()
    if todo[0] == "later":
        calls[request.token] = request.call_id
    act(request.token, request.call_id, todo)


calls: dict[int, int] = {}
requests: dict[int, list[tuple[str, str]]] = {}
sys.unraisablehook = lambda event: say(unraisable=str(event.exc_value))
endpoint = LoopbackEndpoint()
account = endpoint.account(Account())
native.install_info(on_info, lambda _call_id, headers: beyond(headers))
try:
    native.install_info(on_info, lambda _call_id, headers: beyond(headers))
except RuntimeError as error:
    say(refused=str(error))
try:
    native.claim_info(3)
except RuntimeError as error:
    say(refused=str(error))
say(uri=f"sip:test@{endpoint.address}", refused_answer=native.answer_info(77, 200))

while not (select.select([sys.stdin], [], [], 0)[0] and not os.read(0, 100)):
    endpoint.pj.libHandleEvents(5)
    now = time.monotonic()
    due = [entry for entry in later if entry[0] <= now]
    later = [entry for entry in later if entry[0] > now]
    for _, token, words in due:
        act(token, calls[token], words)

say(end=True, pending=native.pending_infos())
if MODE != "destroy-without-uninstall":
    native.uninstall_info()
    native.uninstall_info()
    say(pending_after_uninstall=native.pending_infos())
for leg in [*legs.values()]:
    leg.other = None
legs.clear()
del account
endpoint.close(0 if MODE == "destroy-without-uninstall" else pj.PJSUA_DESTROY_NO_NETWORK)
