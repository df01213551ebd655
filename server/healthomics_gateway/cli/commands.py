"""The commands and their arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

from healthomics_gateway.cli.arguments import (
    DISTRIBUTION,
    Parser,
    Version,
    address,
    quota,
    run_id,
    whole_or_text,
)
from healthomics_gateway.cli.client_commands import add_get, add_watch
from healthomics_gateway.cli.subcommand import DURATION, Subparsers, command
from healthomics_gateway.cli.usage import ADDRESS

ADMIN_ADDRESS = "127.0.0.1:9464"
SANDBOX_ADDRESS = "127.0.0.1:9900"


def make_parser() -> argparse.ArgumentParser:
    """Create the parser of all commands; each sets `run` to a function."""
    parser = Parser(
        prog=DISTRIBUTION,
        description="A gRPC service that translates GetRun of AWS HealthOmics.",
        epilog="`serve --sandbox` needs no AWS account. Exit codes: 0 success, 1 the"
        " call failed, 2 invalid usage or settings, 3 the watched run ended FAILED,"
        " CANCELLED or DELETED.",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the versions")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_serve,
        _add_check,
        _add_settings,
        _add_sandbox,
        add_get,
        add_watch,
    ):
        add(subparsers)
    return parser


def _add_serve(subparsers: Subparsers) -> None:
    serve = subparsers.add_parser(
        "serve",
        help="serve the gateway",
        description="Serves the gateway until SIGTERM or Ctrl-C. AWS's own settings"
        " (Region, credentials, endpoint) are read as by any boto3 program.",
        epilog="Exit codes: 0 stopped as requested, 1 stopped by force, 2 invalid usage"
        " or settings, 70 new calls could no longer reach it, or it could start no"
        " worker: start it again.",
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
        "--workers",
        type=whole_or_text,
        metavar="NUMBER",
        help="worker processes, 1 to 64, or auto for one for each core (default: 1)",
    )
    serve.add_argument(
        "--sandbox",
        action="store_true",
        help="use an embedded fake HealthOmics; no AWS account is needed",
    )
    serve.set_defaults(run=command("serve", "serve"))


def _add_check(subparsers: Subparsers) -> None:
    check = subparsers.add_parser(
        "check",
        help="check what `serve` needs, before it serves",
        description="Checks what `serve` needs, one step a line: settings, credentials,"
        " HealthOmics, clock, permissions, certificates, addresses, shared store, log."
        " It says what to do about each fault.",
        epilog="Exit codes: 0 no step has failed, 1 a step has, 2 invalid usage.",
    )
    check.add_argument(
        "run_id",
        nargs="?",
        type=run_id,
        metavar="RUN_ID",
        help="the id of a run, which is read once to check the permission",
    )
    check.add_argument("--config", type=Path, metavar="FILE", help="settings as TOML")
    check.add_argument(
        "--json", action="store_true", help="print one JSON object on one line"
    )
    check.set_defaults(run=command("check", "check"))


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
    sandbox.set_defaults(run=command("sandbox", "sandbox"))


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
    settings.set_defaults(run=command("show_settings", "show"))
