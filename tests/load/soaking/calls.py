"""The calls of the soak: how the seed determines each, and how it is made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
from grpc.aio import AioRpcError

from healthomics.v1.run_pb2 import RUN_EXPORT_DEFINITION, Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from load.soaking.judge import BARE, MASKED, Asked, CallEnd
from load.soaking.upstream import FIRST_ID, RUNS

GET_RUN = "/healthomics.v1.RunService/GetRun"
METHODS = (
    "/healthomics.v1.RunService/StartRun",
    "/healthomics.v2.RunService/GetRun",
    "/x/y",
)
USUAL_SECONDS = 10.0
DEFAULT_SECONDS = 5.0  # the gateway's own, for calls without a deadline
STALENESS_SECONDS = 30
OVERSIZE_BYTES = 70_000  # the gateway accepts 64 KiB

KINDS: Mapping[str, int] = {  # with their weights
    "usual": 44,
    "masked": 12,
    "exported": 3,
    "remembered": 10,
    "without deadline": 3,
    "short deadline": 9,
    "leaving": 7,
    "bad request": 5,
    "unknown method": 3,
    "undecodable": 3,
    "oversize": 1,
}
EXPECTED = {  # of those that never reach the upstream
    "bad request": "INVALID_REQUEST",
    "unknown method": "METHOD_UNKNOWN",
    "undecodable": "MALFORMED_REQUEST",
    "oversize": f"RESOURCE_EXHAUSTED{BARE}",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned call."""

    kind: str
    request_id: str
    payload: bytes
    run_id: str = ""  # empty if the upstream must not be called
    method: str = GET_RUN
    seconds: float | None = USUAL_SECONDS
    mask: tuple[str, ...] = ()
    leaves_after_seconds: float | None = None
    staleness_seconds: int = 0


def plan(seed: int, number: int) -> Plan:
    """Return the call of a seed and a number."""
    random = Random(f"{seed} call {number}")  # reproduced by its seed
    (kind,) = random.choices(list(KINDS), weights=list(KINDS.values()))
    request_id = f"soak-{number}"
    run_id = str(FIRST_ID + random.randrange(RUNS))
    if kind in EXPECTED:
        method = random.choice(METHODS) if kind == "unknown method" else GET_RUN
        return Plan(kind, request_id, _bad_payload(random, kind), method=method)
    request = GetRunRequest(id=run_id)
    seconds: float | None = USUAL_SECONDS
    mask: tuple[str, ...] = ()
    leaves_after = None
    staleness = STALENESS_SECONDS if kind == "remembered" else 0
    if staleness:
        request.max_staleness.seconds = staleness
    match kind:
        case "masked":
            mask = tuple(random.sample(list(MASKED), random.randint(1, 3)))
            request.read_mask.paths.extend(mask)
        case "exported":
            request.export.append(RUN_EXPORT_DEFINITION)
        case "without deadline":
            seconds = None
        case "short deadline":
            seconds = random.choice((0.001, 0.005, 0.02, 0.05, 0.2, 0.8))
        case "leaving":
            leaves_after = random.random() * 0.05
    return Plan(
        kind=kind,
        request_id=request_id,
        payload=request.SerializeToString(),
        run_id=run_id,
        seconds=seconds,
        mask=mask,
        leaves_after_seconds=leaves_after,
        staleness_seconds=staleness,
    )


def _bad_payload(random: Random, kind: str) -> bytes:
    if kind == "undecodable":
        return b"\x0a\xff\xff" + random.randbytes(random.randint(0, 40))
    if kind == "oversize":
        return GetRunRequest(id="1" * OVERSIZE_BYTES).SerializeToString()
    if kind == "unknown method":
        return GetRunRequest(id=str(FIRST_ID)).SerializeToString()
    ids = ("", "١٢٣", "1/../2", "1?export=X", " 1", "1" * 19, "123\n", "\x00")
    if random.random() < 0.7:
        return GetRunRequest(id=random.choice(ids)).SerializeToString()
    request = GetRunRequest(id=str(FIRST_ID), export=[99])
    request.read_mask.paths.append("no.such.field")
    return request.SerializeToString()


async def make(
    channel: grpc.aio.Channel, planned: Plan, credential: tuple[str, str]
) -> tuple[Asked, CallEnd]:
    """Make a call with a credential in its metadata; return how it ended."""
    method: Any = channel.unary_unary(
        planned.method, response_deserializer=Run.FromString
    )
    metadata = (("x-request-id", planned.request_id), credential)
    leaves_after = planned.leaves_after_seconds
    asked = Asked(
        begun=time.monotonic(),
        seconds=planned.seconds or DEFAULT_SECONDS,
        request_id=planned.request_id,
        run_id=planned.run_id,
        mask=planned.mask,
        expected=EXPECTED.get(planned.kind, ""),
        leaves=leaves_after is not None,
        staleness_seconds=planned.staleness_seconds,
    )
    call = method(planned.payload, timeout=planned.seconds, metadata=metadata)
    if leaves_after is not None:
        asyncio.get_running_loop().call_later(leaves_after, call.cancel)
    try:
        run = await call
        trailers = dict(await call.trailing_metadata())
    except AioRpcError as error:
        return asked, CallEnd(time.monotonic(), error, {})
    except asyncio.CancelledError:
        if not (asked.leaves and call.cancelled()):
            raise
        return asked, CallEnd(time.monotonic(), None, {})
    return asked, CallEnd(time.monotonic(), run, trailers)
