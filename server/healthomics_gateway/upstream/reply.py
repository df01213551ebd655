"""An HTTP response of AWS, and the failures that replace a response or its body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


class Failure(Enum):
    """Why there is no readable response."""

    CONNECTION = auto()  # refused, unreachable, reset or cut
    DNS = auto()
    TLS = auto()  # the handshake was cut, or took too long
    TLS_UNTRUSTED = auto()
    TIMEOUT = auto()
    TOO_LARGE = auto()
    COMPRESSED = auto()
    MALFORMED = auto()  # not HTTP, or not a JSON object
    ANOTHER_RUN = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response. The lookup of `headers` ignores case."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Failure  # a failure if the body can't be read
