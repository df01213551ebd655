"""Checks that an installed gateway serves: it starts, answers one call and ends.

`make wheel` runs it with the program that it has installed from the wheels, and
tests/deploy/test_dockerfile.py with the one of the image.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RUN = "3000001"  # of the sandbox
STOP_SECONDS = 40
ENVIRON = {
    "PATH": os.environ["PATH"],
    "GATEWAY_LISTEN": "127.0.0.1:0",
    "GATEWAY_ADMIN_LISTEN": "127.0.0.1:0",
}


def answer(program: str, *, check: Sequence[str] = (), **options: Any) -> str:
    """Serve with a sandbox, and return the id of the run that a call gets.

    `check` is a command that must succeed meanwhile; {admin} in it is the address of
    the admin pages. `options` are those of `subprocess.Popen`. Raises
    CalledProcessError.
    """
    options = {"env": ENVIRON, "text": True, "cwd": "/"} | options
    command = [program, "serve", "--sandbox"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options
    ) as serving:
        try:
            assert serving.stderr
            served = json.loads(serving.stderr.readline())
            get = [program, "get", RUN, "--json", "--address", served["address"]]
            done = subprocess.run(get, capture_output=True, check=True, **options)
            if check:
                admin = served["admin_address"]
                command = [each.replace("{admin}", admin) for each in check]
                subprocess.run(command, check=True, **options)
        finally:
            serving.terminate()
            serving.communicate(timeout=STOP_SECONDS)
    if serving.returncode:
        raise subprocess.CalledProcessError(serving.returncode, command)
    run: str = json.loads(done.stdout)["id"]
    return run


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
