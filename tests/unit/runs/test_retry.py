"""How a failed attempt is tried again, with clock, sleep and jitter handed in."""

import asyncio
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics_gateway.errors.exceptions import Again, GatewayError, NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.retry import Retrying
from healthomics_gateway.runs.source import Answer, Call, OneCall, RunQuery
from testkit.serving import Hanging, Scripted, answer, failure

QUERY = RunQuery("1234567")
ANSWER = answer()


class Time:
    """A clock that only sleep moves; it remembers each sleep."""

    def __init__(self) -> None:
        """Begin at 1000 seconds."""
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Move on at once."""
        self.slept.append(seconds)
        self.now += seconds


class Outcome:
    """How a question went: what came of it, the sleeps and what was told."""

    def __init__(self, seconds: float) -> None:
        """Give the call so many seconds."""
        self.time = Time()
        self.call = OneCall(deadline=self.time.now + seconds)
        self.answer: Answer | None = None
        self.error: GatewayError | None = None

    def ended_with(self, failure: GatewayError) -> bool:
        """Return whether it failed so, whatever wait the client is asked for."""
        if self.error is None:
            return False
        expected = failure.replace(retry_delay_seconds=self.error.retry_delay_seconds)
        return vars(expected) == vars(self.error)

    @property
    def pushback_ms(self) -> int:
        """What the client is told to wait, in milliseconds."""
        assert self.error
        return self.error.pushback_ms


async def ask(
    source: Scripted,
    *,
    seconds: float = 30.0,
    max_attempts: int = 3,
    jitter: float = 0.5,
) -> Outcome:
    """Ask through `Retrying`, with so many seconds left."""
    outcome = Outcome(seconds)
    runs = Retrying(
        source,
        max_attempts=max_attempts,
        clock=lambda: outcome.time.now,
        sleep=outcome.time.sleep,
        jitter=lambda: jitter,
    )
    try:
        outcome.answer = await runs.get_run(QUERY, call=outcome.call)
    except GatewayError as error:
        outcome.error = error
    return outcome


def passing(reason: Reason = Reason.UPSTREAM_INTERNAL) -> GatewayError:
    """A failure that is worth another attempt."""
    return failure(reason, again=Again.YES)


def once(reason: Reason) -> GatewayError:
    """A failure that is worth one other attempt."""
    return failure(reason, again=Again.ONCE)


async def test_answer_is_given_without_a_second_attempt() -> None:
    """A first attempt that succeeds is the only one."""
    source = Scripted(ANSWER)
    outcome = await ask(source)

    assert ANSWER is outcome.answer
    assert [QUERY] == source.asked
    assert [outcome.call] == source.calls
    assert [] == outcome.time.slept


async def test_failure_that_passes_is_hidden() -> None:
    """Two failures worth another attempt and a success are a success."""
    source = Scripted(passing(), passing(), ANSWER)
    outcome = await ask(source)

    assert ANSWER is outcome.answer
    assert [QUERY] * 3 == source.asked


@pytest.mark.guarantee("bounded-attempts")
@pytest.mark.parametrize("max_attempts", [1, 2, 3])
async def test_last_failure_stands_when_the_attempts_are_used_up(
    max_attempts: int,
) -> None:
    """The failure of the last attempt that is allowed is the call's."""
    failures = [
        passing(Reason.UPSTREAM_TIMEOUT),
        passing(Reason.UPSTREAM_INTERNAL),
        passing(Reason.UPSTREAM_CONNECTION),
    ]
    source = Scripted(*failures, ANSWER)
    outcome = await ask(source, max_attempts=max_attempts)

    assert outcome.ended_with(failures[max_attempts - 1])
    assert max_attempts == len(source.asked)
    assert max_attempts - 1 == len(outcome.time.slept)


async def test_final_failure_is_not_tried_again() -> None:
    """A failure that isn't worth another attempt stands at once."""
    final = failure(Reason.RUN_NOT_FOUND, again=Again.NO)
    source = Scripted(final, ANSWER)
    outcome = await ask(source)

    assert outcome.ended_with(final)
    assert [QUERY] == source.asked
    assert [] == outcome.time.slept


async def test_final_failure_ends_attempts_under_way() -> None:
    """A final failure stands though attempts are left."""
    final = failure(Reason.UPSTREAM_ACCESS_DENIED, again=Again.NO)
    source = Scripted(passing(), final, ANSWER)
    outcome = await ask(source)

    assert outcome.ended_with(final)
    assert [QUERY] * 2 == source.asked


async def test_failure_worth_one_attempt_is_tried_once() -> None:
    """The second failure of such a reason stands, with an attempt left."""
    second = once(Reason.UPSTREAM_MALFORMED_RESPONSE).replace(debug="second")
    source = Scripted(once(Reason.UPSTREAM_MALFORMED_RESPONSE), second, ANSWER)
    outcome = await ask(source)

    assert outcome.ended_with(second)
    assert 2 == len(source.asked)


