"""The cases of clients/conformance.json, and how an outcome differs from its case."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from healthomics.v1.run_pb2 import Run

LIST = Path(__file__).parents[2] / "clients/conformance.json"
DOMAIN = "healthomics-gateway"
EXPECTATIONS = {  # README.md of clients/ describes them
    "calls",
    "code",
    "fields",
    "logged",
    "members",
    "metadata",
    "path",
    "reason",
    "retry",
    "run",
    "sameObserveTimeAs",
    "statuses",
}

OPTIONS: tuple[str, ...] = (
    "deadlineSeconds",
    "cancelAfterSeconds",
    "cancelAfterStates",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A call, and what its caller and the gateway's log must show."""

    name: str
    says: str
    server: str = "plain"
    method: str = "GetRun"
    request: dict[str, Any]
    options: dict[str, float] = field(default_factory=dict)  # the deadline, the cancel
    expect: dict[str, Any]
    why: str = ""  # why the expectations of this client differ; empty if they don't


@dataclass(slots=True)
class Outcome:
    """What a client reported of a case, and the lines of its calls in the log."""

    request_id: str  # that the client has to send with each call
    runs: list[Run] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)  # AWS's words
    end: dict[str, Any] | None = None  # None until the case has ended
    logged: list[dict[str, Any]] = field(default_factory=list)


def cases_for(language: str, path: Path = LIST) -> list[Case]:
    """Return the cases, with the expectations of a language."""
    return [_case(dict(row), language) for row in json.loads(path.read_text())["cases"]]


def _case(row: dict[str, Any], language: str) -> Case:
    differs = row.pop("differs", {}).get(language, {})
    expect = row.pop("expect") | differs.get("expect", {})
    if unknown := expect.keys() - EXPECTATIONS:
        raise ValueError(f"{row['name']}: unknown expectations: {sorted(unknown)}")
    options = {name: row.pop(name) for name in OPTIONS if name in row}
    return Case(expect=expect, options=options, why=differs.get("why", ""), **row)


def differences(case: Case, outcomes: dict[str, Outcome]) -> list[str]:
    """Return a line for each way in which the outcome of a case differs from it."""
    outcome = outcomes[case.name]
    if outcome.end is None:
        return ["the client never reported the end of this case"]
    compared = itertools.chain(
        _compared_end(case, outcome),
        _compared_runs(case, outcome),
        _compared_log(case, outcome.logged),
        _compared_times(case, outcome, outcomes),
    )
    return [
        f"{what}: expected {expected!r}, got {actual!r}"
        for what, expected, actual in compared
        if expected != actual
    ]


Compared = tuple[str, Any, Any]  # what, the expected value, the actual one


def _compared_end(case: Case, outcome: Outcome) -> Iterator[Compared]:
    end = outcome.end or {}
    expect, error = case.expect, end["error"]
    yield "code", expect.get("code", "OK"), end["code"]
    has_error = end["code"] not in ("OK", None)
    yield "an error", has_error, error is not None
    reason = error["reason"] if error else ""
    yield "reason", expect.get("reason", reason), reason
    is_sent = reason or end["code"] == "OK"  # by a gateway
    if case.method == "GetRun" and is_sent:
        yield from _compared_trailers(case, outcome)
    if error is None:
        return
    yield "the message is empty", False, not error["message"]
    if expect.get("reason") == "":
        details = error["retrySeconds"], error["fields"], error["requestId"]
        yield "no details", (None, {}, ""), details
    if reason:
        yield "domain", DOMAIN, error["domain"]
        yield "request id", outcome.request_id, error["requestId"]
    if "retry" in expect:
        yield "RetryInfo", expect["retry"], error["retrySeconds"] is not None
    if expect.get("retry"):
        seconds = error["retrySeconds"]
        yield "a wait of 50 ms to a minute", True, 0.05 <= (seconds or 0) <= 60
    if "fields" in expect:
        yield "fields", sorted(expect["fields"]), sorted(error["fields"])
        yield "a field without text", False, not all(error["fields"].values())
    for key, value in expect.get("metadata", {}).items():
        yield f"metadata {key}", value, error["metadata"].get(key)


def _compared_trailers(case: Case, outcome: Outcome) -> Iterator[Compared]:
    """Compare the ids of the call and of the call to HealthOmics, if one was made."""
    trailers = (outcome.end or {}).get("trailers", {})
    yield "x-request-id", [outcome.request_id], trailers.get("x-request-id")
    is_asked = (
        "members" in case.expect
        or "run" in case.expect
        or ("awsErrorCode" in case.expect.get("metadata", {}))
    )
    if is_asked:
        sent = trailers.get("x-amzn-requestid") or [""]
        yield "an x-amzn-requestid", (1, True), (len(sent), bool(sent[0]))


def _compared_runs(case: Case, outcome: Outcome) -> Iterator[Compared]:
    expect = case.expect
    words = [word for word, _ in itertools.groupby(outcome.statuses)]
    if "statuses" in expect:
        yield "statuses", expect["statuses"], words
    if "path" in expect:
        path = expect["path"]
        yield "the statuses on their path", [w for w in path if w in words], words
        yield "the last status", path[-1:], words[-1:]
    has_run = bool({"statuses", "path", "run", "members"} & expect.keys())
    yield "a run", has_run, bool(outcome.runs)
    if not outcome.runs:
        return
    run = outcome.runs[-1]
    yield "observe_time is set", True, run.HasField("observe_time")
    read = MessageToDict(run)
    read.pop("observeTime", None)
    if "run" in expect:
        yield "run", expect["run"], read
    for name, value in expect.get("members", {}).items():
        yield name, value, read.get(name)


def _compared_log(case: Case, logged: Sequence[dict[str, Any]]) -> Iterator[Compared]:
    expect = case.expect
    calls = expect.get("calls")
    if isinstance(calls, dict):
        yield f"at least {calls['min']} calls", True, len(logged) >= calls["min"]
    elif calls is not None:
        yield "calls", calls, len(logged)
    if "logged" in expect:
        codes = [code for code, _ in itertools.groupby(line["code"] for line in logged)]
        yield "codes in the log", expect["logged"], codes


def _compared_times(
    case: Case, outcome: Outcome, outcomes: dict[str, Outcome]
) -> Iterator[Compared]:
    if other := case.expect.get("sameObserveTimeAs"):
        times = [each.observe_time.ToJsonString() for each in outcomes[other].runs]
        actual = [each.observe_time.ToJsonString() for each in outcome.runs]
        yield f"observe_time of {other}", times, actual
