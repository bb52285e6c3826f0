"""What a soak test found, for people."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table

from recorder.loadtest.soak_results import BATCHES, SoakResult

_MOST_FAULTS = 30


def show(result: SoakResult, console: Console) -> None:
    """Print the tables, the notes, and every fault up to a screenful."""
    console.print()
    console.print(_kinds_table(result))
    console.print(_kept_table(result))
    for note in result.notes:
        console.print(note, style="dim")
    for fault in result.faults[:_MOST_FAULTS]:
        console.print(f"✗ {fault}", style="red", markup=False, highlight=False, soft_wrap=True)
    if len(result.faults) > _MOST_FAULTS:
        console.print(f"… and {len(result.faults) - _MOST_FAULTS} more; --json has them all", style="red")
    right = sum(share.right for share in result.shares)
    style, mark = ("bold green", "✓") if result.ok else ("bold red", "✗")
    console.print(
        f"{mark} {right} of {result.options.calls} calls have the one CDR and the recording that they should; "
        f"{result.rate:.0f} a second, up to {result.peak_calls} at once.",
        style=style,
        highlight=False,
    )


def _kinds_table(result: SoakResult) -> Table:
    table = Table(title=f"{result.options.calls} calls, seed {result.options.seed}", title_justify="left")
    for name in ("Kind of call", "Ended as"):
        table.add_column(name)
    for name in ("Calls", "Right", "Failed by SIPp", "Retransmitted by SIPp"):
        table.add_column(name, justify="right")
    for kind in dict.fromkeys(share.kind for share in result.shares):
        mine = [share for share in result.shares if share.kind is kind]
        endings = sum((share.endings for share in mine), Counter[str]())
        table.add_row(
            kind.name,
            ", ".join(ending if len(endings) == 1 else f"{ending} {count}" for ending, count in endings.most_common()),
            str(sum(len(share.sip_call_ids) for share in mine)),
            str(sum(share.right for share in mine)),
            str(sum(share.failed for share in mine)),
            str(sum(share.retransmissions for share in mine)),
        )
    return table


def _kept_table(result: SoakResult) -> Table:
    table = Table(title="The recorder without calls", title_justify="left")
    table.add_column("")
    for name in ("before", *(f"after the {name} batch" for name in BATCHES)):
        table.add_column(name, justify="right")
    for name, text in (
        ("calls", "Calls"),
        ("legs", "Calls of the SIP stack"),
        ("rtp_sockets", "RTP sockets"),
        ("unfinished", "Unfinished files"),
        ("fds", "Descriptors"),
        ("threads", "Threads"),
    ):
        table.add_row(text, *(str(getattr(kept, name)) for kept in result.kept))
    table.add_row("Memory", *(f"{kept.rss_bytes / 2**20:.1f} MiB" for kept in result.kept))
    return table
