"""What the metrics read from the parts of a gateway."""

from __future__ import annotations

from healthomics_gateway.app.metric_readers import readers_of
from healthomics_gateway.telemetry.metrics.state import STATE
from testkit.builders import Sandbox, aws_at, gateway


async def test_each_metric_of_the_state_is_read() -> None:
    """Every metric in the table has a reader, and no reader is left over."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        readers = readers_of(served.parts)

    assert set(STATE) == set(readers)
