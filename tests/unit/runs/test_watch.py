"""Watches of runs, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from google.rpc import code_pb2
from structlog.testing import capture_logs

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics.v1.run_service_pb2 import WatchRunResponse
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.field_mask import Selection
from healthomics_gateway.runs.poll_failures import IN_DOUBT
from healthomics_gateway.runs.source import (
    Answer,
    Call,
    Caller,
    OneCall,
    RunQuery,
    UpstreamInfo,
)
from healthomics_gateway.runs.subscription import Subscription, SubscriptionOptions
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.runs.watch_state import MAX_VIEWS, State
from testkit.serving import failure
from testkit.virtual_time import virtually

QUERY = RunQuery("1234567")
ALL = Selection()
EVERYTHING = SubscriptionOptions(selection=lambda: ALL)


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def status(word: str) -> RunStatus.ValueType:
    """Return the status for AWS's word."""
    return RunStatus.Value(f"RUN_STATUS_{word}")


class World:
    """A run with scripted states, and its watches.

    `life` lists members of the run, or failures, each with the second after 1000 from
    which it applies.
    """

    def __init__(self, *life: tuple[float, Any], seconds: float = 0.0) -> None:
        """Answer after so many seconds."""
        self._life = life
        self.seconds = seconds
        self.polled: list[float] = []
        self.calls: list[Call] = []
        self.left = 0  # polls that were cancelled
        self.watches = Watches(self, polls=self, interval_seconds=5.0, clock=now)

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Answer as HealthOmics."""
        self.polled.append(round(now() - 1000, 3))
        self.calls.append(call)
        call.upstream = UpstreamInfo(attempts=1)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.left += 1
            raise
        lived = [each for at, each in self._life if at <= now() - 1000]
        if isinstance(lived[-1], Exception):
            raise lived[-1]
        members = dict(lived[-1])
        word = members.pop("status", "RUNNING")
        run = Run(id=query.id, status=status(word), **members)
        run.observe_time.FromMilliseconds(round(now() * 1000))
        return Answer(run, "aws-1")

    async def first_fetch(self) -> Answer:
        """Make the first fetch of a watch, for a caller that may know of every run."""
        call = OneCall(inf)
        return await self.watches.first_fetch(QUERY, call=call, hides=lambda _: False)

    async def follow(
        self,
        *,
        of: Callable[[Run], Any] = lambda run: run.name,
        work: float = 0.0,
        selection: Selection = ALL,
        select: Callable[[], Selection] | None = None,
        first: Answer | None = None,
        **fields: Any,
    ) -> list[tuple[float, Any]]:
        """Return the states of one watch and their times; each takes `work` seconds.

        Its selection is what `select` returns, if that is given.
        """
        seen: list[tuple[float, Any]] = []
        request = SubscriptionOptions(selection=select or (lambda: selection), **fields)
        with self.watches.watch(QUERY, request, first=first) as watch:
            try:
                while (body := await watch.next()) is not None:
                    what = of(WatchRunResponse.FromString(body).run) if body else "beat"
                    seen.append((round(now() - 1000, 3), what))
                    await asyncio.sleep(work)
            except GatewayError as error:
                seen.append((round(now() - 1000, 3), error.reason))
            except TimeoutError:
                seen.append((round(now() - 1000, 3), "late"))
            else:
                seen.append((round(now() - 1000, 3), "end"))
        return seen

    def follow_at(self, at: float, **fields: Any) -> asyncio.Task[Any]:
        """Begin to watch at second 1000 + `at`."""

        async def later() -> Any:
            await asyncio.sleep(1000 + at - now())
            return await self.follow(**fields)

        return asyncio.create_task(later())


LIFE = (
    (0.0, {"name": "a"}),
    (7.0, {"name": "b"}),
    (21.0, {"name": "c", "status": "COMPLETED"}),
)


# states


def test_state_keeps_a_limited_number_of_responses() -> None:
    """Each stream may have its own mask; the responses of the first masks are kept."""
    masks = [Selection(frozenset({"id"}), frozenset({str(at)})) for at in range(20)]
    state = State(0, Run(id="1234567"), b"", read_at=0.0)
    made = [state.view(each) for each in masks]
    assert made == [state.view(each) for each in masks]
    assert [True] * MAX_VIEWS + [False] * 4 == [
        state.kept(m) is not None for m in masks
    ]


@pytest.mark.guarantee("heartbeats")
def test_heartbeat_is_sent_after_its_interval_without_a_response() -> None:
    """The interval begins with the last response, which may be a heartbeat."""

    async def work() -> Any:
        return await World(*LIFE).follow(heartbeat_seconds=3.0, period_seconds=10.0)

    assert [
        *((0, "a"), (3, "beat"), (6, "beat"), (9, "beat"), (10, "b")),
        *((at, "beat") for at in (13, 16, 19, 22, 25, 28)),
        *((30, "c"), (30, "end")),
    ] == virtually(work)


@pytest.mark.guarantee("watch-states")
def test_watch_returns_each_state_once() -> None:
    """Each state comes once, at the poll that sees it, and nothing after the last."""

    async def work() -> Any:
        world = World(*LIFE)
        return await world.follow(), world.polled, world.watches.pollers

    assert (
        [(0, "a"), (10, "b"), (25, "c"), (25, "end")],
        [0, 5, 10, 15, 20, 25],
        0,
    ) == virtually(work)


@pytest.mark.guarantee("watch-ends")
@pytest.mark.parametrize("word", ["COMPLETED", "FAILED", "CANCELLED", "DELETED"])
def test_watch_of_a_run_that_has_ended_returns_one_state(word: str) -> None:
    """The watch returns the terminal state and ends without an error."""

    async def work() -> Any:
        return await World((0, {"name": "a", "status": word})).follow()

    assert [(0, "a"), (0, "end")] == virtually(work)


@pytest.mark.guarantee("shared-polls")
def test_watches_of_a_run_share_its_polls() -> None:
    """A thousand watches of one run cost as many polls as one, and see all states."""

    async def work() -> Any:
        world = World(*LIFE, seconds=0.1)
        seen = await asyncio.gather(*(world.follow() for _ in range(1000)))
        return seen, world.polled

    seen, polled = virtually(work)
    assert 6 == len(polled)
    assert [["a", "b", "c", "end"]] * 1000 == [
        [what for _, what in each] for each in seen
    ]


def test_first_state_may_be_the_pollers_last() -> None:
    """A new watch gets a state younger than a period at once, else that of a poll."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (16, {"status": "FAILED"}))
        first = world.follow_at(0, period_seconds=20)
        young, old = world.follow_at(4.9, seconds=0.01), world.follow_at(12)
        return [(await each)[0] for each in (first, young, old)], world.polled

    seen, polled = virtually(work)
    assert [(0, "a"), (4.9, "a"), (12, "a")] == seen
    assert [0, 5, 12, 17] == polled


