"""The gateways that the clients call: with short streams, with tokens, slow, and so on.

Each client has gateways and connections of its own where a case ends or cuts them.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trustme

from conformance.clients import clients
from conformance.scripted import ScriptedServer, scripted
from healthomics_gateway.sandbox import Sandbox
from testkit.authorities import HOST, root_of, tls_settings
from testkit.builders import http
from testkit.gateway_process import SERVICE_CONFIG, STOP_SECONDS, Served, serving
from testkit.issuer import AUDIENCE, ISSUER, Signer, jwks
from testkit.link import Link
from testkit.lying_upstream import LyingUpstream, Request, true_run

SPEED = 4.0  # a run of the sandbox takes 7.5 s instead of 30
SLOW_SECONDS = 5.0  # until an answer of the slow HealthOmics
SILENT_SECONDS = 2.0  # until the proxy `silent` closes a connection
EMPTY_SECONDS = 0.7  # until a file that is rewritten has its token again
DRAIN_SECONDS = 25.0  # the default
VALID_SECONDS = 3600.0  # of tokens
WATCHED: dict[str, Any] = {
    "GATEWAY_WATCH__INTERVAL": "250ms",
    "GATEWAY_WATCH__MIN_INTERVAL": "250ms",
}
RENEWED = WATCHED | {"GATEWAY_WATCH__MAX_STREAM": "3s"}  # several streams for a watch
RULES = """
[[callers]]
identity = "ada"

[[callers]]
identity = "bob"
tags = { project = "giab" }

[[callers]]
identity = "carol-*"  # with the name of the client
calls_per_second = 0.02

[[callers]]
identity = "dave-*"
calls_per_second = 0.1
"""


@dataclass(slots=True)
class ClientGateways:
    """The gateways for one client, by the name that a case uses."""

    addresses: dict[str, dict[str, str]]
    steady: Served
    draining: Served
    cut: Link
    draining_link: Link
    replaced: Link
    with_other_uuids: Served  # where each run has another uuid
    renewed: Link
    token_file: Path  # of the calls to `renewed`
    another_token: str
    calls: list[dict[str, Any]] = field(default_factory=list)  # from the log

    async def react(self, server: str) -> None:
        """Cut or drain a server, or renew its token, after its case's first state."""
        if server == "cut":
            await self.cut.cut()
        elif server == "reset":
            self.cut.reset()
        elif server == "replaced":
            self.replaced.port = port_of(self.with_other_uuids)
            await self.replaced.cut()
        elif server == "renewed":
            self.token_file.write_text(self.another_token)
            await self.renewed.cut()
        elif server == "rewritten":
            token = self.token_file.read_text()
            self.token_file.write_text("")  # as `cp` does before it writes
            await self.renewed.cut()
            restore = partial(self.token_file.write_text, token)
            asyncio.get_running_loop().call_later(EMPTY_SECONDS, restore)
        elif server == "draining":
            self.draining_link.port = port_of(self.steady)
            self.draining.terminate()


def port_of(served: Served) -> int:
    """Return the port of a gateway."""
    return int(served.address.rpartition(":")[2])


@dataclass(slots=True, kw_only=True)
class SharedGateways:
    """The gateways that all clients share."""

    upstream: Sandbox
    plain: Served  # its streams end WATCH_RENEW after 3 s
    trial: Served  # for the programs, whose calls aren't counted
    steady: Served
    slow: Served
    with_other_uuids: Served  # each run has another uuid than at the others
    secure: Served  # with TLS and tokens
    scripted: ScriptedServer
    folder: Path  # of tokens and authorities

    @property
    def all(self) -> list[Served]:
        """Return the gateways."""
        counted = [
            self.plain,
            self.steady,
            self.slow,
            self.with_other_uuids,
            self.secure,
        ]
        return [*counted, self.trial]


@asynccontextmanager
async def common(folder: Path) -> AsyncIterator[SharedGateways]:
    """Serve the gateways that all clients share; `folder` is for their files."""
    async with AsyncExitStack() as stack:
        upstream, delayed = [
            await stack.enter_async_context(
                Sandbox(
                    quota_per_second=0,
                    latency_seconds=latency_seconds,
                    monotonic=lambda: time.monotonic() * SPEED,
                )
            )
            for latency_seconds in (0.0, SLOW_SECONDS)
        ]
        another = await stack.enter_async_context(LyingUpstream(truth=_replaced))
        plain, trial, steady, slow, with_other_uuids = [
            await stack.enter_async_context(serving(url, **settings))
            for url, settings in (
                (upstream.url, RENEWED),
                (upstream.url, RENEWED),
                (upstream.url, WATCHED),
                (delayed.url, {}),
                (another.url, {}),
            )
        ]
        secure = await stack.enter_async_context(
            serving(
                upstream.url,
                arguments=("--config", str(_rules(folder))),
                **_identities(folder),
            )
        )
        yield SharedGateways(
            scripted=await stack.enter_async_context(scripted()),
            upstream=upstream,
            plain=plain,
            trial=trial,
            steady=steady,
            slow=slow,
            with_other_uuids=with_other_uuids,
            secure=secure,
            folder=folder,
        )


