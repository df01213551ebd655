"""How many connections each address may have."""

import resource

import grpc
import pytest

from healthomics_gateway.server import MIN_FILES, files_fault, max_connections


@pytest.mark.parametrize(
    ("files", "addresses", "most"),
    [
        pytest.param(1024, 1, 512, id="half-of-the-files"),
        pytest.param(1024, 3, 170, id="evenly"),
        pytest.param(4, 3, 1, id="one-at-least"),
        pytest.param(2**62, 1, 2**31 - 1, id="more-than-grpc-takes"),
        pytest.param(resource.RLIM_INFINITY, 1, 2**31 - 1, id="unlimited"),
    ],
)
async def test_connections_have_half_of_the_files(
    files: int, addresses: int, most: int
) -> None:
    """Addresses share it evenly, and gRPC takes the number whatever the limit is."""
    found = max_connections(files, addresses)
    option = ("grpc.max_allowed_incoming_connections", found)
    await grpc.aio.server(options=(option,)).stop(None)

    assert most == found


def test_few_files_are_a_fault() -> None:
    """The fault has the limit and what to set; no limit, or a high one, is none."""
    assert (
        f"limit on open files {MIN_FILES - 1}: at least {MIN_FILES} are needed"
    ) in (files_fault(MIN_FILES - 1) or "")
    assert [None, None] == [
        files_fault(files) for files in (MIN_FILES, resource.RLIM_INFINITY)
    ]
