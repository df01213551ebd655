"""The command line, run as a program."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest
from botocore.httpsession import get_cert_path
from google.protobuf import json_format
from structlog.testing import capture_logs

from healthomics.v1.run_pb2 import Run, RunExport, RunStatus
from healthomics.v1.run_service_pb2 import (
    GetRunRequest,
    WatchRunRequest,
    WatchRunResponse,
)
from healthomics.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    RunServiceStub,
    add_RunServiceServicer_to_server,
)
from healthomics_gateway.cli.gateway_options import OPTIONS, PREFIX, flag_of
from healthomics_gateway.cli.main import main, release_traceback
from healthomics_gateway.sandbox import RUNS_HELP, Sandbox
from testkit.builders import aws_at, calling, gateway, get_run
from unit.cli.test_connection import HOST, TOKEN, Authority, Callers, serving, written

BESIDE = Path(sys.executable).parent  # where the programs are installed
PROGRAM = str(BESIDE / "healthomics-gateway")
CA_FILE = get_cert_path(verify=True)  # boto3's own
COMMANDS = ("serve", "check", "settings", "sandbox", "get", "watch")
NOWHERE = {  # without AWS settings and settings of the gateway
    "PATH": os.environ["PATH"],
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    # So that coverage also measures child processes.
    **{name: text for name, text in os.environ.items() if name.startswith("COV")},
}
ANYWHERE = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
ROUTE = "--address --tls --tls-ca --tls-cert --tls-key --server-name --token-file"

Capture = pytest.CaptureFixture[str]


def program(
    *arguments: str, files: int | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end in its own environment; return its result.

    `files` is the limit on open files, by default that of this process.
    """
    limited = ["/bin/sh", "-c", f'ulimit -n {files} && exec "$@"', "sh"]
    return subprocess.run(
        [*(limited if files else ()), PROGRAM, *arguments],
        env=NOWHERE | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


@contextmanager
def started(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environ: Mapping[str, str] = NOWHERE,
) -> Iterator[subprocess.Popen[str]]:
    """Start a command that runs until it is stopped."""
    with subprocess.Popen(
        command,
        env=NOWHERE | dict(environ),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], by: signal.Signals) -> tuple[int, str, str]:
    """Send a signal; return the exit code and the remaining output."""
    process.send_signal(by)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Return the output of a command up to the line that contains `words`."""
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError("".join(lines) + (process.stderr or process.stdout).read())


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """Serve a gateway with a sandbox; yield its address."""
    with capture_logs():  # keeps the log of the gateway out of the output
        async with (
            Sandbox(quota_per_second=0) as sandbox,
            gateway(aws_at(sandbox.url)) as running,
        ):
            yield str(running.address)


class Recorder(RunServiceServicer):
    """A gateway that records requests; it answers all but run 408."""

    def __init__(self) -> None:
        self.requests: list[GetRunRequest] = []
        self.seconds: list[float] = []
        self.watches: list[WatchRunRequest] = []

    async def GetRun(  # noqa: N802  # gRPC's own name of the method
        self, request: GetRunRequest, context: Any
    ) -> Run:
        """Answer a run with only its id."""
        self.requests.append(request)
        self.seconds.append(context.time_remaining())
        if request.id == "408":
            await asyncio.Event().wait()
        return Run(id=request.id)

    async def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self, request: WatchRunRequest, context: Any
    ) -> AsyncIterator[WatchRunResponse]:
        """Break after a state; when resumed, send COMPLETED."""
        self.watches.append(request)
        run = Run(id=request.id, uuid="u", status=RunStatus.RUN_STATUS_RUNNING)
        yield WatchRunResponse(run=run)
        if not request.uuid:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "it broke")
        run.status = RunStatus.RUN_STATUS_COMPLETED
        yield WatchRunResponse(run=run)


@asynccontextmanager
async def recorded() -> AsyncIterator[tuple[str, Recorder]]:
    """Serve a recorder; yield it and its address."""
    server, recorder = grpc.aio.server(), Recorder()
    add_RunServiceServicer_to_server(recorder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", recorder
    finally:
        await server.stop(None)


@contextmanager
def taken_port() -> Iterator[int]:
    """Yield a port that is in use and accepts nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    """Return a port that is free."""
    with taken_port() as port:
        return port


async def get(*arguments: str) -> int:
    """Run `get` in a thread beside the event loop of the server."""
    return await asyncio.to_thread(main, ["get", *arguments])


async def watch(*arguments: str) -> int:
    """Run `watch` in a thread beside the event loop of the server."""
    return await asyncio.to_thread(main, ["watch", *arguments])


# Usage


def test_unknown_flag_is_reported_with_usage(
    capsys: Capture,
) -> None:
    """The usage is that of the command, and a similar flag is suggested."""
    with pytest.raises(SystemExit) as left:
        main(["serve", "--lsten", "127.0.0.1:0"])
    reported = capsys.readouterr().err

    assert 2 == left.value.code
    assert reported.startswith("usage: healthomics-gateway serve ")
    assert reported.endswith("arguments: --lsten 127.0.0.1:0; did you mean --listen?\n")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("serve", "--config --listen --admin-listen --workers --sandbox"),
        ("check", "--config --json"),
        ("sandbox", "--listen --latency --quota"),
        ("get", f"--export --max-staleness --timeout --json {ROUTE}"),
        ("watch", f"--min-interval --timeout --json {ROUTE}"),
        ("settings", "--config --sandbox"),
    ],
)
def test_help_describes_each_command(
    command: str, options: str, capsys: Capture
) -> None:
    """`--help` shows usage, description and options, and exits 0."""
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    text = capsys.readouterr().out

    assert 0 == left.value.code
    assert text.startswith(f"usage: healthomics-gateway {command} ")
    assert re.search(r"\n\n[A-Z][^\n]+(\n[^\n]+)*\.\n\n", text)
    assert options.split() == re.findall(r"^  (--[a-z-]+)", text, flags=re.MULTILINE)


