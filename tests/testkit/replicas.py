"""Replicas that watch runs and share a store in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics.v1.run_service_pb2 import WatchRunResponse
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.runs.answer_values import AnswerValues
from healthomics_gateway.runs.cache import Cache
from healthomics_gateway.runs.field_mask import Selection
from healthomics_gateway.runs.shared_answers import SharedAnswers
from healthomics_gateway.runs.shared_watches import SharedWatches
from healthomics_gateway.runs.source import Answer, Call, RunQuery
from healthomics_gateway.runs.subscription import SubscriptionOptions
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.shared.local import LocalStore
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.shared.store import StoreError
from testkit.metrics import Seen

ALL = Selection()


def now() -> float:
    """Return the loop's time, which begins at 1000 s."""
    return asyncio.get_running_loop().time()


class Link:
    """A replica's access to a store, which a test can cut."""

    def __init__(self, memory: MemoryStore) -> None:
        """Begin without a fault."""
        self.is_cut = False
        self.delay_seconds = self.answer_delay_seconds = 0.0  # of commands
        self.loses: Callable[[], bool] = lambda: False  # a published value
        self.names: set[str] = set()  # that are subscribed to
        self.held: list[tuple[str, bytes]] | None = None  # while the process is stopped
        self.use(memory)

    def use(self, memory: MemoryStore) -> None:
        """Use another store from now on, as after a restart."""
        self._store = LocalStore(memory)
        self.names.clear()
        self._store.deliver_to(self._pass_on)

    def deliver_to(self, deliver: Callable[[str, bytes], None]) -> None:
        """Set what gets the published values."""
        self._deliver = deliver

    def _pass_on(self, name: str, value: bytes) -> None:
        if self.held is not None:
            self.held.append((name, value))
        elif not (self.is_cut or self.loses()):
            self._deliver(name, value)

    def pass_held(self) -> None:
        """Pass on what was published while the process was stopped."""
        held, self.held = self.held or [], None
        for each in held:
            self._pass_on(*each)

    async def subscribe(self, name: str) -> None:
        """Note that a name is subscribed to."""
        await self._check()
        self.names.add(name)
        await self._store.subscribe(name)

    async def unsubscribe(self, name: str) -> None:
        """Note that a name isn't subscribed to any more."""
        await self._check()
        self.names.discard(name)
        await self._store.unsubscribe(name)

    async def _check(self) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        if self.is_cut:
            raise StoreError("the link is cut")

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a command of the store."""

        async def command(*args: Any, **fields: Any) -> Any:
            await self._check()
            answer = await getattr(self._store, name)(*args, **fields)
            await asyncio.sleep(self.answer_delay_seconds)
            return answer

        return command


class FreezableReplica(Replica):
    """A replica that asks the store for nothing while its process is stopped."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        """Begin as a process that runs."""
        super().__init__(*args, **fields)
        self.running = asyncio.Event()
        self.running.set()

    async def ask(self, command: Callable[..., Awaitable[Any]]) -> Any:
        """Ask once the process runs."""
        await self.running.wait()
        return await super().ask(command)


class Node:
    """One replica: its link to the store, and its watches."""

    def __init__(self, world: World, *, jitter: Callable[[], float]) -> None:
        """Begin detached."""
        self._world = world
        self._jitter = jitter
        self.link = Link(world.memory)
        self.replica = FreezableReplica(self.link, replicas=3, jitter=jitter, clock=now)
        self.clock_offset_seconds = 0.0
        self.is_publishing = True
        self.is_killed = False
        self.failure: GatewayError | None = None  # of its polls, whatever the run
        self.rejected = Seen()
        sealer = Sealer(
            b"secret", wall_clock=lambda: 1e9 + now() + self.clock_offset_seconds
        )
        self.names = Names(sealer, region="us-east-1", endpoint="")
        self.names.learn(account="1", identity="gateway")
        self.values = AnswerValues(self.names, sealer, rejected=self.rejected)
        self.shared = SharedWatches(self.replica, self.values, jitter=jitter, clock=now)
        self._answers = SharedAnswers(
            self.replica, self.values, Cache(max_bytes=0), max_age_seconds=60, clock=now
        )
        self.watches = Watches(
            self, polls=self, interval_seconds=5.0, leases=self.shared, clock=now
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._start_beats()

    def _start_beats(self) -> None:
        self._beats = asyncio.create_task(self.replica.follow())

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:  # noqa: ARG002  # the shape of a source
        """Fetch from HealthOmics, and publish what it answers."""
        await self.replica.running.wait()
        answer = await self._world.fetch(query, self)
        if self.is_publishing:
            self._answers.put(query, answer)
        return answer

    def watch(
        self, run_id: str, *, at: float = 0.0, **fields: Any
    ) -> asyncio.Task[Any]:
        """Begin to watch a run at second 1000 + `at`; return its states and times."""
        task = asyncio.create_task(self._watch(run_id, at, fields))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(
        self, run_id: str, at: float, fields: dict[str, Any]
    ) -> list[tuple[float, Any]]:
        await asyncio.sleep(max(1000 + at - now(), 0))
        seen: list[tuple[float, Any]] = []
        options = SubscriptionOptions(selection=lambda: ALL, **fields)
        with self.watches.watch(RunQuery(run_id), options) as watch:
            try:
                while (body := await watch.next()) is not None:
                    run = WatchRunResponse.FromString(body or b"").run
                    seen.append((round(now() - 1000, 3), run.name))
            except GatewayError as error:
                seen.append((round(now() - 1000, 3), error.reason))
            except TimeoutError:
                seen.append((round(now() - 1000, 3), "late"))
            else:
                seen.append((round(now() - 1000, 3), "end"))
        return seen

    def freeze(self) -> None:
        """Stop the process, as by SIGSTOP."""
        self.replica.running.clear()
        self.link.held = []
        self._beats.cancel()

    def wake(self) -> None:
        """Let the process go on, unless it was killed meanwhile."""
        if self.is_killed or self.replica.running.is_set():
            return
        self.replica.running.set()
        self._start_beats()
        self.link.pass_held()

    async def kill(self) -> None:
        """End the process without a word to the store."""
        self.link.is_cut = self.is_killed = True
        self._beats.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """End the beats."""
        self._beats.cancel()


class World:
    """HealthOmics, a store, and replicas.

    `life` lists members of each run, or failures, each with the second after 1000 from
    which it applies.
    """

    def __init__(
        self,
        *life: tuple[float, Any],
        seconds: float = 0.1,
        jitter: Callable[[], float] = lambda: 0.5,
    ) -> None:
        """Answer after so many seconds; begin with three replicas."""
        self.life = life
        self.seconds = seconds
        self.memory = MemoryStore(clock=now)
        self.polled: list[tuple[float, str, Node]] = []
        self.nodes = [Node(self, jitter=jitter) for _ in range(3)]

    async def attach(self) -> None:
        """Let all replicas attach and know each other, within a second."""
        await asyncio.sleep(1001 - now())

    async def fetch(self, query: RunQuery, node: Node) -> Answer:
        """Answer as HealthOmics."""
        self.polled.append((round(now() - 1000, 3), query.id, node))
        await asyncio.sleep(self.seconds)
        if node.failure:
            raise node.failure
        lived = [each for at, each in self.life if at <= now() - 1000]
        if isinstance(lived[-1], Exception):
            raise lived[-1]
        members = dict(lived[-1])
        status = RunStatus.Value(f"RUN_STATUS_{members.pop('status', 'RUNNING')}")
        run = Run(id=query.id, status=status, **members)
        run.observe_time.FromMilliseconds(round(now() * 1000))
        return Answer(run, "aws-1")

    def polls(self, run_id: str | None = None) -> list[float]:
        """Return the times of all polls of a run, or of all runs."""
        return [at for at, polled, _ in self.polled if run_id in (None, polled)]

    def pollers(self) -> list[int]:
        """Return which replica made each poll."""
        return [self.nodes.index(node) for _, _, node in self.polled]

    def wipe(self) -> None:
        """Restart the store without its state."""
        self.memory = MemoryStore(clock=now)
        for each in self.nodes:
            each.link.use(self.memory)

    def close(self) -> None:
        """End the beats of all replicas."""
        for each in self.nodes:
            each.close()
