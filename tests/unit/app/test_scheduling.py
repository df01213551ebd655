"""The quotas that the schedulers get."""

from __future__ import annotations

import asyncio
from math import inf

from healthomics_gateway.app.scheduling import make_schedulers
from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.runs.source import OneCall, Partition, RunQuery
from healthomics_gateway.settings.schema import Quota, Settings
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.shared.store import Rate, Reservation
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.quota_scope import ALL
from testkit.local_store import LocalStore

OTHER = "210987654321"
THEIRS = Partition(f"arn:aws:iam::{OTHER}:role/x", "alice")


class Noting(LocalStore):
    """A store that notes the quotas and the rates that are asked for."""

    def __init__(self) -> None:
        """Begin without any."""
        super().__init__(MemoryStore())
        self.asked: list[tuple[str, Rate]] = []

    async def reserve(self, quota: str, rate: Rate, *, replica: str) -> Reservation:  # noqa: ARG002  # the shape of a store
        """Note it, and give a token."""
        self.asked.append((quota, rate))
        return Reservation(0.0, rate.tps)


def test_polls_have_a_whole_token() -> None:
    """A share of the burst that is less than one would never let a poll begin."""
    quota = Quota(tps=8.0, burst=1.0)
    _, polls = make_schedulers(Settings(quota=quota), Metrics())

    assert 1.0 == polls.of(RunQuery("1")).tokens


async def test_replicas_share_a_quota_of_each_account_and_kind() -> None:
    """That of the own account has one name, whether the account is known or not."""
    store = Noting()
    sealer, replica = Sealer(b"secret"), Replica(store, replicas=1)
    names = Names(sealer, region="eu-west-1", endpoint="x")
    sharing = Sharing(
        replica=replica, names=names, sealer=sealer, store=store, scope=ALL
    )
    attached = asyncio.Event()
    replica.on_change(attached.set)
    following = asyncio.create_task(replica.follow())
    await attached.wait()
    calls, polls = make_schedulers(Settings(), Metrics(), sharing)
    calls.learn("123456789012")
    await calls.of(RunQuery("1")).turn(OneCall(inf))
    names.learn(account="123456789012", identity="gateway")
    for each in (calls.of(RunQuery("1", partition=THEIRS)), polls.of(RunQuery("1"))):
        await each.turn(OneCall(inf))
    await calls.of(RunQuery("1")).turn(OneCall(inf))
    for each in (calls, polls):
        await each.close()
    following.cancel()

    full, half = Rate(8.0, 1.2), Rate(round(4 / 1.1, 6), 1.0)
    assert [
        (names.quota("", "calls"), full),
        (names.quota(OTHER, "calls"), full),
        (names.quota("", "polls"), half),
        (names.quota("", "calls"), full),
    ] == [(name, Rate(round(rate.tps, 6), rate.burst)) for name, rate in store.asked]
