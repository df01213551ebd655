"""Callers with tokens, and an account whose runs belong to groups and have tags."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
from grpc.aio import EOF

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.sharing import Sharing
from testkit.builders import Refusal, aws_at, calling, gateway, http
from testkit.issuer import AUDIENCE, ISSUER, Signer, jwks
from testkit.lying_upstream import Answer, LyingUpstream, Request, said, true_run

SIGNER = Signer("first", "P-256")
LIMS, OTHER = "spiffe://corp/ns/lims/sa/reader", "spiffe://corp/ns/other/sa/reader"
OURS, THEIRS, TAGGED, NOWHERE = "1001", "1002", "1003", "1009"  # runs
GROUP = "7654321"
RUNS: dict[str, dict[str, Any]] = {
    OURS: {"runGroupId": GROUP},
    THEIRS: {"runGroupId": "7654322"},
    TAGGED: {"runGroupId": GROUP, "tags": {"project": "wgs"}},
}


def token(identity: str = LIMS, **claims: Any) -> str:
    """Return a signed token that is valid now; `claims` replace the usual ones."""
    now = time.time()
    return SIGNER.token(
        **{"sub": identity, "iat": now - 10, "exp": now + 300, **claims}
    )


def settings_of_tokens(folder: Path, *signers: Signer) -> dict[str, str]:
    """Return the variables of a gateway that reads the issuer's keys from a file."""
    file = folder / "jwks.json"
    file.write_bytes(jwks(*(signers or (SIGNER,))))
    return {
        "GATEWAY_JWT__ISSUER": ISSUER,
        "GATEWAY_JWT__AUDIENCE": AUDIENCE,
        "GATEWAY_JWT__ALGORITHMS": "RS256,ES256",
        "GATEWAY_JWT__JWKS_FILE": str(file),
    }


def rule(identity: str, **what: Any) -> str:
    """Return a rule as it is written in a settings file."""
    lines = [
        f'identity = "{identity}"',
        *(f"{k} = {_toml(v)}" for k, v in what.items()),
    ]
    return "\n".join(["[[callers]]", *lines, ""])


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(each)}" for key, each in value.items())
        return f"{{ {inner} }}"
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')


def account(request: Request) -> Answer:
    """Return a run of the account, as HealthOmics does."""
    run = RUNS.get(request.run_id)
    if run is None:
        return said(404, "ResourceNotFoundException")
    return http(true_run(request.run_id, **run), x_amzn_requestid=str(uuid4()))


@dataclass
class Called:
    """A gateway whose callers send tokens, and its upstream."""

    served: Gateway
    upstream: LyingUpstream
    stub: Any

    async def get(self, run_id: str, bearer: str | None = None, **fields: Any) -> Run:
        """Make one GetRun, with a token if there is one."""
        run: Run = await self.stub.GetRun(
            GetRunRequest(id=run_id, **fields), timeout=10, metadata=bearing(bearer)
        )
        return run

    def watch(self, run_id: str, bearer: str | None = None, **fields: Any) -> Any:
        """Begin a WatchRun, with a token if there is one."""
        request = WatchRunRequest(id=run_id, **fields)
        return self.stub.WatchRun(request, timeout=10, metadata=bearing(bearer))


def bearing(*tokens: str | None) -> tuple[tuple[str, str], ...]:
    """Return a call's metadata: an `authorization` for each token."""
    return tuple(("authorization", f"Bearer {each}") for each in tokens if each)


@asynccontextmanager
async def called(
    folder: Path,
    *rules: str,
    upstream: LyingUpstream | None = None,
    refusal_seconds: float = 0.02,
    sharing: Sharing | None = None,
    **environ: str,
) -> AsyncIterator[Called]:
    """Serve a gateway that reads tokens and has these rules."""
    async with (
        upstream or LyingUpstream(truth=account) as asked,
        gateway(
            aws_at(asked.url),
            toml="".join(rules),
            refusal_seconds=refusal_seconds,
            sharing=sharing,
            **settings_of_tokens(folder),
            **environ,
        ) as served,
        calling(served) as stub,
    ):
        yield Called(served, asked, stub)


async def outcome(call: Any) -> Any:
    """Await a call and return its run, or its failure."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error)


async def states(stream: Any) -> list[Any]:
    """Read a watch to its end; return the runs' names, and the reason of a failure."""
    seen: list[Any] = []
    try:
        while (response := await stream.read()) is not EOF:
            seen.append(response.run)
    except grpc.aio.AioRpcError as error:
        seen.append(Refusal(error))
    return seen


def stub_on(channel: grpc.aio.Channel) -> Any:
    """Return the stub of a channel."""
    return RunServiceStub(channel)


async def until(condition: Any) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.001)
