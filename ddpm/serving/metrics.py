"""What Prometheus reads at /metrics."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ddpm.serving.batching import Queue
from ddpm.serving.versions import Versions

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The server's figures, in a registry of its own: two servers in one process do not add up."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "ddpm_requests", "answers, by path, method and status", ["path", "method", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "ddpm_request_seconds",
            "from a request's head to its answer's end",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.pictures = Counter("ddpm_pictures", "pictures drawn", ["version"], registry=registry)
        self.of_version = Counter(
            "ddpm_version_requests", "requests for pictures, by who answered", ["alias", "version"], registry=registry
        )
        self.left = Counter("ddpm_left", "callers that left before their answer", registry=registry)
        self.batches = Histogram(
            "ddpm_batch_pictures",
            "pictures that share an evaluation of the network, without padding",
            ["version"],
            buckets=SIZES,
            registry=registry,
        )
        self.evaluation_seconds = Histogram(
            "ddpm_evaluation_seconds",
            "an evaluation of the network; on a GPU, until it is under way",
            ["version"],
            buckets=(0.001, 0.0025, 0.005, *SECONDS),
            registry=registry,
        )
        self._version = Gauge("ddpm_version", "1 for each version served", ["alias", "version"], registry=registry)
        self._refused = Gauge(
            "ddpm_version_refused",
            "1 for each version that an alias points at and that will not do",
            ["version"],
            registry=registry,
        )
        self._registry = Gauge(
            "ddpm_registry_up", "whether the registry answered when it was last asked", registry=registry
        )
        self._alias = Gauge(
            "ddpm_alias_found",
            "whether the alias that is followed was there when the registry last answered",
            registry=registry,
        )
        self._swaps = Gauge(
            "ddpm_swaps", "versions swapped in since the start, the first ones included", registry=registry
        )
        self._waiting = Gauge("ddpm_waiting_pictures", "pictures that wait", registry=registry)

    def evaluated(self, version: Any, pictures: int, seconds: float) -> None:
        """A network was evaluated for so many pictures."""
        self.batches.labels(version.reference).observe(pictures)
        self.evaluation_seconds.labels(version.reference).observe(seconds)

    def drew(self, version: Any, pictures: int) -> None:
        """Pictures are done."""
        self.pictures.labels(version.reference).inc(pictures)

    def text(self, versions: Versions, queue: Queue) -> bytes:
        """All of it, as Prometheus reads it."""
        self._version.clear()
        self._refused.clear()
        for alias, served in versions.by_alias.items():
            self._version.labels(alias, served.reference).set(1)
        for reference in versions.state.refused:
            self._refused.labels(reference).set(1)
        self._registry.set(0 if versions.state.registry else 1)
        self._alias.set(0 if versions.state.alias else 1)
        self._swaps.set(versions.state.swaps)
        self._waiting.set(queue.waiting)
        return generate_latest(self.registry)
