"""The table of errors, and the status of each reason."""

import itertools
from typing import Any

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics.v1.error_reason_pb2 import ErrorReason
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Advice, Reason
from healthomics_gateway.errors.status import status_of

REASONS = [pytest.param(reason, id=reason.name) for reason in Reason]
EXTRAS = {  # the details of a reason, beside those that every reason has
    Reason.INVALID_REQUEST: {"BadRequest"},
    Reason.UPSTREAM_VALIDATION: {"BadRequest"},
    Reason.UPSTREAM_QUOTA_EXCEEDED: {"QuotaFailure"},
    Reason.UPSTREAM_THROTTLED: {"QuotaFailure"},
    Reason.CALLER_RATE_LIMITED: {"QuotaFailure"},
    Reason.RUN_NOT_FOUND: {"ResourceInfo"},
    Reason.RUN_REPLACED: {"ResourceInfo"},
    Reason.RUN_CONFLICT: {"PreconditionFailure"},
}
METADATA_KEYS = (
    "attempts",
    "awsErrorCode",
    "awsRequestId",
    "httpStatus",
    "region",
    "runId",
)

anything = st.text(st.characters(exclude_categories=()), max_size=60)
huge = st.builds(lambda text: text * 2000, anything)
reasons = st.sampled_from(list(Reason))
metadata = st.dictionaries(st.sampled_from(METADATA_KEYS), anything | huge)
ids = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
violations = st.lists(
    st.builds(
        BadRequest.FieldViolation,
        field=st.text(max_size=40),
        description=st.text(max_size=200),
    ),
    max_size=8,
).map(lambda few: tuple(few * 40))


def details_of(status: Status) -> list[Message]:
    """Return the details of a status, unpacked."""
    details = []
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        detail = getattr(error_details_pb2, name)()
        assert packed.Unpack(detail)
        details.append(detail)
    return details


def details_by_name(
    reason: Reason, *, is_debugging: bool = False, **more: Any
) -> dict[str, Any]:
    """Return the details of a reason's status by their names."""
    status = status_of(
        GatewayError(reason, **more),
        metadata={"runId": "1234567"},
        request_id="r-1",
        debug=is_debugging,
    )
    return {type(each).__name__: each for each in details_of(status)}


def texts_of(message: Message) -> list[str]:
    """Return every text in a message, nested ones included."""
    texts = []
    for field, value in message.ListFields():
        is_map = field.message_type and field.message_type.GetOptions().map_entry
        if is_map:
            texts += [*value.keys(), *value.values()]
        elif field.type == field.TYPE_MESSAGE:
            inner = value if field.is_repeated else [value]
            texts += itertools.chain.from_iterable(map(texts_of, inner))
        elif field.type == field.TYPE_STRING:
            texts += value if field.is_repeated else [value]
    return texts


def test_reasons_are_those_of_the_contract() -> None:
    """The reasons are the values of `ErrorReason`, without the prefix."""
    prefix = "ERROR_REASON_"
    named = {name.removeprefix(prefix) for name in ErrorReason.keys()}  # noqa: SIM118  # an enum's wrapper, not a dict

    assert named - {"UNSPECIFIED"} == {reason.name for reason in Reason}


@pytest.mark.parametrize("reason", REASONS)
def test_code_matches_the_advice(reason: Reason) -> None:
    """A retryable error is UNAVAILABLE, or RESOURCE_EXHAUSTED after a wait."""
    advice = {
        code_pb2.UNAVAILABLE: {Advice.RETRY},
        code_pb2.RESOURCE_EXHAUSTED: {Advice.WAIT, Advice.STOP},
    }

    assert reason.value.advice in advice.get(reason.value.code, {Advice.STOP})


@pytest.mark.parametrize("reason", REASONS)
def test_message_is_one_plain_sentence(reason: Reason) -> None:
    """A message is short, printable, ends with a full stop and is unique."""
    message = reason.value.message

    assert message.isascii()
    assert message.isprintable()
    assert len(message) <= 100
    assert message.endswith(".")
    assert [reason] == [each for each in Reason if each.value.message == message]


