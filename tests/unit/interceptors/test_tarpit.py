"""The rate and the order in which rejections are sent."""

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


async def refuse(incoming: Any, _context: CallContext) -> bytes:
    """Raise an error with this reason, or answer."""
    if isinstance(incoming, Reason):
        raise GatewayError(incoming)
    return b"answer"


class RejectedCalls:
    """Calls that are rejected, and when each rejection is sent."""

    def __init__(self, **options: Any) -> None:
        """Reject two calls a second, one at once."""
        bounds = {"per_second": 2.0, "burst": 1.0} | options
        self.handler = Tarpit(**bounds).intercept(refuse)
        self._begun = asyncio.get_running_loop().time()
        self.sent: list[tuple[str, float]] = []

    async def call(
        self,
        name: str,
        reason: Reason = Reason.TOKEN_MISSING,
        *,
        host: str = "one",
        connection: str = "first",
        is_revoked: bool = False,
    ) -> None:
        """Make one call, and record when it was rejected."""
        call = call_context(caller=Caller(host, connection))
        call.is_revoked = is_revoked
        with pytest.raises(GatewayError) as caught:
            await self.handler(reason, call)
        assert reason is caught.value.reason
        now = asyncio.get_running_loop().time()
        self.sent.append((name, round(now - self._begun, 6)))


def test_rejections_are_sent_in_order_at_the_rate() -> None:
    """The first rejection is sent at once, each other one when there is a token."""

    async def work() -> list[tuple[str, float]]:
        rejected = RejectedCalls()
        await asyncio.gather(*(rejected.call(name) for name in "abcd"))
        await asyncio.sleep(1000)
        await asyncio.gather(*(rejected.call(name) for name in "ef"))
        return rejected.sent

    assert [
        *[("a", 0.0), ("b", 0.5), ("c", 1.0), ("d", 1.5)],
        *[("e", 1001.5), ("f", 1002.0)],
    ] == virtually(work)


def test_call_that_new_rules_end_does_not_wait() -> None:
    """A watch was accepted before, so its end isn't a rejection."""

    async def work() -> list[tuple[str, float]]:
        rejected = RejectedCalls()
        why = Reason.CALLER_NOT_AUTHORIZED
        calls = [rejected.call(each, why) for each in "ab"]
        await asyncio.gather(*calls, rejected.call("c", why, is_revoked=True))
        return rejected.sent

    assert [("a", 0.0), ("c", 0.0), ("b", 0.5)] == virtually(work)


def test_next_rejection_is_sent_at_once_beyond_the_limit() -> None:
    """Beyond the limit the rejection whose turn is next is sent, not the oldest."""

    async def work() -> list[tuple[str, float]]:
        rejected = RejectedCalls(max_waiting=3)
        await asyncio.gather(
            *(rejected.call(name) for name in "abcd"),
            rejected.call("other", host="two"),
            rejected.call("e"),
        )
        return rejected.sent

    assert [
        *[("a", 0.0), ("b", 0.0), ("other", 0.0)],
        *[("c", 0.5), ("d", 1.0), ("e", 1.5)],
    ] == virtually(work)


@pytest.mark.guarantee("slow-rejections")
def test_hosts_and_their_connections_take_turns() -> None:
    """A connection with many rejections delays neither other hosts nor connections."""

    async def work() -> list[tuple[str, float]]:
        rejected = RejectedCalls()
        await asyncio.gather(
            *(rejected.call(name) for name in "abcd"),
            rejected.call("other", host="two"),
            rejected.call("third", connection="second"),
        )
        return rejected.sent

    assert [
        *[("a", 0.0), ("b", 0.5), ("other", 1.0)],
        *[("third", 1.5), ("c", 2.0), ("d", 2.5)],
    ] == virtually(work)


def test_rejections_of_a_crowd_are_sent_more_slowly() -> None:
    """While many rejections wait, the rate is lower."""

    async def work() -> list[tuple[str, float]]:
        rejected = RejectedCalls(slow_above=2, slow_per_second=0.1)
        await asyncio.gather(*(rejected.call(name) for name in "abcde"))
        return rejected.sent

    assert [
        ("a", 0.0),
        ("b", 10.0),
        ("c", 20.0),
        ("d", 20.5),
        ("e", 21.0),
    ] == virtually(work)


def test_cancelled_call_gives_its_turn_to_the_next() -> None:
    """The rejection of a cancelled call delays no other."""

    async def work() -> list[tuple[str, float]]:
        rejected = RejectedCalls()
        await rejected.call("a")
        tasks = [asyncio.create_task(rejected.call(name)) for name in "bcd"]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return rejected.sent

    assert [("a", 0.0), ("d", 0.5)] == virtually(work)


def test_rejections_of_callers_are_paced() -> None:
    """Errors of authentication, policy and caller limits are delayed, and no others."""
    assert {
        Reason.CALLER_NOT_AUTHORIZED,
        Reason.CALLER_RATE_LIMITED,
        Reason.METHOD_UNKNOWN,
        Reason.AUTH_BACKEND_UNAVAILABLE,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_INVALID,
        Reason.TOKEN_MISSING,
    } == PACED


def test_rejection_keeps_its_retry_delay() -> None:
    """A delayed rejection keeps the retry delay of its error."""

    async def work() -> float:
        async def unavailable(_incoming: Any, _context: CallContext) -> bytes:
            raise GatewayError(Reason.AUTH_BACKEND_UNAVAILABLE, retry_delay_seconds=7.0)

        with pytest.raises(GatewayError) as caught:
            await Tarpit().intercept(unavailable)(None, call_context())
        return caught.value.retry_delay_seconds

    assert 7.0 == virtually(work)


@pytest.mark.guarantee("slow-rejections")
@pytest.mark.parametrize("reason", sorted(set(Reason) - PACED, key=str))
def test_other_errors_are_sent_at_once(reason: Reason) -> None:
    """Answers and all other errors don't wait for rejections."""

    async def work() -> list[tuple[str, float]]:
        rejected = RejectedCalls()
        waiting = [asyncio.create_task(rejected.call(name)) for name in "abc"]
        await asyncio.sleep(0)
        await rejected.call("known", reason)
        assert b"answer" == await rejected.handler("answer", call_context())
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return rejected.sent

    assert [("a", 0.0), ("known", 0.0)] == virtually(work)
