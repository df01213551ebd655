"""Which variables OTEL_* switch tracing on."""

import pytest

from healthomics_gateway.telemetry.tracing_setup import is_asked_for, set_up_tracing

URL = "http://collector:4318"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, True, id="endpoint"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL}, True, id="endpoint-of-traces"
        ),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False, id="empty-endpoint"),
        pytest.param({"OTEL_TRACES_EXPORTER": "otlp"}, True, id="exporter"),
        pytest.param({"OTEL_TRACES_EXPORTER": "console, otlp"}, True, id="of-two"),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": URL},
            False,
            id="no-exporter",
        ),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_ENDPOINT": URL},
            False,
            id="another-exporter",
        ),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "", "OTEL_EXPORTER_OTLP_ENDPOINT": URL},
            True,
            id="empty-exporter",
        ),
        pytest.param(
            {"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "otlp"},
            False,
            id="disabled",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": URL}, False, id="of-metrics"
        ),
    ],
)
def test_tracing_is_asked_for(environ: dict[str, str], *, expected: bool) -> None:
    """An exporter `otlp` or an endpoint asks for traces, and nothing else does."""
    assert expected is is_asked_for(environ)


def test_tracing_that_is_not_asked_for_is_off() -> None:
    """Without the variables there is no tracer."""
    assert None is set_up_tracing({})
