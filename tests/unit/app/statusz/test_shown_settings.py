"""The settings on the status page: masked, and of a bounded length."""

from __future__ import annotations

from pathlib import Path

import pytest

from healthomics_gateway.app.statusz.bounds import MAX_TEXT
from healthomics_gateway.app.statusz.shown_settings import (
    HIDDEN,
    shown_settings,
)
from healthomics_gateway.settings.load import load
from testkit.callers import LIMS, rule, settings_of_tokens

ROLE = "arn:aws:iam::123456789012:role/omics-read"


def shown(folder: Path, text: str, **environ: str) -> dict[str, str]:
    """Return the settings of a file that aren't defaults, as they are shown."""
    file = folder / "gateway.toml"
    file.write_text(text)
    settings = load(flags={}, environ=environ, config_file=file).settings
    found = list(shown_settings(settings))
    assert {"log.format"} & {each.name for each in found if each.is_default}
    return {each.name: each.value for each in found if not each.is_default}


def socket_of(folder: Path) -> str:
    """Return a Unix socket whose callers have an identity."""
    return f'[[listeners]]\naddress = "unix:{folder}/s"\nidentity = "{LIMS}"\n'


@pytest.mark.guarantee("status-page")
@pytest.mark.parametrize(("is_set", "identity"), [("true", LIMS), ("false", HIDDEN)])
def test_identities_of_rules_and_sockets_are_hidden(
    tmp_path: Path, is_set: str, identity: str
) -> None:
    """Without `statusz.identities` no identity is among the settings."""
    text = rule(LIMS) + socket_of(tmp_path)
    found = shown(tmp_path, text, GATEWAY_STATUSZ__IDENTITIES=is_set)

    assert (identity, identity) == (
        found["callers[0].identity"],
        found["listeners[0].identity"],
    )


@pytest.mark.guarantee("status-page")
def test_role_has_no_account(tmp_path: Path) -> None:
    """Of a role's ARN only its name is shown."""
    found = shown(tmp_path, rule(LIMS, aws_role=ROLE) + socket_of(tmp_path))

    assert "role/omics-read" == found["callers[0].aws_role"]


def test_long_value_is_cut(tmp_path: Path) -> None:
    """A value has at most 500 characters."""
    members = ",".join(f"member{at}" for at in range(200))

    value = shown(tmp_path, "", GATEWAY_WITHHOLD=members)["withhold"]
    assert (MAX_TEXT, "…") == (len(value), value[-1])


def test_no_file_is_read(tmp_path: Path) -> None:
    """A path is shown even if its file has gone, because reading it might hang."""
    environ = settings_of_tokens(tmp_path)
    settings = load(flags={}, environ=environ, config_file=None).settings
    file = tmp_path / "jwks.json"
    file.unlink()

    found = {each.name: each.value for each in shown_settings(settings)}
    assert str(file) == found["jwt.jwks_file"]
