"""The load test from beginning to end: recorder, calls, verification, measurement, floor, report."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from recorder.byte_store import PLAIN, Storage
from recorder.errors import StartError
from recorder.file_format import FileFormat
from recorder.loadtest import floor, report
from recorder.loadtest.audit import Guards, audit
from recorder.loadtest.folders import working_folder
from recorder.loadtest.measure import Heartbeat, Sampler, machine, stolen_s
from recorder.loadtest.options import Options, Phase
from recorder.loadtest.results import Cost, PhaseResult, Results
from recorder.loadtest.spread import SpreadSound
from recorder.loadtest.subject import Subject, Tree
from recorder.loadtest.traffic import PhaseRun, Traffic

_IDLE_S = 2.5
_SETTLE_S = 60.0
_FLOOR_S = 8.0
_SHORT_CALLS = 200
_SHORT_CALL_S = 2.0
_STEADY_CALLS = 50
# Sections of a configuration taken over that are the load test's own.
_OWN_SECTIONS = ("trunks", "routes", "accounts", "library", "http")


def run(options: Options, console: Console | None = None) -> int:
    """Carry out a load test; print what it found. Returns 0 when every recording is there and right, else 1.

    Raises:
        InvalidRequestError: the options contradict each other.
        StartError: SIPp, the recorder or the floor cannot be started.
    """
    options.check()
    console = console or Console()
    results = Results(options, machine())
    with working_folder(options.keep, results) as folder:
        stolen = stolen_s()
        with Heartbeat() as heartbeat:
            if options.target is None:
                _with_own_recorder(options, folder, results, console)
            else:
                _with_running_recorder(options, folder, results, console)
        _note_stalls(heartbeat, stolen, results)
        if options.floor:
            _measure_floor(options, folder, results, console)
    report.show(results, console)
    if options.json_path is not None:
        options.json_path.parent.mkdir(parents=True, exist_ok=True)
        options.json_path.write_text(json.dumps(results.as_tree(), indent=1) + "\n", encoding="utf-8")
        console.print(f"Everything measured: {options.json_path}")
    return 0 if results.ok else 1


def phases_of(options: Options) -> list[Phase]:
    """The phases of a test: what was asked for, and where it helps a second one that tells set-up from media.

    Long calls are followed by short ones, whose CPU is mostly set-up; short ones by a few long ones, whose CPU is
    mostly media.
    """
    main = Phase("calls", options.calls, options.rate, options.duration_s, options.mute_every)
    measurable = options.target is None or options.pid is not None
    if not options.setup_phase or not measurable:
        return [main]
    if main.is_steady:
        return [main, Phase("short calls", min(options.calls, _SHORT_CALLS), options.rate, _SHORT_CALL_S)]
    calls = min(options.calls, _STEADY_CALLS)
    rate = max(options.rate, 10.0)
    return [main, Phase("steady calls", calls, rate, calls / rate + 8.0)]


def _with_own_recorder(options: Options, folder: Path, results: Results, console: Console) -> None:
    phases = phases_of(options)
    changes, guards, storage = _taken_over(options.config)
    changes["accounts"] = [_account(options.file_format)]
    subject = Subject(folder, max(phase.concurrent for phase in phases) + 10, changes)
    try:
        subject.start()
        with Sampler(subject.pid, subject.rtp_ports) as sampler:
            idle = _idle()
            for phase in phases:
                traffic = _drive(phase, options, subject.sip_address, subject.application_port, folder, console)
                _await_recordings(subject.recordings, traffic, results)
                _judge(traffic, subject.recordings, guards, subject, sampler, results, storage)
            time.sleep(0.5)
        results.cost = Cost.of(results.phases, sampler, idle)
        results.metrics = {name: v for name, v in subject.api.metrics().items() if name.startswith("recorder_")}
        _check_metrics(results)
        code = subject.stop()
        if code != 0:
            results.faults.append(f"recorder: ended with {code} instead of 0 after SIGTERM; see {subject.log_path}")
        results.faults += [f"recorder's log: {line[:300]}" for line in subject.trouble()]
    finally:
        subject.close()


def _with_running_recorder(options: Options, folder: Path, results: Results, console: Console) -> None:
    assert options.target is not None
    assert options.recordings is not None
    results.notes.append("The recorder was running already: its index and its metrics were not looked at.")
    with contextlib.ExitStack() as stack:
        sampler = stack.enter_context(Sampler(options.pid)) if options.pid is not None else None
        idle = _idle()
        for phase in phases_of(options):
            traffic = _drive(phase, options, options.target, options.application_port, folder, console)
            _await_recordings(options.recordings, traffic, results)
            _judge(traffic, options.recordings, Guards(), None, sampler, results)
    if sampler is not None:
        results.cost = Cost.of(results.phases, sampler, idle)


def _drive(
    phase: Phase, options: Options, target: str, application_port: int, folder: Path, console: Console
) -> Traffic:
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with contextlib.ExitStack() as stack:
        spread = stack.enter_context(SpreadSound(folder, options.codec)) if options.spread else None
        sound = spread.sound if spread is not None else None
        run_ = stack.enter_context(PhaseRun(phase, target, application_port, options.codec, folder, sound))
        if spread is not None:
            spread.follow(run_)
        progress = stack.enter_context(Progress(*columns, console=console))
        set_up = progress.add_task(f"{phase.name}: answered", total=phase.calls)
        over = progress.add_task(f"{phase.name}: hung up", total=phase.calls)

        def show() -> None:
            answered, ended = run_.progress()
            progress.update(set_up, completed=answered)
            progress.update(over, completed=ended)

        traffic = run_.finish(show)
        show()
        return traffic if spread is None else replace(traffic, rtp=spread.stop())


def _await_recordings(folder: Path, traffic: Traffic, results: Results) -> None:
    """Wait until as many manifests are there as calls were answered; what does not come is found later."""
    begun = time.monotonic()
    wanted = {call.dialog_id for call in traffic.calls.values() if call.answered is not None}
    # Opus takes the most CPU when the calls are over: up to a fiftieth of their time.
    end = begun + _SETTLE_S + traffic.talk_s / 50
    before = -1
    while time.monotonic() < end:
        there = sum(path.stem.rpartition("~")[2] in wanted for path in folder.glob("*.json"))
        if there >= len(wanted):
            break
        if there == before and not list(folder.glob("*.part")) and time.monotonic() > begun + 5:
            break  # nothing is under way any more
        before = there
        time.sleep(0.2)
    time.sleep(1.0)  # the index row follows the manifest
    if traffic.caller.exit_code != 0 or traffic.application.exit_code not in (0, -15):
        _add_sipp_faults(traffic, results)


def _judge(
    traffic: Traffic,
    folder: Path,
    guards: Guards,
    subject: Subject | None,
    sampler: Sampler | None,
    results: Results,
    storage: Storage = PLAIN,
) -> None:
    start = time.monotonic()
    api, given = subject.api if subject is not None else None, results.options
    found = audit(folder, traffic.calls.values(), guards, api, given.strict, given.file_format, storage)
    results.phases.append(PhaseResult.of(traffic, found, time.monotonic() - start, sampler))
    results.faults += found.faults()


def _add_sipp_faults(traffic: Traffic, results: Results) -> None:
    for name, outcome in (("caller", traffic.caller), ("application", traffic.application)):
        statistics = outcome.statistics
        if outcome.exit_code == 0 and not statistics.failed:
            continue
        first = next((line for line in outcome.errors.splitlines() if "20" in line and ":" in line), "")
        results.faults.append(
            f"SIPp ({name}): exit code {outcome.exit_code}, {statistics.failed} of {statistics.created} calls failed"
            + (f"; first: {first[:200]}" if first else "")
        )


def _check_metrics(results: Results) -> None:
    dropped = results.metrics.get("recorder_dropped_samples_total", 0)
    if dropped:
        results.faults.append(f"metrics: recorder_dropped_samples_total is {dropped:.0f}")
    for name, value in results.metrics.items():
        if name.startswith("recorder_storage_errors_total") and value:
            results.faults.append(f"metrics: {name} is {value:.0f}")
    for name in ("recorder_calls_live", "recorder_recordings_live"):
        if results.metrics.get(name):
            results.faults.append(f"metrics: {name} is {results.metrics[name]:.0f} after the last call")


def _note_stalls(heartbeat: Heartbeat, stolen_before: float | None, results: Results) -> None:
    results.stalls = heartbeat.stalls
    stolen = stolen_s()
    if stolen is not None and stolen_before is not None:
        results.stolen_s = stolen - stolen_before
    if heartbeat.stalls:
        worst = max(heartbeat.stalls, key=lambda stall: stall.seconds)
        clock = time.strftime("%H:%M:%S", time.localtime(worst.at))
        results.notes.append(
            f"This machine was busy or stood still: an idle thread was held up {len(heartbeat.stalls)} times, for "
            f"{1000 * worst.seconds:.0f} ms at {clock}. What is missing at such a moment may not have been sent."
        )


def _measure_floor(options: Options, folder: Path, results: Results, console: Console) -> None:
    dialogs = results.cost.dialogs if results.cost is not None and results.cost.dialogs else options.calls
    for shape in ("burst", "spread") if options.spread else ("burst",):
        with console.status(f"The floor: a bare relay of {dialogs} dialogs, packets in {shape} …"):
            try:
                results.floors.append(floor.measure(folder, dialogs, _FLOOR_S, shape, options.codec))
            except StartError as error:
                results.notes.append(str(error))


def _account(file_format: FileFormat) -> Tree:
    channels = "stereo" if file_format.channels == 2 else "mono"
    kept_as = {"channels": channels, "encoding": file_format.encoding}
    return {"id": "loadtest", "group": "tests", "record": True, "format": kept_as}


def _idle() -> tuple[float, float]:
    start = time.time()
    time.sleep(_IDLE_S)
    return start, time.time()


def _taken_over(config: Path | None) -> tuple[Tree, Guards, Storage]:
    """What of the user's configuration the recorder is started with: all that is not an address or a rule."""
    if config is None:
        return {}, Guards(), PLAIN
    from recorder import keys as key_files
    from recorder import settings

    loaded = settings.load(config)
    tree = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    kept = {key: value for key, value in tree.items() if key not in _OWN_SECTIONS}
    for section, keys in (("sip", ("listen", "max_calls")), ("media", ("rtp_port_first", "rtp_port_last", "address")),
                          ("recording", ("folder",)), ("log", ("format",))):  # fmt: skip
        if isinstance(kept.get(section), dict):
            kept[section] = {key: value for key, value in kept[section].items() if key not in keys}
    recording = loaded.recording
    if recording.signing_key_file is not None:  # its path was relative to the user's configuration
        kept["recording"]["signing_key_file"] = str(recording.signing_key_file)
    if recording.encryption.key_file is not None:
        kept["recording"]["encryption"]["key_file"] = str(recording.encryption.key_file)
    redaction = loaded.redaction
    guards = Guards(redaction.guard_before_ms / 1000, redaction.guard_after_ms / 1000)
    return kept, guards, key_files.storage(loaded)
