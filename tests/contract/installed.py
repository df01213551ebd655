"""Checks that an installed gateway serves: it starts, answers one call and ends.

`make wheel` runs it with the program that it has installed from the wheels, and
tests/deploy/test_dockerfile.py with the one of the image.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

RUN = "3000001"  # of the sandbox
STOP_SECONDS = 40
ENVIRON = {
    "PATH": os.environ["PATH"],
    "GATEWAY_LISTEN": "127.0.0.1:0",
    "GATEWAY_ADMIN_LISTEN": "127.0.0.1:0",
}


def answer(
    program: str,
    *,
    within: Sequence[str] = (),
    check: Sequence[str] = (),
    environ: Mapping[str, str] = ENVIRON,
) -> str:
    """Serve with a sandbox, and return the id of the run that a call gets.

    `within` is a command that runs each program, which is appended to it. `check` is a
    command that must succeed meanwhile; {admin} in it is the address of the admin
    pages. Raises CalledProcessError.
    """
    serve = [*within, program, "serve", "--sandbox"]
    run = partial(
        subprocess.run, check=True, cwd="/", env=environ, stdout=subprocess.PIPE
    )
    with subprocess.Popen(
        serve, cwd="/", env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as serving:
        try:
            assert serving.stderr
            served = json.loads(serving.stderr.readline())
            address, admin = served["address"], served["admin_address"]
            got = run([*within, program, "get", RUN, "--json", "--address", address])
            if check:
                run([*within, *(each.replace("{admin}", admin) for each in check)])
        finally:
            serving.terminate()
            serving.communicate(timeout=STOP_SECONDS)
    if serving.returncode:
        raise subprocess.CalledProcessError(serving.returncode, serve)
    found: str = json.loads(got.stdout)["id"]
    return found


def main(arguments: Sequence[str]) -> int:
    """Check the program that is named as an argument; return 1 if it fails."""
    program = Path(*arguments).absolute()
    if answer(str(program)) != RUN:
        sys.stderr.write("it answers with another run\n")
        return 1
    sys.stdout.write(f"{program} serves\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
