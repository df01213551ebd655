"""The command line, as a person or a script meets it."""

from __future__ import annotations

import asyncio
import gc
import json
import os
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
COMMANDS = ("serve", "sandbox", "get", "watch", "settings")
NOWHERE = {  # none of the machine's own AWS settings, nor of ours
    "PATH": os.environ["PATH"],
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    # A child is measured too, where coverage asks for it.
    **{name: text for name, text in os.environ.items() if name.startswith("COV")},
}
ANYWHERE = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
ROUTE = "--address --tls --tls-ca --tls-cert --tls-key --server-name --token-file"

Capture = pytest.CaptureFixture[str]


def program(
    *arguments: str, files: int | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, in an environment of its own.

    It may open so many `files`, by default as many as this process.
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
    """Start a command that goes on until it is told to stop."""
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
    """Send a signal, and give the exit code and what was still to read."""
    process.send_signal(by)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read what a command prints, to the line that has these words."""
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError("".join(lines) + (process.stderr or process.stdout).read())


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """Serve a gateway that asks a sandbox; give its address."""
    with capture_logs():  # what a gateway logs isn't what a command prints
        async with (
            Sandbox(quota_per_second=0) as sandbox,
            gateway(aws_at(sandbox.url)) as running,
        ):
            yield str(running.address)


class Recorder(RunServiceServicer):
    """A gateway that takes note of requests; it answers all but run 408."""

    def __init__(self) -> None:
        self.requests: list[GetRunRequest] = []
        self.seconds: list[float] = []
        self.watches: list[WatchRunRequest] = []

    async def GetRun(  # noqa: N802  # gRPC's own name of the method
        self, request: GetRunRequest, context: Any
    ) -> Run:
        """Answer a run that has its id and nothing else."""
        self.requests.append(request)
        self.seconds.append(context.time_remaining())
        if request.id == "408":
            await asyncio.Event().wait()
        return Run(id=request.id)

    async def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self, request: WatchRunRequest, context: Any
    ) -> AsyncIterator[WatchRunResponse]:
        """Break after a state, unless it is resumed: then the run is completed."""
        self.watches.append(request)
        run = Run(id=request.id, uuid="u", status=RunStatus.RUN_STATUS_RUNNING)
        yield WatchRunResponse(run=run)
        if not request.uuid:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "it broke")
        run.status = RunStatus.RUN_STATUS_COMPLETED
        yield WatchRunResponse(run=run)


@asynccontextmanager
async def recorded() -> AsyncIterator[tuple[str, Recorder]]:
    """Serve a recorder; give its address."""
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
    """Listen on a port, and answer nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def free_port() -> int:
    """Find a port where nobody listens."""
    with taken_port() as port:
        return port


async def get(*arguments: str) -> int:
    """Run `get` beside the event loop that serves it."""
    return await asyncio.to_thread(main, ["get", *arguments])


async def watch(*arguments: str) -> int:
    """Run `watch` beside the event loop that serves it."""
    return await asyncio.to_thread(main, ["watch", *arguments])


# Usage


def test_flag_that_a_command_does_not_know_is_reported_with_its_usage(
    capsys: Capture,
) -> None:
    """The usage is that of the command, and a flag that is alike is suggested."""
    with pytest.raises(SystemExit) as left:
        main(["serve", "--lsten", "127.0.0.1:0"])
    told = capsys.readouterr().err

    assert 2 == left.value.code
    assert told.startswith("usage: healthomics-gateway serve ")
    assert told.endswith("arguments: --lsten 127.0.0.1:0; did you mean --listen?\n")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("serve", "--config --listen --admin-listen --sandbox"),
        ("sandbox", "--listen --latency --quota"),
        ("get", f"--export --max-staleness --timeout --json {ROUTE}"),
        ("watch", f"--min-interval --timeout --json {ROUTE}"),
        ("settings", "--config --sandbox"),
    ],
)
def test_help_of_every_command_says_what_it_does(
    command: str, options: str, capsys: Capture
) -> None:
    """`--help` shows usage, what the command does and its options, and exits 0."""
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    text = capsys.readouterr().out

    assert 0 == left.value.code
    assert text.startswith(f"usage: healthomics-gateway {command} ")
    assert re.search(r"\n\n[A-Z][^\n]+(\n[^\n]+)*\.\n\n", text)
    assert options.split() == re.findall(r"^  (--[a-z-]+)", text, flags=re.MULTILINE)


