"""docs/guide/deployment.md agrees with the files of deploy/."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from deploy.tools import DEPLOY, KUBERNETES, ROOT, rendered
from healthomics_gateway.app.gateway import SENDING_SECONDS
from healthomics_gateway.interceptors.drain import QUIET_SECONDS
from testkit.tools import DEPLOY_TOOLS, require

PAGE = (ROOT / "docs" / "guide" / "deployment.md").read_text()
UNIT = (DEPLOY / "systemd" / "healthomics-gateway.service").read_text()


def test_values_of_the_page_render() -> None:
    """The chart accepts the values that the page shows."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

    assert rendered(values=yaml.safe_load(text))


def test_installed_tools_have_the_versions_of_the_page() -> None:
    """The program that the tests use is the one that the page names."""
    (version,) = re.findall(r"go install helm\.sh/helm/v3/cmd/helm@(\S+)", PAGE)
    done = subprocess.run(
        [require("go"), "version", "-m", require("helm", path=DEPLOY_TOOLS)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.search(rf"mod\s+helm\.sh/helm/v3\s+{re.escape(version)}\s", done.stdout)


def test_page_names_each_policy() -> None:
    """The table of IAM has a row for each file, and no other."""
    named = re.findall(r"^\| \[([a-z0-9-]+\.json)\]", PAGE, re.MULTILINE)

    assert sorted(each.name for each in (DEPLOY / "iam").iterdir()) == sorted(named)


def test_page_names_the_oldest_kubernetes_of_the_chart() -> None:
    """The chart refuses an older Kubernetes than the page names."""
    chart = yaml.safe_load((DEPLOY / "helm/healthomics-gateway/Chart.yaml").read_text())
    (oldest,) = re.findall(r"Kubernetes (\d+\.\d+) or newer", PAGE)

    assert f">={oldest}.0-0" == chart["kubeVersion"]
    assert number_of(KUBERNETES) >= number_of(oldest)


def number_of(version: str) -> tuple[int, ...]:
    """Return a version as numbers, which compare as versions do."""
    return tuple(map(int, version.split(".")))


def test_page_installs_the_files_that_the_unit_reads() -> None:
    """The commands for systemd install each file in /etc that the unit names."""
    names = {Path(each).name for each in re.findall(r"/etc/healthomics[\w./-]+", UNIT)}
    commands = re.search(r"(?s)## With systemd.*?```sh\n(.*?)```", PAGE)
    assert commands

    assert {"gateway.toml", "environment", "tls.crt", "tls.key"} <= names
    assert all(name in commands[1] for name in names - {"healthomics-gateway.service"})


def test_page_says_how_soon_a_gateway_without_calls_ends() -> None:
    """It ends before a probe sees that it isn't ready, so a hook has to wait."""
    assert "ends less than a second after" in " ".join(PAGE.split())
    assert QUIET_SECONDS + SENDING_SECONDS < 1
