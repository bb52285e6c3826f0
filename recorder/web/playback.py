"""When handing out audio is an access to be metered: once a playback, however many ranges the player asks for."""

from __future__ import annotations

from collections import OrderedDict

from recorder.web.byte_ranges import ByteRange

# A player's first request is often for the header alone (Safari: bytes 0 and 1); that hands out no audio.
HEADER_BYTES = 44
WINDOW_S = 3600.0
REMEMBERED = 10_000


class Playbacks:
    """Tells which requests begin a playback. Used by the event loop's thread alone.

    A request for audio that includes byte 0 begins one. One that starts further on belongs to the playback that the
    same caller began within `WINDOW_S`; without such, it begins one itself, so leaving byte 0 out is not free.
    """

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[str, str], float] = OrderedDict()

    def begins(self, who: str, file_name: str, wanted: ByteRange, now_s: float) -> bool:
        """Tell whether handing `wanted` to `who` is an access of its own, and remember it then."""
        if wanted.start + wanted.count <= HEADER_BYTES:
            return False
        begun = self._begun.get((who, file_name))
        if wanted.start > 0 and begun is not None and now_s - begun < WINDOW_S:
            return False
        self._begun[who, file_name] = now_s
        self._begun.move_to_end((who, file_name))
        if len(self._begun) > REMEMBERED:
            self._begun.popitem(last=False)
        return True

    def forget(self, who: str, file_name: str) -> None:
        """Take back what `begins` said: the access could not be metered, and nothing was handed out."""
        self._begun.pop((who, file_name), None)