def test_help_lists_commands_and_exit_codes(capsys: Capture) -> None:
    """The help of the program lists all commands and exit codes."""
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    text = capsys.readouterr().out

    assert 0 == left.value.code
    codes = ("0 success", "1 the call failed", "2 invalid usage", "3 the watched run")
    for words in (*COMMANDS, *codes):
        assert words in " ".join(text.split())


def test_help_of_watch_lists_exit_codes(capsys: Capture) -> None:
    """The help of `watch` lists what each exit code means."""
    with pytest.raises(SystemExit):
        main(["watch", "--help"])
    text = " ".join(capsys.readouterr().out.split())

    for words in ("0 the run COMPLETED", "1 the call failed", "2 invalid usage"):
        assert words in text
    assert "3 the run ended FAILED, CANCELLED or DELETED" in text


@pytest.mark.parametrize("command", ["get", "watch"])
def test_help_shows_the_variable_of_each_flag(command: str, capsys: Capture) -> None:
    """Each flag for the connection is shown with its variable."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    shown = re.findall(
        r"^  (--[a-z-]+)(?:(?!^  --)[^[])*\[(\w+)", text, flags=re.MULTILINE
    )

    expected = {flag_of(name): PREFIX + name.upper() for name in OPTIONS}
    assert expected == {
        flag: variable for flag, variable in shown if flag in ROUTE.split()
    }


def test_help_of_sandbox_lists_runs(capsys: Capture) -> None:
    """Each id and its answer is a line of the help."""
    with pytest.raises(SystemExit):
        main(["sandbox", "--help"])

    assert set(RUNS_HELP.splitlines()) <= set(capsys.readouterr().out.splitlines())


def test_module_is_the_same_program() -> None:
    """`python -m healthomics_gateway` does the same, with the same exit code."""
    process = subprocess.run(
        [sys.executable, "-m", "healthomics_gateway", "settings"],
        env=NOWHERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    same = program("settings")

    assert re.fullmatch(
        r"healthomics-gateway: AWS Region: .*AWS_DEFAULT_REGION.*\n", process.stderr
    )
    assert 2 == process.returncode
    # All settings are shown in addition to the fault.
    shown = [re.split("  +", line)[:2] for line in process.stdout.splitlines()]
    assert ["listen", "127.0.0.1:50051"] in shown
    assert ["jwt.leeway", "30s"] in shown
    assert ["AWS Region", "(see the fault)"] in shown
    assert ["AWS endpoint", "(needs the Region)"] in shown
    assert (same.returncode, same.stdout, same.stderr) == (
        process.returncode,
        process.stdout,
        process.stderr,
    )


@pytest.mark.parametrize(
    ("arguments", "needed", "unneeded"),
    [
        pytest.param(
            "settings",
            {"settings.effective", "settings.load"},
            {
                "argcomplete",
                "grpc",
                "healthomics_gateway.check",
                "healthomics_gateway.cli.call",
                "healthomics_gateway.sandbox",
            },
            id="settings",
        ),
        pytest.param(
            "serve --listen unix:/missing/a.sock --admin-listen 127.0.0.1:0",
            {"app.process", "app.gateway"},
            {
                "argcomplete",
                "healthomics_gateway.check",
                "healthomics_gateway.cli.call",
                "healthomics_gateway.cli.client",
                "healthomics_gateway.sandbox",
            },
            id="serve",
        ),
    ],
)
def test_command_imports_only_what_it_needs(
    arguments: str, needed: set[str], unneeded: set[str]
) -> None:
    """`settings` doesn't import gRPC, and `serve` no sandbox and no client."""
    words = arguments.split()
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "healthomics_gateway", *words],
        env=NOWHERE | {"AWS_REGION": "eu-west-1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}

    assert {f"healthomics_gateway.{each}" for each in needed} <= imported
    assert set() == unneeded & imported


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("", "required: COMMAND", id="no-command"),
        pytest.param("fetch 1", "invalid choice: 'fetch'", id="unknown-command"),
        pytest.param("get", "required: ID", id="no-id"),
        pytest.param("get 1 --export ALL", "choose from", id="export"),
        pytest.param("get 1 --timeout 5", "like 250ms, 5s or 2m", id="timeout"),
        pytest.param("get 1 --max-staleness -1s", "--max-staleness", id="staleness"),
        pytest.param("check 12a", "1 to 18 digits", id="id-to-check"),
        pytest.param("check 1234567890123456789", "1 to 18 digits", id="long-id"),
        pytest.param("watch", "required: ID", id="no-id-to-watch"),
        pytest.param("watch 1 --min-interval 2", "like 250ms", id="interval"),
        pytest.param("watch 1 --timeout 5", "like 250ms", id="patience"),
        pytest.param("sandbox --listen 9900", "like 127.0.0.1:50051", id="no-host"),
        pytest.param("sandbox --listen a:65536", "like 127.0.0.1:50051", id="port"),
        pytest.param("sandbox --latency 5", "like 250ms, 5s or 2m", id="latency"),
        pytest.param("sandbox --quota=-1", "a number of calls, or 0", id="negative"),
        pytest.param("sandbox --quota ten", "a number of calls, or 0", id="word"),
    ],
)
def test_invalid_usage_is_reported_in_one_sentence(
    arguments: str, words: str, capsys: Capture
) -> None:
    """Invalid usage exits 2 with one sentence that says what would be valid."""
    with pytest.raises(SystemExit) as left:
        main(arguments.split())
    out, err = capsys.readouterr()

    assert (2, "") == (left.value.code, out)
    assert words in err.splitlines()[-1]


