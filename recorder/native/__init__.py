"""The native part: taps on the media bridge, in-dialog INFO, and what pjsua2 does not show. Small, and without policy.

`_native` links the same shared libraries as the pjsua2 module, so both work on one pjsua; calls and bridge slots are
plain integers on both sides. What may be called from which thread is said with each name, in `_native.pyi`.
"""

from recorder.native._native import (
    InfoRequest,
    StreamStatistics,
    Tap,
    answer_info,
    claim_info,
    conference_slot,
    connect,
    disconnect,
    dropped_digits,
    forward_info,
    install_digits,
    install_info,
    limits,
    log_to_stderr,
    openssl_version,
    pending_infos,
    pjproject_version,
    send_digit,
    stream_statistics,
    take_digits,
    uninstall_info,
)

__all__ = [
    "InfoRequest",
    "StreamStatistics",
    "Tap",
    "answer_info",
    "claim_info",
    "conference_slot",
    "connect",
    "disconnect",
    "dropped_digits",
    "forward_info",
    "install_digits",
    "install_info",
    "limits",
    "log_to_stderr",
    "openssl_version",
    "pending_infos",
    "pjproject_version",
    "send_digit",
    "stream_statistics",
    "take_digits",
    "uninstall_info",
]