def test_help_names_every_command_and_exit_code(capsys: Capture) -> None:
    """The program's own help is the way to the rest."""
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    text = capsys.readouterr().out

    assert 0 == left.value.code
    codes = ("0 success", "1 the call failed", "2 invalid usage", "3 the watched run")
    for words in (*COMMANDS, *codes):
        assert words in " ".join(text.split())


def test_help_of_watch_tells_every_exit_code(capsys: Capture) -> None:
    """A script's author learns what each code says of the run."""
    with pytest.raises(SystemExit):
        main(["watch", "--help"])
    text = " ".join(capsys.readouterr().out.split())

    for words in ("0 the run COMPLETED", "1 the call failed", "2 invalid usage"):
        assert words in text
    assert "3 the run ended FAILED, CANCELLED or DELETED" in text


@pytest.mark.parametrize("command", ["get", "watch"])
def test_help_names_the_variable_beside_each_flag(
    command: str, capsys: Capture
) -> None:
    """Whoever configures a machine learns what each flag is called there."""
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


def test_help_of_the_sandbox_lists_every_run(capsys: Capture) -> None:
    """Each id and what it is answered with is a line of its own."""
    with pytest.raises(SystemExit):
        main(["sandbox", "--help"])

    assert set(RUNS_HELP.splitlines()) <= set(capsys.readouterr().out.splitlines())


