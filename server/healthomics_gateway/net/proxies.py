"""Finds the HTTP proxy for a URL by HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.net.addresses import is_loopback
from healthomics_gateway.net.hosts import is_host


class ProxyError(ConfigurationError):
    """A variable isn't the URL of an HTTP proxy; the message doesn't quote it."""


def proxy_for(url: str, known: dict[str, str] | None = None) -> str | None:
    """Return the proxy of a URL, `None` if there is none. Raises ProxyError.

    HTTPS_PROXY is used, else ALL_PROXY; lower case comes before upper case. There is no
    proxy for loopback hosts, for hosts in NO_PROXY, and for plain http, which is used
    for loopback hosts only. The proxy's URL may contain a password.

    `known` is the result of `urllib.request.getproxies_environment`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme.lower() != "https" or is_loopback(host):
        return None
    if known is None:
        known = urllib.request.getproxies_environment()
    proxy = known.get("https") or known.get("all")
    if not proxy or urllib.request.proxy_bypass_environment(parts.netloc, known):  # type: ignore[attr-defined]  # typeshed lacks it
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        named = urlsplit(proxy)
        is_usable = (
            named.scheme.lower() == "http"
            and is_host(named.hostname or "")
            and named.port != 0
        )
    except ValueError:
        is_usable = False
    if not is_usable or not (proxy.isascii() and proxy.isprintable()):
        raise ProxyError(
            "HTTPS_PROXY or ALL_PROXY: write the URL of an HTTP proxy, such as"
            " http://proxy.example.org:3128"
        )
    return proxy