def test_usual_period_holds_for_watches_without_their_own() -> None:
    """A watch with a long period doesn't slow the polls of the others."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (6, {"status": "FAILED"}))
        rare = world.follow_at(0, period_seconds=60)
        await asyncio.gather(rare, world.follow_at(1))
        return world.polled

    assert [0, 5, 10] == virtually(work)


@pytest.mark.guarantee("watch-states")
def test_change_of_unselected_members_sends_nothing() -> None:
    """Only the members that the caller receives are compared."""
    life = (
        (0, {"name": "a", "priority": 1}),
        (5, {"name": "a", "priority": 2}),
        (10, {"name": "b", "priority": 2}),
        (15, {"name": "b", "priority": 2, "status": "FAILED"}),
    )

    async def work() -> Any:
        world = World(*life)
        masked = Selection(frozenset({"name"}))
        return await asyncio.gather(
            world.follow(), world.follow(selection=masked, of=lambda run: run.name)
        )

    seen, masked = virtually(work)
    assert [0, 5, 10, 15, 15] == [at for at, _ in seen]
    assert [(0, "a"), (10, "b"), (15, "end")] == masked


@pytest.mark.guarantee("reload-watches")
@pytest.mark.parametrize("is_denied", [False, True], ids=["withheld", "denied"])
def test_state_that_waits_to_be_encoded_is_of_the_newest_rules(
    *, is_denied: bool
) -> None:
    """Once one watch has the state, what is withheld now is in no other message."""
    withheld, denied = set[str](), set[str]()

    def reload() -> None:
        (denied if is_denied else withheld).add("name")

    def check(_: Run) -> None:
        if denied:
            raise GatewayError(Reason.CALLER_NOT_AUTHORIZED)

    def name_of(run: Run) -> str:
        if run.name == "b":
            asyncio.get_running_loop().call_soon(reload)
        return run.name

    def select(path: str) -> Callable[[], Selection]:
        paths = frozenset({"name", path})  # each watch has a mask of its own
        return lambda: Selection(paths, frozenset(withheld))

    async def work() -> list[list[tuple[float, Any]]]:
        world = World((0, {"name": "a"}), (5, {"name": "b"}))
        masks = map(select, ("id", "arn", "priority"))
        return await asyncio.gather(
            *(
                world.follow(select=each, check=check, of=name_of, seconds=8.0)
                for each in masks
            )
        )

    first, *others = virtually(work)
    assert [(0, "a"), (5, "b"), (8, "late")] == first
    end = [(5, Reason.CALLER_NOT_AUTHORIZED)] if is_denied else [(5, ""), (8, "late")]
    assert [[(0, "a"), *end]] * 2 == others


def test_slow_watch_gets_the_newest_state_and_delays_no_other() -> None:
    """A watch that is too slow skips states, and isn't behind afterwards."""
    life = [(5.0 * at, {"name": str(at)}) for at in range(20)]
    life.append((100.0, {"name": "end", "status": "COMPLETED"}))

    async def work() -> Any:
        world = World(*life)
        slow = world.follow(work=48)
        return await asyncio.gather(world.follow(), slow, world.follow(work=12))

    fast, slow, behind = virtually(work)
    assert [str(at) for at in range(20)] == [what for _, what in fast[:20]]
    assert [(0, "0"), (48, "9"), (96, "19"), (144, "end"), (192, "end")] == slow
    numbers = [int(what) for _, what in behind[:-2]]
    assert sorted(set(numbers)) == numbers
    assert "end" == behind[-2][1]


