"""The store at a real server: what others may have written there, and its bounds."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from healthomics_gateway.shared.store import (
    SETTLE_SECONDS,
    Claim,
    Members,
    Permit,
    Rate,
    StoreError,
    StoreFullError,
)
from healthomics_gateway.shared.valkey.store import ValkeyStore
from testkit.valkey_server import MAX_VALUE_BYTES, ValkeyServer, store_at, valkey

RATE = Rate(8.0, 2.0)
# At a key of the gateway, whatever its kind: another type, no numbers, or absurd ones.
NUMBERS = ("nan", "-nan", "inf", "-inf", "1e300", "-1e300", "", "x", "0x10", "-1")
FIELDS = (
    *("tokens", "filled", "share", "rate", "set", "cut", "asked"),
    *("period", "r", "ax"),
)


async def test_replicas_know_each_other(server: ValkeyServer) -> None:
    """A beat returns the attached ones, and how many are expected."""
    async with store_at(server.url) as store:
        assert Members(frozenset(), 3, was_known=False) == await store.beat(
            "a", is_attached=False, known=3
        )
        await store.beat("b", is_attached=True, known=1)
        assert Members(frozenset({"a", "b"}), 3, was_known=True) == await store.beat(
            "a", is_attached=True, known=1
        )
        await store.leave("b")
        members = await store.beat("a", is_attached=True, known=1)

    assert frozenset({"a"}) == members.attached


async def test_deployments_share_nothing(server: ValkeyServer) -> None:
    """Gateways with another secret use other keys."""
    async with store_at(server.url) as one, store_at(server.url) as other:
        await one.write("e", "x", b"value", age_seconds=0.0, keep_seconds=60.0)
        await one.beat("a", is_attached=True, known=1)
        members = await other.beat("b", is_attached=True, known=1)

        assert await other.read("e", "x") is None
        assert frozenset({"b"}) == members.attached


async def test_every_key_has_a_time_to_live_and_is_in_one_slot(
    server: ValkeyServer,
) -> None:
    """Nothing stays for ever, and a script may use all keys in a cluster."""
    deployment = secrets.token_hex(8)
    async with store_at(server.url, deployment) as store:
        await store.beat("a", is_attached=True, known=2)
        await store.reserve("q", RATE, replica="a")
        await store.take("c", Rate(0.0001, 1.0), wanted=1)
        await store.count("n", 1, replica="a", limit=None)
        await store.write("e", "x", b"value", age_seconds=0.0, keep_seconds=60.0)
        await store.claim("e", "x", replica="a", period_seconds=3600.0)
    async with server.client() as other:
        keys = await other.keys(f"*{deployment}*")
        left = [await other.pttl(key) for key in keys]

    assert {"members", "floor", "quota", "bucket", "count", "entry", "lease"} == {
        key.decode().split(":")[3] for key in keys
    }
    assert all(f"gateway:1:{{{deployment}}}:".encode() in key for key in keys)
    assert all(0 < each <= 7_200_000 for each in left)


async def test_value_that_is_too_large_is_never_transferred(
    server: ValkeyServer,
) -> None:
    """The gateway doesn't write one, and doesn't read one that somebody else wrote."""
    deployment = secrets.token_hex(8)
    async with store_at(server.url, deployment) as store, server.client() as other:
        large = bytes(MAX_VALUE_BYTES + 1)
        with pytest.raises(StoreFullError, match="larger than a gateway stores"):
            await store.write("e", "x", large, age_seconds=0.0, keep_seconds=9.0)
        await store.write("e", "x", large[1:], age_seconds=0.0, keep_seconds=9.0)
        read = await store.read("e", "x")
        assert read is not None
        assert large[1:] == read.value
        (key,) = await other.keys(f"*{deployment}*")
        await other.hset(key, "vx", large)

        assert await store.read("e", "x") is None
        await store.beat("a", is_attached=True, known=1)
        await store.claim("e", "x", replica="a", period_seconds=1.0)
        assert Claim("a", None) == await store.claim(
            "e", "x", replica="b", period_seconds=1.0
        )


async def test_script_that_the_server_has_forgotten_is_sent_again(
    server: ValkeyServer,
) -> None:
    """It is forgotten at a restart, and when an operator flushes scripts."""
    async with store_at(server.url) as store, server.client() as other:
        await store.take("c", RATE, wanted=1)
        await other.script_flush()

        assert Permit(1, 0.0) == await store.take("c", RATE, wanted=1)


@pytest.mark.parametrize("kind", ["string", "list", "huge", "numbers"])
async def test_forged_state_counts_as_missing_or_is_bounded(
    server: ValkeyServer, kind: str
) -> None:
    """Whatever is at the gateway's keys, each command has a plausible result."""
    deployment = secrets.token_hex(8)
    async with store_at(server.url, deployment) as store, server.client() as other:
        for number in NUMBERS if kind == "numbers" else ("",):
            await _use(store)
            for key in await other.keys(f"*{deployment}*"):
                if kind != "numbers":
                    await other.delete(key)
                if kind == "string":
                    await other.set(key, "forged", ex=60)
                elif kind == "list":
                    await other.rpush(key, "forged")
                elif kind == "huge":
                    await other.hset(key, mapping={f"f{n}": n for n in range(5000)})
                elif await other.type(key) == b"string":
                    await other.set(key, f"{number} {number}", ex=60)
                else:
                    forged = dict.fromkeys(FIELDS, number)
                    await other.hset(key, mapping=forged)
            await store.beat("r", is_attached=True, known=1)
            await _use(store)


