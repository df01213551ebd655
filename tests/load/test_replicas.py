"""The judgement of `make replicas`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from load.replicas import planned
from load.replicating import account, store
from load.replicating.faults import Happened, Span, outside, poll_spans, rate_spans
from load.replicating.fleet import Loss
from load.replicating.judge import Limits, Measured, verdict
from load.replicating.processes import descendants, pss_mib, sockets
from load.replicating.runs import FRESH_FIRST, Arrival, Lives, watched_ids
from load.replicating.seen import Failure, Seen
from testkit.lying_upstream import Request

LIMITS = Limits(tps=10, burst=2, period_seconds=5)
LIVES = Lives(runs=10, first_end=60, last_end=60)
KILLED = Happened("replica killed", 20.0, 24.0, low_seconds=5.0)
STORE = Happened("store killed", 40.0, 44.0)
LOSS = Loss(20.0, 24.0, frozenset({2, 5}), 2)


def arrivals(*, fresh_until: float = 60.0, every: float = 0.125) -> list[Arrival]:
    """Return 8 fresh calls a second, and 2 polls a second of ten runs."""
    fresh = [
        Arrival(at * every, str(FRESH_FIRST)) for at in range(int(fresh_until / every))
    ]
    polls = [
        Arrival(at * 0.5 + 0.01, watched_ids(10)[at % 10])
        for at in range(int(60 / 0.5))
    ]
    return sorted([*fresh, *polls], key=lambda each: each.at)


GOOD = Measured(
    seconds=60,
    opened_by=5.0,
    arrivals=arrivals(),
    seen=Seen(
        answers=Counter(fresh=5, remembered=5, watched=5),
        ends={f"{at} {run_id}": 61.0 for at, run_id in enumerate(watched_ids(10))},
        watches=10,
    ),
    faults=(KILLED, STORE),
    losses=(LOSS,),
    starts=(2.0,),
    lives=LIVES,
    limits=LIMITS,
)


def failing(*failures: Failure) -> Measured:
    """Return a good result, but for failures."""
    seen = replace(GOOD.seen, failures=list(failures), failed=len(failures))
    return replace(GOOD, seen=seen)


def test_good_result_has_no_fault() -> None:
    """A result in which everything is as it must be has no fault."""
    report = verdict(GOOD)

    assert ([], []) == (report.faults, report.slow)


@pytest.mark.parametrize(
    ("result", "named"),
    [
        pytest.param(
            replace(
                GOOD,
                arrivals=sorted(
                    [*arrivals(), *(Arrival(30.0, str(FRESH_FIRST)) for _ in range(5))],
                    key=lambda each: each.at,
                ),
            ),
            "requests in a second",
            id="too-many",
        ),
        pytest.param(
            replace(GOOD, arrivals=arrivals(fresh_until=50.0)),
            "of the rate used",
            id="too-few",
        ),
        pytest.param(
            failing(Failure(30.0, "fresh", 2, "UNAVAILABLE")),
            "1 of them for another reason",
            id="after-the-restart",
        ),
        pytest.param(
            failing(Failure(21.0, "fresh", 1, "UNAVAILABLE")),
            "1 of them for another reason",
            id="of-another-replica",
        ),
        pytest.param(
            failing(Failure(21.0, "fresh", 2, "UPSTREAM_THROTTLED")),
            "1 of them for another reason",
            id="refused",
        ),
        pytest.param(
            replace(
                failing(
                    *(Failure(21.0, "fresh", at, "UNAVAILABLE") for at in range(2))
                ),
                losses=(replace(LOSS, channels=frozenset({0, 1, 2}), most=1),),
            ),
            "calls failed on 2",
            id="more-connections-than-were-lost",
        ),
        pytest.param(
            replace(GOOD, seen=replace(GOOD.seen, watches=11)),
            "missed the end",
            id="missed-end",
        ),
        pytest.param(
            replace(
                GOOD,
                arrivals=sorted(
                    [
                        *arrivals(every=0.15),
                        *(
                            Arrival(at + 0.3, watched_ids(10)[at * 2 % 10])
                            for at in range(60)
                        ),
                    ],
                    key=lambda each: each.at,
                ),
            ),
            "polls for each",
            id="polled-twice",
        ),
        pytest.param(replace(GOOD, starts=(3.5,)), "successor", id="slow-worker"),
        pytest.param(
            replace(GOOD, seen=replace(GOOD.seen, wrong=["x"])), "wrong", id="wrong"
        ),
    ],
)
def test_one_thing_that_goes_wrong_is_a_fault(result: Measured, named: str) -> None:
    """Each loss is a named fault."""
    report = verdict(result)

    assert any(named in each for each in (*report.faults, *report.slow))


def test_gross_excess_is_a_fault_in_a_short_run_too() -> None:
    """A busy machine explains a few requests too many, but not two gateways' rates."""
    few, many = (
        verdict(
            replace(GOOD, arrivals=[Arrival(0.0, str(FRESH_FIRST))] * number)
        ).faults
        for number in (13, 24)
    )

    assert not any("requests in a second" in each for each in few)
    assert any("requests in a second" in each for each in many)