def test_watch_that_is_a_little_behind_misses_no_state() -> None:
    """Up to four states are kept for a watch that hasn't taken them."""
    life = [(5.0 * at, {"name": str(at)}) for at in range(4)]
    life.append((100.0, {"name": "end", "status": "COMPLETED"}))

    async def work() -> Any:
        return await World(*life).follow(work=14)

    assert ["0", "1", "2", "3", "end", "end"] == [what for _, what in virtually(work)]


# polls


def test_passing_states_are_polled_twice_as_often() -> None:
    """A run that starts or stops is polled in half of the usual period."""
    life = (
        (0, {"status": "STARTING"}),
        (10, {"status": "RUNNING"}),
        (20, {"status": "STOPPING"}),
        (25, {"status": "COMPLETED"}),
    )

    async def work() -> Any:
        world = World(*life)
        await world.follow()
        return world.polled

    assert [0, 2.5, 5, 7.5, 10, 15, 20, 22.5, 25] == virtually(work)


def test_shortest_period_of_all_watches_counts() -> None:
    """A watch with a shorter period speeds up the polls while it lasts."""

    async def work() -> Any:
        world = World((0, {}), (18, {"status": "FAILED"}))
        usual = world.follow_at(0)
        hurried = world.follow_at(6, period_seconds=1, seconds=3)
        await asyncio.gather(usual, hurried)
        return world.polled

    assert [0, 5, 6, 7, 8, 9, 14, 19] == virtually(work)