def test_module_is_the_same_program() -> None:
    """`python -m healthomics_gateway` does the same and exits with the same code."""
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
    assert "listen  " in process.stdout  # all that is set, beside the fault
    assert (same.returncode, same.stdout, same.stderr) == (
        process.returncode,
        process.stdout,
        process.stderr,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param("", "required: COMMAND", id="no-command"),
        pytest.param("fetch 1", "invalid choice: 'fetch'", id="unknown-command"),
        pytest.param("get", "required: ID", id="no-id"),
        pytest.param("get 1 --export ALL", "choose from", id="export"),
        pytest.param("get 1 --timeout 5", "like 250ms, 5s or 2m", id="timeout"),
        pytest.param("get 1 --max-staleness -1s", "--max-staleness", id="staleness"),
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
def test_bad_usage_is_told_in_one_sentence(
    arguments: str, words: str, capsys: Capture
) -> None:
    """What can't be done as it was asked for exits 2 and says what would do."""
    with pytest.raises(SystemExit) as left:
        main(arguments.split())
    out, err = capsys.readouterr()

    assert (2, "") == (left.value.code, out)
    assert words in err.splitlines()[-1]


# get


async def test_get_shows_a_run(capsys: Capture) -> None:
    """A run is shown as a person reads it, and the exit code is 0."""
    async with served() as address:
        code = await get("1000003", "--address", address)
    out, err = capsys.readouterr()

    assert (0, "") == (code, err)
    assert out.startswith("Run 1000003  RUNNING\n  name        HG005-germline\n")
    assert "definition" not in out


async def test_get_shows_a_definition_that_was_exported(capsys: Capture) -> None:
    """With `--export DEFINITION` its place is shown too."""
    async with served() as address:
        code = await get("1000005", "--address", address, "--export", "DEFINITION")

    assert 0 == code
    assert "\n  definition  s3://example-genomics/" in capsys.readouterr().out


async def test_get_prints_one_object_with_all_that_is_known(capsys: Capture) -> None:
    """With `--json` the line reads back as the run, unmodeled members and all."""
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


async def test_get_asks_as_it_is_told(capsys: Capture) -> None:
    """Exports, staleness and timeout reach the gateway; without them, 30 s alone."""
    async with recorded() as (address, recorder):
        await get(
            *("5", "--address", address, "--timeout", "7s", "--max-staleness", "5s"),
            *("--export", "DEFINITION", "--export", "DEFINITION"),
        )
        await get("6", "--address", address)

    expected = GetRunRequest(id="5", export=[RunExport.RUN_EXPORT_DEFINITION] * 2)
    expected.max_staleness.FromSeconds(5)
    assert [expected, GetRunRequest(id="6")] == recorder.requests
    told, default = recorder.seconds
    assert 4 < told < 8
    assert 27 < default < 31
    assert "Run 5  no status\nRun 6  no status\n" == capsys.readouterr().out


async def test_get_of_an_unknown_run_tells_so(capsys: Capture) -> None:
    """Status, reason and request id go to stderr, and the exit code is 1."""
    async with served() as address:
        code = await get("9000404", "--address", address)
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert re.fullmatch(
        r"NOT_FOUND RUN_NOT_FOUND There is no run of this id\.\n"
        r"  request id: [A-Za-z0-9._-]{1,64}\n",
        err,
    )


async def test_get_of_a_bad_id_tells_what_an_id_looks_like(capsys: Capture) -> None:
    """Whoever types a name learns that digits are needed."""
    async with served() as address:
        code = await get("abc", "--address", address)
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert err.startswith("INVALID_ARGUMENT INVALID_REQUEST ")
    assert "\n  id: 1 to 18 ASCII digits are needed.\n" in err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_get_where_nobody_listens_tells_so(host: str, capsys: Capture) -> None:
    """Without a gateway the call fails, and the option that names one is told."""
    code = await get("1", "--address", f"{host}:{free_port()}", "--timeout", "5s")
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert err.startswith("UNAVAILABLE ")
    assert err.endswith("  no gateway answered; check --address\n")


async def test_get_ends_by_its_timeout(capsys: Capture) -> None:
    """A call without an answer ends in time, and the option that gives more is told."""
    async with recorded() as (address, _):
        code = await get("408", "--address", address, "--timeout", "300ms")

    assert 1 == code
    err = capsys.readouterr().err
    assert err.startswith("DEADLINE_EXCEEDED ")
    assert err.endswith("set a longer --timeout\n")


async def test_get_goes_past_a_proxy_to_its_own_machine() -> None:
    """A proxy that the environment names isn't asked for a loopback address."""
    async with served() as address:
        done = await asyncio.to_thread(
            program,
            *("get", "1000003", "--address", address),
            http_proxy=f"http://127.0.0.1:{free_port()}",
        )

    assert (0, "") == (done.returncode, done.stderr)


async def test_get_escapes_what_the_terminal_cannot_show() -> None:
    """A name outside the terminal's character set is no crash."""
    async with served() as address:
        done = await asyncio.to_thread(
            program,
            *("get", "3000002", "--address", address),
            PYTHONIOENCODING="ascii",
        )

    assert (0, "") == (done.returncode, done.stderr)
    assert r"  name        Zo\xeb exome, \u7b2c\u4e8c\u6b21" in done.stdout


def test_get_ends_quietly_at_ctrl_c() -> None:
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
async def test_watch_tells_how_a_run_ended(
    run_id: str, status: str, code: int, capsys: Capture
) -> None:
    """Its last state and the run are shown, and the exit code tells the end."""
    async with served() as address:
        done = await watch(run_id, "--address", address)
    out, err = capsys.readouterr()
    first, second, *_ = out.splitlines()

    assert (code, "") == (done, err)
    assert re.fullmatch(rf"20[0-9-]{{8}} [0-9:]{{8}} UTC  {status}( .*)?", first)
    assert f"Run {run_id}  {status}" == second


async def test_watch_prints_an_object_a_state(capsys: Capture) -> None:
    """With `--json` nothing else is on stdout."""
    async with served() as address:
        code = await watch("1000008", "--json", "--address", address)
    out, err = capsys.readouterr()

    assert (3, "", 1) == (code, err, out.count("\n"))
    assert "RUN_STATUS_FAILED" == json.loads(out)["status"]


async def test_watch_resumes_over_a_broken_connection(capsys: Capture) -> None:
    """It asks anew for the run it has seen, and shows what is new."""
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


async def test_watch_of_an_unknown_run_tells_so(capsys: Capture) -> None:
    """A failed call is told as `get` tells it."""
    async with served() as address:
        code = await watch("9000404", "--json", "--address", address)
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert err.startswith("NOT_FOUND RUN_NOT_FOUND There is no run of this id.\n")


async def test_watch_where_nobody_listens_gives_up(capsys: Capture) -> None:
    """After its timeout it tells what `get` tells."""
    address = f"localhost:{free_port()}"
    code = await watch("1", "--address", address, "--timeout", "100ms")
    out, err = capsys.readouterr()
    first, second, third = err.splitlines()

    assert (1, "") == (code, out)
    assert "the gateway can't be reached; trying again in 0.1 s" == first
    assert second.startswith("UNAVAILABLE ")
    assert "  no gateway answered; check --address" == third


async def test_watch_ends_quietly_where_nobody_reads_on() -> None:
    """A reader that has enough, as `head` has, leaves no traceback behind."""
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


async def test_watch_has_a_line_that_lives_on_a_terminal() -> None:
    """A terminal has it while the run goes on; Ctrl-C leaves the terminal clean."""
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
    """Run it on a terminal of its own, and interrupt it once it shows the pattern."""
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
            os.close(theirs)  # not before: what is still to read could go with it


def test_watch_ends_quietly_at_ctrl_c() -> None:
    """Interrupted while it waits, it exits 1 without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with started([PROGRAM, "watch", "1", "--address", address]) as process:
            connection, _ = listener.accept()
            with connection:
                assert (1, "", "") == ended(process, signal.SIGINT)


class HalfMade:
    """What an interruption leaves of a call, as gRPC does."""

    def __del__(self) -> None:
        """Complain."""
        raise AttributeError


def test_call_that_ctrl_c_leaves_half_made_goes_quietly() -> None:
    """Its complaint, which Python would print, is nobody's."""

    def interrupted() -> None:
        _call = HalfMade()
        raise KeyboardInterrupt

    try:
        interrupted()
    except KeyboardInterrupt as interruption:
        release_traceback(interruption)

    gc.collect()


# get and watch, over TLS and as somebody


@pytest.mark.parametrize("command", ["get", "watch"])
def test_flags_tell_how_a_gateway_is_called(
    command: str, tmp_path: Path, capsys: Capture
) -> None:
    """Transport TLS, with a certificate and with a token."""
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
def test_environment_tells_how_a_gateway_is_called(
    command: str, tmp_path: Path
) -> None:
    """The same by variables, with no flag at all."""
    with secured(tmp_path) as (given, callers):
        environ = {PREFIX + name.upper(): text for name, text in given.items()}
        done = program(command, "7", HEALTHOMICS_GATEWAY_TLS="true", **environ)

    assert (0, "") == (done.returncode, done.stderr)
    assert [f"Bearer {TOKEN}"] == callers.seen
    assert "Run 7  " in done.stdout


@contextmanager
def secured(folder: Path) -> Iterator[tuple[dict[str, str], Callers]]:
    """Serve what asks for a certificate; give all that calls it, by its names."""
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
def test_gateway_that_is_not_trusted_is_told_from_none(
    command: str, tmp_path: Path, capsys: Capture
) -> None:
    """The last line names the flag that may mend it, and the exit code is 1."""
    own, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    with serving(Callers(), own.issue(HOST).credentials()) as address:
        flags = ("--address", address, "--tls-ca", other.ca, "--timeout", "300ms")
        code = main([command, "7", *flags])
    out, err = capsys.readouterr()

    assert (1, "") == (code, out)
    assert "name its authority with --tls-ca" in err.splitlines()[-1]


def test_tls_trusts_what_grpc_is_told_to(tmp_path: Path) -> None:
    """Without authorities of one's own, gRPC's variable names a machine's."""
    own = Authority(tmp_path / "own")
    with serving(Callers(), own.issue(HOST).credentials()) as address:
        done = program(
            *("get", "7", "--tls", "--address", address),
            GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=own.ca,
        )

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("command", ["get", "watch"])
def test_files_that_cannot_be_used_are_told_without_a_traceback(
    command: str, tmp_path: Path
) -> None:
    """Each has a line that names its flag or variable; nothing is called."""
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
            "--tls-key: a private key as PEM is needed",
            "--tls-key: --tls-cert is needed too",
            "HEALTHOMICS_GATEWAY_TOKEN_FILE: one word of visible ASCII is needed",
        )
    ] == done.stderr.splitlines()


