"""HTTP proxies, from the variables that most programs read: HTTPS_PROXY, NO_PROXY."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

from healthomics_gateway.faults import FaultsError
from healthomics_gateway.net.addresses import is_loopback


class ProxyError(FaultsError):
    """The variables name something that can't be used; it doesn't say what."""


def proxy_for(url: str, known: dict[str, str] | None = None) -> str | None:
    """Return the proxy for a URL, which may hold a password; `None` for none.

    HTTPS_PROXY counts, then ALL_PROXY, in lower case before upper case. Hosts of this
    machine and those of NO_PROXY are called without one, as is everything over plain
    http: that is for this machine alone. Raises ProxyError.

    `known` is what `urllib.request.getproxies_environment` returns.
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
            named.scheme.lower() == "http" and named.hostname and named.port != 0
        )
    except ValueError:
        is_usable = False
    if not is_usable or not (proxy.isascii() and proxy.isprintable()):
        raise ProxyError(
            "HTTPS_PROXY or ALL_PROXY: write the URL of an HTTP proxy, such as"
            " http://proxy.example.org:3128"
        )
    return proxy
