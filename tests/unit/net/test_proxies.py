"""The choice of a proxy for a URL, and tunnels to HealthOmics and to an issuer."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from healthomics_gateway.auth.jwks import KeySetError
from healthomics_gateway.auth.jwks_fetch import url_reader
from healthomics_gateway.net.proxies import ProxyError, proxy_for
from healthomics_gateway.upstream.reply import Failure
from healthomics_gateway.upstream.transport import Transport, TransportError
from testkit.connect_proxy import ConnectProxy
from testkit.issuer import KeyServer, Signer, jwks

PROXY = "http://proxy.test:3128"
HTTPS = "https://omics.test/run/1"
HERE = {"https": PROXY}


@pytest.mark.parametrize(
    ("url", "known", "expected"),
    [
        pytest.param(HTTPS, {}, None, id="none"),
        pytest.param(HTTPS, HERE, PROXY, id="https"),
        pytest.param(HTTPS, {"all": PROXY}, PROXY, id="all"),
        pytest.param(HTTPS, HERE | {"all": "http://other"}, PROXY, id="https-first"),
        pytest.param(HTTPS, {"http": PROXY}, None, id="of-http"),
        pytest.param(HTTPS, {"https": "proxy.test:3128"}, PROXY, id="no-scheme"),
        pytest.param(HTTPS, HERE | {"no": "omics.test"}, None, id="no-proxy"),
        pytest.param(HTTPS, HERE | {"no": ".test"}, None, id="no-proxy-domain"),
        pytest.param(HTTPS, HERE | {"no": "*"}, None, id="no-proxy-at-all"),
        pytest.param(HTTPS, HERE | {"no": "other.test"}, PROXY, id="no-proxy-other"),
        pytest.param("https://127.0.0.1:8443/", HERE, None, id="this-machine"),
        pytest.param("http://localhost/", HERE | {"http": PROXY}, None, id="http"),
    ],
)
def test_proxy_is_that_of_the_environment(
    url: str, known: dict[str, str], expected: str | None
) -> None:
    """The usual variables are used, and loopback hosts have no proxy."""
    assert expected == proxy_for(url, known)


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://hush:1",
        "https://hush",
        "http://",
        "http://hush:0",
        "http://hush\n",
        "http://hush hush:1",
        "http://xn--:1",
    ],
)
def test_proxy_that_cannot_be_used_is_a_fault(proxy: str) -> None:
    """The fault names the variables, and doesn't quote them."""
    with pytest.raises(ProxyError, match="HTTPS_PROXY") as caught:
        proxy_for(HTTPS, {"https": proxy})

    assert "hush" not in str(caught.value)


@pytest.fixture
def trusted(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """Return TLS settings of a server at `omics.test`, and the file that trusts it."""
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("omics.test").configure_cert(tls)
    return tls, file


@asynccontextmanager
async def transport_by(proxy: str, ca_file: Path) -> AsyncIterator[Transport]:
    """Return a transport that uses a proxy."""
    transport = Transport(
        ca_file=str(ca_file),
        max_connections=2,
        connect_timeout_seconds=5,
        attempt_timeout_seconds=5,
        max_body_bytes=1_048_576,
        proxy=proxy,
    )
    try:
        yield transport
    finally:
        await transport.close()


async def test_healthomics_and_keys_are_asked_through_a_proxy(
    trusted: tuple[ssl.SSLContext, Path],
) -> None:
    """The tunnel is opened for the host's name, and TLS is verified end to end."""
    tls, ca_file = trusted
    keys = jwks(Signer("a", "P-256"))
    async with (
        KeyServer(Signer("a", "P-256"), tls=tls) as server,
        ConnectProxy(urlsplit(server.url).port or 0) as proxy,
        transport_by(proxy.url, ca_file) as transport,
    ):
        reply = await transport.get(HTTPS, {"x-signed": "yes"})
        read = await url_reader(HTTPS, ca_file=ca_file, proxy=proxy.url)()
    lines = [head.split("\r\n")[0] for head in proxy.heads]

    assert (200, keys, keys) == (reply.status, reply.body, read)
    assert ["CONNECT omics.test:443 HTTP/1.1"] * 2 == lines
    assert "x-signed" not in str(proxy.heads)
    assert "hush" not in str(server.heads)


async def test_proxy_that_refuses_is_a_failure_without_its_password(
    trusted: tuple[ssl.SSLContext, Path],
) -> None:
    """An attempt that the proxy refuses ends like one whose connection fails."""
    _, ca_file = trusted
    async with ConnectProxy(0, status=407) as proxy:
        async with transport_by(proxy.url, ca_file) as transport:
            with pytest.raises(TransportError) as caught:
                async with asyncio.timeout(5):
                    await transport.get(HTTPS, {})
        with pytest.raises(KeySetError) as raised:
            await url_reader(HTTPS, ca_file=ca_file, proxy=proxy.url)()

    assert Failure.CONNECTION is caught.value.failure
    assert "the proxy answered with status 407" == str(raised.value)
