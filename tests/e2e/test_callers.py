"""Authentication: every certificate with every token, over TLS, by a whole gateway.

The expected outcomes are those of `credential_matrix.py`, which is written after
docs/guide/errors.md and uses nothing of the server.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from e2e.test_standard_services import health_of, reflect
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics_gateway.app.gateway import Gateway
from testkit.builders import aws_at, gateway, http
from testkit.callers import LIMS, outcome, rule, stub_on, until
from testkit.credential_matrix import (
    ANONYMOUS,
    LISTENERS,
    NAMED,
    NO_CALL,
    Files,
    Row,
    rows,
    tokens,
    word,
)
from testkit.issuer import KeyServer
from testkit.lying_upstream import LyingUpstream

FIRST_ID = 1_000_000  # each call requests a run of its own
AT_ONCE = 16  # concurrent callers
SECONDS = 30.0  # deadline of a call: rejections of unknown callers are delayed
GRPCURL = Path(sys.executable).parent / "grpcurl"
SERVING = health_pb2.HealthCheckResponse.SERVING
KNOWN = [
    pytest.param({LIMS, NAMED}, id="two"),
    pytest.param({LIMS, ANONYMOUS}, id="anonymous"),
    pytest.param(None, id="without-rules"),
]


@dataclass
class Deployment:
    """A gateway with several listeners, and its upstream."""

    files: Files
    served: Gateway
    upstream: LyingUpstream

    @asynccontextmanager
    async def channel(
        self, row: Row, **options: Any
    ) -> AsyncIterator[grpc.aio.Channel]:
        """Open a channel to the row's listener, with the row's certificate."""
        address = self.served.addresses[LISTENERS.index(row.listener)]
        async with self.files.channel(address, row.certificate, **options) as channel:
            yield channel

    async def call(self, row: Row, run_id: str, method: str) -> str:
        """Make the caller's call on a new connection and return its outcome."""
        metadata = (*tokens()[row.token][0], ("x-request-id", str(row)))
        given: Any = {"timeout": SECONDS, "metadata": metadata}
        async with self.channel(row) as channel:
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
        """Make every caller's call and return the outcomes."""
        room = asyncio.Semaphore(AT_ONCE)

        async def call(at: int, row: Row) -> str:
            async with room:
                return await self.call(row, str(FIRST_ID + at), method)

        ends = await asyncio.gather(*(call(*each) for each in enumerate(callers)))
        return dict(zip(map(str, callers), ends, strict=True))


@asynccontextmanager
async def serving_listeners(
    folder: Path, *rules: str, **toml: str
) -> AsyncIterator[Deployment]:
    """Serve a gateway with these rules; `toml` has its other settings."""
    with TemporaryDirectory(prefix="hg-") as sockets:
        files = Files(folder, Path(sockets))
        async with (
            LyingUpstream() as upstream,
            gateway(aws_at(upstream.url), toml=files.toml(*rules, **toml)) as served,
        ):
            yield Deployment(files, served, upstream)


async def check(
    folder: Path, callers: Sequence[Row], known: set[str] | None, method: str
) -> None:
    """Compare the calls' outcomes, upstream requests and audit log with the table."""
    expected = {str(row): row.expected(known) for row in callers}
    rules = [rule(each) for each in sorted(known or ())]
    with capture_logs() as events:
        async with serving_listeners(folder, *rules) as deployment:
            found = await deployment.outcomes(callers, method)
            asked = dict(deployment.upstream.asked)

    assert {name: end for name, (end, _) in expected.items()} == found
    assert {
        str(FIRST_ID + at): 1
        for at, row in enumerate(callers)
        if expected[str(row)][0] == "OK"
    } == asked
    calls = [each for each in events if each["event"] == "call"]
    assert {
        name: identity for name, (end, identity) in expected.items() if end != NO_CALL
    } == {each["request_id"]: each["identity"] for each in calls}
    assert [] == [
        name
        for name, (metadata, _) in tokens().items()
        for _, value in metadata
        if value.partition(" ")[2] and value.partition(" ")[2] in str(events)
    ]


