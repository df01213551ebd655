"""The pages of the admin address."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from healthomics_gateway.app.admin_server import Page, text_lines
from healthomics_gateway.app.statusz.page import POLICY
from healthomics_gateway.app.statusz.rendering import FORMATS, Rendering, Take
from healthomics_gateway.services.readiness import Readiness
from healthomics_gateway.telemetry.metrics.exposition import Exposition
from healthomics_gateway.telemetry.metrics.registry import Metrics

STATUS_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class AdminPages:
    """The pages `/livez`, `/readyz`, `/metrics` and `/statusz`, to which `/` leads.

    `?verbose` has a line for each part. A fault with which the gateway can still
    serve, such as a new certificate that is invalid, doesn't make it unready.
    """

    def __init__(
        self,
        readiness: Readiness,
        *,
        metrics: Metrics,
        snapshot: Take,
    ) -> None:
        """Show the state of `readiness`, and `metrics`.

        `snapshot` returns what the status page shows.
        """
        self._readiness = readiness
        self._exposition = Exposition(metrics)
        self._status = Rendering(snapshot)
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
        is_dead = self._readiness.is_dead
        lines = ["new calls can't reach the gateway" if is_dead else "ok"]
        if "verbose" in request.query:
            lines = self._readiness.live_lines
        return text_lines(lines, status=503 if is_dead else 200)

    async def _readyz(self, request: web.BaseRequest) -> web.Response:
        why = self._readiness.why_not
        lines = [why or "ok"]
        if "verbose" in request.query:
            lines = self._readiness.lines
        return text_lines(lines, status=503 if why else 200)

    async def _metrics(self, request: web.BaseRequest) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", ()))
        body, kind = await self._exposition.page(accept)
        return web.Response(body=body, headers={"Content-Type": kind})

    async def _statusz(self, request: web.BaseRequest) -> web.Response:
        """Return the status page, in the format that the query names."""
        wanted = request.query.get("format", "html")
        if wanted not in FORMATS:
            return text_lines([f"format is {' or '.join(FORMATS)}"], status=400)
        body, kind = await self._status.page(wanted)
        return web.Response(
            body=body, content_type=kind, charset="utf-8", headers=STATUS_HEADERS
        )
