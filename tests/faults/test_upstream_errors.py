"""AWS's errors in unusual places, the details of errors, and retries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from google.protobuf.message import Message

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.sandbox import REGION
from testkit.builders import ALWAYS, Refusal, http
from testkit.lying_upstream import CANARY, said, true_run

ID = "2000006"
TWICE, THRICE = 2, 3
UNRECOGNIZED, UNAVAILABLE = Reason.UPSTREAM_UNRECOGNIZED, Reason.UPSTREAM_UNAVAILABLE
THROTTLED_BASE_SECONDS = 1.0
SLACK_SECONDS = 0.5  # this machine may be busy


def shared_parts(refusal: Refusal) -> tuple[Any, ...]:
    """Return what two answers to the same error have in common."""
    details = {
        name: detail.SerializeToString(deterministic=True)
        for name, detail in refusal.details.items()
        if name not in {"RequestInfo", "RetryInfo"}  # a request ID, and a random wait
    }
    return refusal.code, refusal.message, sorted(refusal.details), details


def asked_at(rig: Any) -> list[float]:
    """Return the times of the requests about the test's run."""
    return [each.at for each in rig.upstream.requests if each.run_id == ID]


def violations_of(details: Mapping[str, Message]) -> dict[str, list[dict[str, str]]]:
    """Return the violations of each detail, without their descriptions."""
    return {
        name: [
            {
                of.name: text
                for of, text in each.ListFields()
                if of.name != "description"
            }
            for each in value
        ]
        for name, detail in details.items()
        for field, value in detail.ListFields()
        if field.name.endswith("violations")
    }


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    ("code", "reason", "violations"),
    [
        pytest.param(
            "ValidationException",
            Reason.UPSTREAM_VALIDATION,
            {"BadRequest": [{"field": "id"}]},
            id="validation",
        ),
        pytest.param(
            "ServiceQuotaExceededException",
            Reason.UPSTREAM_QUOTA_EXCEEDED,
            {"QuotaFailure": [{"subject": "omics"}]},
            id="quota",
        ),
        pytest.param(
            "ConflictException",
            Reason.RUN_CONFLICT,
            {"PreconditionFailure": [{"type": "RUN_STATE", "subject": ID}]},
            id="conflict",
        ),
        pytest.param(
            "ThrottlingException",
            Reason.UPSTREAM_THROTTLED,
            {"QuotaFailure": [{"subject": "omics:GetRun"}]},
            id="throttle",
        ),
        pytest.param(
            "IncompleteSignatureException",
            Reason.GATEWAY_SIGNATURE_REJECTED,
            {},
            id="signature",
        ),
    ],
)
async def test_violations_name_the_subject(
    rigged: Any, code: str, reason: Reason, violations: dict[str, Any]
) -> None:
    """The violations of an error name its subject, and no other detail has any."""
    async with rigged(GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as rig:
        rig.upstream.lie(ID, said(400, code))
        refusal = await rig.refusal(ID, reason)
        assert 1 == rig.upstream.asked[ID]

    assert violations == violations_of(refusal.details)
    assert reason.value.message == refusal.message


@pytest.mark.fault(1)
async def test_lasting_throttle_is_retried_twice(rigged: Any) -> None:
    """A throttle without a wait is retried after at most 1 and 2 s."""
    async with rigged() as rig:
        rig.upstream.lie(ID, said(429, "ThrottlingException"))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_THROTTLED)
        assert THRICE == rig.upstream.asked[ID]
        first, second, third = asked_at(rig)

    assert "3" == refusal.metadata["attempts"]
    assert {*ALWAYS, "QuotaFailure", "RetryInfo"} == set(refusal.details)
    assert second - first <= THROTTLED_BASE_SECONDS + SLACK_SECONDS
    assert third - second <= 2 * THROTTLED_BASE_SECONDS + SLACK_SECONDS


def spellings(code: str, status: int) -> Iterator[bytes]:
    """Yield one error with its code in each place and spelling."""
    for text in (code, f"com.amazonaws.omics#{code}", f"{code}:http://{CANARY}/"):
        for header in ("x-amzn-errortype", "X-Amzn-ErrorType", "X-AMZN-ERRORTYPE"):
            yield http("{}", status=status, **{header: text})
        for members in ({"__type": text}, {"code": text}, {"code": 5, "__type": text}):
            yield http(json.dumps(members), status=status)


