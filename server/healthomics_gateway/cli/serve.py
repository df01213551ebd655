"""The command `serve`."""

from __future__ import annotations

from argparse import Namespace

from healthomics_gateway.app.process import serve as serve_until_signal
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
    if aws:
        run(serve_until_signal(loaded.settings, aws, config=config))
    else:  # without `--sandbox`, neither the sandbox nor the client is imported
        from healthomics_gateway.cli.serve_sandbox import serve_sandbox

        run(serve_sandbox(loaded.settings, config))
    return DONE
