"""Renders the metrics in the formats that Prometheus reads."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from healthomics_gateway.threads import OneAtATime

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST
OPENMETRICS_TYPE, ANY_TEXT = "application/openmetrics-text", ("text/plain", "text/*")


class Source(Protocol):
    """Metrics that can be rendered."""

    @property
    def registry(self) -> CollectorRegistry:
        """The registry that collects them, in any thread."""
        ...

    def read(self) -> None:
        """Read what is state. It is called in the event loop's thread."""
        ...


class Exposition:
    """Renders the metrics in a thread; requests that come meanwhile share it."""

    def __init__(self, metrics: Source) -> None:
        """Render `metrics`."""
        self._metrics = metrics
        self._as_text = OneAtATime("metrics")
        self._as_openmetrics = OneAtATime("metrics")

    async def page(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type, for a header `Accept`."""
        self._metrics.read()
        registry = self._metrics.registry
        if prefers_openmetrics(accept):
            render = partial(_openmetrics, registry)
            return await self._as_openmetrics.run(render), OPENMETRICS
        return await self._as_text.run(partial(generate_latest, registry)), TEXT


def prefers_openmetrics(accept: str) -> bool:
    """Return whether OpenMetrics is accepted, and at least as much as plain text."""
    quality: dict[str, float] = {}
    for each in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        quality[kind] = max(quality.get(kind, 0.0), _quality(parameters))
    wanted = quality.get(OPENMETRICS_TYPE, 0.0)
    return wanted > 0 and wanted >= max(quality.get(kind, 0.0) for kind in ANY_TEXT)


def _quality(parameters: list[str]) -> float:
    """Return the parameter `q` of a media range; 0 if it isn't a number."""
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _openmetrics(registry: CollectorRegistry) -> bytes:
    # Without the default escaping, which reads every name letter by letter.
    page: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]  # has no type in the package
        registry, escaping=openmetrics.ALLOWUTF8
    )
    return page
