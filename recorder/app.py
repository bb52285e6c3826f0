"""The composition root: builds the recorder, starts it in order, drains it, stops it in the reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import platform
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp.web import AppRunner

from recorder import __version__, command_audit, keys, log, native, settings_checks, settings_files
from recorder.calls.admission import DRAINING
from recorder.calls.control_shapes import Shapes
from recorder.calls.events import Invite
from recorder.calls.health import Health
from recorder.calls.routing import probed_targets
from recorder.errors import RecorderError, StartError
from recorder.exchange import Exchange, Watched
from recorder.library import journal
from recorder.library.audit import AuditEntry, AuditTrail, restore
from recorder.library.index import Index
from recorder.library.keeper import EndedCall, Keeper
from recorder.library.ledger import Ledger, enroll
from recorder.library.recovery import find_unfinished, reindex
from recorder.media.part_file import look_into, repair
from recorder.media.recording import Recording
from recorder.media.writer import Writer
from recorder.metrics import Metrics
from recorder.operators import AuditedAnswers, Operators
from recorder.retold import completed
from recorder.session import Services
from recorder.settings import Settings
from recorder.sip.endpoint import Endpoint
from recorder.sip.leg import Leg
from recorder.sip.prober import Prober
from recorder.transparency import Transparency
from recorder.unfinished import Unfinished, manifest_of, takes_long
from recorder.web.app import build_app
from recorder.web.health import disk_check, index_check, writing_check
from recorder.web.server import start
from recorder.web.services import Services as WebServices

_log = structlog.get_logger()

_WATCH_S = 1.0
# When the last call is over its memory is free, but in pieces that the C library keeps. It is given back, and again
# until the SIP stack has forgotten the last transactions, too (RFC 3261, timers H and J: 32 s).
_GIVE_BACK_S = 10.0
_GIVE_BACK_FOR_S = 60.0
_SWITCH_S = 0.0005  # signalling must not wait 5 ms, Python's default, for a thread that computes
_FINISH_S = 60.0  # how long an ending process waits for the disk and the index


@dataclass(slots=True)
class Recovery:
    """What was found after a crash: how many were repaired and indexed, and a line for each that could not be.

    `later` lists those that are still to be repaired.
    """

    repaired: int = 0
    indexed: int = 0
    failed: list[str] = field(default_factory=list)
    later: list[Path] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The numbers in a line."""
        return f"repaired {self.repaired}, indexed {self.indexed}, failed {len(self.failed)}"


def run(settings: Settings) -> None:
    """Run the recorder until it is told to stop. Raises StartError or StorageError when it cannot start."""
    log.configure(settings.log)
    _raise_descriptor_limit()
    sys.setswitchinterval(_SWITCH_S)
    with log.in_background():
        asyncio.run(_Recorder(settings).run())


