"""What a client of the store does to the gateways' keys and channels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from random import Random
from types import MappingProxyType
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

BIG_BYTES = 100_000_000
NUMBERS = ("1e308", "-1e308", "nan", "inf", "-1", "", "1e-308", "9" * 400, "0x10")
MOST_KEYS = 400  # that one round of an attack touches
FLOOD = 200  # messages in a round
FLOOD_BYTES = (0, 100, 100_000)
SUBSCRIBERS = 50
OTHER_TYPES: tuple[tuple[Any, ...], ...] = (
    ("SET", "x"),
    ("RPUSH", "x"),
    ("SADD", "x"),
    ("ZADD", 1, "x"),
    ("XADD", "*", "field", "x"),
    ("HSET", "field", "x"),
)
HASH, STRING = b"hash", b"string"


class Attacker:
    """A client that may do everything, but doesn't know the gateways' secret."""

    def __init__(self, port: int, *, seed: int) -> None:
        """Attack the store at a port of loopback; `seed` determines what is drawn."""
        self._url = f"redis://127.0.0.1:{port}/0"
        self._client: Redis = Redis.from_url(self._url)
        self._random = Random(seed)  # reproduced by its seed
        self._subscribed: list[Redis] = []
        self._kept: dict[tuple[bytes, bytes], bytes] = {}  # values, by key and field

    async def close(self) -> None:
        """Close every connection."""
        for each in (*self._subscribed, self._client):
            await each.aclose()

    async def values(self) -> dict[tuple[bytes, bytes], bytes]:
        """Return the values of some keys, by key and field; a text has no field."""
        found: dict[tuple[bytes, bytes], bytes] = {}
        for key in await self._keys():
            kind = await self._client.type(key)
            with suppress(ResponseError):  # it has just been replaced
                if kind == HASH:
                    fields = await self._client.hgetall(key)
                    found |= {(key, each): fields[each] for each in fields}
                elif kind == STRING:
                    found[key, b""] = await self._client.get(key) or b""
        return found

    async def _keys(self) -> list[bytes]:
        """Return some of the keys, in any order."""
        keys = [key async for key in self._client.scan_iter(count=1000)]
        return self._random.sample(keys, min(len(keys), MOST_KEYS))

    async def _set(self, key: bytes, field: bytes, value: bytes | str) -> None:
        with suppress(ResponseError):  # it has another type now
            if field:
                await self._client.hset(key, field, value)
            else:
                await self._client.set(key, value, keepttl=True)

    async def random_bytes(self) -> None:
        """Replace values by random bytes, and by values with one other bit."""
        for (key, field), value in (await self.values()).items():
            forged = self._random.randbytes(self._random.choice((0, 1, 40, 1000)))
            if value and self._random.random() < 0.5:
                at = self._random.randrange(len(value))
                flipped = value[at] ^ 1 << self._random.randrange(8)
                forged = value[:at] + bytes([flipped]) + value[at + 1 :]
            await self._set(key, field, forged)

    async def copies(self) -> None:
        """Write valid values under the keys and fields of others."""
        values = await self.values()
        others = list(values.values())
        self._random.shuffle(others)
        for (key, field), value in zip(values, others, strict=True):
            await self._set(key, field, value)

    async def replays(self) -> None:
        """Write the values again that a key had in an earlier round."""
        for (key, field), value in self._kept.items():
            await self._set(key, field, value)
        self._kept = await self.values()

    async def other_types(self) -> None:
        """Replace keys by values of another type."""
        for key in await self._keys():
            command, *rest = self._random.choice(OTHER_TYPES)
            await self._client.delete(key)
            with suppress(ResponseError):  # the gateway was faster
                await self._client.execute_command(command, key, *rest)

    async def numbers(self) -> None:
        """Replace values by numbers at and beyond the limits of the usual types."""
        for key, field in await self.values():
            await self._set(key, field, self._random.choice(NUMBERS))

    async def big_values(self) -> None:
        """Make a value of 100 MB of one key."""
        keys = await self._keys()
        if not keys:
            return
        key = keys[0]
        with suppress(RedisError):  # the store may have no room for it
            if await self._client.type(key) == HASH:
                field = self._random.choice(await self._client.hkeys(key))
                await self._client.hset(key, field, bytes(BIG_BYTES))
            else:
                await self._client.delete(key)
                await self._client.setrange(key, BIG_BYTES, b"x")
        await asyncio.sleep(1.0)  # for the gateways to find it
        await self._client.delete(key)

    async def messages(self) -> None:
        """Publish random bytes, other channels' values and big messages on channels."""
        channels = await self._client.pubsub_channels() or [b"none"]
        values = list((await self.values()).values()) or [b""]
        for _ in range(FLOOD):
            size = self._random.choice(FLOOD_BYTES)
            message = self._random.choice(
                (self._random.randbytes(size), self._random.choice(values))
            )
            await self._client.publish(self._random.choice(channels), message)

    async def big_message(self) -> None:
        """Publish a message of 100 MB."""
        channels = await self._client.pubsub_channels() or [b"none"]
        with suppress(RedisError):
            await self._client.publish(channels[0], bytes(BIG_BYTES))
        await asyncio.sleep(1.0)  # the gateways get it meanwhile

    async def subscriptions(self) -> None:
        """Subscribe to everything on many connections, and read nothing."""
        for _ in range(SUBSCRIBERS):
            client: Redis = Redis.from_url(self._url)
            listening = client.pubsub()
            await listening.psubscribe("*")
            self._subscribed.append(client)
        await asyncio.sleep(0.5)  # the connections stay open for a while
        while self._subscribed:
            await self._subscribed.pop().aclose()

    async def kicks(self) -> None:
        """Close the gateways' connections, and remove their scripts and keys."""
        await self._client.client_kill_filter(_type="pubsub")
        await self._client.execute_command("SCRIPT", "FLUSH")
        await self._client.execute_command("FUNCTION", "FLUSH")
        await self._client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL")
        await self._client.flushall()
        await asyncio.sleep(1.0)  # the gateways recover meanwhile

    async def full(self) -> None:
        """Leave no room in the store for a while."""
        with suppress(RedisError):
            for number in range(1000):
                await self._client.set(f"junk-{number}", bytes(1_000_000))
        await asyncio.sleep(1.0)  # it stays full for a while
        keys = [key async for key in self._client.scan_iter(match="junk-*", count=1000)]
        await self._client.delete(*keys, "junk")  # at least one is required


ATTACKS: Mapping[str, Callable[[Attacker], Awaitable[None]]] = MappingProxyType(
    {
        "random bytes": Attacker.random_bytes,
        "copies": Attacker.copies,
        "replays": Attacker.replays,
        "other types": Attacker.other_types,
        "numbers": Attacker.numbers,
        "messages": Attacker.messages,
        "subscriptions": Attacker.subscriptions,
        "a value of 100 MB": Attacker.big_values,
        "a message of 100 MB": Attacker.big_message,
        "kicks": Attacker.kicks,
        "a full store": Attacker.full,
    }
)
