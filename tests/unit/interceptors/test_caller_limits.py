"""The limits of each caller: calls a second, concurrent calls and open watches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from healthomics_gateway.auth.policy import ANONYMOUS, Access, Rule
from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.caller_limits import CallerLimits
from healthomics_gateway.interceptors.local_limits import (
    MAX_KNOWN,
    LocalCounts,
    LocalRates,
)
from healthomics_gateway.runs.source import Caller
from testkit.serving import call_context

METHODS = frozenset({"GetRun", "WatchRun"})


class LimitedCalls:
    """Limits, and calls of several callers that last until the test ends them."""

    def __init__(self, **limits: Any) -> None:
        """Limit every caller to `limits`."""
        self.now = 1000.0
        self.set_rule(**limits)
        self._limits = CallerLimits(
            rates=LocalRates(clock=lambda: self.now),
            calls=LocalCounts(jitter=lambda: 0.25),
            watches=LocalCounts(jitter=lambda: 0.25),
        )
        self.call = self._limits.calls(self._proceed)
        self.watch = self._limits.watches(self._proceed)
        self._inside: list[asyncio.Task[bytes]] = []

    def set_rule(self, **limits: Any) -> None:
        """Limit the callers of further calls to these limits, as new rules do."""
        self._rule = Rule("*", METHODS, **limits)

    async def _proceed(self, end: Any, _context: CallContext) -> bytes:
        answered: bytes = await end
        return answered

    async def begin(
        self, handler: Handler, name: str, identity: str = ""
    ) -> asyncio.Future[bytes]:
        """Begin a call; return the future that ends it, or raise the call's error."""
        end = asyncio.get_running_loop().create_future()

        async def come() -> bytes:
            call = call_context(
                access=Access(identity or name, self._rule),
                caller=Caller(name, "a connection"),
            )
            return await handler(end, call)

        task = asyncio.create_task(come())
        await asyncio.sleep(0)
        if task.done():
            task.result()
        self._inside.append(task)  # the loop itself doesn't keep it
        return end

    async def refusal(self, handler: Handler, name: str) -> GatewayError:
        """Begin a call that is refused; return its error."""
        with pytest.raises(GatewayError) as caught:
            await self.begin(handler, name)
        assert Reason.CALLER_RATE_LIMITED is caught.value.reason
        return caught.value


@pytest.mark.guarantee("caller-limits")
async def test_concurrent_calls_are_limited_for_each_caller() -> None:
    """A caller's limit counts only its own calls that are under way."""
    limited = LimitedCalls(concurrent_calls=2)
    first = await limited.begin(limited.call, "a")
    await limited.begin(limited.call, "a")
    error = await limited.refusal(limited.call, "a")
    await limited.begin(limited.call, "b")
    await limited.begin(limited.watch, "a")
    first.set_result(b"")
    await asyncio.sleep(0)
    await limited.begin(limited.call, "a")
    await limited.refusal(limited.call, "a")

    assert 0.75 == error.retry_delay_seconds


async def test_watches_are_counted_apart_from_calls() -> None:
    """A caller with as many watches as its rule allows can still make calls."""
    limited = LimitedCalls(watches=1)
    first = await limited.begin(limited.watch, "a")
    await limited.refusal(limited.watch, "a")
    await limited.begin(limited.call, "a")
    await limited.begin(limited.watch, "b")
    first.cancel()
    await asyncio.sleep(0)

    await limited.begin(limited.watch, "a")


async def test_failed_call_no_longer_counts() -> None:
    """A call that ends with an error isn't counted any more."""
    limited = LimitedCalls(concurrent_calls=1)
    first = await limited.begin(limited.call, "a")
    first.set_exception(GatewayError(Reason.RUN_NOT_FOUND))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await limited.begin(limited.call, "a")


async def test_new_rule_counts_the_calls_before_it() -> None:
    """A caller gets no full bucket and no free places by a reload of the rules."""
    limited = LimitedCalls(calls_per_second=4.0, concurrent_calls=9)
    for _ in range(4):
        await limited.begin(limited.call, "a")
    limited.set_rule(calls_per_second=2.0, concurrent_calls=5)
    error = await limited.refusal(limited.call, "a")
    limited.now += 0.5
    await limited.begin(limited.call, "a")
    limited.now += 0.5
    await limited.refusal(limited.call, "a")  # the fifth call isn't its last token

    assert 0.5 == error.retry_delay_seconds


async def test_rate_allows_a_burst_of_one_second() -> None:
    """After a burst of a second's calls, the error says when the next may come."""
    limited = LimitedCalls(calls_per_second=4.0)
    for _ in range(4):
        await limited.begin(limited.call, "a")
    error = await limited.refusal(limited.call, "a")
    await limited.begin(limited.call, "b")
    assert 0.25 == error.retry_delay_seconds

    limited.now += 0.125
    assert 0.125 == (await limited.refusal(limited.watch, "a")).retry_delay_seconds
    limited.now += 0.125
    await limited.begin(limited.watch, "a")
    await limited.refusal(limited.call, "a")

    limited.now += 1000.0
    for _ in range(4):
        await limited.begin(limited.call, "a")
    await limited.refusal(limited.call, "a")


async def test_rate_below_one_call_a_second_allows_single_calls() -> None:
    """A rate below one allows one call at once, and the next after its interval."""
    limited = LimitedCalls(calls_per_second=0.1)
    await limited.begin(limited.call, "a")
    error = await limited.refusal(limited.call, "a")
    limited.now += 10.0

    assert 10.0 == pytest.approx(error.retry_delay_seconds)
    await limited.begin(limited.call, "a")


async def test_refused_call_uses_no_token() -> None:
    """Refused calls don't delay the next call that is allowed."""
    limited = LimitedCalls(calls_per_second=2.0, concurrent_calls=1)
    end = await limited.begin(limited.call, "a")
    for _ in range(100):
        await limited.refusal(limited.call, "a")
    end.set_result(b"")
    await asyncio.sleep(0)
    await limited.begin(limited.watch, "a")
    for _ in range(100):
        await limited.refusal(limited.watch, "a")
    limited.now += 0.5

    await limited.begin(limited.call, "a")


async def test_caller_without_limits_is_not_limited() -> None:
    """A rule without limits refuses no call."""
    limited = LimitedCalls()
    for _ in range(1000):
        await limited.begin(limited.call, "a")
        await limited.begin(limited.watch, "a")


async def test_hosts_without_identity_do_not_refill_an_identitys_bucket() -> None:
    """Calls of any number of hosts don't give a known caller a new, full bucket."""
    limited = LimitedCalls(calls_per_second=1.0)
    await limited.begin(limited.call, "known")
    for number in range(MAX_KNOWN + 1):
        await limited.begin(limited.call, f"host {number}", ANONYMOUS)

    assert 1.0 == (await limited.refusal(limited.call, "known")).retry_delay_seconds
