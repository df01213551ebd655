"""The limit on concurrent calls, and how callers share the places."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from healthomics_gateway.context import CallContext
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.concurrency import Admission
from healthomics_gateway.runs.source import Caller
from testkit.builders import (
    ALWAYS,
    Upstream,
    aws_at,
    calling,
    gateway,
    get_run,
    refused,
)
from testkit.serving import call_context

RUN_ID = "1000003"
NEVER = 600.0
PATIENCE_SECONDS = 5.0
TURNS = 5  # of the loop, within which a call that is evicted has ended


class AdmittedCalls:
    """An admission, and calls that last until the test ends them."""

    def __init__(
        self,
        max_in_flight: int,
        *,
        max_per_connection: int | None = None,
        jitter: float = 0.0,
    ) -> None:
        """Allow this many calls."""
        self.admission = Admission(
            max_in_flight=max_in_flight,
            max_per_connection=max_per_connection,
            jitter=lambda: jitter,
        )
        self._enter = self.admission.intercept(self._proceed)

    async def _proceed(self, end: Any, _context: CallContext) -> bytes:
        answered: bytes = await end
        return answered

    async def call(
        self, name: str = "one", peer: str = "peer", *, is_silent: bool = False
    ) -> tuple[asyncio.Future[bytes], asyncio.Task[bytes]]:
        """Begin a call; return the future that ends it, and its task.

        The message of a silent call never arrives.
        """
        end = asyncio.get_running_loop().create_future()

        async def enter() -> bytes:
            call = call_context(peer=peer, caller=Caller(name, peer))
            call.has_message = not is_silent
            return await self._enter(end, call)

        task = asyncio.create_task(enter())
        await asyncio.sleep(0)
        return end, task

    async def calls(self, number: int, name: str) -> list[asyncio.Task[bytes]]:
        """Begin a number of calls of a caller; return them."""
        return [(await self.call(name))[1] for _ in range(number)]


async def evicted(call: asyncio.Task[bytes]) -> bool:
    """Return whether a call has ended with GATEWAY_OVERLOADED."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if not call.done():
        return False
    error = call.exception()
    assert isinstance(error, GatewayError)
    return error.reason is Reason.GATEWAY_OVERLOADED


# Admission


async def test_calls_are_admitted_up_to_the_limit() -> None:
    """A call beyond the limit is refused; after another ends, one is admitted."""
    admitted = AdmittedCalls(2)
    (first_end, first), (second_end, second) = (
        await admitted.call(),
        await admitted.call(),
    )
    _, third = await admitted.call()
    with pytest.raises(GatewayError) as refusal:
        await third
    assert (Reason.GATEWAY_OVERLOADED, 2) == (
        refusal.value.reason,
        admitted.admission.inside,
    )

    first_end.set_result(b"1")
    assert b"1" == await first
    fourth_end, fourth = await admitted.call()
    for end in (second_end, fourth_end):
        end.set_result(b"2")
    assert [b"2", b"2"] == await asyncio.gather(second, fourth)
    assert 0 == admitted.admission.inside


@pytest.mark.parametrize(
    ("jitter", "seconds"),
    [pytest.param(0.0, 0.5, id="soonest"), pytest.param(0.999, 1.499, id="latest")],
)
async def test_refused_callers_retry_at_different_times(
    jitter: float, seconds: float
) -> None:
    """The retry delay is between 0.5 and 1.5 s."""
    admitted = AdmittedCalls(1, jitter=jitter)
    end, _ = await admitted.call()
    _, refused_call = await admitted.call()
    with pytest.raises(GatewayError) as refusal:
        await refused_call
    end.set_result(b"")

    assert seconds == pytest.approx(refusal.value.retry_delay_seconds)


@pytest.mark.guarantee("overload")
async def test_call_without_message_is_evicted_for_its_caller() -> None:
    """The oldest call without a message is evicted; a call at work never is."""
    admitted = AdmittedCalls(3)
    _, at_work = await admitted.call()
    _, oldest = await admitted.call(is_silent=True)
    _, newest = await admitted.call(is_silent=True)
    _, another = await admitted.call()
    ends = [await evicted(each) for each in (at_work, oldest, newest, another)]
    _, third = await admitted.call()
    _, beyond = await admitted.call()

    assert [False, True, False, False] == ends
    assert [True, False, True] == [
        await evicted(each) for each in (newest, third, beyond)
    ]
    assert not await evicted(at_work)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_place_is_free_after_any_end(how: str) -> None:
    """A place is free after an answer, an error and a cancellation."""
    admitted = AdmittedCalls(1)
    end, call = await admitted.call()
    if how == "fails":
        end.set_exception(GatewayError(Reason.RUN_NOT_FOUND))
    else:
        call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    assert 0 == admitted.admission.inside


