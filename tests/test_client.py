"""One call of the command line, through grpcio-testing's channel."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from healthomics.v1 import run_service_pb2
from healthomics.v1.run_pb2 import Run, RunExport, RunStatus
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics_gateway.client import Output, get

SERVICE = run_service_pb2.DESCRIPTOR.services_by_name["RunService"]
NOW = datetime(2025, 11, 18, 10, 0, tzinfo=UTC)
TRAILERS = (("x-request-id", "call-7"), ("x-amzn-requestid", "aws-7"))


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one call."""

    code: int
    answers: str
    failures: str
    request: GetRunRequest


def call(
    *,
    answer: Run | None = None,
    code: grpc.StatusCode = grpc.StatusCode.OK,
    message: str = "",
    trailers: Sequence[tuple[str, str | bytes]] = TRAILERS,
    as_json: bool = False,
    run_id: str = "7",
    **ask: Any,
) -> Done:
    """Make one call, end it as told, and give what it wrote."""
    channel = grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())
    answers, failures = io.StringIO(), io.StringIO()
    output = Output(answers, failures, as_json=as_json, now=lambda: NOW)
    with ThreadPoolExecutor(1) as pool:
        exit_code = pool.submit(
            get, channel, run_id, output, timeout=timedelta(seconds=5), **ask
        )
        _, request, rpc = channel.take_unary_unary(SERVICE.methods_by_name["GetRun"])
        rpc.terminate(answer, trailers, code, message)
        return Done(
            exit_code.result(),
            answers.getvalue(),
            failures.getvalue(),
            request,
        )


def refused(
    code: grpc.StatusCode, reason: str, message: str, *details: Message
) -> Done:
    """Make one call that the gateway refuses with rich details."""
    status = Status(code=code.value[0], message=message)
    info = ErrorInfo(reason=reason, domain="healthomics-gateway")
    for each in (info, RequestInfo(request_id="call-7"), *details):
        status.details.add().Pack(each)
    rich = ("grpc-status-details-bin", status.SerializeToString())
    return call(code=code, message=message, trailers=(*TRAILERS, rich))


def running(**more: Any) -> Run:
    """Give a run that has been running for an hour."""
    run = Run(id="7", status=RunStatus.RUN_STATUS_RUNNING, **more)
    run.start_time.FromJsonString("2025-11-18T09:00:00Z")
    return run


def test_request_is_what_was_asked_for() -> None:
    """Id, exports and staleness reach the gateway as they were given."""
    done = call(
        answer=running(), export=["DEFINITION"], max_staleness=timedelta(seconds=1.5)
    )

    assert (
        GetRunRequest(
            id="7",
            export=[RunExport.RUN_EXPORT_DEFINITION],
            max_staleness=Duration(seconds=1, nanos=500_000_000),
        )
        == done.request
    )


def test_request_leaves_unset_what_was_not_asked_for() -> None:
    """Without options the gateway's own defaults decide; a staleness of 0 is one."""
    assert GetRunRequest(id="7") == call(answer=running()).request
    asked = call(answer=running(), max_staleness=timedelta(0)).request

    assert asked.HasField("max_staleness")


def test_answer_is_written_for_a_person() -> None:
    """The run as text goes to one stream, nothing to the other, and the code is 0."""
    done = call(answer=running(name="exome", run_output_uri="s3://bucket/" + "x" * 200))

    assert (0, "") == (done.code, done.failures)
    assert [
        "Run 7  RUNNING",
        "  name        exome",
        "  ran         1h 0m so far",
        f"  outputs     s3://bucket/{'x' * 200}",
    ] == done.answers.splitlines()


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/]", ":smile:", "[link=x]"])
def test_answer_is_written_as_it_is(name: str) -> None:
    """What looks like markup in a run's text is text."""
    assert f"  name        {name}\n" in call(answer=running(name=name)).answers


