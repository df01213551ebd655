"""An HTTP response of AWS, or why there is none that can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


class Failure(Enum):
    """Why there is no response, or none that can be read."""

    CONNECTION = auto()  # refused, unreachable, reset, cut
    DNS = auto()
    TLS = auto()  # handshake cut or stalled
    TLS_UNTRUSTED = auto()
    TIMEOUT = auto()
    TOO_LARGE = auto()
    COMPRESSED = auto()
    MALFORMED = auto()  # not HTTP, or not a JSON object
    ANOTHER_RUN = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response. The names in `headers` are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Failure  # a failure says why the body could not be read
