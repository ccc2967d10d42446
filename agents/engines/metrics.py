"""What a worker tells of itself to Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Figures of one worker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        region, both = ("region",), ("region", "agents")

        def gauge(name: str, text: str, labels: tuple[str, ...]) -> Gauge:
            return Gauge(f"twinroom_{name}", text, labels, registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(f"twinroom_{name}", text, labels, registry=self.registry)

        self.lag = gauge("region_lag_messages", "Messages in the log behind the snapshot", both)
        self.step_time = gauge("region_step_timestamp_seconds", "Event time of the last closed step", both)
        self.rows = counter("rows", "Readings taken in", region)
        self.messages = counter("messages", "Messages taken in", ("region", "topic"))
        self.dead_letters = counter("dead_letters", "Readings and messages refused", region)
        self.step_s = Histogram(
            "twinroom_step_seconds", "Time to close a step", ("agents",), registry=self.registry
        )
        self.snapshot_s = Histogram(
            "twinroom_snapshot_seconds", "Time to write a snapshot", registry=self.registry
        )
        self.snapshot_bytes = gauge("snapshot_bytes", "Size of a part of the snapshot", ("region", "part"))
        self.snapshot_time = gauge("snapshot_timestamp_seconds", "When the last snapshot was written", both)
        self.snapshot_age = gauge("snapshot_age_seconds", "Time since the last snapshot", both)
        self.claims = counter("claims", "Claims of regions", ("region", "agents", "result"))
        self.refused = counter("refused_writes", "Writes refused because another owns the region", both)
        self.outbox = gauge("outbox_batches", "Batches in a snapshot that are not yet in the log", both)
        self.progress_age = gauge("progress_age_seconds", "Time since the last message was taken in", both)