async def _use(store: ValkeyStore) -> None:
    """Run each command, and check that its result is possible."""
    members = await store.beat("r", is_attached=True, known=2)
    assert "r" in members.attached
    assert 1 <= members.expected <= 4096
    await store.cut("q", RATE)
    wait_seconds, tps, _ = await store.reserve("q", RATE, replica="r")
    assert 0 < tps <= RATE.tps
    most = RATE.burst + 4 * members.expected + SETTLE_SECONDS * RATE.tps
    assert 0 <= wait_seconds <= most / tps + 0.001
    granted, wait_seconds = await store.take("c", RATE, wanted=5)
    assert 0 <= granted <= RATE.burst
    assert 0 <= wait_seconds <= 1 / RATE.tps
    await store.count("n", 1, replica="r", limit=3)
    await store.read("e", "x")
    await store.write("e", "x", b"value", age_seconds=0.0, keep_seconds=60.0)
    read = await store.read("e", "x")
    assert read is not None
    assert b"value" == read.value
    claim = await store.claim("e", "x", replica="r", period_seconds=1.0)
    assert "r" == claim.holder


async def test_forged_replica_is_forgotten_like_one_that_has_died(
    server: ValkeyServer,
) -> None:
    """Whatever its id is, and however late its last beat is said to have been."""
    deployment = secrets.token_hex(8)
    async with store_at(server.url, deployment) as store, server.client() as other:
        await store.beat("a", is_attached=True, known=1)
        (key, _) = sorted(await other.keys(f"*{deployment}*"), reverse=True)
        forged = {b"\xff": "1 9999999999.5", b"x" * 65: "1 9999999999.5", b"y": "1 1.5"}
        await other.hset(key, mapping=forged)
        floor = key.replace(b"members", b"floor")
        await other.set(floor, "4000 9999999999.5")
        members = await store.beat("a", is_attached=True, known=1)
        beats = await other.hgetall(key)
        now, _ = await other.time()

    assert (frozenset({"a", "\ufffd"}), 2) == (members.attached, members.expected)
    assert {b"a", b"\xff"} == beats.keys()
    assert all(float(each[2:]) <= now + 1 for each in beats.values())