@pytest.mark.parametrize("reason", REASONS)
def test_status_has_the_details_of_its_reason_and_no_others(reason: Reason) -> None:
    """The details are ErrorInfo, RequestInfo, RetryInfo if retryable, and the row's."""
    expected = {"ErrorInfo", "RequestInfo"} | EXTRAS.get(reason, set())
    if reason.value.advice is not Advice.STOP:
        expected |= {"RetryInfo"}

    assert expected == details_by_name(reason).keys()


@pytest.mark.parametrize("reason", REASONS)
def test_status_has_reason_domain_and_request_id(reason: Reason) -> None:
    """A status has the code, message and reason of its row, the domain and both ids."""
    details = details_by_name(reason)
    info = details["ErrorInfo"]
    status = status_of(GatewayError(reason), metadata={}, request_id="r-1")

    assert (reason.value.code, reason.value.message) == (status.code, status.message)
    assert (reason.name, "healthomics-gateway") == (info.reason, info.domain)
    assert {"runId": "1234567"} == dict(info.metadata)
    assert "r-1" == details["RequestInfo"].request_id


def test_run_not_found_names_the_run() -> None:
    """RUN_NOT_FOUND names the run as a resource."""
    resource = details_by_name(Reason.RUN_NOT_FOUND)["ResourceInfo"]

    assert ("omics.run", "1234567") == (resource.resource_type, resource.resource_name)


def test_run_conflict_names_the_run_and_its_state() -> None:
    """RUN_CONFLICT names the run whose state is the cause."""
    (violation,) = details_by_name(Reason.RUN_CONFLICT)[
        "PreconditionFailure"
    ].violations

    assert ("RUN_STATE", "1234567") == (violation.type, violation.subject)


@pytest.mark.parametrize(
    ("reason", "subject"),
    [
        pytest.param(Reason.UPSTREAM_THROTTLED, "omics:GetRun", id="throttled"),
        pytest.param(Reason.UPSTREAM_QUOTA_EXCEEDED, "omics", id="quota"),
    ],
)
def test_limit_names_the_quota(reason: Reason, subject: str) -> None:
    """An error about a limit of AWS names the quota."""
    (violation,) = details_by_name(reason)["QuotaFailure"].violations

    assert subject == violation.subject


def test_upstream_validation_names_the_id() -> None:
    """UPSTREAM_VALIDATION names the id, the field that HealthOmics may reject."""
    (violation,) = details_by_name(Reason.UPSTREAM_VALIDATION)[
        "BadRequest"
    ].field_violations

    assert "id" == violation.field


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        pytest.param(0.0, 50, id="none"),
        pytest.param(0.0496, 50, id="shorter-than-the-shortest"),
        pytest.param(1.2344, 1234, id="between"),
        pytest.param(60.0, 60_000, id="the-longest"),
        pytest.param(3600.0, 60_000, id="longer-than-the-longest"),
    ],
)
def test_pushback_is_retry_info_never_or_absent(
    reason: Reason, seconds: float, milliseconds: int
) -> None:
    """It is RetryInfo's delay, -1 for no retry, and absent if callers must wait."""
    error = GatewayError(reason, retry_delay_seconds=seconds)
    status = status_of(error, metadata={}, request_id="r-1")
    delays = [
        each.retry_delay.ToMilliseconds()
        for each in details_of(status)
        if isinstance(each, error_details_pb2.RetryInfo)
    ]

    expected = {
        Advice.STOP: (-1, []),
        Advice.RETRY: (milliseconds, [milliseconds]),
        Advice.WAIT: (None, [milliseconds]),
    }
    assert expected[reason.value.advice] == (error.pushback_ms, delays)


@pytest.mark.parametrize("reason", REASONS)
def test_aws_message_is_a_detail_only_with_debug(reason: Reason) -> None:
    """AWS's message is in DebugInfo with `debug`, and absent without it."""
    words = "arn:aws:iam::123456789012:role/secret"
    let_out = details_by_name(reason, is_debugging=True, debug=words)

    assert words == let_out.pop("DebugInfo").detail
    assert let_out == details_by_name(reason, is_debugging=False, debug=words)


