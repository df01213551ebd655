"""One poller for each watched run, many readers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Self

import structlog

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.errors import Advice, GatewayError, Reason
from healthomics_gateway.runs import Caller, OneCall

if TYPE_CHECKING:
    from healthomics_gateway.runs import Answer, Call, RunQuery, RunSource
    from healthomics_gateway.selection import Selection

TERMINAL = frozenset(
    {
        RunStatus.RUN_STATUS_COMPLETED,
        RunStatus.RUN_STATUS_FAILED,
        RunStatus.RUN_STATUS_CANCELLED,
        RunStatus.RUN_STATUS_DELETED,
    }
)
PASSING_SHARE = 0.5  # of the usual period, where a run passes through in minutes
PASSING = frozenset({RunStatus.RUN_STATUS_STARTING, RunStatus.RUN_STATUS_STOPPING})
MAX_UNTAKEN = 4  # states that a slow reader may be behind; then it gets the newest
BACKOFF_SECONDS = 1.0  # after a failure that may pass, doubled by each that follows
MAX_BACKOFF_SECONDS = 60.0
DIGEST_BYTES = 16
WAKEN_AT_ONCE = 256  # readers

_log = structlog.get_logger("watch")


class Watches:
    """Asks for each watched run now and then, however many watch it.

    It is a source too: the answers that it passes on save the next poll.
    """

    def __init__(
        self,
        runs: RunSource,
        *,
        polls: RunSource,
        interval_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Pass calls on to `runs`; poll by `polls`, every `interval_seconds`."""
        self._runs = runs
        self._polls = polls
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._pollers: dict[RunQuery, _Poller] = {}

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Answer the run, and let those who watch it have the answer too."""
        answer = await self._runs.get_run(query, call=call)
        if poller := self._pollers.get(query):
            poller.learn(answer)
        return answer

    def watch(
        self,
        query: RunQuery,
        *,
        selection: Selection,
        uuid: str = "",
        period_seconds: float | None = None,
        seconds: float = inf,
    ) -> Reader:
        """Give a reader to follow a run with; it lasts from when it is entered.

        After `seconds` it raises TimeoutError. `period_seconds` is its own period,
        `uuid` the identity that its caller has seen.
        """
        return Reader(
            lambda: self._poller(query),
            selection=selection,
            uuid=uuid,
            period_seconds=period_seconds,
            since=self._clock() - self._interval_seconds,
            seconds=seconds,
        )

    def _poller(self, query: RunQuery) -> _Poller:
        poller = self._pollers.get(query)
        if poller is None:
            poller = self._pollers[query] = _Poller(
                query,
                self._polls,
                interval_seconds=self._interval_seconds,
                clock=self._clock,
                forget=self._forget,
            )
        return poller

    @property
    def pollers(self) -> int:
        """How many runs are watched."""
        return len(self._pollers)

    def _forget(self, poller: _Poller) -> None:
        if self._pollers.get(poller.query) is poller:
            del self._pollers[poller.query]


class Reader:
    """One watch: gives what its caller hasn't seen yet. There can be thousands."""

    __slots__ = (
        *("_alarm", "_digest", "_is_done", "_is_late", "_join", "_poller"),
        *("_seconds", "_selection", "_timer", "_uuid"),
        *("period_seconds", "since", "taken"),
    )
    _poller: _Poller

    def __init__(
        self,
        join: Callable[[], _Poller],
        *,
        selection: Selection,
        uuid: str,
        period_seconds: float | None,
        since: float,
        seconds: float,
    ) -> None:
        """Read from what `join` gives, at first a state seen at `since` or later."""
        self._join = join
        self._selection = selection
        self._uuid = uuid
        self.period_seconds = period_seconds
        self.since = since
        self._seconds = seconds
        self.taken: int | None = None  # the number of the last state that it has seen
        self._digest = b""  # of what it gave last
        self._is_done = False
        self._is_late = False
        self._alarm: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Begin; the first who comes begins the polls."""
        if self._seconds < inf:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._expire)
        self._poller = self._join()
        self._poller.join(self)
        return self

    def __exit__(self, *_exc: object) -> None:
        """End; the last who leaves ends the polls."""
        self._poller.leave(self)
        if self._timer:
            self._timer.cancel()

    async def next(self, facts: dict[str, str]) -> Run | None:
        """Give the next state that its caller sees a difference in, None at the end.

        Raises TimeoutError when its time is over, and otherwise what ends the watch;
        `facts` then has what the last poll learnt.
        """
        while not self._is_done:
            if self._is_late:
                raise TimeoutError
            state = self._poller.state_for(self)
            if state:
                self.taken = state.number
                self._identify(state.run, facts)
                self._is_done = state.run.status in TERMINAL
                run, digest = state.view(self._selection)
                if digest != self._digest:
                    self._digest = digest
                    return run
            elif self._poller.failure:
                facts |= self._poller.facts
                raise self._poller.failure.with_traceback(None)
            else:
                await self._woken()
        return None

    def wake(self) -> None:
        """Look again."""
        if self._alarm and not self._alarm.done():
            self._alarm.set_result(None)

    def _expire(self) -> None:
        self._is_late = True
        self.wake()

    async def _woken(self) -> None:
        self._alarm = asyncio.get_running_loop().create_future()
        try:
            await self._alarm
        finally:
            self._alarm = None

    def _identify(self, run: Run, facts: dict[str, str]) -> None:
        """See that it is still the same run: ids are used again."""
        if self._uuid and run.uuid and run.uuid != self._uuid:
            facts |= self._poller.facts
            raise GatewayError(Reason.RUN_REPLACED)
        self._uuid = self._uuid or run.uuid


class _Poller:
    """Asks for one run as long as somebody reads it."""

    __slots__ = (
        *("_answer", "_clock", "_due", "_failures", "_forget", "_interval_seconds"),
        *("_is_over", "_period_seconds", "_poll", "_polls", "_readers", "_seen"),
        *("_states", "_timer"),
        *("facts", "failure", "query"),
    )

    def __init__(
        self,
        query: RunQuery,
        polls: RunSource,
        *,
        interval_seconds: float,
        clock: Callable[[], float],
        forget: Callable[[_Poller], None],
    ) -> None:
        self.query = query
        self._polls = polls
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._forget = forget
        self._readers: dict[Reader, None] = {}
        self._states: list[_State] = []  # that some reader hasn't taken, and the newest
        self._answer: Answer | None = None  # the last
        self._seen = -inf  # when it came
        self._period_seconds = inf  # the shortest that a reader wants
        self._due = inf  # when to ask
        self._failures = 0  # in a row
        self._timer: asyncio.TimerHandle | None = None  # until it is due
        self._poll: asyncio.Task[None] | None = None  # under way
        self._is_over = False
        self.failure: GatewayError | None = None
        self.facts: dict[str, str] = {}  # of the last poll

    def join(self, reader: Reader) -> None:
        """Serve this reader too."""
        self._readers[reader] = None
        self._period_seconds = min(self._period_seconds, self._period_of(reader))
        if self._failures:
            due = self._clock() + BACKOFF_SECONDS
        elif self._seen >= reader.since:
            due = self._seen + self._period_seconds
        else:
            due = -inf
        self._ask_at(min(due, self._due))

    def leave(self, reader: Reader) -> None:
        """Serve it no more."""
        del self._readers[reader]
        if not self._readers:
            self._end()
            if self._poll:
                self._poll.cancel()

    def state_for(self, reader: Reader) -> _State | None:
        """Give the next state, or the newest to who is too far behind.

        Who has taken none gets the newest, unless that is older than it wants.
        """
        if not self._states:
            return None
        newest, oldest = self._states[-1], self._states[0]
        if reader.taken is None:
            return newest if self._seen >= reader.since else None
        if reader.taken >= newest.number:
            return None
        ahead = reader.taken + 1 - oldest.number
        return self._states[ahead] if ahead >= 0 else newest

    def learn(self, answer: Answer) -> None:
        """Take an answer, from whomever; many may share it and tell of it in turn."""
        self._seen = self._clock()
        self._failures = 0
        if answer is not self._answer:
            self._answer = answer
            self._take(answer.run)
            self._period_seconds = min(map(self._period_of, self._readers), default=inf)
        self._ask_at(self._seen + self._period_seconds)

    def _take(self, run: Run) -> None:
        """Keep a state, if it is one; wake those who wait."""
        digest = _digest(run)
        newest = self._states[-1] if self._states else None
        if newest and newest.digest == digest:
            self._states[-1] = _State(newest.number, run, digest)
        else:
            number = newest.number + 1 if newest else 0
            self._states = [*self._untaken(), _State(number, run, digest)]
        if run.status in TERMINAL:
            self._end()
        self._wake_readers()

    def _ask_at(self, due: float) -> None:
        """Ask then; a poll that is under way plans the next itself."""
        self._due = due
        if self._poll is None and not self._is_over:
            self._unplan()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(due - self._clock(), 0), self._begin)

    def _unplan(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._timer = None
        self._poll = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        call = OneCall(inf, caller=Caller(self.query.id), is_poll=True)
        self.facts = call.facts
        try:
            answer = await self._polls.get_run(self.query, call=call)
        except GatewayError as error:
            self._poll = None
            if error.reason.value.advice is Advice.STOP:
                self._fail(error)
            else:
                self._back_off(error)
        except Exception as error:  # noqa: BLE001  # else its readers wait for ever
            _log.error("bug", runId=self.query.id, exc_info=error)
            self._fail(GatewayError(Reason.GATEWAY_INTERNAL))
        else:
            self._poll = None
            self.learn(answer)

    def _period_of(self, reader: Reader) -> float:
        if reader.period_seconds is not None:
            return reader.period_seconds
        is_passing = self._answer and self._answer.run.status in PASSING
        return self._interval_seconds * (PASSING_SHARE if is_passing else 1.0)

    def _back_off(self, error: GatewayError) -> None:
        seconds = min(BACKOFF_SECONDS * 2.0**self._failures, MAX_BACKOFF_SECONDS)
        self._failures += 1
        self._ask_at(self._clock() + max(seconds, error.retry_delay_seconds))
        _log.info(
            "poll_failed",
            runId=self.query.id,
            reason=error.reason.name,
            failures=self._failures,
        )

    def _untaken(self) -> list[_State]:
        least = min(
            (each.taken for each in self._readers if each.taken is not None),
            default=inf,
        )
        untaken = [each for each in self._states if each.number > least]
        return untaken[1 - MAX_UNTAKEN :]

    def _fail(self, error: GatewayError) -> None:
        self.failure = error
        self._end()
        self._wake_readers()

    def _wake_readers(self) -> None:
        self._wake(tuple(self._readers), 0)

    def _wake(self, readers: tuple[Reader, ...], first: int) -> None:
        """Wake so many and then the next: there can be thousands, and others wait."""
        next_ = first + WAKEN_AT_ONCE
        for reader in readers[first:next_]:
            reader.wake()
        if next_ < len(readers):
            asyncio.get_running_loop().call_soon(self._wake, readers, next_)

    def _end(self) -> None:
        """Ask no more; who comes now begins anew."""
        self._is_over = True
        self._unplan()
        self._forget(self)


class _State:
    """One state of a run, and what each selection makes of it."""

    __slots__ = ("_views", "digest", "number", "run")

    def __init__(self, number: int, run: Run, digest: bytes) -> None:
        self.number = number
        self.run = run
        self.digest = digest
        self._views: dict[Selection, tuple[Run, bytes]] = {}

    def view(self, selection: Selection) -> tuple[Run, bytes]:
        """Give what a caller receives, and its digest; made once for all alike."""
        view = self._views.get(selection)
        if view is None:
            run = selection.of(self.run)
            digest = self.digest if run is self.run else _digest(run)
            view = self._views[selection] = run, digest
        return view


def _digest(run: Run) -> bytes:
    """Tell two states apart; when they were observed makes no difference."""
    timeless = Run()
    timeless.CopyFrom(run)
    timeless.ClearField("observe_time")
    written = timeless.SerializeToString(deterministic=True)
    return blake2b(written, digest_size=DIGEST_BYTES).digest()
