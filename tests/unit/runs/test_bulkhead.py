"""How many requests are under way at a time, and which calls have the next places."""

import asyncio
from math import inf
from typing import Any

import pytest

from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.bulkhead import Bulkhead as Shared
from healthomics_gateway.runs.rate_limit import RateLimited, Schedulers
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.runs.source import (
    Answer,
    Call,
    Caller,
    OneCall,
    Partition,
    RunQuery,
)
from testkit.serving import Hanging, Scripted, answer, failure

QUERY = RunQuery("1234567")
NOW = 1000.0
SOON_SECONDS = 0.03  # a deadline that leaves little more than the margin
ACCOUNTS = "123456789012", "210987654321"
TURNS = 10  # of the event loop, in which what can happen has happened


def paced(
    runs: Scripted, max_concurrent: int, *, clock: Any, jitter: float = 0.5
) -> RateLimited:
    """Make a source with so many places, and more tokens than it needs."""
    places = Shared(max_concurrent, jitter=lambda: jitter)
    pacers = Schedulers(
        lambda: Scheduler(
            tps=1e6, burst=1e6, poll_share=0.5, places=places, clock=clock
        )
    )
    pacers.learn(ACCOUNTS[0])
    return RateLimited(runs, pacers)


class Bulkhead:
    """A source whose clock the test moves, over calls that it ends."""

    def __init__(self, max_concurrent: int, *, jitter: float = 0.5) -> None:
        """Have so many places."""
        self.now = NOW
        self.inside: list[asyncio.Future[Answer]] = []  # in the order they were asked
        self.asked: list[RunQuery] = []
        self._paced = paced(
            Scripted(self._asked),
            max_concurrent,
            clock=lambda: self.now,
            jitter=jitter,
        )

    async def _asked(self, query: RunQuery, _call: Call) -> Answer:
        self.asked.append(query)
        end = asyncio.get_running_loop().create_future()
        self.inside.append(end)
        answered: Answer = await end
        return answered

    async def came(
        self, *, seconds: float = inf, caller: str = "", query: RunQuery = QUERY
    ) -> asyncio.Task[Answer]:
        """Let a call come that has so many seconds."""
        call = OneCall(deadline=self.now + seconds, caller=Caller(caller))
        task = asyncio.create_task(self._paced.get_run(query, call=call))
        await settle()
        return task

    async def end(self, at: int, *, after_seconds: float = 0.0) -> None:
        """Answer a call that is inside."""
        self.now += after_seconds
        self.inside[at].set_result(answer())
        await settle()

    async def warm(self, seconds: float) -> None:
        """Let one call hold a place for so long."""
        await self.came()
        await self.end(-1, after_seconds=seconds)


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def refusal_of(task: asyncio.Task[Answer]) -> NotAskedError:
    """Give the refusal that a call ends with."""
    with pytest.raises(NotAskedError) as refusal:
        await asyncio.wait_for(task, 5)
    assert Reason.GATEWAY_OVERLOADED is refusal.value.reason
    return refusal.value


@pytest.mark.guarantee("bulkhead")
async def test_no_more_is_asked_at_once_than_there_are_places() -> None:
    """Of eight calls three are asked for, and one more each time that one ends."""
    places = Bulkhead(3)
    calls = [await places.came() for _ in range(8)]
    seen = []
    for at in range(8):
        seen.append(len(places.inside))
        await places.end(at)

    assert [3, 4, 5, 6, 7, 8, 8, 8] == seen
    assert [answer()] * 8 == await asyncio.gather(*calls)


async def test_places_are_given_to_calls_of_a_caller_in_their_order() -> None:
    """None is overtaken, not even by a call that comes as a place gets free."""
    places = Bulkhead(1)
    first, second = await places.came(), await places.came()
    places.inside[0].set_result(answer())
    third = await places.came()
    await places.end(1)

    assert (True, True, False) == (first.done(), second.done(), third.done())
    await places.end(2)
    await third


@pytest.mark.guarantee("bulkhead")
async def test_callers_take_turns_in_places_as_in_tokens() -> None:
    """A caller with many calls waits for a place no less than one with few."""
    places = Bulkhead(1)
    order: list[str] = []
    for caller in "aaaabbc":
        task = await places.came(caller=caller)
        task.add_done_callback(lambda _, caller=caller: order.append(caller))  # type: ignore[misc]
    for at in range(7):
        await places.end(at)

    assert "abcabaa" == "".join(order)


