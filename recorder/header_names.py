"""Names of SIP headers, and which of them may never go from one leg to the other."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9!%_+`'~.-]{1,64}", re.ASCII)
_PATTERN = re.compile(r"[A-Za-z0-9!%_+`'~.-]{1,64}\*?", re.ASCII)

# What belongs to one dialog, one hop, the message's frame or the stack itself, long and compact (RFC 3261, section 20
# and the registry's later ones).
_OURS = """
via v from f to t call-id i cseq contact m route record-route max-forwards path service-route
content-type c content-length l content-encoding e content-disposition content-language content-id mime-version
authorization proxy-authorization www-authenticate proxy-authenticate authentication-info proxy-require require
supported k unsupported allow allow-events u user-agent server organization expires min-expires session-expires x
min-se rseq rack timestamp date warning retry-after replaces join target-dialog refer-to r referred-by b refer-sub
event o subscription-state info-package accept accept-encoding accept-language accept-resource-priority
identity y identity-info max-breadth flow-timer sip-etag sip-if-match security-client security-server
security-verify reply-to request-disposition d accept-contact a reject-contact j
"""
OURS = frozenset(_OURS.split())

# What a request within a dialog and its answer say of their own contents, or of what the method is about: without it a
# message that goes across whole would be another one. Nothing of this tells where anybody is.
_OF_CONTENTS = """
content-disposition content-encoding e content-language content-id mime-version event o subscription-state info-package
recv-info accept accept-encoding accept-language expires subject s priority date retry-after
"""
OF_CONTENTS = frozenset(_OF_CONTENTS.split())


def is_name(text: str) -> bool:
    """Whether `text` can be a header's name (RFC 3261, section 25.1: token), of a sensible length."""
    return _NAME.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether `text` is a header's name, or the beginning of names with a `*` at its end."""
    return _PATTERN.fullmatch(text) is not None


def covered(pattern: str) -> str | None:
    """A header of ours that a pattern would pass on; None when there is none."""
    lower = pattern.lower()
    if lower.endswith("*"):
        return next((name for name in sorted(OURS) if name.startswith(lower[:-1])), None)
    return lower if lower in OURS else None
