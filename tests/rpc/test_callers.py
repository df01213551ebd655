"""Who is let in: every certificate with every token, through TLS to the whole gateway.

What is expected is `matrix.py`'s, which knows docs/errors.md and nothing of the server.
"""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from callers import LIMS, outcome, rule, stub_on
from faults.lying import LyingUpstream
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics_gateway.app import Gateway
from healthomics_gateway.certificates import ClientAuth
from issuer import KeyServer
from matrix import (
    ANONYMOUS,
    NAMED,
    NO_CALL,
    SIGNER,
    Doorway,
    Row,
    rows,
    tokens,
    word,
)
from rpc.test_drain import SERVICE_CONFIG
from rpc.test_standard_services import health_of, reflect
from support import aws_at, gateway, http

FIRST_ID = 1_000_000  # of the runs: each call asks for one of its own
AT_ONCE = 16  # callers
SECONDS = 30.0  # for a call: strangers wait for their refusals
GRPCURL = Path(sys.executable).parent / "grpcurl"
SERVING = health_pb2.HealthCheckResponse.SERVING
DOORS = [
    pytest.param("none", {LIMS, NAMED}, id="none"),
    pytest.param("optional", {LIMS, NAMED}, id="optional"),
    pytest.param("required", {LIMS, NAMED}, id="required"),
    pytest.param("none", {LIMS, ANONYMOUS}, id="none-anonymous"),
    pytest.param("optional", {LIMS, ANONYMOUS}, id="optional-anonymous"),
    pytest.param("optional", None, id="optional-without-rules"),
]


@dataclass
class Place:
    """A gateway behind its door, and the upstream that it asks."""

    door: Doorway
    served: Gateway
    upstream: LyingUpstream

    async def call(self, row: Row, run_id: str, method: str) -> str:
        """Make a caller's call on a connection of its own, and tell how it ends."""
        metadata = (*tokens()[row.token][0], ("x-request-id", str(row)))
        given: Any = {"timeout": SECONDS, "metadata": metadata}
        async with self.door.channel(self.served.address, row.certificate) as channel:
            stub = stub_on(channel)
            if method == "GetRun":
                return word(
                    await outcome(stub.GetRun(GetRunRequest(id=run_id), **given))
                )
            watch = stub.WatchRun(WatchRunRequest(id=run_id), **given)
            found = word(await outcome(watch.read()))
            watch.cancel()
            return found

    async def outcomes(self, callers: Sequence[Row], method: str) -> dict[str, str]:
        """Make every caller's call, and tell how each ends."""
        room = asyncio.Semaphore(AT_ONCE)

        async def call(at: int, row: Row) -> str:
            async with room:
                return await self.call(row, str(FIRST_ID + at), method)

        ends = await asyncio.gather(*(call(*each) for each in enumerate(callers)))
        return dict(zip(map(str, callers), ends, strict=True))


@asynccontextmanager
async def behind(
    folder: Path, client_auth: ClientAuth, *rules: str, **toml: str
) -> AsyncIterator[Place]:
    """Serve a gateway with these rules; `toml` are other parts of its settings."""
    door = Doorway(folder, client_auth)
    async with (
        LyingUpstream() as upstream,
        gateway(aws_at(upstream.url), toml=door.toml(*rules, **toml)) as served,
    ):
        yield Place(door, served, upstream)


async def check(
    folder: Path, callers: Sequence[Row], known: set[str] | None, method: str
) -> None:
    """Hold to the table how each call ends, who asks HealthOmics, and the audit."""
    expected = {str(row): row.expected(known) for row in callers}
    rules = [rule(each) for each in sorted(known or ())]
    with capture_logs() as events:
        async with behind(folder, callers[0].client_auth, *rules) as place:
            found = await place.outcomes(callers, method)
            asked = dict(place.upstream.asked)

    assert {name: end for name, (end, _) in expected.items()} == found
    assert {
        str(FIRST_ID + at): 1
        for at, row in enumerate(callers)
        if expected[str(row)][0] == "OK"
    } == asked
    calls = [each for each in events if each["event"] == "call"]
    assert {name: who for name, (end, who) in expected.items() if end != NO_CALL} == {
        each["request_id"]: each["identity"] for each in calls
    }
    assert [] == [
        name
        for name, (metadata, _) in tokens().items()
        for _, value in metadata
        if value.partition(" ")[2] and value.partition(" ")[2] in str(events)
    ]


@pytest.mark.parametrize(("client_auth", "known"), DOORS)
async def test_only_who_proves_a_known_identity_gets_a_run(
    tmp_path: Path, client_auth: ClientAuth, known: set[str] | None
) -> None:
    """Each certificate with each token ends as the table says, and asks no more."""
    await check(tmp_path, rows(client_auth), known, "GetRun")


@pytest.mark.parametrize("client_auth", ["none", "optional", "required"])
async def test_only_who_proves_a_known_identity_watches_a_run(
    tmp_path: Path, client_auth: ClientAuth
) -> None:
    """A watch begins, or ends before its first state, as the table says."""
    some = [
        row
        for row in rows(client_auth)
        if row.certificate in {"no-certificate", "spiffe", "of-a-stranger", "expired"}
        and row.token in {"no-token", "right", "expired", "alg-none", "of-a-stranger"}
    ]
    await check(tmp_path, some, {LIMS}, "WatchRun")


