"""Judges whether the ledger allows an answer.

The table of reasons is the project's error table, written independently of the
gateway's own, so that the two can disagree.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

from grpc import StatusCode
from grpc.aio import AioRpcError

from healthomics.v1.run_pb2 import Run
from load.soaking.ledger import Ledger, Served
from testkit.builders import ALWAYS, CANARIES, Refusal, assert_well_made
from testkit.lying_upstream import CANARY
from testkit.rebuild import Path, differences, sent_members

SESSION_TOKEN = "canary-session-token"
SLACK_SECONDS = 1.0  # beyond a deadline, and around the time of an observation
BUSY_SECONDS = 0.5  # that an attempt may take beyond the time of its answer
NO_TOKENS_SECONDS = 1.0  # of a shared quota
BARE = " without details"  # as gRPC itself ends calls
LATE = {"CALLER_DEADLINE", "SERVER_DEADLINE", f"DEADLINE_EXCEEDED{BARE}"}

MASKED: Mapping[str, Path] = {  # paths of masks, and the members they select
    "arn": ("arn",),
    "creation_time": ("creationTime",),
    "id": ("id",),
    "log_location": ("logLocation",),
    "log_location.run_log_stream": ("logLocation", "runLogStream"),
    "name": ("name",),
    "parameters": ("parameters",),
    "priority": ("priority",),
    "status": ("status",),
    "tags": ("tags",),
    "vpc_config.subnet_ids": ("vpcConfig", "subnetIds"),
}

_ROWS = {  # a code: its reasons, each with its further details
    StatusCode.INVALID_ARGUMENT: (
        "INVALID_REQUEST+BadRequest MALFORMED_REQUEST UPSTREAM_VALIDATION+BadRequest"
    ),
    StatusCode.UNIMPLEMENTED: "METHOD_UNKNOWN",
    StatusCode.DEADLINE_EXCEEDED: "DEADLINE_TOO_SHORT CALLER_DEADLINE SERVER_DEADLINE",
    StatusCode.NOT_FOUND: "RUN_NOT_FOUND+ResourceInfo",
    StatusCode.FAILED_PRECONDITION: "RUN_CONFLICT+PreconditionFailure",
    StatusCode.PERMISSION_DENIED: "UPSTREAM_ACCESS_DENIED",
    StatusCode.RESOURCE_EXHAUSTED: (
        "UPSTREAM_QUOTA_EXCEEDED+QuotaFailure UPSTREAM_THROTTLED+QuotaFailure+RetryInfo"
    ),
    StatusCode.UNAVAILABLE: (
        "GATEWAY_CLOCK_SKEW+RetryInfo GATEWAY_CREDENTIALS_EXPIRED+RetryInfo"
        " GATEWAY_OVERLOADED+RetryInfo"
        " UPSTREAM_CONNECTION+RetryInfo UPSTREAM_INTERNAL+RetryInfo"
        " UPSTREAM_TIMEOUT+RetryInfo UPSTREAM_UNAVAILABLE+RetryInfo"
    ),
    StatusCode.UNKNOWN: "UPSTREAM_UNRECOGNIZED",
    StatusCode.INTERNAL: (
        "GATEWAY_ACCOUNT_NOT_ENABLED GATEWAY_CREDENTIALS_INVALID"
        " GATEWAY_REQUEST_REJECTED GATEWAY_SIGNATURE_REJECTED"
        " UPSTREAM_IDENTITY_MISMATCH UPSTREAM_MALFORMED_RESPONSE"
        " UPSTREAM_RESPONSE_TOO_LARGE UPSTREAM_UNEXPECTED_REDIRECT"
    ),
}
CODES: dict[str, StatusCode] = {}  # by reason
DETAILS: dict[str, set[str]] = {}  # by reason, in addition to those of every error
for _code, _reasons in _ROWS.items():
    for _reason, *_details in (each.split("+") for each in _reasons.split()):
        CODES[_reason], DETAILS[_reason] = _code, set(_details)


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it was made."""

    begun: float  # of the monotonic clock
    seconds: float  # its deadline, or the gateway's own if it has none
    request_id: str
    run_id: str = ""
    mask: tuple[str, ...] = ()
    expected: str = ""  # the reason of a call that never reaches the upstream
    leaves: bool = False  # the caller cancels
    staleness_seconds: float = 0.0  # the age that it allows


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended."""

    ended: float
    answer: Run | AioRpcError | None  # None if the caller has left
    trailers: Mapping[str, str | bytes]  # of a success


def label_of(end: CallEnd) -> str:
    """Return the name of a call's end: OK, a reason, or a code without details."""
    if end.answer is None:
        return f"CANCELLED{BARE}"
    if isinstance(end.answer, Run):
        return "OK"
    refusal = Refusal(end.answer)
    return refusal.reason if refusal.details else f"{refusal.code.name}{BARE}"


