"""The commands and their arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from healthomics_gateway.cli.arguments import (
    DISTRIBUTION,
    Parser,
    Version,
    address,
    duration,
    quota,
    utf8,
)
from healthomics_gateway.cli.standard_streams import (
    FAILED,
    is_blocked,
    say,
    standard_streams,
)
from healthomics_gateway.cli.usage import ADDRESS, LIVING_RUN, SHOWN_RUN, plain
from healthomics_gateway.faults import FaultsError

MISUSED = 2
ADMIN_ADDRESS = "127.0.0.1:9464"
SANDBOX_ADDRESS = "127.0.0.1:9900"
PREFIX = "HEALTHOMICS_GATEWAY_"  # of the variable beside each flag of the table below
ROUTE = (  # how `get` and `watch` reach a gateway: flag, what it takes, help
    ("--address", "ADDRESS", f"HOST:PORT or unix:/PATH (default: {ADDRESS})"),
    ("--tls", None, "call it over TLS, and trust the authorities that gRPC ships"),
    ("--tls-ca", "FILE", "trust these authorities alone, PEM; implies --tls"),
    ("--tls-cert", "FILE", "the client's certificate chain, PEM; implies --tls"),
    ("--tls-key", "FILE", "the key of that certificate, PEM"),
    ("--server-name", "NAME", "expect this in its certificate; implies --tls"),
    ("--token-file", "FILE", "the JWT to send; it is read anew for each call"),
)

Command: TypeAlias = Callable[[argparse.Namespace], int]
Subparsers = Any  # argparse has no public name for what `add_subparsers` gives


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Raises SystemExit for bad usage, for help, and if stdout can't be written to.
    """
    with standard_streams():
        # The C core writes to stderr by itself, where every line is to be one of ours.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        options = _parser().parse_args(arguments)
        try:
            code: int = options.run(options)
        except FaultsError as error:
            for fault in error.args:
                say(plain(fault))
            return MISUSED
        except KeyboardInterrupt as interruption:
            let_go(interruption)
            return FAILED
        except OSError:
            if not is_blocked(sys.stdout):
                raise
            return FAILED
        return code


