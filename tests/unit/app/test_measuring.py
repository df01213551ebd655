"""What the metrics read from the parts of a gateway."""

from __future__ import annotations

from healthomics_gateway.app.measuring import add_methods, make_metrics, measure_for
from healthomics_gateway.services.names import CHANNELZ, HEALTH
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


def test_every_method_of_the_services_has_series() -> None:
    """The methods of the given services are known before they are called."""
    metrics = make_metrics()
    add_methods(metrics, (HEALTH, CHANNELZ))
    families = metrics.registry.collect()
    started = next(each for each in families if each.name == "grpc_server_started")
    found = [
        (each.labels["grpc_service"], each.labels["grpc_method"])
        for each in started.samples
        if each.labels["grpc_service"] != "unknown"
    ]

    assert {HEALTH, CHANNELZ} == {service for service, _ in found}
    assert (HEALTH, "Watch") in found
    assert (CHANNELZ, "GetServers") in found


def test_methods_are_not_measured_without_metrics() -> None:
    """If the metrics are off, no interceptor is added to a method."""
    measure = measure_for(Metrics(is_on=False), without_rules=frozenset())

    assert () == measure(f"/{HEALTH}/Check", "unary").interceptors
