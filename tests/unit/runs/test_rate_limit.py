"""The callers that get turns, and when, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from math import inf
from typing import Any

import pytest

from healthomics_gateway.errors.exceptions import GatewayError, NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.bulkhead import Bulkhead
from healthomics_gateway.runs.quota import LocalQuota
from healthomics_gateway.runs.rate_limit import RateLimited, Schedulers
from healthomics_gateway.runs.scheduler import Scheduler
from healthomics_gateway.runs.source import Caller, OneCall, Partition, RunQuery
from healthomics_gateway.shared.adaptive_rate import RECOVERY_SECONDS
from healthomics_gateway.telemetry.metrics.parts import QueueMetrics
from healthomics_gateway.telemetry.recent import QuotaUse
from testkit.metrics import Seen
from testkit.serving import Scripted, answer, failure
from testkit.virtual_time import virtually

QUERY = RunQuery("1234567")


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def scheduler(*, tps: float, burst: float, poll_share: float = 0.5) -> Scheduler:
    """Return a scheduler with as many places as are needed."""
    places = Bulkhead(inf)
    return Scheduler(
        LocalQuota(tps=tps, burst=burst, clock=now),
        poll_share=poll_share,
        places=places,
        use=QuotaUse(tps=tps, recovery_seconds=RECOVERY_SECONDS, clock=now),
        clock=now,
    )


def schedulers(*, tps: float = 10, burst: float = 1) -> Schedulers:
    """Return the schedulers of all accounts."""
    return Schedulers(lambda _: scheduler(tps=tps, burst=burst))


class Turns:
    """A scheduler, and the turns that it grants: the caller and the time of each."""

    def __init__(
        self, *, tps: float = 10, burst: float = 1, poll_share: float = 0.5
    ) -> None:
        """Create a scheduler with a bucket of tokens."""
        self.scheduler = scheduler(tps=tps, burst=burst, poll_share=poll_share)
        self.given: list[tuple[str, float]] = []
        self._begun = now()

    async def take(self, caller: str = "a", **fields: Any) -> None:
        """Wait for a turn; a digit is a connection of its own of the caller `x`."""
        deadline = now() + fields.pop("seconds", inf)
        charged = Caller("x", caller) if caller.isdigit() else Caller(caller)
        await self.scheduler.turn(OneCall(deadline, caller=charged, **fields))
        self.given.append((caller, round(now() - self._begun, 6)))

    async def take_all(self, *callers: str, **fields: Any) -> None:
        """Wait for turns with all of them at once, in this order."""
        await asyncio.gather(*(self.take(each, **fields) for each in callers))

    @property
    def order(self) -> str:
        """Return the callers in the order of their turns."""
        return "".join(caller for caller, _ in self.given)


# the rate


def test_tokens_come_at_the_rate_beyond_the_burst() -> None:
    """Two turns come at once, then one each tenth of a second."""

    async def work() -> list[float]:
        turns = Turns(tps=10, burst=2)
        await turns.take_all(*"aaaaaa")
        return [at for _, at in turns.given]

    assert [0, 0, 0.1, 0.2, 0.3, 0.4] == pytest.approx(virtually(work))


@pytest.mark.guarantee("quota-limit")
def test_no_second_has_more_turns_than_rate_and_burst() -> None:
    """No window of a second has more than tps + burst turns."""

    async def work() -> list[float]:
        turns = Turns(tps=8, burst=2)
        for pause in (0.0, 0.3, 3.0, 0.1, 0.9, 5.0):
            await asyncio.sleep(pause)
            await turns.take_all(*"abcabcabcabc")
        return [at for _, at in turns.given]

    times = virtually(work)
    for at, _ in enumerate(times):
        assert sum(times[at] <= each < times[at] + 1 for each in times) <= 10


def test_throttle_cuts_the_rate_once_a_second() -> None:
    """A throttle cuts the rate by 30 %; others in the same second don't."""

    async def work() -> list[float]:
        scheduler = Turns(tps=10).scheduler
        rates = []
        for pause in (0.0, 0.1, 0.8, 0.2):
            await asyncio.sleep(pause)
            scheduler.throttled()
            rates.append(round(scheduler.rate, 1))
        return rates

    assert [7.0, 7.0, 7.2, 5.1] == virtually(work)


