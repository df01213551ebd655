"""One call, as its stages see it."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from grpc.aio import ServicerContext

from healthomics_gateway.access import ANONYMOUS
from healthomics_gateway.runs import Caller

REQUEST_ID = "x-request-id"
AWS_REQUEST_ID = "x-amzn-requestid"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Exchange:
    """A call under way; the stages fill in how it ends."""

    context: ServicerContext[Any, Any]
    method: str  # /package.Service/Method
    request_id: str
    peer: str  # the connection, as gRPC names it; asked while the client is there
    task: asyncio.Task[Any]  # that the call runs in
    identity: str = ANONYMOUS
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)  # `ErrorInfo.metadata`


# Is given the undecoded messages as they come; gives the encoded answer, or nothing
# where it has written its answers itself.
Handler: TypeAlias = Callable[[Any, Exchange], Awaitable[bytes]]
Trailer: TypeAlias = tuple[str, str | bytes]
Stage: TypeAlias = Callable[[Handler], Handler]


def request_id_of(context: ServicerContext[Any, Any]) -> str:
    """Take the caller's id of the call, or make one up where it is no good."""
    for key, value in context.invocation_metadata() or ():
        if (
            key == REQUEST_ID
            and isinstance(value, str)
            and _REQUEST_ID.fullmatch(value)
        ):
            return value
    return f"{random.getrandbits(128):032x}"


def caller_at(peer: str) -> Caller:
    """Take a peer, as gRPC names it, for who it is: its host, and its connection."""
    return Caller(peer.rpartition(":")[0], peer)


def running_task() -> asyncio.Task[Any]:
    """Give the task that runs."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call runs in a task")
    return task


def trailing_ids(exchange: Exchange, known: Mapping[str, str]) -> tuple[Trailer, ...]:
    """Give the trailers that every call ends with: its own id, and AWS's if any."""
    own = (REQUEST_ID, exchange.request_id)
    aws_request_id = known.get("awsRequestId")
    return (own, (AWS_REQUEST_ID, aws_request_id)) if aws_request_id else (own,)
