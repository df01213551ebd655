"""The list of clients/conformance.json, and the comparison of outcomes with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from conformance.cases import LIST, Case, Outcome, cases_for, differences
from conformance.languages import clients
from healthomics.v1.error_reason_pb2 import ErrorReason
from healthomics.v1.run_pb2 import RUN_STATUS_RUNNING, Run

LANGUAGES = [client.language for client in clients()]
ERROR = {
    "message": "There is no run with this id.",
    "reason": "RUN_NOT_FOUND",
    "domain": "healthomics-gateway",
    "metadata": {"runId": "1"},
    "retrySeconds": None,
    "fields": {},
    "requestId": "go.one",
}
EXPECTED_ERROR = {
    "code": "NOT_FOUND",
    "reason": "RUN_NOT_FOUND",
    "retry": False,
    "metadata": {"runId": "1"},
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
    trailers = {"x-request-id": ["go.one"], "x-amzn-requestid": []}
    return Outcome(
        end={"code": "NOT_FOUND", "error": dict(ERROR), "trailers": trailers},
        logged=[{"code": "NOT_FOUND"}],
    )


def answered() -> Outcome:
    """Return the outcome of a call that was answered as EXPECTED_RUN says."""
    run = Run(id="1", status=RUN_STATUS_RUNNING)
    run.observe_time.FromSeconds(1)
    return Outcome(
        runs=[run],
        statuses=["RUNNING"],
        end={"code": "OK", "error": None},
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


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda outcome: outcome.end.update(code="INTERNAL"), "code"),
        (lambda outcome: outcome.end.update(error=None), "an error"),
        (of_error("reason", "RUN_CONFLICT"), "reason"),
        (of_error("domain", "other"), "domain"),
        (of_error("message", ""), "the message is empty"),
        (of_error("requestId", ""), "the request id is empty"),
        (of_error("requestId", "other"), "x-request-id"),
        (of_error("retrySeconds", 1.0), "RetryInfo"),
        (of_error("fields", {"id": "Wrong."}), "fields"),
        (of_error("metadata", {}), "metadata runId"),
        (lambda outcome: outcome.logged.append({"code": "NOT_FOUND"}), "calls"),
        (lambda outcome: outcome.logged[0].update(code="OK"), "codes in the log"),
        (lambda outcome: outcome.runs.append(Run(id="1")), "observe_time is set"),
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
        name="second", says="", request={}, expect={"sameObserveTimeAs": "first"}
    )
    outcomes = {"first": first, "second": second}
    assert differences(case, outcomes) == []
    second.runs[0].observe_time.FromSeconds(2)
    assert differences(case, outcomes)


def test_case_without_end_is_found() -> None:
    """A case whose end the client never reported has failed."""
    assert compared(Outcome()) == ["the client never reported the end of this case"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_list_is_well_formed(language: str) -> None:
    """Names are unique, each case has a sentence, and reasons are of the contract."""
    cases = cases_for(language)
    assert len(cases) >= 28
    assert len({case.name for case in cases}) == len(cases)
    prefix = "ERROR_REASON_"
    names = ErrorReason.DESCRIPTOR.values_by_name
    reasons = {name.removeprefix(prefix) for name in names} | {""}
    for case in cases:
        assert case.says.endswith(".")
        assert case.expect.get("reason", "") in reasons


def test_difference_of_a_language_has_its_reason() -> None:
    """Only known clients differ, and each difference says why."""
    for row in json.loads(LIST.read_text())["cases"]:
        for language, differs in row.get("differs", {}).items():
            assert language in LANGUAGES
            assert differs["why"].endswith(".")


def test_unknown_expectation_is_refused(tmp_path: Any) -> None:
    """A misspelt expectation isn't ignored."""
    file = tmp_path / "list.json"
    row = {"name": "one", "says": "One.", "request": {}, "expect": {"resaon": ""}}
    file.write_text(json.dumps({"cases": [row]}))
    with pytest.raises(ValueError, match="resaon"):
        cases_for("go", file)
