"""The soak test: thousands of calls of every kind, as fast as the machine holds, and nothing left over of them."""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from recorder.loadtest import soak_report
from recorder.loadtest.folders import working_folder
from recorder.loadtest.peers import HOST, Plan, Sipp, scenario_path
from recorder.loadtest.ports import PortLease, lease
from recorder.loadtest.soak_audit import REMEMBERED_S, Kept, Share, cdrs_since, judge, memory_faults
from recorder.loadtest.soak_kinds import (
    LONGEST_CALL_S,
    RING_TIMEOUT_S,
    RTP_TIMEOUT_S,
    SETUP_TIMEOUT_S,
    TRANSFER_TO,
    Kind,
    drawn,
)
from recorder.loadtest.soak_results import BATCHES, SoakOptions, SoakResult
from recorder.loadtest.subject import Subject

LOWEST_RATE = 10.0
_MOST_CALLS = 1000  # at once
_GROWTH = 1.5
_STEP_S = 5.0
_MARGIN = 0.8  # of the highest rate that held for a step
_HELD_RETRANSMISSIONS = 0.01  # a call
_SETTLE_S = 75.0  # timers B, F and H one after the other, and a busy machine
_GIVEN_BACK_S = 2.0  # the recorder gives free memory back within a second of its last call
_INDEXED_S = 10.0
_DESCRIPTORS = 8
_SOUND = re.compile(r"  <nop><action><exec rtp_stream=[^\n]*\n")


def run(options: SoakOptions, console: Console | None = None) -> int:
    """Carry out a soak test; print what it found. Returns 0 when nothing is wrong, else 1.

    Raises:
        InvalidRequestError: the options make no sense.
        StartError: SIPp or the recorder cannot be started.
    """
    kinds = options.chosen()
    console = console or Console()
    result = SoakResult(options)
    with working_folder(options.keep, result) as folder, contextlib.closing(_Soak(folder, kinds, result)) as soak:
        soak.carry_out(console)
    soak_report.show(result, console)
    if options.json_path is not None:
        options.json_path.parent.mkdir(parents=True, exist_ok=True)
        options.json_path.write_text(json.dumps(result.as_tree(), indent=1) + "\n", encoding="utf-8")
        console.print(f"Everything that was found: {options.json_path}")
    return 0 if result.ok else 1