class Judge:
    """Compares the ends of calls with the ledger."""

    def __init__(
        self, ledger: Ledger, *, ahead_seconds: float, is_shared: bool = False
    ) -> None:
        """Take the seconds by which the wall clock is ahead of the monotonic one.

        If the quota `is_shared`, a process that has lost the store, or that has just
        reached it, has no tokens for about a second.
        """
        self._ledger = ledger
        self._is_shared = is_shared
        self._ahead_seconds = ahead_seconds

    def faults(self, asked: Asked, end: CallEnd) -> Iterator[str]:
        """Return what is wrong with an end; empty if it is allowed."""
        served = self._ledger.served(asked.run_id, asked.begun, end.ended)
        is_stalled = self._ledger.had_stall(asked.begun, end.ended)
        lasted = end.ended - asked.begun
        if lasted > asked.seconds + SLACK_SECONDS and not is_stalled:
            yield f"it ended after {lasted:.2f} s, its deadline being {asked.seconds} s"
        if isinstance(end.answer, Run):
            yield from self._faults_of_run(asked, end, end.answer, served)
        else:
            allowed = self._allowed(asked, end, served, is_stalled=is_stalled)
            if (label := label_of(end)) not in allowed:
                yield f"{label} where {sorted(allowed) or 'no error'} may come"
        if isinstance(end.answer, AioRpcError):
            yield from _faults_of_error(asked, end.answer, served)

    def _faults_of_run(
        self, asked: Asked, end: CallEnd, run: Run, served: list[Served]
    ) -> Iterator[str]:
        if asked.expected:
            yield f"OK where {asked.expected} must come"
            return
        if end.trailers.get("x-request-id") != asked.request_id:
            yield "the call's id didn't come back"
        named = end.trailers.get("x-amzn-requestid")
        oldest = asked.begun - SLACK_SECONDS - asked.staleness_seconds
        if asked.staleness_seconds:
            served = self._ledger.served(asked.run_id, oldest, end.ended)
        texts = [each.text for each in served if each.text and each.request_id == named]
        if not texts:
            yield f"no true answer {named} was served during the call"
        for text in texts:
            yield from differences(selected(text, asked.mask), run)
        observed = run.observe_time.ToNanoseconds() / 1e9 - self._ahead_seconds
        if not (
            oldest <= observed <= end.ended + SLACK_SECONDS
            and run.HasField("observe_time")
        ):
            yield f"it was observed {asked.begun - observed:.2f} s before the call"

    def _allowed(
        self, asked: Asked, end: CallEnd, served: list[Served], *, is_stalled: bool
    ) -> set[str]:
        if asked.expected.endswith(BARE):  # gRPC's own refusal
            # It may coincide with the end of its connection, which has a maximum age.
            return {asked.expected, f"UNAVAILABLE{BARE}"}
        if asked.expected:
            return {asked.expected}
        allowed = {reason for each in served for reason in each.reasons}
        is_short = asked.seconds <= BUSY_SECONDS
        busy_until = max(map(_busy_until, served, count()), default=0.0)
        is_late = busy_until + BUSY_SECONDS >= asked.begun + asked.seconds
        if is_short or is_late or is_stalled:
            allowed |= LATE
        if is_short:
            allowed.add("DEADLINE_TOO_SHORT")
        if is_short or is_stalled:  # a call without enough time is refused early
            allowed.add("GATEWAY_OVERLOADED")
        throttled = self._ledger.last_of("UPSTREAM_THROTTLED")
        is_hasty = self._is_shared and asked.seconds <= NO_TOKENS_SECONDS
        if is_hasty or (is_short and throttled >= asked.begun - BUSY_SECONDS):
            # A throttle takes every token at once, whichever run it was about.
            allowed.add("UPSTREAM_THROTTLED")
        if asked.leaves:
            allowed.add(f"CANCELLED{BARE}")
        if is_stalled:
            allowed.add("UPSTREAM_TIMEOUT")
        if self._ledger.had_outage(asked.begun, end.ended):
            allowed.add("UPSTREAM_CONNECTION")
        return allowed


