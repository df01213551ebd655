"""The states of a watched run, and the responses that are made from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics.v1.run_service_pb2 import WatchRunResponse

if TYPE_CHECKING:
    from healthomics_gateway.runs.field_mask import Selection
    from healthomics_gateway.runs.source import Answer
    from healthomics_gateway.telemetry.spans import Origin

TERMINAL = frozenset(
    {
        RunStatus.RUN_STATUS_COMPLETED,
        RunStatus.RUN_STATUS_FAILED,
        RunStatus.RUN_STATUS_CANCELLED,
        RunStatus.RUN_STATUS_DELETED,
    }
)
MAX_UNTAKEN = 4  # states that a slow subscriber may be behind; then it gets the newest
MAX_VIEWS = 16  # selections of a state whose responses are kept
DIGEST_BYTES = 16


class View(NamedTuple):
    """An encoded response: the members of a state that a selection contains."""

    body: bytes  # the encoded response
    digest: bytes  # equal for states that look the same through the selection


class State:
    """One state of a run, and the responses that were made of it."""

    __slots__ = ("_views", "digest", "number", "origin", "read_at", "run")

    def __init__(
        self,
        number: int,
        run: Run,
        digest: bytes,
        *,
        read_at: float,
        origin: Origin | None = None,
    ) -> None:
        self.number = number
        self.read_at = read_at  # when it was first read
        self.run = run
        self.digest = digest
        self.origin = origin  # of the first answer that had it
        self._views: dict[Selection, View] = {}

    def again(self, run: Run) -> State:
        """Return this state as it was read again: with this run, without responses."""
        return State(
            self.number, run, self.digest, read_at=self.read_at, origin=self.origin
        )

    def kept(self, selection: Selection) -> View | None:
        """Return the view if it was made before, or `None`."""
        return self._views.get(selection)

    def view(self, selection: Selection) -> View:
        """Return the view of a selection; the first `MAX_VIEWS` are kept."""
        view = self._views.get(selection)
        if view is None:
            run = selection.of(self.run)
            body = WatchRunResponse(run=run).SerializeToString()
            view = View(body, self.digest if run is self.run else digest_of(run))
            if len(self._views) < MAX_VIEWS:
                self._views[selection] = view
        return view


class Encoder:
    """Makes the views of one run's states, at most one in a pass of the event loop.

    Each subscriber may have a selection of its own, and other calls wait meanwhile.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def view(self, state: State, selection: Callable[[], Selection]) -> View:
        """Return the view of a state through what `selection` returns in the end.

        What is withheld may change while a view waits, so the selection is asked for
        after the wait.
        """
        if kept := state.kept(selection()):
            return kept
        await self._lock.acquire()
        asyncio.get_running_loop().call_soon(self._lock.release)  # in the next pass
        return state.view(selection())


class History:
    """The newest state of a run, and earlier ones that some subscriber hasn't taken."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states: list[State] = []  # in order, with consecutive numbers

    def add(self, answer: Answer, *, at: float, taken: Iterable[int | None]) -> None:
        """Add a run that was read `at` a time: a new state, or the newest one again.

        `taken` are the numbers of the last states that the subscribers have taken.
        """
        run = answer.run
        digest = digest_of(run)
        newest = self._states[-1] if self._states else None
        if newest and newest.digest == digest:
            self._states[-1] = newest.again(run)
            return
        least = min((each for each in taken if each is not None), default=inf)
        untaken = [each for each in self._states if each.number > least]
        number = newest.number + 1 if newest else 0
        state = State(number, run, digest, read_at=at, origin=answer.origin)
        self._states = [*untaken[1 - MAX_UNTAKEN :], state]

    def after(self, taken: int | None) -> State | None:
        """Return the state after number `taken`, or `None` if there is none yet.

        Return the newest if `taken` is `None`, or if the state is no longer kept.
        """
        if not self._states:
            return None
        newest, oldest = self._states[-1], self._states[0]
        if taken is None:
            return newest
        if taken >= newest.number:
            return None
        index = taken + 1 - oldest.number
        return self._states[index] if index >= 0 else newest


def digest_of(run: Run) -> bytes:
    """Return a digest of a run; `observe_time` makes no difference."""
    timeless = Run()
    timeless.CopyFrom(run)
    timeless.ClearField("observe_time")
    written = timeless.SerializeToString(deterministic=True)
    return blake2b(written, digest_size=DIGEST_BYTES).digest()