def test_table_has_every_end() -> None:
    """No end of a call stands in the table for nothing, or for everything."""
    ends = {
        client_auth: Counter(row.expected({LIMS})[0] for row in rows(client_auth))
        for client_auth in ("none", "optional", "required")
    }

    reasons = {"OK", "UNAUTHENTICATED TOKEN_INVALID", "UNAUTHENTICATED TOKEN_EXPIRED"}
    reasons |= {"PERMISSION_DENIED CALLER_NOT_AUTHORIZED"}
    missing = {"UNAUTHENTICATED TOKEN_MISSING"}
    assert reasons | missing == set(ends["none"])
    assert reasons | missing | {NO_CALL} == set(ends["optional"])
    assert reasons | {NO_CALL} == set(ends["required"])


async def test_keys_that_cannot_be_had_hold_up_tokens_alone(tmp_path: Path) -> None:
    """Until the issuer's keys come, certificates let in, and bad tokens are told so."""
    async with KeyServer() as keys:
        keys.answer(http(status=503, keep=False))
        where = f'jwks_url = "{keys.url}"'
        async with behind(tmp_path, "optional", rule(LIMS), keys=where) as place:
            found = {
                str(row): await place.call(row, str(FIRST_ID), "GetRun")
                for row in (
                    Row("no-certificate", "right", "optional"),
                    Row("spiffe", "right", "optional"),
                    Row("spiffe", "no-token", "optional"),
                    Row("no-certificate", "no-token", "optional"),
                    Row("no-certificate", "garbage", "optional"),
                    Row("no-certificate", "alg-none", "optional"),
                )
            }
            asked = place.upstream.asked.total()
            keys.publish(SIGNER)
            async with place.door.channel(
                place.served.address,
                "no-certificate",
                **{"grpc.service_config": SERVICE_CONFIG.read_text()},
            ) as patient:
                run = await stub_on(patient).GetRun(
                    GetRunRequest(id=str(FIRST_ID)),
                    timeout=SECONDS,
                    metadata=tokens()["right"][0],
                    wait_for_ready=True,  # it is unready until the keys came
                )

    assert {
        "no-certificate.right": "UNAVAILABLE AUTH_BACKEND_UNAVAILABLE",
        "spiffe.right": "UNAVAILABLE AUTH_BACKEND_UNAVAILABLE",
        "spiffe.no-token": "OK",
        "no-certificate.no-token": "UNAUTHENTICATED TOKEN_MISSING",
        "no-certificate.garbage": "UNAUTHENTICATED TOKEN_INVALID",
        "no-certificate.alg-none": "UNAUTHENTICATED TOKEN_INVALID",
    } == found
    assert 1 == asked
    assert str(FIRST_ID) == run.id  # retried by the documented service config


@pytest.mark.parametrize("client_auth", ["optional", "required"])
@pytest.mark.parametrize(
    "opened",
    [
        pytest.param({"Health", "Reflection"}, id="both"),
        pytest.param({"Health"}, id="health"),
        pytest.param({"Reflection"}, id="reflection"),
        pytest.param(set(), id="neither"),
    ],
)
async def test_standard_service_needs_a_rule_where_it_is_not_open(
    tmp_path: Path, client_auth: ClientAuth, opened: set[str]
) -> None:
    """Open ones are for all who get through; the others for whom a rule names them."""
    names = ", ".join(f'"{name}"' for name in sorted(opened))
    rules = rule(LIMS), rule(NAMED, methods=["Health", "Reflection"])
    denied = "PERMISSION_DENIED CALLER_NOT_AUTHORIZED"
    closed = {
        "no-certificate": "UNAUTHENTICATED TOKEN_MISSING",
        "of-nobody": "UNAUTHENTICATED TOKEN_INVALID",
        "of-a-stranger": denied,
        "spiffe": denied,
        "dns": "OK",
    }
    found: dict[str, dict[str, str]] = {"Health": {}, "Reflection": {}}
    async with behind(
        tmp_path, client_auth, *rules, top=f"open_services = [{names}]"
    ) as place:
        for shown in closed:
            async with place.door.channel(place.served.address, shown) as channel:
                health = await outcome(health_of(channel, ""))
                found["Health"][shown] = "OK" if health == SERVING else word(health)
                ends = {
                    word(await outcome(reflect(channel, each, list_services="")))
                    for each in ("v1", "v1alpha")
                }
                (found["Reflection"][shown],) = ends

    for name, ends_of in found.items():
        expected = dict.fromkeys(closed, "OK") if name in opened else dict(closed)
        if client_auth == "required":
            expected["no-certificate"] = NO_CALL
        assert expected == ends_of, name


async def grpcurl(place: Place, bearer: str) -> tuple[int, str, str]:
    """Call GetRun with the real grpcurl; give its exit code and what it prints."""
    header = " ".join(f"{name}: {value}" for name, value in tokens()[bearer][0])
    process = await asyncio.create_subprocess_exec(
        *(GRPCURL, "-cacert", place.door.folder / "ca.pem", "-format-error"),
        *("-H", header, "-d", json.dumps({"id": str(FIRST_ID)})),
        *(str(place.served.address), "healthomics.v1.RunService/GetRun"),
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("client_auth", ["none", "optional"])
async def test_grpcurl_brings_a_token_over_tls(
    tmp_path: Path, client_auth: ClientAuth
) -> None:
    """A good token gets the run, a bad one its reason, as docs/security.md shows."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(
            behind(tmp_path, client_auth, rule(LIMS))
        )
        code, answer, _ = await grpcurl(place, "right")
        bad_code, nothing, told = await grpcurl(place, "other-audience")
        asked = place.upstream.asked.total()

    assert (0, str(FIRST_ID)) == (code, json.loads(answer)["id"])
    assert bad_code
    assert "" == nothing
    error = json.loads(told[told.index("{") :])
    assert 16 == error["code"]
    assert "TOKEN_INVALID" in [each.get("reason") for each in error["details"]]
    assert 1 == asked
