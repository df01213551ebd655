"""The metrics that are read from the gateway's state."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from healthomics_gateway.telemetry.metrics.state import State
from testkit.metrics import parsed


def test_state_is_read_only_when_asked() -> None:
    """The values are those of the last `read`, however often they are rendered."""
    registry = CollectorRegistry()
    state = State(registry)
    length = 1.0
    state.observe({"queue_length": lambda: {("call",): length}})
    before = generate_latest(registry)
    state.read()
    length = 2.0
    found = parsed(generate_latest(registry).decode())

    assert b"" == before
    assert 1 == found.value("queue_length", kind="call")


def test_counter_of_the_state_has_its_suffix() -> None:
    """A counter is served as one, with `_total`."""
    registry = CollectorRegistry()
    state = State(registry)
    state.observe({"rule_calls": lambda: {("1:a",): 3.0}})
    state.read()
    found = parsed(generate_latest(registry).decode())

    assert 3 == found.value("rule_calls_total", rule="1:a")
    assert "counter" == found.families["healthomics_gateway_rule_calls_total"].kind
