"""How calls share fetches, in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from math import inf
from typing import Any

import pytest

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.errors.exceptions import GatewayError, NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.coalesce import Coalescing
from healthomics_gateway.runs.scheduler import throttled
from healthomics_gateway.runs.source import (
    OWN,
    Answer,
    Call,
    OneCall,
    Partition,
    RunQuery,
    UpstreamInfo,
)
from testkit.serving import failure
from testkit.virtual_time import virtually

QUERY, OTHER = RunQuery("1234567"), RunQuery("7654321")


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


class Turns:
    """A queue in which a call waits until its source is asked."""

    def __init__(self, expected_seconds: float) -> None:
        """Expect each call to wait for `expected_seconds`."""
        self._expected_seconds = expected_seconds
        self.waiting: set[Call] = set()
        self.asked: list[RunQuery] = []

    def expected_wait(self, query: RunQuery, _call: Call) -> float:
        """Return the same wait for each call."""
        self.asked.append(query)
        return self._expected_seconds

    def refusal(self, _query: RunQuery, wait_seconds: float) -> NotAskedError:
        """Return the error of a call that gets no token."""
        return throttled(wait_seconds)

    def is_waiting(self, _query: RunQuery, call: Call) -> bool:
        """Return whether a call waits."""
        return call in self.waiting


class Upstream:
    """A source that takes time, and names each answer by the time it was asked."""

    def __init__(
        self,
        *,
        token_seconds: float = 0.0,
        seconds: float = 1.0,
        failing: GatewayError | None = None,
        expected_seconds: float = 0.0,
    ) -> None:
        """Wait `token_seconds` for a token, then `seconds` for the answer."""
        self._token_seconds = token_seconds
        self._seconds = seconds
        self.failing = failing
        self.asked: list[float] = []  # when each fetch was sent
        self.left = 0  # fetches that were cancelled
        self.turns = Turns(expected_seconds)
        self.runs = Coalescing(self, turns=self.turns, clock=now)

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return a run, or raise `failing`."""
        try:
            self.turns.waiting.add(call)
            await asyncio.sleep(self._token_seconds)
            self.turns.waiting.discard(call)
            call.sent()
            self.asked.append(now())
            call.upstream = UpstreamInfo(attempts=len(self.asked))
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.left += 1
            raise
        if self.failing:
            raise self.failing
        return Answer(Run(id=query.id, name=f"{self.asked[-1]:g}"), "aws-1")

    async def ask(self, query: RunQuery = QUERY, *, seconds: float = inf) -> float:
        """Return the time at which the answer's fetch was sent."""
        answer = await self.runs.get_run(query, call=OneCall(now() + seconds))
        return float(answer.run.name)

    def ask_at(self, at: float, *args: Any, **fields: Any) -> asyncio.Task[float]:
        """Ask at second 1000 + `at`."""

        async def later() -> float:
            await asyncio.sleep(1000 + at - now())
            return await self.ask(*args, **fields)

        return asyncio.create_task(later())


# sharing


def test_concurrent_calls_share_one_fetch() -> None:
    """A hundred calls for one run make one fetch; another run has its own fetch."""

    async def work() -> tuple[set[float], int]:
        upstream = Upstream(token_seconds=0.1)
        answers = await asyncio.gather(*(upstream.ask() for _ in range(100)))
        await upstream.ask(OTHER)
        return set(answers), len(upstream.asked)

    assert ({1000.1}, 2) == virtually(work)


@pytest.mark.guarantee("fresh-answers")
def test_answer_is_read_after_its_call_came() -> None:
    """Calls that come after a fetch was sent share the next one, sent at its end."""

    async def work() -> list[float]:
        upstream = Upstream(token_seconds=0.1)
        tasks = [upstream.ask_at(at) for at in (0, 0.05, 0.2, 0.5, 1.05, 1.3)]
        return await asyncio.gather(*tasks)

    # The first ends at 1001.1; the second is sent at 1001.2 and ends at 1002.2.
    assert [1000.1, 1000.1, 1001.2, 1001.2, 1001.2, 1002.3] == pytest.approx(
        virtually(work)
    )


@pytest.mark.guarantee("one-fetch-per-run")
def test_no_run_has_more_than_one_fetch_under_way() -> None:
    """A fetch begins only when the former has ended."""

    async def work() -> list[float]:
        upstream = Upstream(seconds=1.0)
        await asyncio.gather(*(upstream.ask_at(at / 10) for at in range(50)))
        return upstream.asked

    asked = virtually(work)
    gaps = [after - before for before, after in pairwise(asked)]
    assert min(gaps) >= 1.0
    assert len(asked) <= 7


def test_error_is_shared_and_not_cached() -> None:
    """All waiting calls get the error and the attempts; the next call asks again."""

    async def work() -> tuple[list[Any], int, float]:
        upstream = Upstream(failing=failure(Reason.UPSTREAM_INTERNAL))
        call = OneCall(inf)
        ended = await asyncio.gather(
            upstream.ask(),
            upstream.runs.get_run(QUERY, call=call),
            return_exceptions=True,
        )
        upstream.failing = None
        return ended, call.upstream.attempts, await upstream.ask()

    ended, attempts, then = virtually(work)
    assert [Reason.UPSTREAM_INTERNAL] * 2 == [each.reason for each in ended]
    assert 1 == attempts
    assert 1001 == then


# partitions

ROLE = "arn:aws:iam::123456789012:role/omics-read"
PARTITIONS = (
    OWN,
    Partition(ROLE, "alice"),
    Partition(ROLE, "bob"),
    Partition(f"{ROLE}-more", "alice"),
)