# get


async def test_get_shows_a_run(capsys: Capture) -> None:
    """A run is shown as text, and the exit code is 0."""
    async with served() as address:
        code = await get("1000003", "--address", address)
    out, err = capsys.readouterr()

    assert (0, "") == (code, err)
    assert out.startswith("Run 1000003  RUNNING\n  name        HG005-germline\n")
    assert "definition" not in out


async def test_get_shows_an_exported_definition(capsys: Capture) -> None:
    """With `--export DEFINITION` the location of the definition is shown."""
    async with served() as address:
        code = await get("1000005", "--address", address, "--export", "DEFINITION")

    assert 0 == code
    assert "\n  definition  s3://example-genomics/" in capsys.readouterr().out


async def test_get_prints_json_that_parses_as_the_run(capsys: Capture) -> None:
    """The JSON parses as the run, with its unmodeled members."""
    async with served() as address:
        code = await get("3000002", "--json", "--address", address)
        async with grpc.aio.insecure_channel(address) as channel:
            expected = await get_run(RunServiceStub(channel), "3000002")
    out, err = capsys.readouterr()
    sent = json.loads(out)

    assert (0, "", 1) == (code, err, out.count("\n"))
    assert ("3000002", "Zoë exome, 第二次") == (sent["id"], sent["name"])
    assert "status" not in sent
    assert '"ARCHIVING"' == sent["unmodeledJson"]["status"]
    assert '"IAD89"' == sent["unmodeledJson"]["vpcConfig.edgeLocation"]
    assert "9007199254740993" in sent["unmodeledJson"]["parameters"]
    read = json_format.Parse(out, Run())
    read.observe_time.CopyFrom(expected.observe_time)
    assert expected == read


async def test_get_command_sends_its_options(capsys: Capture) -> None:
    """Exports, staleness and timeout are sent; by default only 30 s."""
    async with recorded() as (address, recorder):
        await get(
            *("5", "--address", address, "--timeout", "7s", "--max-staleness", "5s"),
            *("--export", "DEFINITION", "--export", "DEFINITION"),
        )
        await get("6", "--address", address)

    expected = GetRunRequest(id="5", export=[RunExport.RUN_EXPORT_DEFINITION] * 2)
    expected.max_staleness.FromSeconds(5)
    assert [expected, GetRunRequest(id="6")] == recorder.requests
    reported, default = recorder.seconds
    assert 4 < reported < 8
    assert 27 < default < 31
    assert "Run 5  no status\nRun 6  no status\n" == capsys.readouterr().out


async def test_get_of_an_unknown_run_fails(capsys: Capture) -> None:
    """Status, reason and request id go to stderr, and the exit code is 1."""
    async with served() as address:
        code = await get("9000404", "--address", address)
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert re.fullmatch(
        r"NOT_FOUND RUN_NOT_FOUND There is no run with this id\.\n"
        r"  request id: [A-Za-z0-9._-]{1,64}\n",
        err,
    )


async def test_get_of_an_invalid_id_describes_an_id(capsys: Capture) -> None:
    """The error for a name says that digits are needed."""
    async with served() as address:
        code = await get("abc", "--address", address)
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert err.startswith("INVALID_ARGUMENT INVALID_REQUEST ")
    assert "\n  id: Must be 1 to 18 ASCII digits.\n" in err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_get_without_a_gateway_suggests_the_address(
    host: str, capsys: Capture
) -> None:
    """Without a gateway the call fails, and `--address` is suggested."""
    code = await get("1", "--address", f"{host}:{free_port()}", "--timeout", "5s")
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert err.startswith("UNAVAILABLE ")
    assert err.endswith("  no gateway answered; check --address\n")


async def test_get_stops_at_its_timeout(capsys: Capture) -> None:
    """A call without an answer ends in time, and `--timeout` is suggested."""
    async with recorded() as (address, _):
        code = await get("408", "--address", address, "--timeout", "300ms")

    assert 1 == code
    err = capsys.readouterr().err
    assert err.startswith("DEADLINE_EXCEEDED ")
    assert err.endswith("set a longer --timeout\n")


async def test_get_uses_no_proxy_for_loopback() -> None:
    """A proxy in the environment isn't used for a loopback address."""
    async with served() as address:
        done = await asyncio.to_thread(
            program,
            *("get", "1000003", "--address", address),
            http_proxy=f"http://127.0.0.1:{free_port()}",
        )

    assert (0, "") == (done.returncode, done.stderr)


