"""What the metrics read from the parts of a gateway."""

from __future__ import annotations

from dataclasses import replace

from healthomics_gateway.app.metric_readers import readers_of
from healthomics_gateway.app.sharing import Sharing
from healthomics_gateway.shared.memory import MemoryStore
from healthomics_gateway.shared.names import Names
from healthomics_gateway.shared.replica import Replica
from healthomics_gateway.shared.seal import Sealer
from healthomics_gateway.telemetry.metrics.state import STATE
from healthomics_gateway.telemetry.quota_scope import ALL
from testkit.builders import Sandbox, aws_at, gateway
from testkit.local_store import LocalStore


async def test_each_metric_of_the_state_is_read() -> None:
    """Every metric in the table has a reader, and no reader is left over."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        readers = readers_of(served.parts)

    assert set(STATE) == set(readers)


async def test_store_that_is_reached_is_not_ok_without_an_identity() -> None:
    """Answers and watches aren't shared then, as `/readyz?verbose` says."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        sealer, store = Sealer(b"secret"), LocalStore(MemoryStore())
        sharing = Sharing(
            replica=Replica(store, replicas=3),
            names=Names(sealer, region="us-east-1", endpoint=""),
            sealer=sealer,
            store=store,
            scope=ALL,
        )
        sharing.replica.is_attached, sharing.replica.fault = True, ""
        readers = readers_of(replace(served.parts, sharing=sharing))
        before = readers["store_ok"]()
        sharing.names.learn(account="", identity="own")

        assert {(): 1.0} == readers["store_attached"]()
        assert {(): 3.0} == readers["store_replicas"]()
        assert [{(): 0.0}, {(): 1.0}] == [before, readers["store_ok"]()]