@pytest.mark.guarantee("shared-polls")
def test_answer_to_a_call_postpones_the_next_poll() -> None:
    """The answer to a GetRun call reaches the watches, and the next poll is later."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (3, {"name": "b"}), (9, {"status": "FAILED"}))
        watching = world.follow_at(0)
        for at in (4.0, 8.0):
            await asyncio.sleep(1000 + at - now())
            await world.watches.get_run(QUERY, call=OneCall(inf))
        await world.watches.get_run(RunQuery("1"), call=OneCall(inf))
        return await watching, world.polled

    seen, polled = virtually(work)
    assert [0, 4, 8, 8, 13] == polled
    assert [(0, "a"), (4, "b"), (13, ""), (13, "end")] == seen


@pytest.mark.parametrize(
    ("is_sent", "left", "polled"), [(False, 1, [0, 1, 6.5]), (True, 0, [0, 1, 8])]
)
def test_answer_to_a_call_replaces_a_poll_that_waits(
    *, is_sent: bool, left: int, polled: list[float]
) -> None:
    """A poll that has had its turn goes on."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), seconds=3)
        watching = world.follow_at(0, seconds=8.2)
        await asyncio.sleep(1)
        if is_sent:
            world.calls[0].sent()
        world.seconds = 0.5
        await world.watches.get_run(QUERY, call=OneCall(inf))
        await asyncio.sleep(2)
        return world.left, await watching, world.polled

    assert (left, [(1.5, "a"), (8.2, "late")], polled) == virtually(work)


def test_answer_that_poll_and_calls_share_is_one_state() -> None:
    """If a poll and calls share an answer, the next poll comes a period later."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (9, {"status": "FAILED"}), seconds=1.0)
        shared = asyncio.create_task(world.get_run(QUERY, call=OneCall(inf)))

        class Sharing:
            async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
                return await (
                    shared if now() < 1005 else world.get_run(query, call=call)
                )

        world.watches = Watches(
            Sharing(), polls=Sharing(), interval_seconds=5, clock=now
        )
        watching = world.follow_at(0)
        calls = [world.watches.get_run(QUERY, call=OneCall(inf)) for _ in range(3)]
        await asyncio.gather(*calls)
        return await watching, world.polled

    seen, polled = virtually(work)
    assert [(1, "a"), (13, ""), (13, "end")] == seen
    assert [0, 6, 12] == polled


@pytest.mark.guarantee("watch-share")
def test_polls_have_the_turns_of_the_watching_callers() -> None:
    """Callers take turns, and so do the runs of each; the call is a poll."""

    async def work() -> Any:
        world = World((0, {}), (5, {"status": "FAILED"}))
        names = ("a", "b", "a")
        await asyncio.gather(*(world.follow(name=name) for name in names))
        return world.calls

    calls = virtually(work)
    callers = (Caller("a", QUERY.id), Caller("b", QUERY.id))
    assert [(inf, callers, True)] * 2 == [
        (call.deadline, call.callers, call.is_poll) for call in calls[-2:]
    ]


@pytest.mark.parametrize(("is_sent", "shared"), [(False, [("b",)]), (True, [])])
def test_waiting_poll_may_use_the_turn_of_a_caller_that_joins(
    *, is_sent: bool, shared: list[tuple[str]]
) -> None:
    """A second caller needn't wait for the turn of the first."""

    async def work() -> Any:
        world = World((0, {"status": "FAILED"}), seconds=3)
        first = asyncio.create_task(world.follow(name="a"))
        await asyncio.sleep(1)
        if is_sent:
            world.calls[0].sent()
        await asyncio.gather(first, world.follow(name="b"), world.follow(name="b"))
        return world.calls

    first, *others = virtually(work)
    assert [Caller("a", QUERY.id)] == list(first.callers)
    assert shared == [tuple(each.name for each in call.callers) for call in others]


# cancellation


