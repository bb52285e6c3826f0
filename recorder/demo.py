"""`recorder demo`: one real call through a recorder on this machine, and what is in the file afterwards.

The application's side is the recorded voice of an IVR, the caller's is read out by espeak-ng. The caller says a card
number while the application holds the step muted by SIP INFO. Nothing is taken on trust: where each sentence is in the
recording, and that the card number is not, is found out from the sound itself.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recorder.errors import StartError
from recorder.loadtest.conversation import Conversation, Heard, Line, Speaker, build, listen, missing_programs
from recorder.loadtest.peers import Outcome, Plan, Sipp
from recorder.loadtest.subject import Subject
from recorder.loadtest.tones import SAMPLE_RATE_HZ, Samples

CALLER, APPLICATION = Speaker.CALLER, Speaker.APPLICATION
LINES = (
    Line(APPLICATION, "Welcome to the directory.", "dir-welcome"),
    Line(CALLER, "Hello. I would like to pay my bill by card, please."),
    Line(APPLICATION, "One moment please.", "one-moment-please"),
    Line(APPLICATION, "Please enter your password followed by the pound key.", "agent-pass", secret=True),
    Line(CALLER, "My card number is four one one one, two two two two, three three three three.", secret=True),
    Line(APPLICATION, "Thank you.", "auth-thankyou"),
    Line(CALLER, "Is that all? Thank you, and goodbye."),
    Line(APPLICATION, "Goodbye.", "vm-goodbye"),
)
_COLOURS = {CALLER: "green", APPLICATION: "cyan"}
_GUARD_BEFORE_S, _GUARD_AFTER_S = 0.300, 0.060
_SLACK_S = 0.080


@dataclass(frozen=True, slots=True)
class Options:
    """`once`: leave after the call. `keep`: the folder to work in; without, a new one under the temporary folder."""

    once: bool = False
    keep: Path | None = None


@dataclass(slots=True)
class _Found:
    """The recording of the call, and what is wrong with it."""

    path: Path
    manifest: dict[str, Any]
    samples: Samples
    heard: list[Heard] = field(default_factory=list)
    silence: tuple[int, int] = (0, 0)
    faults: list[str] = field(default_factory=list)


def run(options: Options, console: Console | None = None) -> int:
    """Carry out the demonstration. Returns 0 when everything is as it should be, else 1.

    Raises:
        StartError: a program, a package or the recorder is not there or does not start; the text says which.
    """
    console = console or Console()
    missing = missing_programs(LINES)
    if missing:
        raise StartError("the demonstration needs more than is installed:\n  " + "\n  ".join(dict.fromkeys(missing)))
    folder = _folder(options)
    sounds = folder / "sounds"
    sounds.mkdir(exist_ok=True)
    conversation = build(LINES, sounds)
    changes = {"accounts": [{"id": "ivr", "group": "demo", "record": True}]}
    with Subject(folder, calls=4, changes=changes) as subject:
        console.print(
            f"[bold]The recorder is up[/bold]: SIP on {subject.sip_address}, HTTP on port {subject.http_port}"
        )
        console.print("A caller dials in. The recorder calls the application, and listens to both:\n")
        found = _examine(subject, conversation, *_call(subject, conversation, console))
        _show(found, conversation, subject, console)
        if not found.faults and not options.once:
            _stay(console)
        code = subject.stop()
        found.faults += [f"the recorder said: {line[:200]}" for line in subject.trouble()]
        if code != 0:
            found.faults.append(f"the recorder ended with {code} instead of 0; its log is {subject.log_path}")
    for fault in found.faults:
        console.print(f"✗ {fault}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    return 1 if found.faults else 0


def _folder(options: Options) -> Path:
    if options.keep is None:
        return Path(tempfile.mkdtemp(prefix="recorder-demo-"))
    options.keep.mkdir(parents=True, exist_ok=True)
    if any((options.keep / "recordings").glob("*.wav")):
        raise StartError(f"{options.keep} holds recordings already; give --keep a folder of its own")
    return options.keep.resolve()


# The call ---------------------------------------------------------------------------------------------------------


def _call(subject: Subject, conversation: Conversation, console: Console) -> tuple[Outcome, Outcome]:
    """Let the two talk, and say what happens as it happens. Returns what the caller and the application saw."""
    mute_from, mute_to = conversation.mute
    application = Plan(
        "uas-answer-mute",
        port=subject.application_port,
        variables={"mute_after": round(1000 * mute_from), "mute_for": round(1000 * (mute_to - mute_from))},
        sounds={"callee.ulaw": conversation.files[APPLICATION]},
        timeout_s=conversation.length_s + 20,
    )
    caller = Plan(
        "uac-call",
        remote=subject.sip_address,
        called="5550199",
        length_ms=round(1000 * conversation.length_s),
        sounds={"caller.ulaw": conversation.files[CALLER]},
        timeout_s=conversation.length_s + 15,
    )
    with Sipp(application) as answering, Sipp(caller) as dialing:
        _narrate(conversation, dialing, console)
        return dialing.wait(), answering.wait(5)


def _narrate(conversation: Conversation, dialing: Sipp, console: Console) -> None:
    mute_from, mute_to = conversation.mute
    events = [(turn.start_s, _sentence(turn.line)) for turn in conversation.turns]
    events.append((mute_from, Text("● INFO Record: off. The application mutes the recording.", "bold red")))
    events.append((mute_to, Text("● INFO Record: on. The recording goes on.", "bold red")))
    begin = time.monotonic()
    for at, text in sorted(events, key=lambda event: event[0]):
        while dialing.running and time.monotonic() - begin < at:
            dialing.pause(min(0.2, max(0.01, at - (time.monotonic() - begin))))
        if not dialing.running:
            return  # it went wrong: `_examine` says how
        console.print(Text(f"  {at:5.1f} s  ", "dim"), text, sep="", soft_wrap=True)


def _sentence(line: Line) -> Text:
    return Text(f"{line.speaker.value:<12}", _COLOURS[line.speaker]) + Text(f"“{line.words}”")


# What was recorded ------------------------------------------------------------------------------------------------


def _examine(subject: Subject, conversation: Conversation, caller: Outcome, application: Outcome) -> _Found:
    """Find the recording and hold it against the conversation. Raises StartError when there is none."""
    for name, outcome in (("caller", caller), ("application", application)):
        if not outcome.ok:
            tail = f"\n{subject.log_tail(8)}"
            raise StartError(f"the call failed on the {name}'s side: {outcome.errors.strip()[:400]}{tail}")
    path = _await_recording(subject)
    manifest = json.loads(path.with_suffix(".json").read_bytes())
    samples, rate = soundfile.read(path, dtype="int16")
    found = _Found(path, manifest, np.asarray(samples, dtype=np.int16))
    if rate != SAMPLE_RATE_HZ or found.samples.ndim != 1:
        found.faults.append(f"{path.name}: {rate} Hz, {found.samples.ndim} dimensions instead of 8000 Hz, mono")
        return found
    if hashlib.sha256(path.read_bytes()).hexdigest() != manifest["sha256"]:
        found.faults.append("the manifest's sha256 is not that of the file")
    _check_length(found, caller)
    _check_silence(found, conversation)
    found.heard = listen(found.samples, conversation)
    for heard in found.heard:
        words = heard.turn.line.words
        if heard.turn.line.secret and heard.is_there:
            found.faults.append(f"“{words}” is in the recording, at {heard.start_s:.1f} s, and must not be")
        if not heard.turn.line.secret and not heard.is_there:
            found.faults.append(f"“{words}” is not in the recording (likeness {heard.likeness:.2f})")
    return found


def _await_recording(subject: Subject) -> Path:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        manifests = list(subject.recordings.glob("*.json"))
        if manifests and subject.api.knows(manifests[0].stem.rpartition("~")[2]):
            return manifests[0].with_suffix(".wav")
        time.sleep(0.1)
    raise StartError(f"no recording appeared in {subject.recordings}:\n{subject.log_tail(8)}")


def _check_length(found: _Found, caller: Outcome) -> None:
    answered, hung_up = caller.received(200)[0].time_s, caller.sent("BYE")[0].time_s
    length = len(found.samples) / SAMPLE_RATE_HZ
    if abs(length - (hung_up - answered)) > 0.060:
        found.faults.append(f"the file is {length:.3f} s long, the call was {hung_up - answered:.3f} s")


def _check_silence(found: _Found, conversation: Conversation) -> None:
    """The span that the manifest calls muted has to cover the step, and to be silent to the last bit."""
    redactions = found.manifest["redactions"]
    if len(redactions) != 1:
        found.faults.append(f"the manifest tells of {len(redactions)} muted spans instead of one")
        return
    first = int(redactions[0]["start_sample"])
    last = first + int(redactions[0]["samples"])
    found.silence = (first, last)
    heard = int(np.count_nonzero(found.samples[first:last]))
    if heard:
        found.faults.append(f"{heard} of {last - first} samples of the muted span are not 0")
    mute_from, mute_to = conversation.mute
    if (
        first / SAMPLE_RATE_HZ > mute_from - _GUARD_BEFORE_S + _SLACK_S
        or last / SAMPLE_RATE_HZ < mute_to + _GUARD_AFTER_S - _SLACK_S
    ):
        found.faults.append(
            f"muted from {first / SAMPLE_RATE_HZ:.2f} to {last / SAMPLE_RATE_HZ:.2f} s; the application held the step "
            f"from {mute_from:.2f} to {mute_to:.2f} s"
        )


# What is shown ----------------------------------------------------------------------------------------------------


def _show(found: _Found, conversation: Conversation, subject: Subject, console: Console) -> None:
    length = len(found.samples) / SAMPLE_RATE_HZ
    console.print(f"\n[bold]The call is over[/bold] and recorded: {length:.2f} s. What is in the file, by its sound:\n")
    console.print(Text("  ") + _strip(found, conversation))
    legend = (
        Text("  caller", _COLOURS[CALLER]) + Text("  application", _COLOURS[APPLICATION]) + Text("  ── muted", "red")
    )
    console.print(legend)
    console.print()
    table = Table(box=None, padding=(0, 2), show_edge=False)
    for title in ("", "at", "who", "what", "likeness"):
        table.add_column(title, style="dim" if title == "likeness" else "", no_wrap=title != "what")
    for heard in found.heard:
        line, right = heard.turn.line, heard.is_there != heard.turn.line.secret
        table.add_row(
            Text("✓", "green") if right else Text("✗", "bold red"),
            "not there" if line.secret and right else f"{heard.start_s:5.2f} s",
            Text(line.speaker.value, _COLOURS[line.speaker]),
            Text(f"“{line.words}”", "strike" if line.secret and right else ""),
            f"{heard.likeness:.2f}",
        )
    console.print(table)
    first, last = found.silence
    span = f"{first / SAMPLE_RATE_HZ:.2f} s to {last / SAMPLE_RATE_HZ:.2f} s"
    console.print(f"\n  Muted: {span}, [bold]{last - first} samples, every one 0[/bold]\n")
    dialog = found.manifest["name"]["dialog_id"]
    token = f"access_token={subject.token}"
    url = f"http://127.0.0.1:{subject.http_port}/api/v1/recordings/{dialog}/audio?{token}"
    for label, value in (
        ("recording", str(found.path)),
        ("manifest", str(found.path.with_suffix(".json"))),
        ("listen", url),
    ):
        console.print(f"  [bold]{label:<10}[/bold]", end="")
        # Whole, so that it can be copied from any width of terminal.
        console.print(value, soft_wrap=True, highlight=False, markup=False)


def _strip(found: _Found, conversation: Conversation, width: int = 72) -> Text:
    """The recording at a glance: loudness in the colour of who speaks, a line where it is muted."""
    blocks = " ▁▂▃▄▅▆▇█"
    text = Text()
    for column in range(width):
        first, last = (len(found.samples) * edge // width for edge in (column, column + 1))
        piece = found.samples[first:last].astype(np.float64)
        if found.silence[0] <= first and last <= found.silence[1]:
            text.append("─", "red")
            continue
        loudness = float(np.sqrt(np.mean(piece**2))) if len(piece) else 0.0
        middle = (first + last) / 2 / SAMPLE_RATE_HZ
        speaker = min(
            conversation.turns, key=lambda turn: max(turn.start_s - middle, middle - turn.end_s, 0.0)
        ).line.speaker
        text.append(blocks[min(8, round(8 * min(1.0, loudness / 2500)))], _COLOURS[speaker])
    return text


def _stay(console: Console) -> None:
    console.print("\nThe recorder stays up: open the link to listen. Ctrl-C ends it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("Stopping.")
