from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from yarl import URL

from recorder.web.app import build_app
from recorder.web.services import Services

from .conftest import T0, Client, Clients, Library, bearer, cdr_of


async def get(client: Client, path: str, status: int = 200) -> Any:
    answer = await client.get(URL(path, encoded=True), headers=bearer())
    assert answer.status == status, await answer.text()
    return await answer.json()


async def test_recordings_are_listed_newest_first_with_links(client: Client, library: Library) -> None:
    first, _ = library.add()
    second, _ = library.add()
    body = await get(client, "/api/v1/recordings")
    assert [entry["file_name"] for entry in body["recordings"]] == [second.file_name, first.file_name]
    assert body["next_cursor"] is None
    entry = body["recordings"][1]
    assert (entry["sha256"], entry["bytes"], entry["duration_s"]) == (first.sha256, first.bytes, 0.5)
    link = f"/api/v1/recordings/{first.name.dialog_id}"
    assert entry["links"] == {"self": link, "audio": f"{link}/audio"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [2, 1, 0]),
        (f"from_ms={T0 + 1}", [2, 1]),
        (f"from_ms={T0}&to_ms={T0 + 2}", [1, 0]),
        ("group=g1", [1]),
        ("account=a0&group=g0", [2, 0]),
        (f"dialog_id={1:032X}", [1]),
        ("text=0000002", [2]),
        ("text=%2B30210", [2, 1, 0]),
        ("text=1-b%40host", [1]),
        ("text=nobody", []),
        ("group=nobody", []),
    ],
)
async def test_filters_hold_for_recordings_and_cdrs(
    client: Client, library: Library, query: str, expected: list[int]
) -> None:
    added = [library.add(group=f"g{number % 2}", account=f"a{number % 2}")[0] for number in range(3)]
    recordings = await get(client, f"/api/v1/recordings?{query}")
    assert [each["file_name"] for each in recordings["recordings"]] == [added[n].file_name for n in expected]
    cdrs = await get(client, f"/api/v1/cdrs?{query}")
    assert cdrs == {"cdrs": [cdr_of(added[n]) for n in expected], "next_cursor": None}


@pytest.mark.parametrize("path", ["/api/v1/recordings", "/api/v1/cdrs"])
async def test_pages_lead_through_everything(client: Client, library: Library, path: str) -> None:
    added = [library.add(samples=10)[0] for _ in range(7)]
    seen: list[str] = []
    cursor = ""
    for expected in (3, 3, 1):
        body = await get(client, f"{path}?limit=3{cursor}")
        entries = body.get("recordings", body.get("cdrs"))
        assert len(entries) == expected
        seen += [entry.get("file_name", entry.get("file")) for entry in entries]
        cursor = f"&cursor={body['next_cursor']}"
    assert body["next_cursor"] is None
    assert seen == [manifest.file_name for manifest in reversed(added)]


@pytest.mark.parametrize("path", ["/api/v1/recordings", "/api/v1/cdrs"])
@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("from=1", "from: unknown parameter of this resource; it takes from_ms, to_ms"),
        ("Group=x", "Group: unknown parameter"),
        ("limit=0", "limit: must be a whole number from 1 to 500"),
        ("limit=501", "limit: must be"),
        ("limit=ten", "limit: must be"),
        ("limit=", "limit: must be"),
        ("limit=%D9%A3", "limit: must be"),
        ("limit=+5", "limit: must be"),
        ("limit=5&limit=6", "limit: given more than once"),
        ("from_ms=-1", "from_ms: must be a whole number"),
        ("from_ms=2023-01-01", "from_ms: must be a whole number"),
        ("to_ms=9999999999999999", "to_ms: must be"),
        ("from_ms=5&to_ms=5", "to_ms: must be after from_ms"),
        ("group=..%2F..", "group: must be"),
        ("group=", "group: must be"),
        ("account=a~b", "account: must be"),
        ("dialog_id=%00", "dialog_id: must be"),
        ("text=", "text: must be"),
        ("text=" + "x" * 101, "text: must be"),
        ("text=a%0Ab", "text: must be"),
        ("cursor=x", "cursor: is not one that a search returned"),
        ("cursor=", "cursor: must be"),
    ],
)
async def test_a_bad_parameter_is_answered_with_its_name(client: Client, path: str, query: str, complaint: str) -> None:
    body = await get(client, f"{path}?{query}", 400)
    assert body["title"] == "Invalid request"
    assert body["detail"].startswith(complaint)
    assert body["instance"] == path


