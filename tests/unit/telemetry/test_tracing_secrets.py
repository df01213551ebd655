"""No value of a variable OTEL_* that can be a secret reaches the log."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from healthomics_gateway.telemetry.tracing_setup import set_up_tracing

SECRET = "SECRETTOKEN"
FLUSH_SECONDS = 10.0
FAST = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.01", "OTEL_TRACES_EXPORTER": "otlp"}

PIECES = (*" =:,;@/?#%\"'\\[]{}\r\n\tä0aZ-", "%0d%0a")
odd = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)
secret = st.tuples(odd, odd).map(SECRET.join)
header = st.sampled_from(("", "authorization=Bearer%20", "a=b,x-key=")).flatmap(
    lambda name: secret.map(lambda value: f"{name}{value}")
)
endpoint = st.one_of(
    secret.map(lambda value: f"http://user:{value}@127.0.0.1:1"),
    secret.map(lambda value: f"http://{value}@127.0.0.1:1/x"),
    secret.map(lambda value: f"http://127.0.0.1:1/{value}"),
    secret.map(lambda value: f"https://127.0.0.1:1?key={value}"),
    st.just("http://127.0.0.1:1"),
)
values = st.fixed_dictionaries(
    {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": st.sampled_from(("http/protobuf", "grpc")),
    },
    optional={
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": header,
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": header,
        "OTEL_RESOURCE_ATTRIBUTES": header,
        "OTEL_SERVICE_NAME": secret,
    },
)
invalid = st.dictionaries(
    st.sampled_from(
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
            "OTEL_PROPAGATORS",
            "OTEL_TRACES_SAMPLER",
            "OTEL_BSP_MAX_QUEUE_SIZE",
        )
    ),
    secret,
    max_size=1,
)


class _Kept(logging.Handler):
    """Keeps what libraries log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


async def _exported(environ: dict[str, str]) -> None:
    """Set up tracing, and export a span in vain."""
    if tracer := set_up_tracing(environ):
        span = tracer.root("poll", {})
        assert span
        span.end()
        await tracer.flush(FLUSH_SECONDS)
        tracer.close()


def test_log_has_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever odd value a variable has: neither at the start nor after an export."""
    kept = _Kept()
    seen: set[str] = set()

    @settings(max_examples=150, deadline=None)
    @given(values, invalid)
    def holds(variables: dict[str, str], wrong: dict[str, str]) -> None:
        with capture_logs() as log:
            asyncio.run(_exported(FAST | variables | wrong))
        text = str([log, kept.lines]) + "".join(capfd.readouterr())
        assert SECRET not in text
        seen.update(_event(each) for each in log)

    logging.getLogger().addHandler(kept)
    try:
        holds()
    finally:
        logging.getLogger().removeHandler(kept)
    assert {"tracing_failed", "tracing_unavailable"} == seen


def _event(event: Any) -> str:
    name: str = event["event"]
    return name
