"""How a shutdown waits for the calls under way, on a clock that the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from healthomics_gateway.context import CallContext
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.drain import Drain
from testkit.serving import call_context

QUIET_SECONDS = 0.5
LOOK_SECONDS = 0.02  # by so much a drain may notice late
PATIENCE_SECONDS = 5.0  # for what must happen soon
TURNS = 20  # of the event loop, in which what can happen has happened


class Gate:
    """A drain over calls that end when the test says so, on a clock of its own."""

    def __init__(self) -> None:
        """Begin at 1000 seconds, with nothing planned and nobody inside."""
        self.now = 1000.0
        self._plans: list[tuple[float, Callable[[], object]]] = []
        self._drain = Drain(clock=lambda: self.now, sleep=self._sleep)
        self.enter = self._drain.intercept(self._proceed)

    def at(self, seconds: float, what: Callable[[], object]) -> None:
        """Do something so many seconds after the drain began."""
        self._plans.append((self.now + seconds, what))

    def came(self) -> "GateCall":
        """Let a call come now."""
        call = GateCall(self)
        call.come()
        return call

    async def drain(self, seconds: float) -> float:
        """Drain and evict, and tell how many seconds that took."""
        began = self.now
        await settle()
        await self._drain.drain(seconds)
        took = self.now - began
        await self._drain.evict(PATIENCE_SECONDS)
        return took

    async def _proceed(self, call: Any, _exchange: CallContext) -> bytes:
        return await call.answer

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [plan for plan in self._plans if plan[0] <= self.now + 1e-9]
        self._plans = [plan for plan in self._plans if plan not in due]
        for _, what in due:
            what()
        await settle()


class GateCall:
    """A call that lasts until it is told to end."""

    def __init__(self, gate: Gate) -> None:
        """Don't come yet."""
        self._gate = gate
        self.answer = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[bytes]

    def come(self) -> None:
        """Enter."""
        self.task = asyncio.create_task(self._enter())

    async def _enter(self) -> bytes:
        return await self._gate.enter(self, exchange())

    def end(self) -> None:
        """Be answered."""
        self.answer.set_result(b"answered")

    def fail(self) -> None:
        """Fail for a reason of its own."""
        self.answer.set_exception(GatewayError(Reason.RUN_NOT_FOUND))

    async def outcome(self) -> str:
        """Tell how it ended: `answered`, or an error's reason."""
        try:
            return (await asyncio.wait_for(self.task, 5)).decode()
        except GatewayError as error:
            return error.reason.name


def exchange() -> CallContext:
    """A call that runs in this task."""
    return call_context()


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def about(seconds: float) -> Any:
    """So many seconds, or the time of a look more."""
    return pytest.approx(seconds + LOOK_SECONDS / 2, abs=LOOK_SECONDS / 2 + 1e-6)


async def test_call_is_answered_while_nothing_drains() -> None:
    """Before a shutdown every call is let through."""
    call = Gate().came()
    call.end()

    assert "answered" == await call.outcome()


async def test_quiet_drain_takes_half_a_second() -> None:
    """Without a call the drain ends after half a second, for the news to spread."""
    assert about(QUIET_SECONDS) == await Gate().drain(25)


async def test_quiet_counts_from_the_start_of_the_drain() -> None:
    """However long it was quiet before, a drain waits its half second."""
    gate = Gate()
    gate.now += 3600

    assert about(QUIET_SECONDS) == await gate.drain(25)


async def test_drain_waits_for_a_call_that_came_before() -> None:
    """A call under way is answered, and half a second later the drain is over."""
    gate = Gate()
    call = gate.came()
    gate.at(7, call.end)

    assert about(7 + QUIET_SECONDS) == await gate.drain(25)
    assert "answered" == await call.outcome()


async def test_drain_serves_a_call_that_still_comes() -> None:
    """A call that comes in the quiet is answered, and the quiet begins anew."""
    gate = Gate()
    call = GateCall(gate)
    gate.at(0.4, call.come)
    gate.at(2, call.end)

    assert about(2 + QUIET_SECONDS) == await gate.drain(25)
    assert "answered" == await call.outcome()


