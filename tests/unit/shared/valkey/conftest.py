"""One server for all tests that don't disturb it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testkit.valkey_server import ValkeyServer, valkey


@pytest.fixture(scope="session")
def server() -> Iterator[ValkeyServer]:
    """Return a server that runs; each test uses a deployment of its own."""
    with valkey() as running:
        yield running
