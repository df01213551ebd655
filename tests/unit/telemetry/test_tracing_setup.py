"""Which variables OTEL_* switch tracing on."""

import pytest

from healthomics_gateway.telemetry.tracing_setup import (
    TracingError,
    exporter_variable,
    make_tracer,
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


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [
        pytest.param(
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "SECRET",
            "must be one of http/protobuf, grpc",
            id="protocol",
        ),
        pytest.param(
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "x-key: SECRET",
            "must be NAME=VALUE",
            id="headers",
        ),
        pytest.param("OTEL_PROPAGATORS", "SECRET", "must have names", id="propagators"),
        pytest.param(
            "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
            "SECRET",
            "RuntimeError while",
            id="raised",
        ),
        pytest.param(
            "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
            "SECRET",
            "RejectedValueError while",
            id="only-logged",
        ),
    ],
)
def test_fault_names_the_variable(variable: str, value: str, what: str) -> None:
    """Whether the gateway or OpenTelemetry finds it; the value isn't shown."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL, variable: value}
    with pytest.raises(TracingError) as caught:
        make_tracer(environ)

    assert variable in str(caught.value)
    assert what in str(caught.value)
    assert "SECRET" not in str(caught.value)
