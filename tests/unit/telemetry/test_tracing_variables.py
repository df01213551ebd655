"""Which values of the variables OTEL_* are valid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trustme

from healthomics_gateway.telemetry.tracing_variables import (
    as_environ,
    collector,
    faults,
    given,
)

HTTP = "http/protobuf"
GRPC = "grpc"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
SAMPLER, ARG = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
BAD = "bad-SECRET"


def test_blank_variables_are_none() -> None:
    """As the specification says; other variables aren't looked at."""
    environ = {"OTEL_A": " ", "OTEL_B": "", "OTEL_C": " c ", "HOME": "/"}
    assert {"OTEL_C": "c"} == given(environ)


def test_variables_are_those_of_the_process_for_a_while() -> None:
    """OpenTelemetry reads the process's variables, which are the same afterwards."""
    before = dict(os.environ)
    with as_environ({"OTEL_ONE": "1"}), as_environ({"OTEL_TWO": "2"}):
        inside = {each for each in os.environ if each.startswith("OTEL_")}
    assert {"OTEL_TWO"} == inside
    assert before == dict(os.environ)


@pytest.mark.parametrize(
    "name",
    [
        "OTEL_SDK_DISABLED",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED",
        "OTEL_RESOURCE_ATTRIBUTES",
        SAMPLER,
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_BSP_EXPORT_TIMEOUT",
        "OTEL_SPAN_LINK_COUNT_LIMIT",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        ENDPOINT,
        TRACES_ENDPOINT,
        HEADERS,
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_INSECURE",
    ],
)
@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_fault_names_the_variable_without_its_value(name: str, protocol: str) -> None:
    """A value can be a secret."""
    (fault,) = faults({name: BAD}, protocol)
    assert fault.startswith(f"{name} must ")
    assert BAD not in fault


