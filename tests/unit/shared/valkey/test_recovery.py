"""A replica at a real server that fails: it goes on without it, and comes back."""

from __future__ import annotations

import asyncio

import pytest

from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.store import Rate, StoreError
from testkit.callers import until
from testkit.valkey_server import ValkeyServer, store_at

RATE = Rate(8.0, 2.0)


@pytest.mark.parametrize("way", ["kill", "freeze"])
async def test_replica_comes_back_with_its_server(
    own_server: ValkeyServer, way: str
) -> None:
    """It detaches by itself, and attaches by itself."""
    async with store_at(own_server.url) as store:
        replica = Replica(store, replicas=1)
        following = asyncio.create_task(replica.follow())
        await until(lambda: replica.is_attached)
        getattr(own_server, way)()
        await until(lambda: not replica.is_attached)
        assert replica.fault
        (own_server.thaw if way == "freeze" else own_server.start)()
        await until(lambda: replica.is_attached)
        following.cancel()

    assert "" == replica.fault


async def test_replica_notices_that_its_server_was_flushed(
    own_server: ValkeyServer,
) -> None:
    """The quota is only granted to replicas that the server knows."""
    async with store_at(own_server.url) as store, own_server.client() as other:
        replica = Replica(store, replicas=1)
        following = asyncio.create_task(replica.follow())
        await until(lambda: replica.is_attached)
        attached = []
        replica.on_change(lambda: attached.append(replica.is_attached))
        await other.flushall()
        with pytest.raises(StoreError, match="doesn't know this replica"):
            await replica.ask(lambda at: at.reserve("q", RATE, replica=replica.id))
        await until(lambda: replica.is_attached)
        reserved = await replica.ask(
            lambda at: at.reserve("q", RATE, replica=replica.id)
        )
        following.cancel()

    assert [False, True] == attached
    assert RATE.tps == reserved.tps
