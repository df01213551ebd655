"""The clients: what they need, how they are built, and the programs that they have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from conformance.commands import Command

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"
BUILD = ROOT / "build/clients"
OLDEST_MINOR = 8  # of Python 3
OLDEST = (  # what generated/pyproject.toml promises
    "grpcio==1.62.3",
    "grpcio-status==1.62.3",
    "protobuf==4.25.8",
    "googleapis-common-protos==1.63.0",
)
NEWEST = ("mypy", "types-protobuf", "types-grpcio", "types-grpcio-status")
UNTYPED = "--disable-error-code=import-untyped"  # google.rpc has no types
SERVICE_CONFIG = ("--service-config", "../service-config.json")
TYPES = (  # it fails unless a type checker finds the types of the installed stubs
    "from typing import assert_type; from healthomics.v1.run_pb2 import Run;"
    "assert_type(Run().id, str)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client: `folder` is the one in which its commands run."""

    name: str  # its key in clients/conformance.json
    folder: Path
    tools: tuple[str, ...] = ()  # the programs that must be on PATH
    build: tuple[Command, ...]
    driver: Command = ()  # reads cases from stdin, and prints outcomes
    program: Command = ()  # takes `get ID` or `watch ID`
    options: Command = ()  # of the program
    tests: Command = ()  # its own; the variable GATEWAY has the address to call

    def missing(self) -> list[str]:
        """Return the programs that aren't on PATH."""
        return [tool for tool in self.tools if not shutil.which(tool)]


def clients() -> list[Client]:
    """Return the clients that run the conformance list."""
    return [
        _go(),
        _node("grpc-js"),
        _node("connect-node"),
        _java(),
        _rust(),
        _python("python", sys.executable, NEWEST, check=TYPES),
        _python("python-oldest", _oldest_python(), OLDEST),
    ]


def page() -> Client:
    """Return the web page; its tests need Chromium too."""
    return Client(
        name="web",
        folder=CLIENTS / "web",
        tools=("go", "npm", os.environ.get("CHROMIUM", "chromium")),
        build=(("npm", "ci"), ("npm", "run", "build")),
        tests=("npm", "test"),
    )


def _go() -> Client:
    folder = BUILD / "go"
    return Client(
        name="go",
        folder=CLIENTS / "go",
        tools=("go",),
        build=(
            ("go", "generate", "./..."),
            ("go", "vet", "./..."),
            ("go", "test", "./..."),
            ("go", "build", "-o", f"{folder}/", ".", "./conformance"),
        ),
        driver=(folder / "conformance",),
        program=(folder / "runs",),
        options=SERVICE_CONFIG,
    )


def _node(name: str) -> Client:
    return Client(
        name=name,
        folder=CLIENTS / name,
        tools=("node", "npm"),
        build=(("npm", "ci"), ("npm", "run", "build")),
        driver=("node", "build/src/conformance.js"),
        program=("node", "build/src/main.js"),
        options=SERVICE_CONFIG if name == "grpc-js" else (),
    )


def _java() -> Client:
    java = ("java", "-cp", "target/client.jar:target/lib/*")
    return Client(
        name="java",
        folder=CLIENTS / "java",
        tools=("java", "mvn"),
        build=(("mvn", "-q", "-B", "package"),),
        driver=(*java, "Conformance"),
        program=(*java, "Main"),
        options=SERVICE_CONFIG,
    )


def _rust() -> Client:
    return Client(
        name="rust",
        folder=CLIENTS / "rust",
        tools=("cargo",),
        build=(("cargo", "build", "--quiet"),),
        driver=("target/debug/conformance",),
        program=("target/debug/runs",),
    )


def _python(
    name: str, python: str, packages: tuple[str, ...], *, check: str = ""
) -> Client:
    environment = BUILD / name
    own = environment / "bin/python"
    pip: Command = (own, "-m", "pip", "--disable-pip-version-check", "--quiet")
    # Without the repository's configuration, as in another project.
    mypy: Command = (own, "-m", "mypy", "--config-file", os.devnull, "--strict")
    checks = ((*mypy, "-c", check), (*mypy, UNTYPED, "client.py", "watch.py"))
    return Client(
        name=name,
        folder=CLIENTS / "python",
        build=(
            (python, "-m", "venv", "--clear", environment),
            (*pip, "install", f"{ROOT / 'generated'}[errors]", *packages),
            *(checks if check else ()),
        ),
        driver=(own, "conformance.py"),
        program=(own, "main.py"),
        options=SERVICE_CONFIG,
    )


@cache
def _oldest_python() -> str:
    """Return the oldest Python on PATH that the stubs support."""
    for minor in range(OLDEST_MINOR, sys.version_info.minor):
        program = shutil.which(f"python3.{minor}")
        # A version manager may have a program for a version that isn't selected.
        if (
            program
            and not subprocess.run(
                [program, "-c", ""], check=False, capture_output=True
            ).returncode
        ):
            return program
    return sys.executable
