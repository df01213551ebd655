"""One call, as its stages see it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from grpc.aio import ServicerContext

REQUEST_ID = "x-request-id"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(slots=True)
class Exchange:
    """A call under way; the stages fill in how it ends."""

    context: ServicerContext[Any, Any]
    method: str  # /package.Service/Method
    request_id: str
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)  # `ErrorInfo.metadata`


# Is given the undecoded request, or an iterator of them where the client streams;
# gives the encoded answer, or nothing where it has written its answers itself.
Handler: TypeAlias = Callable[[Any, Exchange], Awaitable[bytes]]
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
    return uuid.uuid4().hex
