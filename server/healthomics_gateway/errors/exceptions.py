"""The errors that a call can fail with; `replace` returns a changed copy of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

from google.rpc.error_details_pb2 import BadRequest

from healthomics_gateway.errors.reasons import Advice, Reason

NO_RETRY = -1  # the pushback that forbids a retry
MIN_RETRY_MS = 50
MAX_RETRY_MS = 60_000


class Again(Enum):
    """The gateway's own decision about another attempt."""

    NO = auto()
    ONCE = auto()  # once for this reason
    FIXED = auto()  # once, as the gateway has removed the cause
    YES = auto()  # while attempts and time are left


@dataclass(frozen=True, slots=True)
class AwsAnswer:
    """The parts of an AWS response that are safe to show to callers."""

    request_id: str  # empty if there is none
    http_status: int | None = None  # None if only the id is known
    error_code: str = ""  # empty if there is none

    @property
    def metadata(self) -> dict[str, str]:
        """The answer as `ErrorInfo.metadata`."""
        if self.http_status is None:
            return {"awsRequestId": self.request_id}
        return {
            "awsErrorCode": self.error_code,
            "httpStatus": str(self.http_status),
            "awsRequestId": self.request_id,
        }


class GatewayError(Exception):
    """The failure of a call: a reason of the table, and what is known of the cause."""

    # Exactly the arguments of `__init__`, as `replace` copies them by these names.
    __slots__ = (
        *("again", "answer", "aws_retry_after_seconds", "debug", "fix", "reason"),
        *("retry_delay_seconds", "violations"),
    )

    def __init__(
        self,
        reason: Reason,
        *,
        again: Again = Again.NO,
        answer: AwsAnswer | None = None,
        violations: tuple[BadRequest.FieldViolation, ...] = (),
        aws_retry_after_seconds: float | None = None,
        retry_delay_seconds: float = 0.0,
        debug: str = "",
        fix: Callable[[], Awaitable[GatewayError]] | None = None,
    ) -> None:
        """Create an error with `reason`.

        `answer` is AWS's, `aws_retry_after_seconds` the delay that AWS asks for, and
        `retry_delay_seconds` the delay that the client is asked for. `debug` is AWS's
        message text. `fix` tries to remove the cause, and returns the error to raise.
        """
        super().__init__(reason.name)
        self.reason = reason
        self.again = again
        self.answer = answer
        self.violations = violations
        self.aws_retry_after_seconds = aws_retry_after_seconds
        self.retry_delay_seconds = retry_delay_seconds
        self.debug = debug
        self.fix = fix

    def replace(self, **changes: Any) -> Self:
        """Return a copy with `changes` to its arguments."""
        arguments = {name: getattr(self, name) for name in GatewayError.__slots__}
        return type(self)(**(arguments | changes))

    @property
    def pushback_ms(self) -> int | None:
        """The pushback for the client's library (gRFC A6).

        It is the delay of RetryInfo, or -1 for no retry. None sends no pushback: if the
        advice is to wait, the caller must decide. The libraries of Java and .NET retry
        every status that has a delay, whatever its code, and lose its details.
        """
        if self.reason.value.advice is Advice.WAIT:
            return None
        delay_ms = self.retry_delay_ms
        return NO_RETRY if delay_ms is None else delay_ms

    @property
    def retry_delay_ms(self) -> int | None:
        """The delay of RetryInfo, 50 ms to 60 s, or None for no retry."""
        if self.reason.value.advice is Advice.STOP:
            return None
        wait_ms = round(self.retry_delay_seconds * 1000)
        return min(max(wait_ms, MIN_RETRY_MS), MAX_RETRY_MS)


class NotAskedError(GatewayError):
    """An error of the gateway itself, before it has asked HealthOmics."""


def overloaded(jitter: float) -> GatewayError:
    """Return GATEWAY_OVERLOADED with a delay of 0.5 to 1.5 s; `jitter` is in [0, 1)."""
    return GatewayError(Reason.GATEWAY_OVERLOADED, retry_delay_seconds=0.5 + jitter)


def limited(wait_seconds: float) -> GatewayError:
    """Return CALLER_RATE_LIMITED with the delay until a retry may succeed."""
    return GatewayError(Reason.CALLER_RATE_LIMITED, retry_delay_seconds=wait_seconds)