@pytest.mark.guarantee("place-shares")
async def test_caller_takes_the_place_of_one_that_holds_more_than_its_share() -> None:
    """When all places are taken, each caller gets an equal share."""
    admitted = AdmittedCalls(6)
    first = await admitted.calls(6, "many")
    second = await admitted.calls(3, "few")
    third = await admitted.calls(1, "few")

    assert [*[False] * 3, *[True] * 3] == [await evicted(each) for each in first]
    assert [False] * 3 == [await evicted(each) for each in second]
    assert [True] == [await evicted(each) for each in third]
    assert 6 == admitted.admission.inside


async def test_new_callers_take_from_the_one_that_holds_most() -> None:
    """With more callers the shares shrink, down to one place."""
    admitted = AdmittedCalls(4)
    many, some = await admitted.calls(3, "many"), await admitted.calls(1, "some")
    others = [*await admitted.calls(1, "b"), *await admitted.calls(1, "c")]
    late = await admitted.calls(1, "d")

    assert [False, True, True] == [await evicted(each) for each in many]
    assert [False] * 3 == [await evicted(each) for each in (*some, *others)]
    assert [True] == [await evicted(each) for each in late]
    assert 4 == admitted.admission.inside


async def test_places_are_free_again_after_every_end() -> None:
    """Evictions, answers and cancellations free their places."""
    admitted = AdmittedCalls(3)
    calls = [each for name in "aabbcab" for each in await admitted.calls(1, name)]
    for each in calls[::2]:
        each.cancel()
    await asyncio.sleep(0)
    for each in calls:
        each.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    again = await admitted.calls(3, "z")

    assert [False] * 3 == [await evicted(each) for each in again]
    assert 3 == admitted.admission.inside


async def test_client_that_leaves_is_not_evicted() -> None:
    """A cancellation by the client remains a cancellation."""
    admitted = AdmittedCalls(1)
    _, call = await admitted.call()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


async def test_connection_holds_a_bounded_number_of_places() -> None:
    """A connection at its limit is refused; another connection gets a place."""
    admitted = AdmittedCalls(9, max_per_connection=2)
    calls = [
        (await admitted.call(peer=peer))[1] for peer in ("one", "one", "one", "two")
    ]

    assert [False, False, True, False] == [await evicted(each) for each in calls]


async def test_unix_socket_has_no_limit_of_a_connection() -> None:
    """The connections of a Unix socket have one name, so they aren't limited as one."""
    admitted = AdmittedCalls(9, max_per_connection=2)
    calls = [(await admitted.call(peer=peer))[1] for peer in ("unix:", "unix:/a") * 3]

    assert [False] * 6 == [await evicted(each) for each in calls]


@pytest.mark.guarantee("overload")
async def test_gateway_refuses_calls_beyond_the_limit() -> None:
    """Calls beyond the limit get GATEWAY_OVERLOADED; HealthOmics isn't asked."""
    async with (
        Upstream([NEVER]) as upstream,
        gateway(aws_at(upstream.url), GATEWAY_MAX_IN_FLIGHT="1") as served,
        calling(served) as stub,
    ):
        inside = asyncio.create_task(get_run(stub, RUN_ID))
        await asyncio.wait_for(upstream.asked.wait(), PATIENCE_SECONDS)
        error = await refused(get_run(stub, RUN_ID))
        channel = grpc.aio.insecure_channel(str(served.address))
        async with channel:
            check = HealthStub(channel).Check(HealthCheckRequest(), timeout=10)
            assert HealthCheckResponse.SERVING == (await check).status
        inside.cancel()
        await asyncio.gather(inside, return_exceptions=True)
        asked = len(upstream.requests)

    assert (StatusCode.UNAVAILABLE, "GATEWAY_OVERLOADED") == (error.code, error.reason)
    assert {"RetryInfo", *ALWAYS} == set(error.details)
    assert 500 <= int(error.trailers["grpc-retry-pushback-ms"]) < 1500
    assert 1 == asked


@pytest.mark.guarantee("anonymous-streams")
async def test_connections_of_a_caller_share_its_places() -> None:
    """A connection with fewer places takes one of the connection with most."""
    admitted = AdmittedCalls(5, max_per_connection=4)
    many = [(await admitted.call("host", "many"))[1] for _ in range(4)]
    few = [(await admitted.call("host", "few"))[1] for _ in range(3)]

    assert [False] * 3 + [True] == [await evicted(each) for each in many]
    assert [False, False, True] == [await evicted(each) for each in few]
    assert 5 == admitted.admission.inside
