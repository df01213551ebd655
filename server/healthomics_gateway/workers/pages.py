"""The admin pages of a gateway with workers, which its supervisor serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from aiohttp import web

from healthomics_gateway.app.admin_server import Page, text_lines

DRAINING = "GATEWAY_DRAINING"
NONE_SERVES = "no worker serves"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker has reported about itself."""

    worker: int
    pid: int
    content: Mapping[str, Any] | None  # as `MakeReport` returns it; None: no answer


class Workers(Protocol):
    """The workers, as the pages see them."""

    @property
    def is_draining(self) -> bool:
        """Return whether the supervisor ends them."""
        ...

    @property
    def is_live(self) -> bool:
        """Return whether new calls can reach any of them."""
        ...

    @property
    def why_not(self) -> str:
        """Return why none of them is ready; an empty text if one is."""
        ...

    @property
    def lines(self) -> list[str]:
        """Return a line for each worker: its number, and `ok` or what is wrong."""
        ...

    def reports(self) -> Awaitable[Sequence[Report]]:
        """Return the report of each worker, in order of their numbers."""
        ...


MakePages: TypeAlias = Callable[[Workers], Mapping[str, Page]]


def make_pages(workers: Workers) -> Mapping[str, Page]:
    """Return the pages for probes, by their paths; no worker is asked for them."""

    async def livez(request: web.BaseRequest) -> web.Response:
        lines = ["ok" if workers.is_live else "new calls can't reach the gateway"]
        if "verbose" in request.query:
            lines = workers.lines
        return text_lines(lines, status=200 if workers.is_live else 503)

    async def readyz(request: web.BaseRequest) -> web.Response:
        why = workers.why_not
        lines = [why or "ok"]
        if "verbose" in request.query:
            lines = workers.lines
        return text_lines(lines, status=503 if why else 200)

    return {"/livez": livez, "/readyz": readyz}
