"""Runs `healthomics-gateway check`, or prepares some of its steps."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from healthomics_gateway.check.found import Found
from healthomics_gateway.settings.load import load
from healthomics_gateway.upstream.config import Aws
from testkit.builders import Sandbox
from testkit.gateway_process import CREDENTIALS, PROGRAM
from testkit.sts_server import FakeSts

SECONDS = 50.0  # for the whole command
BASE = {  # no settings of this machine
    "PATH": os.environ["PATH"],
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "GATEWAY_LISTEN": "127.0.0.1:0",
    "GATEWAY_ADMIN_LISTEN": "127.0.0.1:0",
    # So that coverage also measures child processes.
    **{name: text for name, text in os.environ.items() if name.startswith("COV")},
}


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome of one check."""

    code: int
    steps: dict[str, dict[str, Any]]  # by name

    @property
    def failed(self) -> list[str]:
        """The names of the steps that have failed."""
        return self.named("failed")

    def named(self, status: str) -> list[str]:
        """Return the names of the steps with a status."""
        return [name for name, each in self.steps.items() if each["status"] == status]

    def said(self, name: str) -> str:
        """Return all text of a step."""
        step = self.steps[name]
        return "\n".join([step["detail"], *step["problems"], *step["notes"]])


@asynccontextmanager
async def found_at(
    aws: Aws, file: Path | None = None, **more: Any
) -> AsyncIterator[Found]:
    """Prepare what earlier steps find with this AWS and this file of settings."""
    found = Found(
        environ=os.environ,
        log_file=-1,
        aws=aws,
        provider=aws.provider(lambda _: None),
        loaded=load(flags={}, environ={}, config_file=file),
        **more,
    )
    yield found
    await found.close()


@asynccontextmanager
async def healthy(**sts: Any) -> AsyncIterator[tuple[dict[str, str], FakeSts]]:
    """Serve a sandbox and an STS; return the environment with which a check passes."""
    async with Sandbox(quota_per_second=0) as sandbox, FakeSts(**sts) as fake:
        environ = BASE | CREDENTIALS
        environ["AWS_ENDPOINT_URL_OMICS"] = sandbox.url
        environ["AWS_ENDPOINT_URL_STS"] = fake.url
        yield environ, fake


async def check(
    environ: dict[str, str],
    *arguments: str,
    stderr: int = DEVNULL,
    files: int = 1024,
    **changes: str,
) -> Checked:
    """Run a check with these variables, `changes` included; empty ones are unset.

    `files` is the limit on open files.
    """
    code, out, _ = await run(
        {key: value for key, value in (environ | changes).items() if value},
        *("check", "--json", *arguments),
        stderr=stderr,
        files=files,
    )
    steps = {each["step"]: each for each in json.loads(out)["steps"]}
    return Checked(code, steps)


async def run(
    environ: dict[str, str], *arguments: str, stderr: int = PIPE, files: int = 1024
) -> tuple[int, str, str]:
    """Run the program to its end; return its exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"),
        *(sys.executable, *PROGRAM, *arguments),
        env=environ,
        stdout=PIPE,
        stderr=stderr,
    )
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    code = process.returncode
    assert code is not None
    return code, out.decode(), (err or b"").decode()


def written(folder: Path, toml: str) -> str:
    """Write a settings file and return its path."""
    file = folder / "gateway.toml"
    file.write_text(toml, encoding="utf-8")
    return str(file)
