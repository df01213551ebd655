"""How a shutdown waits for the calls under way, on a clock that the test sets."""

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


class DrainedCalls:
    """A drain with calls that end when the test says, on its own clock."""

    def __init__(self) -> None:
        """Start at 1000 seconds, without events and calls."""
        self.now = 1000.0
        self._plans: list[tuple[float, Callable[[], object]]] = []
        self._drain = Drain(clock=lambda: self.now, sleep=self._sleep)
        self.enter = self._drain.intercept(self._proceed)

    def at(self, seconds: float, what: Callable[[], object]) -> None:
        """Call a function so many seconds after the drain began."""
        self._plans.append((self.now + seconds, what))

    def came(self) -> "DrainedCall":
        """Begin a call now."""
        call = DrainedCall(self)
        call.come()
        return call

    async def drain(self, seconds: float) -> float:
        """Drain and evict; return how many seconds that took."""
        began = self.now
        await settle()
        await self._drain.drain(seconds)
        took = self.now - began
        await self._drain.evict(PATIENCE_SECONDS)
        return took

    async def _proceed(self, call: Any, _context: CallContext) -> bytes:
        return await call.answer

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [plan for plan in self._plans if plan[0] <= self.now + 1e-9]
        self._plans = [plan for plan in self._plans if plan not in due]
        for _, what in due:
            what()
        await settle()


class DrainedCall:
    """A call that lasts until the test ends it."""

    def __init__(self, gate: DrainedCalls) -> None:
        """Create the call, which `come` begins."""
        self._gate = gate
        self.answer = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[bytes]

    def come(self) -> None:
        """Begin the call."""
        self.task = asyncio.create_task(self._enter())

    async def _enter(self) -> bytes:
        return await self._gate.enter(self, exchange())

    def end(self) -> None:
        """Answer the call."""
        self.answer.set_result(b"answered")

    def fail(self) -> None:
        """Let the call fail with an error of its own."""
        self.answer.set_exception(GatewayError(Reason.RUN_NOT_FOUND))

    async def outcome(self) -> str:
        """Return how the call ended: `answered`, or the reason of an error."""
        try:
            return (await asyncio.wait_for(self.task, 5)).decode()
        except GatewayError as error:
            return error.reason.name


def exchange() -> CallContext:
    """Return the context of a call that runs in this task."""
    return call_context()


async def settle() -> None:
    """Run every task until it waits."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


def about(seconds: float) -> Any:
    """Match these seconds, or one check later."""
    return pytest.approx(seconds + LOOK_SECONDS / 2, abs=LOOK_SECONDS / 2 + 1e-6)


async def test_call_is_answered_before_a_drain() -> None:
    """Before a shutdown every call passes."""
    call = DrainedCalls().came()
    call.end()

    assert "answered" == await call.outcome()


async def test_quiet_drain_takes_half_a_second() -> None:
    """A drain without calls ends after 0.5 s, so that load balancers notice it."""
    assert about(QUIET_SECONDS) == await DrainedCalls().drain(25)


async def test_quiet_counts_from_the_start_of_the_drain() -> None:
    """A drain waits 0.5 s, even if there were no calls for long before it."""
    gate = DrainedCalls()
    gate.now += 3600

    assert about(QUIET_SECONDS) == await gate.drain(25)


async def test_drain_waits_for_a_call_under_way() -> None:
    """A call under way is answered, and the drain ends 0.5 s later."""
    gate = DrainedCalls()
    call = gate.came()
    gate.at(7, call.end)

    assert about(7 + QUIET_SECONDS) == await gate.drain(25)
    assert "answered" == await call.outcome()


async def test_drain_serves_a_new_call() -> None:
    """A new call is answered, and the 0.5 s begin again."""
    gate = DrainedCalls()
    call = DrainedCall(gate)
    gate.at(0.4, call.come)
    gate.at(2, call.end)

    assert about(2 + QUIET_SECONDS) == await gate.drain(25)
    assert "answered" == await call.outcome()


async def test_short_call_restarts_the_quiet_time() -> None:
    """A call that ends immediately also restarts the 0.5 s."""
    gate = DrainedCalls()
    calls = [DrainedCall(gate), DrainedCall(gate)]
    for call, seconds in zip(calls, (0.4, 0.8), strict=True):
        call.end()
        gate.at(seconds, call.come)

    assert about(0.8 + QUIET_SECONDS) == await gate.drain(25)
    assert ["answered"] * 2 == [await call.outcome() for call in calls]


async def test_new_calls_are_refused_towards_the_end() -> None:
    """In the last fifth of the time new calls are refused, and the others can end."""
    gate = DrainedCalls()
    first, second, third = gate.came(), DrainedCall(gate), DrainedCall(gate)
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
    """Once new calls are refused, the drain ends with the last call."""
    gate = DrainedCalls()
    gate.at(21, gate.came().end)

    assert about(21) == await gate.drain(25)


async def test_calls_that_last_too_long_are_evicted() -> None:
    """When the time is over, each call under way gets GATEWAY_DRAINING."""
    gate = DrainedCalls()
    calls = [gate.came() for _ in range(3)]

    assert about(25) == await gate.drain(25)
    assert ["GATEWAY_DRAINING"] * 3 == [await call.outcome() for call in calls]


async def test_drain_without_time_evicts_at_once() -> None:
    """A drain of 0 s ends every call at once."""
    gate = DrainedCalls()
    call = gate.came()

    assert 0 == await gate.drain(0)
    assert "GATEWAY_DRAINING" == await call.outcome()


async def test_evicted_call_is_cancelled_once() -> None:
    """An evicted call isn't cancelled again while it sends its status."""
    gate = DrainedCalls()
    call = gate.came()
    await gate.drain(0)
    await call.outcome()

    assert 0 == call.task.cancelling()


async def test_eviction_waits_until_the_calls_have_ended() -> None:
    """The eviction waits while an evicted call sends its status."""
    gate = DrainedCalls()
    call = gate.came()
    await gate.drain(0)

    assert call.task.done()


async def test_eviction_does_not_wait_for_ever() -> None:
    """The eviction doesn't wait longer for a client that doesn't read its status."""
    stuck = asyncio.Event()
    drain = Drain()

    async def proceed(_call: Any, _context: CallContext) -> bytes:
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
    """A call between the drain and the end of the process is refused."""
    gate = DrainedCalls()
    await gate.drain(25)

    assert "GATEWAY_DRAINING" == await gate.came().outcome()


async def test_call_that_its_client_cancels_while_draining_is_cancelled() -> None:
    """A call that its client cancels doesn't end with GATEWAY_DRAINING."""
    gate = DrainedCalls()
    call = gate.came()
    gate.at(3, call.task.cancel)

    assert about(3 + QUIET_SECONDS) == await gate.drain(25)
    with pytest.raises(asyncio.CancelledError):
        await call.outcome()


async def test_call_that_fails_while_draining_keeps_its_own_reason() -> None:
    """A call that fails during a drain keeps its error."""
    gate = DrainedCalls()
    call = gate.came()
    gate.at(3, call.fail)

    assert about(3 + QUIET_SECONDS) == await gate.drain(25)
    assert "RUN_NOT_FOUND" == await call.outcome()
