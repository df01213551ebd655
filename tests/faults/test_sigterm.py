"""SIGTERM under load: the errors that callers get, and which calls count as lost."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Sequence
from itertools import cycle

import pytest

from load.sigterm import (
    BESIDE_DRAIN_SECONDS,
    CALLERS,
    DRAIN_SECONDS,
    IDS,
    Ending,
    Outcome,
    alone,
    beside_another,
    counted,
    main,
    terminated,
)
from testkit.builders import Refusal, assert_well_made, get_run, refused
from testkit.fault_table import Tally
from testkit.gateway_process import START_SECONDS, STOP_SECONDS, client, serving
from testkit.lying_upstream import HANG, Answer, Drip, LyingUpstream, Request

PLACES = 64  # upstream.max_concurrent; the other calls wait for a place
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
HANGING: Sequence[Answer] = (
    [HANG],
    [HEAD[:20], HANG],
    [HEAD + b'{"id": ', HANG],
    [Drip(HEAD + b" " * 1000, every_seconds=0.2)],
)
PATIENCE_SECONDS = 60.0
RETRY_SECONDS = 0.05  # the wait in GATEWAY_DRAINING's RetryInfo
AT = 1000.0  # when SIGTERM was sent


class Hanging(LyingUpstream):
    """Begins each answer in a different way, and never ends it."""

    def __init__(self, run_ids: Sequence[str]) -> None:
        """Hang for these runs."""
        super().__init__()
        self.is_full = asyncio.Event()
        for run_id, answer in zip(run_ids, cycle(HANGING), strict=False):
            self.lie(run_id, lambda request, answer=answer: self._hang(request, answer))

    async def left(self) -> None:
        """Wait until no request is under way."""
        while True:
            if not self.busy:
                return
            await asyncio.sleep(0.01)

    def _hang(self, _request: Request, answer: Answer) -> Answer:
        if self.asked.total() >= PLACES:
            self.is_full.set()
        return answer


async def end_with_hanging_calls(
    number: int,
) -> tuple[list[Refusal], Ending, Counter[str], int]:
    """End a gateway with 300 calls that hang, by one or two SIGTERMs."""
    drain_seconds = DRAIN_SECONDS if number == 1 else PATIENCE_SECONDS
    async with (
        Hanging(IDS) as upstream,
        serving(upstream.url, GATEWAY_DRAIN_TIME=f"{drain_seconds:g}s") as served,
        client(served, **{"grpc.enable_retries": 0}) as stub,
    ):
        calls = [get_run(stub, each, seconds=PATIENCE_SECONDS) for each in IDS]
        failing = asyncio.gather(*(refused(each) for each in calls))
        async with asyncio.timeout(START_SECONDS):
            await upstream.is_full.wait()
        if number > 1:
            served.terminate()
            await served.event("draining")
            drain_seconds = 0.0
        ending, _ = await terminated(served, drain_seconds=drain_seconds)
        failures = await failing
        asked = Counter(upstream.asked)
        async with asyncio.timeout(STOP_SECONDS):
            await upstream.left()
        return failures, ending, asked, upstream.hung_up.total()


@pytest.mark.guarantee("drain-calls", "no-lost-calls")
@pytest.mark.fault(35)
async def test_drain_ends_calls_that_hang(tally: Tally) -> None:
    """300 calls that hang end with GATEWAY_DRAINING after the drain time, not before.

    The process ends in time.
    """
    failures, ending, asked, hung_up = await end_with_hanging_calls(1)
    assert ending.seconds >= DRAIN_SECONDS
    count(tally, failures)
    for failure in failures:
        assert_well_made(failure)

    assert {("UNAVAILABLE", "GATEWAY_DRAINING")} == {
        (each.code.name, each.reason) for each in failures
    }
    assert all("RetryInfo" in each.details for each in failures)
    assert 0 == ending.exit_code
    # No request is repeated, and no call that waited for a place sends one.
    assert {1: PLACES, 0: CALLERS - PLACES} == Counter(asked.values())
    assert PLACES == hung_up


@pytest.mark.fault(35)
async def test_second_sigterm_ends_calls_that_hang(tally: Tally) -> None:
    """A second SIGTERM ends the drain at once, and each call gets an error."""
    failures, ending, asked, hung_up = await end_with_hanging_calls(2)
    count(tally, failures)

    assert 0 == ending.exit_code
    assert {"UNAVAILABLE"} == {each.code.name for each in failures}
    assert PLACES == asked.total() == hung_up


@pytest.mark.guarantee("no-lost-calls")
@pytest.mark.fault(34)
async def test_sigterm_loses_no_call_beside_another_gateway(tally: Tally) -> None:
    """With 300 calls under way and more following, none fails when one of two ends."""
    ending = await beside_another()
    count_ended(tally, ending)

    assert Counter() == ending.lost
    assert (0, 0) == (ending.late, ending.exit_code)
    assert ending.seconds <= BESIDE_DRAIN_SECONDS + STOP_SECONDS


@pytest.mark.guarantee("drain-calls")
@pytest.mark.fault(34)
async def test_sigterm_loses_no_call_in_time(tally: Tally) -> None:
    """A single gateway refuses only late calls, and answers all others."""
    ending = await alone((RETRY_SECONDS, RETRY_SECONDS))
    count_ended(tally, ending)

    assert Counter() == ending.lost
    assert 0 == ending.exit_code
    assert ending.late > 0
    assert ending.seconds <= DRAIN_SECONDS + STOP_SECONDS


@pytest.mark.parametrize(
    ("outcome", "ended", "is_accepted", "lost"),
    [
        pytest.param("OK", 2.9, True, 0, id="answered"),
        pytest.param("GATEWAY_DRAINING", -0.5, False, 1, id="before-it"),
        pytest.param("UNAVAILABLE", 0.0, True, 1, id="cut"),
        pytest.param("GATEWAY_DRAINING", 2.3, False, 1, id="came-in-time"),
        pytest.param("GATEWAY_DRAINING", 2.9, True, 1, id="would-have-ended"),
        pytest.param("GATEWAY_DRAINING", 3.0, True, 0, id="outlasts"),
        pytest.param("GATEWAY_DRAINING", 2.5, False, 0, id="late"),
        pytest.param("UNAVAILABLE", 3.2, False, 0, id="not-listening"),
        pytest.param("CANCELLED", 3.2, False, 1, id="cancelled"),
        pytest.param("GATEWAY_INTERNAL", 3.0, False, 1, id="another-reason"),
        pytest.param("another run", 2.6, True, 1, id="another-run"),
    ],
)
def test_call_is_lost_if_the_drain_had_to_answer_it(
    outcome: str, ended: float, *, is_accepted: bool, lost: int
) -> None:
    """A call is lost unless it was answered, came late or outlasted the drain."""
    outcomes = [Outcome(outcome, AT + ended, is_accepted)]
    beside = counted(Ending(0, 5.0), outcomes, terminated_at=None)
    only = counted(Ending(0, 5.0), outcomes, terminated_at=AT)

    assert (1, lost) == (only.calls, only.lost.total())
    assert (lost == 0, outcome == "OK") == (only.is_good, beside.is_good)


@pytest.mark.parametrize("code", [pytest.param(None, id="none"), 1, -signal.SIGKILL])
def test_ending_is_bad_without_exit_code_0(code: int | None) -> None:
    """An ending is bad if it is late, or has an exit code other than 0."""
    assert not Ending(code, 5.0).is_good


@pytest.mark.parametrize(
    ("argument", "code"),
    [("--help", 0), ("--times=0", 2), ("--times=x", 2), ("--seconds=1", 2)],
)
def test_program_refuses_invalid_arguments(
    capsys: pytest.CaptureFixture[str], argument: str, code: int
) -> None:
    """Help is printed, and invalid arguments are refused, before anything starts."""
    with pytest.raises(SystemExit) as ended:
        main([argument])
    printed = capsys.readouterr()

    assert code == ended.value.code
    assert "--times" in printed.out + printed.err


def count(tally: Tally, failures: Sequence[Refusal]) -> None:
    """Add refusals to the table."""
    tally.calls += len(failures)
    for each in failures:
        tally.outcomes[each.reason if each.details else each.code.name] += 1


def count_ended(tally: Tally, ending: Ending) -> None:
    """Add the calls of a shutdown to the table."""
    tally.calls += ending.calls
    tally.outcomes["OK"] += ending.calls - ending.late - ending.lost.total()
    tally.outcomes["late"] += ending.late
    tally.wrong += ending.lost.total()
