"""How fast strangers are told no."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from healthomics_gateway.context import CallContext
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.tarpit import PACED, Tarpit
from healthomics_gateway.runs.source import Caller
from testkit.serving import call_context
from testkit.virtual_time import virtually


async def refuse(incoming: Any, _exchange: CallContext) -> bytes:
    """Turn a call away for a reason, or answer it."""
    if isinstance(incoming, Reason):
        raise GatewayError(incoming)
    return b"answer"


class Strangers:
    """Calls that are refused, and when each is told."""

    def __init__(self, **options: Any) -> None:
        """Refuse at a rate of two a second, one at once."""
        bounds = {"per_second": 2.0, "burst": 1.0} | options
        self.handler = Tarpit(**bounds).intercept(refuse)
        self._begun = asyncio.get_running_loop().time()
        self.told: list[tuple[str, float]] = []

    async def call(
        self,
        name: str,
        reason: Reason = Reason.TOKEN_MISSING,
        *,
        host: str = "one",
        connection: str = "first",
    ) -> None:
        """Make one call, and note when it was rejected."""
        call = call_context(caller=Caller(host, connection))
        with pytest.raises(GatewayError) as caught:
            await self.handler(reason, call)
        assert reason is caught.value.reason
        now = asyncio.get_running_loop().time()
        self.told.append((name, round(now - self._begun, 6)))


def test_strangers_are_told_at_a_rate_in_their_order() -> None:
    """The first goes at once, each of the others when it is its turn."""

    async def work() -> list[tuple[str, float]]:
        strangers = Strangers()
        await asyncio.gather(*(strangers.call(name) for name in "abcd"))
        await asyncio.sleep(1000)
        await asyncio.gather(*(strangers.call(name) for name in "ef"))
        return strangers.told

    assert [
        *[("a", 0.0), ("b", 0.5), ("c", 1.0), ("d", 1.5)],
        *[("e", 1001.5), ("f", 1002.0)],
    ] == virtually(work)


def test_oldest_goes_at_once_where_too_many_wait() -> None:
    """What waits is bounded: one more, and the one that has waited longest goes."""

    async def work() -> list[tuple[str, float]]:
        strangers = Strangers(max_waiting=2)
        await asyncio.gather(*(strangers.call(name) for name in "abcde"))
        return strangers.told

    assert [("a", 0.0), ("b", 0.0), ("c", 0.0), ("d", 0.5), ("e", 1.0)] == virtually(
        work
    )


@pytest.mark.guarantee("slow-rejections")
def test_hosts_and_their_connections_take_turns() -> None:
    """A connection that asks for everything delays neither hosts nor connections."""

    async def work() -> list[tuple[str, float]]:
        strangers = Strangers()
        await asyncio.gather(
            *(strangers.call(name) for name in "abcd"),
            strangers.call("other", host="two"),
            strangers.call("third", connection="second"),
        )
        return strangers.told

    assert [
        *[("a", 0.0), ("b", 0.5), ("other", 1.0)],
        *[("third", 1.5), ("c", 2.0), ("d", 2.5)],
    ] == virtually(work)


def test_crowd_is_told_more_slowly() -> None:
    """While many wait each refusal takes longer: others need the time."""

    async def work() -> list[tuple[str, float]]:
        strangers = Strangers(crowd=2, crowd_per_second=0.1)
        await asyncio.gather(*(strangers.call(name) for name in "abcde"))
        return strangers.told

    assert [
        ("a", 0.0),
        ("b", 10.0),
        ("c", 20.0),
        ("d", 20.5),
        ("e", 21.0),
    ] == virtually(work)


def test_stranger_that_leaves_gives_its_turn_to_the_next() -> None:
    """Who has hung up isn't told, and holds up nobody."""

    async def work() -> list[tuple[str, float]]:
        strangers = Strangers()
        await strangers.call("a")
        tasks = [asyncio.create_task(strangers.call(name)) for name in "bcd"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return strangers.told

    assert [("a", 0.0), ("d", 0.5)] == virtually(work)


def test_rejections_of_callers_are_paced() -> None:
    """Calls that show no identity, aren't allowed, or are too many wait; no others."""
    assert {
        Reason.CALLER_NOT_AUTHORIZED,
        Reason.CALLER_RATE_LIMITED,
        Reason.METHOD_UNKNOWN,
        Reason.AUTH_BACKEND_UNAVAILABLE,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_INVALID,
        Reason.TOKEN_MISSING,
    } == PACED


def test_rejection_keeps_the_wait_that_it_advises() -> None:
    """A call whose token can't be verified now is advised when to come back."""

    async def work() -> float:
        async def unavailable(_incoming: Any, _exchange: CallContext) -> bytes:
            raise GatewayError(Reason.AUTH_BACKEND_UNAVAILABLE, retry_delay_seconds=7.0)

        with pytest.raises(GatewayError) as caught:
            await Tarpit().intercept(unavailable)(None, call_context())
        return caught.value.retry_delay_seconds

    assert 7.0 == virtually(work)


@pytest.mark.guarantee("slow-rejections")
@pytest.mark.parametrize("reason", sorted(set(Reason) - PACED, key=str))
def test_others_are_told_at_once(reason: Reason) -> None:
    """Every other call is answered or refused without waiting for rejections."""

    async def work() -> list[tuple[str, float]]:
        strangers = Strangers()
        waiting = [asyncio.create_task(strangers.call(name)) for name in "abc"]
        await asyncio.sleep(0)
        await strangers.call("known", reason)
        assert b"answer" == await strangers.handler("answer", call_context())
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return strangers.told

    assert [("a", 0.0), ("known", 0.0)] == virtually(work)
