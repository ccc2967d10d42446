"""/health and /metrics of a worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from streams.cluster import ClusterError

if TYPE_CHECKING:
    from agents.engines.worker import Worker

JOINED_WITHIN_S = 120.0


class Monitor:
    """Serves a worker's progress and figures; whoever watches restarts it when /health is not 200."""

    def __init__(self, worker: Worker, address: str, port: int) -> None:
        self._address, self._port = address, port
        own = {"worker": worker}
        self._server = HTTPServer(
            Application([(r"/health", _Health, own), (r"/metrics", _Figures, own)], log_function=_silent)
        )

    async def start(self) -> None:
        """Listen.

        Raises
        ------
        ClusterError
            When the port is taken.
        """
        try:
            self._server.listen(self._port, self._address)
        except OSError as error:
            raise ClusterError(
                f"--port: {self._address}:{self._port} cannot be used ({error.strerror}); choose another"
            ) from error

    async def stop(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()


class _Health(RequestHandler):
    """Progress, not heartbeat: a worker that has messages and takes in none is not well."""

    def initialize(self, worker: Worker) -> None:
        self._worker = worker

    def get(self) -> None:
        worker = self._worker
        stuck = worker.stuck()
        waits = not worker.is_joined and time.monotonic() - worker.started_s > JOINED_WITHIN_S
        if stuck or waits:
            self.set_status(503)
        regions = {
            worker.cluster.regions[partition]: {
                "epoch": task.epoch,
                "steps": task.engine.steps if task.engine else 0,
                "step_ms": task.engine.step_ms if task.engine else 0,
                "is_loaded": task.engine is not None,
                "queued": task.n_queued,
                "lag": worker.lag(partition),
            }
            for partition, task in worker.tasks.items()
        }
        self.write(
            {
                "worker": worker.name,
                "agents": worker.group,
                "is_joined": worker.is_joined,
                "stuck": stuck,
                "regions": regions,
            }
        )


class _Figures(RequestHandler):
    def initialize(self, worker: Worker) -> None:
        self._worker = worker

    def get(self) -> None:
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.write(generate_latest(self._worker.metrics.registry))


def _silent(_handler: RequestHandler) -> None:
    """A line for each scrape would hide all else."""
