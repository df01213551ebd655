"""The steps of deploy/Dockerfile, performed without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.installed import ENVIRON, RUN, answer
from deploy.tools import DEPLOY, ROOT
from testkit.tools import missing

DOCKERFILE = DEPLOY / "Dockerfile"
HADOLINT = ROOT / ".venv" / "bin" / "hadolint"
TOP = "/usr/local/lib/healthomics-gateway"
FOLDERS = ("/src", "/wheels", TOP)  # of the image, in which the steps work
# A Python that every user can run, as in the image; a developer's own needn't be.
PYTHON = Path("/usr/bin/python3")
READ_ONLY = 'mount -o remount,bind,ro / && exec "$@"'
OLDEST = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"


def instructions() -> list[tuple[str, str]]:
    """Return each instruction of the Dockerfile and its arguments."""
    lines = [
        line
        for line in DOCKERFILE.read_text().splitlines()
        if not line.lstrip().startswith("#")
    ]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in map(_split, text.splitlines()) if word]


def _split(line: str) -> tuple[str, str, str]:
    return line.strip().partition(" ")


def the_last(word: str) -> str:
    """Return the arguments of the last instruction of a kind."""
    return [rest for each, rest in instructions() if each == word][-1]


def health_check() -> list[str]:
    """Return the command of the HEALTHCHECK."""
    command: list[str] = json.loads(the_last("HEALTHCHECK").partition("CMD ")[2])
    return command


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """Perform the steps of the stage `build` below a folder, and make it read-only."""
    if subprocess.run([PYTHON, "-c", OLDEST], check=False).returncode:
        missing(f"{PYTHON} is older than 3.11, or has no venv")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    for each in FOLDERS:
        (folder / each[1:]).mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(PYTHON)
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            copy(*rest.split(), to=folder / "src")
        if word == "RUN":
            run(rest, folder)
    subprocess.run(["/bin/chmod", "-R", "a-w", folder], check=True)
    yield folder
    subprocess.run(["/bin/chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)


def copy(*paths: str, to: Path) -> None:
    """Copy files of the repository that git knows, as in a new clone."""
    *sources, target = paths
    done = subprocess.run(
        ["git", "ls-files", *sources],  # noqa: S607  # git is found on the PATH
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    found = done.stdout.decode().split()
    assert found
    for name in found:
        inside = Path(name).relative_to(sources[0]) if len(sources) == 1 else name
        (to / target / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, to / target / inside)


def run(command: str, folder: Path) -> None:
    """Run a command in a folder, with the image's paths below it."""
    for each in FOLDERS:
        command = command.replace(f"{each}/", f"{folder}{each}/")
        command = re.sub(rf"{each}(?= )", f"{folder}{each}", command)
    path = f"{folder}/bin:/usr/bin:/bin"
    subprocess.run(
        ["/bin/sh", "-ec", command],
        cwd=folder / "src",
        env=os.environ | {"PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        check=True,
    )


def test_hadolint_finds_no_fault() -> None:
    """The Dockerfile follows the rules of hadolint, none of them ignored."""
    done = subprocess.run(
        [HADOLINT, "--no-color", DOCKERFILE], capture_output=True, check=False
    )

    assert b"" == done.stdout
    assert 0 == done.returncode


def test_user_is_a_number_that_is_not_root() -> None:
    """Kubernetes' runAsNonRoot needs a number, the one of the chart."""
    values = (DEPLOY / "helm/healthomics-gateway/templates/deployment.yaml").read_text()
    user, group = the_last("USER").split(":")

    assert "0" != user == group
    assert f"runAsUser: {user}" in values


def test_bases_are_slim_and_equal() -> None:
    """Both stages have one base, which the label names, with the Python of the lint.

    This is the oldest one that the package allows, and the one of CI.
    """
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    version = project["tool"]["mypy"]["python_version"]

    assert [f"python:{version}-slim-bookworm"] * 2 == bases
    assert f'base.name="docker.io/library/{bases[0]}"' in the_last("LABEL")
    assert f">={version}" == project["project"]["requires-python"]
    if os.environ.get("CI"):
        assert version == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_only_what_is_copied_is_sent_to_the_engine() -> None:
    """.dockerignore excludes everything but the sources of COPY."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        source.removeprefix("./")
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]

    assert "*" in lines
    assert sorted(copied) == sorted(
        line[1:].rstrip("/") for line in lines if line.startswith("!")
    )


@pytest.mark.timeout(600)  # the packages are downloaded
def test_image_serves_as_another_user_on_a_read_only_system(image: Path) -> None:
    """The gateway serves, answers and is healthy, and its packages are the pinned."""
    top = f"{image}{TOP}"
    path = the_last("ENV").split()[0].removeprefix("PATH=")
    environ = ENVIRON | {
        "PATH": path.replace(TOP, top).replace("$PATH", ENVIRON["PATH"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    (entry,) = json.loads(the_last("ENTRYPOINT"))
    program, *arguments = health_check()
    check = [each.replace("127.0.0.1:9464", "{admin}") for each in arguments]
    found = answer(
        f"{top}/bin/{entry}",
        within=restricted(the_last("USER")),
        check=[f"{top}/bin/{program}", *check],
        environ=environ,
    )
    (site,) = Path(top).glob("lib/python*/site-packages")

    assert RUN == found
    assert ["serve"] == json.loads(the_last("CMD"))
    assert arguments != check
    assert_pinned(site)


def restricted(user_and_group: str) -> list[str]:
    """Return a command that runs another one as a user without any file to write.

    Only root can become another user, and only with the right to mount can it make all
    files read-only; otherwise the command has less of this, or nothing.
    """
    if os.geteuid() != 0:
        return []
    user, group = user_and_group.split(":")
    as_user = [
        *("setpriv", "--reuid", user, "--regid", group),
        *("--clear-groups", "--no-new-privs", "--bounding-set=-all"),
    ]
    read_only = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"]
    is_allowed = subprocess.run([*read_only, "true"], check=False).returncode == 0
    return [*(read_only if is_allowed else []), *as_user]


def assert_pinned(site: Path) -> None:
    """Check that each package has its version in constraints.txt, and pip is gone."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(canonical(each.partition(";")[0]).split("==") for each in lines)
    found = dict(
        canonical(each.name.removesuffix(".dist-info").replace("-", "==")).split("==")
        for each in site.glob("*.dist-info")
    )
    own = {"healthomics-gateway", "healthomics-v1"}

    assert own | {"uvloop", "opentelemetry-sdk", "redis", "hiredis"} <= found.keys()
    assert {"pip", "setuptools"}.isdisjoint(found)
    for name in own:
        found.pop(name)
    assert found.items() <= pinned.items()


def canonical(name: str) -> str:
    """Return the one spelling of a package's name that is used to compare it."""
    return name.strip().lower().replace("_", "-")