@pytest.mark.guarantee("abandoned-watches")
def test_last_watch_that_ends_ends_the_polls() -> None:
    """A later watch of the run begins with a new poll."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), seconds=1.0)
        first, second = world.follow_at(0), world.follow_at(0)
        await asyncio.sleep(5.9)  # the second poll is under way
        for each in (first, second):
            each.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        left = world.left, world.watches.pollers, len(world.polled)
        await asyncio.sleep(60)
        again = world.follow_at(70)
        await asyncio.sleep(6)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
        return left, world.polled

    assert ((0, 0, 1), [0, 70]) == virtually(work)


def test_poll_under_way_is_cancelled_with_the_last_watch() -> None:
    """A poll is cancelled when no watch waits for it."""

    async def work() -> Any:
        world = World((0, {}), seconds=1.0)
        watching = world.follow_at(0)
        await asyncio.sleep(0.5)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await asyncio.sleep(0)
        return world.left, world.watches.pollers

    assert (1, 0) == virtually(work)


# ends


@pytest.mark.parametrize(
    "reason",
    [
        Reason.UPSTREAM_THROTTLED,
        Reason.UPSTREAM_INTERNAL,
        Reason.UPSTREAM_TIMEOUT,
        Reason.UPSTREAM_CONNECTION,
        Reason.GATEWAY_CREDENTIALS_UNAVAILABLE,
        Reason.GATEWAY_OVERLOADED,
    ],
)
def test_failure_that_may_pass_does_not_end_a_watch(reason: Reason) -> None:
    """The poller polls again after 1 s, then 2 s and so on, and then as before."""

    async def work() -> Any:
        life = ((0, {"name": "a"}), (4, failure(reason)), (11, {"name": "b"}))
        world = World(*life, (17, {"status": "COMPLETED"}))
        with capture_logs() as log:
            return await world.follow(), world.polled, log

    seen, polled, log = virtually(work)
    assert [(0, "a"), (12, "b"), (17, ""), (17, "end")] == seen
    assert [0, 5, 6, 8, 12, 17] == polled
    assert [("poll_failed", reason.name, at) for at in (1, 2, 3)] == [
        (each["event"], each["reason"], each["failures"]) for each in log
    ]


@pytest.mark.guarantee("watch-failures")
@pytest.mark.parametrize("reason", sorted(IN_DOUBT, key=lambda each: each.name))
def test_failure_in_doubt_ends_a_watch_only_if_it_lasts(reason: Reason) -> None:
    """An answer that may be a proxy's ends a watch only after a minute."""

    async def work() -> Any:
        life = ((0, {"name": "a"}), (4, failure(reason)), (30, {"name": "b"}))
        world = World(*life, (40, failure(reason)))
        return await world.follow()

    assert [(0, "a"), (36, "b"), (104, reason)] == virtually(work)


def test_first_fetch_retries_a_failure_in_doubt() -> None:
    """It returns an answer that comes within a minute, else it raises the error."""

    async def work() -> Any:
        error = failure(Reason.UPSTREAM_MALFORMED_RESPONSE)
        world = World((0, error), (30, {"name": "b"}), (40, error))
        answer = await world.first_fetch()
        await asyncio.sleep(1040 - now())
        with pytest.raises(GatewayError) as refusal:
            await world.first_fetch()
        return answer.run.name, refusal.value.reason, now()

    assert ("b", Reason.UPSTREAM_MALFORMED_RESPONSE, 1103) == virtually(work)


def test_every_upstream_reason_of_unknown_origin_is_in_doubt() -> None:
    """Upstream reasons with the code INTERNAL or UNKNOWN may be caused by a proxy."""
    assert {
        each
        for each in Reason
        if each.name.startswith("UPSTREAM_")
        and each.value.code in (code_pb2.INTERNAL, code_pb2.UNKNOWN)
    } == IN_DOUBT


def test_retry_delay_of_an_error_lengthens_the_back_off() -> None:
    """An error's longer delay counts; the back-off itself is at most a minute."""

    async def work() -> Any:
        error = failure(Reason.UPSTREAM_THROTTLED, retry_delay_seconds=3.0)
        world = World((0, error), (200, {"status": "FAILED"}))
        await world.follow()
        return world.polled

    polled = virtually(work)
    gaps = [after - before for before, after in pairwise(polled)]
    assert [3, 3, 4, 8, 16, 32, 60, 60, 60] == gaps[:9]


def test_new_watch_does_not_wait_for_a_long_back_off() -> None:
    """After many failures, a poll is made one second after a new watch begins."""

    async def work() -> Any:
        error = failure(Reason.UPSTREAM_INTERNAL)
        world = World((0, error), (124, {"name": "a", "status": "FAILED"}))
        patient = world.follow_at(0)
        return await world.follow_at(130), await patient, world.polled

    seen, patient, polled = virtually(work)
    assert [(131, "a"), (131, "end")] == seen == patient
    assert [0, 1, 3, 7, 15, 31, 63, 123, 131] == polled


