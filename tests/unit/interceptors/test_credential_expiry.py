"""The end of long calls with their credentials, on a clock that the test sets."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from healthomics_gateway.auth.policy import Credential
from healthomics_gateway.context import CallContext
from healthomics_gateway.interceptors.credential_expiry import CredentialExpiry
from testkit.serving import call_context, end_of

NOW = 1_800_000_000.0


@dataclass
class Timer:
    """A timer that the test fires."""

    seconds: float
    work: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        """Cancel the timer."""
        self.is_cancelled = True


class World:
    """Long calls, the time, and the timers that are set."""

    def __init__(self) -> None:
        self.now = NOW
        self.timers: list[Timer] = []
        self.expiry = CredentialExpiry(
            now=lambda: self.now, call_later=self._call_later
        )
        self._stage = self.expiry.intercept(self._proceed)
        self._ends = asyncio.Event()

    async def call(self, *credentials: Credential) -> str:
        """Make a call that lasts, and return how it ends."""
        exchange = call_context()
        exchange.credentials = credentials
        return await end_of(self._stage(None, exchange))

    def begun(self, *credentials: Credential) -> asyncio.Task[str]:
        """Begin a call that lasts."""
        return asyncio.create_task(self.call(*credentials))

    def fire(self, seconds: float) -> None:
        """Advance the time, and fire the timer that was set last."""
        self.now += seconds
        self.timers.pop().work()

    def end(self) -> None:
        """End all calls."""
        self._ends.set()

    def _call_later(self, seconds: float, work: Callable[[], None]) -> "Timer":
        self.timers.append(Timer(seconds, work))
        return self.timers[-1]

    async def _proceed(self, _incoming: Any, _context: CallContext) -> bytes:
        await self._ends.wait()
        return b"ended"


async def settle() -> None:
    """Run every task until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.guarantee("credential-expiry")
async def test_call_ends_when_its_first_credential_expires() -> None:
    """A call with certificate and token ends when the first of them expires."""
    world = World()
    call = world.begun(Credential("a", NOW + 60), Credential("a", NOW + 2))
    await settle()
    assert [2] == [timer.seconds for timer in world.timers]
    world.fire(1.9)  # the loop's clock may be ahead of the time of day
    await settle()
    assert not call.done()
    world.fire(0.1)

    assert "TOKEN_EXPIRED" == await asyncio.wait_for(call, 5)


@pytest.mark.guarantee("credential-expiry")
async def test_call_ends_when_its_key_is_withdrawn() -> None:
    """A change of the keys ends the calls whose key is no longer published."""
    world = World()
    published = {"old", "new"}
    old = world.begun(Credential("a", holds=lambda: "old" in published))
    new = world.begun(Credential("a", holds=lambda: "new" in published))
    await settle()
    world.expiry.check()
    published.discard("old")
    world.expiry.check()

    assert "TOKEN_INVALID" == await asyncio.wait_for(old, 5)
    world.end()
    assert "ended" == await new


async def test_call_without_credentials_lasts() -> None:
    """An anonymous call has no timer and doesn't end."""
    world = World()
    call = world.begun()
    await settle()
    world.expiry.check()
    world.end()

    assert ("ended", []) == (await call, world.timers)


async def test_call_that_has_ended_leaves_no_timer() -> None:
    """The timer of a call is cancelled when the call ends or is cancelled."""
    world = World()
    calls = [world.begun(Credential("a", NOW + 60)) for _ in range(2)]
    await settle()
    calls[0].cancel()
    assert "cancelled" == await calls[0]
    world.end()
    assert "ended" == await calls[1]

    assert [True, True] == [timer.is_cancelled for timer in world.timers]


async def test_call_of_a_long_credential_is_checked_each_hour() -> None:
    """The expiry is checked each hour, as the system clock may be set."""
    world = World()
    call = world.begun(Credential("a", NOW + 1e9))
    await settle()
    assert [3600] == [timer.seconds for timer in world.timers]
    world.fire(2e9)

    assert "TOKEN_EXPIRED" == await asyncio.wait_for(call, 5)
