"""Answers that replicas share, in virtual time."""

from __future__ import annotations

import asyncio
import gc
from math import inf
from typing import Any

import pytest

from healthomics.v1.run_pb2 import Run, RunExport
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.answer_values import MAX_VALUE_BYTES, AnswerValues
from healthomics_gateway.runs.cache import Cache, Caching
from healthomics_gateway.runs.shared_answers import MAX_WRITES, SharedAnswers
from healthomics_gateway.runs.source import Answer, OneCall, Partition, RunQuery
from healthomics_gateway.shared.store import Stored, StoreError, StoreFullError
from testkit.members import Member, among
from testkit.metrics import Seen
from testkit.serving import Scripted, failure
from testkit.virtual_time import now

QUERY = RunQuery("1234567")
DEFINED = RunQuery("1234567", (RunExport.RUN_EXPORT_DEFINITION,))
ANSWER = Answer(Run(id=QUERY.id, name="genomes"), "aws-1")
NEWER = Answer(Run(id=QUERY.id, name="newer"), "aws-2")


class Sharer:
    """One replica's answers."""

    def __init__(self, member: Member) -> None:
        """Begin without answers."""
        self.member = member
        self.store = member.store
        self.rejected, self.found, self.ages = Seen(), Seen(), Seen()
        self.values = AnswerValues(member.names, member.sealer, rejected=self.rejected)
        self.cache = Cache(max_bytes=1_000_000, clock=now)
        self.shared = SharedAnswers(
            member.replica,
            self.values,
            self.cache,
            max_age_seconds=60.0,
            found=self.found,
            ages=self.ages,
            clock=now,
        )

    async def put(self, answer: Answer = ANSWER, query: RunQuery = QUERY) -> None:
        """Share an answer, and wait until it is written."""
        self.shared.put(query, answer)
        await asyncio.sleep(0.01)

    async def find(self, query: RunQuery = QUERY, *, age: float = 60.0) -> Any:
        """Look for an answer of at most this age."""
        return await self.shared.find(query, max_age_seconds=age)

    def fetching(self, *results: Any) -> Caching:
        """Return a source whose answers are shared."""
        return Caching(Scripted(*results), (self.shared,))


sharing = among(Sharer)  # runs a test with several


@sharing
async def test_answer_of_another_replica_is_found(
    a: Sharer, b: Sharer, c: Sharer
) -> None:
    """What one replica has fetched is found by the others, with its age."""
    await a.fetching(ANSWER).get_run(QUERY, call=OneCall(inf))
    await asyncio.sleep(5.0)

    assert [ANSWER, ANSWER] == [await b.find(), await c.find()]
    assert [1] == b.found.values
    assert [pytest.approx(5.0, abs=0.01)] == b.ages.values


@pytest.mark.guarantee("shared-staleness")
@sharing
async def test_fresh_request_never_looks_in_the_store(a: Sharer, b: Sharer) -> None:
    """A request that allows no staleness gets no other replica's answer."""
    await a.put()

    assert await b.find(age=0.0) is None
    assert 0 == b.store.commands["read"]


@pytest.mark.guarantee("shared-staleness")
@sharing
async def test_answer_that_is_too_old_is_not_returned(a: Sharer, b: Sharer) -> None:
    """The limit of each request holds, also if requests share a look-up."""
    await a.put()
    await asyncio.sleep(5.0)
    found = await asyncio.gather(*(b.find(age=age) for age in (4.9, 5.1, 5.0)))

    assert [None, ANSWER, None] == found
    assert 1 == b.store.commands["read"]


@pytest.mark.guarantee("shared-staleness")
@sharing
async def test_old_value_that_is_replayed_keeps_its_age(a: Sharer, b: Sharer) -> None:
    """An operator of the store can't make an old answer a new one."""
    old = a.values.encode(QUERY, ANSWER)
    name = a.values.name(QUERY)
    await asyncio.sleep(30.0)
    a.store.server.memory.write(name, "", old, age_seconds=0.0, keep_seconds=60.0)

    assert await b.find(age=29.9) is None
    assert ANSWER == await b.find(age=30.1)


