"""A gateway that serves by several worker processes."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc import StatusCode

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app.shutdown import DEAD, FORCED
from healthomics_gateway.sandbox import Sandbox
from load.sigterm import DRAIN_SECONDS, alone
from testkit.builders import ANYWHERE, Upstream, get_run, http, refused
from testkit.gateway_process import (
    NEVER,
    PROGRAM,
    START_SECONDS,
    STOP_SECONDS,
    Served,
    client,
    serving,
)
from testkit.metrics import Scrape, settled

RUN = "1000003"
OWN_CONNECTION = {"grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0}
CONNECTIONS = 16  # so many that each worker has almost always some
BACK_SECONDS = 0.05, 0.05
CALLERS = 50
SLOW_SECONDS = 2.0  # until the upstream answers


def processes(served: Served) -> list[int]:
    """Return the ids of the worker processes, in the order of their starts."""
    (zygote,) = children(served.process.pid)
    return children(zygote)


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in found.split()]


@asynccontextmanager
async def connected(served: Served) -> AsyncIterator[list[Any]]:
    """Open many connections, so that each worker has some; return their stubs."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(client(served, **OWN_CONNECTION))
            for _ in range(CONNECTIONS)
        ]


async def answers_of_both(served: Served) -> Sequence[Run]:
    """Call over one new connection after another, until both workers have answered."""
    answers, seen = [], set()
    async with AsyncExitStack() as stack:
        while seen != {0, 1}:
            stub = await stack.enter_async_context(client(served, **OWN_CONNECTION))
            answers.append(await get_run(stub, RUN))
            seen.add((await served.event("call"))["worker"])
    assert {RUN} == {each.id for each in answers}
    return answers


async def page(served: Served, path: str) -> tuple[int, str]:
    """Return the status and the text of an admin page."""
    async with aiohttp.request("GET", f"http://{served.admin_address}{path}") as answer:
        return answer.status, await answer.text()


