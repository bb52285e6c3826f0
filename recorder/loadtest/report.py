"""What a load test found, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from recorder.loadtest.results import Cost, PhaseResult, Results, Spread

_MOST_FAULTS = 30


def show(results: Results, console: Console) -> None:
    """Print the tables, the notes, and every fault up to a screenful."""
    console.print()
    for phase in results.phases:
        console.print(_phase_table(phase))
    if results.cost is not None:
        console.print(_cost_table(results, results.cost))
    for note in results.notes:
        console.print(note, style="dim")
    for fault in results.faults[:_MOST_FAULTS]:
        console.print(f"✗ {fault}", style="red", markup=False, highlight=False, soft_wrap=True)
    if len(results.faults) > _MOST_FAULTS:
        console.print(f"… and {len(results.faults) - _MOST_FAULTS} more; --json has them all", style="red")
    asked = sum(phase.phase.calls for phase in results.phases)
    good = sum(phase.good for phase in results.phases)
    style, mark = ("bold green", "✓") if results.ok else ("bold red", "✗")
    console.print(f"{mark} {good} of {asked} calls are recorded, each one whole and right by its content.", style=style)


def _phase_table(result: PhaseResult) -> Table:
    phase = result.phase
    title = f"{phase.name}: {phase.calls} of {phase.duration_s:g} s, {phase.rate:g} a second"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_row("Recordings right by content", f"{result.good} of {phase.calls}")
    table.add_row("Length less answered time", _ms(result.length_error_s))
    table.add_row("Application's sound less caller's", _ms(result.offset_s))
    table.add_row("First sound after the answer", _ms(result.start_s))
    table.add_row("Tone bursts heard", f"{result.bursts}, each speaker straying by {_ms(result.drift_s)}")
    table.add_row("Cut off at the start of a sound", _ms(result.clipped_s))
    table.add_row("Missing inside calls", f"{1000 * result.gap_s:.0f} ms in {result.gaps} places, {result.slips} slips")
    table.add_row(
        "Short disturbances tolerated", f"{result.disturbances} (a jitter buffer that adapts; not with --strict)"
    )
    if result.muted_calls:
        table.add_row("Muted", f"{result.muted_calls} calls, {result.silent_s:.1f} s, every sample 0")
    table.add_row("Hang-up to finished manifest", _ms(result.durable_s))
    table.add_row(
        "SIPp", f"{result.failed_calls} failed, {result.retransmissions} retransmissions, late {result.sipp_late} times"
    )
    if result.rtp:
        lost = result.rtp.get("sent", 0) - result.rtp.get("received", 0)
        table.add_row(
            "RTP sent", f"{result.rtp.get('sent', 0)}, of which {lost} did not come out (first packets, ends)"
        )
    table.add_row("Verified in", f"{result.verify_s:.1f} s")
    return table


def _cost_table(results: Results, cost: Cost) -> Table:
    table = Table(title="The recorder's process", title_justify="left", show_header=False)
    table.add_row("CPU without calls", _percent(cost.idle_share))
    table.add_row(f"CPU per dialog, {cost.dialogs} at once", f"{_percent(cost.cpu_per_dialog)} of one core")
    table.add_row(
        f"CPU per call set up and torn down, of {cost.short_calls}",
        "not measured" if cost.cpu_per_call_s is None else f"{1000 * cost.cpu_per_call_s:.2f} ms",
    )
    if cost.cpu_finish_per_minute_s is not None:
        finish_s = cost.cpu_finish_per_minute_s
        table.add_row(
            f"CPU when calls end, per minute of talk, {results.options.file_format.label}",
            f"{1000 * finish_s:.1f} ms (as if {_percent(finish_s / 60)} of one core per dialog)",
        )
    for floor in results.floors:
        table.add_row(f"The floor per dialog, {floor.shape}", f"{_percent(floor.cpu_per_dialog)} of one core")
    if results.floor_ratio is not None:
        table.add_row("Recorder over floor", f"{results.floor_ratio:.2f}")
    if cost.before is not None and cost.after is not None:
        megabyte = 1024 * 1024
        table.add_row(
            "Memory before, peak, after",
            f"{cost.before.rss_bytes / megabyte:.0f}, {cost.rss_peak_bytes / megabyte:.0f}, "
            f"{cost.after.rss_bytes / megabyte:.0f} MiB",
        )
        if cost.rss_kept_per_call_bytes is not None:
            table.add_row(
                "Memory kept per call, after the first phase", f"{cost.rss_kept_per_call_bytes / 1024:+.0f} KiB"
            )
        table.add_row("Descriptors before, peak, after", f"{cost.before.fds}, {cost.fds_peak}, {cost.after.fds}")
        table.add_row(
            "Threads before, peak, after", f"{cost.before.threads}, {cost.threads_peak}, {cost.after.threads}"
        )
    table.add_row("Packets the kernel dropped at its sockets", str(cost.udp_drops_peak))
    metrics = results.metrics
    if metrics:
        table.add_row("Samples dropped", f"{metrics.get('recorder_dropped_samples_total', 0):.0f}")
        finished = metrics.get("recorder_finish_seconds_count", 0)
        if finished:
            mean = metrics.get("recorder_finish_seconds_sum", 0) / finished
            table.add_row("End of call to indexed, mean (its own)", f"{1000 * mean:.0f} ms")
    return table


def _percent(share: float | None) -> str:
    return "not measured" if share is None else f"{100 * share:.3f} %"


def _ms(spread: Spread) -> str:
    if spread.median is None or spread.least is None or spread.p95 is None or spread.most is None:
        return "not measured"
    median, least, p95, most = (round(1000 * value) for value in (spread.median, spread.least, spread.p95, spread.most))
    return f"{median:+d} ms (least {least:+d}, 95 % {p95:+d}, most {most:+d})"
