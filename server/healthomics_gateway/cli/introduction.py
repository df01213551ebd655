"""What `serve --sandbox` prints when it serves."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import TypeAlias

from healthomics_gateway.cli.standard_streams import print_error
from healthomics_gateway.cli.usage import CHANGING_RUN, SHOWN_RUN
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.schema import Settings

SHOW_TIMEOUT = timedelta(seconds=10)

_Show: TypeAlias = Callable[[Address | UnixPath, Address], None]


def introduce(
    settings: Settings, address: Address | UnixPath, admin_address: Address
) -> None:
    """Print what is served, in a thread, as writing to stdout may block or fail.

    The addresses have their real ports.
    """
    is_open = not (settings.tls.cert_file or settings.jwt.is_on or settings.callers)
    show: _Show = _show_one_answer if is_open else _show_address

    def show_it() -> None:
        try:
            show(address, admin_address)
        except OSError as error:
            print_error(f"standard output: {error.strerror}")

    Thread(target=show_it, name="introduction", daemon=True).start()


def _show_address(address: Address | UnixPath, admin_address: Address) -> None:
    """Print only the address, as the settings may not allow a call by this program."""
    print(
        f"The gateway listens on {address} and uses its own sandbox. Its status"
        f" page is http://{admin_address}/statusz. Ctrl-C stops it.",
        flush=True,
    )


def _show_one_answer(address: Address | UnixPath, admin_address: Address) -> None:
    from healthomics_gateway.cli.call import get  # it loads gRPC

    own = _command("healthomics-gateway")
    print(f"$ {own} get {SHOWN_RUN} --address {address}", flush=True)
    asked = Namespace(
        id=SHOWN_RUN,
        address=str(address),
        export=[],
        max_staleness=None,
        timeout=SHOW_TIMEOUT,
        json=False,
    )
    get(asked, environ={})
    print(
        f"""
The gateway listens on {address} and uses its own sandbox. In another terminal:

  {_command("grpcurl")} -plaintext -d '{{"id": "{CHANGING_RUN}"}}' {address} \\
    healthomics.v1.RunService/GetRun

`{own} sandbox --help` lists the sandbox's runs. The gateway's status page is
http://{admin_address}/statusz. Ctrl-C stops it.""",
        flush=True,
    )


def _command(name: str) -> str:
    """Return the command of a program, relative to this directory if possible."""
    own = Path(sys.executable).with_name(name)
    if not own.exists():
        return name
    here = Path.cwd()
    return shlex.quote(str(own.relative_to(here) if own.is_relative_to(here) else own))
