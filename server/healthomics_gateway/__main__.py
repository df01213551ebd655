"""The program `healthomics-gateway`, also run by `python -m healthomics_gateway`."""
# PYTHON_ARGCOMPLETE_OK: activate-global-python-argcomplete looks for this text.

from __future__ import annotations

import sys

from healthomics_gateway.app.signals import (
    do_nothing,
    end_at_once,
    handle,
    names_file,
)

INTERRUPTED = 1  # exit code


def main() -> int:
    """Run one command; return its exit code.

    Signal handlers are set before the other imports, as these take about a second.
    """
    if sys.argv[1:2] == ["serve"]:
        reloading = do_nothing if names_file(sys.argv) else None
        handle(end_at_once, reloading=reloading)
    try:
        from healthomics_gateway.cli.main import main as run
    except KeyboardInterrupt:
        return INTERRUPTED
    return run()


if __name__ == "__main__":
    sys.exit(main())
