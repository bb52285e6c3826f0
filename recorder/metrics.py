"""Every metric of the recorder, in one place. Names are `recorder_*`, units are base SI, no label names a call."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SETUP = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The set of metrics of one recorder, in a registry of its own so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"recorder_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"recorder_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"recorder_{name}", text, buckets=buckets, registry=registry)

        self.build = Info("recorder_build", "Version of the recorder and of what it is built on", registry=registry)

        self.calls_started = counter("calls_started_total", "INVITEs that became a call")
        self.calls_ended = counter("calls_ended_total", "Calls that ended, by how", "result", "reason")
        self.calls_refused = counter(
            "calls_refused_total", "Calls turned away before anything was spent on them, by why", "reason", "trunk"
        )
        self.target_up = gauge("target_up", "Whether a target answers OPTIONS, for those that are probed", "target")
        self.strangers = counter(
            "strangers_total", "Requests turned away because they belong to no trunk, by what was wrong", "reason"
        )
        self.challenges = counter("challenges_total", "Requests that were asked for credentials (401)")
        self.calls_live = gauge("calls_live", "Calls that are being set up or are up")
        self.legs_live = gauge("legs_live", "Calls that the SIP stack has, a leg each; those on their way out included")
        self.call_setup = histogram("call_setup_seconds", "From the INVITE to the answer", _SETUP)
        self.calls_unrecorded = counter(
            "calls_unrecorded_total", "Answered calls that no enabled account claimed, by why", "reason"
        )
        self.registered = gauge("registered", "Whether a trunk that asks for it is registered: 1 or 0", "trunk")
        self.identifiers_replaced = counter(
            "identifiers_replaced_total", "Identifiers from the wire that were not valid and were replaced", "field"
        )
        self.transfers = counter("transfers_total", "Requests to transfer a call, by what became of them", "outcome")
        self.headers_dropped = counter("headers_dropped_total", "Headers that were to be passed on and cannot be")
        self.infos = counter("infos_total", "SIP INFO requests, by what became of them", "outcome")

        self.rtp_timeouts = counter(
            "rtp_timeouts_total", "Legs that sent no RTP for too long, and what was done", "side", "action"
        )

        self.recordings_live = gauge("recordings_live", "Recordings that are being written")
        self.recordings = counter("recordings_total", "Recordings that ended, by outcome", "outcome")
        self.recorded = counter("recorded_seconds_total", "Length of the recordings that were kept")
        self.dropped_samples = counter("dropped_samples_total", "Samples that a full ring could not take (one leg)")
        self.lost_samples = counter("lost_samples_total", "Samples of recordings that the disk did not keep")
        self.redactions = counter("redactions_total", "Redactions begun, by who asked", "control")
        self.redactions_refused = counter("redactions_refused_total", "Redaction controls that were refused", "reason")
        self.redactions_unresumed = counter("redactions_unresumed_total", "Redactions that no resume ended")
        self.redacted = counter("redacted_seconds_total", "Length of what was silenced")

        self.write = histogram("write_seconds", "Writing what was due of one recording", _FAST)
        self.writer_lag = gauge("writer_lag_seconds", "How late the writer's last round was")
        self.disk_lag = gauge("disk_lag_seconds", "For how long the disk has not taken all that was to be written")
        self.disk_queue = gauge("disk_queue_bytes", "Audio that waits in memory for the disk")
        self.finish_queue = gauge("finish_queue_depth", "Ended calls that wait to be made durable and indexed")
        self.finish = histogram("finish_seconds", "From the end of a call to its indexed file", _FAST)
        self.storage_errors = counter("storage_errors_total", "Failures of the disk or the index", "operation")
        self.disk_free = gauge("disk_free_bytes", "Free space where recordings are written")

        self.requests = counter("http_requests_total", "HTTP requests", "resource", "method", "status")
        self.accesses = counter("recording_accesses_total", "Recordings handed out, by kind of access", "kind")
