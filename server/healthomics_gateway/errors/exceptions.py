"""The errors that a call can fail with. An error isn't changed once it is raised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

from google.rpc.error_details_pb2 import BadRequest

from healthomics_gateway.errors.reasons import Advice, Reason

MIN_RETRY_MS = 50
MAX_RETRY_MS = 60_000


class Again(Enum):
    """Whether the gateway itself tries once more."""

    NO = auto()
    ONCE = auto()  # once for this reason
    FIXED = auto()  # once, as the gateway has fixed the cause on its side
    YES = auto()  # while attempts and time are left


@dataclass(frozen=True, slots=True)
class AwsAnswer:
    """What an answer of AWS says about itself, as far as it is safe to show."""

    request_id: str  # empty if there is none
    http_status: int | None = None  # None if only the id is known
    error_code: str = ""  # empty if there is none

    @property
    def metadata(self) -> dict[str, str]:
        """It as `ErrorInfo.metadata`."""
        if self.http_status is None:
            return {"awsRequestId": self.request_id}
        return {
            "awsErrorCode": self.error_code,
            "httpStatus": str(self.http_status),
            "awsRequestId": self.request_id,
        }


class GatewayError(Exception):
    """The failure of a call: a reason of the table, and what is known about it."""

    def __init__(
        self,
        reason: Reason,
        *,
        again: Again = Again.NO,
        answer: AwsAnswer | None = None,
        violations: tuple[BadRequest.FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
        retry_delay_seconds: float = 0.0,
        debug: str = "",
        fix: Callable[[], Awaitable[GatewayError]] | None = None,
    ) -> None:
        """Create an error with `reason`.

        `answer` is AWS's, `retry_after_seconds` the wait that AWS asks for, and
        `retry_delay_seconds` the one that the client is asked for. `debug` is AWS's
        message text. `fix` may remove the cause, and returns the error that is then
        left.
        """
        super().__init__(reason.name)
        self.reason = reason
        self.again = again
        self.answer = answer
        self.violations = violations
        self.retry_after_seconds = retry_after_seconds
        self.retry_delay_seconds = retry_delay_seconds
        self.debug = debug
        self.fix = fix

    def replace(self, **changes: Any) -> Self:
        """Return a new error of the same class, with `changes` of its arguments."""
        return type(self)(**(vars(self) | changes))

    @property
    def pushback_ms(self) -> int:
        """The wait before a retry, 50 ms to 60 s, or -1 for never (gRFC A6)."""
        if self.reason.value.advice is Advice.STOP:
            return -1
        wait_ms = round(self.retry_delay_seconds * 1000)
        return min(max(wait_ms, MIN_RETRY_MS), MAX_RETRY_MS)


class NotAskedError(GatewayError):
    """A failure before HealthOmics was asked: the gateway itself refuses the call."""


def overloaded(jitter: float) -> GatewayError:
    """Return GATEWAY_OVERLOADED with a delay of 0.5 to 1.5 s; `jitter` is in [0, 1)."""
    return GatewayError(Reason.GATEWAY_OVERLOADED, retry_delay_seconds=0.5 + jitter)


def limited(wait_seconds: float) -> GatewayError:
    """Return CALLER_RATE_LIMITED for a caller that may come back after a wait."""
    return GatewayError(Reason.CALLER_RATE_LIMITED, retry_delay_seconds=wait_seconds)