class _Soak:
    """One recorder, a port for each kind of call, and the batches."""

    def __init__(self, folder: Path, kinds: Sequence[Kind], result: SoakResult) -> None:
        self.kinds = kinds
        self.short = [kind for kind in kinds if not kind.lingers]
        self.result = result
        self.chance = random.Random(result.options.seed)  # noqa: S311  # a mix that can be had again
        self.ports: PortLease = lease(2 * len(kinds))
        try:
            # No more ports than there are calls to make: they have to be neighbours.
            most = _MOST_CALLS if result.options.rate is None else min(_MOST_CALLS, max(64, result.options.calls))
            self.subject = Subject(folder, calls=most, changes=self._changes())
        except BaseException:
            self.ports.release()
            raise

    def close(self) -> None:
        self.subject.close()
        self.ports.release()

    def carry_out(self, console: Console) -> None:
        """Everything from the recorder's start to its end."""
        result, options = self.result, self.result.options
        self.subject.start()
        self._warm_up()
        columns = (TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            result.rate = options.rate or self._find_rate(progress)
            result.kept.append(self._settled())
            for number, name in enumerate(BATCHES):
                calls = options.calls * (number + 1) // len(BATCHES) - options.calls * number // len(BATCHES)
                task = progress.add_task(f"{name} batch, {result.rate:.0f} a second", total=calls)
                begun = time.monotonic()
                from_ms = int(time.time() * 1000)
                shares = self._batch(calls, result.rate, self.kinds, partial(_advance, progress, task))
                result.seconds.append(time.monotonic() - begun)
                result.batches.append(shares)
                result.kept.append(self._settled())
                self._judge(shares, from_ms)
        self._judge_kept()
        code = self.subject.stop()
        if code != 0:
            result.faults.append(f"recorder: ended with {code} instead of 0 after SIGTERM; see its log")
        result.faults += [f"recorder's log: {line[:300]}" for line in self.subject.trouble()]
        odd = sum(line.get("event") == "illegal_event" for line in self.subject.log_lines())
        if odd:
            result.notes.append(
                f"{odd} events came that their call's state has no place for (illegal_event in the log)"
            )

    # Calls --------------------------------------------------------------------------------------------------------

    def _warm_up(self) -> None:
        """Two calls of each short kind: what is made once is there before anything is measured."""
        self._batch(2 * len(self.short), 2 * LOWEST_RATE, self.short, lambda _: None)

    def _find_rate(self, progress: Progress) -> float:
        """The highest rate at which SIPp has next to nothing to repeat and nothing to complain about, less a margin."""
        task = progress.add_task("", total=None)
        best, rate = 0.0, LOWEST_RATE
        while True:
            progress.update(task, description=f"does it hold {rate:.0f} a second?")
            calls = max(len(self.short), round(rate * _STEP_S))
            shares = self._batch(calls, rate, self.short, lambda _: None)
            repeated = sum(share.retransmissions for share in shares)
            held = not any(share.failed for share in shares) and repeated <= _HELD_RETRANSMISSIONS * calls
            self.result.steps.append((rate, held))
            if not held:
                break
            best, rate = rate, rate * _GROWTH
        progress.update(task, description=f"it held {best:.0f} a second", total=1, completed=1)
        return max(LOWEST_RATE, best * _MARGIN)

    def _batch(self, calls: int, rate: float, kinds: Sequence[Kind], show: Callable[[int], None]) -> list[Share]:
        """Make `calls` calls; the SIPp processes of all kinds run side by side, and have ended when this returns."""
        counts = drawn(calls, kinds, self.chance)
        batch_s = calls / rate
        before = self._started()
        with contextlib.ExitStack() as stack:
            called = [stack.enter_context(Sipp(self._called_plan(*share, batch_s))) for share in counts.items()]
            joining = [
                stack.enter_context(Sipp(self._target_plan(kind, kind.target, count, batch_s)))
                for kind, count in counts.items()
                if kind.target is not None
            ]
            callers = [stack.enter_context(Sipp(self._caller_plan(*share, batch_s))) for share in counts.items()]
            for caller in callers:
                while caller.running:
                    show(min(calls, self._started() - before))
                    caller.pause(0.3)
            show(calls)
            ends = zip(counts.items(), callers, called, strict=True)
            shares = [_share(kind, count, caller, callee) for (kind, count), caller, callee in ends]
            with_target = [share for share in shares if share.kind.target is not None]
            for share, target in zip(with_target, joining, strict=True):
                _count(share, "the new party", target)
            return shares

    def _caller_plan(self, kind: Kind, count: int, batch_s: float) -> Plan:
        return replace(
            self._plan(kind.caller, kind, count, batch_s),
            remote=self.subject.sip_address,
            rate=max(0.1, count / batch_s),
            length_ms=kind.length_ms[0],
            called=self._number(kind),
        )

    def _called_plan(self, kind: Kind, count: int, batch_s: float) -> Plan:
        return replace(
            self._plan(kind.application, kind, count, batch_s),
            port=self._port(kind),
            length_ms=kind.length_ms[1],
            variables=kind.variables,
        )

    def _target_plan(self, kind: Kind, scenario: str, count: int, batch_s: float) -> Plan:
        plan = self._plan(scenario, kind, count, batch_s)
        return replace(plan, port=self._target_port(kind), length_ms=kind.length_ms[1])

    def _plan(self, scenario: str, kind: Kind, count: int, batch_s: float) -> Plan:
        text = scenario_path(scenario).read_text(encoding="utf-8")
        edit = [(sound, "") for sound in _SOUND.findall(text)] if kind.silent else []
        if TRANSFER_TO in text:
            edit.append((TRANSFER_TO, f"sip:{self._target_number(kind)}@"))
        timeout_s = max(batch_s, 10.0) + LONGEST_CALL_S + _SETTLE_S
        return Plan(scenario, calls=count, timeout_s=timeout_s, trace=False, edit=edit)

    def _number(self, kind: Kind) -> str:
        return f"7{self.kinds.index(kind):02}"

    def _target_number(self, kind: Kind) -> str:
        return f"8{self.kinds.index(kind):02}"

    def _port(self, kind: Kind) -> int:
        return self.ports.first + self.kinds.index(kind)

    def _target_port(self, kind: Kind) -> int:
        return self._port(kind) + len(self.kinds)

    def _changes(self) -> dict[str, Any]:
        return {
            "sip": {
                "ring_timeout_s": RING_TIMEOUT_S,
                "setup_timeout_s": SETUP_TIMEOUT_S,
                "max_call_s": LONGEST_CALL_S,
            },
            "media": {"rtp_timeout_s": RTP_TIMEOUT_S, "rtp_timeout_action": "end"},
            "trunks": [{"name": "caller", "sources": ["127.0.0.0/8"], "transfer": "allow"}],
            "routes": [
                {"name": f"kind-{number}", "match": {"called": number}, "target": f"sip:{{user}}@{HOST}:{port}"}
                for kind in self.kinds
                for number, port in (
                    (self._number(kind), self._port(kind)),
                    (self._target_number(kind), self._target_port(kind)),
                )
            ],
        }

    def _started(self) -> int:
        metrics = self.subject.api.metrics()
        self.result.peak_calls = max(self.result.peak_calls, round(metrics["recorder_calls_live"]))
        return round(metrics["recorder_calls_started_total"])

    # What is left -------------------------------------------------------------------------------------------------

    def _settled(self) -> Kept:
        """What the recorder holds on to once every call is over, or after the time that the slowest may take."""
        end = time.monotonic() + _SETTLE_S
        while True:
            kept = Kept.by(self.subject)
            if kept.idle or time.monotonic() > end:
                time.sleep(_GIVEN_BACK_S)
                return Kept.by(self.subject)
            time.sleep(0.2)

    def _judge(self, shares: list[Share], from_ms: int) -> None:
        faults = self.result.faults
        wanted = {sip_call_id for share in shares for sip_call_id in share.sip_call_ids}
        end = time.monotonic() + _INDEXED_S
        while not wanted <= (cdrs := cdrs_since(self.subject.api, from_ms)).keys() and time.monotonic() < end:
            time.sleep(0.2)
        faults += judge(shares, cdrs, self.subject.recordings)
        for share in shares:
            faults += share.faults
            if share.failed:
                faults.append(f"{share.kind.name}: SIPp says that {share.failed} failed: {share.errors.strip()}")

    def _judge_kept(self) -> None:
        faults = self.result.faults
        before, *after = self.result.kept
        for name, kept in zip(BATCHES, after, strict=True):
            if not kept.idle:
                faults.append(
                    f"{_SETTLE_S:.0f} s after the {name} batch there are still {kept.calls} calls, {kept.legs} legs, "
                    f"{kept.rtp_sockets} RTP sockets and {kept.unfinished} unfinished files"
                )
            if kept.fds > before.fds + _DESCRIPTORS:
                faults.append(f"{kept.fds} descriptors after the {name} batch, {before.fds} before it all")
        in_batch = self.result.options.calls // len(BATCHES)
        faults += memory_faults(after, in_batch if in_batch < REMEMBERED_S * self.result.rate else 0)


def _advance(progress: Progress, task: TaskID, completed: int) -> None:
    progress.update(task, completed=completed)


def _share(kind: Kind, count: int, caller: Sipp, called: Sipp) -> Share:
    """What two ended SIPp processes say."""
    # SIPp's Call-IDs are the call's number, its process and its address.
    share = Share(kind, [f"{number}-{caller.pid}@{HOST}" for number in range(1, count + 1)])
    _count(share, "the caller", caller)
    _count(share, "the application", called)
    return share


def _count(share: Share, who: str, sipp: Sipp) -> None:
    """Give a share what one of its ends, which is about to end or has ended, says."""
    outcome = sipp.wait(5)
    count = len(share.sip_call_ids)
    share.failed += outcome.statistics.failed
    share.retransmissions += outcome.statistics.retransmissions
    if outcome.statistics.failed:
        share.errors += f"{who}: {outcome.errors.strip()[:600]}\n"
    if outcome.statistics.created != count:
        share.faults.append(f"{share.kind.name}: {who} had {outcome.statistics.created} calls instead of {count}")
