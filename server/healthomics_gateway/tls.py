"""The server's credentials, from files."""

from __future__ import annotations

from pathlib import Path

import grpc


def server_credentials(cert_file: Path, key_file: Path) -> grpc.ServerCredentials:
    """Read a certificate chain and its key, both PEM."""
    pair = (key_file.read_bytes(), cert_file.read_bytes())
    return grpc.ssl_server_credentials([pair])
