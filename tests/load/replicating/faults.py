"""The faults, when they happen, and for how long afterwards each may be noticed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from load.replicating.fleet import Fleet
from load.replicating.store import Line
from testkit.valkey_server import ValkeyServer

SLOW_SECONDS = 0.2  # a command, at the slowed store


@dataclass(frozen=True, slots=True)
class Scene:
    """What the faults happen to."""

    fleet: Fleet
    valkey: ValkeyServer | None = None
    line: Line | None = None

    async def kill_store(self) -> None:
        """End the store with SIGKILL, with all that it holds."""
        self._store.kill()

    async def start_store(self) -> None:
        """Start the store again at its port."""
        self._store.start()

    async def freeze_store(self) -> None:
        """Stop the store: it accepts connections, and answers nothing."""
        self._store.freeze()

    async def thaw_store(self) -> None:
        """Let the store continue."""
        self._store.thaw()

    async def flush_store(self) -> None:
        """Remove everything that the store holds."""
        async with self._store.client() as client:
            await client.flushall()

    async def slow_store(self) -> None:
        """Delay each command to the store."""
        assert self.line
        self.line.delay_seconds = SLOW_SECONDS

    async def hurry_store(self) -> None:
        """Delay no more commands."""
        assert self.line
        self.line.delay_seconds = 0.0

    @property
    def _store(self) -> ValkeyServer:
        assert self.valkey
        return self.valkey


Act = Callable[[Scene], Awaitable[None]]


async def _nothing(_scene: Scene) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: what begins and ends it, in seconds since the load began."""

    name: str
    at: float
    lasts: float
    begin: Act
    end: Act = _nothing
    # The store's faults may lower the rate until all replicas use the store again. A
    # process that has gone may lower it for so long after the begin of its fault: then
    # the others use its share too.
    low_seconds: float | None = None


# Nobody knows whether a replica that is silent still sends requests on its own, so its
# share of the quota is kept for it for this long.
KEPT_SECONDS = 10.0
# Until the callers of a dead process have reached another one. A process that starts
# uses one of two cores for about as long.
EDGE_SECONDS = 2.0
# Until a replica that lost the store has it back: it tries every second at most, and
# needs two answers.
STORE_BACK_SECONDS = 3.0
# Until another replica polls the runs of one that has gone.
TAKEOVER_SECONDS = 5.0


def _killed(at: float, lasts: float, number: int) -> Fault:
    return Fault(
        "replica killed",
        at,
        lasts,
        lambda scene: scene.fleet.kill(number),
        lambda scene: scene.fleet.again(number),
        low_seconds=KEPT_SECONDS + EDGE_SECONDS,
    )


def _frozen(at: float, lasts: float, number: int, name: str) -> Fault:
    return Fault(
        f"{name} frozen",
        at,
        lasts,
        lambda scene: scene.fleet.freeze(number),
        lambda scene: scene.fleet.thaw(number),
        low_seconds=KEPT_SECONDS + EDGE_SECONDS,
    )


def _worker_killed(at: float, lasts: float, number: int) -> Fault:
    """Kill a worker; the supervisor knows at once that it has gone."""
    return replace(
        _killed(at, lasts, number), name="worker killed", low_seconds=EDGE_SECONDS
    )


REPLICAS: Sequence[Fault] = (
    _killed(12, 18, 2),
    _frozen(34, 10, 1, "replica"),
    Fault("store killed", 52, 5, Scene.kill_store, Scene.start_store),
    Fault("store frozen", 66, 5, Scene.freeze_store, Scene.thaw_store),
    Fault("store flushed", 80, 0, Scene.flush_store),
    Fault("store slowed", 90, 8, Scene.slow_store, Scene.hurry_store),
)
REPLICAS_SHORT: Sequence[Fault] = (
    _killed(6, 2, 2),
    Fault("store killed", 12, 1, Scene.kill_store, Scene.start_store),
)
WORKERS: Sequence[Fault] = (
    _worker_killed(20, 5, 1),
    _frozen(45, 10, 2, "worker"),
    _worker_killed(75, 5, 0),
)
WORKERS_SHORT: Sequence[Fault] = (_worker_killed(7, 4, 1),)


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that has happened, in seconds since the load began."""

    name: str
    begun: float
    ended: float
    low_seconds: float | None = None  # as of `Fault`


Span = tuple[float, float]


def rate_spans(faults: Sequence[Happened]) -> list[Span]:
    """Return when less than the rate may be used."""
    spans: list[Span] = []
    for each in faults:
        if each.low_seconds is None:
            spans.append((each.begun, each.ended + STORE_BACK_SECONDS))
        else:
            spans.append((each.begun, each.begun + each.low_seconds))
            spans.append((each.ended, each.ended + EDGE_SECONDS))
    return spans


def poll_spans(faults: Sequence[Happened], period_seconds: float) -> list[Span]:
    """Return when a run may be polled more often than once a period.

    The watches of a process that has gone begin again at others, which read the run for
    them. A process that continues makes the polls that wait for their turns in it.
    """
    spans: list[Span] = []
    moved = TAKEOVER_SECONDS + period_seconds
    for each in faults:
        if each.low_seconds is None:
            back = STORE_BACK_SECONDS + period_seconds
            spans.append((each.begun, each.ended + back))
        else:
            spans += [(at, at + moved) for at in (each.begun, each.ended)]
    return spans


def outside(spans: Sequence[Span], first: float, last: float) -> list[Span]:
    """Return the parts of a time that are in none of the spans."""
    left = []
    for begun, ended in sorted(spans):
        if begun > first:
            left.append((first, min(begun, last)))
        first = max(first, ended)
        if first >= last:
            break
    else:
        left.append((first, last))
    return [each for each in left if each[0] < each[1]]
