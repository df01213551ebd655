"""`python -m healthomics_gateway`: the same program as `healthomics-gateway`."""

from __future__ import annotations

import sys

from healthomics_gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
