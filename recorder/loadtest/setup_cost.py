"""What setting up and tearing down a call costs: short calls without audio through a recorder, its CPU by thread."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from recorder.loadtest.peers import Plan, Sipp
from recorder.loadtest.subject import Subject

_IDLE_S = 3.0
_CALL_MS = 100
_CONCURRENT_S = 5.0  # of calls that are up, or not yet over: room for a machine that stands still for a while
_SETTLE_S = 30.0
_UNDER_WAY = ("calls_live", "recordings_live", "finish_queue_depth")


@dataclass(frozen=True, slots=True)
class Options:
    """How many calls, at how many a second; `json_path`: where to put what was measured."""

    calls: int = 600
    rate: float = 20.0
    json_path: Path | None = None


@dataclass(frozen=True, slots=True)
class SetupCost:
    """CPU in milliseconds a call, user and system, less what the process takes without calls.

    `threads` is by thread and holds what each took in all, without that deduction.
    """

    recorded: bool
    calls: int
    failed: int
    cpu_ms: float
    idle_share: float
    threads: dict[str, float]


def run(options: Options, console: Console | None = None) -> int:
    """Measure calls that are not recorded, then recorded ones; print the tables. Returns the exit code."""
    console = console or Console()
    costs = []
    for recorded in (False, True):
        with console.status(f"{options.calls} calls, {'recorded' if recorded else 'not recorded'} …"):
            costs.append(measure(options, recorded))
        console.print(_table(costs[-1]))
    if options.json_path is not None:
        options.json_path.parent.mkdir(parents=True, exist_ok=True)
        options.json_path.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n", encoding="utf-8")
    return 1 if any(cost.failed for cost in costs) else 0


def measure(options: Options, recorded: bool) -> SetupCost:
    """Carry `options.calls` calls through a recorder of its own and read what its threads have used."""
    accounts = {"accounts": [{"id": "setup", "group": "cost", "record": recorded}]}
    with tempfile.TemporaryDirectory(prefix="setupcost-") as folder:
        subject = Subject(Path(folder), round(options.rate * _CONCURRENT_S) + 20, accounts)
        with subject:
            process = psutil.Process(subject.pid)
            began = time.monotonic()
            before = _cpu_s(process)
            time.sleep(_IDLE_S)
            idle_share = (sum(_cpu_s(process).values()) - sum(before.values())) / (time.monotonic() - began)

            began = time.monotonic()
            before = _cpu_s(process)
            failed = _place(options, subject)
            _await_end(subject)
            used = _cpu_s(process)
            used.subtract(before)
            net_s = sum(used.values()) - idle_share * (time.monotonic() - began)
    threads = {name: 1000 * cpu_s / options.calls for name, cpu_s in used.most_common() if cpu_s > 0}
    return SetupCost(recorded, options.calls, failed, 1000 * net_s / options.calls, idle_share, threads)


def _place(options: Options, subject: Subject) -> int:
    """Have SIPp place the calls; returns how many failed."""
    scenarios = {"uac-call": "caller", "uas-answer": "callee"}
    silent = {
        scenario: [(f'  <nop><action><exec rtp_stream="{who}.ulaw,-1,0,PCMU/8000"/></action></nop>\n', "")]
        for scenario, who in scenarios.items()
    }
    port = subject.application_port
    answering = Plan("uas-answer", port=port, calls=options.calls, trace=False, edit=silent["uas-answer"])
    calling = Plan(
        "uac-call",
        remote=subject.sip_address,
        calls=options.calls,
        rate=options.rate,
        length_ms=_CALL_MS,
        timeout_s=options.calls / options.rate + 60,
        trace=False,
        edit=silent["uac-call"],
    )
    with Sipp(answering), Sipp(calling) as caller:
        return options.calls - caller.wait().statistics.successful


def _await_end(subject: Subject) -> None:
    """Wait until every call is over and accounted for."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline and any(subject.api.metrics()[f"recorder_{name}"] for name in _UNDER_WAY):
        time.sleep(0.5)


def _cpu_s(process: psutil.Process) -> Counter[str]:
    """CPU seconds by thread's name; threads of one name in one sum."""
    used: Counter[str] = Counter()
    for thread in process.threads():
        try:
            name = Path(f"/proc/{process.pid}/task/{thread.id}/comm").read_text(encoding="utf-8").strip()
        except OSError:
            continue  # it has ended
        used[name] += thread.user_time + thread.system_time  # type: ignore[assignment]  # a Counter of floats
    return used


def _table(cost: SetupCost) -> Table:
    title = f"{cost.calls} calls, {'recorded' if cost.recorded else 'not recorded'}: CPU for each, up and down"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_row("All, less idle", f"{cost.cpu_ms:.2f} ms")
    table.add_row("Without calls", f"{100 * cost.idle_share:.1f} % of one core")
    table.add_row("Calls that failed", str(cost.failed))
    for name, cpu_ms in cost.threads.items():
        if cpu_ms >= 0.005:  # what shows at all
            table.add_row(f"Thread {name}", f"{cpu_ms:.2f} ms")
    return table