def test_token_to_another_machine_asks_for_tls(tmp_path: Path, capsys: Capture) -> None:
    """In plaintext it isn't sent, and one line tells what to add."""
    token = written(tmp_path / "token", TOKEN)
    code = main(["get", "7", "--address", "192.0.2.1:50051", "--token-file", token])
    out, err = capsys.readouterr()

    assert (2, "", 1) == (code, out, err.count("\n"))
    assert err.startswith("healthomics-gateway: --token-file: no token is sent in ")
    assert "--tls" in err


# settings


def test_settings_are_shown_with_their_origins(tmp_path: Path) -> None:
    """Each setting has a line: name, value and origin; AWS's own follow."""
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


def test_settings_tell_every_fault_on_a_line_of_its_own(tmp_path: Path) -> None:
    """Faults of the file, of the environment and of AWS's settings come together."""
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
            "AWS endpoint: ",
            "AWS_CA_BUNDLE: ",
        )
    } == {line[: line.index(": ", 21) + 2] for line in done.stderr.splitlines()}
    assert "canary" not in done.stderr + done.stdout


def test_settings_warn_of_a_pattern_that_matches_others(tmp_path: Path) -> None:
    """What is valid and yet dangerous is a warning; the settings can be used."""
    file = tmp_path / "gateway.toml"
    jwt = 'issuer = "a"\naudience = ["b"]\njwks_url = "https://c/d"\n'
    rule = 'identity = "spiffe://corp*"\n'
    file.write_text(f"[jwt]\n{jwt}[[callers]]\n{rule}", encoding="utf-8")
    done = program("settings", "--config", str(file), AWS_DEFAULT_REGION="eu-west-1")

    assert 0 == done.returncode
    assert done.stderr == (
        "healthomics-gateway: warning: callers[0].identity spiffe://corp*: it also"
        " matches spiffe://corp.evil/x; write the * after a separator, as / or : are\n"
    )


