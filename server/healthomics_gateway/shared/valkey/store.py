"""A `Store` in a Valkey or Redis server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from healthomics_gateway.shared.store import (
    Claim,
    Deliver,
    Members,
    Permit,
    Rate,
    Reservation,
    Stored,
    StoreFullError,
)
from healthomics_gateway.shared.valkey import replies
from healthomics_gateway.shared.valkey.commands import Commands
from healthomics_gateway.shared.valkey.connecting import Servers
from healthomics_gateway.shared.valkey.faults import store_error
from healthomics_gateway.shared.valkey.messages import Messages
from healthomics_gateway.shared.valkey.scripts import Script, script
from healthomics_gateway.shared.valkey.urls import StoreUrl

VERSION = 1  # of the keys and their contents; gateways of another one share nothing
OVERHEAD_BYTES = 1_048_576  # of a reply or a message, besides a value

_BEAT, _LEAVE = script("beat"), script("leave")
_RESERVE, _CUT, _TAKE, _COUNT = map(script, ("reserve", "cut", "take", "count"))
_READ, _PUBLISH = script("read"), script("publish")
_WRITE = script("write", needs_memory=True)
_CLAIM, _RELEASE = script("claim"), script("release")


class ValkeyStore:
    """The state in a server; the methods are those of `Store`, each one script.

    All keys of a deployment are in one slot of a cluster, so a script can use several.
    Each has a time to live.
    """

    def __init__(
        self,
        url: StoreUrl,
        *,
        deployment: str,
        max_value_bytes: int,
        observe: Callable[[float], object] = lambda _seconds: None,
    ) -> None:
        """Begin without a connection.

        * `deployment` is part of all keys: those with another one share nothing.
        * `max_value_bytes`: larger values are neither written nor read.
        * `observe` gets the seconds of each command.
        """
        self._prefix = f"healthomics-gateway:{VERSION}:{{{deployment}}}:"
        self._max_value_bytes = max_value_bytes
        self._observe = observe
        self.servers = Servers(
            url,
            key=self._key("members"),
            max_reply_bytes=max_value_bytes + OVERHEAD_BYTES,
        )
        self._commands = Commands(self.servers.connect)
        self._messages = Messages(self.servers.connect, deliver=self._receive)
        self._deliver: Deliver = lambda _name, _value: None

    @property
    def unreached(self) -> str:
        """Why no connection could be opened the last time; empty if one could."""
        return self._commands.unreached

    @property
    def fault_of_messages(self) -> str:
        """Why no messages arrive, although commands may work; empty if they do."""
        return self._messages.fault

    def deliver_to(self, deliver: Deliver) -> None:
        """Call `deliver` for each value of the entries that are subscribed to."""
        self._deliver = deliver

    async def close(self) -> None:
        """Close all connections; never raises."""
        await self._messages.close()
        await self._commands.close()

    async def beat(self, replica: str, *, is_attached: bool, known: int) -> Members:
        """Note that a replica lives."""
        keys = (self._key("members"), self._key("floor"))
        reply = await self._run(_BEAT, keys, replica, int(is_attached), known)
        return replies.members(reply)

    async def leave(self, replica: str) -> None:
        """Forget a replica; its leases and counts are those of a dead one."""
        await self._run(_LEAVE, (self._key("members"),), replica)

    async def reserve(self, quota: str, rate: Rate, *, replica: str) -> Reservation:
        """Take the next token of a quota."""
        keys = (self._key("members"), self._key("floor"), self._key("quota", quota))
        return replies.reservation(await self._run(_RESERVE, keys, replica, *rate))

    async def cut(self, quota: str, rate: Rate) -> None:
        """Lower the rate of a quota."""
        await self._run(_CUT, (self._key("quota", quota),), *rate)

    async def take(self, bucket: str, rate: Rate, *, wanted: int) -> Permit:
        """Take at most `wanted` tokens of a caller's bucket."""
        keys = (self._key("bucket", bucket),)
        return replies.permit(await self._run(_TAKE, keys, *rate, wanted))

    async def count(
        self, name: str, number: int, *, replica: str, limit: int | None
    ) -> bool:
        """Set how many a replica has of something."""
        keys = (self._key("members"), self._key("count", name))
        most = "" if limit is None else limit
        return bool(await self._run(_COUNT, keys, replica, number, most))

    async def read(self, name: str, field: str) -> Stored | None:
        """Return the value of a field of an entry, unless it's larger than allowed."""
        keys = (self._key("entry", name),)
        reply = await self._run(_READ, keys, field, self._max_value_bytes)
        return replies.stored(reply)

    async def write(
        self,
        name: str,
        field: str,
        value: bytes,
        *,
        age_seconds: float,
        keep_seconds: float,
    ) -> None:
        """Set a field of an entry, and publish the value, also if there is no memory.

        Raises StoreFullError if there is none, or the value is larger than allowed.
        """
        if len(value) > self._max_value_bytes:
            raise StoreFullError(
                f"a value of {len(value)} bytes is larger than a gateway stores"
            )
        keys = (self._key("entry", name),)
        try:
            await self._run(_WRITE, keys, field, value, age_seconds, keep_seconds)
        except StoreFullError:
            await self._run(_PUBLISH, keys, value)
            raise

    async def remove(self, name: str) -> None:
        """Remove an entry with all fields."""
        await self._command("UNLINK", self._key("entry", name))

    async def claim(
        self, name: str, field: str, *, replica: str, period_seconds: float
    ) -> Claim:
        """Take the lease of an entry, or renew it."""
        keys = (
            self._key("members"),
            self._key("lease", name),
            self._key("entry", name),
        )
        most = self._max_value_bytes
        reply = await self._run(_CLAIM, keys, replica, period_seconds, field, most)
        return replies.claim(reply)

    async def release(self, name: str, *, replica: str) -> None:
        """Release a lease."""
        keys = (self._key("lease", name), self._key("entry", name))
        await self._run(_RELEASE, keys, replica)

    async def subscribe(self, name: str) -> None:
        """Deliver the values of an entry from now on."""
        await self._messages.subscribe(self._key("entry", name))

    async def unsubscribe(self, name: str) -> None:
        """Deliver no more values of an entry."""
        await self._messages.unsubscribe(self._key("entry", name))

    async def info(self) -> dict[str, str]:
        """Return facts about the server's memory, for a check."""
        return replies.info(await self._command("INFO", "memory"))

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self._prefix}{kind}:{name}"

    def _receive(self, channel: str, value: bytes) -> None:
        self._deliver(channel.removeprefix(self._key("entry", "")), value)

    async def _run(
        self, script: Script, keys: Sequence[str], *values: str | bytes | float
    ) -> Any:
        """Return the reply of a script, which is sent in full if it isn't known."""
        arguments = (len(keys), *keys, *values)
        try:
            return await self._observed("EVALSHA", script.sha, *arguments)
        except NoScriptError:
            return await self._command("EVAL", script.text, *arguments)
        except (RedisError, OSError) as error:
            raise store_error(error) from None

    async def _command(self, *command: str | bytes | float) -> Any:
        try:
            return await self._observed(*command)
        except (RedisError, OSError) as error:
            raise store_error(error) from None

    async def _observed(self, *command: str | bytes | float) -> Any:
        """Return the reply to a command; raises redis-py's errors too."""
        begun = time.perf_counter()
        try:
            return await self._commands.run(*command)
        finally:
            self._observe(time.perf_counter() - begun)
