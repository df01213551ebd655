"""Which variables OTEL_* switch tracing on."""

import pytest

from healthomics_gateway.telemetry.tracing_setup import (
    exporter_variable,
    set_up_tracing,
)

URL = "http://collector:4318"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": URL},
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            id="endpoint",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            id="endpoint-of-traces",
        ),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, None, id="empty-endpoint"),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER", id="exporter"
        ),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "console, otlp"},
            "OTEL_TRACES_EXPORTER",
            id="of-two",
        ),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": URL},
            None,
            id="no-exporter",
        ),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_ENDPOINT": URL},
            None,
            id="another-exporter",
        ),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": URL},
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            id="empty-exporter",
        ),
        pytest.param(
            {"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "otlp"},
            None,
            id="disabled",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": URL}, None, id="of-metrics"
        ),
    ],
)
def test_tracing_is_asked_for(environ: dict[str, str], *, expected: str | None) -> None:
    """An exporter `otlp` or an endpoint asks for traces, and nothing else does."""
    assert expected == exporter_variable(environ)


def test_tracing_that_is_not_asked_for_is_off() -> None:
    """Without the variables there is no tracer."""
    assert None is set_up_tracing({})