async def test_failures_worth_one_attempt_count_by_reason() -> None:
    """Another such reason is worth an attempt of its own, while any is left."""
    skewed = once(Reason.GATEWAY_CLOCK_SKEW)
    expired = once(Reason.GATEWAY_CREDENTIALS_EXPIRED)
    foreign = once(Reason.UPSTREAM_IDENTITY_MISMATCH)

    assert ANSWER is (await ask(Scripted(skewed, expired, ANSWER))).answer
    outcome = await ask(Scripted(skewed, expired, foreign, ANSWER))
    assert outcome.ended_with(foreign)


async def test_failure_worth_one_attempt_is_tried_after_another_kind() -> None:
    """What came before under other reasons doesn't use up the one attempt."""
    malformed = once(Reason.UPSTREAM_MALFORMED_RESPONSE)

    assert ANSWER is (await ask(Scripted(passing(), malformed, ANSWER))).answer


@pytest.mark.guarantee("bounded-attempts")
@pytest.mark.parametrize(
    ("seconds", "attempts"),
    [
        pytest.param(0.034, 1, id="too-little-for-the-first-wait"),
        pytest.param(0.036, 2, id="enough-for-the-first-wait"),
        pytest.param(0.084, 2, id="too-little-for-the-second-wait"),
        pytest.param(0.086, 3, id="enough-for-both"),
    ],
)
async def test_last_failure_stands_when_no_time_is_left(
    seconds: float, attempts: int
) -> None:
    """Without time for the wait and 10 ms more the failure stands, unslept."""
    source = Scripted(passing())
    outcome = await ask(source, seconds=seconds)

    assert outcome.error
    assert [0.025, 0.05][: attempts - 1] == outcome.time.slept
    assert [QUERY] * attempts == source.asked


async def test_last_attempt_stands_when_the_next_is_not_made() -> None:
    """A call whose next attempt the gateway refuses tells what HealthOmics said."""
    said = passing()
    refused = NotAskedError(Reason.GATEWAY_OVERLOADED, retry_delay_seconds=7.0)

    assert (await ask(Scripted(said, refused))).ended_with(said)
    assert refused is (await ask(Scripted(refused))).error
    assert 7.0 == refused.retry_delay_seconds


async def test_time_that_an_attempt_takes_is_missing_for_the_next() -> None:
    """An attempt that uses up the deadline is the last."""
    outcome = Outcome(seconds=1.0)

    async def slowly(_query: RunQuery, _call: Call) -> Answer:
        outcome.time.now += 0.99
        raise passing()

    source = Scripted(slowly, ANSWER)
    runs = Retrying(
        source,
        max_attempts=3,
        clock=lambda: outcome.time.now,
        sleep=outcome.time.sleep,
        jitter=lambda: 0.5,
    )
    with pytest.raises(GatewayError):
        await runs.get_run(QUERY, call=outcome.call)

    assert 1 == len(source.asked)
    assert [] == outcome.time.slept


