"""The commands and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
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
from healthomics_gateway.cli.gateway_options import OPTIONS, flag_of, variable_of
from healthomics_gateway.cli.usage import ADDRESS, CHANGING_RUN, SHOWN_RUN

ADMIN_ADDRESS = "127.0.0.1:9464"
SANDBOX_ADDRESS = "127.0.0.1:9900"

Command: TypeAlias = Callable[[argparse.Namespace], int]
DURATION: dict[str, Any] = {"type": duration, "metavar": "DURATION"}
Subparsers = Any  # argparse has no public name for what `add_subparsers` returns


def _command(module: str, function: str) -> Command:
    """Return a command that imports its module when it runs, not before.

    Some of these imports take longer than a call.
    """

    def run(options: argparse.Namespace) -> int:
        imported = import_module(f"healthomics_gateway.cli.{module}")
        code: int = getattr(imported, function)(options)
        return code

    return run


def make_parser() -> argparse.ArgumentParser:
    """Create the parser of all commands; each sets `run` to a function."""
    parser = Parser(
        prog=DISTRIBUTION,
        description="A gRPC service that translates GetRun of AWS HealthOmics.",
        epilog="`serve --sandbox` needs no AWS account. Exit codes: 0 success, 1 the"
        " call failed, 2 invalid usage or settings, 3 the watched run ended FAILED,"
        " CANCELLED or DELETED.",
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
        " (Region, credentials, endpoint) are read as by any boto3 program.",
        epilog="Exit codes: 0 stopped as requested, 1 stopped by force, 2 invalid usage"
        " or settings, 70 new calls could no longer reach it: restart it.",
    )
    serve.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    serve.add_argument(
        "--listen",
        metavar="ADDRESS",
        help=f"address of gRPC, HOST:PORT or unix:/PATH (default: {ADDRESS})",
    )
    serve.add_argument(
        "--admin-listen",
        metavar="HOST:PORT",
        help=f"address of the admin pages over HTTP (default: {ADMIN_ADDRESS})",
    )
    serve.add_argument(
        "--sandbox",
        action="store_true",
        help="use an embedded fake HealthOmics; no AWS account is needed",
    )
    serve.set_defaults(run=_command("serve", "serve"))


def _add_sandbox(subparsers: Subparsers) -> None:
    sandbox = subparsers.add_parser(
        "sandbox",
        help="serve only the fake HealthOmics",
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
        help="address of the HTTP server (default: %(default)s)",
    )
    sandbox.add_argument(
        "--latency",
        **DURATION,
        default="0s",
        help="delay of each answer, such as 50ms (default: %(default)s)",
    )
    sandbox.add_argument(
        "--quota",
        type=quota,
        default=10,
        metavar="CALLS",
        help="calls allowed in a second, 0: no limit (default: %(default)s)",
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
        help="also request the workflow's definition",
    )
    get.add_argument(
        "--max-staleness",
        **DURATION,
        help="maximum age of the answer, such as 5s (default: the gateway's own)",
    )
    get.add_argument(
        "--timeout",
        **DURATION,
        default="30s",
        help="how long to wait for the answer (default: %(default)s)",
    )
    get.add_argument(
        "--json", action="store_true", help="print one JSON object on one line"
    )
    get.set_defaults(run=_command("call", "get"))


def _add_watch(subparsers: Subparsers) -> None:
    watch = subparsers.add_parser(
        "watch",
        help="watch one run to its end through a gateway",
        description="Watches one run through a gateway and shows each of its states."
        " Connects again if the connection breaks.",
        epilog="Exit codes: 0 the run COMPLETED; 1 the call failed, or it is unknown"
        " how the run ended; 2 invalid usage; 3 the run ended FAILED, CANCELLED or"
        " DELETED.",
    )
    _add_run(watch, example=CHANGING_RUN)
    watch.add_argument(
        "--min-interval",
        **DURATION,
        help="minimum time between two polls, such as 2s (default: the gateway's own)",
    )
    watch.add_argument(
        "--timeout",
        **DURATION,
        default="30s",
        help="how long to retry while no gateway answers (default: %(default)s)",
    )
    watch.add_argument(
        "--json",
        action="store_true",
        help="print each state as one JSON object on one line",
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
        "the gateway", "A flag overrides its environment variable, shown in []."
    )
    for name, (metavar, text) in OPTIONS.items():
        flag, variable = flag_of(name), variable_of(name)
        if metavar:
            route.add_argument(flag, metavar=metavar, help=f"{text} [{variable}]")
        else:
            named = f"{text} [{variable}: true or false]"
            route.add_argument(flag, action="store_const", const="true", help=named)


def _add_settings(subparsers: Subparsers) -> None:
    settings = subparsers.add_parser(
        "settings",
        help="show and check the effective settings",
        description="Shows every setting of `serve` and its source: the environment,"
        " the file or the default. Reports all faults at once, with exit code 2.",
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
