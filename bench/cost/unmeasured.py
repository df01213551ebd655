"""The gateway without its metrics, to measure what they cost."""

import argparse
import os

from common.programs import free_port
from healthomics_gateway.app.process import serve
from healthomics_gateway.settings.load import load
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.upstream.config import discover

try:
    from uvloop import run
except ImportError:  # as in the gateway's own command line
    from asyncio import run  # type: ignore[assignment]  # uvloop.run has one more parameter


def main() -> None:
    """Serve on a loopback port until the process is terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    flags = {
        "listen": f"127.0.0.1:{parser.parse_args().port}",
        "admin_listen": f"127.0.0.1:{free_port()}",
    }
    settings = load(flags=flags, environ=os.environ).settings
    run(serve(settings, discover(), metrics=Metrics(is_on=False)))


if __name__ == "__main__":
    main()