@pytest.mark.parametrize(
    ("protocol", "name", "value"),
    [
        (HTTP, ENDPOINT, "collector:4318"),
        (HTTP, ENDPOINT, "ftp://collector"),
        (HTTP, ENDPOINT, "http://"),
        (HTTP, ENDPOINT, "http://collector:x"),
        (HTTP, ENDPOINT, "http://collector:0"),
        (HTTP, ENDPOINT, "http://[::1"),
        (HTTP, ENDPOINT, "http://a b"),
        (HTTP, ENDPOINT, "http://collector/?key=SECRET"),
        (GRPC, ENDPOINT, "http://user:SECRET@collector"),
        (GRPC, ENDPOINT, "ftp://collector:4317"),
        (HTTP, HEADERS, "authorization: Bearer SECRET"),
        (HTTP, HEADERS, "authorization=Bearer%20SECRET%0d%0aX"),
        (HTTP, HEADERS, 'a="SECRET"'),
        (HTTP, HEADERS, "a=b,=c"),
        (HTTP, HEADERS, "a%20b=c"),
        (HTTP, HEADERS, "a=%C3%A4"),
        (GRPC, HEADERS, "a~b=c"),
        (GRPC, "OTEL_EXPORTER_OTLP_COMPRESSION", "deflate"),
        (HTTP, "OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        (HTTP, "OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        (HTTP, "OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        (HTTP, "OTEL_BSP_SCHEDULE_DELAY", "9" * 5000),
        (HTTP, "OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        (HTTP, "OTEL_BSP_MAX_QUEUE_SIZE", "8"),  # smaller than a batch
        (HTTP, "OTEL_RESOURCE_ATTRIBUTES", "a=b,c"),
        (HTTP, "OTEL_SDK_DISABLED", "yes"),
    ],
)
def test_value_is_invalid(protocol: str, name: str, value: str) -> None:
    """OpenTelemetry would use a default, fail at each export, or log it."""
    (fault,) = faults({name: value}, protocol)
    assert name in fault
    assert "SECRET" not in fault


@pytest.mark.parametrize(
    ("protocol", "name", "value"),
    [
        (HTTP, ENDPOINT, "http://127.0.0.1:4318"),
        (HTTP, ENDPOINT, "https://user:password@collector/base/"),
        (HTTP, ENDPOINT, "http://[::1]:4318"),
        (HTTP, TRACES_ENDPOINT, "https://collector/v1/traces?key=x"),
        (GRPC, ENDPOINT, "https://collector:4317"),
        (GRPC, ENDPOINT, "collector:4317"),
        (GRPC, ENDPOINT, "dns:///collector:4317"),
        (GRPC, ENDPOINT, "unix:/run/collector.sock"),
        (HTTP, HEADERS, "authorization=Bearer%20x, x-tenant=a"),
        (HTTP, HEADERS, "authorization=Bearer x"),
        (HTTP, HEADERS, "a=b=="),
        (GRPC, HEADERS, "authorization=Bearer x"),
        (HTTP, SAMPLER, "ALWAYS_ON"),
        (HTTP, SAMPLER, "parentbased_traceidratio"),
        (HTTP, ARG, "7"),  # without a sampler that has an argument
        (HTTP, "OTEL_EXPORTER_OTLP_COMPRESSION", "deflate"),
        (HTTP, "OTEL_EXPORTER_OTLP_TIMEOUT", "2.5"),
        (HTTP, "OTEL_SPAN_LINK_COUNT_LIMIT", "0"),
        (HTTP, "OTEL_BSP_MAX_QUEUE_SIZE", "512"),
        (HTTP, "OTEL_EXPORTER_OTLP_CERTIFICATE", "/"),  # a folder
        (HTTP, "OTEL_SDK_DISABLED", "False"),
    ],
)
def test_value_is_valid(protocol: str, name: str, value: str) -> None:
    """What the specification allows, and the installed version understands."""
    assert [] == faults({name: value}, protocol)


@pytest.mark.parametrize("share", ["7", "-0.1", "x", "nan"])
def test_share_of_calls_is_from_0_to_1(share: str) -> None:
    """Else OpenTelemetry would trace every call."""
    (fault,) = faults({SAMPLER: "traceidratio", ARG: share}, HTTP)
    assert f"{ARG} must be a number from 0 to 1" == fault


def test_variable_for_traces_comes_first() -> None:
    """The one for all signals has no effect then."""
    assert [] == faults({ENDPOINT: BAD, TRACES_ENDPOINT: "http://collector"}, HTTP)


def test_files_of_certificates_are_read(tmp_path: Path) -> None:
    """A certificate needs its key."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client = authority.issue_cert("client")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    client.private_key_pem.write_to_path(tmp_path / "key.pem")
    trustme.CA().issue_cert("b").private_key_pem.write_to_path(tmp_path / "other.pem")
    files = {
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "both.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "key.pem",
    }
    variables = {name: str(tmp_path / each) for name, each in files.items()}
    assert [] == faults(variables, HTTP)
    variables["OTEL_EXPORTER_OTLP_CLIENT_KEY"] = str(tmp_path / "other.pem")
    (fault,) = faults(variables, HTTP)
    assert "OTEL_EXPORTER_OTLP_CLIENT_KEY must be" in fault


@pytest.mark.parametrize("option", ["CERTIFICATE", "CLIENT_CERTIFICATE"])
def test_pipe_is_not_waited_for(tmp_path: Path, option: str) -> None:
    """A pipe without a writer would block the start for ever."""
    os.mkfifo(tmp_path / "pipe")
    name = f"OTEL_EXPORTER_OTLP_{option}"
    (fault,) = faults({name: str(tmp_path / "pipe")}, HTTP)

    assert f"{name} must be" in fault


@pytest.mark.parametrize(
    ("protocol", "variables", "expected"),
    [
        (HTTP, {}, "localhost:4318"),
        (GRPC, {}, "localhost:4317"),
        (HTTP, {ENDPOINT: "https://user:SECRET@Collector/x?key=SECRET"}, "Collector"),
        (HTTP, {ENDPOINT: "http://[::1]:4318/"}, "[::1]:4318"),
        (GRPC, {ENDPOINT: "collector:4317"}, "collector:4317"),
        (GRPC, {ENDPOINT: "dns:///collector:4317"}, ""),
        (GRPC, {ENDPOINT: "unix:/run/collector.sock"}, ""),
        (HTTP, {ENDPOINT: "http://user:12/SECRET@collector"}, ""),
        (HTTP, {ENDPOINT: "http://user:SEC/RET@collector"}, ""),
    ],
)
def test_collector_is_a_host_and_port(
    protocol: str, variables: dict[str, str], expected: str
) -> None:
    """Nothing else of an endpoint is shown."""
    assert expected == collector(variables, protocol)
