"""A store in another process answers as the one that it asks."""

from __future__ import annotations

import pytest

from healthomics_gateway.control import ControlError, Message
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.remote import RemoteStore, StoreService
from healthomics_gateway.shared.store import Claim, Members, Permit, Rate, StoreError

RATE = Rate(10.0, 2.0)


def connected(memory: MemoryStore) -> tuple[RemoteStore, StoreService]:
    """Return a process's store and what answers it."""
    service = StoreService(memory)

    async def ask(_name: str, message: Message, *, seconds: float) -> Message:
        assert seconds > 0
        return await service.answer(message)

    store = RemoteStore(ask)
    service.deliver_to(lambda name, value: store.delivered(Message(name, value)))
    return store, service


async def test_each_method_has_its_result() -> None:
    """The results are those of the store in memory."""
    store, _ = connected(MemoryStore(clock=lambda: 100.0))

    assert Members(frozenset("a"), 2, was_known=False) == await store.beat(
        "a", is_attached=True, known=2
    )
    assert Permit(2, 0.0) == await store.take("caller", RATE, wanted=3)
    reserved = await store.reserve("quota", RATE, replica="a")
    # It is SETTLE_SECONDS ahead, and then the time of a token at half of the rate.
    assert (1.0, 5.0, False) == pytest.approx(reserved)
    assert None is await store.cut("quota", RATE)
    assert await store.count("watches", 2, replica="a", limit=2)
    assert not await store.count("watches", 3, replica="a", limit=2)
    assert None is await store.read("run", "state")
    await store.write("run", "state", b"\0\xff", age_seconds=1.0, keep_seconds=9.0)
    assert (b"\0\xff", 1.0) == await store.read("run", "state")
    lease = {"period_seconds": 5.0}
    assert Claim("a", None) == await store.claim("run", "state", replica="a", **lease)
    await store.beat("b", is_attached=True, known=2)
    assert Claim("a", (b"\0\xff", 1.0)) == await store.claim(
        "run", "state", replica="b", **lease
    )
    await store.release("run", replica="a")
    assert Claim("b", None) == await store.claim("run", "state", replica="b", **lease)
    await store.remove("run")
    assert None is await store.read("run", "state")
    await store.leave("b")
    assert frozenset("a") == (await store.beat("a", is_attached=True, known=2)).attached
    await store.close()


async def test_values_are_delivered_until_the_subscription_ends() -> None:
    """A value that another process writes arrives too."""
    memory = MemoryStore()
    (store, _), (other, _) = connected(memory), connected(memory)
    got: list[tuple[str, bytes]] = []
    store.deliver_to(lambda *what: got.append(what))
    await store.subscribe("run")
    for value in (b"1", b"2"):
        await other.write("run", "state", value, age_seconds=0.0, keep_seconds=9.0)
        await store.unsubscribe("run")

    assert [("run", b"1")] == got


async def test_process_that_has_ended_leaves_the_store() -> None:
    """Its replicas, leases and subscriptions are forgotten."""
    memory = MemoryStore()
    (store, service), (other, _) = connected(memory), connected(memory)
    got: list[tuple[str, bytes]] = []
    store.deliver_to(lambda *what: got.append(what))
    await store.subscribe("run")
    await store.beat("a", is_attached=True, known=1)
    service.close()
    await other.write("run", "state", b"1", age_seconds=0.0, keep_seconds=9.0)
    members = await other.beat("b", is_attached=True, known=1)

    assert [] == got
    assert (frozenset("b"), 1) == (members.attached, members.expected)


async def test_reason_of_the_store_reaches_the_other_process() -> None:
    """It is no bug of the supervisor, which logs those with a traceback."""
    service = StoreService(MemoryStore())
    arguments = {"quota": "q", "rate": [*RATE], "replica": "forgotten"}

    with pytest.raises(ControlError, match="it doesn't know this replica"):
        await service.answer(Message(["reserve", arguments]))


async def test_failed_request_is_a_store_error() -> None:
    """So is one of a method that no store has."""

    async def ask(_name: str, _message: Message, *, seconds: float) -> Message:
        raise ControlError(f"no answer within {seconds:g} s")

    _, service = connected(MemoryStore())

    with pytest.raises(StoreError, match="no answer within 1 s"):
        await RemoteStore(ask).remove("run")
    with pytest.raises(ControlError, match="no such method"):
        await service.answer(Message(["close", {}]))
