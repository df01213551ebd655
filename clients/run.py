"""Runs every client against a gateway whose upstream is a sandbox: `make clients`.

A client whose toolchain is missing is skipped, with a message; if the variable CI is
set, this is a failure.
"""

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent  # where the other programs are installed too
GO = ROOT / "clients/go"
LOOPBACK = "127.0.0.1"
PROGRAM = "healthomics-gateway"
LAST_PRINTED = "AWS_DISABLE_HOST_PREFIX_INJECTION"  # the sandbox's last line
START_SECONDS = 30.0
STOP_SECONDS = 30.0  # the gateway's drain time, and some more for the process to end

WATCH_SECONDS = 120.0  # for a watch of half a minute
MAX_STREAM = "8s"  # so that a watch needs several streams
ENDED = "status: RUN_STATUS_COMPLETED"
OLDEST_MINOR = 8  # of Python 3
OLDEST = (  # what generated/pyproject.toml promises
    "grpcio==1.62.3",
    "grpcio-status==1.62.3",
    "protobuf==4.25.8",
    "googleapis-common-protos==1.63.0",
)
TYPED = ("mypy", "types-protobuf", "types-grpcio")  # for `check_types`

# The files that contain the code blocks of docs/guide/clients.md, by language.
DOCUMENTED = {
    "go": ["go/getrun/main.go", "go/watchrun/main.go"],
    "python": ["python/getrun.py", "python/watchrun.py"],
    "json": ["service-config.json"],
}


class FailedError(Exception):
    """A check or a command failed; the message is one line."""


def main() -> int:
    """Check the code blocks, then run the clients; return the exit code."""
    try:
        check_snippets()
        with_go = has_go()
        if with_go:
            run(BIN / "buf", "generate")
            run("go", "vet", "./...", cwd=GO)
        with sandbox() as aws, gateway(aws) as address:
            run_python(address)
            if with_go:
                run_go(address)
    except FailedError as failure:
        print(f"clients: {failure}", file=sys.stderr)
        return 1
    return 0


def check_snippets() -> None:
    """Check that a client contains each code block of docs/guide/clients.md."""
    text = (ROOT / "docs/guide/clients.md").read_text()
    for language, files in DOCUMENTED.items():
        code = "".join((ROOT / "clients" / each).read_text() for each in files)
        blocks = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)
        if not blocks:
            raise FailedError(f"docs/guide/clients.md shows no {language}")
        for block in blocks:
            if block not in code:
                raise FailedError(
                    f"docs/guide/clients.md shows what isn't in {', '.join(files)}:"
                    f"\n{block}"
                )


def has_go() -> bool:
    """Return whether Go is installed; if not, print that its client is skipped."""
    if shutil.which("go"):
        return True
    if os.environ.get("CI"):
        raise FailedError("go isn't on PATH, and CI requires it")
    print("clients: the Go client is skipped: go isn't on PATH")
    return False


def run_python(address: str) -> None:
    """Run the Python client with the oldest and the newest supported packages.

    It is run twice with each: for an answer and for an error.
    """
    program = "clients/python/getrun.py"
    # gRPC's C core would use a proxy for a loopback address too.
    environment = os.environ | {"no_grpc_proxy": LOOPBACK}
    oldest = python_environment("oldest", *OLDEST, python=oldest_python())
    newest = python_environment("newest", *TYPED)
    for python in (oldest, newest):
        for run_id, expected in (("1000003", 0), ("9000404", 1)):
            run(
                *(python, program, address, run_id),
                environment=environment,
                expected=expected,
            )
    check_watches(address, environment, oldest, newest)
    check_types(newest)


