"""One error tree. Each error carries its own verdict: the SIP status and the HTTP status it is answered with."""

from __future__ import annotations


class RecorderError(Exception):
    """Base of every error that this package raises on purpose.

    `sip_status` is the final response code for a call that fails of it, `http_status` the one for a request. The text
    says what is wrong, where, and what to do about it.
    """

    sip_status = 500
    http_status = 500
    title = "Internal error"


class SettingsError(RecorderError):
    """The configuration cannot be used. `problems` holds one line a fault: `key.path: reason`."""

    title = "Invalid configuration"

    def __init__(self, problems: list[str], source: str = "configuration") -> None:
        self.problems = problems
        self.source = source
        count = f"{len(problems)} error{'s' if len(problems) != 1 else ''}"
        super().__init__(f"{source}: {count}\n" + "\n".join(f"  {problem}" for problem in problems))


class StartError(RecorderError):
    """The recorder cannot start here: a port in use, a folder that cannot be written, a missing library."""

    title = "Cannot start"


class IllegalEventError(RecorderError):
    """An event that the call's present state does not allow. The call is unchanged."""

    title = "Illegal event"


class NoRouteError(RecorderError):
    """No route leads on from this called number."""

    sip_status = 404
    title = "No route"


class NotAnsweringError(RecorderError):
    """Whoever has to carry the request out did not come to it in time."""

    sip_status = 503
    http_status = 503
    title = "Not answering"


class StorageError(RecorderError):
    """A file or the index could not be written or read."""

    http_status = 503
    title = "Storage unavailable"


class KeyMaterialError(RecorderError):
    """A key that is missing, cannot be read or does not fit. The text names its id or file, never its value."""

    http_status = 503
    title = "Key unavailable"


class NotFoundError(RecorderError):
    """There is no such call or recording."""

    sip_status = 481
    http_status = 404
    title = "Not found"


class ConflictError(RecorderError):
    """A request that does not fit how things stand now: a step that is not muted, a call that is ending."""

    sip_status = 481
    http_status = 409
    title = "Conflict"


class InvalidRequestError(RecorderError):
    """A request whose content cannot be used: a bad parameter, identifier or body."""

    sip_status = 400
    http_status = 400
    title = "Invalid request"


class UnauthenticatedError(RecorderError):
    """No token, or one that is not known."""

    http_status = 401
    title = "Authentication required"


class ForbiddenError(RecorderError):
    """The caller is known, and may not do this."""

    sip_status = 403
    http_status = 403
    title = "Forbidden"
