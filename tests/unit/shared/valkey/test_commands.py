"""Commands on one connection: many at a time, given up, and lost."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio.connection import AbstractConnection

from healthomics_gateway.shared.store import Rate, StoreError
from healthomics_gateway.shared.valkey import commands
from healthomics_gateway.shared.valkey.commands import Commands
from healthomics_gateway.shared.valkey.connecting import Servers
from healthomics_gateway.shared.valkey.urls import parse_store_url
from testkit.callers import until
from testkit.clocks import MonotonicClock
from testkit.valkey_server import ValkeyServer, store_at

RATE = Rate(8.0, 2.0)
SOON_SECONDS = 0.02  # within which a frozen server doesn't answer
LATE_SECONDS = 20.0


def commands_at(server: ValkeyServer, clock: MonotonicClock) -> Commands:
    """Return the commands of a store."""
    servers = Servers(parse_store_url(server.url), key="k", max_reply_bytes=1_000_000)
    return Commands(servers.connect, clock=clock)


async def test_replies_belong_to_their_commands(server: ValkeyServer) -> None:
    """Commands that are sent together get each its own reply, on one connection."""
    sent = commands_at(server, MonotonicClock())
    texts = [f"text {number}" for number in range(500)]
    replies = await asyncio.gather(*(sent.run("ECHO", each) for each in texts))
    clients = await sent.run("CLIENT", "LIST")
    await sent.close()

    assert texts == [each.decode() for each in replies]
    assert 1 == clients.count(b"cmd=client|list")


async def test_command_that_is_given_up_does_not_harm_the_next(
    own_server: ValkeyServer,
) -> None:
    """Its late reply is dropped, and the connection stays."""
    sent = commands_at(own_server, MonotonicClock())
    first = await sent.run("CLIENT", "ID")
    own_server.freeze()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON_SECONDS):
            await sent.run("ECHO", "given up")
    own_server.thaw()

    assert b"next" == await sent.run("ECHO", "next")
    assert first == await sent.run("CLIENT", "ID")
    await sent.close()


async def test_connection_that_is_lost_is_opened_again(
    own_server: ValkeyServer,
) -> None:
    """Commands fail while the server is gone, with what to do about it."""
    async with store_at(own_server.url) as store:
        await store.take("c", RATE, wanted=1)
        own_server.kill()
        with pytest.raises(StoreError, match=r"closed|refuses connections"):
            await store.take("c", RATE, wanted=1)
        with pytest.raises(StoreError, match="it refuses connections: start it"):
            await store.take("c", RATE, wanted=1)
        own_server.start()

        assert 1 == (await store.take("c", RATE, wanted=1)).granted


async def test_connection_of_a_frozen_server_is_given_up(
    own_server: ValkeyServer,
) -> None:
    """If the packets of a connection are dropped, only a new one helps."""
    clock = MonotonicClock()
    sent = commands_at(own_server, clock)
    first = await sent.run("CLIENT", "ID")
    own_server.freeze()
    for _ in range(commands.STUCK_COMMANDS):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON_SECONDS):
                await sent.run("ECHO", "given up")
    clock.now += commands.STUCK_SECONDS + 1
    waiting = asyncio.create_task(sent.run("CLIENT", "ID"))
    await asyncio.sleep(0)  # until it is sent
    own_server.thaw()

    assert first != await waiting
    await sent.close()


async def test_commands_that_wait_are_bounded(own_server: ValkeyServer) -> None:
    """Neither their number nor their size grows without bound."""
    sent = commands_at(own_server, MonotonicClock())
    await sent.run("ECHO", "connected")
    own_server.freeze()
    large = bytes(commands.MAX_PENDING_BYTES)
    waiting = [asyncio.create_task(sent.run("ECHO", large))]
    await asyncio.sleep(0)  # until it is sent
    with pytest.raises(StoreError, match="too many commands"):
        await sent.run("ECHO", "one more")
    await sent.close()

    with pytest.raises(StoreError, match="it is closed"):
        await waiting[0]


async def test_reason_of_a_failed_connection_is_kept_for_later(
    server: ValkeyServer,
) -> None:
    """Its caller may have given up before; the next connection ends it."""
    servers = Servers(parse_store_url(server.url), key="k", max_reply_bytes=1_000_000)
    is_let = asyncio.Event()
    faults = [StoreError("it refuses the password")]

    async def connect() -> AbstractConnection:
        await is_let.wait()
        if faults:
            raise faults.pop()
        return await servers.connect()

    sent = Commands(connect)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await sent.run("PING")
    assert "" == sent.unreached
    is_let.set()
    await until(lambda: sent.unreached == "it refuses the password")
    await sent.run("PING")

    assert "" == sent.unreached
    await sent.close()


async def test_connecting_goes_on_without_its_caller(own_server: ValkeyServer) -> None:
    """A connection that takes longer than a caller waits is there for the next."""
    sent = commands_at(own_server, MonotonicClock())
    own_server.freeze()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SOON_SECONDS):
            await sent.run("ECHO", "given up")
    own_server.thaw()
    async with asyncio.timeout(LATE_SECONDS):
        assert b"next" == await sent.run("ECHO", "next")
    await sent.close()
