"""Which bytes a request wants: Range and If-Range (RFC 9110, sections 13.1.5 and 14.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from recorder.web.problems import RangeNotSatisfiableError

_SINGLE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`count` bytes from `start` on."""

    start: int
    count: int

    def content_range(self, size: int) -> str:
        """The Content-Range header's value, for a file of `size` bytes."""
        return f"bytes {self.start}-{self.start + self.count - 1}/{size}"


def requested_range(range_header: str | None, if_range: str | None, etag: str, size: int) -> ByteRange | None:
    """The one range that is asked for, clipped to the file; None: the whole file.

    What cannot be read, several ranges at once, and a range of a version that `if_range` says is not `etag` (quoted,
    strong; a date never matches, since none is sent) are answered with the whole file, as the RFC allows. Raises
    RangeNotSatisfiableError.
    """
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return None
    match = _SINGLE.fullmatch(range_header.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        count = min(int(match[2]), size)
        if count == 0:
            raise RangeNotSatisfiableError(size)
        return ByteRange(size - count, count)
    start = int(match[1])
    last = int(match[2]) if match[2] else size - 1
    if match[2] and last < start:
        return None
    if start >= size:
        raise RangeNotSatisfiableError(size)
    return ByteRange(start, min(last, size - 1) - start + 1)
