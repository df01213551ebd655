"""Who is taken to call from a peer."""

from __future__ import annotations

import pytest

from healthomics_gateway.context import caller_at


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        pytest.param("ipv4:10.1.2.3:50", "10.1.2.3", id="ipv4"),
        pytest.param("ipv4:127.0.0.1:50", "loopback", id="loopback"),
        pytest.param("ipv4:127.1.0.12:50", "loopback", id="other-loopback"),
        pytest.param("ipv6:%5B::1%5D:50", "loopback", id="ipv6-loopback"),
        pytest.param("ipv6:%5B::ffff:127.1.2.3%5D:50", "loopback", id="mapped-own"),
        pytest.param("ipv6:%5B::ffff:10.1.2.3%5D:50", "10.1.2.3", id="mapped"),
        pytest.param("ipv6:%5B2001:db8:0:7::1%5D:50", "2001:db8:0:7::/64", id="ipv6"),
        pytest.param("ipv6:%5B2001:db8:0:7:a::2%5D:5", "2001:db8:0:7::/64", id="same"),
        pytest.param("ipv6:%5B2001:db8:0:8::1%5D:5", "2001:db8:0:8::/64", id="next-64"),
        pytest.param("ipv6:%5Bfe80::1%25eth0%5D:5", "fe80::/64", id="zone"),
        pytest.param("ipv6:%5Bodd%5D:5", "%5Bodd%5D", id="no-address"),
        pytest.param("unix:", "loopback", id="unix"),
        pytest.param("unix:/run/client.sock", "loopback", id="unix-path"),
    ],
)
def test_caller_without_identity_is_named_by_what_it_cannot_choose(
    peer: str, name: str
) -> None:
    """Loopback and Unix sockets are one caller, IPv6 counts by /64."""
    assert (f"\0{name}", peer) == caller_at(peer)