async def test_call_that_takes_no_time_begins_the_quiet_anew() -> None:
    """Also a call that ends as it comes shows that callers still come."""
    gate = Gate()
    calls = [GateCall(gate), GateCall(gate)]
    for call, seconds in zip(calls, (0.4, 0.8), strict=True):
        call.end()
        gate.at(seconds, call.come)

    assert about(0.8 + QUIET_SECONDS) == await gate.drain(25)
    assert ["answered"] * 2 == [await call.outcome() for call in calls]


async def test_new_calls_are_refused_towards_the_end() -> None:
    """In the last fifth of the time new calls are refused, the others still end."""
    gate = Gate()
    first, second, third = gate.came(), GateCall(gate), GateCall(gate)
    gate.at(19.9, second.come)
    gate.at(20.1, third.come)
    gate.at(23, first.end)
    gate.at(24, second.end)

    assert about(24) == await gate.drain(25)
    assert ["answered", "answered", "GATEWAY_DRAINING"] == [
        await call.outcome() for call in (first, second, third)
    ]


@pytest.mark.guarantee("drain-calls")
async def test_drain_that_refuses_ends_with_its_last_call() -> None:
    """Once new calls are refused there is no quiet to wait for."""
    gate = Gate()
    gate.at(21, gate.came().end)

    assert about(21) == await gate.drain(25)


async def test_calls_that_last_too_long_are_evicted() -> None:
    """When the time is over each call under way gets GATEWAY_DRAINING."""
    gate = Gate()
    calls = [gate.came() for _ in range(3)]

    assert about(25) == await gate.drain(25)
    assert ["GATEWAY_DRAINING"] * 3 == [await call.outcome() for call in calls]


async def test_drain_without_time_evicts_at_once() -> None:
    """A drain of no seconds ends every call then and there."""
    gate = Gate()
    call = gate.came()

    assert 0 == await gate.drain(0)
    assert "GATEWAY_DRAINING" == await call.outcome()


async def test_evicted_call_is_cancelled_no_more() -> None:
    """What an evicted call does next, such as sending its status, isn't cut short."""
    gate = Gate()
    call = gate.came()
    await gate.drain(0)
    await call.outcome()

    assert 0 == call.task.cancelling()


async def test_eviction_waits_until_the_calls_have_gone() -> None:
    """What an evicted call does next, such as sending its status, is waited for."""
    gate = Gate()
    call = gate.came()
    await gate.drain(0)

    assert call.task.done()


async def test_eviction_does_not_wait_for_ever() -> None:
    """A call whose status doesn't leave, as its client doesn't read, is left behind."""
    stuck = asyncio.Event()
    drain = Drain()

    async def proceed(_call: Any, _exchange: CallContext) -> bytes:
        await asyncio.Future()
        return b""

    async def sent() -> None:
        try:
            await drain.intercept(proceed)(None, exchange())
        except GatewayError:
            await stuck.wait()

    task = asyncio.create_task(sent())
    await settle()
    await asyncio.wait_for(drain.evict(0.01), PATIENCE_SECONDS)
    assert not task.done()
    stuck.set()
    await task


async def test_call_after_the_drain_is_refused() -> None:
    """What comes between the drain and the end of the process is told to go."""
    gate = Gate()
    await gate.drain(25)

    assert "GATEWAY_DRAINING" == await gate.came().outcome()


async def test_call_that_its_client_cancels_while_draining_is_cancelled() -> None:
    """A client that goes away by itself isn't told that the gateway drains."""
    gate = Gate()
    call = gate.came()
    gate.at(3, call.task.cancel)

    assert about(3 + QUIET_SECONDS) == await gate.drain(25)
    with pytest.raises(asyncio.CancelledError):
        await call.outcome()


async def test_call_that_fails_while_draining_keeps_its_own_reason() -> None:
    """A failure of the call's own isn't taken for the drain's."""
    gate = Gate()
    call = gate.came()
    gate.at(3, call.fail)

    assert about(3 + QUIET_SECONDS) == await gate.drain(25)
    assert "RUN_NOT_FOUND" == await call.outcome()