def _busy_until(served: Served, retries: int) -> float:
    """Return until when an answer, and the wait after it, keep a call busy.

    After a throttle the gateway waits up to 1 s, doubled for each retry before, and
    the deadline may pass while the next attempt is under way.
    """
    is_throttle = "UPSTREAM_THROTTLED" in served.reasons
    return served.at + served.lasts_seconds + is_throttle * 2.0 ** min(retries, 2)


def _faults_of_error(
    asked: Asked, error: AioRpcError, served: list[Served]
) -> Iterator[str]:
    refusal = Refusal(error)
    everything = f"{refusal.message} {refusal.details} {refusal.trailers}"
    for canary in (*CANARIES, CANARY, SESSION_TOKEN):
        if canary in everything:
            yield f"it contains {canary!r}"
    if not refusal.details:
        return
    reason, metadata = refusal.reason, refusal.metadata
    if CODES.get(reason) is not refusal.code:
        yield f"{reason} has the code {refusal.code.name}"
    if DETAILS.get(reason) != refusal.details.keys() - ALWAYS:
        yield f"{reason} has the details {sorted(refusal.details)}"
    try:
        assert_well_made(refusal)
    except AssertionError as fault:
        frame = traceback.extract_tb(fault.__traceback__)[-1]
        yield f"{reason} is malformed: {frame.line}"
    if refusal.trailers.get("x-request-id") != asked.request_id:
        yield "the call's id didn't come back"
    if asked.run_id and metadata.get("runId") != asked.run_id:
        yield f"{reason} names the run {metadata.get('runId')}"
    # A call that is too late may report the answer that came too late, whatever it was.
    if (named := metadata.get("awsRequestId", "")) and not any(
        each.request_id == named and (reason in LATE or reason in each.reasons)
        for each in served
    ):
        yield f"{reason} isn't what the answer {named} may become"


def selected(text: str, mask: tuple[str, ...]) -> str:
    """Return the part of an answer's text that a mask selects, or all of it."""
    if not mask:
        return text
    chosen = [MASKED[each] for each in mask]
    members: dict[str, str] = {}
    structures: dict[str, list[str]] = {}
    for path, value in sent_members(text).items():
        if not any(_concerns(path, each) for each in chosen):
            continue
        name, *below = path
        if below:
            structures.setdefault(name, []).append(f"{json.dumps(below[0])}:{value}")
        else:
            members[name] = value
    members |= {name: f"{{{','.join(each)}}}" for name, each in structures.items()}
    return f"{{{','.join(f'{json.dumps(k)}:{v}' for k, v in members.items())}}}"


def _concerns(path: Path, chosen: Path) -> bool:
    """Return whether a member is the chosen one, inside it or around it."""
    shorter = min(len(path), len(chosen))
    return path[:shorter] == chosen[:shorter]
