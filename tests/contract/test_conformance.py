"""The list of clients/conformance.json, and the comparison of outcomes with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from conformance.cases import LIST, Case, Outcome, cases_for, differences
from conformance.clients import clients
from conformance.driver import ended
from healthomics.v1.error_reason_pb2 import ErrorReason
from healthomics.v1.run_pb2 import RUN_STATUS_RUNNING, Run, RunStatus

LANGUAGES = [client.name for client in clients()]
ERROR = {
    "message": "There is no run with this id.",
    "reason": "RUN_NOT_FOUND",
    "domain": "healthomics-gateway",
    "metadata": {"runId": "1", "awsErrorCode": "ResourceNotFoundException"},
    "retrySeconds": None,
    "fields": {},
    "requestId": "go.one",
}
EXPECTED_ERROR = {
    "code": "NOT_FOUND",
    "reason": "RUN_NOT_FOUND",
    "retry": False,
    "metadata": {"runId": "1", "awsErrorCode": "ResourceNotFoundException"},
    "fields": [],
    "calls": 1,
    "logged": ["NOT_FOUND"],
}
EXPECTED_RUN = {
    "run": {"id": "1", "status": "RUN_STATUS_RUNNING"},
    "statuses": ["RUNNING"],
    "calls": {"min": 1},
}


def failed() -> Outcome:
    """Return the outcome of a call that failed as EXPECTED_ERROR says."""
    trailers = {"x-request-id": ["go.one"], "x-amzn-requestid": ["1"]}
    return Outcome(
        "go.one",
        end={"code": "NOT_FOUND", "error": dict(ERROR), "trailers": trailers},
        logged=[{"code": "NOT_FOUND"}],
    )


def answered() -> Outcome:
    """Return the outcome of a call that was answered as EXPECTED_RUN says."""
    run = Run(id="1", status=RUN_STATUS_RUNNING)
    run.observe_time.FromSeconds(1)
    trailers = {"x-request-id": ["go.one"], "x-amzn-requestid": ["1"]}
    return Outcome(
        "go.one",
        runs=[run],
        statuses=["RUNNING"],
        end={"code": "OK", "error": None, "trailers": trailers},
        logged=[{"code": "OK"}],
    )


def compared(outcome: Outcome, **expect: Any) -> list[str]:
    """Return what differs in the outcome of a case."""
    case = Case(name="one", says="", request={"id": "1"}, expect=expect)
    return differences(case, {"one": outcome})


def test_outcome_as_listed_has_no_differences() -> None:
    """An answer and an error that are as expected differ in nothing."""
    assert compared(failed(), **EXPECTED_ERROR) == []
    assert compared(answered(), **EXPECTED_RUN) == []


Change = Callable[[Outcome], object]


def of_error(member: str, value: object) -> Change:
    """Return a change of one member of the error."""
    return lambda outcome: outcome.end["error"].update({member: value})


def of_trailer(name: str, values: list[str]) -> Change:
    """Return a change of one trailer."""
    return lambda outcome: outcome.end["trailers"].update({name: values})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda outcome: outcome.end.update(code="INTERNAL"), "code"),
        (lambda outcome: outcome.end.update(error=None), "an error"),
        (of_error("reason", "RUN_CONFLICT"), "reason"),
        (of_error("domain", "other"), "domain"),
        (of_error("message", ""), "the message is empty"),
        (of_error("requestId", "other"), "request id"),
        (of_trailer("x-request-id", ["other"]), "x-request-id"),
        (lambda outcome: outcome.end.pop("trailers"), "x-request-id"),
        (of_trailer("x-amzn-requestid", []), "an x-amzn-requestid"),
        (of_error("retrySeconds", 1.0), "RetryInfo"),
        (of_error("fields", {"id": "Wrong."}), "fields"),
        (of_error("fields", {"id": ""}), "a field without text"),
        (of_error("metadata", {}), "metadata runId"),
        (lambda outcome: outcome.logged.append({"code": "NOT_FOUND"}), "calls"),
        (lambda outcome: outcome.logged[0].update(code="OK"), "codes in the log"),
        (lambda outcome: outcome.runs.append(answered().runs[0]), "a run"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_error_that_differs_is_found(change: Change, what: str) -> None:
    """Each difference of an error is reported by its name."""
    outcome = failed()
    change(outcome)
    assert what in {
        line.partition(":")[0] for line in compared(outcome, **EXPECTED_ERROR)
    }


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda outcome: outcome.runs.clear(), "a run"),
        (
            lambda outcome: outcome.runs[0].ClearField("observe_time"),
            "observe_time is set",
        ),
        (lambda outcome: outcome.runs[0].ClearField("status"), "run"),
        (lambda outcome: outcome.statuses.append("FAILED"), "statuses"),
        (lambda outcome: outcome.logged.clear(), "at least 1 calls"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answer_that_differs_is_found(change: Change, what: str) -> None:
    """Each difference of an answer is reported by its name."""
    outcome = answered()
    change(outcome)
    assert what in {
        line.partition(":")[0] for line in compared(outcome, **EXPECTED_RUN)
    }


def test_members_that_differ_are_found() -> None:
    """A listed member must have its value, and one listed as null must be absent."""
    members = {"id": "2", "status": None, "name": None}
    assert [
        line.partition(":")[0] for line in compared(answered(), members=members)
    ] == [
        "id",
        "status",
    ]


@pytest.mark.parametrize(
    ("statuses", "is_right"),
    [
        (["PENDING", "PENDING", "RUNNING", "COMPLETED"], True),
        (["RUNNING", "COMPLETED"], True),
        (["RUNNING", "PENDING", "COMPLETED"], False),
        (["PENDING", "RUNNING"], False),
        (["RUNNING", "FAILED", "COMPLETED"], False),
    ],
)
def test_path_may_lack_statuses_but_the_last(
    statuses: list[str], *, is_right: bool
) -> None:
    """A watch may miss states; it may not repeat one later, or miss the last."""
    outcome = answered()
    outcome.statuses = statuses
    path = ["PENDING", "RUNNING", "COMPLETED"]
    assert (compared(outcome, path=path) == []) is is_right


def test_other_observe_time_is_found() -> None:
    """The answer of a cache has the time of the answer before."""
    first, second = answered(), answered()
    case = Case(
        name="second",
        says="",
        request={},
        expect={"members": {}, "sameObserveTimeAs": "first"},
    )
    outcomes = {"first": first, "second": second}
    assert differences(case, outcomes) == []
    second.runs[0].observe_time.FromSeconds(2)
    assert differences(case, outcomes)


def test_case_without_end_is_found() -> None:
    """A case whose end the client never reported has failed."""
    assert compared(Outcome("go.one")) == [
        "the client never reported the end of this case"
    ]


def test_list_is_well_formed() -> None:
    """Each case has a name of its own and a sentence, and names what exists."""
    cases = cases_for("go")
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    known = {name.removeprefix("ERROR_REASON_") for name, _ in ErrorReason.items()} | {
        ""
    }
    for case in cases:
        assert case.says.endswith(".")
        assert case.expect.get("reason", "") in known
        assert case.expect.get("sameObserveTimeAs", names[0]) in names


def test_list_covers_the_contract() -> None:
    """There is a case for every status, and one that has every member of a run."""
    cases = cases_for("go")
    words = {each for case in cases for each in case.expect.get("statuses", ())}
    statuses = {name.removeprefix("RUN_STATUS_") for name, _ in RunStatus.items()}
    assert statuses - {"UNSPECIFIED"} <= words
    whole = next(case for case in cases if case.name == "every-member").expect["run"]
    members = {each.json_name for each in Run.DESCRIPTOR.fields}
    assert members - {"unmodeledJson", "observeTime"} == whole.keys()


def test_difference_of_a_language_has_its_reason() -> None:
    """Only known clients differ, and each difference says why."""
    for row in json.loads(LIST.read_text())["cases"]:
        for language, differs in row.get("differs", {}).items():
            assert language in LANGUAGES
            assert differs["why"].endswith(".")
            assert differs["expect"]


def test_unknown_expectation_is_refused(tmp_path: Any) -> None:
    """A misspelt expectation isn't ignored."""
    file = tmp_path / "list.json"
    row = {"name": "one", "says": "One.", "request": {}, "expect": {"resaon": ""}}
    file.write_text(json.dumps({"cases": [row]}))
    with pytest.raises(ValueError, match="resaon"):
        cases_for("go", file)


