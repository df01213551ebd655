"""Subscriptions: they outlive their connection, and buffer a bounded message."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.shared.valkey.connecting import Servers
from healthomics_gateway.shared.valkey.messages import Messages
from healthomics_gateway.shared.valkey.store import ValkeyStore
from healthomics_gateway.shared.valkey.urls import parse_store_url
from testkit.callers import until
from testkit.valkey_server import ValkeyServer, store_at

LATE_SECONDS = 20.0
HUGE_BYTES = 100_000_000
# Of it, what the kernel and the client may hold.
FEW_KIB = 40_000


class Inbox:
    """The values that a store delivers."""

    def __init__(self, store: ValkeyStore) -> None:
        """Receive from now on."""
        self.values: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        store.deliver_to(lambda name, value: self.values.put_nowait((name, value)))

    async def next(self) -> tuple[str, bytes]:
        """Return the next value."""
        async with asyncio.timeout(LATE_SECONDS):
            return await self.values.get()


async def write_until_delivered(store: ValkeyStore, inbox: Inbox, value: bytes) -> None:
    """Write a value until it arrives: what is published meanwhile is lost."""
    async with asyncio.timeout(LATE_SECONDS):
        while (b"" if inbox.values.empty() else (await inbox.next())[1]) != value:
            await store.write("e", "x", value, age_seconds=0.0, keep_seconds=9.0)
            await asyncio.sleep(0.01)  # it may arrive meanwhile


async def test_values_of_subscribed_entries_are_delivered(server: ValkeyServer) -> None:
    """Those of other entries aren't, nor after the end of a subscription."""
    async with store_at(server.url) as store:
        inbox = Inbox(store)
        await store.subscribe("e")
        await write_until_delivered(store, inbox, b"first")
        await store.subscribe("f")
        await store.unsubscribe("e")
        for name in ("e", "f"):
            await store.write(name, "x", b"then", age_seconds=0.0, keep_seconds=9.0)
        found = await inbox.next()
        while found == ("e", b"first"):
            found = await inbox.next()

        assert ("f", b"then") == found


async def test_subscriptions_are_renewed_after_a_restart(
    own_server: ValkeyServer,
) -> None:
    """What was published meanwhile is lost; the log says so."""
    async with store_at(own_server.url) as store:
        inbox = Inbox(store)
        await store.subscribe("e")
        await write_until_delivered(store, inbox, b"before")
        with capture_logs() as logs:
            own_server.kill()
            await until(lambda: store.fault_of_messages != "")
            own_server.start()
            await until(lambda: store.fault_of_messages == "")
            await write_until_delivered(store, inbox, b"after")

    assert ["store_messages_lost", "store_messages_resumed"] == [
        each["event"] for each in logs
    ]


async def test_fault_ends_with_the_outage_without_a_subscription(
    own_server: ValkeyServer,
) -> None:
    """A pong shows that messages arrive again, although none is wanted."""
    servers = Servers(parse_store_url(own_server.url), key="k", max_reply_bytes=1000)
    messages = Messages(
        servers.connect, deliver=lambda _channel, _value: None, ping_seconds=0.05
    )
    await messages.subscribe("c")
    await until(lambda: messages._connection is not None)  # noqa: SLF001  # it has no event for it
    await messages.unsubscribe("c")
    own_server.kill()
    await until(lambda: messages.fault != "")
    own_server.start()
    await until(lambda: messages.fault == "")
    await messages.close()


async def test_connection_of_a_frozen_server_is_given_up(
    own_server: ValkeyServer,
) -> None:
    """A server that lives answers a ping; else no message could arrive."""
    servers = Servers(parse_store_url(own_server.url), key="k", max_reply_bytes=1000)
    messages = Messages(
        servers.connect, deliver=lambda _channel, _value: None, ping_seconds=0.05
    )
    await messages.subscribe("c")
    async with own_server.client() as other, asyncio.timeout(LATE_SECONDS):
        while True:
            if "ping" in [each["cmd"] for each in await other.client_list()]:
                break
            await asyncio.sleep(0.01)  # the server has no event for it
    assert "" == messages.fault
    own_server.freeze()
    await until(lambda: "doesn't answer on the connection" in messages.fault)
    own_server.thaw()
    await until(lambda: messages.fault == "")
    await messages.close()


async def test_huge_message_is_not_buffered(server: ValkeyServer) -> None:
    """It ends the connection for messages, and another is opened."""
    async with store_at(server.url, "huge") as store, server.client() as other:
        inbox = Inbox(store)
        await store.subscribe("e")
        await write_until_delivered(store, inbox, b"before")
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        channel = store._key("entry", "e")  # noqa: SLF001  # as an attacker finds it by PUBSUB CHANNELS
        publish: Any = f"redis.call('PUBLISH', KEYS[1], string.rep('x', {HUGE_BYTES}))"
        await other.eval(publish, 1, channel)
        await until(lambda: store.fault_of_messages != "")
        await until(lambda: store.fault_of_messages == "")
        await write_until_delivered(store, inbox, b"after")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held

    assert grown < FEW_KIB


@pytest.mark.parametrize("reply", [b"-MOVED x\r\n", b"%1\r\n*1\r\n:1\r\n:2\r\n"])
async def test_garbage_ends_only_the_connection(reply: bytes) -> None:
    """Another is opened soon: a server may be repaired."""
    greeting = b"*4\r\n+server\r\n+redis\r\n+version\r\n+7.0.0\r\n"
    opened: list[bool] = []

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        opened.append(True)
        await reader.read(65536)
        writer.write(greeting)
        await reader.read(65536)
        writer.write(reply)
        await reader.read(65536)
        writer.close()

    serving = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = serving.sockets[0].getsockname()[1]
    async with serving, store_at(f"redis://127.0.0.1:{port}") as store:
        with capture_logs() as events:
            await store.subscribe("e")
            await until(lambda: len(opened) > 1)

    assert ["store_messages_lost"] == [each["event"] for each in events]


async def test_flood_of_messages_leaves_time_for_others(server: ValkeyServer) -> None:
    """However fast they arrive, the event loop serves calls in between."""
    number = 2000
    async with store_at(server.url, "flood") as store, server.client() as other:
        inbox = Inbox(store)
        await store.subscribe("e")
        await write_until_delivered(store, inbox, b"before")
        channel = store._key("entry", "e")  # noqa: SLF001  # as above
        flood = f"for i = 1, {number} do redis.call('PUBLISH', KEYS[1], 'x') end"
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)  # the next turn of the loop

        counting = asyncio.create_task(count_turns())
        await other.eval(flood, 1, channel)
        before = turns
        for _ in range(number):
            while (await inbox.next())[1] != b"x":
                pass
        counting.cancel()

    assert turns - before > number / 10