async def test_get_escapes_characters_that_the_terminal_lacks() -> None:
    """A name outside the character set of the terminal causes no crash."""
    async with served() as address:
        done = await asyncio.to_thread(
            program,
            *("get", "3000002", "--address", address),
            PYTHONIOENCODING="ascii",
        )

    assert (0, "") == (done.returncode, done.stderr)
    assert r"  name        Zo\xeb exome, \u7b2c\u4e8c\u6b21" in done.stdout


def test_get_stops_silently_at_ctrl_c() -> None:
    """Interrupted while it waits, it exits 1 without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with started([PROGRAM, "get", "1", "--address", address]) as process:
            connection, _ = listener.accept()
            with connection:
                assert (1, "", "") == ended(process, signal.SIGINT)


# watch


@pytest.mark.parametrize(
    ("run_id", "status", "code"),
    [
        ("1000005", "COMPLETED", 0),
        ("1000006", "DELETED", 3),
        ("1000007", "CANCELLED", 3),
        ("1000008", "FAILED", 3),
    ],
)
async def test_watch_exits_by_the_final_status(
    run_id: str, status: str, code: int, capsys: Capture
) -> None:
    """The last state and the run are shown; the exit code is that of the status."""
    async with served() as address:
        done = await watch(run_id, "--address", address)
    out, err = capsys.readouterr()
    first, second, *_ = out.splitlines()

    assert (code, "") == (done, err)
    assert re.fullmatch(rf"20[0-9-]{{8}} [0-9:]{{8}} UTC  {status}( .*)?", first)
    assert f"Run {run_id}  {status}" == second


async def test_watch_prints_json_for_each_state(capsys: Capture) -> None:
    """With `--json` there is nothing else on stdout."""
    async with served() as address:
        code = await watch("1000008", "--json", "--address", address)
    out, err = capsys.readouterr()

    assert (3, "", 1) == (code, err, out.count("\n"))
    assert "RUN_STATUS_FAILED" == json.loads(out)["status"]


async def test_watch_command_resumes(capsys: Capture) -> None:
    """It asks for the same run again, and shows what is new."""
    async with recorded() as (address, recorder):
        code = await watch("7", "--address", address, "--min-interval", "2s")
    out, err = capsys.readouterr()
    asked = WatchRunRequest(id="7")
    asked.min_interval.FromSeconds(2)
    asked.heartbeat_interval.FromSeconds(20)
    resumed = WatchRunRequest(uuid="u")
    resumed.MergeFrom(asked)

    assert [asked, resumed] == recorder.watches
    assert 0 == code
    assert re.fullmatch(
        r"the gateway can't be reached; trying again in 0\.[4-6] s\n", err
    )
    assert re.fullmatch(
        r".* UTC  RUNNING\n.* UTC  COMPLETED  after at least .s of RUNNING\n"
        r"Run 7  COMPLETED\n  uuid        u\n",
        out,
    )


async def test_watch_of_an_unknown_run_fails(capsys: Capture) -> None:
    """A failed call is reported as by `get`."""
    async with served() as address:
        code = await watch("9000404", "--json", "--address", address)
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert err.startswith("NOT_FOUND RUN_NOT_FOUND There is no run with this id.\n")


async def test_watch_without_a_gateway_fails(capsys: Capture) -> None:
    """After its timeout it reports the same as `get`."""
    address = f"localhost:{free_port()}"
    code = await watch("1", "--address", address, "--timeout", "100ms")
    out, err = capsys.readouterr()
    first, second, third = err.splitlines()

    assert (1, "") == (code, out)
    assert "the gateway can't be reached; trying again in 0.1 s" == first
    assert second.startswith("UNAVAILABLE ")
    assert "  no gateway answered; check --address" == third


async def test_watch_stops_silently_if_stdout_is_closed() -> None:
    """A reader that stops reading, such as `head`, causes no traceback."""
    async with recorded() as (address, _):
        command = f"{PROGRAM} watch 7 --json --address {address} | head -n 1"
        done = await asyncio.to_thread(
            subprocess.run,
            ["/bin/bash", "-o", "pipefail", "-c", command],
            env=NOWHERE,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    assert (1, 1) == (done.returncode, done.stdout.count("\n"))
    assert ["the gateway can't be reached"] == [
        line.partition(";")[0] for line in done.stderr.splitlines()
    ]


async def test_watch_shows_a_live_line_on_a_terminal() -> None:
    """The live line is there while the run goes on; Ctrl-C removes it."""
    async with served() as address:
        code, screen = await asyncio.to_thread(
            on_terminal,
            [PROGRAM, "watch", "1000003", "--address", address],
            until=rb"(?s)UTC .*then STOPPING",
        )

    assert 1 == code
    assert "Run 1000003\x1b[0m HG005-germline" in screen
    assert screen.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
    assert "Traceback" not in screen


def on_terminal(command: Sequence[str], *, until: bytes) -> tuple[int, str]:
    """Run it on a terminal, and interrupt it after the pattern."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command,
        env=NOWHERE | {"TERM": "xterm", "COLUMNS": "120"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        screen = b""
        try:
            while not re.search(until, screen):
                assert select.select([ours], [], [], 20)[0], screen
                screen += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            code = process.wait(timeout=20)
            return code, (screen + os.read(ours, 65536)).decode()
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)  # only now, because closing it earlier can discard output


