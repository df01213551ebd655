"""What a reload changes, as it is prepared from two contents of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from healthomics_gateway.app.reload_change import MAX_WARNINGS, Change, prepare
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.settings.load import load
from healthomics_gateway.settings.schema import Settings
from testkit.callers import rule

JWT = """
[jwt]
issuer = "https://issuer.example"
audience = ["gateway"]
jwks_url = "http://127.0.0.1/keys"
"""


def settings(content: bytes) -> Settings:
    """Return the settings in a file."""
    return load(flags={}, environ={}, config_file=Path("f"), content=content).settings


def change(before: str, after: str) -> Change:
    """Return what is prepared."""
    start = settings(before.encode())
    return prepare(after.encode(), settings, start, start)


def members(number: int) -> str:
    """Return the setting of unknown members."""
    return f"withhold = {[f'unknown{at}' for at in range(number)]}\n"


def test_only_new_warnings_are_kept() -> None:
    """A warning that was logged before isn't logged at each reload."""
    prepared = change(members(2), members(3))

    assert ["withhold"] == prepared.changed
    (warning,) = prepared.warnings
    assert warning.startswith("withhold unknown2: ")


def test_warnings_have_a_bound() -> None:
    """However many values are questionable, few are looked at and logged."""
    assert MAX_WARNINGS == len(change("", members(9999)).warnings)


def test_rules_that_cannot_be_reloaded_are_faults() -> None:
    """The faults that concern the running settings are raised like all others."""
    with pytest.raises(ConfigurationError, match="to remove the last rule, restart"):
        change(JWT + rule("a"), JWT)
