"""What each command does, once its arguments are read.

A command imports only what it needs: some of it takes longer than a call.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from healthomics_gateway.cli.standard_streams import say

if TYPE_CHECKING:
    from healthomics_gateway.app.gateway import Gateway
    from healthomics_gateway.cli.connection import Route
    from healthomics_gateway.settings.load import Loaded
    from healthomics_gateway.upstream.config import Aws

DONE = 0
ADDRESS = "127.0.0.1:50051"
SHOWN_RUN = "1000003"  # of the sandbox: the answer that `serve --sandbox` shows
LIVING_RUN = "2000001"  # of the sandbox: one that changes
SHOW_TIMEOUT = timedelta(seconds=10)


class UsageError(Exception):
    """The command can't be done as it was asked for; `args` are the faults."""


def serve(options: Namespace) -> int:
    """Serve the gateway until it is told to end."""
    from healthomics_gateway.app.gateway import ListenError
    from healthomics_gateway.app.process import serve

    loaded, aws = _checked(options, with_aws=not options.sandbox)
    work = serve(loaded.settings, aws) if aws else _serve_sandbox(loaded)
    try:
        _run(work)
    except ListenError as error:
        raise UsageError(*error.args) from None
    return DONE


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run it on uvloop where that is installed: it takes less CPU a call."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


async def _serve_sandbox(loaded: Loaded) -> None:
    from healthomics_gateway.app.process import serve
    from healthomics_gateway.sandbox import (
        ACCESS_KEY_ID,
        REGION,
        SECRET_ACCESS_KEY,
        Sandbox,
    )
    from healthomics_gateway.upstream.config import fixed

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
        await serve(settings, aws, started=partial(_introduce, show))


async def _introduce(show: Callable[[Gateway], None], gateway: Gateway) -> None:
    """Print what is served in a thread: the reader of stdout may stall or have left."""

    def run() -> None:
        try:
            show(gateway)
        except OSError as error:
            say(f"standard output: {error.strerror}")

    Thread(target=run, name="introduction", daemon=True).start()


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
    """Give what runs a program in this directory: the one installed beside Python."""
    own = Path(sys.executable).with_name(name)
    if not own.exists():
        return name
    here = Path.cwd()
    return shlex.quote(str(own.relative_to(here) if own.is_relative_to(here) else own))


def sandbox(options: Namespace) -> int:
    """Serve the fake HealthOmics alone."""
    try:
        asyncio.run(_serve_sandbox_alone(options))
    except KeyboardInterrupt:  # how a person ends it
        return DONE
    return DONE


async def _serve_sandbox_alone(options: Namespace) -> None:
    from healthomics_gateway.sandbox import Sandbox, environment

    async with AsyncExitStack() as stack:
        try:
            sandbox = await stack.enter_async_context(
                Sandbox(
                    host=options.listen.host.strip("[]"),
                    port=options.listen.port,
                    latency_seconds=options.latency.total_seconds(),
                    quota_per_second=options.quota,
                )
            )
        except OSError:
            raise UsageError(
                f"--listen {options.listen}: it can't be bound; is it in use?"
            ) from None
        for name, value in environment(sandbox).items():
            print(f"export {name}={value}", flush=True)
        await asyncio.Event().wait()


def get(options: Namespace, *, environ: Mapping[str, str] = os.environ) -> int:
    """Make one GetRun through a gateway."""
    from healthomics_gateway.cli import client

    route = _route(options, environ)
    with route.open() as channel:
        return client.get(
            channel,
            options.id,
            client.Output(sys.stdout, sys.stderr, as_json=options.json),
            export=options.export,
            max_staleness=options.max_staleness,
            timeout=options.timeout,
            metadata=route.metadata,
            over=route.over,
        )


def watch(options: Namespace) -> int:
    """Follow one run through a gateway."""
    from rich.console import Console

    from healthomics_gateway.cli import client
    from healthomics_gateway.cli import watch_view as follow

    route = _route(options, os.environ)
    view: client.View = follow.JsonLines(sys.stdout, sys.stderr)
    if not options.json:
        console = Console(highlight=False)
        # A file keeps all that it is sent, though it may be told to have colours.
        is_live = sys.stdout.isatty() and console.is_interactive
        view = follow.Lines(options.id, console, sys.stderr, is_live=is_live)
    with route.open(client.WATCH_OPTIONS) as channel:
        return client.watch(
            channel,
            options.id,
            view,
            sys.stderr,
            min_interval=options.min_interval,
            timeout=options.timeout,
            metadata=route.metadata,
            over=route.over,
        )


def _route(options: Namespace, environ: Mapping[str, str]) -> Route:
    from healthomics_gateway.cli.connection import NAMES, RouteError, find_route

    flags = {name: getattr(options, name, None) for name in NAMES}
    try:
        return find_route(flags, environ, default_address=ADDRESS)
    except RouteError as error:
        raise UsageError(*error.args) from None


def settings(options: Namespace) -> int:
    """Show the effective settings, beside the faults as far as they can be known."""
    from healthomics_gateway.settings.effective import rows, warnings

    loaded, aws, faults = _read(options, with_aws=not options.sandbox)
    for name, value, origin in rows(loaded) if loaded else ():
        print(one_line(f"{name:<28}{value:<20}  {origin}"))
    if aws:
        print(f"{'AWS Region':<28}{aws.region:<20}  AWS's own settings")
        print(f"{'AWS endpoint':<28}{aws.endpoint}  AWS's own settings")
    for warning in warnings(loaded.settings) if loaded else ():
        say(f"warning: {one_line(warning)}")
    if faults:
        raise UsageError(*faults)
    return DONE


def _checked(options: Namespace, *, with_aws: bool) -> tuple[Loaded, Aws | None]:
    """Read our settings and AWS's; raise UsageError with the faults of both.

    So few files that the gateway couldn't serve are a fault too.
    """
    from healthomics_gateway.app.grpc_server import files_fault

    loaded, aws, faults = _read(options, with_aws=with_aws)
    if loaded and (fault := files_fault(loaded.settings.upstream.max_concurrent)):
        faults.append(fault)
    if faults or loaded is None:
        raise UsageError(*faults)
    return loaded, aws


def _read(
    options: Namespace, *, with_aws: bool
) -> tuple[Loaded | None, Aws | None, list[str]]:
    """Return our settings and AWS's, and the faults of both.

    Of settings with faults, those that are valid are returned.
    """
    from healthomics_gateway.settings.load import SettingsError, load
    from healthomics_gateway.upstream.config import AwsSettingsError, discover

    faults: list[str] = []
    loaded, aws = None, None
    try:
        flags = {
            name: getattr(options, name, None) for name in ("listen", "admin_listen")
        }
        loaded = load(flags=flags, environ=os.environ, config_file=options.config)
    except SettingsError as error:
        loaded = error.loaded
        faults += error.args
    try:
        aws = discover() if with_aws else None
    except AwsSettingsError as error:
        faults += error.args
    if loaded and not with_aws:
        faults += [
            f"callers[{at}].aws_role: the sandbox has no STS to assume a role"
            for at, rule in enumerate(loaded.settings.callers)
            if rule.aws_role
        ]
    return loaded, aws, faults


def one_line(text: str) -> str:
    """Keep on one line what may hold a name or a path with anything in it."""
    return "".join(each if each.isprintable() else " " for each in text)