def test_watch_stops_silently_at_ctrl_c() -> None:
    """Interrupted while it waits, it exits 1 without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with started([PROGRAM, "watch", "1", "--address", address]) as process:
            connection, _ = listener.accept()
            with connection:
                assert (1, "", "") == ended(process, signal.SIGINT)


class UnfinishedCall:
    """An object that raises when it is deleted, as an unfinished call of gRPC."""

    def __del__(self) -> None:
        """Raise an error."""
        raise AttributeError


def test_unfinished_call_is_freed_silently() -> None:
    """Python prints nothing about an exception in its `__del__`."""

    def interrupted() -> None:
        _call = UnfinishedCall()
        raise KeyboardInterrupt

    try:
        interrupted()
    except KeyboardInterrupt as interruption:
        release_traceback(interruption)

    gc.collect()


# get and watch, with TLS and credentials


@pytest.mark.parametrize("command", ["get", "watch"])
def test_flags_configure_the_connection(
    command: str, tmp_path: Path, capsys: Capture
) -> None:
    """Over TLS, with a certificate and with a token."""
    with secured(tmp_path) as (given, callers):
        flags = [
            part
            for name, text in given.items()
            for part in (f"--{name.replace('_', '-')}", text)
        ]
        code = main([command, "7", "--tls", *flags])
    out, err = capsys.readouterr()

    assert (0, "", [f"Bearer {TOKEN}"]) == (code, err, callers.seen)
    assert "Run 7  " in out


@pytest.mark.parametrize("command", ["get", "watch"])
def test_variables_configure_the_connection(command: str, tmp_path: Path) -> None:
    """The same by variables, without a flag."""
    with secured(tmp_path) as (given, callers):
        environ = {PREFIX + name.upper(): text for name, text in given.items()}
        done = program(command, "7", HEALTHOMICS_GATEWAY_TLS="true", **environ)

    assert (0, "") == (done.returncode, done.stderr)
    assert [f"Bearer {TOKEN}"] == callers.seen
    assert "Run 7  " in done.stdout


@contextmanager
def secured(folder: Path) -> Iterator[tuple[dict[str, str], Callers]]:
    """Serve a gateway that requires a certificate; yield the options, by name."""
    own, callers = Authority(folder / "own"), Callers()
    mine = own.issue("me")
    with serving(callers, own.issue("gateway").credentials(trusted=own.ca)) as address:
        given = {
            "address": address,
            "tls_ca": own.ca,
            "tls_cert": mine.cert,
            "tls_key": mine.key,
            "server_name": "gateway",
            "token_file": written(folder / "token", TOKEN),
        }
        yield given, callers


@pytest.mark.parametrize("command", ["get", "watch"])
def test_untrusted_gateway_suggests_a_flag(
    command: str, tmp_path: Path, capsys: Capture
) -> None:
    """The last line names the flag that may help, and the exit code is 1."""
    own, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    with serving(Callers(), own.issue(HOST).credentials()) as address:
        flags = ("--address", address, "--tls-ca", other.ca, "--timeout", "300ms")
        code = main([command, "7", *flags])
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert "name its authority with --tls-ca" in err.splitlines()[-1]


def test_tls_uses_the_authorities_of_grpc(tmp_path: Path) -> None:
    """Without `--tls-ca`, gRPC's own variable names the authorities."""
    own = Authority(tmp_path / "own")
    with serving(Callers(), own.issue(HOST).credentials()) as address:
        done = program(
            *("get", "7", "--tls", "--address", address),
            GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=own.ca,
        )

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("command", ["get", "watch"])
def test_invalid_files_are_reported_without_a_traceback(
    command: str, tmp_path: Path
) -> None:
    """Each has a line with its flag or variable; no call is made."""
    done = program(
        *(command, "7", "--address", "gateway.example.org:443"),
        *("--tls-key", written(tmp_path / "key", "canary")),
        HEALTHOMICS_GATEWAY_TLS_CA=str(tmp_path / "missing"),
        HEALTHOMICS_GATEWAY_TOKEN_FILE=written(tmp_path / "token", "can ary"),
    )

    assert (2, "") == (done.returncode, done.stdout)
    assert [
        f"healthomics-gateway: {fault}"
        for fault in (
            "HEALTHOMICS_GATEWAY_TLS_CA: No such file or directory",
            "--tls-key: it contains no private key in PEM",
            "--tls-key: set --tls-cert too",
            "HEALTHOMICS_GATEWAY_TOKEN_FILE: it must be one word of printable ASCII",
        )
    ] == done.stderr.splitlines()


def test_token_to_another_machine_requires_tls(tmp_path: Path, capsys: Capture) -> None:
    """It isn't sent in plaintext, and one line says what to add."""
    token = written(tmp_path / "token", TOKEN)
    code = main(["get", "7", "--address", "192.0.2.1:50051", "--token-file", token])
    out, err = capsys.readouterr()

    assert (2, "", 1) == (code, out, err.count("\n"))
    assert err.startswith("healthomics-gateway: --token-file: no token is sent in ")
    assert "--tls" in err


# settings


