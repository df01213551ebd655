"""The settings that a reload changes, and those that need a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from healthomics_gateway.settings.load import load
from healthomics_gateway.settings.reloading import (
    RELOADED,
    changed,
    reload_faults,
    reloaded,
    unserved,
)
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import leaves
from testkit.callers import rule

JWT = """
[jwt]
issuer = "https://issuer.example"
audience = ["gateway"]
jwks_url = "http://127.0.0.1/keys"
"""
SOCKET = """
[[listeners]]
address = "unix:/run/lims.sock"
identity = "lims"
"""
OTHER = 'withhold = ["name"]\n[log]\nlevel = "error"\n'


def settings(toml: str = "") -> Settings:
    """Return the settings in a file."""
    return load(
        flags={}, environ={}, config_file=Path("f"), content=toml.encode()
    ).settings


def test_reload_changes_its_settings_and_no_other() -> None:
    """Rules, withheld members and the log level are taken, other settings aren't."""
    running, read = settings(JWT), settings(f"{OTHER}format = 'text'\n{JWT}{rule('a')}")
    after = reloaded(running, read)

    assert sorted(RELOADED) == sorted(changed(running, after))
    assert ["log.format"] == changed(after, read)
    assert set(RELOADED) <= {name for name, _ in leaves(running)}


@pytest.mark.parametrize(
    ("toml", "names"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("max_in_flight = 8192", [], id="a-default"),
        pytest.param("max_in_flight = 5", ["max_in_flight"], id="a-number"),
        pytest.param(SOCKET, ["listeners"], id="a-table"),
        pytest.param(
            'open_services = ["Health", "Reflection"]', ["open_services"], id="derived"
        ),
        pytest.param(JWT, ["jwt.issuer", "jwt.audience", "jwt.jwks_url"], id="section"),
    ],
)
def test_changed_settings_are_named(toml: str, names: list[str]) -> None:
    """A setting is named if its value differs, wherever it comes from."""
    assert names == changed(settings(), settings(toml))


CHANNELZ = rule("a", methods=["GetRun", "Channelz"])
OTHERS = rule("b", methods=["Channelz"])
PORT = '[[listeners]]\naddress = "127.0.0.1:9"\nservices = '


@pytest.mark.parametrize(
    ("start", "read", "expected"),
    [
        pytest.param(rule("a"), rule("a"), [], id="without"),
        pytest.param(
            rule("a"), rule("b") + CHANNELZ, ["callers[1].methods"], id="added"
        ),
        pytest.param(CHANNELZ, CHANNELZ + rule("b"), [], id="served"),
        pytest.param(CHANNELZ, rule("a"), [], id="removed"),
        pytest.param(
            rule("a"),
            CHANNELZ + OTHERS,
            ["callers[0].methods"],
            id="only-the-first",
        ),
        pytest.param(
            PORT + "['Channelz']\n" + rule("a"),
            PORT + "['Channelz']\n" + CHANNELZ,
            ["callers[0].methods"],
            id="served-only-elsewhere",
        ),
    ],
)
def test_service_that_is_served_only_after_a_restart_is_named(
    start: str, read: str, expected: list[str]
) -> None:
    """A rule can allow Channelz at once, but a listener that runs can't get it."""
    after = reloaded(settings(JWT + start), settings(JWT + read))

    assert expected == list(unserved(settings(JWT + start), after))


@pytest.mark.parametrize(
    ("running", "read", "expected"),
    [
        pytest.param(JWT, JWT + rule("a"), "", id="first-rule-with-tokens"),
        pytest.param(JWT + rule("a"), JWT + rule("b"), "", id="another-rule"),
        pytest.param(JWT + rule("a"), JWT, "callers: without any", id="last-rule"),
        pytest.param("", rule("anonymous"), "callers: no caller", id="first-rule"),
        pytest.param(
            SOCKET, SOCKET + rule("lims"), "callers: no caller", id="first-of-a-socket"
        ),
        pytest.param(
            rule("anonymous"),
            JWT + rule("a"),
            "callers[0].identity a: no caller can prove",
            id="tokens-not-verified-yet",
        ),
        pytest.param(
            SOCKET + rule("anonymous"), rule("anonymous"), "", id="other-setting"
        ),
    ],
)
def test_rules_that_need_a_restart_are_faults(
    running: str, read: str, expected: str
) -> None:
    """Rules are refused if they would open the gateway, or can't apply yet."""
    faults = list(reload_faults(settings(running), settings(read)))

    assert bool(expected) == bool(faults)
    assert [] == [each for each in faults if not each.startswith(expected)]
    assert [] == [each for each in faults if "restart" not in each]
