"""One server for all tests that don't disturb it, and those of the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testkit.valkey_server import ValkeyServer, valkey


@pytest.fixture(scope="session")
def server() -> Iterator[ValkeyServer]:
    """Return a server that runs; each test uses a deployment of its own."""
    with valkey() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[ValkeyServer]:
    """Return a server that the test may kill and freeze."""
    with valkey() as running:
        yield running
