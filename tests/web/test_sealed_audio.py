"""Audio that is encrypted on the disk is handed out in plain, whole or in part."""

from __future__ import annotations

import dataclasses
import os
from contextlib import closing

import pytest

from recorder.keyring import Keyring
from recorder.library.manifest import Manifest
from recorder.sealed_store import HEAD_BYTES, SealingStorage, fingerprint
from recorder.web.app import build_app
from recorder.web.services import Services

from .conftest import Client, Clients, Library, bearer, cdr_of

STORAGE = SealingStorage(Keyring({"k": b"k" * 32}))


def sealed(library: Library, samples: int = 100_000) -> tuple[str, bytes, Manifest]:
    manifest, content = library.add(samples=100)
    path = library.folder / manifest.file_name.replace(manifest.name.dialog_id, "SEALED")
    plain = content[:44] + os.urandom(2 * samples)
    with closing(STORAGE.create(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))) as store:
        store.write_at(0, plain)
        store.sync()
    with path.open("rb") as file:
        size, sha256 = fingerprint(file)
    name = manifest.name.model_copy(update={"dialog_id": "SEALED"})
    changes = {"name": name, "file_name": path.name, "bytes": size, "sha256": sha256, "encrypted": True}
    manifest = manifest.model_copy(update=changes)
    library.index.add_call(cdr_of(manifest), manifest)
    return "/api/v1/recordings/SEALED/audio", plain, manifest


@pytest.fixture
async def client(aiohttp_client: Clients, services: Services) -> Client:
    return await aiohttp_client(build_app(dataclasses.replace(services, storage=STORAGE)))


async def test_sealed_audio_is_handed_out_in_plain(client: Client, library: Library) -> None:
    path, plain, manifest = sealed(library)
    answer = await client.get(path, headers=bearer())
    assert (answer.status, answer.content_length, await answer.read()) == (200, len(plain), plain)
    assert answer.headers["ETag"] == f'"{manifest.sha256}"'
    head = await client.head(path, headers=bearer())
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(plain)))


@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("0-1", 0, 2), ("4000-4200", 4000, 4201), ("150000-", 150_000, None), ("-7", -7, None)]
)
async def test_a_range_of_sealed_audio_is_one_of_the_plain_bytes(
    client: Client, library: Library, asked: str, start: int, stop: int | None
) -> None:
    path, plain, _ = sealed(library)
    answer = await client.get(path, headers=bearer() | {"Range": f"bytes={asked}"})
    assert (answer.status, await answer.read()) == (206, plain[start:stop])
    assert answer.headers["Content-Range"].endswith(f"/{len(plain)}")


async def test_a_key_that_is_not_there_is_told(aiohttp_client: Clients, services: Services, library: Library) -> None:
    path, _, manifest = sealed(library)
    other = SealingStorage(Keyring({"other": b"o" * 32}))
    client = await aiohttp_client(build_app(dataclasses.replace(services, storage=other)))
    answer = await client.get(path, headers=bearer())
    assert answer.status == 503
    detail = (await answer.json())["detail"]
    assert manifest.file_name in detail
    assert "sealed with the key 'k'" in detail


async def test_audio_that_was_changed_is_never_handed_out(client: Client, library: Library) -> None:
    path, _, manifest = sealed(library)
    file = library.folder / manifest.file_name
    content = bytearray(file.read_bytes())
    content[HEAD_BYTES + 100] ^= 1
    file.write_bytes(content)
    answer = await client.get(path, headers=bearer())
    with pytest.raises(Exception, match=r"payload is not completed|Connection closed|Server disconnected"):
        await answer.read()
