"""Checks that concern more than one setting, or the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from healthomics_gateway.auth.jwks_fetch import url_fault
from healthomics_gateway.auth.policy import ANONYMOUS, Rule
from healthomics_gateway.durations import duration_text
from healthomics_gateway.files import FileError, read_regular
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.endpoints import Endpoint, endpoints_of
from healthomics_gateway.settings.schema import Jwt, Settings
from healthomics_gateway.settings.sources import leaves
from healthomics_gateway.tls.authorities import ca_file_fault
from healthomics_gateway.tls.files import TlsFilesError

OF_TCP = frozenset({"client_auth", "cert_file", "key_file"})  # keys of listeners
OF_SOCKETS = frozenset({"identity", "mode"})
PAIR = ("tls.cert_file", "tls.key_file")
KEYS = ("jwt.jwks_url", "jwt.jwks_file")
# A fault, after the settings that may have caused it by not being set.
_Disagreement: TypeAlias = tuple[tuple[str, ...], str]


def disagreements(
    settings: Settings, origins: Mapping[str, str], refused: AbstractSet[str]
) -> Iterator[str]:
    """Check what concerns more than one setting, or the machine."""
    endpoints = endpoints_of(settings)
    yield from _unreadable(settings, origins)
    for names, fault in chain(
        _tls_faults(settings, endpoints),
        _listener_faults(settings, endpoints),
        _address_faults(settings, endpoints),
        _jwt_faults(settings.jwt),
        _caller_faults(settings, endpoints),
        _order_faults(settings),
    ):
        # Once a refused value is corrected, this one may be gone.
        if refused.isdisjoint(names):
            yield fault


def _unreadable(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    files = [(origins.get(name, name), file) for name, file in leaves(settings)]
    for at, table in enumerate(settings.listeners):
        where = origins["listeners"].removeprefix("listeners")
        files += [
            (f"listeners[{at}].{name}{where}", file) for name, file in leaves(table)
        ]
    for name, file in files:
        if isinstance(file, Path) and (fault := _file_fault(file)):
            yield f"{name}: {fault}"


def _file_fault(file: Path) -> str | None:
    """Return why a file can't be read anew whenever it changes, None if it can."""
    try:
        read_regular(file)
    except FileError as fault:
        return str(fault)
    return None


def is_readable(file: Path) -> bool:
    """Return whether a file can be read anew whenever it changes."""
    return _file_fault(file) is None


def _tls_faults(
    settings: Settings, endpoints: Sequence[Endpoint]
) -> Iterator[_Disagreement]:
    tls = settings.tls
    if bool(tls.cert_file) != bool(tls.key_file):
        yield PAIR, "tls.cert_file and tls.key_file: set both or neither"
    faults: list[str] = []
    for files in dict.fromkeys(each.files for each in endpoints if each.files):
        paths = (files.cert_file, files.key_file, files.client_ca_file)
        if all(is_readable(path) for path in paths if path):
            try:
                files.load(datetime.now(UTC))
            except TlsFilesError as error:
                faults += error.args
    for fault in dict.fromkeys(faults):  # listeners have the same authorities
        yield (), fault
    if tls.client_auth != "none" and not (tls.client_ca_file and tls.cert_file):
        yield (
            (*PAIR, "tls.client_ca_file"),
            (
                f"tls.client_auth {tls.client_auth}: set tls.cert_file, tls.key_file"
                " and tls.client_ca_file too"
            ),
        )
    asks = tls.client_auth != "none" or any(
        each.client_auth == "required" for each in endpoints
    )
    if tls.client_ca_file and not asks:
        yield (
            ("tls.client_auth", "listeners"),
            "tls.client_ca_file: set client_auth to required, in [tls] or a listener",
        )
    for each in endpoints:
        if not (each.address.is_loopback or each.files or tls.insecure):
            yield (
                (*PAIR, "tls.insecure"),
                (
                    f"{each.setting} {each.address}: others can reach this address, so"
                    " set tls.cert_file and tls.key_file (GATEWAY_TLS__CERT_FILE,"
                    " GATEWAY_TLS__KEY_FILE), or tls.insecure = true"
                    " (GATEWAY_TLS__INSECURE=true) to serve it in plaintext"
                ),
            )