def test_concurrent_calls_share_one_fetch_per_partition() -> None:
    """Calls for one run make one fetch for each role and caller."""

    async def work() -> int:
        upstream = Upstream(token_seconds=0.1)
        queries = [RunQuery(QUERY.id, partition=each) for each in PARTITIONS * 25]
        await asyncio.gather(*(upstream.ask(each) for each in queries))
        return len(upstream.asked)

    assert len(PARTITIONS) == virtually(work)


def test_wait_is_estimated_for_the_query_s_account() -> None:
    """The expected wait of a call is that of its own partition."""

    async def work() -> list[RunQuery]:
        upstream = Upstream(expected_seconds=5.0)
        for partition in PARTITIONS:
            query = RunQuery(QUERY.id, partition=partition)
            with pytest.raises(NotAskedError):
                await upstream.ask(query, seconds=1.0)
        return upstream.turns.asked

    assert list(PARTITIONS) == [each.partition for each in virtually(work)]


# cancellation


@pytest.mark.parametrize("sent", [False, True], ids=["waiting", "sent"])
def test_cancelled_call_does_not_end_the_fetch_of_others(*, sent: bool) -> None:
    """If the call that began a fetch is cancelled, the fetch goes on for the others."""

    async def work() -> tuple[float, int]:
        upstream = Upstream(token_seconds=0.5)
        first, second = upstream.ask_at(0), upstream.ask_at(0.1)
        await asyncio.sleep(0.8 if sent else 0.2)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert first.cancelled()
        return await second, upstream.left

    assert (1000.5, 0) == virtually(work)


def test_last_cancelled_call_ends_the_fetch() -> None:
    """When no call waits any more, the request to HealthOmics is cancelled at once."""

    async def work() -> tuple[int, float]:
        upstream = Upstream()
        tasks = [upstream.ask_at(0) for _ in range(5)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        left = upstream.left
        return left, await upstream.ask()

    assert (1, 1000.5) == virtually(work)


@pytest.mark.guarantee("independent-deadlines")
def test_fetch_has_the_latest_deadline_of_its_calls() -> None:
    """At each moment, its deadline is the latest of the calls that wait."""

    async def work() -> list[float]:
        seen: list[float] = []

        class Watching(Upstream):
            async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
                seen.append(call.deadline)
                await asyncio.sleep(0.2)
                seen.append(call.deadline)
                await asyncio.sleep(0.4)
                seen.append(call.deadline)
                call.sent()
                return Answer(Run(id=query.id, name="1"), "")

        upstream = Watching()
        first, second = upstream.ask_at(0, seconds=5), upstream.ask_at(0.1, seconds=9)
        await asyncio.sleep(0.5)
        second.cancel()
        await first
        return seen

    assert [1005, 1009.1, 1005] == pytest.approx(virtually(work))


# deadlines


def test_call_whose_turn_comes_too_late_is_refused_at_once() -> None:
    """A call that would begin a fetch too late gets the time until its turn."""

    async def work() -> tuple[NotAskedError, int, float]:
        upstream = Upstream(expected_seconds=5.0)
        with pytest.raises(NotAskedError) as refused:
            await upstream.ask(seconds=4.9)
        return refused.value, len(upstream.asked), now()

    error, asked, at = virtually(work)
    assert (Reason.UPSTREAM_THROTTLED, 5.0) == (error.reason, error.retry_delay_seconds)
    assert (0, 1000) == (asked, at)


@pytest.mark.guarantee("early-refusal")
def test_joining_call_whose_turn_comes_too_late_is_refused_at_once() -> None:
    """A call can't join a fetch that will be sent after the call's deadline."""

    async def work() -> tuple[float, float]:
        upstream = Upstream(token_seconds=5.0, expected_seconds=5.0)
        patient = upstream.ask_at(0)
        await asyncio.sleep(0.5)
        with pytest.raises(NotAskedError):
            await upstream.ask(seconds=4.0)
        return now(), await patient

    assert (1000.5, 1005) == virtually(work)


def test_call_that_waits_for_the_former_fetch_is_not_refused() -> None:
    """It doesn't wait for its turn, so only its own deadline ends it."""

    async def work() -> float:
        upstream = Upstream(seconds=10.0)
        first = upstream.ask_at(0)
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await upstream.ask(seconds=2.0)
        await first
        return now()

    assert 1010 == virtually(work)


def test_call_that_waits_for_credentials_is_not_refused() -> None:
    """It doesn't wait for a token or a place, so only its own deadline ends it."""

    async def work() -> float:
        upstream = Upstream(token_seconds=3.0)
        upstream.turns.is_waiting = lambda *_: False  # type: ignore[method-assign]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await upstream.ask(seconds=1.0)
        return now()

    assert 1001 == virtually(work)


def test_call_whose_turn_did_not_come_is_refused_before_its_deadline() -> None:
    """It is refused 20 ms before its deadline; the fetch goes on for the others."""

    async def work() -> tuple[float, float]:
        upstream = Upstream(token_seconds=3.0)
        patient = upstream.ask_at(0)
        with pytest.raises(NotAskedError):
            await upstream.ask_at(0, seconds=1.0)
        return now(), await patient

    assert (1000.98, 1003) == pytest.approx(virtually(work))


def test_call_whose_fetch_was_sent_is_not_refused() -> None:
    """Once the fetch is sent, only the call's own deadline ends the wait."""

    async def work() -> float:
        upstream = Upstream(token_seconds=0.5, seconds=0.49)
        return await upstream.ask(seconds=1.0)

    assert 1000.5 == virtually(work)
