"""The commands that call a gateway, and their arguments."""

from __future__ import annotations

import argparse

from healthomics_gateway.cli.arguments import utf8
from healthomics_gateway.cli.gateway_options import OPTIONS, flag_of, variable_of
from healthomics_gateway.cli.subcommand import DURATION, Subparsers, command
from healthomics_gateway.cli.usage import CHANGING_RUN, SHOWN_RUN


def add_get(subparsers: Subparsers) -> None:
    """Add the command `get`."""
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
    get.set_defaults(run=command("call", "get"))


def add_watch(subparsers: Subparsers) -> None:
    """Add the command `watch`."""
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
    watch.set_defaults(run=command("call", "watch"))


def _add_run(parser: argparse.ArgumentParser, *, example: str) -> None:
    parser.add_argument(
        "id",
        type=utf8,
        metavar="ID",
        help=f"the run's id: 1 to 18 digits, such as {example}",
    )
    route = parser.add_argument_group(
        "the gateway", "A flag overrides its environment variable, shown in []."
    )
    for name, (metavar, text) in OPTIONS.items():
        flag, variable = flag_of(name), variable_of(name)
        if metavar:
            route.add_argument(flag, metavar=metavar, help=f"{text} [{variable}]")
        else:
            named = f"{text} [{variable}: true or false]"
            route.add_argument(flag, action="store_const", const="true", help=named)
