"""How many calls are let in, and how long a call may keep its message to itself."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import EOF
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from healthomics_gateway.context import CallContext, running_task
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.concurrency import Admission
from healthomics_gateway.interceptors.first_message import FirstMessages
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


class Door:
    """An admission, and calls inside it that last until they are told to end."""

    def __init__(
        self,
        max_in_flight: int,
        *,
        max_per_connection: int | None = None,
        jitter: float = 0.0,
    ) -> None:
        """Let so many in."""
        self.admission = Admission(
            max_in_flight=max_in_flight,
            max_per_connection=max_per_connection,
            jitter=lambda: jitter,
        )
        self._enter = self.admission.intercept(self._proceed)

    async def _proceed(self, end: Any, _exchange: CallContext) -> bytes:
        answered: bytes = await end
        return answered

    async def call(
        self, name: str = "one", peer: str = "peer", *, is_silent: bool = False
    ) -> tuple[asyncio.Future[bytes], asyncio.Task[bytes]]:
        """Let a call of a caller come; return what ends it, and the call.

        The message of a silent call never comes.
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
        """Let so many calls of a caller come; return them."""
        return [(await self.call(name))[1] for _ in range(number)]


@dataclass
class At:
    """All that an admission reads of an exchange."""

    peer: str
    task: asyncio.Task[Any]
    has_message: bool


async def evicted(call: asyncio.Task[bytes]) -> bool:
    """Return whether a call ended GATEWAY_OVERLOADED; one that is inside goes on."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if not call.done():
        return False
    error = call.exception()
    assert isinstance(error, GatewayError)
    return error.reason is Reason.GATEWAY_OVERLOADED


# Admission


async def test_calls_are_let_in_up_to_the_limit() -> None:
    """The first call beyond the limit is refused, and one is let in again after."""
    door = Door(2)
    (first_end, first), (second_end, second) = await door.call(), await door.call()
    _, third = await door.call()
    with pytest.raises(GatewayError) as refusal:
        await third
    assert (Reason.GATEWAY_OVERLOADED, 2) == (
        refusal.value.reason,
        door.admission.inside,
    )

    first_end.set_result(b"1")
    assert b"1" == await first
    fourth_end, fourth = await door.call()
    for end in (second_end, fourth_end):
        end.set_result(b"2")
    assert [b"2", b"2"] == await asyncio.gather(second, fourth)
    assert 0 == door.admission.inside


@pytest.mark.parametrize(
    ("jitter", "seconds"),
    [pytest.param(0.0, 0.5, id="soonest"), pytest.param(0.999, 1.499, id="latest")],
)
async def test_callers_that_are_turned_away_come_back_apart(
    jitter: float, seconds: float
) -> None:
    """The wait that is told lies between half a second and one and a half."""
    door = Door(1, jitter=jitter)
    end, _ = await door.call()
    _, refused_call = await door.call()
    with pytest.raises(GatewayError) as refusal:
        await refused_call
    end.set_result(b"")

    assert seconds == pytest.approx(refusal.value.retry_delay_seconds)


@pytest.mark.guarantee("overload")
async def test_silent_call_makes_way_for_another_of_its_caller() -> None:
    """The oldest whose message hasn't come is evicted; a call at work never is."""
    door = Door(3)
    _, at_work = await door.call()
    _, oldest = await door.call(is_silent=True)
    _, newest = await door.call(is_silent=True)
    _, another = await door.call()
    ends = [await evicted(each) for each in (at_work, oldest, newest, another)]
    _, third = await door.call()
    _, beyond = await door.call()

    assert [False, True, False, False] == ends
    assert [True, False, True] == [
        await evicted(each) for each in (newest, third, beyond)
    ]
    assert not await evicted(at_work)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_call_leaves_its_place_however_it_ends(how: str) -> None:
    """A call that fails, or whose client goes, makes room as an answered one does."""
    door = Door(1)
    end, call = await door.call()
    if how == "fails":
        end.set_exception(GatewayError(Reason.RUN_NOT_FOUND))
    else:
        call.cancel()
    await asyncio.gather(call, return_exceptions=True)

    assert 0 == door.admission.inside