@pytest.mark.guarantee("authentication")
@pytest.mark.parametrize("known", KNOWN)
async def test_get_run_requires_a_known_identity(
    tmp_path: Path, known: set[str] | None
) -> None:
    """Each caller's GetRun ends as in the table, and sends no further request."""
    await check(tmp_path, rows(), known, "GetRun")


async def test_watch_run_requires_a_known_identity(tmp_path: Path) -> None:
    """Each caller's watch begins, or ends before its first state, as in the table."""
    some = [
        row
        for row in rows()
        if row.certificate in {"no-certificate", "spiffe", "unlisted", "expired"}
        and row.token in {"no-token", "right", "expired", "alg-none", "unlisted"}
    ]
    await check(tmp_path, some, {LIMS}, "WatchRun")


def test_table_uses_every_outcome() -> None:
    """Each outcome occurs in the table, but never for all callers."""
    ends: dict[str, set[str]] = {listener: set() for listener in LISTENERS}
    for row in rows():
        ends[row.listener].add(row.expected({LIMS})[0])

    reasons = {"OK", "UNAUTHENTICATED TOKEN_INVALID", "UNAUTHENTICATED TOKEN_EXPIRED"}
    denied = "PERMISSION_DENIED CALLER_NOT_AUTHORIZED"
    unproven = {*reasons, denied, "UNAUTHENTICATED TOKEN_MISSING"}
    assert {*reasons, denied, NO_CALL} == ends["required"]
    assert unproven == ends["none"] == ends["socket"]
    assert reasons == ends["socket-of-lims"]


@pytest.mark.guarantee("every-listener")
async def test_listeners_separate_callers_during_renewals_and_drain(
    tmp_path: Path,
) -> None:
    """Under load, during renewals and a drain, no caller gets another's answer."""
    right = {str(row): row.expected({LIMS})[0] for row in rows()}
    ends: dict[str, set[str]] = {str(row): set() for row in rows()}
    is_over = asyncio.Event()

    async def load(deployment: Deployment, some: list[Row]) -> None:
        for row in cycle(some):
            if is_over.is_set():
                return
            ends[str(row)].add(await deployment.call(row, str(FIRST_ID), "GetRun"))

    with capture_logs() as events:
        async with (
            serving_listeners(tmp_path, rule(LIMS)) as deployment,
            asyncio.TaskGroup() as tasks,
        ):
            for first in range(AT_ONCE):
                tasks.create_task(load(deployment, rows()[first::AT_ONCE]))
            deployment.files.renew()
            await until(lambda: "certificate_replaced" in str(events))
            await until(lambda: all(ends.values()))
            before = {name: set(found) for name, found in ends.items()}
            await deployment.served.drain(0.0)
            left = os.listdir(deployment.files.sockets)  # noqa: PTH208  # two names at most
            is_over.set()

    assert [] == left  # the process ends without stopping its servers
    assert {name: {right[name]} for name in ends} == before
    # The socket closes shortly before the process ends.
    draining = {"UNAVAILABLE GATEWAY_DRAINING", NO_CALL}
    assert {} == {
        name: found - {right[name]} - draining
        for name, found in ends.items()
        if found - {right[name]} - draining
    }


