"""The files of deploy/, and what helm makes of the chart; promtool."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from testkit.tools import require

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "healthomics-gateway"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
INSECURE = {"settings": {"tls": {"insecure": True}}}  # the least that the chart accepts
# Built by `go install`, helm doesn't know which version of Kubernetes it was made for.
KUBERNETES = "1.33.0"
NAME = "gateway-healthomics-gateway"  # of most objects of the release
FILE = "gateway.toml"  # in the ConfigMap
SECRET = {"secret": {"name": "store"}}
STORE = {"shared": {"url": "rediss://valkey.cache", **SECRET}}


def helm(
    command: str, *arguments: str | Path, values: Mapping[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of helm with values, besides those of the arguments."""
    given = [] if values is None else ["--values", "-"]
    return subprocess.run(  # noqa: PLW1510  # the tests look at the exit code
        [require("helm"), command, *arguments, *given, "--kube-version", KUBERNETES],
        input=yaml.safe_dump(values),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )


def template(
    *arguments: str | Path, values: Mapping[str, Any] | None = None, chart: Path = CHART
) -> subprocess.CompletedProcess[str]:
    """Render the chart with values, besides those of the arguments."""
    name = ("gateway", chart, "--namespace", "omics")
    return helm("template", *name, *arguments, values=values)


def rendered(
    *arguments: str | Path, values: Mapping[str, Any] | None = None
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the chart's manifests, by their kinds and names."""
    done = template(*arguments, values=values)
    assert not done.returncode, done.stderr
    return {
        (each["kind"], each["metadata"]["name"]): each
        for each in documents(done.stdout)
    }


def documents(text: str) -> Iterator[dict[str, Any]]:
    """Yield the manifests in a stream of YAML documents."""
    yield from filter(None, yaml.load_all(text, yaml.CSafeLoader))


def file_of(manifests: Mapping[tuple[str, str], dict[str, Any]]) -> str:
    """Return the gateway's file in the ConfigMap, which isn't that of a dashboard."""
    (file,) = [
        each["data"][FILE]
        for (kind, _), each in manifests.items()
        if kind == "ConfigMap" and FILE in each["data"]
    ]
    return file


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the chart renders with values, and INSECURE."""
    settings = {"tls": {"insecure": True}} | values.get("settings", {})
    return tomllib.loads(file_of(rendered(values={**values, "settings": settings})))


def pod_of(*arguments: str | Path, values: Mapping[str, Any] | None = None) -> Any:
    """Return the template of the pods."""
    manifests = rendered(*arguments, values=values)
    (deployment,) = [
        each for (kind, _), each in manifests.items() if kind == "Deployment"
    ]
    return deployment["spec"]["template"]


def notes_of(values: Mapping[str, Any], tmp_path: Path) -> str:
    """Return what helm shows after an installation."""
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    for each in CHART.rglob("*"):
        copy = tmp_path / each.relative_to(CHART)
        if each.is_dir():
            copy.mkdir()
        else:
            copy.write_bytes(each.read_bytes())
    (tmp_path / "templates" / "notes.yaml").write_text(
        f'{{{{ define "notes" }}}}{notes}{{{{ end }}}}'
        "\nkind: Notes\nmetadata: {name: notes}\n"
        'text: {{ include "notes" . | quote }}\n'
    )
    done = template(values=values, chart=tmp_path)
    (text,) = [each["text"] for each in documents(done.stdout) if "text" in each]
    return str(text)


def promtool(*arguments: str | Path) -> str:
    """Run promtool, which must succeed."""
    program = require("promtool")
    ended = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False
    )
    output = ended.stdout + ended.stderr
    assert 0 == ended.returncode, output
    return output
