"""`/api/v1/recordings`: searching recordings, and everything known of one."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from aiohttp import web

from recorder.errors import NotFoundError, StorageError
from recorder.identifiers import is_valid_dialog_id
from recorder.library.manifest import Manifest, manifest_path
from recorder.library.search import RecordingEntry
from recorder.web.auth import Caller
from recorder.web.parameters import SEARCH_PARAMETERS, check_parameters, read_search
from recorder.web.resource import Resource
from recorder.web.services import SERVICES, Services

DIALOG_ID_PARAMETER = {
    "name": "dialogId",
    "in": "path",
    "required": True,
    "description": "The dialog; of several recordings of one dialog, the newest is meant.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"},
}


async def search_recordings(request: web.Request, _: Caller) -> web.Response:
    """Search the recordings, newest first."""
    filters, limit, cursor = read_search(request)
    page = await asyncio.to_thread(request.app[SERVICES].index.search, filters, limit, cursor)
    return web.json_response(
        {"recordings": [_described(entry) for entry in page.entries], "next_cursor": page.next_cursor}
    )


async def get_recording(request: web.Request, _: Caller) -> web.Response:
    """Show one recording: its row, its manifest, its links."""
    check_parameters(request)
    services = request.app[SERVICES]
    entry = await find_recording(request)
    manifest, problem = await asyncio.to_thread(_manifest, services, entry)
    return web.json_response({"recording": _described(entry), "manifest": manifest, "manifest_problem": problem})


async def find_recording(request: web.Request) -> RecordingEntry:
    """Find the recording that the request's path names. Raises NotFoundError."""
    dialog_id = request.match_info["dialogId"]
    if not is_valid_dialog_id(dialog_id):
        raise NotFoundError("this is not a dialogId, so there is no recording of it")
    return await asyncio.to_thread(request.app[SERVICES].index.get, dialog_id)


def _manifest(services: Services, entry: RecordingEntry) -> tuple[dict[str, Any] | None, str | None]:
    try:
        manifest = Manifest.read(manifest_path(services.folder / entry.file_name))
    except StorageError as error:
        return None, f"{error}; 'recorder recover' makes a missing manifest anew"
    return manifest.model_dump(mode="json"), None


def _described(entry: RecordingEntry) -> dict[str, Any]:
    link = f"/api/v1/recordings/{entry.dialog_id}"
    return asdict(entry) | {"links": {"self": link, "audio": f"{link}/audio"}}


RESOURCES = (
    Resource(
        "GET",
        "/api/v1/recordings",
        search_recordings,
        "viewer",
        {
            "operationId": "searchRecordings",
            "tags": ["recordings"],
            "summary": "Search recordings, newest first",
            "parameters": SEARCH_PARAMETERS,
            "responses": {
                "200": {
                    "description": "A page of recordings.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RecordingPage"}}},
                }
            },
        },
    ),
    Resource(
        "GET",
        "/api/v1/recordings/{dialogId}",
        get_recording,
        "viewer",
        {
            "operationId": "getRecording",
            "tags": ["recordings"],
            "summary": "Everything known of one recording",
            "parameters": [DIALOG_ID_PARAMETER],
            "responses": {
                "200": {
                    "description": "The recording and its manifest.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/RecordingDetail"}}},
                }
            },
        },
    ),
)