def test_no_debug_info_without_an_aws_message() -> None:
    """There is no DebugInfo if AWS sent no message."""
    assert "DebugInfo" not in details_by_name(
        Reason.UPSTREAM_INTERNAL, is_debugging=True
    )


def test_debug_text_is_cleaned_and_cut_to_1_kib() -> None:
    """At most 1024 printable characters of AWS's message are returned."""
    words = "\x1b[31mred\r\n\ud800" + "x" * 2000
    detail = details_by_name(Reason.UPSTREAM_INTERNAL, is_debugging=True, debug=words)[
        "DebugInfo"
    ]

    assert " [31mred " + "x" * 1015 == detail.detail


@pytest.mark.guarantee("no-secrets")
def test_debug_text_is_left_out_by_default() -> None:
    """Only an explicit `debug` adds AWS's message."""
    error = GatewayError(Reason.UPSTREAM_INTERNAL, debug="words")
    status = status_of(error, metadata={}, request_id="r-1")

    assert b"words" not in status.SerializeToString()


@pytest.mark.guarantee("no-secrets")
def test_metadata_is_cleaned_and_cut() -> None:
    """At most 256 printable characters of a metadata value are returned."""
    status = status_of(
        GatewayError(Reason.UPSTREAM_INTERNAL),
        metadata={"region": "us\x00\r\neast\ud800" + "x" * 300},
        request_id="r-1",
    )
    info = details_of(status)[0]

    assert {"region": "us east " + "x" * 248} == dict(info.metadata)


def test_status_has_every_violation_that_fits() -> None:
    """Each fault of a request is named, in order."""
    faults = tuple(
        BadRequest.FieldViolation(field=f"f{at}", description="It is bad.")
        for at in range(20)
    )
    bad = details_by_name(Reason.INVALID_REQUEST, violations=faults)["BadRequest"]

    assert list(faults) == list(bad.field_violations)


@pytest.mark.parametrize("characters", [1, 10, 100, 1000])
def test_status_names_as_many_violations_as_fit(characters: int) -> None:
    """Of too many faults the first ones are named, up to 4 KiB."""
    fault = BadRequest.FieldViolation(field="export", description="x" * characters)
    error = GatewayError(Reason.INVALID_REQUEST, violations=(fault,) * 4000)
    status = status_of(error, metadata={"runId": "1" * 18}, request_id="r" * 64)
    size = status.ByteSize() + len(status.message)

    assert size <= 4096
    assert size + fault.ByteSize() + 40 > 4096


@pytest.mark.guarantee("error-size")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    reason=reasons,
    metadata=metadata,
    violations=violations,
    words=anything | huge,
    request_id=ids,
    is_debugging=st.booleans(),
)
def test_any_status_is_short_and_printable(
    *,
    reason: Reason,
    metadata: dict[str, str],
    violations: tuple[BadRequest.FieldViolation, ...],
    words: str,
    request_id: str,
    is_debugging: bool,
) -> None:
    """Any status has each detail once, is printable, and fits in 4 KiB."""
    error = GatewayError(reason, violations=violations, debug=words)
    status = status_of(
        error, metadata=metadata, request_id=request_id, debug=is_debugging
    )
    details = details_of(Status.FromString(status.SerializeToString()))
    names = [type(each).__name__ for each in details]
    own = [each for each in details if not isinstance(each, BadRequest)]
    texts = [status.message, *itertools.chain.from_iterable(map(texts_of, own))]

    assert sorted(set(names)) == sorted(names)
    assert status.ByteSize() + len(status.message) <= 4096
    assert all(text.isascii() and text.isprintable() for text in texts)
    assert metadata.keys() == details[0].metadata.keys()


def test_text_of_an_error_is_its_reason() -> None:
    """The text of an error, as in a log line, is its reason."""
    assert "RUN_NOT_FOUND" == str(GatewayError(Reason.RUN_NOT_FOUND))