async def test_missing_keys_delay_only_tokens(tmp_path: Path) -> None:
    """Without the issuer's keys, certificates work and malformed tokens are refused."""
    async with KeyServer() as keys:
        keys.answer(http(status=503, keep=False))
        where = f'jwks_url = "{keys.url}"'
        async with serving_listeners(tmp_path, rule(LIMS), keys=where) as deployment:
            found = {
                str(row): await deployment.call(row, str(FIRST_ID), "GetRun")
                for row in (
                    Row("no-certificate", "right", "none"),
                    Row("spiffe", "right", "required"),
                    Row("spiffe", "no-token", "required"),
                    Row("no-certificate", "no-token", "none"),
                    Row("no-certificate", "garbage", "socket"),
                    Row("no-certificate", "alg-none", "none"),
                )
            }
            asked = deployment.upstream.asked.total()

    assert {
        "no-certificate.right.none": "UNAVAILABLE AUTH_BACKEND_UNAVAILABLE",
        "spiffe.right.required": "UNAVAILABLE AUTH_BACKEND_UNAVAILABLE",
        "spiffe.no-token.required": "OK",
        "no-certificate.no-token.none": "UNAUTHENTICATED TOKEN_MISSING",
        "no-certificate.garbage.socket": "UNAUTHENTICATED TOKEN_INVALID",
        "no-certificate.alg-none.none": "UNAUTHENTICATED TOKEN_INVALID",
    } == found
    assert 1 == asked


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param({"Health", "Reflection"}, id="both"),
        pytest.param({"Health"}, id="health"),
        pytest.param({"Reflection"}, id="reflection"),
        pytest.param(set(), id="neither"),
    ],
)
async def test_standard_service_requires_a_rule_unless_it_is_open(
    tmp_path: Path, opened: set[str]
) -> None:
    """An open service accepts all authenticated callers, any other needs a rule."""
    names = ", ".join(f'"{name}"' for name in sorted(opened))
    rules = rule(LIMS), rule(NAMED, methods=["Health", "Reflection"])
    denied = "PERMISSION_DENIED CALLER_NOT_AUTHORIZED"
    closed = {
        Row("no-certificate", "no-token", "none"): "UNAUTHENTICATED TOKEN_MISSING",
        Row("no-certificate", "no-token", "socket"): "UNAUTHENTICATED TOKEN_MISSING",
        Row("no-certificate", "no-token", "socket-of-lims"): denied,
        Row("without-a-name", "no-token", "required"): "UNAUTHENTICATED TOKEN_INVALID",
        Row("unlisted", "no-token", "required"): denied,
        Row("spiffe", "no-token", "required"): denied,
        Row("dns", "no-token", "required"): "OK",
    }
    found: dict[str, dict[Row, str]] = {"Health": {}, "Reflection": {}}
    async with serving_listeners(
        tmp_path, *rules, top=f"open_services = [{names}]"
    ) as deployment:
        for row in closed:
            async with deployment.channel(row) as channel:
                health = await outcome(health_of(channel, ""))
                found["Health"][row] = "OK" if health == SERVING else word(health)
                ends = {
                    word(await outcome(reflect(channel, each, list_services="")))
                    for each in ("v1", "v1alpha")
                }
                (found["Reflection"][row],) = ends
        async with deployment.channel(
            Row("no-certificate", "right", "required")
        ) as channel:
            assert NO_CALL == word(await outcome(health_of(channel, "")))

    for name, ends_of in found.items():
        assert (dict.fromkeys(closed, "OK") if name in opened else closed) == ends_of


async def grpcurl(deployment: Deployment, bearer: str) -> tuple[int, str, str]:
    """Call GetRun with grpcurl. Return its exit code and output."""
    header = " ".join(f"{name}: {value}" for name, value in tokens()[bearer][0])
    process = await asyncio.create_subprocess_exec(
        *(GRPCURL, "-cacert", deployment.files.folder / "ca.pem", "-format-error"),
        *("-H", header, "-d", json.dumps({"id": str(FIRST_ID)})),
        *(str(deployment.served.addresses[1]), "healthomics.v1.RunService/GetRun"),
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_grpcurl_sends_a_token_over_tls(tmp_path: Path) -> None:
    """As in the guide, a valid token returns the run and an invalid one a reason."""
    async with AsyncExitStack() as stack:
        deployment = await stack.enter_async_context(
            serving_listeners(tmp_path, rule(LIMS))
        )
        code, answer, _ = await grpcurl(deployment, "right")
        bad_code, nothing, output = await grpcurl(deployment, "other-audience")
        asked = deployment.upstream.asked.total()

    assert (0, str(FIRST_ID)) == (code, json.loads(answer)["id"])
    assert bad_code
    assert "" == nothing
    error = json.loads(output[output.index("{") :])
    assert 16 == error["code"]
    assert "TOKEN_INVALID" in [each.get("reason") for each in error["details"]]
    assert 1 == asked
