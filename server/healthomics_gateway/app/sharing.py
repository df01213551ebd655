"""What a gateway shares with its replicas, composed from the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from healthomics_gateway.runs.answer_values import MAX_VALUE_BYTES
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.shared.store import Store
from healthomics_gateway.telemetry.metrics.parts import NOTHING, Distribution
from healthomics_gateway.telemetry.quota_scope import ALL, GATEWAY
from healthomics_gateway.upstream.config import Aws

if TYPE_CHECKING:
    from healthomics_gateway.shared.valkey.store import ValkeyStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """The process as one of several that share a store."""

    replica: Replica
    names: Names
    sealer: Sealer
    store: Store
    scope: str  # of the quota while the store is used, in `telemetry.quota_scope`
    workers: int = 1  # of this gateway, each of which is a replica
    fault_of_messages: Callable[[], str] = lambda: ""

    @property
    def quota_scope(self) -> str:
        """The scope of the quotas at the moment, one of `telemetry.quota_scope`."""
        return self.scope if self.replica.is_attached else GATEWAY

    def fault(self) -> str:
        """Return why the store isn't used, or only in part; empty if it is."""
        if fault := self.replica.fault:
            return f"the shared store isn't used: {fault}"
        if fault := self.fault_of_messages():
            return f"the shared store sends no messages: {fault}"
        if full := self.replica.full:
            return f"the shared store takes no more answers: {full}"
        if not self.names.has_identity:
            return (
                "answers and watches aren't shared: STS hasn't said whose credentials"
                " the gateway has; calls of GetCallerIdentity fail"
            )
        return ""

    async def close(self) -> None:
        """Close the connections to the store; never raises."""
        await self.store.close()


def make_worker_sharing(
    settings: Settings, aws: Aws, store: Store, *, secret: bytes
) -> Sharing:
    """Return how the workers of a gateway share the store of their supervisor.

    They have the same credentials, so the identity needs no other name.
    """
    sealer = Sealer(secret)
    names = Names(sealer, region=aws.region, endpoint=aws.endpoint)
    names.learn(account="", identity="own")
    return Sharing(
        replica=Replica(store, replicas=settings.workers),
        names=names,
        sealer=sealer,
        store=store,
        scope=GATEWAY,
        workers=settings.workers,
    )


def make_sharing(
    settings: Settings, aws: Aws, *, seconds: Distribution = NOTHING
) -> Sharing | None:
    """Return how the store of `shared.url` is shared; None if it isn't set.

    `seconds` gets the time of each command. Each worker of a gateway is a replica.
    """
    shared = settings.shared
    if not (shared.url and shared.secret):
        return None
    sealer = Sealer(shared.secret.get_secret_value().encode())
    store = make_store(
        shared.url.get_secret_value(),
        deployment=sealer.name("deployment"),
        seconds=seconds,
    )
    return Sharing(
        replica=Replica(store, replicas=shared.replicas * settings.workers),
        names=Names(sealer, region=aws.region, endpoint=aws.endpoint),
        sealer=sealer,
        store=store,
        scope=ALL,
        workers=settings.workers,
        fault_of_messages=lambda: store.fault_of_messages,
    )


def make_store(
    url: str, *, deployment: str, seconds: Distribution = NOTHING
) -> ValkeyStore:
    """Return the store at a URL; all keys have `deployment` in their names.

    It needs the extra `shared`, which the check of the settings has found.
    """
    from healthomics_gateway.shared.valkey.store import ValkeyStore  # noqa: PLC0415  # its libraries, an extra, may be missing
    from healthomics_gateway.shared.valkey.urls import parse_store_url  # noqa: PLC0415  # its libraries, an extra, may be missing

    return ValkeyStore(
        parse_store_url(url),
        deployment=deployment,
        max_value_bytes=MAX_VALUE_BYTES,
        observe=seconds.observe,
    )
