"""Settings from environment variables, with a schema of the test."""

from __future__ import annotations

import pytest

from healthomics_gateway.settings.environment import (
    read_environment,
    unknown_variables,
    variable_of,
)
from healthomics_gateway.settings.sources import leaves
from unit.settings.test_sources import Kitchen

SERVICE = {  # variables of a Service named gateway-api with two ports
    "GATEWAY_API_SERVICE_HOST": "10.0.0.1",
    "GATEWAY_API_SERVICE_PORT": "80",
    "GATEWAY_API_SERVICE_PORT_GRPC": "80",
    "GATEWAY_API_SERVICE_PORT_METRICS_2": "9464",
    "GATEWAY_API_PORT": "tcp://10.0.0.1:80",
    "GATEWAY_API_PORT_80_TCP": "tcp://10.0.0.1:80",
    "GATEWAY_API_PORT_80_TCP_PROTO": "tcp",
    "GATEWAY_API_PORT_80_TCP_PORT": "80",
    "GATEWAY_API_PORT_80_TCP_ADDR": "10.0.0.1",
    "GATEWAY_API_PORT_9464_UDP": "udp://10.0.0.1:9464",
}
IPV6 = {
    "GATEWAY_X__Y_SERVICE_HOST": "fd00::1",
    "GATEWAY_X__Y_SERVICE_PORT": "80",
    "GATEWAY_X__Y_PORT": "tcp://[fd00::1]:80",
    "GATEWAY_X__Y_PORT_80_TCP_ADDR": "fd00::1",
}


def test_environment_is_read_by_table() -> None:
    """Two underscores separate a table and its key; other variables are ignored."""
    environ = {
        "GATEWAY_KETTLE__CUPS": "5",
        "GATEWAY_OWNER": "ada",
        "GATEWAY_KETTLE__LID": "shut",
        "GATEWAY_KETTLE": '{"whistle": false}',
        "OWNER": "bob",
        "gateway_owner": "eve",
    }

    assert {"owner": "ada", "kettle": {"cups": 5}} == read_environment(Kitchen, environ)


@pytest.mark.parametrize(
    "name",
    [
        "GATEWAY_SERVICE_HOST",
        "GATEWAY_SERVICE_PORT",
        "GATEWAY_SERVICE_PORT_GRPC",
        "GATEWAY_PORT",
        "GATEWAY_PORT_50051_TCP_ADDR",
        "GATEWAYS",
        "PATH",
    ],
)
def test_variables_of_kubernetes_are_no_fault(name: str) -> None:
    """Variables of a Service named gateway aren't taken for settings."""
    assert [] == unknown_variables(Kitchen, {name: "tcp://10.0.0.1:50051"})


def test_unknown_variables_are_reported_by_name() -> None:
    """Each unknown variable with the prefix is reported, in order."""
    environ = {
        "GATEWAY_TEAPOT": "canary",
        "GATEWAY_KETTLE": "canary",
        "GATEWAY_KETTLE__LID": "canary",
        "GATEWAY_SERVICE": "canary",
        "GATEWAY_OWNER": "ada",
    }

    assert [
        "GATEWAY_KETTLE: there is no such setting",
        "GATEWAY_KETTLE__LID: there is no such setting",
        "GATEWAY_SERVICE: there is no such setting",
        "GATEWAY_TEAPOT: there is no such setting",
    ] == unknown_variables(Kitchen, environ)


@pytest.mark.parametrize("environ", [SERVICE, IPV6], ids=["ipv4", "ipv6"])
def test_variables_of_any_service_are_no_fault(environ: dict[str, str]) -> None:
    """They belong to a Service only if its `…_SERVICE_HOST` is set too."""
    host, *others = environ
    assert [] == unknown_variables(Kitchen, environ)

    alone = {name: environ[name] for name in others}
    assert [f"{name}: there is no such setting" for name in sorted(others)] == (
        unknown_variables(Kitchen, alone)
    )
    of_another_form = dict.fromkeys(others, "canary") | {host: environ[host]}
    assert [f"{name}: there is no such setting" for name in sorted(others)] == (
        unknown_variables(Kitchen, of_another_form)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("GATEWAY_KETTLE_PORT", "tcp://10.0.0.1:80", id="another-service"),
        pytest.param("GATEWAY_API_CUPS", "5", id="no-variable-of-a-service"),
        pytest.param("GATEWAY_API_PORT", "80", id="no-address"),
        pytest.param("GATEWAY_API_PORTS", "tcp://10.0.0.1:80", id="longer"),
        pytest.param("GATEWAY_API_PORT", "", id="empty"),
    ],
)
def test_misspelt_setting_is_reported_beside_a_service(name: str, value: str) -> None:
    """A Service excuses only the variables that Kubernetes sets for it."""
    assert [f"{name}: there is no such setting"] == unknown_variables(
        Kitchen, SERVICE | {name: value}
    )


def test_lower_case_variable_is_reported_with_the_right_name() -> None:
    """A variable in lower case would set nothing, so it is a fault."""
    assert [
        "gateway_owner: there is no such setting; write GATEWAY_OWNER"
    ] == unknown_variables(Kitchen, {"gateway_owner": "eve", "gateway_lid": "shut"})


def test_single_underscore_is_reported_with_the_right_name() -> None:
    """The fault has the name with two underscores."""
    assert [
        "GATEWAY_KETTLE_CUPS: there is no such setting; write GATEWAY_KETTLE__CUPS"
    ] == unknown_variables(Kitchen, {"GATEWAY_KETTLE_CUPS": "5"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("5", 5, id="number"),
        pytest.param("five", "five", id="word"),
        pytest.param("", "", id="empty"),
    ],
)
def test_number_in_the_environment_is_parsed(text: str, value: object) -> None:
    """A text that isn't a number stays a text, for the schema to refuse."""
    assert {"kettle": {"cups": value}} == read_environment(
        Kitchen, {"GATEWAY_KETTLE__CUPS": text}
    )


def test_every_setting_has_a_variable() -> None:
    """The variable of a dotted name sets only that name."""
    for name, value in leaves(Kitchen()):
        read = read_environment(Kitchen, {variable_of(name): str(value)})

        assert [(name, value)] == list(leaves(read))