@pytest.mark.guarantee("place-shares")
async def test_caller_takes_the_place_of_one_that_holds_more_than_its_share() -> None:
    """Where all places are taken, each caller gets as many as any other."""
    door = Door(6)
    first = await door.calls(6, "many")
    second = await door.calls(3, "few")
    third = await door.calls(1, "few")

    assert [*[False] * 3, *[True] * 3] == [await evicted(each) for each in first]
    assert [False] * 3 == [await evicted(each) for each in second]
    assert [True] == [await evicted(each) for each in third]
    assert 6 == door.admission.inside


async def test_newcomers_take_from_whoever_holds_most() -> None:
    """With more callers the shares shrink, down to one place."""
    door = Door(4)
    many, some = await door.calls(3, "many"), await door.calls(1, "some")
    others = [*await door.calls(1, "b"), *await door.calls(1, "c")]
    late = await door.calls(1, "d")

    assert [False, True, True] == [await evicted(each) for each in many]
    assert [False] * 3 == [await evicted(each) for each in (*some, *others)]
    assert [True] == [await evicted(each) for each in late]
    assert 4 == door.admission.inside


async def test_places_are_free_again_after_every_end() -> None:
    """Evictions, answers and cancellations leave no place taken."""
    door = Door(3)
    calls = [each for name in "aabbcab" for each in await door.calls(1, name)]
    for each in calls[::2]:
        each.cancel()
    await asyncio.sleep(0)
    for each in calls:
        each.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    again = await door.calls(3, "z")

    assert [False] * 3 == [await evicted(each) for each in again]
    assert 3 == door.admission.inside


async def test_client_that_leaves_is_not_evicted() -> None:
    """A cancellation that no eviction caused stays one."""
    door = Door(1)
    _, call = await door.call()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


async def test_connection_holds_a_bounded_number_of_places() -> None:
    """One more of a connection is refused, while another connection gets a place."""
    door = Door(9, max_per_connection=2)
    calls = [(await door.call(peer=peer))[1] for peer in ("one", "one", "one", "two")]

    assert [False, False, True, False] == [await evicted(each) for each in calls]


async def test_connections_of_a_socket_are_not_taken_for_one() -> None:
    """The connections of a Unix socket have one name, so they aren't bounded by it."""
    door = Door(9, max_per_connection=2)
    calls = [(await door.call(peer=peer))[1] for peer in ("unix:", "unix:/a") * 3]

    assert [False] * 6 == [await evicted(each) for each in calls]


@pytest.mark.guarantee("overload")
async def test_gateway_turns_away_what_is_too_much() -> None:
    """Over the wire the excess gets GATEWAY_OVERLOADED, and asks nothing of AWS."""
    async with (
        Upstream([NEVER]) as upstream,
        gateway(aws_at(upstream.url), GATEWAY_MAX_IN_FLIGHT="1") as served,
        calling(served) as stub,
    ):
        inside = asyncio.create_task(get_run(stub, RUN_ID))
        await asyncio.wait_for(upstream.asked.wait(), PATIENCE_SECONDS)
        told = await refused(get_run(stub, RUN_ID))
        channel = grpc.aio.insecure_channel(str(served.address))
        async with channel:
            check = HealthStub(channel).Check(HealthCheckRequest(), timeout=10)
            assert HealthCheckResponse.SERVING == (await check).status
        inside.cancel()
        await asyncio.gather(inside, return_exceptions=True)
        asked = len(upstream.requests)

    assert (StatusCode.UNAVAILABLE, "GATEWAY_OVERLOADED") == (told.code, told.reason)
    assert {"RetryInfo", *ALWAYS} == set(told.details)
    assert 500 <= int(told.trailers["grpc-retry-pushback-ms"]) < 1500
    assert 1 == asked


@pytest.mark.guarantee("anonymous-streams")
async def test_connections_of_a_caller_share_its_places() -> None:
    """A connection that holds less takes a place of the one that holds most."""
    door = Door(5, max_per_connection=4)
    many = [(await door.call("host", "many"))[1] for _ in range(4)]
    few = [(await door.call("host", "few"))[1] for _ in range(3)]

    assert [False] * 3 + [True] == [await evicted(each) for each in many]
    assert [False, False, True] == [await evicted(each) for each in few]
    assert 5 == door.admission.inside