def recover(
    settings: Settings, leave_slow: bool = False, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Recovery:
    """Repair what a crash left unfinished, and index what the index does not know.

    `leave_slow`: leave what takes long, and say so in `later`. `progress` is told, again and again, what is being done,
    to how many it is done already, and how many there are.

    Raises:
        StorageError: the folder, the ledger or the index cannot be used.
        KeyMaterialError: a key that is configured cannot be.
    """
    folder = settings.recording.folder
    found = Recovery()
    signer, storage = keys.signer(settings), keys.storage(settings)
    unfinished = find_unfinished(folder)
    if leave_slow:
        found.later = [part for part in unfinished if takes_long(part)]
    with (
        contextlib.closing(Index(settings.index_path)) as index,
        contextlib.closing(Ledger(folder, signer, index.ledger_head())) as ledger,
    ):
        for number, part in enumerate(unfinished):
            progress("repaired", number, len(unfinished))
            if part in found.later:
                continue
            try:
                written = repair(part, settings.media.clock_rate_hz, storage)
                manifest_of(part, written).signed(signer).write(folder)
                journal.remove(part)
                found.repaired += 1
            except (RecorderError, ValueError, OSError) as error:
                found.failed.append(f"{part}: {error}")
        report = reindex(
            folder, index, signer=signer, storage=storage, progress=partial(progress, "looked at"), complete=completed
        )
        journal.remove_orphans(folder)
        found.indexed = report.recordings
        found.failed += report.problems
        restore(folder, index)
        found.failed += [ledger.broken] if ledger.broken else []
        found.failed += enroll(folder, ledger)
        if ledger.head is not None:
            index.remember_ledger(ledger.head)
    return found


class _Recorder:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._folder = settings.recording.folder
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        with contextlib.ExitStack() as stack:
            index, audit, exchange, endpoint = self._start(stack)
            web = await self._start_web(index, audit, exchange, endpoint)
            watch = asyncio.create_task(self._watch(exchange, endpoint))
            try:
                self._listen_for_signals()
                # What is there now stays: the garbage collector need not look at it again, which takes tens of ms.
                gc.collect()
                gc.freeze()
                http = self._settings.http
                _log.info("ready", sip=endpoint.bound, http=f"{http.host}:{http.port}", folder=str(self._folder))
                await self._stopping.wait()
                await self._drain(exchange, endpoint)
                endpoint.post(lambda: exchange.hang_up_all("shutdown"))
            finally:
                watch.cancel()
                await web.cleanup()
        _log.info("stopped")

    def _start(self, stack: contextlib.ExitStack) -> tuple[Index, AuditTrail, Exchange, Endpoint]:
        """Start what has a thread or a file, each with its end on `stack`."""
        settings, metrics = self._settings, self._metrics
        _check_folder(self._folder)
        if problems := settings_files.problems(settings):
            raise StartError("; ".join(problems))
        for warning in (*settings_checks.warnings(settings), *settings_files.warnings(settings)):
            _log.warning("settings_warning", what=warning)
        metrics.build.info(
            {"version": __version__, "pjproject": native.pjproject_version(), "python": platform.python_version()}
        )
        found = recover(settings, leave_slow=True)
        if found.repaired or found.indexed or found.failed or found.later:
            counts = {"repaired": found.repaired, "indexed": found.indexed, "later": len(found.later)}
            _log.warning("recovered", **counts, failed=found.failed)
            metrics.recordings.labels("recovered").inc(found.repaired)
        index = Index(settings.index_path)
        stack.callback(index.close)
        audit = AuditTrail(index, self._folder, metrics)
        audit.start()
        stack.callback(audit.stop, _FINISH_S)
        audit.enter(AuditEntry("recorder", "begin", note=__version__))
        audit.enter(command_audit.configuration(settings, index.last_note("configure")))
        if found.repaired or found.indexed or found.failed:
            audit.enter(AuditEntry("recorder", "recover", note=found.summary))
        stack.callback(lambda: audit.enter(AuditEntry("recorder", "end")))
        ledger = Ledger(self._folder, keys.signer(settings), index.ledger_head())
        stack.callback(ledger.close)
        keeper = Keeper(index, self._folder, metrics, ledger=ledger)
        keeper.start()
        stack.callback(keeper.stop, _FINISH_S)
        rate_hz, storage = settings.media.clock_rate_hz, keys.storage(settings)
        repair_one = partial(repair, clock_rate_hz=rate_hz, storage=storage)
        look = partial(look_into, clock_rate_hz=rate_hz, storage=storage)
        unfinished = Unfinished(found.later, keeper, repair_one, look)
        unfinished.start()
        stack.callback(unfinished.stop)

        ended: dict[Recording, EndedCall] = {}

        def hand_over(recording: Recording) -> None:
            silenced = sum((span.end or span.start) - span.start for span in recording.spans())
            metrics.redacted.inc(silenced / recording.clock_rate_hz)
            keeper.submit(ended.pop(recording))

        def leave() -> None:
            """The disk did not take these in time: the next start makes recordings of what it has of them."""
            for call in list(ended.values()):
                cdr = {**call.cdr, "recorded": False, "file": None}
                keeper.submit(replace(call, cdr=cdr, commit=None, manifest_of=None))

        stack.callback(leave)
        writer = Writer(
            hand_over,
            block_s=settings.recording.block_ms / 1000,
            memory_bytes=settings.recording.queue_mb * 1_000_000,
            sync_s=settings.recording.sync_s,
            metrics=metrics,
        )
        writer.start()
        stack.callback(writer.stop, _FINISH_S)

        def on_invite(leg: Leg, invite: Invite) -> None:
            exchange.invite(leg, invite)

        def on_registered(trunk: str, registered: bool) -> None:
            metrics.registered.labels(trunk).set(registered)

        def on_refused(invite: Invite, sip_status: int, phrase: str) -> None:
            exchange.refused(invite, sip_status, phrase)

        def on_turned_away(reason: str, requests: int) -> None:
            if reason == "challenges":
                metrics.challenges.inc(requests)
            else:
                metrics.strangers.labels(reason).inc(requests)

        endpoint = Endpoint(settings, on_invite, on_registered, on_refused, on_turned_away)
        targets = probed_targets(settings)
        health = Health({key: interval_s for key, (_, interval_s) in targets.items()}, time.monotonic())
        transparency = Transparency(settings, metrics)
        shapes = Shapes(settings.redaction)
        exchange = Exchange(
            Services(
                *(settings, endpoint, writer, keeper, metrics, health, transparency, shapes, audit.enter),
                AuditedAnswers(endpoint, audit),
                ended=ended,
                storage=storage,
            )
        )
        endpoint.start()
        prober = Prober(endpoint, health, {key: uri for key, (uri, _) in targets.items()}, metrics.target_up)
        endpoint.post(prober.begin)
        stack.callback(endpoint.stop)
        metrics.legs_live.set_function(native.call_count)
        return index, audit, exchange, endpoint

    async def _start_web(self, index: Index, audit: AuditTrail, exchange: Exchange, endpoint: Endpoint) -> AppRunner:
        settings, metrics, disk = self._settings, self._metrics, exchange.disk

        async def live_calls() -> list[dict[str, Any]]:
            return await endpoint.ask(exchange.live)

        async def sip_bound() -> None:
            if not endpoint.alive:
                raise StartError("the SIP thread has ended; restart the recorder and report its last log lines")

        floor_bytes = settings.recording.disk_floor_mb * 1_000_000
        services = WebServices(
            index=index,
            folder=self._folder,
            http=settings.http,
            metrics=metrics,
            live_calls=live_calls,
            control=Operators(endpoint, exchange, audit),
            audit=audit.enter,
            storage=keys.storage(settings),
            readiness={
                "sip": sip_bound,
                "index": index_check(index),
                "disk": disk_check(self._folder, floor_bytes, metrics.disk_free),
                "writing": writing_check(lambda: disk.lag_s, lambda: disk.memory.used_bytes),
            },
        )
        return await start(build_app(services), settings.http.host, settings.http.port)

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)

    async def _watch(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Look at what the machine has left, again and again, and let admission know."""
        called_at = given_back_at = -_GIVE_BACK_FOR_S
        while True:
            now = asyncio.get_running_loop().time()
            if exchange.count:
                called_at, given_back_at = now, -_GIVE_BACK_S
            elif now < called_at + _GIVE_BACK_FOR_S and now >= given_back_at + _GIVE_BACK_S:
                given_back_at = now
                await asyncio.to_thread(_give_memory_back)
            disk_bytes: int | None = None
            with contextlib.suppress(OSError):
                disk_bytes = (await asyncio.to_thread(shutil.disk_usage, self._folder)).free
                self._metrics.disk_free.set(disk_bytes)
            watched = Watched(_descriptors_left(), disk_bytes)
            endpoint.post(partial(exchange.watch, watched))
            await asyncio.sleep(_WATCH_S)

    async def _drain(self, exchange: Exchange, endpoint: Endpoint) -> None:
        """Refuse new calls; let those that are up end by themselves, until the limit or a second signal."""
        exchange.admission.draining = True
        endpoint.drain(DRAINING.retry_after_s)
        self._stopping.clear()
        limit = self._settings.sip.drain_timeout_s
        _log.info("draining", calls=exchange.count, limit_s=limit)
        deadline = asyncio.get_running_loop().time() + limit
        while exchange.count and not self._stopping.is_set() and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 0.1)


def _check_folder(folder: Path) -> None:
    probe = folder / ".probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise StartError(
            f"recordings cannot be written to {folder}: {error.strerror}; "
            "change recording.folder or the folder's rights"
        ) from None


def _give_memory_back() -> None:
    """Give free memory back to the system. Not while there are calls: who allocates meanwhile has to wait."""
    ctypes.CDLL(None).malloc_trim(0)


def _descriptors_left() -> int:
    """How many more files and sockets this process may open; to look takes one, too."""
    try:
        used = sum(1 for _ in os.scandir("/proc/self/fd"))
    except OSError:
        return 0
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - used


def _raise_descriptor_limit() -> None:
    """Two sockets a leg, and a file: use what the system allows."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
