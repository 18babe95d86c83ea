"""How the machine is doing while a network trains: MLflow's own monitor of processor, memory, disk, network and GPU."""

from __future__ import annotations

from typing import Any

from ddpm.progress import announce
from ddpm.tracking.client import Client


class Machine:
    """Records, beside the run's figures, how the machine is doing, from a thread of MLflow's, until it is told to leave."""

    def __init__(self, client: Client, run_id: str, resumed: bool) -> None:
        self._uri, self._run_id, self._resumed = client.tracking_uri, run_id, resumed
        self._monitor: Any = None
        self._gone = False  # for good: it could not be started

    def watch(self) -> None:
        """Start it, or start it again where an outage has ended it. Never raises: it is said, and the training goes on."""
        thread = self._monitor._process if self._monitor else None
        if self._gone or (thread and thread.is_alive()):
            return
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            resume = self._resumed or self._monitor is not None
            self._monitor = SystemMetricsMonitor(self._run_id, resume_logging=resume, tracking_uri=self._uri)
            self._monitor.start()
        except Exception as problem:
            self._gone = True
            announce(f"how the machine is doing is not recorded: {' '.join(str(problem).split())[:160]}")

    def leave(self) -> None:
        if self._monitor:
            self._monitor.finish()
