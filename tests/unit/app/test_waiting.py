"""How many wait for a turn: calls and polls apart, in both queues of an account."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from healthomics_gateway.app.waiting import waiting
from healthomics_gateway.runs.bulkhead import Bulkhead
from healthomics_gateway.runs.quota import LocalQuota
from healthomics_gateway.runs.rate_limit import Schedulers
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.runs.source import OneCall
from testkit.virtual_time import virtually

OTHER = "210987654321"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The schedulers of an upstream."""

    schedulers: Schedulers
    poll_schedulers: Schedulers


def schedulers() -> Schedulers:
    """Return the schedulers of two accounts, in which one turn is free."""
    now: Callable[[], float] = asyncio.get_running_loop().time
    made = Schedulers(
        lambda _: Scheduler(
            LocalQuota(tps=1, burst=1, clock=now),
            poll_share=0.5,
            places=Bulkhead(inf),
            clock=now,
        )
    )
    made.learn("123456789012")
    made.prepare([f"arn:aws:iam::{OTHER}:role/x"])
    return made


def test_polls_of_both_queues_count() -> None:
    """A poll waits for its own turn, then for that of its fetch."""

    async def work() -> Mapping[str, Mapping[str, int]]:
        upstream = Upstream(schedulers(), schedulers())
        own = upstream.schedulers.by_account["own"]
        polls = upstream.poll_schedulers.by_account[OTHER]
        calls = [OneCall(inf), OneCall(inf), OneCall(inf), OneCall(inf, is_poll=True)]
        turns = [asyncio.create_task(own.turn(each)) for each in calls]
        turns += [
            asyncio.create_task(polls.turn(OneCall(inf, is_poll=True)))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        found = waiting(upstream)
        await asyncio.gather(*turns)
        return found

    assert {
        "own": {"call": 2, "poll": 1},
        OTHER: {"call": 0, "poll": 2},
    } == virtually(work)