@pytest.mark.guarantee("upstream-responses")
@pytest.mark.fault(2)
@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        pytest.param(400, "ValidationException", Reason.UPSTREAM_VALIDATION, id="400"),
        pytest.param(403, "AccessDenied", Reason.UPSTREAM_ACCESS_DENIED, id="403"),
        pytest.param(409, "ConflictException", Reason.RUN_CONFLICT, id="409"),
        pytest.param(429, "Throttling", Reason.UPSTREAM_THROTTLED, id="429"),
        pytest.param(500, "InternalFailure", Reason.UPSTREAM_INTERNAL, id="500"),
        pytest.param(418, "NewException", UNRECOGNIZED, id="unknown"),
    ],
)
async def test_error_is_the_same_for_every_spelling(
    rigged: Any, status: int, code: str, reason: Reason
) -> None:
    """Code, message, details and metadata are the same wherever the code is."""
    answers = list(spellings(code, status))
    async with rigged(GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as rig:
        rig.upstream.lie(ID, *answers)
        refusals = [await rig.refusal(ID, reason) for _ in answers]
        assert len(answers) == rig.upstream.asked[ID]

    assert {
        "runId": ID,
        "region": REGION,
        "attempts": "1",
        "awsErrorCode": code,
        "httpStatus": str(status),
        "awsRequestId": "",
    } == refusals[0].metadata
    assert [shared_parts(refusals[0])] * len(answers) == [
        shared_parts(each) for each in refusals
    ]


@pytest.mark.fault(2)
async def test_error_code_in_a_success_is_an_error(rigged: Any) -> None:
    """A 200 with a code in its header or `__type` is that error; `code` is a member."""
    run = json.loads(true_run(ID))
    async with rigged() as rig:
        rig.upstream.lie(
            ID,
            http(true_run(ID), x_amzn_errortype="ConflictException"),
            http(json.dumps(run | {"__type": "ns#ConflictException:http://a"})),
            http(json.dumps(run | {"code": "ConflictException"})),
        )
        for _ in range(TWICE):
            refusal = await rig.refusal(ID, Reason.RUN_CONFLICT)
            assert "200" == refusal.metadata["httpStatus"]
        answer = await rig.run(ID)
        assert THRICE == rig.upstream.asked[ID]

    assert '"ConflictException"' == answer.unmodeled_json["code"]


@pytest.mark.fault(4)
async def test_failure_is_retried_no_sooner_than_aws_asks(rigged: Any) -> None:
    """A 500 with a wait is retried no sooner, each time."""
    failing = said(500, "InternalServerException", x_amz_retry_after="400")
    async with rigged() as rig:
        rig.upstream.lie(ID, failing, failing, http(true_run(ID)))
        await rig.run(ID)
        first, second, third = asked_at(rig)

    assert min(second - first, third - second) >= 0.4  # what AWS asks for


ODD_BODIES = (
    '{"__type":["ResourceNotFoundException"]}',
    '{"__type":{"code":"ResourceNotFoundException"}}',
    '{"__type":"ResourceNotFoundException","__type":true}',
    '\ufeff{"__type":"ResourceNotFoundException"}',
    '{"__Type":"ResourceNotFoundException","Code":"ResourceNotFoundException"}',
    '{"__type":"ResourceNotFoundException"}{}',
    "{" + '"a":{' * 10_000,
    " \r\n\t",
)


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("status", "reason", "calls", "bodies"),
    [
        pytest.param(400, UNRECOGNIZED, TWICE, ODD_BODIES, id="400"),
        pytest.param(403, UNRECOGNIZED, TWICE, ODD_BODIES, id="403"),
        pytest.param(404, UNRECOGNIZED, TWICE, ODD_BODIES, id="404"),
        pytest.param(500, UNAVAILABLE, THRICE, ODD_BODIES[:4], id="500-a"),
        pytest.param(500, UNAVAILABLE, THRICE, ODD_BODIES[4:], id="500-b"),
    ],
)
async def test_code_in_another_place_is_ignored(
    rigged: Any, status: int, reason: Reason, calls: int, bodies: tuple[str, ...]
) -> None:
    """A body that only looks as if it had a code is classified by its status."""
    async with rigged() as rig:
        for body in bodies:
            rig.upstream.lie(ID, http(body, status=status))
            refusal = await rig.refusal(ID, reason)
            assert calls == rig.upstream.asked[ID], body
            assert "" == refusal.metadata["awsErrorCode"], body


@pytest.mark.fault(9)
async def test_retry_budget_recovers_after_an_outage(rigged: Any) -> None:
    """Five successful calls after an outage earn one retry."""
    other = "2000016"
    failing = said(500, "InternalServerException")
    async with rigged(is_truth_served=False) as rig:
        rig.upstream.lie(ID, failing)
        for _ in range(12):
            await rig.refusal(ID, Reason.UPSTREAM_INTERNAL)
        for _ in range(5):
            await rig.run(other)
        rig.upstream.lie(ID, failing, http(true_run(ID)))
        await rig.run(ID)
        assert TWICE == rig.upstream.asked[ID]
        rig.upstream.lie(ID, failing, http(true_run(ID)))
        await rig.refusal(ID, Reason.UPSTREAM_INTERNAL)
        assert 1 == rig.upstream.asked[ID]