# Arrivals


def reading(*bodies: bytes) -> Callable[[], Awaitable[Any]]:
    """Give messages as they come over the wire, then the end."""
    left = list(bodies)

    async def read() -> Any:
        return left.pop(0) if left else EOF

    return read


async def arriving(
    arrivals: FirstMessages, read: Callable[[], Awaitable[Any]]
) -> bytes:
    """Await the message of a call that runs in this task."""
    return await arrivals.message(running_task(), read)


class Silent:
    """A client that has begun a call and sends nothing more."""

    def __init__(self) -> None:
        """Begin to wait."""
        self.is_asked = asyncio.Event()

    async def read(self) -> Any:
        """Wait for ever."""
        self.is_asked.set()
        return await asyncio.Future[bytes]()


async def test_message_is_the_first_that_comes() -> None:
    """A call's message is read, and nothing after it."""
    assert b"1" == await arriving(FirstMessages(), reading(b"1", b"2"))


async def test_call_without_a_message_is_malformed() -> None:
    """A client that ends its call before its message gets MALFORMED_REQUEST."""
    with pytest.raises(GatewayError) as refusal:
        await arriving(FirstMessages(), reading())

    assert Reason.MALFORMED_REQUEST is refusal.value.reason


async def test_message_that_does_not_come_is_given_up() -> None:
    """A call whose message is late ends as one without."""
    with pytest.raises(GatewayError) as refusal:
        await arriving(FirstMessages(message_seconds=0.01), Silent().read)

    assert Reason.MALFORMED_REQUEST is refusal.value.reason


async def test_each_waits_for_its_message_as_long_as_the_others() -> None:
    """One timer serves all, and gives nobody up before its time."""
    arrivals = FirstMessages(max_waiting=9, message_seconds=0.05)
    loop = asyncio.get_running_loop()

    async def waited(pause: float) -> float:
        await asyncio.sleep(pause)  # a call that comes later
        begun = loop.time()
        with pytest.raises(GatewayError):
            await arriving(arrivals, Silent().read)
        return loop.time() - begun

    assert min(await asyncio.gather(waited(0), waited(0.03), waited(0.12))) >= 0.049


@pytest.mark.guarantee("overload")
async def test_oldest_makes_room_where_too_many_wait() -> None:
    """Each call beyond the limit ends the one that has waited longest."""
    arrivals = FirstMessages(max_waiting=2)
    waiting = []
    for _ in range(3):
        silent = Silent()
        waiting.append(asyncio.create_task(arriving(arrivals, silent.read)))
        await silent.is_asked.wait()
    with pytest.raises(GatewayError) as refusal:
        await asyncio.wait_for(waiting[0], PATIENCE_SECONDS)
    assert Reason.GATEWAY_OVERLOADED is refusal.value.reason
    assert 0.5 <= refusal.value.retry_delay_seconds < 1.5
    assert [False, False] == [each.done() for each in waiting[1:]]
    assert b"4" == await arriving(arrivals, reading(b"4"))

    with pytest.raises(GatewayError):
        await asyncio.wait_for(waiting[1], PATIENCE_SECONDS)
    waiting[2].cancel()
    await asyncio.gather(waiting[2], return_exceptions=True)
    assert waiting[2].cancelled()


async def test_calls_that_come_at_one_moment_are_not_refused() -> None:
    """As many as wait for their message at once are all answered."""
    arrivals = FirstMessages(max_waiting=9)

    async def read() -> bytes:
        await asyncio.sleep(0)  # gRPC, too, returns no message at once
        return b"1"

    calls = [asyncio.create_task(arriving(arrivals, read)) for _ in range(9)]

    assert [b"1"] * 9 == await asyncio.gather(*calls)


async def test_client_that_leaves_waits_no_more() -> None:
    """A call that is cancelled as it waits isn't counted among those that wait."""
    arrivals = FirstMessages(max_waiting=1)
    silent = Silent()
    left = asyncio.create_task(arriving(arrivals, silent.read))
    await silent.is_asked.wait()
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)

    assert left.cancelled()
    assert b"1" == await arriving(arrivals, reading(b"1"))