@pytest.mark.guarantee("watch-share")
def test_throttle_never_raises_a_low_rate() -> None:
    """A rate below the lowest rate after throttles stays as it is."""

    async def work() -> tuple[float, float]:
        scheduler = Turns(tps=0.08).scheduler
        scheduler.throttled()
        cut = scheduler.rate
        await asyncio.sleep(60)
        scheduler.expected_wait(OneCall(inf))
        return cut, scheduler.rate

    assert (0.08, 0.08) == virtually(work)


@pytest.mark.guarantee("adaptive-rate")
def test_rate_recovers_within_a_minute() -> None:
    """After any number of cuts, the whole rate is restored after fifty seconds."""

    async def work() -> tuple[float, float]:
        turns = Turns(tps=8)
        for _ in range(20):
            await asyncio.sleep(1.1)
            turns.scheduler.throttled()
        low = turns.scheduler.rate
        await asyncio.sleep(50)
        turns.scheduler.expected_wait(OneCall(inf))
        return low, turns.scheduler.rate

    low, back = virtually(work)
    assert low < 1
    assert 8 == back


@pytest.mark.guarantee("adaptive-rate")
def test_few_calls_are_throttled_if_others_use_the_account() -> None:
    """With two of ten calls a second left, at most one in five is throttled."""

    async def work() -> float:
        turns = Turns(tps=8, burst=2)
        tokens, filled = 2.0, now()
        seen: list[bool] = []
        while now() < 1120:
            await turns.take()
            tokens, filled = min(10.0, tokens + 2 * (now() - filled)), now()
            is_throttled = tokens < 1
            tokens -= not is_throttled
            if is_throttled:
                turns.scheduler.throttled()
            if now() > 1010:
                seen.append(is_throttled)
        return sum(seen) / len(seen)

    assert virtually(work) <= 0.2


# fairness


@pytest.mark.guarantee("fair-shares")
def test_callers_take_turns() -> None:
    """A caller with many calls waits as long as one with few."""

    async def work() -> str:
        turns = Turns()
        await turns.take_all(*"aaaabbc")
        return turns.order

    assert "abcabaa" == virtually(work)


@pytest.mark.guarantee("fair-shares")
def test_connections_share_the_turns_of_their_caller() -> None:
    """Two callers have half each, even if one of them has more connections."""

    async def work() -> str:
        turns = Turns()
        await turns.take_all(*"111123aaaa")
        return turns.order

    assert "1a2a3a1a11" == virtually(work)


@pytest.mark.parametrize(
    ("waiting", "caller", "turns"),
    [
        pytest.param("aaaa", "a", 4, id="behind-its-own"),
        pytest.param("aaaa", "b", 1, id="beside-a-scanner"),
        pytest.param("1111", "2", 1, id="beside-a-scanning-connection"),
        pytest.param("1111", "1", 4, id="of-a-connection"),
        pytest.param("1111aaaa", "2", 3, id="both"),
        pytest.param("aabbbc", "a", 6, id="three-callers"),
    ],
)
def test_wait_is_estimated_by_rounds(waiting: str, caller: str, turns: int) -> None:
    """In each round every caller has a turn, and its connections share its turns."""

    async def work() -> float:
        many = Turns(tps=1)
        await many.take("z")
        tasks = [asyncio.create_task(many.take(each)) for each in waiting]
        await asyncio.sleep(0)
        charged = Caller("x", caller) if caller.isdigit() else Caller(caller)
        wait = many.scheduler.expected_wait(OneCall(inf, caller=charged))
        for task in tasks:
            task.cancel()
        return wait

    assert turns + 1 == pytest.approx(virtually(work))


def test_late_caller_does_not_wait_for_a_caller_with_many_calls() -> None:
    """Behind a hundred calls of one caller, another has the next turn but one."""

    async def work() -> list[float]:
        turns = Turns(tps=10)
        scan = asyncio.create_task(turns.take_all(*"s" * 100))
        waits = []
        for _ in range(5):
            await asyncio.sleep(0.5)
            begun = now()
            await turns.take("b", seconds=1)
            waits.append(now() - begun)
        scan.cancel()
        return waits

    assert max(virtually(work)) <= 0.2


