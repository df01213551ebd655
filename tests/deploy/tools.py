"""The files of deploy/, and the chart's manifests as helm renders them."""

from __future__ import annotations

import os
import subprocess
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
