"""The commands: what they take, and who does it."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from healthomics_gateway.durations import parse_duration

if TYPE_CHECKING:
    from healthomics_gateway.app import Gateway
    from healthomics_gateway.settings import Loaded
    from healthomics_gateway.upstream.aws import Aws

DONE, FAILED, MISUSED = 0, 1, 2
ADDRESS = "127.0.0.1:50051"
ADMIN_ADDRESS = "127.0.0.1:9464"
SANDBOX_ADDRESS = "127.0.0.1:9900"
SHOWN_RUN = "1000003"  # of the sandbox: the answer that `serve --sandbox` shows
LIVING_RUN = "2000001"  # of the sandbox: one that changes

Commands = Any  # what `add_subparsers` gives: argparse has no public name for its type


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
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A run's name may have characters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except _UsageError as error:
        for fault in error.args:
            print(f"healthomics-gateway: {_line(fault)}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        return FAILED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="healthomics-gateway",
        description="A gRPC service that translates GetRun of AWS HealthOmics.",
        epilog="`serve --sandbox` needs no AWS account. Exit codes: 0 done, 1 the call"
        " failed, 2 bad usage or settings.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_serve, _add_sandbox, _add_get, _add_settings):
        add(commands)
    return parser


def _add_serve(commands: Commands) -> None:
    serve = commands.add_parser(
        "serve",
        help="serve the gateway",
        description="Serves the gateway until SIGTERM or Ctrl-C. AWS's own settings"
        " (Region, credentials, endpoint) work as in any boto3 program.",
    )
    serve.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    serve.add_argument(
        "--listen",
        metavar="HOST:PORT",
        help=f"where gRPC listens (default: {ADDRESS})",
    )
    serve.add_argument(
        "--admin-listen",
        metavar="HOST:PORT",
        help=f"where HTTP listens, for /livez and /readyz (default: {ADMIN_ADDRESS})",
    )
    serve.add_argument(
        "--sandbox",
        action="store_true",
        help="ask an embedded fake HealthOmics; no AWS account is needed",
    )
    serve.set_defaults(run=_serve)


def _add_sandbox(commands: Commands) -> None:
    sandbox = commands.add_parser(
        "sandbox",
        help="serve the fake HealthOmics alone",
        description="Serves a fake HealthOmics until Ctrl-C, and prints the environment"
        "\nthat points a gateway, or any boto3 program, at it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sandbox.shows_runs = True
    sandbox.add_argument(
        "--listen",
        type=_address,
        default=SANDBOX_ADDRESS,
        metavar="HOST:PORT",
        help="where HTTP listens (default: %(default)s)",
    )
    sandbox.add_argument(
        "--latency",
        type=_duration,
        default="0s",
        metavar="DURATION",
        help="how long every answer is held back, such as 50ms (default: %(default)s)",
    )
    sandbox.add_argument(
        "--quota",
        type=_quota,
        default=10,
        metavar="CALLS",
        help="calls a second before it throttles, 0: no limit (default: %(default)s)",
    )
    sandbox.set_defaults(run=_sandbox)


def _add_get(commands: Commands) -> None:
    get = commands.add_parser(
        "get",
        help="get one run through a gateway",
        description="Makes one GetRun through a gateway and shows the run.",
    )
    get.add_argument(
        "id", metavar="ID", help=f"the run's id: 1 to 18 digits, such as {SHOWN_RUN}"
    )
    get.add_argument(
        "--address",
        default=ADDRESS,
        metavar="HOST:PORT",
        help="where the gateway listens (default: %(default)s)",
    )
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
        help="how old the answer may be, such as 5s (default: the gateway's own)",
    )
    get.add_argument(
        "--timeout",
        type=_duration,
        default="30s",
        metavar="DURATION",
        help="how long to wait for the answer (default: %(default)s)",
    )
    get.add_argument(
        "--json", action="store_true", help="print one JSON object, on one line"
    )
    get.set_defaults(run=_get)


def _add_settings(commands: Commands) -> None:
    settings = commands.add_parser(
        "settings",
        help="show and check the effective settings",
        description="Shows every setting of `serve` and where it came from: the"
        " environment, the file, or the default. Tells every fault at once.",
    )
    settings.add_argument(
        "--config", type=Path, metavar="FILE", help="settings as TOML"
    )
    settings.set_defaults(run=_settings)


def _duration(text: str) -> Any:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _address(text: str) -> Any:
    from healthomics_gateway.settings import parse_address

    try:
        return parse_address(text)
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
    own = _command("healthomics-gateway")
    get = ["get", SHOWN_RUN, "--address", address]
    print(f"$ {own} {' '.join(get)}", flush=True)
    await asyncio.to_thread(main, get)
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


def _sandbox(options: argparse.Namespace) -> int:
    try:
        asyncio.run(_serve_sandbox_alone(options))
    except OSError:
        raise _UsageError(
            f"--listen {options.listen}: it can't be bound; is it in use?"
        ) from None
    except KeyboardInterrupt:  # how a person ends it
        return DONE
    return DONE


async def _serve_sandbox_alone(options: argparse.Namespace) -> None:
    from healthomics_gateway.sandbox import Sandbox, environment

    async with Sandbox(
        host=options.listen.host.strip("[]"),
        port=options.listen.port,
        latency_seconds=options.latency.total_seconds(),
        quota_per_second=options.quota,
    ) as sandbox:
        for name, value in environment(sandbox).items():
            print(f"export {name}={value}", flush=True)
        await asyncio.Event().wait()


def _get(options: argparse.Namespace) -> int:
    import grpc

    from healthomics_gateway.client import Output, get

    # An HTTP proxy, which http_proxy names, can't reach what listens on this machine.
    is_near = options.address.startswith(("127.", "[::1]:", "localhost:"))
    proxy = [("grpc.enable_http_proxy", 0)] if is_near else []
    with grpc.insecure_channel(options.address, options=proxy) as channel:
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
        print(_line(f"{name:<28}{value:<20}  {origin}"))
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


def _line(text: str) -> str:
    """Keep on one line what may hold a name or a path with anything in it."""
    return "".join(each if each.isprintable() else " " for each in text)