async def test_long_text_is_read_once_at_most(server: ValkeyServer) -> None:
    """It is removed: reading 100 MB at each beat would take longer than 50 ms."""
    deployment = secrets.token_hex(8)
    async with store_at(server.url, deployment) as store, server.client() as other:
        await store.beat("a", is_attached=True, known=1)
        (members, floor) = sorted(await other.keys(f"*{deployment}*"), reverse=True)
        assert b"floor" in floor
        await other.set(floor, b"9" * 1_000_000)
        found = await store.beat("a", is_attached=True, known=1)
        assert (1, 0) == (found.expected, await other.exists(floor))

        await store.beat("b", is_attached=True, known=1)
        await store.count("n", 1, replica="b", limit=None)
        await store.claim("e", "x", replica="b", period_seconds=1.0)
        count = members.replace(b"members:", b"count:n")
        lease = members.replace(b"members:", b"lease:e")
        await other.hset(count, "b", "1" + " " * 1_000_000)
        await other.hset(lease, "period", "1" + " " * 1_000_000)
        assert await store.count("n", 1, replica="a", limit=1)
        claim = await store.claim("e", "x", replica="a", period_seconds=1.0)
        assert "a" == claim.holder
        assert b"b" not in await other.hkeys(count)


async def test_impossible_number_of_replicas_is_an_error() -> None:
    """Shares are divided by it."""
    for number in (b":0", b":-1", b":4097", b",inf", b"$400\r\n" + b"9" * 400):
        async with _answering(b"*2\r\n" + number + b"\r\n:1\r\n") as store:
            with pytest.raises(StoreError, match="isn't understood"):
                await store.beat("a", is_attached=True, known=1)


async def test_script_that_is_never_known_is_an_error() -> None:
    """Not even when it is sent in full."""
    async with _answering(b"-NOSCRIPT no\r\n") as store:
        for work in (store.beat("a", is_attached=True, known=1), store.remove("e")):
            with pytest.raises(StoreError, match="answers with an error"):
                await work


@asynccontextmanager
async def _answering(reply: bytes) -> AsyncIterator[ValkeyStore]:
    """Return a store at a server that answers all commands with `reply`."""
    greeting = b"*4\r\n+server\r\n+redis\r\n+version\r\n+7.0.0\r\n"

    async def handle(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(65536)
        writer.write(greeting)
        while await reader.read(65536):
            writer.write(reply)
        writer.close()

    serving = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = serving.sockets[0].getsockname()[1]
    async with serving, store_at(f"redis://127.0.0.1:{port}") as store:
        yield store


@pytest.mark.parametrize(
    "reply", [b":1\r\n", b"*2\r\n$3\r\nnan\r\n$3\r\ninf\r\n", b"*1\r\n:1\r\n"]
)
async def test_answer_of_another_program_is_an_error(reply: bytes) -> None:
    """A server that isn't what it seems to be can't make a gateway fail."""
    async with _answering(reply) as store:
        for work in (
            store.beat("a", is_attached=True, known=1),
            store.reserve("q", RATE, replica="a"),
            store.take("c", RATE, wanted=1),
            store.claim("e", "x", replica="a", period_seconds=1.0),
            store.info(),
        ):
            with pytest.raises(StoreError, match="isn't understood"):
                await work
        with pytest.raises(StoreError, match="isn't understood"):
            await store.read("e", "x")


async def test_writes_fail_without_memory_and_all_else_works() -> None:
    """A full store still grants tokens and leases, and delivers values."""
    got: list[tuple[str, bytes]] = []
    with valkey("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as server:
        async with store_at(server.url) as store, server.client() as other:
            store.deliver_to(lambda name, value: got.append((name, value)))
            await store.beat("a", is_attached=True, known=1)
            await store.write("e", "x", b"before", age_seconds=0.0, keep_seconds=60.0)
            await store.subscribe("e")
            await other.setrange("filler", 6_000_000, "x")

            with pytest.raises(StoreFullError, match="no free memory"):
                await store.write("e", "x", b"after", age_seconds=0.0, keep_seconds=9.0)
            reservation = await store.reserve("q", RATE, replica="a")
            assert 8.0 == reservation.tps
            assert Permit(1, 0.0) == await store.take("c", RATE, wanted=1)
            assert await store.count("n", 1, replica="a", limit=1)
            claim = await store.claim("e", "x", replica="a", period_seconds=1.0)
            assert Claim("a", None) == claim
            read = await store.read("e", "x")
            assert read is not None
            assert b"before" == read.value
            await store.release("e", replica="a")
            await store.remove("e")
            await store.leave("a")

    assert [("e", b"after")] == got[:1]
