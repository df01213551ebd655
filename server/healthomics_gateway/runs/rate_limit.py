"""A source that waits for its call's turn, then asks the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from healthomics_gateway.errors.exceptions import GatewayError, NotAskedError
from healthomics_gateway.errors.reasons import Reason

if TYPE_CHECKING:
    from healthomics_gateway.runs.scheduler import Scheduler
    from healthomics_gateway.runs.source import Answer, Call, RunQuery, RunSource


class Session(Protocol):
    """The credentials that sign what a query asks."""

    @property
    def is_ready(self) -> bool:
        """Whether a request can be signed without a wait."""
        ...

    async def ready(self) -> None:
        """Wait until a request can be signed, or raise why none can."""
        ...


class NoSession:
    """What signs nothing is always ready."""

    is_ready = True

    async def ready(self) -> None:
        """Do nothing."""


class RateLimited:
    """Asks once the call's turn has come; a throttle by HealthOmics slows the pacer.

    A call gets its credentials before it queues, so that a turn is used at once. Where
    they expire while it queues, it gets others and queues again; a call does so once,
    as credentials that expire as they arrive are no better the next time.
    """

    def __init__(
        self,
        runs: RunSource,
        pacers: Schedulers,
        *,
        session: Callable[[RunQuery], Session] = lambda _: NoSession(),
    ) -> None:
        """Wrap `runs`; each of `pacers` is an AWS account's, in this Region.

        A query keeps what `session` returns until it is answered.
        """
        self._runs = runs
        self._pacers = pacers
        self._session = session

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Wait for the turn, then ask.

        Raises UPSTREAM_THROTTLED or GATEWAY_OVERLOADED where no turn comes in time.
        """
        pacer, session = self._pacers.of(query), self._session(query)
        begun = await self._turn(pacer, session, call)
        try:
            call.sent()
            try:
                return await self._runs.get_run(query, call=call)
            finally:
                pacer.leave(begun)
        except GatewayError as error:
            if error.reason is Reason.UPSTREAM_THROTTLED:
                pacer.throttled()
            if error.fix is None:
                raise
            fixed = await error.fix()  # others needn't wait for it: the place is free
        raise fixed

    async def _turn(self, pacer: Scheduler, session: Session, call: Call) -> float:
        """Return when the turn began."""
        if not session.is_ready:
            await session.ready()
        begun = await pacer.turn(call, is_ready=lambda: session.is_ready)
        while begun is None:
            await session.ready()
            begun = await pacer.turn(call)
        return begun


class Schedulers:
    """A pacer for each AWS account that is asked, all with the same rate.

    Until it is known which account is the gateway's own there is one for all accounts:
    it exceeds the quota of none.
    """

    def __init__(self, make: Callable[[], Scheduler]) -> None:
        """Have the gateway's own; `make` gives one for another account."""
        self._make = make
        self._own = self._make()
        self._of_account: dict[str, Scheduler] | None = None  # none: one for all
        self._of_role = {"": self._own}

    def learn(self, own_account: str | None) -> None:
        """Know the gateway's own account from now on, before the first call."""
        if own_account:
            self._of_account = {own_account: self._own}
            self._of_role = {"": self._own}

    def of(self, query: RunQuery) -> Scheduler:
        """Give the pacer of the account that is asked."""
        role = query.partition.role
        return self._of_role.get(role) or self._found(role)

    def expected_wait(self, query: RunQuery, call: Call) -> float:
        """Estimate in how many seconds it would be this call's turn."""
        return self.of(query).expected_wait(call)

    def refusal(self, query: RunQuery, wait_seconds: float) -> NotAskedError:
        """Create the error of a call that can't wait so long for its turn."""
        return self.of(query).refusal(wait_seconds)

    def is_waiting(self, query: RunQuery, call: Call) -> bool:
        """Return whether a call waits for its turn, and for nothing else."""
        return self.of(query).is_waiting(call)

    async def depart(self, query: RunQuery) -> None:
        """Wait until a request may leave, which it must do at once."""
        await self.of(query).depart()

    def _found(self, role: str) -> Scheduler:
        """Find a role's pacer by its account: arn:aws:iam::123456789012:role/x."""
        if self._of_account is None:
            pacer = self._own
        else:
            account = role.split(":")[4]
            pacer = self._of_account.get(account) or self._make()
            self._of_account[account] = pacer
        self._of_role[role] = pacer
        return pacer
