"""systemd accepts the unit, and rates its hardening at least "OK"."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from deploy.tools import DEPLOY, ROOT
from healthomics_gateway.durations import parse_duration
from healthomics_gateway.settings.environment import variable_of
from healthomics_gateway.settings.load import load
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import names_in
from testkit.tools import require

PAGE = (ROOT / "docs" / "guide" / "deployment.md").read_text()
UNIT = DEPLOY / "systemd" / "healthomics-gateway.service"
SAMPLE = DEPLOY / "systemd" / "gateway.toml"
PROGRAM = "/usr/local/lib/healthomics-gateway/bin/healthomics-gateway"
MOST_EXPOSED = 4.0  # of 10; systemd calls more than that "MEDIUM" or worse


def service() -> dict[str, list[str]]:
    """Return the values of each key of the section [Service]."""
    values: dict[str, list[str]] = {}
    section = re.search(r"(?ms)^\[Service\]\n(.*?)^\[", UNIT.read_text())
    assert section
    for line in section[1].splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, without a running systemd."""
    program = require("systemd-analyze")
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False
    )


def test_unit_is_valid(tmp_path: Path) -> None:
    """`systemd-analyze verify` accepts it, once the program is where it says."""
    copy = tmp_path / UNIT.name
    installed = str(ROOT / ".venv" / "bin" / "healthomics-gateway")
    copy.write_text(UNIT.read_text().replace(PROGRAM, installed))
    done = analyze("verify", copy)

    assert (0, "") == (done.returncode, done.stderr)


def test_unit_without_a_certificate_is_valid(tmp_path: Path) -> None:
    """`systemd-analyze verify` accepts the override of the page."""
    copy = tmp_path / UNIT.name
    installed = str(ROOT / ".venv" / "bin" / "healthomics-gateway")
    copy.write_text(UNIT.read_text().replace(PROGRAM, installed))
    (override,) = re.findall(r"(?s)```ini\n(.*?)```", PAGE)
    (tmp_path / f"{UNIT.name}.d").mkdir()
    (tmp_path / f"{UNIT.name}.d" / "override.conf").write_text(override)
    done = analyze("verify", copy)

    assert (0, "") == (done.returncode, done.stderr)


def uncommented(text: str) -> str:
    """Return a file of settings with the tables that are comments in it."""
    return re.sub(r"(?m)^# (?=\[|\w+ = )", "", text)


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        pytest.param(str, 0, id="as it is"),
        pytest.param(uncommented, 1, id="with the tables in comments"),
    ],
)
def test_sample_of_settings_is_valid(
    change: Callable[[str], str], rules: int, tmp_path: Path
) -> None:
    """The gateway accepts it with the certificate that the unit names."""
    pair = trustme.CA().issue_cert("gateway.corp")
    environ = {
        "AWS_DEFAULT_REGION": "eu-central-1",
        "GATEWAY_SHARED__SECRET": "a secret of more than 32 characters",
    }
    for name, content in (
        ("cert", pair.cert_chain_pems[0]),
        ("key", pair.private_key_pem),
    ):
        content.write_to_path(str(tmp_path / name))
        environ[variable_of(f"tls.{name}_file")] = str(tmp_path / name)
    file = tmp_path / "gateway.toml"
    file.write_text(change(SAMPLE.read_text()))
    found = load(flags={}, environ=environ, config_file=file).settings

    assert rules == len(found.callers)
    assert Settings().drain_time == found.drain_time


def test_unit_is_hardened() -> None:
    """`systemd-analyze security` reports an exposure that it calls OK."""
    done = analyze(
        "security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:g}", UNIT
    )
    exposure = re.search(r"Overall exposure level .*: ([\d.]+) (\w+)", done.stdout)

    assert 0 == done.returncode
    assert exposure
    assert "OK" == exposure[2]
    assert float(exposure[1]) < MOST_EXPOSED


def test_unit_waits_for_the_drain() -> None:
    """It kills the gateway only after `drain_time` and the time to end."""
    drain_time = Settings().drain_time
    (stop,) = service()["TimeoutStopSec"]

    assert (parse_duration(stop) - drain_time).total_seconds() >= 3


def test_unit_sets_only_settings() -> None:
    """Each variable is a setting, and each credential is used by one."""
    known = {variable_of(name) for name in names_in(Settings)}
    assigned = dict(
        each.split("=") for line in service()["Environment"] for each in line.split()
    )
    own = {name: value for name, value in assigned.items() if "GATEWAY" in name}
    credentials = {each.partition(":")[0] for each in service()["LoadCredential"]}

    assert own.keys() <= known
    assert {f"%d/{each}" for each in credentials} == set(own.values())


def test_unit_reloads_by_the_signal_that_the_gateway_handles() -> None:
    """`systemctl reload` sends SIGHUP; the gateway reports the reload by itself."""
    values = service()

    assert ["kill -HUP $MAINPID"] == values["ExecReload"]
    assert ["notify"] == values["Type"]
    assert ["main"] == values["NotifyAccess"]
