"""The limit on open files, and the connections that it allows."""

import resource

import grpc
import pytest

from healthomics_gateway.app.file_limit import (
    MIN_CONNECTIONS,
    OWN_FILES,
    files_fault,
    max_connections,
)

NEEDED = OWN_FILES + 64 + MIN_CONNECTIONS


@pytest.mark.parametrize(
    ("files", "max_concurrent", "addresses", "most"),
    [
        pytest.param(1024, 64, 1, 512, id="half-of-the-files"),
        pytest.param(1024, 64, 3, 170, id="evenly"),
        pytest.param(NEEDED, 64, 1, MIN_CONNECTIONS, id="what-attempts-leave"),
        pytest.param(2048, 1024, 1, 928, id="what-many-attempts-leave"),
        pytest.param(4, 64, 3, 1, id="one-at-least"),
        pytest.param(2**62, 64, 1, 2**31 - 1, id="more-than-grpc-takes"),
        pytest.param(resource.RLIM_INFINITY, 64, 1, 2**31 - 1, id="unlimited"),
    ],
)
async def test_connections_use_at_most_half_of_the_files(
    files: int, max_concurrent: int, addresses: int, most: int
) -> None:
    """The addresses share them evenly; gRPC accepts the number for any limit."""
    found = max_connections(max_concurrent, addresses, files)
    option = ("grpc.max_allowed_incoming_connections", found)
    await grpc.aio.server(options=(option,)).stop(None)

    assert most == found


def test_low_limit_on_files_is_a_fault() -> None:
    """The fault has the limit and what to set; a high limit or none is valid."""
    fault = f"limit on open files {NEEDED - 1}: at least {NEEDED} are needed"

    assert (files_fault(64, NEEDED - 1) or "").startswith(fault)
    assert [None, None] == [
        files_fault(64, files) for files in (NEEDED, resource.RLIM_INFINITY)
    ]
