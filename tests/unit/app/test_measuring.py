"""What the metrics read from the parts of a gateway."""

from __future__ import annotations

from healthomics_gateway.app.measuring import make_metrics, measure_for
from healthomics_gateway.services.names import HEALTH
from healthomics_gateway.services.reflection import served_methods
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.telemetry.metrics.state import PREFIX, STATE
from testkit.builders import Sandbox, aws_at, gateway
from testkit.metrics import scrape

ROLE = "arn:aws:iam::210987654321:role/omics-read-lims"


async def test_each_metric_of_the_state_is_read() -> None:
    """Every metric in the table has a reader, and no reader is left over."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        families = (await scrape(served)).families
    names = {
        f"{PREFIX}{name}{'_total' if row.is_counter else ''}"
        for name, row in STATE.items()
    }

    assert names <= set(families)


def test_every_served_method_has_series() -> None:
    """All methods of all services are known to the metrics, with their kinds."""
    families = make_metrics().registry.collect()
    started = next(each for each in families if each.name == "grpc_server_started")
    known = {
        f"/{each.labels['grpc_service']}/{each.labels['grpc_method']}"
        for each in started.samples
    }

    assert {path for path, *_ in served_methods()} <= known
    assert f"/{HEALTH}/Watch" in known


def test_methods_are_not_measured_without_metrics() -> None:
    """If the metrics are off, no interceptor is added to a method."""
    measure = measure_for(Metrics(is_on=False), without_rules=frozenset())

    assert () == measure(f"/{HEALTH}/Check", "unary").interceptors
