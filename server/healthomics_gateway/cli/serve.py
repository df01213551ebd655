"""The command `serve`."""

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
from healthomics_gateway.app.process import serve as serve_until_signal
from healthomics_gateway.cli.call import get
from healthomics_gateway.cli.configuration import checked
from healthomics_gateway.cli.standard_streams import say
from healthomics_gateway.cli.usage import DONE, LIVING_RUN, SHOWN_RUN
from healthomics_gateway.sandbox import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    Sandbox,
)
from healthomics_gateway.settings.load import Loaded
from healthomics_gateway.upstream.config import fixed

try:
    from uvloop import run  # takes less CPU a call
except ImportError:  # it is an extra
    from asyncio import run  # type: ignore[assignment]  # uvloop takes one more argument

SHOW_TIMEOUT = timedelta(seconds=10)


def serve(options: Namespace) -> int:
    """Serve the gateway until a signal ends it."""
    loaded, aws = checked(options, with_aws=not options.sandbox)
    work = serve_until_signal(loaded.settings, aws) if aws else _serve_sandbox(loaded)
    run(work)
    return DONE


async def _serve_sandbox(loaded: Loaded) -> None:
    async with Sandbox() as sandbox:
        aws = fixed(
            region=REGION,
            endpoint=sandbox.url,
            access_key=ACCESS_KEY_ID,
            secret_key=SECRET_ACCESS_KEY,
        )
        settings = loaded.settings
        is_open = not (settings.tls.cert_file or settings.jwt.is_on or settings.callers)
        show = _show_one_answer if is_open else _show_address
        await serve_until_signal(settings, aws, started=partial(_introduce, show))


async def _introduce(show: Callable[[Gateway], None], gateway: Gateway) -> None:
    """Print what is served in a thread: the reader of stdout may stall or have left."""

    def show_it() -> None:
        try:
            show(gateway)
        except OSError as error:
            say(f"standard output: {error.strerror}")

    Thread(target=show_it, name="introduction", daemon=True).start()


def _show_address(gateway: Gateway) -> None:
    """Print the address alone: the rules may not let this program call."""
    print(
        f"The gateway serves at {gateway.address}, against its own sandbox."
        " Ctrl-C ends it.",
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
The gateway serves at {address}, against its own sandbox. In another terminal:

  {_command("grpcurl")} -plaintext -d '{{"id": "{LIVING_RUN}"}}' {address} \\
    healthomics.v1.RunService/GetRun

`{own} sandbox --help` lists the sandbox's runs. Ctrl-C ends it.""",
        flush=True,
    )


def _command(name: str) -> str:
    """Return what runs a program in this directory: the one installed beside Python."""
    own = Path(sys.executable).with_name(name)
    if not own.exists():
        return name
    here = Path.cwd()
    return shlex.quote(str(own.relative_to(here) if own.is_relative_to(here) else own))