@settings(max_examples=100, deadline=None, derandomize=True)
@given(jitter=st.floats(0, 1, exclude_max=True))
async def test_waits_are_drawn_up_to_a_bound_that_doubles(jitter: float) -> None:
    """A wait is the drawn share of 50 ms, then of 100 ms; the next is told: 200 ms."""
    outcome = await ask(Scripted(passing()), jitter=jitter)

    assert [0.05 * jitter, 0.1 * jitter] == pytest.approx(outcome.time.slept)
    assert max(50, round(200 * jitter)) == pytest.approx(outcome.pushback_ms, abs=1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(jitter=st.floats(0, 1, exclude_max=True))
async def test_waits_after_throttling_begin_at_a_second(jitter: float) -> None:
    """After throttling a wait is the drawn share of 1 s, then of 2 s, then of 4 s."""
    throttled = passing(Reason.UPSTREAM_THROTTLED)
    outcome = await ask(Scripted(throttled), jitter=jitter)

    assert [jitter, 2 * jitter] == pytest.approx(outcome.time.slept)
    assert max(50, round(4000 * jitter)) == pytest.approx(outcome.pushback_ms, abs=1)


@pytest.mark.guarantee("bounded-attempts")
@pytest.mark.parametrize(
    ("asked_seconds", "waits"),
    [
        pytest.param(None, [0.5, 1.0], id="none"),
        pytest.param(0.0, [0.5, 1.0], id="zero"),
        pytest.param(0.7, [0.7, 1.0], id="more-than-the-first-alone"),
        pytest.param(1.5, [1.5, 1.5], id="more-than-both"),
        pytest.param(5.5, [5.5, 5.5], id="up-to-5-s-beyond"),
        pytest.param(999_999.999, [5.5, 6.0], id="beyond"),
    ],
)
async def test_wait_that_aws_asks_for_is_honoured_within_bounds(
    asked_seconds: float | None, waits: list[float]
) -> None:
    """AWS's wish never shortens a wait, and lengthens it by at most 5 s."""
    throttled = failure(
        Reason.UPSTREAM_THROTTLED, again=Again.YES, retry_after_seconds=asked_seconds
    )
    outcome = await ask(Scripted(throttled))

    assert waits == outcome.time.slept


@pytest.mark.parametrize(
    ("asked_seconds", "milliseconds"),
    [
        pytest.param(None, 500, id="none"),
        pytest.param(1.5, 1500, id="within"),
        pytest.param(999_999.999, 5500, id="beyond"),
    ],
)
async def test_failure_tells_the_wait_that_would_come_next(
    asked_seconds: float | None, milliseconds: int
) -> None:
    """A client is told the wait that the gateway itself would take next."""
    throttled = failure(
        Reason.UPSTREAM_THROTTLED, again=Again.YES, retry_after_seconds=asked_seconds
    )
    outcome = await ask(Scripted(throttled), max_attempts=1)

    assert milliseconds == outcome.pushback_ms


@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize(
    "reason",
    [Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, Reason.GATEWAY_CREDENTIALS_EXPIRED],
)
async def test_failure_for_want_of_credentials_puts_clients_off(
    reason: Reason, jitter: float
) -> None:
    """All calls fail until credentials are found: clients come back in 1 to 5 s."""
    outcome = await ask(Scripted(failure(reason, again=Again.NO)), jitter=jitter)

    assert 1000 + 4000 * jitter == outcome.pushback_ms


async def test_failure_that_leaves_no_time_tells_its_wait() -> None:
    """A wait that the deadline doesn't allow is told to the client instead."""
    throttled = passing(Reason.UPSTREAM_THROTTLED)
    outcome = await ask(Scripted(throttled), seconds=0.1)

    assert [] == outcome.time.slept
    assert 500 == outcome.pushback_ms


async def test_wait_that_aws_asks_for_counts_against_the_deadline() -> None:
    """AWS's wish for a longer wait than the deadline allows ends the attempts."""
    throttled = failure(
        Reason.UPSTREAM_THROTTLED, again=Again.YES, retry_after_seconds=3.0
    )
    outcome = await ask(Scripted(throttled, ANSWER), seconds=2.0)

    assert outcome.ended_with(throttled)
    assert 3000 == outcome.pushback_ms


@pytest.mark.parametrize("attempt", [1, 2])
async def test_cancellation_ends_an_attempt_and_starts_no_other(attempt: int) -> None:
    """A cancelled call ends as such; its failure isn't one to try again."""
    hanging = Hanging()
    source = Scripted(*[passing()] * (attempt - 1), hanging)
    task = asyncio.create_task(ask(source))
    await hanging.is_asked.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert attempt == len(source.asked)


async def test_cancellation_ends_a_wait() -> None:
    """A call that is cancelled while it waits makes no further attempt."""
    is_asleep = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        is_asleep.set()
        await asyncio.Future()

    source = Scripted(passing())
    runs = Retrying(source, max_attempts=3, clock=lambda: 0.0, sleep=sleep)
    task = asyncio.create_task(runs.get_run(QUERY, call=OneCall(deadline=30.0)))
    await is_asleep.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert 1 == len(source.asked)


async def test_bug_is_not_tried_again() -> None:
    """What isn't one of the table's failures passes through at once."""
    source = Scripted(ValueError("a bug"), ANSWER)

    with pytest.raises(ValueError, match="a bug"):
        await ask(source)
    assert 1 == len(source.asked)


def retrying(source: Scripted) -> Retrying:
    """Share one stock of retries among the calls, and lose no time."""
    time = Time()
    return Retrying(source, max_attempts=3, clock=lambda: time.now, sleep=time.sleep)


async def refusals(runs: Retrying, count: int) -> None:
    """Make so many calls that fail."""
    for _ in range(count):
        with pytest.raises(GatewayError):
            await runs.get_run(QUERY, call=OneCall(deadline=inf))


@given(calls=st.integers(1, 300), successes=st.integers(0, 300))
@settings(max_examples=30, deadline=None)
async def test_dead_upstream_sees_few_more_calls_than_callers_make(
    calls: int, successes: int
) -> None:
    """Retries end with the ten in hand and one for five calls, whatever went well."""
    source = Scripted(*[ANSWER] * successes, passing())
    runs = retrying(source)
    for _ in range(successes):
        await runs.get_run(QUERY, call=OneCall(deadline=inf))
    await refusals(runs, calls)

    assert len(source.asked) - successes <= calls + min(2 * calls, 10 + calls / 5)


async def test_retries_come_back_with_further_calls() -> None:
    """Five calls earn the retry of one, once those in hand are used up."""
    source = Scripted(passing())
    runs = retrying(source)
    await refusals(runs, 50)
    before = len(source.asked)
    await refusals(runs, 100)

    assert 100 + 20 == len(source.asked) - before


async def test_what_is_mended_is_tried_again_without_a_retry_in_hand() -> None:
    """A renewal of the gateway's own credentials costs the retries nothing."""
    mended = failure(Reason.GATEWAY_CREDENTIALS_EXPIRED, again=Again.FIXED)
    source = Scripted(*[passing()] * 100, *[mended, ANSWER] * 20, mended)
    runs = retrying(source)
    while len(source.asked) < 100:
        await refusals(runs, 1)
    for _ in range(20):
        await runs.get_run(QUERY, call=OneCall(deadline=inf))
    before = len(source.asked)
    await refusals(runs, 1)

    assert (140, 142) == (before, len(source.asked))
