"""Renders the status page in the formats that it has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import inf
from typing import TypeAlias

import orjson

from healthomics_gateway.app.statusz.page import page
from healthomics_gateway.app.statusz.shape import Snapshot
from healthomics_gateway.threads import OneAtATime

OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS
KEPT_SECONDS = 1.0  # so that requests in a loop can't use up the CPU

Take: TypeAlias = Callable[[], Awaitable[Snapshot]]


def as_html(state: Snapshot) -> bytes:
    """Return the page for people."""
    return page(state).encode()


def as_json(state: Snapshot) -> bytes:
    """Return the page for programs."""
    return orjson.dumps(state, option=OPTIONS)


# The content type of each format, and the function that renders it.
FORMATS: Mapping[str, tuple[str, Callable[[Snapshot], bytes]]] = {
    "html": ("text/html", as_html),
    "json": ("application/json", as_json),
}


class Rendering:
    """Renders the page in a thread, at most once a second in each format.

    Requests that come meanwhile share it.
    """

    def __init__(
        self, take: Take, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Render what `take` returns."""
        self._take = take
        self._clock = clock
        self._threads = {name: OneAtATime("statusz") for name in FORMATS}
        self._kept: dict[str, tuple[bytes, float]] = {}  # with the time of its state
        self._made: dict[str, asyncio.Task[bytes]] = {}  # those under way

    async def page(self, name: str) -> tuple[bytes, str]:
        """Return the page and its content type, in the format of this name."""
        kind, _ = FORMATS[name]
        body, taken = self._kept.get(name, (b"", -inf))
        if self._clock() - taken < KEPT_SECONDS:
            return body, kind
        if name not in self._made:
            self._made[name] = asyncio.create_task(self._make(name))
        return await asyncio.shield(self._made[name]), kind

    async def _make(self, name: str) -> bytes:
        taken = self._clock()
        _, render = FORMATS[name]
        try:
            state = await self._take()
            body = await self._threads[name].run(partial(render, state))
            self._kept[name] = body, taken
        finally:
            del self._made[name]
        return body