async def gone(pids: Sequence[int], seconds: float) -> None:
    """Wait until these processes have ended; they aren't children of this one."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        assert await asyncio.to_thread(ended.poll, 1000 * seconds)
        os.close(descriptor)


@pytest.mark.guarantee("workers-replaced")
async def test_workers_share_the_port_and_are_replaced() -> None:
    """Both workers serve; when one is killed, the other serves on, and a new one too.

    Ctrl-C reaches only the supervisor, which ends with 0 when both have ended.
    """
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        serving(sandbox.url, GATEWAY_WORKERS="2") as served,
    ):
        first, second = processes(served)
        await answers_of_both(served)
        assert (200, "ok\n") == await page(served, "/readyz")
        os.kill(first, signal.SIGKILL)
        ended = await served.event("worker_ended")
        async with connected(served) as stubs:
            for stub in stubs:
                assert RUN == (await get_run(stub, RUN)).id
            started = await served.event("worker_started")
        await answers_of_both(served)
        groups = {os.getpgid(each) for each in processes(served)}
        served.process.send_signal(signal.SIGINT)
        code = await served.ended(25 + STOP_SECONDS)

    assert (first, "SIGKILL") == (ended["pid"], ended["signal"])
    assert ended["worker"] == started["worker"]
    assert started["pid"] not in (first, second)
    assert os.getpgid(0) not in groups
    assert 0 == code


async def test_pages_are_those_of_all_workers() -> None:
    """Counts stay when a worker is killed, and the gateway is ready all the time."""
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        serving(sandbox.url, GATEWAY_WORKERS="2") as served,
    ):
        killed, other = processes(served)
        calls = len(await answers_of_both(served))

        def all_have_reported(found: Scrape) -> bool:
            counted = found.value("grpc_server_started_total", grpc_method="GetRun")
            return (2, calls) == (found.value("workers"), counted)

        before = await settled(served, all_have_reported)
        os.kill(killed, signal.SIGKILL)
        await served.event("worker_ended")
        meanwhile = await page(served, "/readyz?verbose")
        await served.event("worker_started")
        after = await settled(served, all_have_reported)
        _, text = await page(served, "/statusz?format=json")

    assert [0, 1] == [each.value("worker_restarts_total") for each in (before, after)]
    assert [1, 1] == [each.value("ready") for each in (before, after)]
    assert 200 == meanwhile[0]
    assert meanwhile[1].splitlines()[-1] in (
        "workers: worker 0 is starting again (ended by SIGKILL)",
        "workers: ok",  # if it was back at once
    )
    workers = json.loads(text)["workers"]
    assert [(0, 1), (1, 0)] == [(each["worker"], each["restarts"]) for each in workers]
    assert [False, True] == [each["pid"] in (killed, other) for each in workers]


@pytest.mark.guarantee("workers-drain")
async def test_sigterm_loses_no_call_of_any_worker() -> None:
    """With calls under way on many connections, only late calls are refused."""
    ending = await alone(
        BACK_SECONDS, number=CALLERS, connections=CONNECTIONS, GATEWAY_WORKERS="2"
    )

    assert Counter() == ending.lost
    assert 0 == ending.exit_code
    assert ending.seconds <= DRAIN_SECONDS + STOP_SECONDS


@asynccontextmanager
async def calls_under_way() -> AsyncIterator[tuple[Served, list[asyncio.Task[Any]]]]:
    """Serve by two workers, with calls on many connections that would never end."""
    async with (
        Upstream(NEVER) as upstream,
        serving(upstream.url, GATEWAY_DRAIN_TIME="60s", GATEWAY_WORKERS="2") as served,
        connected(served) as stubs,
    ):
        calls = [asyncio.create_task(refused(get_run(each, RUN))) for each in stubs]
        async with asyncio.timeout(START_SECONDS):
            await upstream.asked.wait()
        yield served, calls


async def test_second_signal_ends_the_drain_of_all_workers() -> None:
    """At a second signal the calls of each worker end with GATEWAY_DRAINING."""
    async with calls_under_way() as (served, calls):
        served.terminate()
        await served.event("draining")
        status = await page(served, "/readyz")
        served.terminate()
        failures = await asyncio.gather(*calls)
        code = await served.ended(START_SECONDS)

    assert (503, "GATEWAY_DRAINING\n") == status
    assert {(StatusCode.UNAVAILABLE, "GATEWAY_DRAINING")} == {
        (each.code, each.reason) for each in failures
    }
    assert 0 == code


@pytest.mark.guarantee("workers-drain")
async def test_workers_end_with_their_supervisor() -> None:
    """Workers whose supervisor is killed drain, and so does the zygote."""
    async with (
        Sandbox() as sandbox,
        serving(sandbox.url, GATEWAY_WORKERS="2") as served,
    ):
        pids = [*children(served.process.pid), *processes(served)]
        served.process.kill()
        await served.process.wait()
        await gone(pids, START_SECONDS)
        logged = [each["event"] for each in served.events()]

    assert 2 == logged.count("supervisor_ended")


async def test_third_signal_ends_all_workers_at_once() -> None:
    """The calls are cut, and the exit code says so."""
    async with calls_under_way() as (served, calls):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            served.process.send_signal(number)
        code = await served.ended(START_SECONDS)
        await asyncio.gather(*calls)

    assert FORCED == code


@pytest.mark.guarantee("workers-replaced")
@pytest.mark.parametrize(
    ("number", "events"),
    [
        (signal.SIGKILL, ["zygote_ended"]),
        (signal.SIGSTOP, ["zygote_frozen", "zygote_ended"]),
    ],
)
async def test_gateway_drains_and_ends_without_its_zygote(
    number: int, events: list[str]
) -> None:
    """A call under way is answered, then the exit code asks for a restart.

    A zygote that is stopped is killed after 15 s.
    """
    answer = [SLOW_SECONDS, http(json.dumps({"id": RUN}))]
    async with (
        Upstream(answer) as upstream,
        serving(upstream.url, GATEWAY_WORKERS="2") as served,
        client(served, **OWN_CONNECTION) as stub,
    ):
        pids = processes(served)
        (zygote,) = children(served.process.pid)
        call = asyncio.create_task(get_run(stub, RUN))
        await upstream.asked.wait()
        os.kill(zygote, number)
        code = await served.ended(2 * START_SECONDS)
        await gone(pids, START_SECONDS)
        run = await call

    assert DEAD == code
    assert RUN == run.id
    logged = [each["event"] for each in served.events()]
    assert events == [each for each in logged if each.startswith("zygote")]


@pytest.mark.parametrize("name", ["listen", "admin_listen"])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_port_of_another_program_is_a_fault(workers: str, name: str) -> None:
    """The fault is that of a single process, and so is the exit code."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flag = f"--{name.replace('_', '-')}"
        failure = await failed_start("--workers", workers, flag, address)

    assert (2, [f"{name} {address}: it can't be bound; is it in use?"]) == failure


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_fault_in_a_worker_is_that_of_the_gateway(
    workers: str, tmp_path: Path
) -> None:
    """A Unix socket that can't be bound ends the gateway, and no worker restarts."""
    file = tmp_path / "gateway.toml"
    path = tmp_path / "missing" / "gateway.sock"
    file.write_text(f'[[listeners]]\naddress = "unix:{path}"\n')
    failure = await failed_start("--workers", workers, "--config", str(file))
    fault = "it can't be bound; does its directory exist, and is it writable?"

    assert (2, [f"listeners[0].address unix:{path}: {fault}"]) == failure


