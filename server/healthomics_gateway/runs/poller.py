"""One poller: it asks for a run now and then, as long as somebody reads it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Protocol

import structlog

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import NOT_ASKED, Caller, UpstreamInfo

if TYPE_CHECKING:
    from healthomics_gateway.runs.field_mask import Selection
    from healthomics_gateway.runs.source import Answer, RunQuery, RunSource
from healthomics_gateway.runs.poll_failures import BACKOFF_SECONDS, Failures
from healthomics_gateway.runs.watch_state import State, View, digest_of

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
WAKEN_AT_ONCE = 256  # readers

_log = structlog.get_logger("poll")


class Reader(Protocol):
    """Who reads: what its poller needs to know."""

    name: str  # of its caller, whose turn a poll may have
    since: float  # a first state may have been seen then, or later
    taken: int | None  # the number of the last state that it has seen
    period_seconds: float | None  # its own wish

    def wake(self) -> None:
        """Look again."""
        ...


@dataclass(slots=True, eq=False)
class Poll:
    """A call on behalf of the callers that watch its run.

    Callers take turns, and the runs that one of them watches.
    """

    callers: tuple[Caller, ...]
    deadline: float = inf
    is_poll: bool = True
    is_sent: bool = False
    upstream: UpstreamInfo = NOT_ASKED

    def sent(self) -> None:
        """Note that its request is about to be sent."""
        self.is_sent = True


class Poller:
    """Asks for one run as long as somebody reads it."""

    __slots__ = (
        *("_answer", "_clock", "_due", "_failures", "_forget", "_interval_seconds"),
        *("_call", "_is_over", "_joint", "_making", "_names", "_period_seconds"),
        *("_poll", "_polls", "_readers", "_seen", "_states", "_timer"),
        *("failure", "query", "upstream"),
    )

    def __init__(
        self,
        query: RunQuery,
        polls: RunSource,
        *,
        interval_seconds: float,
        clock: Callable[[], float],
        forget: Callable[[Poller], None],
    ) -> None:
        self.query = query
        self._polls = polls
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._forget = forget
        self._readers: dict[Reader, None] = {}
        self._names: Counter[str] = Counter()  # of their callers
        self._states: list[State] = []  # that some reader hasn't taken, and the newest
        self._answer: Answer | None = None  # the last
        self._seen = -inf  # when it came
        self._period_seconds = inf  # the shortest that a reader wants
        self._due = inf  # when to ask
        self._failures = Failures()
        self._timer: asyncio.TimerHandle | None = None  # until it is due
        self._poll: asyncio.Task[None] | None = None  # under way
        self._call: Poll | None = None  # of the newest poll
        self._joint: set[asyncio.Task[None]] = set()  # calls that share that poll
        self._is_over = False
        self._making = asyncio.Lock()
        self.failure: GatewayError | None = None
        self.upstream = NOT_ASKED  # of the last poll

    def join(self, reader: Reader) -> None:
        """Serve this reader too."""
        self._readers[reader] = None
        self._names[reader.name] += 1
        if self._names[reader.name] == 1:
            self._speed_up(reader.name)
        self._period_seconds = min(self._period_seconds, self._period_of(reader))
        if self._failures.number:
            due = self._clock() + BACKOFF_SECONDS
        elif self._seen >= reader.since:
            due = self._seen + self._period_seconds
        else:
            due = -inf
        self._ask_at(min(due, self._due))

    def leave(self, reader: Reader) -> None:
        """Serve it no more."""
        del self._readers[reader]
        self._names -= Counter((reader.name,))
        if not self._readers:
            self._end()
            for task in (*self._joint, *((self._poll,) if self._poll else ())):
                task.cancel()

    def _speed_up(self, name: str) -> None:
        """Let a poll that waits for its turn have that of one more caller."""
        if self._poll and self._call and not self._call.is_sent:
            task = asyncio.create_task(self._share(name))
            self._joint.add(task)
            task.add_done_callback(self._joint.discard)

    async def _share(self, name: str) -> None:
        with suppress(GatewayError):  # the poll itself handles it
            call = Poll((Caller(name, self.query.id),))
            await self._polls.get_run(self.query, call=call)

    def state_for(self, reader: Reader) -> State | None:
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

    async def view(self, state: State, selection: Selection) -> View:
        """Return what a selection makes of a state.

        One is made in a pass of the event loop: each reader may have a selection of
        its own, and other calls wait meanwhile.
        """
        kept = state.kept(selection)
        if kept:
            return kept
        async with self._making:
            return state.view(selection)

    def learn(self, answer: Answer) -> None:
        """Take an answer, from whomever; many may share it and tell of it in turn."""
        self._seen = self._clock()
        self._failures = Failures()
        if answer is not self._answer:
            self._answer = answer
            self._take(answer.run)
            self._period_seconds = min(map(self._period_of, self._readers), default=inf)
        self._ask_at(self._seen + self._period_seconds)

    def _take(self, run: Run) -> None:
        """Keep a state, if it is one; wake those who wait."""
        digest = digest_of(run)
        newest = self._states[-1] if self._states else None
        if newest and newest.digest == digest:
            self._states[-1] = State(newest.number, run, digest)
        else:
            number = newest.number + 1 if newest else 0
            self._states = [*self._untaken(), State(number, run, digest)]
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
        callers = tuple(Caller(name, self.query.id) for name in self._names)
        call = self._call = Poll(callers)
        try:
            answer = await self._polls.get_run(self.query, call=call)
            self._poll, self.upstream = None, call.upstream
            self.learn(answer)
        except GatewayError as error:
            self._poll, self.upstream = None, call.upstream
            if self._failures.is_end(error, self._clock()):
                self._fail(error)
            else:
                self._back_off(error)
        except Exception as error:  # noqa: BLE001  # else its readers wait for ever
            _log.error("bug", runId=self.query.id, exc_info=error)
            self._fail(GatewayError(Reason.GATEWAY_INTERNAL))

    def _period_of(self, reader: Reader) -> float:
        if reader.period_seconds is not None:
            return reader.period_seconds
        is_passing = self._answer and self._answer.run.status in PASSING
        return self._interval_seconds * (PASSING_SHARE if is_passing else 1.0)

    def _back_off(self, error: GatewayError) -> None:
        self._ask_at(self._clock() + self._failures.backoff_seconds(error))
        _log.info(
            "poll_failed",
            runId=self.query.id,
            reason=error.reason.name,
            failures=self._failures.number,
        )

    def _untaken(self) -> list[State]:
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