def _listener_faults(
    settings: Settings, endpoints: Sequence[Endpoint]
) -> Iterator[_Disagreement]:
    """Find listeners that can't be served as they are written."""
    for at, (table, endpoint) in enumerate(
        zip(settings.listeners, endpoints[1:], strict=True)
    ):
        name = f"listeners[{at}]"
        is_socket = isinstance(table.address, UnixPath)
        unfit = OF_TCP if is_socket else OF_SOCKETS
        if given := unfit & table.model_fields_set:
            kind = "a Unix socket" if is_socket else "an address of TCP"
            yield (), f"{name}: {kind} has no {' and no '.join(sorted(given))}"
        if bool(table.cert_file) != bool(table.key_file):
            yield (), f"{name}.cert_file and {name}.key_file: set both or neither"
        if table.identity == ANONYMOUS:
            why = f"{ANONYMOUS} is what its callers are without one"
            yield (), f"{name}.identity: {why}"
        if endpoint.client_auth == "required" and not (
            endpoint.files and endpoint.files.client_ca_file
        ):
            yield (
                (*PAIR, "tls.client_ca_file"),
                (
                    f"{name}.client_auth required: set tls.client_ca_file, and a"
                    " certificate with its key here or in [tls], too"
                ),
            )


def _address_faults(
    settings: Settings, endpoints: Sequence[Endpoint]
) -> Iterator[_Disagreement]:
    """Find addresses that are written twice, that of the admin pages included."""
    seen: dict[Address | UnixPath, str] = {settings.admin_listen: "admin_listen"}
    for each in endpoints:
        address = each.address
        is_chosen = isinstance(address, Address) and address.port == 0
        if address in seen and not is_chosen:
            fault = f"{each.setting} {address}: {seen[address]} has this address too"
            yield ("listen", "admin_listen"), fault
        seen.setdefault(address, each.setting)


def _jwt_faults(jwt: Jwt) -> Iterator[_Disagreement]:
    if jwt.jwks_url and jwt.jwks_file:
        yield (), "jwt.jwks_url and jwt.jwks_file: set one of them"
    if jwt.jwks_url and (fault := url_fault(jwt.jwks_url)):
        yield (), f"jwt.jwks_url: {fault}"
    if jwt.is_on or jwt.issuer or jwt.audience:
        for name in ("issuer", "audience", "algorithms"):
            if not getattr(jwt, name):
                yield (f"jwt.{name}",), f"jwt: set jwt.{name} too"
        if not jwt.is_on:
            yield KEYS, "jwt: set jwt.jwks_url or jwt.jwks_file too"
    yield from _jwt_file_faults(jwt)


def _caller_faults(
    settings: Settings, endpoints: Sequence[Endpoint]
) -> Iterator[_Disagreement]:
    """Find rules that can't do what they say."""
    certified = any(each.client_auth == "required" for each in endpoints)
    proves = settings.jwt.is_on or certified
    named = [each.identity for each in endpoints]
    rules = [Rule(each.identity, each.methods) for each in settings.callers]
    for at, rule in enumerate(rules):
        name = f"callers[{at}].identity {rule.identity}"
        if not (proves or any(rule.matches(identity) for identity in named)):
            yield (
                (*KEYS, "tls.client_auth", "listeners"),
                (
                    f"{name}: nobody can prove it, so set tls.client_auth, or"
                    " jwt.jwks_url or jwt.jwks_file"
                ),
            )
        for before, earlier in enumerate(rules[:at]):
            if earlier.covers(rule):
                yield (), f"{name}: callers[{before}] is about all of these already"
                break


def _order_faults(settings: Settings) -> Iterator[_Disagreement]:
    upstream, cache = settings.upstream, settings.cache
    for name, duration, most_name, most in (
        (
            "default_deadline",
            settings.default_deadline,
            "max_deadline",
            settings.max_deadline,
        ),
        (
            "upstream.connect_timeout",
            upstream.connect_timeout,
            "upstream.attempt_timeout",
            upstream.attempt_timeout,
        ),
        (
            "cache.max_staleness",
            cache.max_staleness,
            "cache.max_staleness_limit",
            cache.max_staleness_limit,
        ),
    ):
        if duration > most:
            yield (
                (name, most_name),
                (
                    f"{name} {duration_text(duration)}: write at most {most_name},"
                    f" {duration_text(most)}"
                ),
            )


def _jwt_file_faults(jwt: Jwt) -> Iterator[_Disagreement]:
    for name, file in (
        ("ca_file", jwt.ca_file),
        ("jwks_token_file", jwt.jwks_token_file),
    ):
        if file and not jwt.jwks_url:
            fault = f"jwt.{name}: it is for jwt.jwks_url, which isn't set"
            yield ("jwt.jwks_url",), fault
    if jwt.ca_file and is_readable(jwt.ca_file):
        why = ca_file_fault(jwt.ca_file)
        if why:
            yield (), f"jwt.ca_file: {why}"
