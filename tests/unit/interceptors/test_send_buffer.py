"""The limit on unread answers, and which callers are refused beyond it."""

import asyncio
from typing import Any

import pytest

from healthomics_gateway.context import CallContext
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.send_buffer import STREAM_BYTES, SendBuffer
from healthomics_gateway.runs.source import Caller
from testkit.serving import call_context

ANSWER = b"x" * 1000
SIZE = STREAM_BYTES + len(ANSWER)


class Clients:
    """Clients of a gateway whose calls each end with one answer."""

    def __init__(
        self, *, answers: int, share: int, sending_seconds: float = 0.0
    ) -> None:
        """Limit the unread answers in all, and of one connection beyond that."""
        self.now = 1000.0
        self.unread = SendBuffer(
            max_bytes=answers * SIZE,
            max_share_bytes=share * SIZE,
            sending_seconds=sending_seconds,
            clock=lambda: self.now,
            jitter=lambda: 0.25,
        )
        self.asked = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._handle = self.unread.intercept(self._answer)

    async def _answer(self, incoming: Any, _context: CallContext) -> bytes:
        self.asked += 1
        if incoming:
            await incoming
        return ANSWER

    def call(
        self, peer: str, *, until: Any = None, name: str = ""
    ) -> tuple[Any, asyncio.Event]:
        """Make a call as `name`, and read its answer once the event is set."""
        is_read, answered = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def as_grpc_does() -> None:
            exchange = call_context(peer=peer, caller=Caller(name, peer))
            try:
                answered.set_result(await self._handle(until, exchange))
            except GatewayError as error:
                answered.set_exception(error)
                return
            await is_read.wait()

        self._tasks.append(asyncio.create_task(as_grpc_does()))
        return answered, is_read


async def refusal_of(answered: Any) -> GatewayError:
    """Return the error that a call is refused with."""
    with pytest.raises(GatewayError) as refusal:
        await answered
    return refusal.value


async def test_answer_counts_until_it_is_read() -> None:
    """Each answer and its call's memory count until gRPC has finished the call."""
    clients = Clients(answers=9, share=9)
    calls = [clients.call("a") for _ in range(3)]
    assert [ANSWER] * 3 == [await answered for answered, _ in calls]
    assert 3 * SIZE == clients.unread.kept_bytes
    for _, is_read in calls:
        is_read.set()
    for _ in range(5):
        await asyncio.sleep(0)

    assert 0 == clients.unread.kept_bytes


@pytest.mark.guarantee("unread-answers")
async def test_client_that_does_not_read_is_refused_and_no_other() -> None:
    """Beyond the limit only a client with its share of unread bytes is refused."""
    clients = Clients(answers=5, share=2)
    for _ in range(5):
        await clients.call("hoarder")[0]
    refusal = await refusal_of(clients.call("hoarder")[0])
    for _ in range(3):
        answered, is_read = clients.call("reader")
        assert ANSWER == await answered
        is_read.set()
        for _ in range(5):
            await asyncio.sleep(0)

    assert (Reason.GATEWAY_OVERLOADED, 0.75) == (
        refusal.reason,
        refusal.retry_delay_seconds,
    )
    assert 5 + 3 == clients.asked  # the refused call asked nothing


async def test_concurrent_calls_have_the_same_limit() -> None:
    """Calls that were admitted before any was answered have the same limit."""
    clients = Clients(answers=5, share=2)
    now = asyncio.get_running_loop().create_future()
    calls = [clients.call("hoarder", until=now)[0] for _ in range(20)]
    await asyncio.sleep(0)
    now.set_result(None)
    ended = await asyncio.gather(*calls, return_exceptions=True)

    assert 5 == ended.count(ANSWER)
    assert 20 == clients.asked
    assert 5 * SIZE == clients.unread.kept_bytes


async def test_connection_within_its_share_is_not_refused() -> None:
    """A connection within its share isn't refused because of other connections."""
    clients = Clients(answers=5, share=2)
    for _ in range(5):
        await clients.call("hoarder")[0]
    for _ in range(2):
        assert ANSWER == await clients.call("slow")[0]

    assert (
        Reason.GATEWAY_OVERLOADED is (await refusal_of(clients.call("slow")[0])).reason
    )


async def test_connections_of_one_caller_are_bounded_together() -> None:
    """Beyond twice the limit, each caller has a share for all its connections."""
    clients = Clients(answers=3, share=1)
    for at in range(6):
        assert ANSWER == await clients.call(f"hoarder-{at}", name="hoarder")[0]
    refusal = await refusal_of(clients.call("hoarder-6", name="hoarder")[0])
    answered, is_read = clients.call("reader", name="reader")
    assert ANSWER == await answered
    is_read.set()

    assert Reason.GATEWAY_OVERLOADED is refusal.reason


async def test_calls_that_end_together_are_answered() -> None:
    """At first only the answers count; later also the memory of unread calls."""
    clients = Clients(answers=5, share=1, sending_seconds=2.0)
    calls = [clients.call("a") for _ in range(100)]
    assert [ANSWER] * 100 == [await answered for answered, _ in calls]
    at_once = clients.unread.kept_bytes
    for _, is_read in calls[1:]:
        is_read.set()
    for _ in range(5):
        await asyncio.sleep(0)
    soon = clients.unread.kept_bytes
    clients.now += 2.0
    late = clients.unread.kept_bytes
    calls[0][1].set()
    for _ in range(5):
        await asyncio.sleep(0)

    assert (100 * len(ANSWER), len(ANSWER), SIZE, 0) == (
        at_once,
        soon,
        late,
        clients.unread.kept_bytes,
    )
