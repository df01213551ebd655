"""An HTTP response of AWS, or the failure that stands for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto


class Failure(Enum):
    """What can go wrong between the gateway and a readable answer."""

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
    """One HTTP answer. `headers` are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes | Failure  # the failure is why there is no readable body
