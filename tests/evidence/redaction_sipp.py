"""The same scripts as SIPp's scenarios: the steps that the application names, at their times, and both voices."""

from __future__ import annotations

import re
from pathlib import Path

from recorder.loadtest.peers import scenario_path
from tests.evidence.redaction import APPLICATION_CODE, CODES, SECRET_CODES, Deed, Script

_AFTER_S = 0.2  # the caller knows nothing of the application's INFO: it is loud well within the step
_HANG_UP_S = 0.5  # after the last step
_INFO = """<send retrans="500"><![CDATA[

INFO [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
[routes]
From:[$callee];tag=[pid]B[call_number]
To:[$caller]
Call-ID: [call_id]
CSeq: {cseq} INFO
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
Content-Type: application/json
Content-Length: [len]

{{"action": "{action}", "step": "{step}"}}

  ]]></send>
  <recv response="200"/>
"""


def deeds_of(script: Script) -> list[Deed]:
    """What of a script SIPp can do: the application's own steps."""
    return [deed for deed in script.deeds if deed.what in ("mute", "unmute") and deed.step != "before"]


def spans_of(deeds: list[Deed], length_s: float) -> list[tuple[float, float]]:
    """When a step is open, from its INFO to the one that ends the last."""
    spans, opened, begun_s = [], set(), 0.0
    for deed in deeds:
        if deed.what == "mute":
            begun_s = deed.at_s if not opened else begun_s
            opened.add(deed.step)
        else:
            opened.discard(deed.step)
            if not opened:
                spans.append((begun_s, deed.at_s))
    return [*spans, (begun_s, length_s)] if opened else spans


def write(script: Script, folder: Path) -> tuple[Path, Path]:
    """Write the scenarios of the caller and the application, and the sounds that they play. Returns both paths."""
    deeds, quiet = deeds_of(script), {"a": CODES[8], "b": APPLICATION_CODE}
    spans = spans_of(deeds, script.length_s)
    play: dict[str, dict[bool, str]] = {"a": {}, "b": {}}
    for side in "ab":
        for secret, code in ((False, quiet[side]), (True, SECRET_CODES[side])):
            path = folder / f"{side}-{secret}.ulaw"
            path.write_bytes(bytes([code]) * 8000)
            play[side][secret] = f'<nop><action><exec rtp_stream="{path},-1,0,PCMU/8000"/></action></nop>\n'

    lines, at_s = [play["b"][False]], 0.0
    for cseq, deed in enumerate(deeds, start=1):
        lines.append(_pause(deed.at_s - at_s))
        at_s = deed.at_s
        begins, ends = any(at_s == span[0] for span in spans), any(at_s == span[1] for span in spans)
        if ends and deed.what == "unmute":
            lines.append(play["b"][False])
        if begins and deed.what == "mute":
            lines.append(play["b"][True])
        lines.append(_INFO.format(cseq=cseq, action=deed.what, step=deed.step))
    text = scenario_path("uas-answer-mute-json").read_text()
    start, end = text.index('  <nop><action><exec rtp_stream="callee'), text.index('  <recv request="BYE"/>')
    application = folder / "uas.xml"
    application.write_text(text[:start] + "".join(lines) + text[end:])

    lines, at_s = [play["a"][False]], 0.0
    for begin_s, end_s in spans:
        if end_s - begin_s > 3 * _AFTER_S:
            lines += [_pause(begin_s + _AFTER_S - at_s), play["a"][True]]
            lines += [_pause(end_s - begin_s - 2 * _AFTER_S), play["a"][False]]
            at_s = end_s - _AFTER_S
    lines.append(_pause(script.length_s + _HANG_UP_S - at_s))
    text = scenario_path("uac-call").read_text()
    start = text.index('  <nop><action><exec rtp_stream="caller')
    caller = folder / "uac.xml"
    caller.write_text(text[:start] + "".join(lines) + re.sub(r".*?<pause/>\n", "", text[start:], count=1, flags=re.S))
    return caller, application


def _pause(seconds: float) -> str:
    return f'<pause milliseconds="{max(1, round(1000 * seconds))}"/>\n'
