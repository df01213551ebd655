"""The command `serve --sandbox`: a gateway with a fake HealthOmics of its own."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread

from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.process import serve
from healthomics_gateway.app.reload import ConfigFile
from healthomics_gateway.cli.call import get
from healthomics_gateway.cli.standard_streams import print_error
from healthomics_gateway.cli.usage import CHANGING_RUN, SHOWN_RUN
from healthomics_gateway.sandbox import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    Sandbox,
)
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.upstream.config import fixed

SHOW_TIMEOUT = timedelta(seconds=10)


async def serve_sandbox(settings: Settings, config: ConfigFile | None) -> None:
    """Serve the gateway and its sandbox until a signal stops them."""
    async with Sandbox() as sandbox:
        aws = fixed(
            region=REGION,
            endpoint=sandbox.url,
            access_key=ACCESS_KEY_ID,
            secret_key=SECRET_ACCESS_KEY,
        )
        is_open = not (settings.tls.cert_file or settings.jwt.is_on or settings.callers)
        show = _show_one_answer if is_open else _show_address
        started = partial(_introduce, show)
        await serve(settings, aws, config=config, started=started)


async def _introduce(show: Callable[[Gateway], None], gateway: Gateway) -> None:
    """Print what is served, in a thread, as writing to stdout may block or fail."""

    def show_it() -> None:
        try:
            show(gateway)
        except OSError as error:
            print_error(f"standard output: {error.strerror}")

    Thread(target=show_it, name="introduction", daemon=True).start()


def _show_address(gateway: Gateway) -> None:
    """Print only the address, as the settings may not allow a call by this program."""
    print(
        f"The gateway listens on {gateway.address} and uses its own sandbox. Its status"
        f" page is http://{gateway.admin_address}/statusz. Ctrl-C stops it.",
        flush=True,
    )


def _show_one_answer(gateway: Gateway) -> None:
    address = str(gateway.address)
    own = _command("healthomics-gateway")
    print(f"$ {own} get {SHOWN_RUN} --address {address}", flush=True)
    asked = Namespace(
        id=SHOWN_RUN,
        address=address,
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
http://{gateway.admin_address}/statusz. Ctrl-C stops it.""",
        flush=True,
    )


def _command(name: str) -> str:
    """Return the command of a program, relative to this directory if possible."""
    own = Path(sys.executable).with_name(name)
    if not own.exists():
        return name
    here = Path.cwd()
    return shlex.quote(str(own.relative_to(here) if own.is_relative_to(here) else own))