def test_settings_are_shown_with_their_origins(tmp_path: Path) -> None:
    """Each setting has a line with name, value and origin; AWS's own follow."""
    file = tmp_path / "gateway.toml"
    file.write_text('drain_time = "1m"\n', encoding="utf-8")
    done = program(
        *("settings", "--config", str(file)),
        GATEWAY_LOG__LEVEL="debug",
        AWS_DEFAULT_REGION="eu-west-1",
        AWS_SECRET_ACCESS_KEY="canary",
    )
    shown = [re.split("  +", line) for line in done.stdout.splitlines()]

    assert (0, "") == (done.returncode, done.stderr)
    for row in (
        ["listen", "127.0.0.1:50051", "default"],
        ["drain_time", "1m", f"drain_time in {file}"],
        ["log.level", "debug", "GATEWAY_LOG__LEVEL"],
        ["tls.cert_file", "default"],
        ["AWS Region", "eu-west-1", "AWS's own settings"],
        [
            "AWS endpoint",
            "https://workflows-omics.eu-west-1.amazonaws.com",
            "AWS's own settings",
        ],
    ):
        assert row in shown
    assert "canary" not in done.stdout


def test_settings_report_each_fault_on_a_line(tmp_path: Path) -> None:
    """Faults of file, environment and AWS's settings are reported together."""
    file = tmp_path / "gateway.toml"
    file.write_text("bogus = 1\n", encoding="utf-8")
    environ = {
        "GATEWAY_LOG__LEVEL": "loud",
        "GATEWAY_TEA\nPOT": "1",
        "GATEWAY_TLS__KEY_FILE": "-----BEGIN PRIVATE KEY-----\ncanary\n",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_OMICS": "http://omics.example.org",
        "AWS_CA_BUNDLE": str(tmp_path / "missing.pem"),
    }
    done = program("settings", "--config", str(file), **environ)

    shown = [re.split("  +", line) for line in done.stdout.splitlines()]

    assert 2 == done.returncode
    assert ["tls.key_file", "(not a file)", "GATEWAY_TLS__KEY_FILE"] in shown
    assert ["log.level", "info", "default, GATEWAY_LOG__LEVEL is refused"] in shown
    assert {
        f"healthomics-gateway: {start}"
        for start in (
            f"bogus in {file}: ",
            "GATEWAY_LOG__LEVEL: ",
            "GATEWAY_TEA POT: ",
            "GATEWAY_TLS__KEY_FILE: ",
            "tls.cert_file and tls.key_file: ",
            "AWS endpoint (AWS_ENDPOINT_URL_OMICS, AWS_ENDPOINT_URL): ",
            "AWS_CA_BUNDLE: ",
        )
    } == {line[: line.index(": ", 21) + 2] for line in done.stderr.splitlines()}
    assert "canary" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("environ", "rows"),
    [
        ({}, ["(see the fault)", "(needs the Region)", CA_FILE]),
        (
            {"AWS_ENDPOINT_URL_OMICS": "https://omics.test", "AWS_CA_BUNDLE": CA_FILE},
            ["(see the fault)", "https://omics.test", CA_FILE],
        ),
        (
            {"AWS_ENDPOINT_URL_OMICS": "http://me:canary@omics.test"},
            ["(see the fault)", "(see the fault)", CA_FILE],
        ),
        (
            {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_CA_BUNDLE": "canary"},
            [
                "eu-west-1",
                "https://workflows-omics.eu-west-1.amazonaws.com",
                "(see the fault)",
            ],
        ),
        ({"AWS_PROFILE": "absent"}, ["(see the fault)"] * 3),
    ],
    ids=["none", "endpoint", "bad-endpoint", "bad-ca", "profile"],
)
def test_settings_of_aws_are_shown_as_far_as_they_are_known(
    environ: dict[str, str], rows: list[str]
) -> None:
    """A fault of one doesn't hide the others."""
    done = program("settings", **environ)
    shown = [re.split("  +", line)[:2] for line in done.stdout.splitlines()]

    assert 2 == done.returncode
    assert rows == [value for name, value in shown if name.startswith("AWS ")]
    assert "canary" not in done.stdout + done.stderr


def test_settings_warn_of_a_broad_pattern(tmp_path: Path) -> None:
    """A valid but dangerous pattern is a warning; the exit code is 0."""
    file = tmp_path / "gateway.toml"
    jwt = 'issuer = "a"\naudience = ["b"]\njwks_url = "https://c/d"\n'
    rule = 'identity = "spiffe://corp*"\n'
    file.write_text(f"[jwt]\n{jwt}[[callers]]\n{rule}", encoding="utf-8")
    done = program("settings", "--config", str(file), AWS_DEFAULT_REGION="eu-west-1")

    assert 0 == done.returncode
    assert done.stderr == (
        "healthomics-gateway: warning: callers[0].identity spiffe://corp*: it also"
        " matches spiffe://corp.evil/x; write the * after a separator, such as / or :\n"
    )


