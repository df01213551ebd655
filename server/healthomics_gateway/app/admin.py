"""The pages of the admin address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from aiohttp import web

from healthomics_gateway.app.admin_server import Page, text_lines
from healthomics_gateway.app.statusz.page import POLICY
from healthomics_gateway.app.statusz.rendering import FORMATS, Rendering, Take
from healthomics_gateway.telemetry.metrics.exposition import Exposition, Source

STATUS_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ReadinessView(Protocol):
    """The readiness of a gateway with one process, or with several."""

    @property
    def why_not(self) -> str:
        """The reason for which the gateway isn't ready; empty if it is."""
        ...

    @property
    def is_dead(self) -> bool:
        """True if no new call can reach the gateway."""
        ...

    @property
    def lines(self) -> list[str]:
        """One line for each part."""
        ...

    @property
    def live_lines(self) -> list[str]:
        """One line for each part of liveness."""
        ...


async def _nothing() -> None:
    """Do nothing."""


class AdminPages:
    """The pages `/livez`, `/readyz`, `/metrics` and `/statusz`, to which `/` leads.

    `?verbose` has a line for each part. A fault with which the gateway can still
    serve, such as a new certificate that is invalid, doesn't make it unready.
    """

    def __init__(
        self,
        readiness: ReadinessView,
        *,
        metrics: Source,
        snapshot: Take,
        refresh: Callable[[], Awaitable[None]] = _nothing,
    ) -> None:
        """Show the state of `readiness`, and `metrics`.

        `snapshot` returns what the status page shows. `refresh` is awaited before each
        page.
        """
        self._readiness = readiness
        self._exposition = Exposition(metrics)
        self._status = Rendering(snapshot)
        self._refresh = refresh
        self.pages: Mapping[str, Page] = {
            "/": self._root,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/statusz": self._statusz,
        }

    async def _root(self, _request: web.BaseRequest) -> web.Response:
        """Redirect a person who knows only the address to the status page."""
        return web.Response(status=302, headers={"Location": "statusz"})

    async def _livez(self, request: web.BaseRequest) -> web.Response:
        await self._refresh()
        is_dead = self._readiness.is_dead
        lines = ["new calls can't reach the gateway" if is_dead else "ok"]
        if "verbose" in request.query:
            lines = self._readiness.live_lines
        return text_lines(lines, status=503 if is_dead else 200)

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        await self._refresh()
        why = self._readiness.why_not
        lines = [why or "ok"]
        if "verbose" in request.query:
            lines = self._readiness.lines
        return text_lines(lines, status=503 if why else 200)

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        await self._refresh()
        accept = ",".join(request.headers.getall("Accept", ()))
        body, kind = await self._exposition.page(accept)
        return web.Response(body=body, headers={"Content-Type": kind})

    async def _statusz(self, request: web.BaseRequest) -> web.Response:
        """Return the status page, in the format that the query names."""
        wanted = request.query.get("format", "html")
        if wanted not in FORMATS:
            return text_lines([f"format is {' or '.join(FORMATS)}"], status=400)
        await self._refresh()
        body, kind = await self._status.page(wanted)
        return web.Response(
            body=body, content_type=kind, charset="utf-8", headers=STATUS_HEADERS
        )