def _replaced(request: Request) -> bytes:
    return http(true_run(request.run_id, uuid="00000000-0000-4000-8000-000000000000"))


def _rules(folder: Path) -> Path:
    file = folder / "gateway.toml"
    file.write_text(RULES)
    return file


def _identities(folder: Path) -> dict[str, Any]:
    """Write a certificate, its authority and tokens; return the variables."""
    authority, signer = trustme.CA(), Signer("1", "P-256")
    (folder / "ca.pem").write_bytes(root_of(authority))
    (folder / "other-ca.pem").write_bytes(root_of(trustme.CA()))
    (folder / "keys.json").write_bytes(jwks(signer))
    now = time.time()
    valid: dict[str, Any] = {"iat": now, "exp": now + VALID_SECONDS}
    languages = [each.name for each in clients()]
    limited = [f"{name}-{each}" for name in ("carol", "dave") for each in languages]
    identities = ["ada", "bob", *limited]
    tokens = {name: signer.token(sub=name, **valid) for name in identities} | {
        "expired": signer.token(sub="ada", iat=now - 7200, exp=now - 3600),
        "invalid": Signer("2", "P-256", "another").token(sub="ada", **valid),
    }
    for name, token in tokens.items():
        (folder / name).write_text(f"{token}\n")
    return tls_settings(authority.issue_cert(HOST), folder) | {
        "GATEWAY_JWT__ISSUER": ISSUER,
        "GATEWAY_JWT__AUDIENCE": AUDIENCE,
        "GATEWAY_JWT__JWKS_FILE": str(folder / "keys.json"),
    }


@asynccontextmanager
async def servers_of(
    shared: SharedGateways, client: str
) -> AsyncIterator[ClientGateways]:
    """Serve the gateways of one client; at the end they shut down."""
    async with (
        serving(shared.upstream.url, **WATCHED) as draining,
        Link(port_of(shared.steady)) as cut,
        Link(port_of(draining)) as draining_link,
        Link(port_of(shared.steady)) as replaced,
        Link(port_of(shared.secure)) as renewed,
        Link(port_of(shared.steady), silent_seconds=SILENT_SECONDS) as silent,
    ):
        token_file = shared.folder / f"renewed-{client}"
        token_file.write_text((shared.folder / "ada").read_text())
        links = {
            "cut": cut,
            "reset": cut,
            "draining": draining_link,
            "replaced": replaced,
            "renewed": renewed,
            "rewritten": renewed,
            "silent": silent,
        }
        servers = ClientGateways(
            addresses=dict(_addresses(shared, client, links)),
            steady=shared.steady,
            draining=draining,
            cut=cut,
            draining_link=draining_link,
            replaced=replaced,
            with_other_uuids=shared.with_other_uuids,
            renewed=renewed,
            token_file=token_file,
            another_token=(shared.folder / "expired").read_text(),
        )
        yield servers
        await shut_down(draining)
        servers.calls = calls(draining)


def _addresses(
    shared: SharedGateways, client: str, links: dict[str, Link]
) -> Iterator[tuple[str, dict[str, str]]]:
    folder, secure = shared.folder, shared.secure.address
    linked = {name: f"{HOST}:{link.server.port}" for name, link in links.items()}
    plain = {
        "plain": shared.plain.address,
        "slow": shared.slow.address,
        "scripted": shared.scripted.address,
        "unreachable": _unused_address(),
    }
    for name, address in (plain | linked).items():
        yield name, {"address": address, "serviceConfig": str(SERVICE_CONFIG)}
    for name, address, authority, token in (
        ("ada", secure, "ca.pem", "ada"),
        ("bob", secure, "ca.pem", "bob"),
        ("carol", secure, "ca.pem", f"carol-{client}"),
        ("dave", secure, "ca.pem", f"dave-{client}"),
        ("renewed", linked["renewed"], "ca.pem", f"renewed-{client}"),
        ("rewritten", linked["renewed"], "ca.pem", f"renewed-{client}"),
        ("invalid", secure, "ca.pem", "invalid"),
        ("expired", secure, "ca.pem", "expired"),
        ("anonymous", secure, "ca.pem", None),
        ("distrusted", secure, "other-ca.pem", "ada"),
    ):
        server = {"address": address, "serviceConfig": str(SERVICE_CONFIG)}
        server["tlsCa"] = str(folder / authority)
        if token:
            server["tokenFile"] = str(folder / token)
        yield name, server


def _unused_address() -> str:
    with socket.create_server((HOST, 0)) as listener:
        return f"{HOST}:{listener.getsockname()[1]}"


def calls(served: Served) -> list[dict[str, Any]]:
    """Return the calls in a gateway's log."""
    return [line for line in served.events() if line["event"] == "call"]


async def shut_down(served: Served) -> None:
    """Stop a gateway with SIGTERM; raise RuntimeError unless it exits with 0."""
    if served.process.returncode is None:
        served.terminate()
    code = await served.ended(DRAIN_SECONDS + STOP_SECONDS)
    if code:
        raise RuntimeError(f"a gateway exited {code} after SIGTERM")
