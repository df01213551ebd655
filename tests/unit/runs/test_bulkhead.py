"""The number of requests under way, and the order in which calls get places."""

import asyncio
from math import inf
from typing import Any

import pytest

from healthomics_gateway.errors.exceptions import NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.bulkhead import Bulkhead as Shared
from healthomics_gateway.runs.quota import LocalQuota
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


def limited(
    runs: Scripted, max_concurrent: int, *, clock: Any, jitter: float = 0.5
) -> RateLimited:
    """Return a source with `places`, and more tokens than it needs."""
    places = Shared(max_concurrent, jitter=lambda: jitter)
    schedulers = Schedulers(
        lambda _: Scheduler(
            LocalQuota(tps=1e6, burst=1e6, clock=clock),
            poll_share=0.5,
            places=places,
            clock=clock,
        )
    )
    schedulers.learn(ACCOUNTS[0])
    return RateLimited(runs, schedulers)


class Bulkhead:
    """A source whose clock the test moves, over calls that it ends."""

    def __init__(self, max_concurrent: int, *, jitter: float = 0.5) -> None:
        """Create so many places."""
        self.now = NOW
        self.inside: list[asyncio.Future[Answer]] = []  # in the order they were asked
        self.asked: list[RunQuery] = []
        self._paced = limited(
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
        """Start a call that has so many seconds."""
        call = OneCall(deadline=self.now + seconds, caller=Caller(caller))
        task = asyncio.create_task(self._paced.get_run(query, call=call))
        await settle()
        return task

    async def end(self, at: int, *, after_seconds: float = 0.0) -> None:
        """Answer a call that is under way."""
        self.now += after_seconds
        self.inside[at].set_result(answer())
        await settle()

    async def warm(self, seconds: float) -> None:
        """Let one call hold a place for so long."""
        await self.came()
        await self.end(-1, after_seconds=seconds)


async def settle() -> None:
    """Run the event loop until nothing more happens."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def refusal_of(task: asyncio.Task[Answer]) -> NotAskedError:
    """Return the error that a call ends with."""
    with pytest.raises(NotAskedError) as refusal:
        await asyncio.wait_for(task, 5)
    assert Reason.GATEWAY_OVERLOADED is refusal.value.reason
    return refusal.value


@pytest.mark.guarantee("bulkhead")
async def test_requests_under_way_are_limited_to_the_places() -> None:
    """Of eight calls three are sent, and one more each time that one ends."""
    places = Bulkhead(3)
    calls = [await places.came() for _ in range(8)]
    seen = []
    for at in range(8):
        seen.append(len(places.inside))
        await places.end(at)

    assert [3, 4, 5, 6, 7, 8, 8, 8] == seen
    assert [answer()] * 8 == await asyncio.gather(*calls)


async def test_calls_of_a_caller_get_places_in_their_order() -> None:
    """No call is overtaken, not even by one that comes when a place is freed."""
    places = Bulkhead(1)
    first, second = await places.came(), await places.came()
    places.inside[0].set_result(answer())
    third = await places.came()
    await places.end(1)

    assert (True, True, False) == (first.done(), second.done(), third.done())
    await places.end(2)
    await third


@pytest.mark.guarantee("bulkhead")
async def test_callers_take_turns_for_places() -> None:
    """A caller with many calls waits for a place as long as one with few."""
    places = Bulkhead(1)
    order: list[str] = []
    for caller in "aaaabbc":
        task = await places.came(caller=caller)
        task.add_done_callback(lambda _, caller=caller: order.append(caller))  # type: ignore[misc]
    for at in range(7):
        await places.end(at)

    assert "abcabaa" == "".join(order)


@pytest.mark.guarantee("bulkhead")
async def test_accounts_take_turns_for_places() -> None:
    """An account with many calls gets every other place, as another one waits too."""
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


async def test_place_of_a_call_that_is_cancelled_at_its_turn_is_reused() -> None:
    """A call that is cancelled at the moment of its turn takes no place."""
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
async def test_place_is_freed_by_a_failed_or_cancelled_call(how: str) -> None:
    """A call that fails or is cancelled frees its place for the next."""
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


async def test_call_that_is_cancelled_in_the_queue_takes_no_place() -> None:
    """A call that is cancelled while it waits is skipped."""
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
    """Two places are held for 1 s each, so the third call in the queue waits 1.5 s."""
    places = Bulkhead(2)
    await places.warm(1.0)
    for _ in range(4):
        await places.came()
    third_in_line = await places.came(seconds=seconds)

    assert is_refused == third_in_line.done()
    if is_refused:
        await refusal_of(third_in_line)


async def test_refusal_has_the_wait_with_jitter() -> None:
    """The wait is that of the queue, times 0.5 to 1.5."""
    for jitter, seconds in ((0.0, 1.0), (0.5, 2.0)):
        places = Bulkhead(1, jitter=jitter)
        await places.warm(1.0)
        for _ in range(2):
            await places.came()
        refusal = await refusal_of(await places.came(seconds=1.0))
        assert seconds == pytest.approx(refusal.retry_delay_seconds)


async def test_call_with_little_time_is_sent_if_a_place_is_free() -> None:
    """A call that needn't wait isn't refused."""
    places = Bulkhead(1)
    await places.warm(10.0)
    call = await places.came(seconds=0.001)
    await places.end(1)

    assert answer() == await call


async def test_newest_time_counts_for_a_tenth_of_the_average() -> None:
    """Places held for 1 s, then for 2 s, are held for 1.1 s on average."""
    places = Bulkhead(1)
    await places.warm(1.0)
    await places.warm(2.0)
    await places.came()

    await refusal_of(await places.came(seconds=1.09))
    assert not (await places.came(seconds=1.11)).done()


@pytest.mark.guarantee("overload")
async def test_call_whose_turn_did_not_come_is_refused_before_its_deadline() -> None:
    """If the estimate was too low, the refusal comes 20 ms before the deadline."""
    clock = asyncio.get_running_loop().time
    hanging = Hanging()
    source = limited(Scripted(hanging), 1, clock=clock)
    inside = asyncio.create_task(source.get_run(QUERY, call=OneCall(inf)))
    await hanging.is_asked.wait()
    deadline = clock() + SOON_SECONDS
    with pytest.raises(NotAskedError):
        await source.get_run(QUERY, call=OneCall(deadline))
    ended = clock()
    inside.cancel()
    await asyncio.gather(inside, return_exceptions=True)

    assert ended >= deadline - 0.02


async def test_call_with_less_than_the_margin_does_not_wait() -> None:
    """A call with less than 20 ms is refused at once if it would have to wait."""
    places = Bulkhead(1)
    await places.came()
    await refusal_of(await places.came(seconds=0.01))
