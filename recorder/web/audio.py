"""`/api/v1/recordings/{dialogId}/audio`: the recording itself, whole or in part, each playback metered.

An access is entered in the usage ledger before the first byte leaves; when the ledger cannot be written, nothing is
handed out.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from contextlib import closing, suppress
from pathlib import Path

import structlog
from aiohttp import web

from recorder.byte_store import ByteStore, PlainStore, Storage
from recorder.errors import NotFoundError, StorageError
from recorder.file_format import CONTENT_TYPES, split_name
from recorder.identifiers import RecordingName
from recorder.library.audit import AuditEntry
from recorder.library.search import RecordingEntry
from recorder.web.auth import QUERY_PARAMETER, Caller
from recorder.web.byte_ranges import ByteRange, requested_range
from recorder.web.parameters import check_parameters
from recorder.web.playback import Playbacks
from recorder.web.problems import PreconditionFailedError
from recorder.web.recordings import DIALOG_ID_PARAMETER, find_recording
from recorder.web.resource import Resource, source_of
from recorder.web.services import SERVICES

_log = structlog.get_logger()

_PIECE_BYTES = 1 << 18
PLAYBACKS: web.AppKey[Playbacks] = web.AppKey("playbacks", Playbacks)


async def get_audio(request: web.Request, caller: Caller) -> web.StreamResponse:
    """Hand out the audio, or the part of it that is asked for."""
    check_parameters(request, QUERY_PARAMETER)
    entry = await find_recording(request)
    name, content_type = _checked_name(entry)
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-store",
        "Content-Disposition": f'attachment; filename="{name}"',
        "ETag": f'"{entry.sha256}"',
    }
    if _not_modified(request, entry.sha256):
        return web.Response(status=304, headers=headers)
    services = request.app[SERVICES]
    store = await asyncio.to_thread(_open, services.folder / name, entry, services.storage)
    # Closed here, not in a thread: nothing waits for it, and a cancelled request closes it too.
    with closing(store):
        size = store.size
        part: ByteRange | None = None
        if request.method == "GET":
            part = requested_range(request.headers.get("Range"), request.headers.get("If-Range"), headers["ETag"], size)
        wanted = part or ByteRange(0, size)
        response = web.StreamResponse(status=206 if part else 200, headers=headers)
        response.content_type = content_type
        response.content_length = wanted.count
        if part:
            response.headers["Content-Range"] = part.content_range(size)
        if request.method == "GET":
            await _meter(request, caller, entry, wanted)
        with suppress(ConnectionError):
            # The client may leave at any time; aiohttp sees to the rest.
            await response.prepare(request)
            if request.method == "GET":
                await _send(request, response, store, wanted)
            await response.write_eof()
    return response


def _not_modified(request: web.Request, etag: str) -> bool:
    """RFC 9110, section 13.2.2. Raises PreconditionFailedError."""
    required = request.if_match
    if required is not None and not any(tag.value in (etag, "*") and not tag.is_weak for tag in required):
        raise PreconditionFailedError(f"the recording is the version {etag}, which If-Match does not name")
    known = request.if_none_match
    return known is not None and any(tag.value in (etag, "*") for tag in known)


def _checked_name(entry: RecordingEntry) -> tuple[str, str]:
    """The file's name, from the index and checked once more: it can lead nowhere but into the folder; and its type."""
    try:
        stem, suffix = split_name(entry.file_name)
        name = RecordingName.parse(stem).stem + suffix
    except ValueError as error:
        raise StorageError(f"the index names a file that is no recording's: {error}") from error
    if name != entry.file_name:
        raise StorageError(f"the index names a file that is no recording's: {entry.file_name!r}")
    return name, CONTENT_TYPES[suffix]


def _open(path: Path, entry: RecordingEntry, storage: Storage) -> ByteStore:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFoundError(f"the file of this recording is gone: {entry.file_name}") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != entry.bytes:
        os.close(descriptor)
        raise StorageError(f"{path}: is not the {entry.bytes} bytes that were recorded; restore the file")
    try:
        return storage.open(descriptor)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


async def _meter(request: web.Request, caller: Caller, entry: RecordingEntry, wanted: ByteRange) -> None:
    services, playbacks = request.app[SERVICES], request.app[PLAYBACKS]
    if not playbacks.begins(caller.name, entry.file_name, wanted, time.monotonic()):
        return
    try:
        at_ms = time.time_ns() // 1_000_000
        await asyncio.to_thread(services.index.add_access, "playback", caller.name, at_ms, entry)
    except BaseException:
        playbacks.forget(caller.name, entry.file_name)
        raise
    services.audit(
        AuditEntry(
            "operator",
            "play",
            who=caller.name,
            source=source_of(request),
            dialog_id=entry.dialog_id,
            group_id=entry.group_id,
            account_id=entry.account_id,
        )
    )
    services.metrics.accesses.labels("playback").inc()
    _log.info("recording_accessed", kind="playback", who=caller.name, file=entry.file_name)


async def _send(request: web.Request, response: web.StreamResponse, store: ByteStore, wanted: ByteRange) -> None:
    """Send a part of the content. Once the headers are out, a failure can only end the connection."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client is gone")
    try:
        if isinstance(store, PlainStore):
            sent = await _send_by_kernel(transport, store, wanted)
        else:
            sent = await _send_read(response, store, wanted)
    except ConnectionError:
        raise
    except OSError as error:
        _log.error("audio_not_read", path=request.path, error=error.strerror)
        sent = -1
    if sent != wanted.count:
        transport.abort()
        raise ConnectionResetError("the file could not be sent whole")


async def _send_by_kernel(transport: asyncio.WriteTransport, store: PlainStore, wanted: ByteRange) -> int:
    """Let the kernel copy the file to the socket."""
    with open(store.descriptor, "rb", closefd=False) as file:  # noqa: ASYNC230  # it is open already
        return await asyncio.get_running_loop().sendfile(transport, file, wanted.start, wanted.count)


async def _send_read(response: web.StreamResponse, store: ByteStore, wanted: ByteRange) -> int:
    """Read, in a thread, a piece at a time: what is decrypted costs CPU and memory."""
    sent = 0
    while sent < wanted.count:
        step = min(_PIECE_BYTES, wanted.count - sent)
        content = await asyncio.to_thread(store.read_at, wanted.start + sent, step)
        if not content:
            break
        await response.write(content)
        sent += len(content)
    return sent


_BINARY = {kind: {"schema": {"type": "string", "contentMediaType": kind}} for kind in CONTENT_TYPES.values()}
RESOURCES = (
    Resource(
        "GET",
        "/api/v1/recordings/{dialogId}/audio",
        get_audio,
        "viewer",
        {
            "operationId": "getAudio",
            "tags": ["recordings"],
            "summary": "The recording in the format that it has (WAV, FLAC or Ogg Opus), whole or a range of it",
            "description": "Each playback is metered; further ranges of one playback are not.",
            "parameters": [
                DIALOG_ID_PARAMETER,
                {"name": "Range", "in": "header", "description": "One range of bytes.", "schema": {"type": "string"}},
                {"name": "If-Range", "in": "header", "description": "An ETag.", "schema": {"type": "string"}},
            ],
            "responses": {
                "200": {"description": "The whole file.", "content": _BINARY},
                "206": {"description": "The range.", "content": _BINARY},
                "304": {"description": "If-None-Match names this version."},
                "412": {"$ref": "#/components/responses/Problem"},
                "416": {"$ref": "#/components/responses/Problem"},
            },
        },
        token_in_query=True,
    ),
)
