"""The URL of a store: one server, Sentinels that name it, or a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import RedisError

from healthomics_gateway.net.urls import MASK, masked_url

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
SENTINEL_PORT, PORT = 26379, 6379
_OF_SENTINEL = {"sentinel_username": "username", "sentinel_password": "password"}
# The options of a URL; others of redis-py take objects, or are set by the gateway.
_OPTIONS = frozenset(
    {
        *("client_name", "db", "username", "password", *_OF_SENTINEL),
        *("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version"),
    }
)
_NAME = re.compile(r"[a-z_]{1,40}")
_UNKNOWN = "which redis-py doesn't know, or a gateway doesn't use"


class StoreUrlError(ValueError):
    """Why a URL isn't one of a store; the text contains nothing of the URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """The servers of a store, and how to connect to them."""

    kind: str  # "", "sentinel" or "cluster"
    connection_class: type[AbstractConnection]
    addresses: tuple[tuple[str, int], ...]  # empty for a Unix socket
    service: str = ""  # that the Sentinels know
    options: Mapping[str, Any] = field(repr=False)  # of connections to the store
    sentinel_options: Mapping[str, Any] = field(repr=False)


def parse_store_url(url: str) -> StoreUrl:
    """Return what a URL says; raises StoreUrlError."""
    try:
        return _parsed(url)
    except StoreUrlError:
        raise
    except (ValueError, TypeError, RedisError):
        # Their texts may quote the URL.
        raise StoreUrlError(
            "it isn't valid; write redis://HOST:PORT, with options that redis-py knows"
        ) from None


def _parsed(url: str) -> StoreUrl:
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise StoreUrlError(f"write a URL that begins with one of {', '.join(SCHEMES)}")
    scheme, _, kind = parts.scheme.partition("+")
    user, at, hosts = parts.netloc.rpartition("@")
    default = SENTINEL_PORT if kind == "sentinel" else PORT
    addresses = _addresses(hosts, default) if scheme != "unix" else ()
    if len(addresses) > 1 and not kind:
        raise StoreUrlError("write one host, or begin with redis+sentinel://")
    path = parts.path
    service = ""
    if kind == "sentinel":
        service, _, database = path.removeprefix("/").partition("/")
        service, path = unquote(service), f"/{database}"
        if not service:
            raise StoreUrlError("write the name of the service after the hosts: /NAME")
    if addresses and not path.strip("/").isdecimal() and path.strip("/"):
        # redis-py would use the database 0.
        raise StoreUrlError("write the database as a number, such as /0")
    netloc = f"{user}{at}host" if addresses else parts.netloc
    plain = parts._replace(scheme=scheme, netloc=netloc, path=path)
    options, sentinel_options = _options(plain.geturl(), kind=kind)
    found = StoreUrl(
        kind=kind,
        connection_class=options.pop("connection_class", Connection),
        addresses=addresses,
        service=service,
        options=options,
        sentinel_options=sentinel_options,
    )
    _check(found)
    return found


def _options(url: str, *, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of connections to the store, and to its Sentinels."""
    parts = urlsplit(url)
    given = parse_qs(parts.query).keys()
    if unknown := given - _OPTIONS:
        # A part of a password may be there.
        is_shown = "@" not in parts.query + parts.fragment
        raise StoreUrlError(_fault_of(unknown if is_shown else set()))
    options: dict[str, Any] = dict(parse_url(url))
    if kind == "cluster" and options.get("db"):
        raise StoreUrlError("remove the number of the database: a cluster has only 0")
    sentinel_options = {
        name: options.pop(each)
        for each, name in _OF_SENTINEL.items()
        if kind == "sentinel" and each in options
    }
    options.pop("host", None)
    return options, sentinel_options


def _check(url: StoreUrl) -> None:
    """Raise an exception if an option doesn't fit; nothing is connected."""
    try:
        url.connection_class(**url.options)
    except TypeError:
        of_tls = sorted(each for each in url.options if each.startswith("ssl_"))
        raise StoreUrlError(
            f"the option {of_tls[0]} is one of TLS: begin with rediss"
            if of_tls
            else _fault_of(set())
        ) from None


def _fault_of(unknown: AbstractSet[str]) -> str:
    """Return what is wrong with options, of which the first is named if it may be."""
    names = sorted(filter(_NAME.fullmatch, unknown))
    if not names:
        return f"it has an option {_UNKNOWN}"
    return f"remove the option {names[0]}, {_UNKNOWN}"


def shown_url(url: str) -> str:
    """Return a valid URL without its secrets, and with the port of each host."""
    masked = masked_url(url)
    parts = urlsplit(masked)
    user, at, hosts = parts.netloc.rpartition("@")
    if parts.scheme == "unix" or hosts == MASK:
        return masked
    default = SENTINEL_PORT if parts.scheme.endswith("+sentinel") else PORT
    shown = ",".join(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for host, port in _addresses(hosts, default)
    )
    return parts._replace(netloc=f"{user}{at}{shown}").geturl()


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # a password with a slash ends the host too early
        raise StoreUrlError(
            "write a port from 1 to 65535, and a / in a password as %2F"
        ) from None


def _addresses(hosts: str, default: int) -> tuple[tuple[str, int], ...]:
    found = []
    for each in hosts.split(","):
        parts = urlsplit(f"//{each}")
        if not parts.hostname:
            raise StoreUrlError("write a host, such as redis://HOST:PORT")
        found.append((unquote(parts.hostname), _port(parts) or default))
    return tuple(found)
