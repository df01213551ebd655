"""The steps about the log and the extras."""

from __future__ import annotations

import os
import pty
from collections.abc import Mapping

import pytest

from healthomics_gateway.check.found import Found
from healthomics_gateway.check.process import (
    check_log,
    check_traces,
)
from healthomics_gateway.check.step import Status
from healthomics_gateway.telemetry.spans import Tracer
from healthomics_gateway.telemetry.tracing_setup import TracingError

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


async def test_log_on_a_terminal_is_not_written_to() -> None:
    """An event would only be in the way of a person who reads the steps."""
    own, other = pty.openpty()
    result = await check_log(Found(environ={}, log_file=other))
    os.set_blocking(own, False)

    assert (Status.OK, "standard error is this terminal") == (
        result.status,
        result.detail,
    )
    with pytest.raises(BlockingIOError):
        os.read(own, 1)
    for each in (own, other):
        os.close(each)


async def test_traces_that_cannot_be_set_up_are_a_fault() -> None:
    """The variable that asks for them is named, and what to do."""

    def make(_environ: Mapping[str, str]) -> Tracer:
        raise TracingError("the extra otel isn't installed")

    found = Found(environ={ENDPOINT: "http://a"}, log_file=-1)
    result = await check_traces(found, make=make)

    assert Status.FAILED is result.status
    assert f"{ENDPOINT} asks for traces, but the extra otel isn't installed" in (
        result.problems
    )


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        pytest.param({}, Status.SKIPPED, id="none"),
        pytest.param({ENDPOINT: "http://127.0.0.1:1"}, Status.OK, id="valid"),
        pytest.param(
            {ENDPOINT: "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"},
            Status.FAILED,
            id="unknown-protocol",
        ),
        pytest.param(
            {ENDPOINT: "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER": "smoke"},
            Status.FAILED,
            id="unknown-sampler",
        ),
    ],
)
async def test_traces_are_set_up_as_the_gateway_does(
    environ: dict[str, str], status: Status
) -> None:
    """The variables are checked by the code that follows them."""
    result = await check_traces(Found(environ=environ, log_file=-1))

    assert status is result.status