def test_answer_is_written_as_one_object_on_one_line() -> None:
    """With JSON asked for, the run is one line with AWS's names of its members."""
    run = running(name="Zoë\n", tags={"a": "b"}, storage_capacity=1200)
    run.unmodeled_json["queuePosition"] = "7"
    done = call(answer=run, as_json=True)

    assert (0, "", 1) == (done.code, done.failures, done.answers.count("\n"))
    assert {
        "id": "7",
        "status": "RUN_STATUS_RUNNING",
        "startTime": "2025-11-18T09:00:00Z",
        "name": "Zoë\n",
        "tags": {"a": "b"},
        "storageCapacity": 1200,
        "unmodeledJson": {"queuePosition": "7"},
    } == json.loads(done.answers)
    assert run == json_format.Parse(done.answers, Run())


def test_failure_tells_status_reason_message_and_request_id() -> None:
    """A refusal goes to the stream of failures alone, and the code is 1."""
    done = refused(
        grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND", "There is no run of this id."
    )

    assert (1, "") == (done.code, done.answers)
    assert [
        "NOT_FOUND RUN_NOT_FOUND There is no run of this id.",
        "  request id: call-7",
    ] == done.failures.splitlines()


def test_failure_names_each_fault_of_the_request() -> None:
    """Each field violation has a line of its own."""
    bad = BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field="id", description="Digits are needed."),
            BadRequest.FieldViolation(field="export[0]", description="Not this one."),
        ]
    )
    done = refused(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "It is bad.", bad
    )

    assert [
        "INVALID_ARGUMENT INVALID_REQUEST It is bad.",
        "  id: Digits are needed.",
        "  export[0]: Not this one.",
        "  request id: call-7",
    ] == done.failures.splitlines()


def test_failure_that_passes_tells_when_to_try_again() -> None:
    """A refusal with a delay says how long it is."""
    retry = RetryInfo(retry_delay=Duration(seconds=1, nanos=250_000_000))
    done = refused(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_THROTTLED", "Used up.", retry
    )

    assert "  it may succeed in 1250ms" in done.failures.splitlines()


def test_failure_without_an_answer_points_at_the_address() -> None:
    """Where no gateway answered, the person is told which option names another."""
    done = call(
        code=grpc.StatusCode.UNAVAILABLE, message="failed to connect", trailers=()
    )

    assert (1, "") == (done.code, done.answers)
    assert [
        "UNAVAILABLE failed to connect",
        "  no gateway answered; --address tells where one listens",
    ] == done.failures.splitlines()


def test_failure_in_time_points_at_the_timeout() -> None:
    """Where the time was up, the person is told which option gives more."""
    done = call(code=grpc.StatusCode.DEADLINE_EXCEEDED, trailers=())

    assert [
        "DEADLINE_EXCEEDED",
        "  no answer came in time; --timeout gives it longer",
    ] == done.failures.splitlines()


@pytest.mark.parametrize(
    "rich",
    [
        pytest.param(b"\xff\xff\xff", id="no-status"),
        pytest.param(Status(code=13).SerializeToString(), id="another-code"),
        pytest.param(
            Status(code=5, message="Something else.").SerializeToString(),
            id="another-message",
        ),
    ],
)
def test_failure_with_details_that_do_not_fit_is_told_without_them(rich: bytes) -> None:
    """What isn't a gateway's status, as a proxy may send it, is no crash."""
    done = call(
        code=grpc.StatusCode.NOT_FOUND,
        message="It is gone.",
        trailers=[("grpc-status-details-bin", rich)],
    )

    assert (1, "NOT_FOUND It is gone.") == (done.code, done.failures.splitlines()[0])


def test_failure_keeps_control_characters_from_a_terminal() -> None:
    """Whoever answers can't send the terminal an order."""
    violation = BadRequest.FieldViolation(field="id\x1b[2J", description="no\r\nno")
    done = refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        "red \x1b[31m",
        BadRequest(field_violations=[violation]),
    )

    assert [
        "INVALID_ARGUMENT INVALID_REQUEST red  [31m",
        "  id [2J: no  no",
        "  request id: call-7",
    ] == done.failures.splitlines()
