"""Figures about the server for monitoring systems, in the format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anomalib_cxr.screening.worklist.store import Worklist

from .security import METRICS

_OTHER = "other"


class _Worklist(Collector):
    """Numbers of cases and verdicts, read when they are asked for."""

    def __init__(self, worklist: Worklist) -> None:
        self._worklist = worklist

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the numbers.

        Yields:
            Each figure.
        """
        cases = GaugeMetricFamily("anomalib_cxr_cases", "Current cases of the worklist.", labels=["decision"])
        for decision, count in self._worklist.counts().items():
            cases.add_metric([decision.name.lower()], count)
        yield cases
        verdicts = self._worklist.count_verdicts()
        yield GaugeMetricFamily("anomalib_cxr_verdicts", "Verdicts of readers, earlier ones too.", value=verdicts)


class _Requests:
    """Counts requests and their time, by route: an address itself may name a case or hold a search."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        labels = ["method", "route", "status"]
        self._count = Counter("anomalib_cxr_http_requests", "Answered requests.", labels, registry=registry)
        self._seconds = Histogram(
            "anomalib_cxr_http_request_seconds", "Time of requests.", ["route"], registry=registry,
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120),
        )  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            route = getattr(scope.get("route"), "path", _OTHER)
            method = scope["method"] if scope["method"] in {"GET", "HEAD", "POST"} else _OTHER
            self._count.labels(method, route, str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - start)


def add_metrics(app: FastAPI, worklist: Worklist) -> None:
    """Add `GET /metrics` to an application, whose figures are its own and not those of the process.

    Args:
        app: The application.
        worklist: The worklist.
    """
    registry = CollectorRegistry()
    registry.register(_Worklist(worklist))
    app.add_middleware(_Requests, registry=registry)

    @app.get(METRICS)
    def show_metrics() -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
