"""Checks of single values of the variables OTEL_*."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from healthomics_gateway.files import FileError, read_regular

MAX_NUMBER = 2**31 - 1

_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_TARGET = re.compile(r"[\w.-]+:\d{1,5}|(dns|ipv4|ipv6|unix):[!-?A-~]+", re.ASCII)
_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+", re.ASCII | re.IGNORECASE)
_TOKEN = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+")
_HEADER = re.compile(rf"{_TOKEN.pattern}[ \t]*=[ !#-+\--:<-\[\]-~]*")
_GRPC_NAME = re.compile(r"[0-9A-Za-z_.-]+")
_TEXT = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be, and the check of it."""

    must_be: str
    holds: Callable[[str], bool]


def address(url: str) -> str:
    """Return the host and port of a URL, or of HOST:PORT, or nothing if it has none.

    A text with `@` after the host has none either: it may be a part of a password.
    """
    parts = _split(url)
    if parts is None or "@" in parts.path + parts.query + parts.fragment:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return "" if host.endswith(":") else host


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL or of HOST:PORT, or None without a valid address."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        is_valid = _HOST.fullmatch(parts.hostname or "") and parts.port != 0
    except ValueError:
        return None
    return parts if is_valid else None


def _is_url(value: str) -> bool:
    return bool(_URL.fullmatch(value) and _split(value))


def _is_base_url(value: str) -> bool:
    return _is_url(value) and not {"?", "#"} & set(value)


def _is_target(value: str) -> bool:
    return "@" not in value and (_is_url(value) or bool(_TARGET.fullmatch(value)))


def _are_headers(value: str, *, names: re.Pattern[str]) -> bool:
    for each in filter(None, re.split(r"[ \t]*,[ \t]*", value)):
        name, _, text = (unquote(part).strip(" \t") for part in each.partition("="))
        if not (
            _HEADER.fullmatch(each) and names.fullmatch(name) and _TEXT.fullmatch(text)
        ):
            return False
    return True


def _are_attributes(value: str) -> bool:
    return all("=" in each for each in value.split(","))


def _has_authorities(value: str) -> bool:
    try:
        if not Path(value).is_dir():
            content = read_regular(Path(value)).decode("ascii")
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
                cadata=content
            )
    except (FileError, OSError, ValueError):
        return False
    return True


def has_key(certificate: str, key: str | None) -> bool:
    """Return whether a file of a certificate, or one beside it, has its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        for each in filter(None, (certificate, key)):
            read_regular(Path(each))  # `ssl` would wait for a pipe's writer
        context.load_cert_chain(certificate, key, password="")
    except (FileError, OSError, ValueError):
        return False
    return True


def _is_integer(value: str, *, least: int) -> bool:
    return (
        value.isascii()
        and value.isdigit()
        and len(value) <= len(str(MAX_NUMBER))
        and least <= int(value) <= MAX_NUMBER
    )


def _is_float(value: str, *, least: float, most: float) -> bool:
    try:
        return least <= float(value) <= most
    except ValueError:
        return False


def one_of(values: frozenset[str]) -> Rule:
    """Return a rule that a value is one of some, in any case."""
    return Rule(
        f"one of {', '.join(sorted(values))}", lambda value: value.lower() in values
    )


BOOLEAN = Rule("true or false", lambda value: value.lower() in {"true", "false"})
POSITIVE = Rule(f"a whole number from 1 to {MAX_NUMBER}", partial(_is_integer, least=1))
LIMIT = Rule(f"a whole number from 0 to {MAX_NUMBER}", partial(_is_integer, least=0))
SHARE = Rule("a number from 0 to 1", partial(_is_float, least=0, most=1))
SECONDS = Rule(
    "a number of seconds from 0.001 to 86400",
    partial(_is_float, least=0.001, most=86400),
)
ATTRIBUTES = Rule("KEY=VALUE, with commas between", _are_attributes)
AUTHORITIES = Rule("a file of certificates in PEM that can be read", _has_authorities)
URL = Rule("a URL that begins with http:// or https://", _is_url)
BASE_URL = Rule(
    "a URL that begins with http:// or https://, without a query", _is_base_url
)
TARGET = Rule(
    "HOST:PORT, or a URL that begins with http:// or https://, without a user",
    _is_target,
)
_HEADERS = "NAME=VALUE, with commas between, and encoded as in a URL"
HEADERS = Rule(_HEADERS, partial(_are_headers, names=_TOKEN))
GRPC_HEADERS = Rule(
    f"{_HEADERS}; names have letters, digits and _.-",
    partial(_are_headers, names=_GRPC_NAME),
)
