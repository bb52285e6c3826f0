"""Holds what a soak test left behind against what it did: one CDR an INVITE, one file a recorded call, nothing kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import soundfile

from recorder.loadtest.measure import udp_sockets
from recorder.loadtest.soak_kinds import Kind
from recorder.loadtest.subject import Api, Subject

_PAGE = 500
_LENGTH_SLACK_S = 0.25
_MEMORY_BYTES = 8 * 1024 * 1024
_REMEMBERED_BYTES = 100 * 1024  # of a call, both legs, as long as its transactions last
REMEMBERED_S = 32.0
"""How long the SIP stack keeps a call's last transactions (RFC 3261, timers H and J)."""


@dataclass(slots=True)
class Share:
    """The calls of one kind in one batch: what its two SIPp processes counted, and what was found of them.

    `sip_call_ids` are the Call-IDs of the INVITEs that were sent; `right` counts those with a right CDR and recording.
    """

    kind: Kind
    sip_call_ids: list[str]
    failed: int = 0
    retransmissions: int = 0
    errors: str = ""
    right: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the recorder holds on to while there are no calls."""

    calls: int
    legs: int
    rtp_sockets: int
    unfinished: int
    fds: int
    threads: int
    rss_bytes: int

    @property
    def idle(self) -> bool:
        """Whether no call, no leg, no port and no unfinished file is left."""
        return not (self.calls or self.legs or self.rtp_sockets or self.unfinished)

    @classmethod
    def by(cls, subject: Subject) -> Kept:
        """Read it all from a running recorder."""
        metrics, process = subject.api.metrics(), psutil.Process(subject.pid)
        return cls(
            calls=round(metrics["recorder_calls_live"]),
            legs=round(metrics["recorder_legs_live"]),
            rtp_sockets=udp_sockets(subject.rtp_ports),
            unfinished=sum(1 for _ in subject.recordings.glob("*.part")),
            fds=process.num_fds(),
            threads=process.num_threads(),
            rss_bytes=process.memory_info().rss,
        )


def cdrs_since(api: Api, from_ms: int) -> dict[str, list[dict[str, Any]]]:
    """Every CDR from then on, by the Call-ID of its A leg."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    cursor: dict[str, str] = {}
    while True:
        page = api.get("cdrs", from_ms=from_ms, limit=_PAGE, **cursor)
        for cdr in page["cdrs"]:
            found[cdr["a_sip_call_id"]].append(cdr)
        if not page["next_cursor"]:
            return found
        cursor = {"cursor": page["next_cursor"]}


def memory_faults(after: Sequence[Kept], remembered: int = 0) -> list[str]:
    """Whether memory is lost, by the readings after each of several batches of like size.

    What the first one leaves is the high-water mark of the stack's pools and of malloc, which a later batch with more
    calls at once may raise once more. A leak grows with every batch.

    Args:
        after: the readings.
        remembered: how many calls of a batch the SIP stack still has to remember during the next one: its memory
            comes on top of that of the next one's.
    """
    grown = [later.rss_bytes - earlier.rss_bytes for earlier, later in pairwise(after)]
    if min(grown) <= _MEMORY_BYTES + remembered * _REMEMBERED_BYTES:
        return []
    steps = " and ".join(f"{step / 2**20:.1f} MiB" for step in grown)
    return [f"memory grew in every batch: by {steps} after the first one"]


def judge(shares: Iterable[Share], cdrs: Mapping[str, list[dict[str, Any]]], recordings: Path) -> list[str]:
    """Give each share its findings; returns a line for each CDR that belongs to no call."""
    known: set[str] = set()
    for share in shares:
        known.update(share.sip_call_ids)
        for sip_call_id in share.sip_call_ids:
            fault = _fault(share, cdrs.get(sip_call_id, []), recordings)
            if fault is None:
                share.right += 1
            else:
                share.faults.append(f"{share.kind.name}: {sip_call_id}: {fault}")
    return [f"a CDR of a call that nobody made: {sip_call_id}" for sip_call_id in cdrs.keys() - known]


def _fault(share: Share, cdrs: list[dict[str, Any]], recordings: Path) -> str | None:
    if len(cdrs) != 1:
        return f"{len(cdrs)} CDRs instead of 1"
    [cdr] = cdrs
    ending = (cdr["result"], cdr["reason"])
    share.endings["/".join(ending)] += 1
    if ending not in share.kind.endings:
        return f"ended as {ending[0]}/{ending[1]} instead of {' or '.join('/'.join(e) for e in share.kind.endings)}"
    if cdr["recorded"] != share.kind.answered:
        return "it was not recorded" if share.kind.answered else "it was recorded though never answered"
    return _file_fault(cdr, recordings) if cdr["recorded"] else None


def _file_fault(cdr: Mapping[str, Any], recordings: Path) -> str | None:
    path = recordings / cdr["file"]
    if not path.exists() or not path.with_suffix(".json").exists():
        return f"{path.name} or its manifest is not there"
    try:
        length_s = soundfile.info(path).duration
    except soundfile.LibsndfileError as error:
        return f"{path.name} cannot be read: {error}"
    if abs(length_s - cdr["duration_s"]) > _LENGTH_SLACK_S:
        return f"{path.name} lasts {length_s:.2f} s, the call {cdr['duration_s']:.2f} s"
    return None