def test_version_is_printed(capsys: Capture) -> None:
    """`--version` prints the program's name and its version."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert 0 == ended.value.code
    assert f"healthomics-gateway {version('healthomics-gateway')}\n" == (
        capsys.readouterr().out
    )


# What can't be written


def run_in_shell(script: str) -> tuple[int, str]:
    """Run a script in which `gateway` is the program; give its code and its stderr."""
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
NO_READER = "exec 3> >(true); wait $!; {} >&3"  # the pipe's reader has left


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
def test_answer_that_cannot_be_written_is_a_failure(script: str, said: str) -> None:
    """The code says so, in one line or, if the reader has left, without a word."""
    assert (1, said) == run_in_shell(script)


async def test_run_that_cannot_be_written_is_a_failure() -> None:
    """What a gateway answers is lost, and so the code isn't that of success."""
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


async def test_id_that_is_no_text_is_refused_like_any_other(capsys: Capture) -> None:
    """Bytes that aren't UTF-8 reach the gateway as what they aren't: an id."""
    async with served() as address:
        code = await asyncio.to_thread(main, ["get", "\udcff", "--address", address])

    assert 1 == code
    assert capsys.readouterr().err.startswith("INVALID_ARGUMENT INVALID_REQUEST ")


# serve


@pytest.mark.guarantee("no-plaintext")
def test_serve_where_others_reach_it_asks_for_certificates(capsys: Capture) -> None:
    """Without certificates it doesn't start, and one sentence says what to set."""
    code = main(["serve", "--sandbox", "--listen", "0.0.0.0:0"])
    out, err = capsys.readouterr()

    assert (2, "", 1) == (code, out, err.count("\n"))
    assert err.startswith("healthomics-gateway: listen 0.0.0.0:0: ")
    for name in ("tls.cert_file", "tls.key_file", "tls.insecure"):
        assert name in err