@pytest.mark.parametrize("seconds", [0.0, 0.04, 60.1])
def test_wait_of_a_retry_has_bounds(seconds: float) -> None:
    """A wait that no gateway asks for is a difference."""
    outcome = failed()
    outcome.end["error"]["retrySeconds"] = seconds
    found = compared(outcome, **EXPECTED_ERROR | {"retry": True})
    assert [line.partition(":")[0] for line in found] == ["a wait of 50 ms to a minute"]


def test_error_without_reason_has_no_details() -> None:
    """An error that no gateway sent has no fields, no wait and no request id."""
    outcome = failed()
    outcome.end["error"]["reason"] = ""
    found = compared(outcome, code="NOT_FOUND", reason="")
    assert [line.partition(":")[0] for line in found] == ["no details"]


def test_call_without_a_code_is_as_listed() -> None:
    """A library that reports no code for a call that its caller ended has no error."""
    outcome = Outcome("go.one", end={"code": None, "error": None})
    assert compared(outcome, code=None) == []
    assert compared(outcome, code="CANCELLED")


@pytest.mark.parametrize(
    "change",
    [{"error": {}}, {"code": 5}, {"error": {**ERROR, "retrySeconds": "1"}}],
    ids=["empty-error", "number-as-code", "text-as-wait"],
)
def test_malformed_report_is_refused(change: dict[str, Any]) -> None:
    """An end of a case must have all its members, of the right types."""
    event = {"code": "NOT_FOUND", "error": ERROR, "trailers": {}}
    assert ended(event) == event
    with pytest.raises(ValueError, match="malformed"):
        ended(event | change)
