"""Recording control by SIP INFO: which requests are meant for us, and what they ask.

Two shapes are understood: a header `Record: off` or `Record: on`, and a body `{"action": "mute" | "unmute",
"step": "…"}` of type application/json. Whatever else an INFO holds is somebody else's and goes end to end.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum

from recorder.calls.events import InfoReceived
from recorder.errors import InvalidRequestError

_LONGEST_BODY_BYTES = 4096
_STEP = re.compile(r"[A-Za-z0-9_.:-]{0,64}", re.ASCII)


class Verb(Enum):
    """What a control asks for."""

    MUTE = "mute"
    UNMUTE = "unmute"


@dataclass(frozen=True, slots=True)
class Control:
    """A recording control: `step` names the sensitive step; "" when the request names none."""

    verb: Verb
    step: str = ""


def parse(info: InfoReceived) -> Control | None:
    """Read a control out of an INFO; None when the INFO is not one.

    Raises:
        InvalidRequestError: it is a control, but cannot be carried out as it stands.
    """
    by_header = _from_header(info.headers)
    return by_header if by_header is not None else _from_json(info.content_type, info.body)


def _from_header(headers: tuple[tuple[str, str], ...]) -> Control | None:
    values = {value.strip().lower() for name, value in headers if name.lower() == "record"}
    if values == {"off"}:
        return Control(Verb.MUTE)
    if values == {"on"}:
        return Control(Verb.UNMUTE)
    if values == {"on", "off"}:
        raise InvalidRequestError("Record is there twice, on and off")
    return None


def _from_json(content_type: str, body: bytes) -> Control | None:
    if content_type.partition(";")[0].strip().lower() != "application/json" or len(body) > _LONGEST_BODY_BYTES:
        return None
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("action") not in ("mute", "unmute"):
        return None
    step = content.get("step", "")
    if not isinstance(step, str) or not _STEP.fullmatch(step):
        raise InvalidRequestError("step must be a string of at most 64 letters, digits and _.:-")
    return Control(Verb(content["action"]), step)
