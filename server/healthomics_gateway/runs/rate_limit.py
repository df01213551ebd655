"""The source that limits the rate of requests to each AWS account."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Protocol

from healthomics_gateway.errors.exceptions import GatewayError, NotAskedError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.span_records import Waiting, not_traced

if TYPE_CHECKING:
    from healthomics_gateway.runs.scheduler import Scheduler
    from healthomics_gateway.runs.source import Answer, Call, RunQuery, RunSource

OWN_ACCOUNT = "own"  # the name of the gateway's own account in `by_account`


class Session(Protocol):
    """The credentials that sign the requests of a query."""

    @property
    def is_ready(self) -> bool:
        """True if a request can be signed without a wait."""
        ...

    async def ready(self) -> None:
        """Wait until a request can be signed; raise GatewayError if it can't be."""
        ...


class NoSession:
    """A session for requests that aren't signed: it is always ready."""

    is_ready = True

    async def ready(self) -> None:
        """Do nothing."""


class RateLimited:
    """Waits for the call's turn, then asks the next source.

    A throttle by HealthOmics lowers the rate.

    A call gets its credentials before it queues, so that its turn is used at once. If
    they expire while it queues, it gets new ones and queues again. It does so only
    once: if new credentials have expired too, newer ones would as well.
    """

    def __init__(
        self,
        runs: RunSource,
        schedulers: Schedulers,
        *,
        session: Callable[[RunQuery], Session] = lambda _: NoSession(),
        waiting: Waiting = not_traced,
    ) -> None:
        """Wrap `runs`; each of `schedulers` is for one AWS account, in this Region.

        `session` is called once for each query that is asked. `waiting` returns the
        context that a call waits in for its turn.
        """
        self._runs = runs
        self._schedulers = schedulers
        self._session = session
        self._waiting = waiting

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the next source's answer, once the call has had its turn.

        Raises UPSTREAM_THROTTLED or GATEWAY_OVERLOADED if its turn won't come in time.
        """
        scheduler = self._schedulers.of(query)
        scheduler.users += 1
        try:
            return await self._get_run(query, call, scheduler)
        finally:
            scheduler.users -= 1

    async def _get_run(
        self, query: RunQuery, call: Call, scheduler: Scheduler
    ) -> Answer:
        session = self._session(query)
        with self._waiting(call):
            begun = await self._turn(scheduler, session, call)
        try:
            call.sent()
            try:
                return await self._runs.get_run(query, call=call)
            finally:
                scheduler.leave(begun)
        except GatewayError as error:
            if error.reason is Reason.UPSTREAM_THROTTLED:
                scheduler.throttled()
            if error.fix is None:
                raise
            fixed = await error.fix()  # the place is free for others meanwhile
        raise fixed

    async def _turn(self, scheduler: Scheduler, session: Session, call: Call) -> float:
        """Wait for the turn of a call; return the time at which it began."""
        if not session.is_ready:
            await session.ready()
        begun = await scheduler.turn(call, is_ready=lambda: session.is_ready)
        while begun is None:
            await session.ready()
            begun = await scheduler.turn(call)
        return begun


class Schedulers:
    """A scheduler for each AWS account, all with the same rate.

    Until the gateway's own account is known, all accounts share one scheduler, so that
    no account's quota is exceeded.
    """

    def __init__(self, make: Callable[[str], Scheduler]) -> None:
        """Begin with one scheduler; `make` creates that of an account.

        It gets the account's id, or an empty text for the gateway's own account.
        """
        self._make = make
        self._own = self._make("")
        self._of_account: dict[str, Scheduler] | None = None  # `None`: all share one
        self._of_role = {"": self._own}
        self._has_roles = False  # or had some
        self._accounts: AbstractSet[str] = frozenset()  # of the roles of rules

    @property
    def may_learn(self) -> bool:
        """Return whether `learn` may be called: it wasn't, and no role was used."""
        return self._of_account is None and not self._has_roles

    def learn(self, own_account: str | None) -> None:
        """Set the gateway's own account, if it is known.

        Do so before the first call for a role.
        """
        if own_account:
            self._of_account = {own_account: self._own}
            self._of_role = {"": self._own}

    def of(self, query: RunQuery) -> Scheduler:
        """Return the scheduler of the account that a query is for."""
        role = query.partition.role
        return self._of_role.get(role) or self._find(role)

    def prepare(self, roles: Iterable[str]) -> None:
        """Create the schedulers of the accounts of these roles, if they differ.

        The rules have no other roles from now on. The scheduler of another account is
        dropped if a new one would be the same: nothing uses it, and its bucket is full.
        """
        self._of_role = {"": self._own}  # the others are found again by their accounts
        for role in roles:
            self._find(role)
        self._accounts = set(map(_account_of, self._of_role.keys() - {""}))
        if self._of_account is not None:
            self._of_account = {
                account: each
                for account, each in self._of_account.items()
                if each is self._own
                or account in self._accounts
                or not each.is_like_new
            }

    @property
    def by_account(self) -> dict[str, Scheduler]:
        """The schedulers by account id; `own` is the gateway's own account.

        Those of other accounts are here if a rule has a role of the account, or as long
        as a call uses one.
        """
        others = (self._of_account or {}).items()
        return {OWN_ACCOUNT: self._own} | {
            account: each
            for account, each in others
            if each is not self._own and (account in self._accounts or each.users)
        }

    def expected_wait(self, query: RunQuery, call: Call) -> float:
        """Return the estimated seconds until a call would have its turn."""
        return self.of(query).expected_wait(call)

    def refusal(self, query: RunQuery, wait_seconds: float) -> NotAskedError:
        """Create the error of a call that can't wait so long for its turn."""
        return self.of(query).refusal(wait_seconds)

    def is_waiting(self, query: RunQuery, call: Call) -> bool:
        """Return whether a call waits for its turn."""
        return self.of(query).is_waiting(call)

    async def close(self) -> None:
        """End what the schedulers run in the background."""
        for each in (self._own, *(self._of_account or {}).values()):
            await each.close()

    async def depart(self, query: RunQuery) -> None:
        """Wait until a request may be sent, which must be done at once."""
        await self.of(query).depart()

    def _find(self, role: str) -> Scheduler:
        """Find a role's scheduler by its account, or create it."""
        self._has_roles = True
        if self._of_account is None:
            scheduler = self._own
        else:
            account = _account_of(role)
            scheduler = self._of_account.get(account) or self._make(account)
            self._of_account[account] = scheduler
        self._of_role[role] = scheduler
        return scheduler


def _account_of(role: str) -> str:
    """Return the account in a role's ARN: arn:aws:iam::123456789012:role/x."""
    return role.split(":")[4]