def test_version_is_printed(capsys: Capture) -> None:
    """`--version` prints the versions of the program, of gRPC and of Python."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert 0 == ended.value.code
    own, grpc_version = version("healthomics-gateway"), version("grpcio")
    beside = f"grpc {grpc_version}, Python {platform.python_version()}"
    assert f"healthomics-gateway {own} ({beside})\n" == capsys.readouterr().out


# Failed writes


def run_in_shell(script: str) -> tuple[int, str]:
    """Run a script in which `gateway` is the program; return its code and stderr."""
    done = subprocess.run(
        ["/bin/bash", "-c", f'gateway() {{ "{PROGRAM}" "$@"; }}\n{script}'],
        env=NOWHERE | {"AWS_DEFAULT_REGION": "eu-west-1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.returncode, done.stderr


FULL = "healthomics-gateway: standard output: No space left on device\n"
CLOSED = "healthomics-gateway: standard output: Bad file descriptor\n"
NO_READER = "exec 3> >(true); wait $!; {} >&3"  # the reader of the pipe has ended


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param("gateway --help > /dev/full", FULL, id="help-to-a-full-disk"),
        pytest.param(
            "PYTHONUNBUFFERED=1 gateway settings > /dev/full", FULL, id="unbuffered"
        ),
        pytest.param("gateway settings >&-", CLOSED, id="settings-to-nothing"),
        pytest.param(NO_READER.format("gateway settings"), "", id="no-reader"),
        pytest.param(
            NO_READER.format("gateway sandbox --listen 127.0.0.1:0"), "", id="sandbox"
        ),
    ],
)
def test_failed_write_to_stdout_is_a_failure(script: str, said: str) -> None:
    """One line reports the error, but not if the reader has closed the pipe."""
    assert (1, said) == run_in_shell(script)


@pytest.mark.parametrize("to", ["2>&-", "2> /dev/full"])
def test_fault_that_cannot_be_written_has_its_exit_code(to: str) -> None:
    """Invalid usage is 2, also if nothing can be written to stderr."""
    assert (2, "") == run_in_shell(f"gateway settings --config /nowhere {to}")


async def test_failed_write_of_a_run_is_a_failure() -> None:
    """The answer of the gateway is lost, so the exit code isn't 0."""
    async with served() as address:
        to = f"--address {address}"
        for command, said in (
            (f"get 1000003 --json {to} > /dev/full", FULL),
            (f"get 1000003 {to} >&-", CLOSED),
            (f"watch 1000003 {to} > /dev/full", FULL),
            (f"watch 1000003 --json {to} >&-", CLOSED),
        ):
            script = f"gateway {command}"
            assert (1, said) == await asyncio.to_thread(run_in_shell, script)
        no_reader = NO_READER.format(f"gateway get 1000003 --json {to}")
        assert (1, "") == await asyncio.to_thread(run_in_shell, no_reader)


async def test_id_that_is_not_utf_8_is_refused(capsys: Capture) -> None:
    """Bytes that aren't UTF-8 reach the gateway as an invalid id."""
    async with served() as address:
        code = await asyncio.to_thread(main, ["get", "\udcff", "--address", address])

    assert 1 == code
    assert capsys.readouterr().err.startswith("INVALID_ARGUMENT INVALID_REQUEST ")


# serve


@pytest.mark.guarantee("no-plaintext")
def test_serve_on_a_public_address_requires_certificates(capsys: Capture) -> None:
    """Without certificates it doesn't start, and one sentence says what to set."""
    code = main(["serve", "--sandbox", "--listen", "0.0.0.0:0"])
    out, err = capsys.readouterr()

    assert (2, "", 1) == (code, out, err.count("\n"))
    assert err.startswith("healthomics-gateway: listen 0.0.0.0:0: ")
    for name in ("tls.cert_file", "tls.key_file", "tls.insecure"):
        assert name in err


def test_serve_reports_invalid_flags(capsys: Capture) -> None:
    """Each invalid flag has a line."""
    flags = ("--listen here", "--admin-listen there", "--workers 65")
    code = main(["serve", "--sandbox", *" ".join(flags).split()])

    assert 2 == code
    assert ["--listen", "--admin-listen", "--workers"] == [
        line.split(": ")[1] for line in capsys.readouterr().err.splitlines()
    ]


def test_serve_does_not_start_on_ports_in_use() -> None:
    """Both addresses that are in use are reported, and the exit code is 2."""
    with taken_port() as port, taken_port() as admin_port:
        done = program(
            *("serve", "--sandbox", "--listen", f"127.0.0.1:{port}"),
            *("--admin-listen", f"127.0.0.1:{admin_port}"),
        )

    assert (2, "") == (done.returncode, done.stdout)
    reported = [each for each in done.stderr.splitlines() if not each.startswith("{")]
    assert {
        f"healthomics-gateway: {name}: it can't be bound; is it in use?"
        for name in (
            f"listen 127.0.0.1:{port}",
            f"admin_listen 127.0.0.1:{admin_port}",
        )
    } == set(reported)


