"""When and how a failed attempt is retried, with a clock that the test moves."""

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
    """A clock that only sleeping moves, and the sleeps."""

    def __init__(self) -> None:
        """Begin at 1000 seconds."""
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Move the clock at once."""
        self.slept.append(seconds)
        self.now += seconds


class Outcome:
    """The outcome of a call: its answer or error, the sleeps, and the call's facts."""

    def __init__(self, seconds: float) -> None:
        """Create a call with a deadline in so many seconds."""
        self.time = Time()
        self.call = OneCall(deadline=self.time.now + seconds)
        self.answer: Answer | None = None
        self.error: GatewayError | None = None

    def ended_with(self, failure: GatewayError) -> bool:
        """Return whether the call failed with this error, apart from its wait."""
        if self.error is None:
            return False
        expected = failure.replace(retry_delay_seconds=self.error.retry_delay_seconds)
        return vars(expected) == vars(self.error)

    @property
    def delay_ms(self) -> int | None:
        """Return the wait that the client is asked for, in milliseconds."""
        assert self.error
        return self.error.retry_delay_ms


async def ask(
    source: Scripted,
    *,
    seconds: float = 30.0,
    max_attempts: int = 3,
    jitter: float = 0.5,
) -> Outcome:
    """Call `Retrying` with so many seconds left."""
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
    """Return an error that is retried."""
    return failure(reason, again=Again.YES)


def once(reason: Reason) -> GatewayError:
    """Return an error that is retried once."""
    return failure(reason, again=Again.ONCE)


async def test_success_needs_no_second_attempt() -> None:
    """If the first attempt succeeds, it is the only one."""
    source = Scripted(ANSWER)
    outcome = await ask(source)

    assert ANSWER is outcome.answer
    assert [QUERY] == source.asked
    assert [outcome.call] == source.calls
    assert [] == outcome.time.slept


async def test_failures_before_a_success_are_hidden() -> None:
    """Two failures that are retried and then a success are a success."""
    source = Scripted(passing(), passing(), ANSWER)
    outcome = await ask(source)

    assert ANSWER is outcome.answer
    assert [QUERY] * 3 == source.asked


@pytest.mark.guarantee("bounded-attempts")
@pytest.mark.parametrize("max_attempts", [1, 2, 3])
async def test_last_error_is_raised_after_the_last_attempt(
    max_attempts: int,
) -> None:
    """The error of the last allowed attempt is that of the call."""
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


async def test_final_error_is_not_retried() -> None:
    """An error that isn't worth another attempt is raised at once."""
    final = failure(Reason.RUN_NOT_FOUND, again=Again.NO)
    source = Scripted(final, ANSWER)
    outcome = await ask(source)

    assert outcome.ended_with(final)
    assert [QUERY] == source.asked
    assert [] == outcome.time.slept


async def test_final_error_ends_the_attempts() -> None:
    """A final error is raised even if attempts are left."""
    final = failure(Reason.UPSTREAM_ACCESS_DENIED, again=Again.NO)
    source = Scripted(passing(), final, ANSWER)
    outcome = await ask(source)

    assert outcome.ended_with(final)
    assert [QUERY] * 2 == source.asked


async def test_error_worth_one_retry_is_retried_once() -> None:
    """The second error of such a reason is raised, even if an attempt is left."""
    second = once(Reason.UPSTREAM_MALFORMED_RESPONSE).replace(debug="second")
    source = Scripted(once(Reason.UPSTREAM_MALFORMED_RESPONSE), second, ANSWER)
    outcome = await ask(source)

    assert outcome.ended_with(second)
    assert 2 == len(source.asked)


async def test_errors_worth_one_retry_count_by_reason() -> None:
    """Another such reason has its own retry, while attempts are left."""
    skewed = once(Reason.GATEWAY_CLOCK_SKEW)
    expired = once(Reason.GATEWAY_CREDENTIALS_EXPIRED)
    foreign = once(Reason.UPSTREAM_IDENTITY_MISMATCH)

    assert ANSWER is (await ask(Scripted(skewed, expired, ANSWER))).answer
    outcome = await ask(Scripted(skewed, expired, foreign, ANSWER))
    assert outcome.ended_with(foreign)


async def test_error_worth_one_retry_is_retried_after_other_errors() -> None:
    """Earlier errors of other reasons don't use up its retry."""
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
async def test_error_is_raised_if_no_time_is_left(
    seconds: float, attempts: int
) -> None:
    """Without time for the wait and 10 ms more, the error is raised without a wait."""
    source = Scripted(passing())
    outcome = await ask(source, seconds=seconds)

    assert outcome.error
    assert [0.025, 0.05][: attempts - 1] == outcome.time.slept
    assert [QUERY] * attempts == source.asked


async def test_last_error_is_raised_if_the_next_attempt_is_refused() -> None:
    """If the gateway refuses the next attempt, HealthOmics' last error is raised."""
    said = passing()
    refused = NotAskedError(Reason.GATEWAY_OVERLOADED, retry_delay_seconds=7.0)

    assert (await ask(Scripted(said, refused))).ended_with(said)
    assert refused is (await ask(Scripted(refused))).error
    assert 7.0 == refused.retry_delay_seconds


async def test_attempt_that_uses_up_the_time_is_the_last() -> None:
    """No attempt follows one that uses up the deadline."""
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
async def test_waits_have_full_jitter_and_double(jitter: float) -> None:
    """Waits are random shares of 50 ms, then 100 ms; the error has that of 200 ms."""
    outcome = await ask(Scripted(passing()), jitter=jitter)

    assert [0.05 * jitter, 0.1 * jitter] == pytest.approx(outcome.time.slept)
    assert max(50, round(200 * jitter)) == pytest.approx(outcome.delay_ms, abs=1)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(jitter=st.floats(0, 1, exclude_max=True))
