"""The authorities that a TLS client trusts, read from a PEM file."""

from __future__ import annotations

import ssl
from pathlib import Path

from healthomics_gateway.files import read_regular
from healthomics_gateway.pem import blocks_of


def client_context(content: bytes) -> ssl.SSLContext:
    """Return a context that trusts the certificates of a PEM file, and no others.

    It uses TLS 1.2 or newer. Raises ValueError if no certificates can be read.
    """
    try:
        pem = b"".join(each.pem for each in blocks_of(content)).decode("ascii")
        # If `cadata` is empty, `ssl` loads the system's authorities.
        context = ssl.create_default_context(cadata=pem or "-")
    except (OSError, ValueError):  # an SSLError is an OSError
        raise ValueError("no certificates can be read from it") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def ca_file_fault(file: Path) -> str | None:
    """Return why the certificates of a file can't be trusted, None if they can."""
    try:
        client_context(read_regular(file))
    except ValueError as fault:
        return str(fault)
    return None