@sharing
async def test_clock_that_is_wrong_makes_no_answer_newer(
    a: Sharer, b: Sharer, c: Sharer
) -> None:
    """A machine whose clock is ahead or behind never gets a lower age."""
    a.member.wall_seconds, c.member.wall_seconds = 3.0, 10.0
    await a.put()
    await asyncio.sleep(5.0)

    assert (None, ANSWER) == (await b.find(age=5.0), await b.find(age=5.1))
    assert (None, ANSWER) == (await c.find(age=11.9), await c.find(age=12.1))


@sharing
async def test_replayed_value_of_a_clock_that_is_ahead_is_not_new(
    a: Sharer, b: Sharer
) -> None:
    """Its seal is of the future for as long as the clock is ahead."""
    a.member.wall_seconds = 60.0
    old = a.values.encode(QUERY, ANSWER)
    name = a.values.name(QUERY)
    await asyncio.sleep(30.0)
    a.store.server.memory.write(name, "", old, age_seconds=0.0, keep_seconds=60.0)

    assert await b.find(age=29.9) is None


@sharing
async def test_found_answer_is_kept_with_its_age(a: Sharer, b: Sharer) -> None:
    """The next request is answered from the replica's own cache, while it may be."""
    await a.put()
    await asyncio.sleep(5.0)
    await b.find()
    await asyncio.sleep(1.0)

    assert ANSWER == b.cache.get(QUERY, max_age_seconds=6.1)
    assert b.cache.get(QUERY, max_age_seconds=5.9) is None


@sharing
async def test_found_answer_replaces_no_newer_one(a: Sharer, b: Sharer) -> None:
    """A fetch that has ended during the look-up stays in the cache."""
    await a.put()
    await asyncio.sleep(5.0)
    finding = asyncio.create_task(b.find())
    await asyncio.sleep(0)
    b.cache.put(QUERY, NEWER)

    assert ANSWER == await finding
    assert NEWER == b.cache.get(QUERY, max_age_seconds=60.0)


@sharing
async def test_simultaneous_calls_share_a_look_up(a: Sharer, b: Sharer) -> None:
    """One that is cancelled doesn't end the look-up of the others."""
    await a.put()
    first, *others = [asyncio.create_task(b.find()) for _ in range(100)]
    await asyncio.sleep(0)
    first.cancel()

    assert [ANSWER] * 99 == await asyncio.gather(*others)
    assert 1 == b.store.commands["read"]
    assert ANSWER == await b.find()
    assert 2 == b.store.commands["read"]


@sharing
async def test_run_that_is_not_found_is_removed(
    a: Sharer, b: Sharer, c: Sharer
) -> None:
    """All answers about a run that is gone are removed, in its partition only."""
    elsewhere = RunQuery(QUERY.id, partition=Partition("arn:role", "alice"))
    for query in (QUERY, DEFINED, elsewhere):
        await a.put(query=query)
    with pytest.raises(GatewayError):
        await b.fetching(failure(Reason.RUN_NOT_FOUND)).get_run(
            DEFINED, call=OneCall(inf)
        )
    await asyncio.sleep(0.01)

    assert [None, None, ANSWER] == [
        await c.find(query) for query in (QUERY, DEFINED, elsewhere)
    ]


@sharing
async def test_other_failure_removes_nothing(a: Sharer, b: Sharer, c: Sharer) -> None:
    """An answer stays if HealthOmics can't be reached."""
    await a.put()
    with pytest.raises(GatewayError):
        await b.fetching(failure()).get_run(QUERY, call=OneCall(inf))
    await asyncio.sleep(0.01)

    assert ANSWER == await c.find()


@pytest.mark.guarantee("shared-partitions")
@sharing
async def test_copied_value_is_ignored(a: Sharer, b: Sharer) -> None:
    """No copy within the store turns one caller's answer into another's."""
    alice = RunQuery(QUERY.id, partition=Partition("arn:role", "alice"))
    bob = RunQuery(QUERY.id, partition=Partition("arn:role", "bob"))
    value = a.values.encode(alice, ANSWER)
    for query in (bob, QUERY, RunQuery("7654321")):
        name = b.values.name(query)
        a.store.server.memory.write(name, "", value, age_seconds=0.0, keep_seconds=60.0)

        assert await b.find(query) is None
        assert b.cache.get(query, max_age_seconds=60.0) is None
    assert [1, 1, 1] == b.rejected.values