async def test_waits_after_throttling_begin_at_a_second(jitter: float) -> None:
    """After throttling, a wait is a random share of 1 s, then of 2 s, then of 4 s."""
    throttled = passing(Reason.UPSTREAM_THROTTLED)
    outcome = await ask(Scripted(throttled), jitter=jitter)

    assert [jitter, 2 * jitter] == pytest.approx(outcome.time.slept)
    assert max(50, round(4000 * jitter)) == pytest.approx(outcome.delay_ms, abs=1)


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
async def test_retry_after_of_aws_lengthens_the_wait_within_bounds(
    asked_seconds: float | None, waits: list[float]
) -> None:
    """Retry-After never shortens a wait, and lengthens it by at most 5 s."""
    throttled = failure(
        Reason.UPSTREAM_THROTTLED,
        again=Again.YES,
        aws_retry_after_seconds=asked_seconds,
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
async def test_error_has_the_wait_that_would_come_next(
    asked_seconds: float | None, milliseconds: int
) -> None:
    """A client is asked to wait as long as the gateway itself would."""
    throttled = failure(
        Reason.UPSTREAM_THROTTLED,
        again=Again.YES,
        aws_retry_after_seconds=asked_seconds,
    )
    outcome = await ask(Scripted(throttled), max_attempts=1)

    assert milliseconds == outcome.delay_ms


@pytest.mark.parametrize("jitter", [0.0, 0.5])
@pytest.mark.parametrize(
    "reason",
    [Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, Reason.GATEWAY_CREDENTIALS_EXPIRED],
)
async def test_error_without_credentials_asks_clients_to_wait(
    reason: Reason, jitter: float
) -> None:
    """All calls fail until credentials are found: clients retry after 1 to 5 s."""
    outcome = await ask(Scripted(failure(reason, again=Again.NO)), jitter=jitter)

    assert 1000 + 4000 * jitter == outcome.delay_ms


async def test_failure_that_was_fixed_is_retried_without_the_longer_wait() -> None:
    """Renewed credentials are used after the usual back-off."""
    expired = failure(Reason.GATEWAY_CREDENTIALS_EXPIRED, again=Again.FIXED)
    outcome = await ask(Scripted(expired, ANSWER))

    assert outcome.answer == ANSWER
    assert [0.025] == outcome.time.slept


async def test_error_without_time_for_a_retry_has_its_wait() -> None:
    """If the deadline is too short for the wait, the client is asked to wait."""
    throttled = passing(Reason.UPSTREAM_THROTTLED)
    outcome = await ask(Scripted(throttled), seconds=0.1)

    assert [] == outcome.time.slept
    assert 500 == outcome.delay_ms


async def test_retry_after_beyond_the_deadline_ends_the_attempts() -> None:
    """If AWS asks for a longer wait than the deadline allows, no attempt follows."""
    throttled = failure(
        Reason.UPSTREAM_THROTTLED, again=Again.YES, aws_retry_after_seconds=3.0
    )
    outcome = await ask(Scripted(throttled, ANSWER), seconds=2.0)

    assert outcome.ended_with(throttled)
    assert 3000 == outcome.delay_ms


@pytest.mark.parametrize("attempt", [1, 2])
async def test_cancellation_ends_an_attempt_and_starts_no_other(attempt: int) -> None:
    """A cancelled call isn't retried."""
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


async def test_bug_is_not_retried() -> None:
    """An exception other than GatewayError is raised at once."""
    source = Scripted(ValueError("a bug"), ANSWER)

    with pytest.raises(ValueError, match="a bug"):
        await ask(source)
    assert 1 == len(source.asked)


def retrying(source: Scripted) -> Retrying:
    """Return a source with one retry budget for all calls, which loses no time."""
    time = Time()
    return Retrying(source, max_attempts=3, clock=lambda: time.now, sleep=time.sleep)


async def refusals(runs: Retrying, count: int) -> None:
    """Make so many calls that fail."""
    for _ in range(count):
        with pytest.raises(GatewayError):
            await runs.get_run(QUERY, call=OneCall(deadline=inf))


@given(calls=st.integers(1, 300), successes=st.integers(0, 300))
@settings(max_examples=30, deadline=None)
async def test_retry_budget_limits_the_retries_of_an_outage(
    calls: int, successes: int
) -> None:
    """Ten retries are made, then one for five calls, even if other calls succeed."""
    source = Scripted(*[ANSWER] * successes, passing())
    runs = retrying(source)
    for _ in range(successes):
        await runs.get_run(QUERY, call=OneCall(deadline=inf))
    await refusals(runs, calls)

    assert len(source.asked) - successes <= calls + min(2 * calls, 10 + calls / 5)


async def test_retry_budget_is_refilled_by_calls() -> None:
    """Five calls add one retry to a budget that is used up."""
    source = Scripted(passing())
    runs = retrying(source)
    await refusals(runs, 50)
    before = len(source.asked)
    await refusals(runs, 100)

    assert 100 + 20 == len(source.asked) - before


async def test_failure_that_was_fixed_is_retried_without_budget() -> None:
    """A renewal of the gateway's own credentials uses no retry of the budget."""
    fixed = failure(Reason.GATEWAY_CREDENTIALS_EXPIRED, again=Again.FIXED)
    source = Scripted(*[passing()] * 100, *[fixed, ANSWER] * 20, fixed)
    runs = retrying(source)
    while len(source.asked) < 100:
        await refusals(runs, 1)
    for _ in range(20):
        await runs.get_run(QUERY, call=OneCall(deadline=inf))
    before = len(source.asked)
    await refusals(runs, 1)

    assert (140, 142) == (before, len(source.asked))
