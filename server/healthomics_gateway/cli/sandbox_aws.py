"""The settings of AWS with which a gateway uses a sandbox."""

from __future__ import annotations

from healthomics_gateway.sandbox import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from healthomics_gateway.upstream.config import Aws, fixed


def sandbox_aws(url: str) -> Aws:
    """Return the settings for a sandbox at `url`."""
    return fixed(
        region=REGION,
        endpoint=url,
        access_key=ACCESS_KEY_ID,
        secret_key=SECRET_ACCESS_KEY,
    )