async def failed_start(*arguments: str) -> tuple[int | None, list[str]]:
    """Return the exit code of a gateway that can't start, and the faults it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *PROGRAM, "serve", "--sandbox"),
        *("--listen", ANYWHERE, "--admin-listen", ANYWHERE, *arguments),
        stderr=PIPE,
    )
    async with asyncio.timeout(START_SECONDS):
        _, printed = await process.communicate()
    lines = printed.decode().splitlines()
    faults = [each for each in lines if not each.startswith("{")]
    return process.returncode, [
        each.removeprefix("healthomics-gateway: ") for each in faults
    ]


@pytest.mark.guarantee("workers-rules")
async def test_worker_starts_with_the_newest_rules(tmp_path: Path) -> None:
    """A reload reaches all workers, and one that starts later, whatever the file."""
    file = tmp_path / "gateway.toml"
    file.write_text("")
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        serving(
            sandbox.url, arguments=("--config", str(file)), GATEWAY_WORKERS="2"
        ) as served,
    ):
        file.write_text('withhold = ["name"]')
        served.process.send_signal(signal.SIGHUP)
        reloaded = {
            (await served.event("configuration_reloaded"))["worker"] for _ in range(2)
        }
        before = {each.name for each in await answers_of_both(served)}
        file.write_text("nonsense")
        killed, _ = processes(served)
        os.kill(killed, signal.SIGKILL)
        await served.event("worker_ended")
        await served.event("worker_started")
        after = {each.name for each in await answers_of_both(served)}

    assert {0, 1} == reloaded
    assert {""} == before == after


async def test_sandbox_and_unix_socket_with_workers(tmp_path: Path) -> None:
    """The workers use the sandbox of the supervisor; the first has the Unix socket.

    All of them have an address that is a name.
    """
    file, path = tmp_path / "gateway.toml", tmp_path / "gateway.sock"
    addresses = f"unix:{path}", "localhost:0"
    file.write_text("".join(f'[[listeners]]\naddress = "{a}"\n' for a in addresses))
    async with (
        Sandbox() as sandbox,
        serving(
            sandbox.url,
            arguments=("--sandbox", "--workers", "2", "--config", str(file)),
            stdout=DEVNULL,
        ) as served,
        grpc.aio.insecure_channel(f"unix:{path}") as channel,
    ):
        assert RUN == (await get_run(RunServiceStub(channel), RUN)).id
        await answers_of_both(served)
        served.terminate()
        code = await served.ended(25 + STOP_SECONDS)

    assert 0 == code
    assert not path.exists()
