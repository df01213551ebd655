"""Watched runs that replicas share: one polls, the others follow what it publishes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from healthomics_gateway.runs.answer_values import MAX_VALUE_BYTES
from healthomics_gateway.runs.releases import Releases
from healthomics_gateway.shared.store import Claim, StoreError

if TYPE_CHECKING:
    from healthomics_gateway.runs.answer_values import AnswerValues, Dated
    from healthomics_gateway.runs.lease import Follower
    from healthomics_gateway.shared.replica import Replica

# After a poll of another replica is due, until a follower claims the lease again.
GRACE_SECONDS = 1.0
SPREAD_SECONDS = 0.5  # of the claims of a lease that is free
# An answer isn't newer than another one that was read so shortly before: it is the
# replica's own one, or was learned already.
SAME_SECONDS = 0.05
# A value of which the store says that it is so much newer than its seal says was
# sealed by a wrong clock, or is written again by someone else.
CLOCKS_SECONDS = 2.0
# Without news, in addition to a period, until a follower polls once by itself.
PATIENCE_SECONDS = 60.0
# A replica with so many failures of its own in a row lets others poll. It claims with a
# period that is longer than any other, so whoever claims too takes the lease over.
OWN_FAILURES = 2
YIELDING_SECONDS = 86_400.0
MAX_SHARED_BYTES = MAX_VALUE_BYTES - 1024  # of a run; the rest is the seal's


class SharedWatches:
    """The leases of all runs that this replica watches.

    A poller claims its lease before each poll. The store grants it to one replica; the
    others learn what that one publishes, and claim again if nothing comes, if its
    holder has died or ended its polls. So a lost message costs a period at most.
    """

    def __init__(
        self,
        replica: Replica,
        values: AnswerValues,
        *,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Share through `replica`; `jitter` draws from [0, 1), `clock` is pollers'."""
        self.replica = replica
        self.values = values
        self.jitter = jitter
        self.clock = clock
        self.open: dict[str, SharedLease] = {}  # by name
        self.releases = Releases(replica, self.open)
        replica.on_change(self._look)

    def lease(self, follower: Follower) -> SharedLease:
        """Return the lease of the run that `follower` polls."""
        return SharedLease(self, follower)

    def _look(self) -> None:
        """Claim the leases whose holders are gone."""
        if not self.replica.is_attached:
            return
        for lease in tuple(self.open.values()):
            if lease.holder and lease.holder not in self.replica.attached:
                lease.free()


class SharedLease:
    """The lease of one watched run, and the subscription to what is published of it."""

    __slots__ = (
        *("_follower", "_heard_at", "_is_ended", "_is_free", "_may_be_held"),
        *("_name", "_own_failures", "_shared", "holder"),
    )

    def __init__(self, shared: SharedWatches, follower: Follower) -> None:
        """Ask nothing of the store yet."""
        self.holder = ""  # another replica that polls
        self._shared = shared
        self._follower = follower
        self._name: str | None = None  # of the run's entry, once it is known
        self._may_be_held = False  # by this replica
        self._is_free = False  # the holder is gone, since the last claim began
        self._is_ended = False
        self._own_failures = 0  # of polls, in a row
        self._heard_at = shared.clock()  # when this began, or news or a turn came

    @property
    def grace_seconds(self) -> float:
        """How long after a poll is due the poller waits for another replica's."""
        return GRACE_SECONDS if self.holder else 0.0

    @property
    def is_failing(self) -> bool:
        """Return whether polls of this replica fail that others may be able to make."""
        return self._own_failures >= OWN_FAILURES

    async def claim(self, *, period_seconds: float) -> bool:
        """Return whether the poller may poll now; else another replica does.

        It may if the store can't be asked, or what the store has isn't valid.
        """
        if self._is_ended:
            return False
        self.holder = ""
        run = self._follower.run
        if run and run.ByteSize() > MAX_SHARED_BYTES:
            self._close()  # what isn't published can't be followed
            return True
        try:
            claim = await self._ask(period_seconds)
        except StoreError:
            return self._may_poll()
        if claim is None or claim.holder == self._shared.replica.id:
            return self._may_poll()
        self.holder = claim.holder
        self._may_be_held = False
        is_valid = self._learn_last(claim)
        silent_seconds = self._shared.clock() - self._heard_at
        if not is_valid or silent_seconds > period_seconds + PATIENCE_SECONDS:
            return self._may_poll()
        if self._is_free:  # the store didn't know it yet
            asyncio.get_running_loop().call_soon(self.free)
        return False

    def note_poll(self, *, is_own_failure: bool) -> None:
        """Note how a poll has ended; release the lease if polls fail again and again.

        From then on, until a poll succeeds, this replica polls by its back-off while
        no other one has the lease, and else once about a minute, to see if it can.
        """
        self._own_failures = self._own_failures + 1 if is_own_failure else 0
        if self.is_failing and self._name:
            self._shared.releases.leave(self._name, may_be_held=True)

    def end(self) -> None:
        """End the subscription, and release the lease if it is held."""
        self._is_ended = True
        self._close()

    def free(self) -> None:
        """Claim the lease at the next poll: its holder doesn't poll any more."""
        self._is_free = True
        if self.holder and not self.is_failing:  # else its back-off decides
            self._follower.hurry(self._shared.jitter() * SPREAD_SECONDS)

    def hear(self, value: bytes) -> None:
        """Use a value that was published; an empty one says that the lease is free."""
        if self._is_ended:
            return
        if not value:
            self.free()
        elif dated := self._shared.values.decode(self._follower.query, value):
            self._learn(dated)

    async def _ask(self, period_seconds: float) -> Claim | None:
        """Claim the lease, or return None if it has no name yet.

        The first time, subscribe meanwhile.
        """
        shared, query = self._shared, self._follower.query
        replica, is_new = shared.replica, self._name is None
        name = self._name = self._name or shared.values.name(query)
        if name is None:
            return None
        self._may_be_held, self._is_free = True, False
        if self.is_failing:
            period_seconds = YIELDING_SECONDS
        field = shared.values.field(query)
        claimed = replica.ask(
            lambda store: store.claim(
                name, field, replica=replica.id, period_seconds=period_seconds
            )
        )
        try:
            if not is_new:
                return await claimed
            shared.open[name] = self
            claim, _ = await asyncio.gather(claimed, replica.subscribe(name, self.hear))
            return claim
        finally:
            if self._is_ended:  # and its release may have come before the claim
                shared.releases.leave(name, may_be_held=True)

    def _learn_last(self, claim: Claim) -> bool:
        """Learn the value that the store has; return False if it isn't valid."""
        if claim.last is None:
            return True
        value, age_seconds = claim.last
        query = self._follower.query
        dated = self._shared.values.decode(query, value, stored_seconds=age_seconds)
        if dated:
            self._learn(dated)
        return bool(dated and dated.age_seconds <= age_seconds + CLOCKS_SECONDS)

    def _learn(self, dated: Dated) -> None:
        now = self._shared.clock()
        if now - dated.age_seconds > self._follower.answered_at + SAME_SECONDS:
            if not self.is_failing:
                self._heard_at = now
            self._follower.learn(dated.answer, age_seconds=dated.age_seconds)

    def _may_poll(self) -> bool:
        self._heard_at = self._shared.clock()
        return not self._is_ended

    def _close(self) -> None:
        if self._name:
            self._shared.open.pop(self._name)
            self._shared.releases.leave(self._name, may_be_held=self._may_be_held)
            self._name = None