def let_go(interruption: KeyboardInterrupt) -> None:
    """Drop what was under way without a word: gRPC's half-made calls complain."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    interruption.__traceback__ = None
    sys.unraisablehook = hook


def _command(module: str, function: str) -> Command:
    """Return a command whose module is imported when it runs.

    What some commands import takes longer than a call.
    """

    def run(options: argparse.Namespace) -> int:
        imported = import_module(f"healthomics_gateway.cli.{module}")
        code: int = getattr(imported, function)(options)
        return code

    return run


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=DISTRIBUTION,
        description="A gRPC service that translates GetRun of AWS HealthOmics.",
        epilog="`serve --sandbox` needs no AWS account. Exit codes: 0 done, 1 the call"
        " failed, 2 bad usage or settings, 3 the watched run ended FAILED, CANCELLED or"
        " DELETED.",
    )
    parser.add_argument(
        "--version", action=Version, nargs=0, help="print name and version"
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (_add_serve, _add_sandbox, _add_get, _add_watch, _add_settings):
        add(subparsers)
    return parser


def _add_serve(subparsers: Subparsers) -> None:
    serve = subparsers.add_parser(
        "serve",
        help="serve the gateway",
        description="Serves the gateway until SIGTERM or Ctrl-C. AWS's own settings"
        " (Region, credentials, endpoint) work as in any boto3 program.",
        epilog="Exit codes: 0 it ended as asked, 1 it had to be ended by force, 2 bad"
        " usage or settings, 70 no new call could reach it: start it again.",
    )
    serve.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    serve.add_argument(
        "--listen",
        metavar="ADDRESS",
        help=f"where gRPC listens, HOST:PORT or unix:/PATH (default: {ADDRESS})",
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
    serve.set_defaults(run=_command("serve", "serve"))


def _add_sandbox(subparsers: Subparsers) -> None:
    sandbox = subparsers.add_parser(
        "sandbox",
        help="serve the fake HealthOmics alone",
        description="Serves a fake HealthOmics until Ctrl-C, and prints the environment"
        "\nthat points a gateway, or any boto3 program, at it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sandbox.shows_runs = True
    sandbox.add_argument(
        "--listen",
        type=address,
        default=SANDBOX_ADDRESS,
        metavar="HOST:PORT",
        help="where HTTP listens (default: %(default)s)",
    )
    sandbox.add_argument(
        "--latency",
        type=duration,
        default="0s",
        metavar="DURATION",
        help="how long every answer is held back, such as 50ms (default: %(default)s)",
    )
    sandbox.add_argument(
        "--quota",
        type=quota,
        default=10,
        metavar="CALLS",
        help="calls a second before it throttles, 0: no limit (default: %(default)s)",
    )
    sandbox.set_defaults(run=_command("sandbox", "sandbox"))


def _add_get(subparsers: Subparsers) -> None:
    get = subparsers.add_parser(
        "get",
        help="get one run through a gateway",
        description="Makes one GetRun through a gateway and shows the run.",
    )
    _add_run(get, example=SHOWN_RUN)
    get.add_argument(
        "--export",
        action="append",
        default=[],
        choices=["DEFINITION"],
        help="ask for the workflow's definition too",
    )
    get.add_argument(
        "--max-staleness",
        type=duration,
        metavar="DURATION",
        help="how old the answer may be, such as 5s (default: the gateway's own)",
    )
    get.add_argument(
        "--timeout",
        type=duration,
        default="30s",
        metavar="DURATION",
        help="how long to wait for the answer (default: %(default)s)",
    )
    get.add_argument(
        "--json", action="store_true", help="print one JSON object, on one line"
    )
    get.set_defaults(run=_command("call", "get"))


def _add_watch(subparsers: Subparsers) -> None:
    watch = subparsers.add_parser(
        "watch",
        help="follow one run to its end through a gateway",
        description="Follows one run through a gateway and shows each of its states."
        " A connection that breaks is made again.",
        epilog="Exit codes: 0 the run COMPLETED; 1 the call failed, or it isn't known"
        " how the run ended; 2 bad usage; 3 the run ended FAILED, CANCELLED or"
        " DELETED.",
    )
    _add_run(watch, example=LIVING_RUN)
    watch.add_argument(
        "--min-interval",
        type=duration,
        metavar="DURATION",
        help="how often HealthOmics is asked at most, such as 2s (default: the"
        " gateway's own)",
    )
    watch.add_argument(
        "--timeout",
        type=duration,
        default="30s",
        metavar="DURATION",
        help="how long to try where no gateway answers (default: %(default)s)",
    )
    watch.add_argument(
        "--json", action="store_true", help="print one JSON object a state, on one line"
    )
    watch.set_defaults(run=_command("call", "watch"))


def _add_run(command: argparse.ArgumentParser, *, example: str) -> None:
    command.add_argument(
        "id",
        type=utf8,
        metavar="ID",
        help=f"the run's id: 1 to 18 digits, such as {example}",
    )
    route = command.add_argument_group(
        "the gateway", "A flag comes before its environment variable, named in []."
    )
    for flag, metavar, text in ROUTE:
        variable = PREFIX + flag.removeprefix("--").replace("-", "_").upper()
        if metavar:
            route.add_argument(flag, metavar=metavar, help=f"{text} [{variable}]")
        else:
            named = f"{text} [{variable}: true or false]"
            route.add_argument(flag, action="store_const", const="true", help=named)


def _add_settings(subparsers: Subparsers) -> None:
    settings = subparsers.add_parser(
        "settings",
        help="show and check the effective settings",
        description="Shows every setting of `serve` and where it came from: the"
        " environment, the file, or the default. Reports every fault at once; the exit"
        " code is then 2.",
    )
    settings.add_argument(
        "--config", type=Path, metavar="FILE", help="settings as TOML"
    )
    settings.add_argument(
        "--sandbox",
        action="store_true",
        help="as for `serve --sandbox`: AWS's own settings aren't read",
    )
    settings.set_defaults(run=_command("show_settings", "show"))
