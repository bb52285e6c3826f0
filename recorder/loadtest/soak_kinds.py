"""What a soak test's calls do: each kind with the scenarios of its two ends and the ending that its CDR must name."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# What the recorder under test is told, so that calls which nobody ends do end: see `Kind.lingers`.
RING_TIMEOUT_S = 3
SETUP_TIMEOUT_S = 2
RTP_TIMEOUT_S = 34  # longer than the 32 s for which a 200 waits for its ACK
LONGEST_CALL_S = 38
TRANSFER_TO = "sip:9001@"  # who the scenarios that transfer refer to


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of call.

    Attributes:
        caller, application: scenarios of sipp-scenarios/.
        endings: every (result, reason) that its CDR may have.
        answered: whether it comes to an answer, and so to a recording.
        weight: its share in the mix.
        length_ms: what a pause of the caller's and of the application's scenario lasts.
        variables: -set NAME VALUE for the application's scenario.
        silent: take the sound out of both scenarios: no RTP at all.
        target: the scenario of the party that the call is transferred to.
        lingers: the recorder waits up to 32 s (RFC 3261, timers B, F and H) for somebody who is gone.
    """

    name: str
    caller: str
    application: str
    endings: tuple[tuple[str, str], ...]
    answered: bool = True
    weight: int = 10
    length_ms: tuple[int, int] = (1000, 1000)
    variables: Mapping[str, int] = field(default_factory=dict)
    silent: bool = False
    target: str | None = None
    lingers: bool = False


_HANGUP = (("completed", "caller_hangup"),)
_CALLEE_HANGUP = (("completed", "callee_hangup"),)
_TOO_LONG = (("completed", "max_duration"),)
_SILENCE = (("completed", "rtp_timeout"),)

KINDS: tuple[Kind, ...] = (
    Kind("caller hangs up", "uac-call", "uas-answer", _HANGUP, weight=15),
    Kind(
        "caller hangs up, no RTP", "uac-call", "uas-ring-answer", _HANGUP, weight=15, length_ms=(800, 300), silent=True
    ),
    Kind("callee hangs up", "uac-wait-bye", "uas-bye", _CALLEE_HANGUP, weight=15),
    Kind(
        "mute and unmute",
        "uac-call",
        "uas-answer-mute",
        _HANGUP,
        length_ms=(1500, 1500),
        variables={"mute_after": 300, "mute_for": 500},
    ),
    Kind("caller holds and resumes", "uac-hold", "uas-held", _HANGUP, weight=6, length_ms=(400, 400)),
    Kind("callee holds and resumes", "uac-held", "uas-hold", _HANGUP, weight=6, length_ms=(400, 400)),
    Kind("caller transfers", "uac-transfer", "uas-answer", _HANGUP, weight=6, length_ms=(600, 600), target="uas-bye"),
    Kind(
        "callee transfers",
        "uac-wait-bye",
        "uas-transfer",
        _CALLEE_HANGUP,
        weight=6,
        length_ms=(600, 600),
        target="uas-bye",
    ),
    Kind(
        "cancel while ringing",
        "uac-cancel",
        "uas-ring",
        (("cancelled", "caller_cancelled"),),
        False,
        length_ms=(400, 400),
    ),
    Kind("busy", "uac-rejected", "uas-busy", (("rejected", "busy"),), False, weight=6),
    Kind("not found", "uac-rejected", "uas-reject-404", (("rejected", "not_found"),), False, weight=6),
    Kind("overloaded", "uac-rejected", "uas-reject-503", (("failed", "overloaded"),), False, weight=6),
    Kind("rings, nobody answers", "uac-rejected", "uas-ring", (("failed", "no_answer"),), False, weight=4),
    Kind(
        "nothing is heard",
        "uac-rejected",
        "uas-no-answer",
        (("failed", "unreachable"),),
        False,
        weight=2,
        length_ms=(0, 4000),
        lingers=True,
    ),
    Kind("BYE before the ACK", "uac-bye-before-ack", "uas-answer", _HANGUP, weight=4),
    Kind("no ACK", "uac-no-ack", "uas-answer", (("failed", "no_ack"),), weight=2, lingers=True),
    Kind("caller vanishes", "uac-vanish", "uas-answer", _SILENCE, weight=3, lingers=True),
    Kind("callee vanishes", "uac-wait-bye", "uas-vanish", _SILENCE, weight=3, lingers=True),
    Kind("RTP never comes", "uac-wait-bye", "uas-answer", _SILENCE, weight=2, silent=True, lingers=True),
    Kind("nobody hangs up", "uac-wait-bye", "uas-answer", _TOO_LONG, weight=2, lingers=True),
)


def drawn(calls: int, kinds: Sequence[Kind], chance: random.Random) -> dict[Kind, int]:
    """How many of `calls` are of each kind: drawn by weight, and one of each at least where there are enough."""
    counts = dict.fromkeys(kinds, 1 if calls >= len(kinds) else 0)
    for kind in chance.choices(kinds, [kind.weight for kind in kinds], k=calls - sum(counts.values())):
        counts[kind] += 1
    return {kind: count for kind, count in counts.items() if count}
