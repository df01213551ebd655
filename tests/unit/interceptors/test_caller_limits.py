"""What each caller may have for itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from healthomics_gateway.auth.policy import ANONYMOUS, Access, Rule
from healthomics_gateway.context import CallContext, Handler
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.caller_limits import MAX_KNOWN, CallerLimits
from healthomics_gateway.runs.source import Caller
from testkit.serving import call_context

METHODS = frozenset({"GetRun", "WatchRun"})


class Door:
    """Limits, and calls of several callers that last until they are told to end."""

    def __init__(self, **limits: Any) -> None:
        """Hold every caller to `limits`."""
        self.now = 1000.0
        self._rule = Rule("*", METHODS, **limits)
        self._limits = CallerLimits(clock=lambda: self.now, jitter=lambda: 0.25)
        self.call = self._limits.calls(self._proceed)
        self.watch = self._limits.watches(self._proceed)
        self._inside: list[asyncio.Task[bytes]] = []

    async def _proceed(self, end: Any, _exchange: CallContext) -> bytes:
        answered: bytes = await end
        return answered

    async def enter(
        self, handler: Handler, name: str, identity: str = ""
    ) -> asyncio.Future[bytes]:
        """Let a call come in; return what ends it, or raise why it is refused."""
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
        """Let a call come that is turned away."""
        with pytest.raises(GatewayError) as caught:
            await self.enter(handler, name)
        assert Reason.CALLER_RATE_LIMITED is caught.value.reason
        return caught.value


@pytest.mark.guarantee("caller-limits")
async def test_calls_at_a_time_are_each_callers_own() -> None:
    """One has as many as its rule says; another's don't count, and ended ones don't."""
    door = Door(concurrent_calls=2)
    first = await door.enter(door.call, "a")
    await door.enter(door.call, "a")
    error = await door.refusal(door.call, "a")
    await door.enter(door.call, "b")
    await door.enter(door.watch, "a")
    first.set_result(b"")
    await asyncio.sleep(0)
    await door.enter(door.call, "a")
    await door.refusal(door.call, "a")

    assert 0.75 == error.retry_delay_seconds


async def test_watches_are_counted_apart_from_calls() -> None:
    """A caller that watches as much as it may still calls."""
    door = Door(watches=1)
    first = await door.enter(door.watch, "a")
    await door.refusal(door.watch, "a")
    await door.enter(door.call, "a")
    await door.enter(door.watch, "b")
    first.cancel()
    await asyncio.sleep(0)

    await door.enter(door.watch, "a")


async def test_call_that_fails_makes_room() -> None:
    """However a call ends, it isn't inside any more."""
    door = Door(concurrent_calls=1)
    first = await door.enter(door.call, "a")
    first.set_exception(GatewayError(Reason.RUN_NOT_FOUND))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await door.enter(door.call, "a")


async def test_rate_is_a_seconds_worth_and_then_so_many_a_second() -> None:
    """Who has used up its second is told when the next call would be let in."""
    door = Door(calls_per_second=4.0)
    for _ in range(4):
        await door.enter(door.call, "a")
    error = await door.refusal(door.call, "a")
    await door.enter(door.call, "b")
    assert 0.25 == error.retry_delay_seconds

    door.now += 0.125
    assert 0.125 == (await door.refusal(door.watch, "a")).retry_delay_seconds
    door.now += 0.125
    await door.enter(door.watch, "a")
    await door.refusal(door.call, "a")

    door.now += 1000.0
    for _ in range(4):
        await door.enter(door.call, "a")
    await door.refusal(door.call, "a")


async def test_less_than_a_call_a_second_is_one_now_and_then() -> None:
    """A rate under one lets one call in at once, and the next after its time."""
    door = Door(calls_per_second=0.1)
    await door.enter(door.call, "a")
    error = await door.refusal(door.call, "a")
    door.now += 10.0

    assert 10.0 == pytest.approx(error.retry_delay_seconds)
    await door.enter(door.call, "a")


async def test_refused_call_takes_nothing() -> None:
    """Asking too often doesn't put off when it is let in."""
    door = Door(calls_per_second=2.0, concurrent_calls=1)
    end = await door.enter(door.call, "a")
    for _ in range(100):
        await door.refusal(door.call, "a")
    end.set_result(b"")
    await asyncio.sleep(0)
    await door.enter(door.watch, "a")
    for _ in range(100):
        await door.refusal(door.watch, "a")
    door.now += 0.5

    await door.enter(door.call, "a")


async def test_callers_without_limits_are_not_held_up() -> None:
    """Nothing is counted that no rule asks for."""
    door = Door()
    for _ in range(1000):
        await door.enter(door.call, "a")
        await door.enter(door.watch, "a")


async def test_hosts_without_identity_do_not_refill_an_identitys_bucket() -> None:
    """However many hosts call meanwhile, a caller's rate goes on where it was."""
    door = Door(calls_per_second=1.0)
    await door.enter(door.call, "known")
    for number in range(MAX_KNOWN + 1):
        await door.enter(door.call, f"host {number}", ANONYMOUS)

    assert 1.0 == (await door.refusal(door.call, "known")).retry_delay_seconds