def test_calls_may_fail_on_the_connections_of_a_dead_replica() -> None:
    """UNAVAILABLE on a channel to a killed replica is no fault."""
    report = verdict(failing(Failure(21.0, "fresh", 5, "UNAVAILABLE")))

    assert [] == report.faults


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        pytest.param([], [(5.0, 50.0)], id="none"),
        pytest.param([(0.0, 9.0)], [(9.0, 50.0)], id="at-the-begin"),
        pytest.param(
            [(20.0, 30.0), (10.0, 22.0)], [(5.0, 10.0), (30.0, 50.0)], id="overlap"
        ),
        pytest.param(
            [(10.0, 30.0), (12.0, 15.0)], [(5.0, 10.0), (30.0, 50.0)], id="in"
        ),
        pytest.param([(40.0, 60.0), (70.0, 80.0)], [(5.0, 40.0)], id="at-the-end"),
        pytest.param([(60.0, 70.0)], [(5.0, 50.0)], id="after"),
    ],
)
def test_outside_is_what_no_span_covers(
    spans: list[Span], expected: list[Span]
) -> None:
    """The rest of a time is what no fault explains."""
    assert expected == outside(spans, 5.0, 50.0)


def test_fault_excuses_the_time_until_its_effects_are_over() -> None:
    """A store's fault counts until the store is back, another's at both its ends."""
    both = (KILLED, STORE)

    assert [(20.0, 25.0), (24.0, 26.0), (40.0, 47.0)] == rate_spans(both)
    assert [(20.0, 30.0), (24.0, 34.0), (40.0, 52.0)] == poll_spans(both, 5.0)


@pytest.mark.parametrize("workers", [True, False])
@pytest.mark.parametrize("short", [True, False])
def test_faults_of_a_plan_come_one_after_the_other(
    *, workers: bool, short: bool
) -> None:
    """No fault begins before the one before it is over, and there is time for each."""
    plan = planned(workers=workers, short=short)
    times = [at for each in plan.faults for at in (each.at, each.at + each.lasts)]

    assert times == sorted(times)
    assert plan.opened_by < plan.seconds
    assert times[-1] < plan.seconds


def test_lives_end_within_their_time_in_another_order() -> None:
    """Each watched run has an end of its own; other runs have none."""
    lives = Lives(runs=100, first_end=10.0, last_end=109.0)
    ends = [lives.end_of(run_id) for run_id in watched_ids(100)]

    assert [float(at) for at in range(10, 110)] == sorted(ends)
    first = watched_ids(1)[0]
    assert ["PENDING", "RUNNING", "COMPLETED"] == [
        lives.status(first, at) for at in (0.0, 9.0, 10.0)
    ]
    assert "RUNNING" == lives.status(str(FRESH_FIRST), 1e9)


def test_results_travel_between_programs() -> None:
    """What the callers saw is the same after it was printed and read."""
    seen = failing(Failure(21.0, "fresh", 5, "UNAVAILABLE")).seen

    assert seen == Seen.load(seen.dump())


def test_sockets_are_those_of_a_process() -> None:
    """The listener and the connections of this process are found; so is its memory."""
    pid = os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            found = sockets(pid, port)
            accepted.close()

    assert {pid} == found.listening
    assert 1 == found.connections[pid]
    assert pid in descendants(os.getppid())
    assert pss_mib(pid) > 1


def test_account_records_each_arrival(tmp_path: Path) -> None:
    """The account answers with the state of the run, and writes when it was asked."""
    file = tmp_path / "arrivals"
    (run_id,) = watched_ids(1)
    with file.open("w") as record:
        asked = account.Account(Lives(1, 10.0, 10.0), record)
        asked.begun = 100.0
        request = Request(run_id, "", CIMultiDictProxy(CIMultiDict()), 1, 107.25, "")
        _, answer = asked.answer(request)

    assert b"RUNNING" in answer
    assert b"107.25" in answer
    assert [Arrival(107.25, run_id)] == list(account.arrivals(file))


async def test_store_can_be_slowed() -> None:
    """Each command waits for the delay, and no longer when that is over."""
    async with store.serving() as (_valkey, line):
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        line.delay_seconds = 600.0
        writer.write(b"PING\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.05)
        writer.close()
        line.delay_seconds = 0.0
        reader, writer = await asyncio.open_connection("127.0.0.1", line.port)
        writer.write(b"PING\r\n")
        assert b"+PONG\r\n" == await reader.readline()
        writer.close()
