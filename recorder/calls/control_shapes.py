"""Recording controls as they come by SIP INFO: which requests are meant for us, and what they ask.

What no shape claims is somebody else's and goes end to end. Where an INFO says the same in two shapes it is one
control; where they disagree, or where a shape is used wrongly, it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from recorder.calls.events import InfoReceived
from recorder.calls.recording_control import Control, ControlRefusedError, Verb
from recorder.settings import Redaction

LONGEST_BODY_BYTES = 4096
LONGEST_VALUE = 256
Fields = tuple[tuple[str, str], ...]
STEP = re.compile(r"[A-Za-z0-9_.:-]{0,64}", re.ASCII)

_WORDS = {
    "mute": Verb.MUTE,
    "pause": Verb.MUTE,
    "stop": Verb.MUTE,
    "unmute": Verb.UNMUTE,
    "resume": Verb.UNMUTE,
    "start": Verb.START,
}
_HEADERS: Mapping[str, Mapping[str, Verb]] = {
    # Snom, Yealink, Asterisk, FreeSWITCH.
    "Record": {"on": Verb.START, "off": Verb.MUTE},
    # AudioCodes; parameters follow.
    "X-AC-Action": {
        "start-siprec": Verb.START,
        "pause-siprec": Verb.MUTE,
        "resume-siprec": Verb.UNMUTE,
        "stop-siprec": Verb.MUTE,
    },
    # jambonz.
    "X-Reason": {
        "startcallrecording": Verb.START,
        "pausecallrecording": Verb.MUTE,
        "resumecallrecording": Verb.UNMUTE,
        "stopcallrecording": Verb.MUTE,
    },
}
_BODIES = ("application/json", "text/plain")


class Shapes:
    """The shapes that one configuration takes."""

    def __init__(self, settings: Redaction | None = None) -> None:
        settings = settings or Redaction()
        self.info_package = settings.info_package
        self.sdp = settings.sdp
        self._header = settings.header.name if settings.header else None
        self._patterns = (
            {
                Verb.MUTE: re.compile(settings.header.mute, re.IGNORECASE),
                Verb.UNMUTE: re.compile(settings.header.unmute, re.IGNORECASE),
            }
            if settings.header
            else {}
        )

    def read(self, info: InfoReceived) -> Control | None:
        """Read a control out of an INFO; None when the INFO is not one.

        Raises:
            ControlRefusedError: it is a control, but cannot be carried out as it stands.
        """
        found = [*_from_headers(info.headers), *self._from_own_header(info.headers)]
        packages = [_word(value) for value in _values(info.headers, "info-package")]
        ours = self.info_package is not None and packages == [self.info_package.lower()]
        if ours or not packages:  # the body of another package is that package's (RFC 6086, section 4.2.1)
            found += _from_body(info.content_type, info.body)
        if ours and not found:
            raise _unusable(info.content_type)
        return _agreed(found)

    def _from_own_header(self, headers: Fields) -> Iterator[Control]:
        if self._header is None:
            return
        values = [value.strip() for value in _values(headers, self._header.lower())]
        usable = [value for value in values if len(value) <= LONGEST_VALUE]
        matches = [
            (verb, found)
            for value in usable
            for verb, pattern in self._patterns.items()
            if (found := pattern.fullmatch(value))
        ]
        if matches and len(values) > 1:
            raise _contradictory(self._header)
        for verb, found in matches:
            yield Control(verb, _step(found.groupdict().get("step") or ""), self._header)


def _from_headers(headers: Fields) -> Iterator[Control]:
    for shape, words in _HEADERS.items():
        values = {_word(value) for value in _values(headers, shape.lower())}
        known = values & words.keys()
        if known and len(values) > 1:
            raise _contradictory(shape)
        for word in known:
            yield Control(words[word], "", shape)


def _values(headers: Fields, name: str) -> list[str]:
    return [value for key, value in headers if key.lower() == name]


def _word(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def _from_body(content_type: str, body: bytes) -> list[Control]:
    kind = _word(content_type)
    if len(body) > LONGEST_BODY_BYTES:
        return []
    if kind == "text/plain":
        word = body.strip().lower().decode("ascii", "replace")
        return [Control(_WORDS[word], "", kind)] if word in _WORDS else []
    return _from_json(body) if kind == "application/json" else []


def _from_json(body: bytes) -> list[Control]:
    try:
        content = json.loads(body, object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        return []
    action = content.get("action") if isinstance(content, _Members) else None
    if not isinstance(action, str) or action.lower() not in _WORDS:
        return []
    if content.twice & {"action", "step"}:
        raise _contradictory("JSON member")
    return [Control(_WORDS[action.lower()], _step(content.get("step", "")), "application/json")]


class _Members(dict[str, Any]):
    """A JSON object that knows which of its names were there twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.twice: set[str] = set() if len(self) == len(pairs) else _repeated(pairs)


def _repeated(pairs: list[tuple[str, Any]]) -> set[str]:
    names = [name for name, _ in pairs]
    return {name for name in names if names.count(name) > 1}


def _step(value: object) -> str:
    if not isinstance(value, str) or not STEP.fullmatch(value):
        raise ControlRefusedError("malformed", 400, "step must be a string of at most 64 letters, digits and _.:-")
    return value


def _agreed(found: list[Control]) -> Control | None:
    """The one control that all of these are."""
    if len(found) < 2:
        return found[0] if found else None
    verbs = {control.verb for control in found}
    steps = {control.step for control in found if control.step}
    shapes = "+".join(dict.fromkeys(control.shape for control in found))
    if (Verb.MUTE in verbs and len(verbs) > 1) or len(steps) > 1:
        raise _contradictory(shapes)
    verb = Verb.START if Verb.START in verbs else found[0].verb
    return Control(verb, next(iter(steps), ""), shapes)


def _contradictory(what: str) -> ControlRefusedError:
    return ControlRefusedError("contradictory", 400, f"It says two things at once: {what}")


def _unusable(content_type: str) -> ControlRefusedError:
    if _word(content_type) in _BODIES:
        return ControlRefusedError("malformed", 400, "The body is no recording control")
    accept = (("Accept", ", ".join(_BODIES)),)
    return ControlRefusedError("malformed", 415, "Unsupported Media Type", accept)
