"""A source that waits for a token of the account's quota, then asks the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from healthomics_gateway.errors import GatewayError, Reason

if TYPE_CHECKING:
    from healthomics_gateway.pacer import Pacer
    from healthomics_gateway.runs import Answer, Call, RunQuery, RunSource


class Paced:
    """Asks once its turn has come; a throttle by HealthOmics slows the pacer."""

    def __init__(self, runs: RunSource, pacers: Pacers) -> None:
        """Wrap `runs`; each of `pacers` is an AWS account's, in this Region."""
        self._runs = runs
        self._pacers = pacers

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Take a token, then ask; raise UPSTREAM_THROTTLED where none comes in time."""
        pacer = self._pacers.of(query)
        await pacer.turn(call)
        call.sent()
        try:
            return await self._runs.get_run(query, call=call)
        except GatewayError as error:
            if error.reason is Reason.UPSTREAM_THROTTLED:
                pacer.throttled()
            raise


class Pacers:
    """A pacer for each AWS account that is asked, all with the same rate.

    Until it is known which account is the gateway's own there is one for all accounts:
    it exceeds the quota of none.
    """

    def __init__(self, make: Callable[[], Pacer]) -> None:
        """Have the gateway's own; `make` gives one for another account."""
        self._make = make
        self._own = self._make()
        self._of_account: dict[str, Pacer] | None = None  # none: one for all
        self._of_role = {"": self._own}

    def learn(self, own_account: str | None) -> None:
        """Know the gateway's own account from now on, before the first call."""
        if own_account:
            self._of_account = {own_account: self._own}
            self._of_role = {"": self._own}

    def of(self, query: RunQuery) -> Pacer:
        """Give the pacer of the account that is asked."""
        role = query.partition.role
        return self._of_role.get(role) or self._found(role)

    def expected_wait(self, query: RunQuery, call: Call) -> float:
        """Tell in how many seconds it would be this call's turn."""
        return self.of(query).expected_wait(call)

    def _found(self, role: str) -> Pacer:
        """Find a role's pacer by its account: arn:aws:iam::123456789012:role/x."""
        if self._of_account is None:
            pacer = self._own
        else:
            account = role.split(":")[4]
            pacer = self._of_account.get(account) or self._make()
            self._of_account[account] = pacer
        self._of_role[role] = pacer
        return pacer