def test_serve_with_a_sandbox_shows_an_answer_and_commands_that_work() -> None:
    """The printed commands work when copied, with any settings of the machine."""
    here = BESIDE.parent.parent
    hostile = {
        "AWS_PROFILE": "missing",
        "AWS_ENDPOINT_URL_OMICS": "http://omics.example.org",
        "AWS_CA_BUNDLE": "/missing.pem",
        "HEALTHOMICS_GATEWAY_TLS": "true",
    }
    command = [PROGRAM, "serve", "--sandbox", *ANYWHERE]
    with started(command, cwd=here, environ=hostile) as server:
        printed = read_until(server, "Ctrl-C")
        shown = re.search(r"^\$ (.*)$", printed, flags=re.MULTILINE)
        grpcurl = re.search(r"^  (.*grpcurl .*\\\n.*)$", printed, flags=re.MULTILINE)
        assert shown
        assert grpcurl
        copied = [
            subprocess.run(
                ["/bin/sh", "-c", line],
                cwd=here,
                env=NOWHERE,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for line in (shown[1], grpcurl[1])
        ]
        code, _, _ = ended(server, signal.SIGTERM)

    assert 0 == code
    assert "\nRun 1000003  RUNNING\n" in printed
    assert copied[0].startswith("Run 1000003  RUNNING\n")
    assert "2000001" == json.loads(copied[1])["id"]
    relative = str(BESIDE.relative_to(here))
    assert shown[1].startswith(f"{relative}/healthomics-gateway get ")
    assert grpcurl[1].startswith(f"{relative}/grpcurl -plaintext ")


def test_serve_from_another_folder_prints_absolute_paths(tmp_path: Path) -> None:
    """Programs outside this directory have absolute paths; Ctrl-C exits 0."""
    with started([PROGRAM, "serve", "--sandbox", *ANYWHERE], cwd=tmp_path) as server:
        printed = read_until(server, "Ctrl-C")
        code, _, _ = ended(server, signal.SIGINT)

    assert 0 == code
    assert f"  {BESIDE / 'grpcurl'} -plaintext " in printed


def test_serve_with_a_sandbox_and_rules_prints_only_its_address(tmp_path: Path) -> None:
    """If calls need credentials, it makes no call of its own, but serves calls."""
    rules = tmp_path / "gateway.toml"
    rules.write_text('[[callers]]\nidentity = "anonymous"\n', encoding="utf-8")
    command = [PROGRAM, "serve", "--sandbox", *ANYWHERE, "--config", str(rules)]
    with started(command) as server:
        shown = read_until(server, "Ctrl-C stops it")
        found = re.search(r"listens on (\S+) and uses its own sandbox", shown)
        assert found
        code = main(["get", "1000003", "--address", found[1]])

    assert 0 == code
    assert "get 1000003" not in shown


def test_serve_with_a_sandbox_refuses_a_role(tmp_path: Path, capsys: Capture) -> None:
    """A rule with a role would fail each call: the sandbox's STS assumes none."""
    rules = tmp_path / "gateway.toml"
    role = "arn:aws:iam::123456789012:role/omics-read"
    rules.write_text(
        f'[[callers]]\nidentity = "anonymous"\naws_role = "{role}"\n', encoding="utf-8"
    )
    code = main(["serve", "--sandbox", *ANYWHERE, "--config", str(rules)])

    assert 2 == code
    fault = "callers[0].aws_role: the sandbox has no roles; remove aws_role"
    assert f"healthomics-gateway: {fault}\n" == capsys.readouterr().err


# sandbox


def test_sandbox_prints_its_environment() -> None:
    """A gateway in the printed environment uses the sandbox; Ctrl-C stops it."""
    module = [sys.executable, "-m", "healthomics_gateway"]
    with started([*module, "sandbox", "--listen", "127.0.0.1:0"]) as sandbox:
        printed = read_until(sandbox, "AWS_DISABLE_HOST_PREFIX_INJECTION")
        lines = [line.removeprefix("export ") for line in printed.splitlines()]
        environ = dict(line.split("=", 1) for line in lines)
        with started([*module, "serve", *ANYWHERE], environ=environ) as server:
            assert server.stderr
            address = json.loads(server.stderr.readline())["address"]
            done = program("get", "1000005", "--address", address)
            assert 0 == ended(server, signal.SIGTERM)[0]
        assert (0, "", "") == ended(sandbox, signal.SIGINT)

    assert printed.count("\n") == printed.count("export ")
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("Run 1000005  COMPLETED\n")


async def test_sandbox_has_latency_and_quota() -> None:
    """Each answer is delayed, and calls beyond the quota are throttled."""
    options = ("--listen", "127.0.0.1:0", "--latency", "200ms", "--quota", "1")
    with started([PROGRAM, "sandbox", *options]) as process:
        printed = await asyncio.to_thread(read_until, process, "ENDPOINT_URL_OMICS")
        url = printed.strip().rpartition("=")[2]
        async with (
            gateway(aws_at(url), GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as running,
            calling(running) as stub,
        ):
            began = asyncio.get_running_loop().time()
            calls = [get_run(stub, "1000003") for _ in range(6)]
            done = await asyncio.gather(*calls, return_exceptions=True)
            took = asyncio.get_running_loop().time() - began
        assert (0, "") == (await asyncio.to_thread(ended, process, signal.SIGINT))[::2]

    assert took >= 0.2
    refusals = [each for each in done if isinstance(each, grpc.aio.AioRpcError)]
    assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {each.code() for each in refusals}
    assert len(refusals) < len(done)


def test_sandbox_does_not_start_on_a_port_in_use(capsys: Capture) -> None:
    """An address that is in use is reported, and the exit code is 2."""
    with taken_port() as port:
        code = main(["sandbox", "--listen", f"127.0.0.1:{port}"])
    out, err = capsys.readouterr()

    assert (2, "") == (code, out)
    assert (
        f"healthomics-gateway: --listen 127.0.0.1:{port}:"
        " the address can't be bound; is it in use?\n"
    ) == err