def test_call_of_several_callers_has_the_turn_of_the_first() -> None:
    """A fetch takes the turn of one of its callers, and only this one is charged."""

    async def work() -> str:
        turns = Turns()

        class Shared:
            deadline, is_poll, callers = inf, False, (Caller("a"), Caller("z"))

        async def shared() -> None:
            await turns.scheduler.turn(Shared())  # type: ignore[arg-type]
            turns.given.append(("*", now()))

        await asyncio.gather(turns.take_all(*"aaaa"), shared(), turns.take_all("z"))
        return turns.order

    order = virtually(work)
    assert order.index("*") <= 1


@pytest.mark.guarantee("watch-share")
def test_polls_get_their_share_while_calls_wait() -> None:
    """Polls get their share of the turns that both want, and calls get the rest."""

    async def work() -> str:
        turns = Turns(poll_share=0.25)
        polls = asyncio.create_task(turns.take_all(*"p" * 40, is_poll=True))
        calls = asyncio.create_task(turns.take_all(*"c" * 40))
        await asyncio.sleep(4)
        polls.cancel()
        calls.cancel()
        return turns.order

    shares = Counter(virtually(work)[1:])
    assert 0.25 == pytest.approx(shares["p"] / shares.total(), abs=0.03)


def test_polls_get_all_turns_if_no_call_waits() -> None:
    """Without calls, polls get the whole rate."""

    async def work() -> list[float]:
        turns = Turns(tps=10, poll_share=0.1)
        await turns.take_all(*"pppp", is_poll=True)
        return [at for _, at in turns.given]

    gaps = [after - before for before, after in pairwise(virtually(work))]
    assert [0.1] * 3 == pytest.approx(gaps)


# deadlines


@pytest.mark.guarantee("early-refusal")
def test_call_whose_turn_comes_too_late_is_refused_at_once() -> None:
    """Its error has the time until its turn, and it takes no turn."""

    async def work() -> tuple[float, NotAskedError, str]:
        turns = Turns(tps=10)
        waiting = asyncio.create_task(turns.take_all(*"aaaaaa"))
        await asyncio.sleep(0.01)
        begun = now()
        with pytest.raises(NotAskedError) as refused:
            await turns.take("a", seconds=0.5)
        await waiting
        return now() - begun - 0.5, refused.value, turns.order

    _, error, order = virtually(work)
    assert Reason.UPSTREAM_THROTTLED is error.reason
    assert 0.59 == pytest.approx(error.retry_delay_seconds)
    assert "aaaaaa" == order


def test_call_waits_if_its_turn_comes_in_time() -> None:
    """The estimate is exact for a single caller."""

    async def work() -> str:
        turns = Turns(tps=10)
        await asyncio.gather(turns.take_all(*"aaaaaa"), turns.take("a", seconds=0.65))
        return turns.order

    assert "a" * 7 == virtually(work)


def test_call_is_refused_before_its_deadline_if_the_rate_falls() -> None:
    """If the estimate was too low, it is refused 20 ms before its deadline."""

    async def work() -> float:
        turns = Turns(tps=10)
        await turns.take()
        call = asyncio.create_task(turns.take("b", seconds=0.15))
        await asyncio.sleep(0.01)
        turns.scheduler._quota._turns.tokens = -50.0  # noqa: SLF001  # a long throttle
        begun = now()
        with pytest.raises(NotAskedError):
            await call
        return now() - begun

    assert 0.12 == pytest.approx(virtually(work), abs=0.01)


