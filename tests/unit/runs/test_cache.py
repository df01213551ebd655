"""The answer cache, on a clock that the test moves."""

from __future__ import annotations

from math import inf

import pytest

from healthomics.v1.run_pb2 import Run, RunExport
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.cache import Cache, Caching, memory_of
from healthomics_gateway.runs.source import OWN, Answer, OneCall, Partition, RunQuery
from testkit.serving import Scripted, failure

QUERY = RunQuery("1234567")
EXPORTED = RunQuery(QUERY.id, (RunExport.RUN_EXPORT_DEFINITION,))
ANSWER = Answer(Run(id=QUERY.id, name="mine"), "aws-1")
SIZE = memory_of(ANSWER.run)


@pytest.mark.guarantee("bounded-staleness")
def test_answer_is_returned_up_to_its_maximum_age() -> None:
    """An answer is returned until it is older than the request allows."""
    now = 1000.0
    cache = Cache(max_bytes=SIZE, clock=lambda: now)
    cache.put(QUERY, ANSWER)
    now = 1002.0

    ages = (2.0, inf, 1.9)
    assert [ANSWER, ANSWER, None] == [
        cache.get(QUERY, max_age_seconds=each) for each in ages
    ]


def test_age_of_zero_allows_for_no_answer() -> None:
    """A request without staleness is never answered from the cache."""
    cache = Cache(max_bytes=SIZE, clock=lambda: 1000.0)
    cache.put(QUERY, ANSWER)

    assert cache.get(QUERY, max_age_seconds=0) is None


def test_least_recently_used_runs_are_evicted() -> None:
    """The cache holds `max_bytes`, and evicts the run that was used longest ago."""
    cache = Cache(max_bytes=2 * SIZE)
    first, second, third = (RunQuery(str(each)) for each in range(3))
    cache.put(first, ANSWER)
    cache.put(second, ANSWER)
    cache.get(first, max_age_seconds=inf)
    cache.put(third, ANSWER)

    assert [ANSWER, None, ANSWER] == [
        cache.get(each, max_age_seconds=inf) for each in (first, second, third)
    ]


def test_answers_to_all_queries_for_a_run_count_together() -> None:
    """If the answers about one run don't fit, only the newest is kept."""
    cache = Cache(max_bytes=2 * SIZE - 1)
    cache.put(QUERY, ANSWER)
    cache.put(EXPORTED, ANSWER)

    assert [None, ANSWER] == [
        cache.get(each, max_age_seconds=inf) for each in (QUERY, EXPORTED)
    ]


def test_answer_that_is_too_large_is_not_kept() -> None:
    """An answer larger than `max_bytes` isn't kept, and the older one is removed."""
    cache = Cache(max_bytes=SIZE)
    cache.put(QUERY, ANSWER)
    cache.put(QUERY, Answer(Run(id=QUERY.id, name="larger than mine"), "aws-2"))

    assert cache.get(QUERY, max_age_seconds=inf) is None


@pytest.mark.guarantee("errors-not-cached")
async def test_run_that_is_not_found_is_removed() -> None:
    """RUN_NOT_FOUND for one query removes those to all queries, wherever they are."""
    both = (Cache(max_bytes=2 * SIZE), Cache(max_bytes=2 * SIZE))
    source = Scripted(ANSWER, ANSWER, failure(Reason.RUN_NOT_FOUND))
    runs = Caching(source, both)
    for query in (QUERY, EXPORTED):
        await runs.get_run(query, call=OneCall(inf))
    for cache in both:
        assert cache.get(QUERY, max_age_seconds=inf) is ANSWER
    with pytest.raises(GatewayError):
        await runs.get_run(EXPORTED, call=OneCall(inf))

    for cache in both:
        for query in (QUERY, EXPORTED):
            assert cache.get(query, max_age_seconds=inf) is None


def test_partitions_share_no_answer() -> None:
    """Each role and caller has its own answers, and they are removed separately."""
    role = "arn:aws:iam::123456789012:role/omics-read"
    partitions = (
        OWN,
        Partition(role, "alice"),
        Partition(role, "bob"),
        Partition(f"{role}-more", "alice"),
    )
    queries = [RunQuery(QUERY.id, partition=each) for each in partitions]
    answers = [Answer(Run(id=QUERY.id), f"aws-{at}") for at in range(4)]
    cache = Cache(max_bytes=4 * SIZE)
    for query, each in zip(queries, answers, strict=True):
        assert cache.get(query, max_age_seconds=inf) is None
        cache.put(query, each)
    cache.remove_run(queries[1])

    assert [answers[0], None, answers[2], answers[3]] == [
        cache.get(each, max_age_seconds=inf) for each in queries
    ]


async def test_other_errors_remove_no_answer() -> None:
    """An error that doesn't concern the run doesn't remove its cached answer."""
    cache = Cache(max_bytes=SIZE)
    runs = Caching(Scripted(ANSWER, failure(Reason.UPSTREAM_INTERNAL)), (cache,))
    await runs.get_run(QUERY, call=OneCall(inf))
    with pytest.raises(GatewayError):
        await runs.get_run(QUERY, call=OneCall(inf))

    assert cache.get(QUERY, max_age_seconds=inf) is ANSWER


def test_look_ups_that_allow_a_cached_answer_are_counted() -> None:
    """Hits and misses count only requests that allow a cached answer."""
    now = 1000.0
    cache = Cache(max_bytes=2 * SIZE, clock=lambda: now)
    cache.put(QUERY, ANSWER)
    cache.get(QUERY, max_age_seconds=0)
    cache.get(QUERY, max_age_seconds=1)
    now = 1002.0
    cache.get(QUERY, max_age_seconds=1)
    cache.get(RunQuery("2"), max_age_seconds=1)

    assert (1, 2) == (cache.hits, cache.misses)
    assert (1, SIZE, 2 * SIZE) == (cache.runs, cache.held_bytes, cache.max_bytes)