def check_watches(address: str, environment: dict[str, str], *pythons: Path) -> None:
    """Check that the Python client watches a run to its end, over several streams."""
    watches = []
    for number, python in enumerate(pythons, start=1):
        run_id = f"200000{number}"  # takes half a minute to end
        print(f"clients: {python} clients/python/watchrun.py {run_id}", flush=True)
        watches.append(
            subprocess.Popen(
                [python, "clients/python/watchrun.py", address, run_id],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for watch in watches:
        output, notes = watch.communicate(timeout=WATCH_SECONDS)
        is_resumed = "watching again" in notes
        if (watch.returncode, is_resumed) != (0, True) or ENDED not in output:
            raise FailedError(f"a watch went wrong:\n{output}{notes}")


def python_environment(name: str, *packages: str, python: str = sys.executable) -> Path:
    """Return the Python of a new environment that has the stubs and `packages`."""
    folder = ROOT / "build/clients" / name
    run(python, "-m", "venv", "--clear", folder)
    pip = (folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "install", "./generated[errors]", *packages)
    return folder / "bin/python"


def oldest_python() -> str:
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


def check_types(python: Path) -> None:
    """Check that a type checker finds the types of the installed stubs."""
    wrong = "from healthomics.v1.run_pb2 import Run; Run(id=1)"
    # Without the repository's configuration, as in another project.
    mypy = (python, "-m", "mypy", "--config-file", os.devnull, "--no-incremental")
    done = subprocess.run(
        [*mypy, "--strict", "-c", wrong], check=False, capture_output=True, text=True
    )
    if 'Argument "id" to "Run" has incompatible type "int"' not in done.stdout:
        output = done.stdout + done.stderr
        raise FailedError(f"mypy doesn't see the types of the stubs: {output}")


def run_go(address: str) -> None:
    """Run the Go client's tests."""
    environment = os.environ | {"GATEWAY_ADDRESS": address}
    run(
        *("go", "test", "-count=1", "-timeout=120s", "./getrun", "./watchrun"),
        cwd=GO,
        environment=environment,
    )


def run(
    *command: str | Path,
    cwd: Path = ROOT,
    environment: dict[str, str] | None = None,
    expected: int = 0,
) -> None:
    """Run a command; raise FailedError unless its exit code is the expected one."""
    shown = " ".join(str(part).removeprefix(f"{BIN}/") for part in command)
    print(f"clients: {shown}", flush=True)
    code = subprocess.run(command, cwd=cwd, env=environment, check=False).returncode
    if code != expected:
        raise FailedError(f"`{shown}` exited {code}, not {expected}")


@contextmanager
def sandbox() -> Iterator[dict[str, str]]:
    """Serve a sandbox without quota; yield the variables that point to it."""
    process = subprocess.Popen(
        [BIN / PROGRAM, "sandbox", "--quota", "0", "--listen", f"{LOOPBACK}:0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        printed = {}
        while LAST_PRINTED not in printed and process.stdout:
            line = process.stdout.readline()
            if not line:
                raise FailedError("the sandbox ended during its start")
            name, _, value = line.strip().removeprefix("export ").partition("=")
            printed[name] = value
        yield printed
    finally:
        process.kill()
        process.communicate()


@contextmanager
def gateway(aws: dict[str, str]) -> Iterator[str]:
    """Serve a gateway on a free port; yield its address when it is ready."""
    address, admin = free_address(), free_address()
    listen = ["--listen", address, "--admin-listen", admin]
    own = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [BIN / PROGRAM, "serve", *listen],
            env=own | aws | {"GATEWAY_WATCH__MAX_STREAM": MAX_STREAM},
            stdout=log,
            stderr=log,
        )
        try:
            wait_until_ready(process, admin)
            yield address
            stop(process)
        except FailedError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
        finally:
            process.kill()
            process.wait()


def free_address() -> str:
    """Return an unused loopback address."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return f"{LOOPBACK}:{listener.getsockname()[1]}"


def wait_until_ready(process: subprocess.Popen[bytes], admin: str) -> None:
    """Wait until the gateway is ready, for START_SECONDS at most."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise FailedError(f"the gateway exited {process.returncode} at its start")
        if is_ready(admin):
            return
        time.sleep(0.1)
    raise FailedError(f"the gateway isn't ready after {START_SECONDS:.0f} s")


def is_ready(admin: str) -> bool:
    """Return whether the gateway's readiness page answers 200."""
    connection = http.client.HTTPConnection(admin, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the gateway with SIGTERM; raise FailedError unless it exits with 0."""
    process.terminate()
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise FailedError(f"the gateway ignores SIGTERM {STOP_SECONDS:.0f} s") from None
    if code != 0:
        raise FailedError(f"the gateway exited {code} after SIGTERM")


if __name__ == "__main__":
    sys.exit(main())
