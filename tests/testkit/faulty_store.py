"""A store in virtual time, and replicas' access to it, with delays and faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.store import StoreError
from testkit.local_store import LocalStore
from testkit.virtual_time import now


class Server:
    """The store that replicas share, which a test can stop and wipe."""

    def __init__(self) -> None:
        """Begin empty and without a fault."""
        self.fault: StoreError | None = None  # of each command of each replica
        self.wipe()

    def wipe(self) -> None:
        """Forget everything, subscriptions too, as after a restart."""
        self.memory = MemoryStore(clock=now)


class FaultyStore:
    """One replica's access to a server; the methods are those of `Store`.

    A command reaches the server after half of its delay, even if nobody waits for it
    any more, and its answer arrives after the other half. Messages arrive in the
    process in which the access was made.
    """

    def __init__(self, server: Server) -> None:
        """Begin without a fault and without a delay."""
        self.server = server
        self.unreached = ""  # why no connection opens
        self.fault: StoreError | None = None  # of each command; no message arrives
        self.faults: dict[str, StoreError] = {}  # of commands, by name
        self.answers: dict[str, Any] = {}  # instead of the server's, by the same
        self.delay: Callable[[], float] = lambda: 0.0  # seconds, of the next command
        self.loses_messages = False
        self.commands: Counter[str] = Counter()
        self._context = copy_context()
        self._late: set[asyncio.Task[Any]] = set()

    def deliver_to(self, deliver: Callable[[str, bytes], None]) -> None:
        """Set what gets the messages."""
        self._deliver = deliver

    def receive(self, name: str, value: bytes) -> None:
        """Get a message from the server."""
        if not (self._failure("") or self.loses_messages):
            asyncio.get_running_loop().call_soon(
                self._deliver, name, value, context=self._context
            )

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a command of the store."""

        async def command(*args: Any, **fields: Any) -> Any:
            self.commands[name] += 1
            if failure := self._failure(name):
                raise failure
            seconds = self.delay()
            if not seconds:
                return await self._run(name, args, fields)
            work = asyncio.create_task(self._run_late(seconds, name, args, fields))
            self._late.add(work)
            work.add_done_callback(self._done)
            return await asyncio.shield(work)

        return command

    def _failure(self, name: str) -> StoreError | None:
        return self.server.fault or self.fault or self.faults.get(name)

    async def _run(self, name: str, args: Any, fields: Any) -> Any:
        if name in self.answers:
            return self.answers[name]
        local = LocalStore(self.server.memory)
        local.deliver_to(self.receive)
        return await getattr(local, name)(*args, **fields)

    async def _run_late(self, seconds: float, name: str, args: Any, fields: Any) -> Any:
        await asyncio.sleep(seconds / 2)
        if failure := self._failure(name):
            raise failure
        answer = await self._run(name, args, fields)
        await asyncio.sleep(seconds / 2)
        return answer

    def _done(self, work: asyncio.Task[Any]) -> None:
        self._late.discard(work)
        if not work.cancelled():
            work.exception()  # it is retrieved, although nobody may wait for it
