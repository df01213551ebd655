"""Resolves names in its own threads, as a look-up may take half a minute."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from healthomics_gateway.threads import OneAtATime

NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class Resolver(AbstractResolver):
    """Resolves names for aiohttp, whose own resolver uses the event loop's threads.

    There is one look-up of a name at a time, so a look-up that hangs uses one thread.
    """

    def __init__(
        self, *, look_up: Callable[..., list[Any]] = socket.getaddrinfo
    ) -> None:
        """Create a resolver; `look_up` returns what `socket.getaddrinfo` returns."""
        self._look_up = look_up
        self._threads: dict[Any, OneAtATime] = {}  # by name: few are set

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name. Raises socket.gaierror."""
        asked = (host, port, family)
        threads = self._threads.setdefault(asked, OneAtATime("names"))
        return await threads.run(partial(self._resolve, *asked))

    async def close(self) -> None:
        """Do nothing, as a look-up can't be cancelled."""

    def _resolve(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> list[ResolveResult]:
        """Look a name up; it blocks."""
        try:
            found = self._look_up(
                host,
                port,
                type=socket.SOCK_STREAM,
                family=family,
                flags=socket.AI_ADDRCONFIG,
            )
        except UnicodeError as error:  # a label of the name is empty or too long
            raise socket.gaierror from error
        return [
            ResolveResult(
                hostname=host,
                host=socket.getnameinfo(address, NUMERIC)[0],  # with an IPv6 zone
                port=port,
                family=family_of_it,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family_of_it, _, protocol, _, address in found
        ]