@pytest.mark.guarantee("abandoned-turns")
def test_cancelled_call_takes_no_turn() -> None:
    """A call that is cancelled while it waits is skipped."""

    async def work() -> list[tuple[str, float]]:
        turns = Turns(tps=10)
        first = asyncio.create_task(turns.take_all(*"ab"))
        await asyncio.sleep(0.01)
        gone = asyncio.create_task(turns.take("c"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(first, turns.take("d"))
        return turns.given

    assert [("a", 0.0), ("b", 0.1), ("d", 0.2)] == virtually(work)


# accounts

OURS, THEIRS = "123456789012", "210987654321"


def of_role(role: str, identity: str = "alice") -> RunQuery:
    """Return a query in a role."""
    return RunQuery(QUERY.id, partition=Partition(role, identity))


def role(account: str, name: str = "x", *, aws: str = "aws") -> str:
    """Return a role's ARN."""
    return f"arn:{aws}:iam::{account}:role/{name}"


def test_roles_of_one_account_share_one_bucket() -> None:
    """The gateway and all roles of its account share one; other accounts don't."""

    async def work() -> None:
        many = schedulers()
        many.learn(OURS)
        own = many.of(QUERY)
        assert own is many.of(of_role(role(OURS)))
        assert own is many.of(of_role(role(OURS, "path/y"), "bob"))
        theirs = many.of(of_role(role(THEIRS)))
        assert own is not theirs
        assert theirs is many.of(of_role(role(THEIRS, "a:role/b"), "bob"))
        for aws in ("aws-cn", "aws-us-gov"):
            assert theirs is many.of(of_role(role(THEIRS, aws=aws)))
            assert own is many.of(of_role(role(OURS, aws=aws)))

    virtually(work)


@pytest.mark.parametrize("is_known", [True, False], ids=["unknown", "not-yet-known"])
def test_accounts_share_one_bucket_until_the_own_account_is_known(
    *, is_known: bool
) -> None:
    """No quota is exceeded, as all calls count as if for one account."""

    async def work() -> None:
        many = schedulers()
        if is_known:
            many.learn(None)
        asked = [QUERY, *(of_role(role(each)) for each in (OURS, THEIRS))]
        assert 1 == len({many.of(each) for each in asked})

    virtually(work)


def test_own_account_is_learned_once_and_before_roles() -> None:
    """Calls of a role must not move to another bucket while they wait."""

    async def work() -> None:
        learned, used, new = schedulers(), schedulers(), schedulers()
        learned.learn(OURS)
        used.prepare([role(THEIRS)])

        assert [False, False, True] == [each.may_learn for each in (learned, used, new)]

    virtually(work)


def test_accounts_have_separate_buckets() -> None:
    """Each bucket has the same rate, and a throttle cuts only that of its account."""

    async def work() -> tuple[list[float], list[float], list[float]]:
        many = schedulers(tps=10)
        many.learn(OURS)
        queries = QUERY, of_role(role(OURS)), of_role(role(THEIRS))
        throttled = Scripted(failure(Reason.UPSTREAM_THROTTLED), answer())
        with pytest.raises(GatewayError):
            await RateLimited(throttled, many).get_run(queries[2], call=OneCall(inf))
        rates = [many.of(each).rate for each in queries]
        await many.of(QUERY).turn(OneCall(inf))
        waits = [many.expected_wait(each, OneCall(inf)) for each in queries]
        await asyncio.sleep(60)
        full = [many.expected_wait(each, OneCall(inf)) for each in queries]
        return rates, waits, full

    rates, waits, full = virtually(work)
    assert [10.0, 10.0, 7.0] == rates
    assert [0.1, 0.1, 1 / 7] == pytest.approx(waits)
    assert [0.0] * 3 == full


# the source


def test_source_takes_a_token_and_notes_that_it_is_sent() -> None:
    """`sent` is called before the next source is asked, and its answer is returned."""

    async def work() -> tuple[Any, list[str]]:
        calls: list[str] = []

        class Noting(OneCall):
            def sent(self) -> None:
                calls.append("sent")

        source = Scripted(answer())
        limited = RateLimited(source, schedulers())
        return await limited.get_run(QUERY, call=Noting(inf)), calls

    assert (answer(), ["sent"]) == virtually(work)


@pytest.mark.parametrize(
    ("reason", "rate"),
    [(Reason.UPSTREAM_THROTTLED, 7.0), (Reason.UPSTREAM_INTERNAL, 10.0)],
)
def test_source_cuts_the_rate_only_for_throttles(reason: Reason, rate: float) -> None:
    """A throttle by HealthOmics cuts the rate, and the error is raised."""

    async def work() -> tuple[GatewayError, float]:
        many = schedulers(tps=10)
        error = failure(reason)
        with pytest.raises(GatewayError) as raised:
            await RateLimited(Scripted(error), many).get_run(QUERY, call=OneCall(inf))
        assert raised.value is error
        return error, many.of(QUERY).rate

    assert rate == virtually(work)[1]


def test_schedulers_are_listed_by_account() -> None:
    """The gateway's own account is `own`; those of roles are there before a call."""

    async def work() -> None:
        many = schedulers(burst=3)
        assert ["own"] == list(many.by_account)
        many.learn(OURS)
        many.prepare([role(OURS), role(THEIRS), role(THEIRS, "a:role/b")])
        assert ["own", THEIRS] == list(many.by_account)
        assert many.by_account["own"] is many.of(QUERY)
        assert many.by_account[THEIRS] is many.of(of_role(role(THEIRS)))

    virtually(work)


def test_account_that_no_rule_has_any_more_is_dropped() -> None:
    """However often the rules change, there are only the accounts of the last ones."""

    async def work() -> None:
        many = schedulers()
        many.learn(OURS)
        roles = [role(f"{at:012}") for at in range(99)]
        for each in roles:
            many.prepare([each])
            before = many.of(of_role(each))
        many.prepare([role(OURS)])
        assert ["own"] == list(many.by_account)
        many.prepare(roles)
        assert ["own", *(f"{at:012}" for at in range(99))] == list(many.by_account)
        assert before is not many.of(of_role(roles[-1]))
        assert not many.may_learn

    virtually(work)


def test_account_is_kept_while_its_bucket_is_not_full() -> None:
    """Rules that change and change back don't allow another burst, or a higher rate."""

    async def work() -> None:
        many = schedulers(tps=10, burst=3)
        many.learn(OURS)
        theirs = of_role(role(THEIRS))
        many.prepare([role(THEIRS)])
        used = many.of(theirs)
        await used.turn(OneCall(inf))
        many.prepare([])
        assert ["own"] == list(many.by_account)
        many.prepare([role(THEIRS)])
        assert used is many.of(theirs)
        await asyncio.sleep(1)
        await used.depart()
        many.prepare([])
        assert used is many.of(theirs)
        used.throttled()
        await asyncio.sleep(1)
        many.prepare([])
        assert used is many.of(theirs)
        await asyncio.sleep(60)
        many.prepare([])
        assert used is not many.of(theirs)

    virtually(work)


def test_account_is_listed_and_kept_while_a_call_uses_it() -> None:
    """A call that began by the rules before finishes at the rate of its account."""

    async def work() -> list[Any]:
        many = schedulers()
        many.learn(OURS)
        many.prepare([role(THEIRS)])
        seen: list[Any] = []

        class Reloading(Scripted):
            async def get_run(self, query: RunQuery, *, call: Any) -> Any:
                used = many.of(query)
                await asyncio.sleep(60)
                many.prepare([])
                seen.append((list(many.by_account), used is many.of(query)))
                return await super().get_run(query, call=call)

        limited = RateLimited(Reloading(answer()), many)
        await limited.get_run(of_role(role(THEIRS)), call=OneCall(inf))
        return [*seen, list(many.by_account)]

    assert [(["own", THEIRS], True), ["own"]] == virtually(work)


def test_tokens_and_recent_use_are_those_of_the_account() -> None:
    """A turn takes a token; a request that departs counts as used."""

    async def work() -> tuple[float, float, float, int]:
        one = scheduler(tps=10, burst=3)
        before = one.tokens
        await one.turn(OneCall(inf))
        await one.depart()
        after = one.tokens
        await asyncio.sleep(60)
        return before, after, one.tokens, one.use.used

    assert (3.0, 2.0, 3.0, 1) == virtually(work)


@pytest.mark.parametrize("is_poll", [False, True], ids=["call", "poll"])
def test_wait_for_a_turn_is_measured_by_kind(*, is_poll: bool) -> None:
    """A call that waits shows in the length of the queue, and then with its wait."""

    async def work() -> tuple[int, int, list[float], list[float]]:
        calls, polls = Seen(), Seen()
        metrics = QueueMetrics(call_seconds=calls, poll_seconds=polls)
        one = Scheduler(
            LocalQuota(tps=10, burst=1, clock=now),
            poll_share=0.5,
            places=Bulkhead(inf),
            metrics=metrics,
            clock=now,
        )
        await one.turn(OneCall(inf))
        waiting = asyncio.create_task(one.turn(OneCall(inf, is_poll=is_poll)))
        await asyncio.sleep(0.01)
        lengths = one.waiting, one.waiting_polls
        await waiting
        return *lengths, calls.values, polls.values

    waiting, waiting_polls, calls, polls = virtually(work)
    assert (1, int(is_poll)) == (waiting, waiting_polls)
    assert [0.0, 0.1] == pytest.approx([*calls, *polls])
    assert int(is_poll) == len(polls)