@pytest.mark.parametrize(
    "reason",
    [
        Reason.UPSTREAM_ACCESS_DENIED,
        Reason.RUN_NOT_FOUND,
        Reason.UPSTREAM_VALIDATION,
        Reason.GATEWAY_CREDENTIALS_INVALID,
    ],
)
def test_final_error_ends_every_watch(reason: Reason) -> None:
    """All watches raise it; the next watch polls again."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (4, failure(reason)), (6, {"name": "b"}))
        seen = await asyncio.gather(*(world.follow() for _ in range(3)))
        await asyncio.sleep(1)
        with world.watches.watch(QUERY, EVERYTHING) as watch:
            body = await watch.next()
        return seen, body

    seen, body = virtually(work)
    assert [[(0, "a"), (5, reason)]] * 3 == seen
    assert "b" == WatchRunResponse.FromString(body).run.name


def test_watch_knows_the_attempts_of_its_last_poll() -> None:
    """A watch that ends with a poll's error has the attempts of this poll."""

    async def work() -> Any:
        world = World((0, failure(Reason.RUN_NOT_FOUND)))
        with (
            world.watches.watch(QUERY, EVERYTHING) as watch,
            pytest.raises(GatewayError),
        ):
            await watch.next()
        return watch.upstream

    assert UpstreamInfo(attempts=1) == virtually(work)


def test_bug_ends_a_watch_and_is_logged() -> None:
    """No watch waits for a poll that failed with another exception."""

    async def work() -> Any:
        with capture_logs() as log:
            return await World((0, ValueError("a bug"))).follow(), log

    seen, log = virtually(work)
    assert [(0, Reason.GATEWAY_INTERNAL)] == seen
    assert [("bug", QUERY.id)] == [(each["event"], each["runId"]) for each in log]


@pytest.mark.parametrize(
    ("uuid", "first", "second", "expected"),
    [
        pytest.param("", "1", "2", ["1", Reason.RUN_REPLACED], id="changed"),
        pytest.param("1", "2", "2", [Reason.RUN_REPLACED], id="not-the-one-asked-for"),
        pytest.param("1", "1", "2", ["1", Reason.RUN_REPLACED], id="resumed"),
        pytest.param("1", "", "1", ["", "1", "end"], id="unknown-at-first"),
        pytest.param("", "", "2", ["", "2", "end"], id="known-later"),
    ],
)
def test_another_run_under_the_id_ends_a_watch(
    uuid: str, first: str, second: str, expected: list[Any]
) -> None:
    """If the uuid changes, the state of the new run isn't returned."""

    async def work() -> Any:
        world = World((0, {"uuid": first}), (5, {"uuid": second, "status": "FAILED"}))
        return await world.follow(uuid=uuid, of=lambda run: run.uuid)

    assert expected == [what for _, what in virtually(work)]


def test_uuid_is_checked_even_if_a_mask_leaves_it_out() -> None:
    """A mask hides the uuid from the caller, not from the watch."""

    async def work() -> Any:
        world = World((0, {"uuid": "1"}), (5, {"uuid": "2"}))
        return await world.follow(selection=Selection(frozenset({"name"})), uuid="1")

    assert [(0, ""), (5, Reason.RUN_REPLACED)] == virtually(work)


def test_watch_ends_when_its_time_is_over() -> None:
    """Each watch ends at its own time; the others go on."""

    async def work() -> Any:
        world = World((0, {"name": "a"}), (9, {"status": "FAILED"}))
        return await asyncio.gather(world.follow(seconds=8), world.follow())

    assert [
        [(0, "a"), (8, "late")],
        [(0, "a"), (10, ""), (10, "end")],
    ] == virtually(work)


def test_subscription_that_is_not_entered_makes_no_poll() -> None:
    """Polls begin with the first subscription that is entered."""

    async def work() -> Any:
        world = World((0, {}))
        watch = world.watches.watch(QUERY, EVERYTHING)
        await asyncio.sleep(10)
        return isinstance(watch, Subscription), world.polled, world.watches.pollers

    assert (True, [], 0) == virtually(work)
