"""The command `serve`."""

from __future__ import annotations

from argparse import Namespace

from healthomics_gateway.cli.configuration import checked, config_file
from healthomics_gateway.cli.usage import DONE

try:
    from uvloop import run  # uses less CPU for each call
except ImportError:  # it is an optional dependency
    from asyncio import run  # type: ignore[assignment]  # uvloop.run has one more parameter


def serve(options: Namespace) -> int:
    """Serve the gateway until a signal stops it."""
    loaded, aws = checked(options, with_aws=not options.sandbox)
    config = config_file(options, loaded)
    # Each way imports only what it needs: workers are forked before gRPC is loaded.
    if loaded.settings.workers > 1:
        from healthomics_gateway.cli.serve_workers import serve_with_workers

        return serve_with_workers(loaded.settings, aws, config, run=run)
    if aws:
        from healthomics_gateway.app.process import serve as serve_until_signal

        run(serve_until_signal(loaded.settings, aws, config=config))
    else:
        from healthomics_gateway.cli.serve_sandbox import serve_sandbox

        run(serve_sandbox(loaded.settings, config))
    return DONE
