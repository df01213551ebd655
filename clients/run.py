"""Runs every client against a gateway that asks a sandbox: `make clients`.

A client whose toolchain is absent is skipped with the reason; where the variable
CI is set, that is a failure.
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
BIN = Path(sys.executable).parent  # the environment that runs this has the rest too
GO = ROOT / "clients/go"
LOOPBACK = "127.0.0.1"
PROGRAM = "healthomics-gateway"
LAST_PRINTED = "AWS_DISABLE_HOST_PREFIX_INJECTION"  # of what the sandbox prints
START_SECONDS = 30.0
STOP_SECONDS = 30.0  # the gateway's drain time and what the process needs to end

# Where the code in docs/guide/clients.md is taken from, by the language of its blocks.
DOCUMENTED = {
    "go": GO / "getrun/main.go",
    "python": ROOT / "clients/python/getrun.py",
    "json": ROOT / "clients/service-config.json",
}


class FailedError(Exception):
    """What failed, in one line."""


def main() -> int:
    """Check the snippets, then run the clients; answer the exit code."""
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
    """See that each block of code in docs/guide/clients.md stands in a client."""
    text = (ROOT / "docs/guide/clients.md").read_text()
    for language, source in DOCUMENTED.items():
        blocks = re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)
        if not blocks:
            raise FailedError(f"docs/guide/clients.md shows no {language}")
        for block in blocks:
            if block not in source.read_text():
                raise FailedError(
                    f"docs/guide/clients.md shows what isn't in {source.name}:\n{block}"
                )


def has_go() -> bool:
    """Tell whether Go is there; say so where the Go client is skipped."""
    if shutil.which("go"):
        return True
    if os.environ.get("CI"):
        raise FailedError("go isn't on PATH, and CI requires it")
    print("clients: the Go client is skipped: go isn't on PATH")
    return False


def run_python(address: str) -> None:
    """Run the Python client: once for an answer, once for an error."""
    program = "clients/python/getrun.py"
    # The C core would ask a proxy for a loopback address too.
    environment = os.environ | {"no_grpc_proxy": LOOPBACK}
    for run_id, expected in (("1000003", 0), ("9000404", 1)):
        run(
            *(sys.executable, program, address, run_id),
            environment=environment,
            expected=expected,
        )


def run_go(address: str) -> None:
    """Run the Go client's tests."""
    environment = os.environ | {"GATEWAY_ADDRESS": address}
    run(
        *("go", "test", "-count=1", "-timeout=120s", "./getrun"),
        cwd=GO,
        environment=environment,
    )


def run(
    *command: str | Path,
    cwd: Path = ROOT,
    environment: dict[str, str] | None = None,
    expected: int = 0,
) -> None:
    """Run a command to its end and see that it exits as expected."""
    shown = " ".join(str(part).removeprefix(f"{BIN}/") for part in command)
    print(f"clients: {shown}", flush=True)
    code = subprocess.run(command, cwd=cwd, env=environment, check=False).returncode
    if code != expected:
        raise FailedError(f"`{shown}` exited {code}, not {expected}")


@contextmanager
def sandbox() -> Iterator[dict[str, str]]:
    """Serve a sandbox without quota, and give the environment that points at it."""
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
                raise FailedError("the sandbox ended at its start")
            name, _, value = line.strip().removeprefix("export ").partition("=")
            printed[name] = value
        yield printed
    finally:
        process.kill()
        process.communicate()


@contextmanager
def gateway(aws: dict[str, str]) -> Iterator[str]:
    """Serve a gateway on a free port, and give the address once it is ready."""
    address, admin = free_address(), free_address()
    listen = ["--listen", address, "--admin-listen", admin]
    own = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [BIN / PROGRAM, "serve", *listen],
            env=own | aws,
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
    """Find an address that nothing listens on."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        return f"{LOOPBACK}:{listener.getsockname()[1]}"


def wait_until_ready(process: subprocess.Popen[bytes], admin: str) -> None:
    """Wait for the gateway, as long as it lives and START_SECONDS at most."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise FailedError(f"the gateway exited {process.returncode} at its start")
        if is_ready(admin):
            return
        time.sleep(0.1)
    raise FailedError(f"the gateway isn't ready after {START_SECONDS:.0f} s")


def is_ready(admin: str) -> bool:
    """Ask the gateway's readiness page once."""
    connection = http.client.HTTPConnection(admin, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the gateway as an operator does, and see that it ends well."""
    process.terminate()
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise FailedError(f"the gateway ignores SIGTERM {STOP_SECONDS:.0f} s") from None
    if code != 0:
        raise FailedError(f"the gateway exited {code} after SIGTERM")


if __name__ == "__main__":
    sys.exit(main())
