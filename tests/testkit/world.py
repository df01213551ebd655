"""Replicas that watch runs and share a store in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
from testkit.faulty_store import Server
from testkit.members import CUT, Member
from testkit.metrics import Seen
from testkit.virtual_time import now

ALL = Selection()


class Node:
    """One replica with its watches."""

    def __init__(self, world: World, *, jitter: Callable[[], float]) -> None:
        """Begin detached."""
        self._world = world
        self.member = member = Member(world.server, replicas=3, jitter=jitter)
        self.store = member.store
        self.is_publishing = True
        self.failure: GatewayError | None = None  # of its polls, whatever the run
        self.rejected = Seen()
        self.values = AnswerValues(member.names, member.sealer, rejected=self.rejected)
        self.shared = SharedWatches(
            member.replica, self.values, jitter=jitter, clock=now
        )
        self._answers = SharedAnswers(
            member.replica,
            self.values,
            Cache(max_bytes=0),
            max_age_seconds=60,
            clock=now,
        )
        self.watches = Watches(
            self, polls=self, interval_seconds=5.0, leases=self.shared, clock=now
        )
        self._watching: set[asyncio.Task[Any]] = set()

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:  # noqa: ARG002  # the shape of a source
        """Fetch from HealthOmics, and publish what it answers."""
        answer = await self._world.fetch(query, self)
        if self.is_publishing:
            self._answers.put(query, answer)
        return answer

    def watch(
        self, run_id: str, *, at: float = 0.0, **fields: Any
    ) -> asyncio.Task[Any]:
        """Begin to watch a run at second 1000 + `at`; return its states and times."""
        task = self.member.process.start(self._watch(run_id, at, fields))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
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

    def subscriptions(self) -> list[str]:
        """Return the names that the store has a subscription of this replica for."""
        subscribers = self._world.server.memory._subscribers  # noqa: SLF001  # has no other reader
        return [name for name, by in subscribers.items() if self.store.receive in by]

    async def kill(self) -> None:
        """End the process without a word to the store."""
        self.store.fault = CUT
        self.member.kill()
        await asyncio.gather(*self._watching, return_exceptions=True)


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
        self.server = Server()
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
