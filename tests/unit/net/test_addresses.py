"""Parsing addresses to listen on, and which of them are loopback."""

import pytest

from healthomics_gateway.net.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "is_loopback"),
    [
        pytest.param("127.0.0.1:0", "127.0.0.1", True, id="loopback"),
        pytest.param("127.8.9.10:0", "127.8.9.10", True, id="all-of-127"),
        pytest.param("[::1]:0", "::1", True, id="ipv6-loopback"),
        pytest.param("localhost:0", "localhost", True, id="localhost"),
        pytest.param("0.0.0.0:0", "0.0.0.0", False, id="everywhere"),
        pytest.param("[::]:0", "::", False, id="ipv6-everywhere"),
        pytest.param("10.1.2.3:0", "10.1.2.3", False, id="private"),
        pytest.param("gateway.internal:0", "gateway.internal", False, id="name"),
        pytest.param("localhost.example:0", "localhost.example", False, id="like-it"),
    ],
)
def test_address_is_loopback(text: str, host: str, *, is_loopback: bool) -> None:
    """Only loopback addresses and localhost are on this machine only."""
    address = parse_address(text)

    assert Address(host, 0) == address
    assert text == str(address)
    assert is_loopback == address.is_loopback


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        ":5",
        "unix:5",
        "*:5",
        "::1:5",
        "[::1]",
        "[::1:5",
        "a b:5",
        "a:5\n",
        "a:-5",
    ],
)
def test_malformed_address_is_refused(text: str) -> None:
    """The fault has an example of each kind of address."""
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:50051 or \[::1\]:50051"):
        parse_address(text)
