"""The commands: what they take, and who does it."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from healthomics_gateway.durations import parse_duration

if TYPE_CHECKING:
    from healthomics_gateway.app import Gateway
    from healthomics_gateway.sandbox import Sandbox
    from healthomics_gateway.settings import Loaded
    from healthomics_gateway.upstream.aws import Aws

DONE, FAILED, MISUSED = 0, 1, 2
ADDRESS = "127.0.0.1:50051"
SHOWN_RUN = "1000003"  # of the sandbox: the answer that `serve --sandbox` shows
LIVING_RUN = "2000001"  # of the sandbox: one that changes


class _Parser(argparse.ArgumentParser):
    """Adds the sandbox's runs to the help that asks for them, and not before."""

    shows_runs = False

    def format_help(self) -> str:
        if self.shows_runs:
            from healthomics_gateway.sandbox import RUNS_HELP

            self.epilog = f"Its runs:\n\n{RUNS_HELP}"
        return super().format_help()


class _UsageError(Exception):
    """The command can't be done as it was asked for; `args` are the faults."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give its exit code."""
    # The C core writes to stderr by itself, where every line is to be one of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except _UsageError as error:
        for fault in error.args:
            print(f"healthomics-gateway: {fault}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        return FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="healthomics-gateway",
        description="A gRPC service that translates GetRun of AWS HealthOmics.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = commands.add_parser("serve", help="serve the gateway")
    serve.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    serve.add_argument("--listen", metavar="HOST:PORT", help=f"gRPC; {ADDRESS}")
    serve.add_argument(
        "--admin-listen",
        metavar="HOST:PORT",
        help="HTTP with /livez and /readyz; 127.0.0.1:9464",
    )
    serve.add_argument(
        "--sandbox",
        action="store_true",
        help="ask an embedded fake HealthOmics; no AWS account is needed",
    )
    serve.set_defaults(run=_serve)

    sandbox = commands.add_parser(
        "sandbox",
        help="serve the fake HealthOmics alone",
        description="Serves a fake HealthOmics and prints what points a gateway at it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sandbox.shows_runs = True
    sandbox.add_argument(
        "--listen", default="127.0.0.1:9900", metavar="HOST:PORT", help="127.0.0.1:9900"
    )
    sandbox.add_argument(
        "--latency",
        type=_duration,
        default="0s",
        metavar="DURATION",
        help="what every answer waits, such as 50ms; none",
    )
    sandbox.add_argument(
        "--quota",
        type=_quota,
        default=10,
        metavar="CALLS",
        help="calls a second before it throttles, 0 for no limit; 10",
    )
    sandbox.set_defaults(run=_sandbox)

    get = commands.add_parser("get", help="get one run through a gateway")
    get.add_argument("id", metavar="ID", help="the run's id, 1 to 18 digits")
    get.add_argument("--address", default=ADDRESS, metavar="HOST:PORT", help=ADDRESS)
    get.add_argument(
        "--export",
        action="append",
        default=[],
        choices=["DEFINITION"],
        help="ask for the workflow's definition too",
    )
    get.add_argument(
        "--max-staleness",
        type=_duration,
        metavar="DURATION",
        help="how old the answer may be, such as 5s; 0s",
    )
    get.add_argument(
        "--timeout",
        type=_duration,
        default="30s",
        metavar="DURATION",
        help="how long to wait; 30s",
    )
    get.add_argument("--json", action="store_true", help="print one JSON object")
    get.set_defaults(run=_get)

    settings = commands.add_parser(
        "settings", help="show and check the effective settings"
    )
    settings.add_argument(
        "--config", type=Path, metavar="FILE", help="settings as TOML"
    )
    settings.set_defaults(run=_settings)
    return parser


def _duration(text: str) -> Any:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _quota(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write a number of calls, or 0")
    return int(text)


def _serve(options: argparse.Namespace) -> int:
    from healthomics_gateway.app import ListenError, serve

    loaded, aws = _checked(options, with_aws=not options.sandbox)
    try:
        if aws:
            asyncio.run(serve(loaded.settings, aws))
        else:
            asyncio.run(_serve_sandbox(loaded))
    except ListenError as error:
        raise _UsageError(*error.args) from None
    return DONE


async def _serve_sandbox(loaded: Loaded) -> None:
    from healthomics_gateway.app import serve
    from healthomics_gateway.sandbox import (
        ACCESS_KEY_ID,
        REGION,
        SECRET_ACCESS_KEY,
        Sandbox,
    )
    from healthomics_gateway.upstream.aws import fixed

    async with Sandbox() as sandbox:
        aws = fixed(
            region=REGION,
            endpoint=sandbox.url,
            access_key=ACCESS_KEY_ID,
            secret_key=SECRET_ACCESS_KEY,
        )
        await serve(loaded.settings, aws, started=_show_one_answer)


async def _show_one_answer(gateway: Gateway) -> None:
    address = str(gateway.address)
    own = Path(sys.executable).with_name("grpcurl")
    here = Path.cwd()
    grpcurl = own.relative_to(here) if own.is_relative_to(here) else own
    command = grpcurl if own.exists() else "grpcurl"
    print(f"$ healthomics-gateway get {SHOWN_RUN}")
    await asyncio.to_thread(main, ["get", SHOWN_RUN, "--address", address])
    print(
        f"""
The gateway serves at {address}, against its own sandbox. In another terminal:

  {command} -plaintext -d '{{"id": "{LIVING_RUN}"}}' {address} \\
    healthomics.v1.RunService/GetRun

`healthomics-gateway sandbox --help` lists the sandbox's runs. Ctrl-C ends it.""",
        flush=True,
    )


def _sandbox(options: argparse.Namespace) -> int:
    from healthomics_gateway.sandbox import Sandbox

    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdecimal():
        raise _UsageError(f"--listen {options.listen}: write it as HOST:PORT")
    sandbox = Sandbox(
        host=host.strip("[]"),
        port=int(port),
        latency_seconds=options.latency.total_seconds(),
        quota_per_second=options.quota,
    )
    try:
        asyncio.run(_serve_sandbox_alone(sandbox))
    except OSError:
        raise _UsageError(
            f"--listen {options.listen}: it can't be bound; is it in use?"
        ) from None
    except KeyboardInterrupt:  # how a person ends it
        return DONE
    return DONE


async def _serve_sandbox_alone(sandbox: Sandbox) -> None:
    from healthomics_gateway.sandbox import environment

    async with sandbox:
        for name, value in environment(sandbox).items():
            print(f"export {name}={value}", flush=True)
        await asyncio.Event().wait()


def _get(options: argparse.Namespace) -> int:
    import grpc

    from healthomics_gateway.client import Output, get

    with grpc.insecure_channel(options.address) as channel:
        return get(
            channel,
            options.id,
            Output(sys.stdout, sys.stderr, as_json=options.json),
            export=options.export,
            max_staleness=options.max_staleness,
            timeout=options.timeout,
        )


def _settings(options: argparse.Namespace) -> int:
    from healthomics_gateway.settings import rows

    loaded, aws = _checked(options, with_aws=True)
    for name, value, origin in rows(loaded):
        print(f"{name:<28}{value:<20}  {origin}")
    if aws:
        print(f"{'AWS Region':<28}{aws.region:<20}  AWS's own settings")
        print(f"{'AWS endpoint':<28}{aws.endpoint}  AWS's own settings")
    return DONE


def _checked(
    options: argparse.Namespace, *, with_aws: bool
) -> tuple[Loaded, Aws | None]:
    """Read our settings and AWS's; tell the faults of both at once."""
    from healthomics_gateway.settings import SettingsError, load
    from healthomics_gateway.upstream.aws import AwsSettingsError, discover

    faults: list[str] = []
    loaded, aws = None, None
    try:
        flags = {
            name: getattr(options, name, None) for name in ("listen", "admin_listen")
        }
        loaded = load(flags=flags, environ=os.environ, config_file=options.config)
    except SettingsError as error:
        faults += error.args
    try:
        aws = discover() if with_aws else None
    except AwsSettingsError as error:
        faults += error.args
    if faults or loaded is None:
        raise _UsageError(*faults)
    return loaded, aws