async def test_resources_without_parameters_refuse_any(client: Client, library: Library) -> None:
    library.add(dialog="D1")
    for path in ("/api/v1/calls", "/api/v1/recordings/D1", "/api/v1/recordings/D1/audio", "/api/docs"):
        body = await get(client, f"{path}?verbose=1", 400)
        assert body["detail"].startswith("verbose: unknown parameter")


async def test_one_recording_is_shown_with_its_manifest(client: Client, library: Library) -> None:
    manifest, _ = library.add(dialog="D1")
    body = await get(client, "/api/v1/recordings/D1")
    assert body["recording"]["file_name"] == manifest.file_name
    assert body["recording"]["links"]["audio"] == "/api/v1/recordings/D1/audio"
    assert body["manifest"] == manifest.model_dump(mode="json")
    assert body["manifest_problem"] is None


async def test_of_two_recordings_of_a_dialog_the_newest_is_shown(client: Client, library: Library) -> None:
    library.add(dialog="MAPPED")
    newest, _ = library.add(dialog="MAPPED")
    assert (await get(client, "/api/v1/recordings/MAPPED"))["recording"]["file_name"] == newest.file_name


async def test_a_recording_without_a_usable_manifest_is_still_shown(client: Client, library: Library) -> None:
    manifest, _ = library.add(dialog="D1")
    manifest.path_in(library.folder).write_text("{")
    body = await get(client, "/api/v1/recordings/D1")
    assert body["manifest"] is None
    assert "not a usable manifest" in body["manifest_problem"]
    manifest.path_in(library.folder).unlink()
    body = await get(client, "/api/v1/recordings/D1")
    assert "No such file" in body["manifest_problem"]
    assert "recorder recover" in body["manifest_problem"]


@pytest.mark.parametrize("ending", ["", "/audio"])
@pytest.mark.parametrize(
    "dialog_id",
    [
        "NONE",
        "..",
        "..%2F..%2Fetc%2Fpasswd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "....%2F%2Fetc",
        "%2Fetc%2Fpasswd",
        "..%5C..%5Cboot.ini",
        "index.sqlite",
        "secret",
        "%00",
        "D1%00",
        "D1.wav",
        "D1%2F",
        "x" * 65,
        "x" * 5000,
        "%C3%A9",
        "%FF",
        "'%20OR%201=1--",
        "group~account~1700000000000~D1",
        "%25",
    ],
)
async def test_what_is_no_recordings_dialog_leads_nowhere(
    client: Client, library: Library, dialog_id: str, ending: str
) -> None:
    library.add(dialog="D1")
    (library.folder / "secret.wav").write_bytes(b"top secret")
    (library.folder.parent / "passwd").write_bytes(b"top secret")
    answer = await client.get(URL(f"/api/v1/recordings/{dialog_id}{ending}", encoded=True), headers=bearer())
    assert answer.status == 404
    assert answer.content_type == "application/problem+json"
    assert "secret" not in (await answer.text()).replace(dialog_id, "")


async def test_live_calls_are_what_the_call_side_says(client: Client) -> None:
    assert await get(client, "/api/v1/calls") == {"calls": [{"dialog_id": "LIVE", "state": "up"}]}


async def test_no_live_calls_is_an_empty_list(services: Services, aiohttp_client: Clients) -> None:
    async def none() -> list[dict[str, Any]]:
        return []

    client = await aiohttp_client(build_app(replace(services, live_calls=none)))
    assert await get(client, "/api/v1/calls") == {"calls": []}