@pytest.mark.parametrize("value", [b"", b"forged", bytes(100_000_000)])
def test_forged_value_is_ignored_and_counted(value: bytes) -> None:
    """A value that nobody with the secret has written is no answer."""

    @sharing
    async def test(_: Sharer, b: Sharer) -> None:
        b.store.answers["read"] = Stored(value, 0.0)  # a store may have no bound

        assert await b.find() is None
        assert [1] == b.rejected.values

    test()


@pytest.mark.parametrize(
    "fault", [StoreError("gone"), StoreFullError("full")], ids=["gone", "full"]
)
def test_failing_store_is_no_error(fault: StoreError) -> None:
    """Calls go on if the store fails; neither a look-up nor a write raises."""

    @sharing
    async def test(a: Sharer) -> None:
        failures: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, what: failures.append(what))
        a.store.faults = dict.fromkeys(("read", "write", "remove"), fault)
        await a.put()
        a.shared.remove_run(QUERY)

        assert await a.find() is None
        assert [] == a.found.values
        await asyncio.sleep(0.01)
        gc.collect()  # so that a task that has failed is reported
        assert [] == failures

    test()


@sharing
async def test_slow_store_is_waited_for_50_ms(a: Sharer) -> None:
    """A look-up in a store that hangs ends in time, and the next isn't made."""
    a.store.delay = lambda: 3600.0
    begun = now()

    assert await a.find() is None
    assert pytest.approx(0.05) == now() - begun
    assert await a.find() is None
    assert 1 == a.store.commands["read"]


@sharing
async def test_detached_replica_shares_nothing(a: Sharer, b: Sharer) -> None:
    """It neither looks in the store nor begins a write."""
    await b.put()
    await a.member.detach()
    a.store.commands.clear()
    await a.put()
    a.shared.remove_run(QUERY)

    assert await a.find() is None
    assert {"beat"} == set(a.store.commands) | {"beat"}


@sharing
async def test_number_of_writes_is_limited(a: Sharer, c: Sharer) -> None:
    """A store that falls behind costs a bounded number of writes."""
    for number in range(2 * MAX_WRITES):
        query = RunQuery(str(number))
        a.shared.put(query, Answer(Run(id=query.id), ""))
        a.shared.remove_run(RunQuery("none"))
    await asyncio.sleep(0.01)

    assert MAX_WRITES == a.store.commands["write"] + a.store.commands["remove"]
    assert await c.find(RunQuery("0"))
    await a.put()
    assert ANSWER == await c.find()


@sharing
async def test_answer_that_is_too_large_is_not_shared(a: Sharer, b: Sharer) -> None:
    """Each replica fetches a run of this size for itself."""
    await a.put(Answer(Run(id=QUERY.id, name="n" * MAX_VALUE_BYTES), ""))

    assert await b.find() is None
    assert 0 == a.store.commands["write"]


@sharing
async def test_nothing_is_shared_while_the_identity_is_unknown(a: Sharer) -> None:
    """Gateways with different identities could use the same store and secret."""
    a.member.names.learn(account="", identity="")
    await a.put()
    a.shared.remove_run(QUERY)

    assert await a.find() is None
    assert {"beat"} == set(a.store.commands)


@sharing
async def test_answers_are_forgotten_in_time(a: Sharer, b: Sharer) -> None:
    """The store keeps an answer as long as a request may accept it."""
    await a.put()
    await asyncio.sleep(61.0)

    assert await b.find(age=inf) is None


@sharing
async def test_answer_is_kept_for_a_minute_at_least(a: Sharer, b: Sharer) -> None:
    """A watch that begins at another replica needs it, whatever requests accept."""
    shared = SharedAnswers(
        a.member.replica, a.values, a.cache, max_age_seconds=1.0, clock=now
    )
    shared.put(QUERY, ANSWER)
    await asyncio.sleep(59.0)

    assert ANSWER == await b.find()
