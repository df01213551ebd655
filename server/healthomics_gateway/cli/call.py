"""The commands `get` and `watch`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping

from rich.console import Console

from healthomics_gateway.cli import client
from healthomics_gateway.cli.connection import Route, find_route
from healthomics_gateway.cli.gateway_options import OPTIONS
from healthomics_gateway.cli.reconnect import RetryPolicy
from healthomics_gateway.cli.usage import ADDRESS
from healthomics_gateway.cli.watch_view import JsonLines, Lines


def get(options: Namespace, *, environ: Mapping[str, str] = os.environ) -> int:
    """Call GetRun through a gateway and print the run."""
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
            transport=route.transport,
        )


def watch(options: Namespace) -> int:
    """Watch one run through a gateway and print its states."""
    route = _route(options, os.environ)
    view: client.View = JsonLines(sys.stdout, sys.stderr)
    if not options.json:
        console = Console(highlight=False)
        # Never live in a file, even if FORCE_COLOR makes rich treat it as a terminal.
        is_live = sys.stdout.isatty() and console.is_interactive
        view = Lines(options.id, console, sys.stderr, is_live=is_live)
    with route.open(client.WATCH_OPTIONS) as channel:
        return client.watch(
            channel,
            options.id,
            view,
            sys.stderr,
            policy=RetryPolicy(options.timeout.total_seconds()),
            min_interval=options.min_interval,
            metadata=route.metadata,
            transport=route.transport,
        )


def _route(options: Namespace, environ: Mapping[str, str]) -> Route:
    flags = {name: getattr(options, name, None) for name in OPTIONS}
    return find_route(flags, environ, default_address=ADDRESS)
