"""The step about the shared store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from healthomics_gateway.check.shared_store import check_shared
from healthomics_gateway.check.step import Result, Status
from healthomics_gateway.shared.replica import COMMAND_SECONDS
from testkit.builders import aws_at
from testkit.checking import found_at
from testkit.valkey_server import ValkeyServer, free_port, valkey

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """Return a server with a policy that isn't fit."""
    with valkey("--maxmemory-policy", "allkeys-random", port=free_port()) as running:
        yield running


async def checked(folder: Path, url: str = "", *faults: str) -> Result:
    """Return the result of the step for a URL."""
    file = folder / "gateway.toml"
    if url:
        file.write_text(f'[shared]\nurl = "{url}"\nsecret = "{SECRET}"')
    else:
        file.touch()
    async with found_at(aws_at("http://127.0.0.1:1"), file) as found:
        found.faults = faults
        return await check_shared(found)


async def test_store_that_works_is_described(
    server: ValkeyServer, tmp_path: Path
) -> None:
    """Its version, its time for a command, and a policy that may be a mistake."""
    result = await checked(tmp_path, server.url)

    assert Status.OK is result.status
    assert result.detail.startswith("valkey 9")
    assert result.detail.endswith(" ms a command")
    (note,) = result.notes
    assert "its maxmemory-policy allkeys-random may remove" in note


async def test_missing_permissions_are_found(
    server: ValkeyServer, tmp_path: Path
) -> None:
    """To subscribe is one of them; INFO isn't needed."""
    rules = "~* resetchannels &healthomics-gateway:* +@all"
    async with server.client() as admin:
        for user, more in (("deaf", "-subscribe"), ("blind", "-info")):
            command = f"ACL SETUSER {user} reset on >open {rules} {more}"
            await admin.execute_command(command)
    at = f"127.0.0.1:{server.port}"
    deaf = await checked(tmp_path, f"redis://deaf:open@{at}")
    blind = await checked(tmp_path, f"redis://blind:open@{at}")

    assert Status.FAILED is deaf.status
    (problem,) = deaf.problems
    assert f"shared.url redis://***@{at}: its user lacks a permission" in problem
    assert Status.OK is blind.status
    assert "its user may not read INFO" in blind.notes[0]


async def test_store_that_is_too_slow_fails(
    server: ValkeyServer, tmp_path: Path
) -> None:
    """A gateway would never use it."""

    async def delay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = server.url.removeprefix("unix://")
        to_read, to_write = await asyncio.open_unix_connection(path)
        while data := await reader.read(65536):
            to_write.write(data)
            answer = await to_read.read(65536)
            await asyncio.sleep(COMMAND_SECONDS * 1.1)  # the slowness of this store
            writer.write(answer)
        for each in (to_write, writer):
            each.close()
            await each.wait_closed()

    serving = await asyncio.start_server(delay, "127.0.0.1", 0)
    port = serving.sockets[0].getsockname()[1]
    async with serving:
        result = await checked(tmp_path, f"redis://127.0.0.1:{port}")

    assert Status.FAILED is result.status
    assert "but a gateway waits 50 ms; use a store that is nearer" in result.problems[0]


async def test_store_that_cannot_be_reached_fails(tmp_path: Path) -> None:
    """The URL is masked."""
    result = await checked(tmp_path, "redis://:sesame@127.0.0.1:1")

    assert Status.FAILED is result.status
    (problem,) = result.problems
    assert problem.startswith("shared.url redis://***@127.0.0.1:1: it refuses")


async def test_step_is_skipped_without_a_store(tmp_path: Path) -> None:
    """And if its settings have a fault, which another step reports."""
    unset = await checked(tmp_path)
    faulty = await checked(tmp_path, "", "shared.url: write a host")

    assert Status.SKIPPED is unset.status
    assert "shared.url is unset" in unset.detail
    assert Status.SKIPPED is faulty.status
    assert "needs the settings of shared without a fault" in faulty.detail