def test_serve_with_bad_flags_names_them(capsys: Capture) -> None:
    """Each flag that can't be used has a line."""
    code = main(["serve", "--sandbox", "--listen", "here", "--admin-listen", "there"])

    assert 2 == code
    assert ["--listen", "--admin-listen"] == [
        line.split(": ")[1] for line in capsys.readouterr().err.splitlines()
    ]


def test_serve_does_not_start_on_ports_in_use() -> None:
    """Both addresses that are taken are told, and the exit code is 2."""
    with taken_port() as port, taken_port() as admin_port:
        done = program(
            *("serve", "--sandbox", "--listen", f"127.0.0.1:{port}"),
            *("--admin-listen", f"127.0.0.1:{admin_port}"),
        )

    assert (2, "") == (done.returncode, done.stdout)
    told = [each for each in done.stderr.splitlines() if not each.startswith("{")]
    assert {
        f"healthomics-gateway: {name}: it can't be bound; is it in use?"
        for name in (
            f"listen 127.0.0.1:{port}",
            f"admin_listen 127.0.0.1:{admin_port}",
        )
    } == set(told)


def test_serve_with_a_sandbox_shows_an_answer_and_commands_that_work() -> None:
    """What it prints works when copied, whatever settings the machine has."""
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


def test_serve_from_another_folder_prints_whole_paths(tmp_path: Path) -> None:
    """Where the programs aren't below, their paths are whole; Ctrl-C exits 0."""
    with started([PROGRAM, "serve", "--sandbox", *ANYWHERE], cwd=tmp_path) as server:
        printed = read_until(server, "Ctrl-C")
        code, _, _ = ended(server, signal.SIGINT)

    assert 0 == code
    assert f"  {BESIDE / 'grpcurl'} -plaintext " in printed


def test_serve_with_a_sandbox_and_rules_shows_where_it_is(tmp_path: Path) -> None:
    """Where callers must be let in it makes no call of its own, and serves theirs."""
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


def test_serve_with_a_sandbox_assumes_no_role(tmp_path: Path, capsys: Capture) -> None:
    """A rule with a role would fail each call: the sandbox has no STS."""
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


def test_sandbox_prints_what_points_a_gateway_at_it() -> None:
    """A gateway in the printed environment answers the sandbox's runs; Ctrl-C ends."""
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


async def test_sandbox_keeps_to_its_latency_and_quota() -> None:
    """Every answer is held back, and calls beyond the quota are throttled."""
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
    """An address that is taken is told, and the exit code is 2."""
    with taken_port() as port:
        code = main(["sandbox", "--listen", f"127.0.0.1:{port}"])
    out, err = capsys.readouterr()

    assert (2, "") == (code, out)
    assert (
        f"healthomics-gateway: --listen 127.0.0.1:{port}:"
        " the address can't be bound; is it in use?\n"
    ) == err