@pytest.mark.guarantee("bulkhead")
async def test_accounts_take_turns_in_places() -> None:
    """An account with many calls leaves every other place to another one."""
    places = Bulkhead(1)
    ours, theirs = (
        RunQuery(QUERY.id, partition=Partition(f"arn:aws:iam::{account}:role/x", "a"))
        for account in ACCOUNTS
    )
    for query in (ours, ours, ours, ours, theirs, theirs):
        await places.came(query=query)
    for at in range(6):
        await places.end(at)

    assert [ours, ours, theirs, ours, theirs, ours] == places.asked


async def test_place_of_a_call_that_leaves_as_it_gets_it_is_given_on() -> None:
    """A client that goes in the moment of its turn loses nothing for the others."""
    places = Bulkhead(1)
    first, second, third = [await places.came() for _ in range(3)]
    places.inside[0].set_result(answer())
    await first  # the turn is the second's, which hasn't begun
    second.cancel()
    await settle()
    await places.end(1)

    assert second.cancelled()
    assert answer() == await third


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_place_is_given_on_however_a_call_ends(how: str) -> None:
    """A call that fails, or whose client goes, gives its place to the next."""
    places = Bulkhead(1)
    first, second = await places.came(), await places.came()
    if how == "fails":
        places.inside[0].set_exception(failure())
    else:
        first.cancel()
    await settle()
    await places.end(1)

    ended = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(ended[0], BaseException)
    assert answer() == await second


async def test_call_that_leaves_the_queue_takes_no_place() -> None:
    """A client that goes as it waits is overstepped."""
    places = Bulkhead(1)
    _, second, third = [await places.came() for _ in range(3)]
    second.cancel()
    await settle()
    await places.end(0)
    await places.end(1)

    assert second.cancelled()
    assert answer() == await third


@pytest.mark.guarantee("overload")
@pytest.mark.parametrize(
    ("seconds", "is_refused"),
    [pytest.param(1.4, True, id="too-short"), pytest.param(1.6, False, id="enough")],
)
async def test_call_whose_turn_comes_too_late_is_refused_at_once(
    *, seconds: float, is_refused: bool
) -> None:
    """Two places held for a second each: the third in line waits for 1.5 seconds."""
    places = Bulkhead(2)
    await places.warm(1.0)
    for _ in range(4):
        await places.came()
    third_in_line = await places.came(seconds=seconds)

    assert is_refused == third_in_line.done()
    if is_refused:
        await refusal_of(third_in_line)


async def test_refusal_tells_when_there_may_be_room() -> None:
    """The wait is the queue's, times a half to one and a half."""
    for jitter, seconds in ((0.0, 1.0), (0.5, 2.0)):
        places = Bulkhead(1, jitter=jitter)
        await places.warm(1.0)
        for _ in range(2):
            await places.came()
        refusal = await refusal_of(await places.came(seconds=1.0))
        assert seconds == pytest.approx(refusal.retry_delay_seconds)


async def test_call_is_let_in_where_a_place_is_free_however_little_time_it_has() -> (
    None
):
    """Who need not wait isn't refused."""
    places = Bulkhead(1)
    await places.warm(10.0)
    call = await places.came(seconds=0.001)
    await places.end(1)

    assert answer() == await call


async def test_newest_counts_for_a_tenth_in_the_average() -> None:
    """Places held for 1 s, then 2 s, are held for 1.1 s on average."""
    places = Bulkhead(1)
    await places.warm(1.0)
    await places.warm(2.0)
    await places.came()

    await refusal_of(await places.came(seconds=1.09))
    assert not (await places.came(seconds=1.11)).done()


@pytest.mark.guarantee("overload")
async def test_call_whose_turn_did_not_come_is_refused_before_its_deadline() -> None:
    """Where the estimate was too hopeful, 20 ms are left for the refusal to arrive."""
    clock = asyncio.get_running_loop().time
    hanging = Hanging()
    source = paced(Scripted(hanging), 1, clock=clock)
    inside = asyncio.create_task(source.get_run(QUERY, call=OneCall(inf)))
    await hanging.is_asked.wait()
    deadline = clock() + SOON_SECONDS
    with pytest.raises(NotAskedError):
        await source.get_run(QUERY, call=OneCall(deadline))
    ended = clock()
    inside.cancel()
    await asyncio.gather(inside, return_exceptions=True)

    assert ended >= deadline - 0.02


async def test_deadline_within_the_margin_is_refused_where_it_must_wait() -> None:
    """A call with less than the margin doesn't wait for a place at all."""
    places = Bulkhead(1)
    await places.came()
    await refusal_of(await places.came(seconds=0.01))
