"""The steps about the log and the extras."""

from __future__ import annotations

import os
import pty

import pytest

from healthomics_gateway.check.found import Found
from healthomics_gateway.check.process import (
    check_log,
    check_traces,
    exporter_variable,
    has_otel,
)
from healthomics_gateway.check.step import Status

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
EXPORTER = "OTEL_TRACES_EXPORTER"


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


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({ENDPOINT: "http://a"}, ENDPOINT, id="endpoint"),
        pytest.param({ENDPOINT: " "}, None, id="empty"),
        pytest.param({EXPORTER: "console, otlp"}, EXPORTER, id="exporter"),
        pytest.param({EXPORTER: "none", ENDPOINT: "http://a"}, None, id="none"),
        pytest.param(
            {ENDPOINT: "http://a", "OTEL_SDK_DISABLED": "True"}, None, id="off"
        ),
    ],
)
def test_exporter_is_configured_by_the_standard_variables(
    environ: dict[str, str], expected: str | None
) -> None:
    """An exporter is configured by its name, or by an endpoint alone."""
    assert expected == exporter_variable(environ)


async def test_exporter_without_its_packages_is_a_fault() -> None:
    """The command that installs the extra is named."""
    found = Found(environ={ENDPOINT: "http://a"}, log_file=-1)
    result = await check_traces(found, is_installed=lambda: False)

    assert Status.FAILED is result.status
    assert "pip install 'healthomics-gateway[otel]'" in result.problems[0]


def test_missing_packages_are_noticed() -> None:
    """A package may be missing, or the package around it."""
    assert [True, False, False] == [
        has_otel(("json.decoder",)),
        has_otel(("json.none",)),
        has_otel(("none.decoder",)),
    ]
