"""RunService over real sockets, with a source that each test scripts."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import BadRequest
from structlog.testing import capture_logs

from healthomics.v1.run_pb2 import Run, RunExport, RunStatus
from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub
from healthomics_gateway.auth.policy import ALL_METHODS, UNRULED, Access, Rule
from healthomics_gateway.context import set_current_call
from healthomics_gateway.errors.exceptions import AwsAnswer, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.field_mask import PATHS
from healthomics_gateway.runs.source import Answer, Call, RunQuery, UpstreamInfo
from healthomics_gateway.runs.watch import Watches
from healthomics_gateway.services.limits import Limits
from healthomics_gateway.services.run_service import RunService
from testkit.builders import Refusal, get_run, refused
from testkit.serving import (
    AWS_REQUEST_ID,
    GET_RUN,
    Hanging,
    Scripted,
    answer,
    call_context,
    failure,
    serving,
)
from testkit.virtual_time import virtually

RUN_ID = "1234567"
DEFINITION = RunExport.RUN_EXPORT_DEFINITION
# May see the runs of one group only.
BOUND = Access("lims", Rule("lims", ALL_METHODS, run_groups=frozenset({"1"})))
MAX_SECONDS = 315_576_000_000  # of a Duration
LIMIT = 4 * 1024 * 1024  # bytes of an answer that stock clients receive


class Context:
    """A call's context that says how much time is left."""

    def __init__(self, seconds: float | None) -> None:
        """Leave so many seconds, `None` for a call without a deadline."""
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        """Return the seconds that are left."""
        return self._seconds

    def peer(self) -> str:
        """Return the peer's name."""
        return "ipv4:127.0.0.1:40000"

    def set_trailing_metadata(self, _trailers: object) -> None:
        """Ignore the trailers."""


def under_way(seconds: float | None, access: Access) -> Any:
    """Make a call the current one, and return its context."""
    call = call_context(rpc=Context(seconds), access=access)
    set_current_call(call)
    return call


def service_of(
    source: Scripted, *, clock: Callable[[], float] = time.monotonic, **limits: Any
) -> RunService:
    """Return a service that asks `source`."""
    return RunService(
        source,
        watches=Watches(source, polls=source, interval_seconds=1.0),
        limits=Limits(**{"default_deadline_seconds": 30.0, **limits}),
        clock=clock,
    )


async def ask(
    source: Scripted,
    request: GetRunRequest,
    *,
    seconds: float | None,
    access: Access = UNRULED,
    **more: Any,
) -> Run:
    """Call the service without a server, with so much time left."""
    service = service_of(source, **more)
    return await service.GetRun(request, under_way(seconds, access))


def watched(
    source: Scripted,
    *,
    seconds: float | None,
    beat: Duration | None = None,
    access: Access = UNRULED,
    **more: Any,
) -> AsyncIterator[Any]:
    """Watch a run without a server, with so much time left."""
    service = service_of(source, **more)
    request = WatchRunRequest(id=RUN_ID, heartbeat_interval=beat)
    return service.WatchRun(request, under_way(seconds, access))


async def send(source: Scripted, request: GetRunRequest, **more: Any) -> Run:
    """Call the service on its own server."""
    async with serving(source, **more) as channel:
        run: Run = await RunServiceStub(channel).GetRun(request, timeout=10)
        return run


async def test_members_withheld_meanwhile_are_not_in_the_answer() -> None:
    """What is withheld when HealthOmics answers counts, not when the call began."""

    class Reloading(Scripted):
        async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
            service.withhold(frozenset({"name"}))
            return await super().get_run(query, call=call)

    service = service_of(Reloading(answer(name="secret", arn="arn")))
    run = await service.GetRun(GetRunRequest(id=RUN_ID), under_way(None, UNRULED))

    assert ("", "arn") == (run.name, run.arn)


async def refusal(source: Scripted, request: GetRunRequest, **more: Any) -> Refusal:
    """Call the service on its own server, and return its error."""
    return await refused(send(source, request, **more))


async def faults(request: GetRunRequest) -> list[str]:
    """Return the fields that a request is refused for, without asking the source."""
    source = Scripted(answer())
    error = await refusal(source, request)

    assert (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST") == (
        error.code,
        error.reason,
    )
    assert [] == source.asked
    return [each.field for each in violations(error)]


def violations(error: Refusal) -> list[BadRequest.FieldViolation]:
    """Return the violations of a refused request."""
    return list(cast("BadRequest", error.details["BadRequest"]).field_violations)


async def test_service_returns_the_run_of_its_source() -> None:
    """A caller receives the run as its source has it."""
    source = Scripted(answer(RUN_ID, name="mine", priority=0))
    run = await send(source, GetRunRequest(id=RUN_ID))

    assert Run(id=RUN_ID, name="mine", priority=0) == run
    assert [RunQuery(RUN_ID)] == source.asked


@pytest.mark.guarantee("request-ids")
@pytest.mark.parametrize(
    ("request_id", "expected"),
    [
        pytest.param(AWS_REQUEST_ID, AWS_REQUEST_ID, id="sent"),
        pytest.param("", None, id="not-sent"),
    ],
)
async def test_answer_has_both_request_ids(
    request_id: str, expected: str | None
) -> None:
    """The trailers have the call's id, and AWS's if AWS sent one."""
    source = Scripted(Answer(Run(id=RUN_ID), request_id))
    async with serving(source) as channel:
        call = RunServiceStub(channel).GetRun(
            GetRunRequest(id=RUN_ID), timeout=10, metadata=(("x-request-id", "mine"),)
        )
        await call
        trailers = dict(await call.trailing_metadata())

    assert "mine" == trailers["x-request-id"]
    assert expected == trailers.get("x-amzn-requestid")


@pytest.mark.parametrize("run_id", ["0", "007", "1" * 18])
async def test_id_of_1_to_18_digits_is_accepted(run_id: str) -> None:
    """The source is asked for the id as it is written."""
    source = Scripted(answer(run_id))
    await send(source, GetRunRequest(id=run_id))

    assert [RunQuery(run_id)] == source.asked


@pytest.mark.parametrize(
    "run_id",
    [
        pytest.param("", id="empty"),
        pytest.param("1" * 19, id="19-digits"),
        pytest.param("123\n", id="newline"),
        pytest.param("١٢٣", id="arabic-digits"),
        pytest.param("１２３", id="fullwidth-digits"),  # noqa: RUF001  # such is the case
        pytest.param("²", id="superscript"),
        pytest.param("1/../2", id="path"),
        pytest.param("1%2f", id="escaped-slash"),
        pytest.param("1?export=X", id="query"),
        pytest.param(" 1", id="space"),
        pytest.param("+1", id="sign"),
        pytest.param("-1", id="minus"),
        pytest.param("1\x00", id="nul"),
        pytest.param("1" * 60_000, id="60-kb"),
        pytest.param("abc", id="letters"),
    ],
)
async def test_id_of_another_form_is_refused(run_id: str) -> None:
    """Anything but 1 to 18 ASCII digits is refused before the source is asked."""
    assert ["id"] == await faults(GetRunRequest(id=run_id))


async def test_refused_id_is_not_echoed() -> None:
    """The error has a `runId` only if the id is valid."""
    bad = await refusal(Scripted(answer()), GetRunRequest(id="1/../2"))
    good = await refusal(Scripted(answer()), GetRunRequest(id="12", export=[0]))

    assert {} == bad.metadata
    assert {"runId": "12"} == good.metadata


@pytest.mark.parametrize(
    ("export", "asked"),
    [
        pytest.param([], (), id="none"),
        pytest.param([DEFINITION], (DEFINITION,), id="one"),
        pytest.param([DEFINITION] * 2, (DEFINITION,), id="duplicates"),
        pytest.param([DEFINITION] * 32, (DEFINITION,), id="32"),
    ],
)
async def test_export_is_asked_for_once(
    export: list[RunExport], asked: tuple[RunExport, ...]
) -> None:
    """Up to 32 exports are accepted, and duplicates count once."""
    source = Scripted(answer())
    await send(source, GetRunRequest(id=RUN_ID, export=export))

    assert [RunQuery(RUN_ID, asked)] == source.asked


@pytest.mark.parametrize(
    ("export", "fields"),
    [
        pytest.param([DEFINITION] * 33, ["export"], id="33"),
        pytest.param([0], ["export[0]"], id="unspecified"),
        pytest.param([DEFINITION, 2], ["export[1]"], id="unknown-number"),
        pytest.param([-1, DEFINITION, 99], ["export[0]", "export[2]"], id="two"),
    ],
)
async def test_export_beyond_the_contract_is_refused(
    export: list[int], fields: list[str]
) -> None:
    """More than 32 exports, the unspecified one and unknown ones are refused."""
    request = GetRunRequest(id=RUN_ID, export=cast("list[RunExport]", export))

    assert fields == await faults(request)


@pytest.mark.parametrize(
    "staleness",
    [
        pytest.param(Duration(), id="zero"),
        pytest.param(Duration(seconds=5), id="seconds"),
        pytest.param(Duration(nanos=500_000_000), id="half-a-second"),
        pytest.param(Duration(seconds=MAX_SECONDS, nanos=999_999_999), id="longest"),
    ],
)
async def test_max_staleness_of_any_valid_length_is_accepted(
    staleness: Duration,
) -> None:
    """Any duration that isn't negative is accepted."""
    source = Scripted(answer())
    await send(source, GetRunRequest(id=RUN_ID, max_staleness=staleness))

    assert 1 == len(source.asked)


@pytest.mark.parametrize(
    ("staleness", "word"),
    [
        pytest.param(Duration(seconds=-1), "negative", id="negative-seconds"),
        pytest.param(Duration(nanos=-1), "negative", id="negative-nanos"),
        pytest.param(Duration(seconds=-1, nanos=-1), "negative", id="negative-both"),
        pytest.param(Duration(seconds=1, nanos=-1), "valid", id="two-signs"),
        pytest.param(Duration(seconds=-1, nanos=1), "valid", id="two-signs-reversed"),
        pytest.param(Duration(nanos=1_000_000_000), "valid", id="too-many-nanos"),
        pytest.param(Duration(seconds=MAX_SECONDS + 1), "valid", id="too-long"),
    ],
)
async def test_invalid_max_staleness_is_refused(staleness: Duration, word: str) -> None:
    """A negative duration and one that protobuf calls invalid are refused."""
    request = GetRunRequest(id=RUN_ID, max_staleness=staleness)
    (violation,) = violations(await refusal(Scripted(answer()), request))

    assert "max_staleness" == violation.field
    assert word in violation.description


async def test_read_mask_leaves_out_the_rest() -> None:
    """A caller with a mask receives its fields and `observe_time`."""
    source = Scripted(
        answer(
            RUN_ID,
            status=RunStatus.RUN_STATUS_RUNNING,
            log_location={"run_log_stream": "run", "engine_log_stream": "engine"},
            unmodeled_json={"status": '"NEW"', "newMember": "1"},
            observe_time={"seconds": 7},
        )
    )
    paths = ["status", "log_location.run_log_stream"]
    run = await send(source, GetRunRequest(id=RUN_ID, read_mask=FieldMask(paths=paths)))

    assert (
        Run(
            status=RunStatus.RUN_STATUS_RUNNING,
            log_location={"run_log_stream": "run"},
            unmodeled_json={"status": '"NEW"'},
            observe_time={"seconds": 7},
        )
        == run
    )


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param([], id="empty"),
        pytest.param(["*"], id="star"),
        pytest.param(["name", "*"], id="star-among-others"),
    ],
)
async def test_empty_read_mask_or_a_star_selects_all(paths: list[str]) -> None:
    """An empty mask and one with `*` leave nothing out."""
    source = Scripted(answer(RUN_ID, name="mine", priority=3))
    run = await send(source, GetRunRequest(id=RUN_ID, read_mask=FieldMask(paths=paths)))

    assert Run(id=RUN_ID, name="mine", priority=3) == run


async def test_read_mask_of_unknown_paths_is_refused() -> None:
    """Each path that isn't a field is reported by its position, with `*` or without."""
    paths = ["status", "startTime", "*", "tags.mine", ""]
    request = GetRunRequest(id=RUN_ID, read_mask=FieldMask(paths=paths))

    assert [
        "read_mask.paths[1]",
        "read_mask.paths[3]",
        "read_mask.paths[4]",
    ] == await faults(request)


@pytest.mark.guarantee("validation")
async def test_all_violations_are_reported_at_once() -> None:
    """A request with an invalid value in every field is refused for each of them."""
    request = GetRunRequest(
        id="x",
        export=cast("list[RunExport]", [*[DEFINITION] * 33, 0]),
        max_staleness=Duration(seconds=-1),
        read_mask=FieldMask(paths=["nothing"]),
    )

    assert [
        "id",
        "export",
        "export[33]",
        "max_staleness",
        "read_mask.paths[0]",
    ] == await faults(request)


async def test_violations_are_reported_as_far_as_they_fit() -> None:
    """Of many violations, the first ones are reported, in at most 4 KiB."""
    request = GetRunRequest(id="x", read_mask=FieldMask(paths=["nothing"] * 128))
    error = await refusal(Scripted(answer()), request)
    fields = [each.field for each in violations(error)]
    positions = [f"read_mask.paths[{at}]" for at in range(128)]

    assert ["id", *positions][: len(fields)] == fields
    assert 4096 - 128 < error.size <= 4096


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        pytest.param("GetRun", "read_mask", FieldMask(paths=["*"] * 129), id="get"),
        pytest.param("WatchRun", "read_mask", FieldMask(paths=["*"] * 129), id="watch"),
        pytest.param("WatchRun", "uuid", "u" * 65, id="uuid"),
    ],
)
async def test_request_with_too_many_paths_or_a_long_uuid_is_refused(
    method: str, field: str, value: Any
) -> None:
    """A mask with more paths than `Run` has, and a long uuid, are violations."""
    requests = {"GetRun": GetRunRequest, "WatchRun": WatchRunRequest}
    request = requests[method](id=RUN_ID, **{field: value})
    async with serving(Scripted(answer())) as channel:
        call = getattr(RunServiceStub(channel), method)(request, timeout=10)
        error = await refused(call if method == "GetRun" else call.read())

    assert [field] == [each.field for each in violations(error)]


async def test_mask_may_have_as_many_paths_as_a_run() -> None:
    """A mask may have all paths of `Run` at once."""
    mask = FieldMask(paths=[*PATHS, "*"])

    assert (
        RUN_ID
        == (
            await send(
                Scripted(answer(RUN_ID)), GetRunRequest(id=RUN_ID, read_mask=mask)
            )
        ).id
    )


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(
            GetRunRequest(export=cast("list[RunExport]", [0] * 64_000)), id="exports"
        ),
        pytest.param(
            GetRunRequest(read_mask=FieldMask(paths=["x"] * 21_000)), id="paths"
        ),
    ],
)
async def test_request_full_of_violations_does_not_block_the_loop(
    request_: GetRunRequest,
) -> None:
    """The largest possible request is refused in less than 50 ms of CPU time."""
    start = time.thread_time()
    with pytest.raises(GatewayError):
        await ask(Scripted(answer()), request_, seconds=10)

    assert time.thread_time() - start < 0.05


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.0099])
async def test_call_without_time_is_refused_before_the_source_is_asked(
    seconds: float,
) -> None:
    """A call with less than 10 ms left ends before the source is asked."""
    source = Scripted(answer())
    with pytest.raises(GatewayError) as caught:
        await ask(source, GetRunRequest(id=RUN_ID), seconds=seconds)

    assert Reason.DEADLINE_TOO_SHORT is caught.value.reason
    assert [] == source.asked


async def test_deadline_too_short_names_the_run() -> None:
    """The error of a call that is refused for its deadline has the run's id."""
    async with serving(Scripted(answer()), default_deadline_seconds=0.001) as channel:
        error = await refused(RunServiceStub(channel).GetRun(GetRunRequest(id=RUN_ID)))

    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code
    assert "DEADLINE_TOO_SHORT" == error.reason
    assert {"runId": RUN_ID} == error.metadata


@pytest.mark.parametrize(
    ("seconds", "deadline"),
    [
        pytest.param(7.0, 1007.0, id="own"),
        pytest.param(None, 1030.0, id="default"),
        pytest.param(36_000.0, 1300.0, id="beyond-the-longest"),
    ],
)
async def test_source_gets_the_deadline(seconds: float | None, deadline: float) -> None:
    """The source gets the caller's deadline, the default, or the longest one."""
    source = Scripted(answer())
    request = GetRunRequest(id=RUN_ID)
    limits: Any = {"max_deadline_seconds": 300.0, "clock": lambda: 1000.0}
    await ask(source, request, seconds=seconds, **limits)

    assert [deadline] == [call.deadline for call in source.calls]


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        pytest.param(0.02, Reason.CALLER_DEADLINE, id="own"),
        pytest.param(None, Reason.SERVER_DEADLINE, id="default"),
        pytest.param(36_000.0, Reason.SERVER_DEADLINE, id="beyond-the-longest"),
    ],
)
async def test_call_ends_at_its_deadline(seconds: float | None, reason: Reason) -> None:
    """A source that hangs is cancelled at the caller's, default or longest deadline."""
    hanging = Hanging()
    with pytest.raises(GatewayError) as caught:
        await ask(
            Scripted(hanging),
            GetRunRequest(id=RUN_ID),
            seconds=seconds,
            default_deadline_seconds=0.02,
            max_deadline_seconds=0.03,
        )

    assert reason is caught.value.reason
    assert hanging.is_left.is_set()


async def test_default_deadline_is_reported_as_the_server_s() -> None:
    """A call without a deadline ends with the reason SERVER_DEADLINE."""
    async with serving(Scripted(Hanging()), default_deadline_seconds=0.05) as channel:
        error = await refused(RunServiceStub(channel).GetRun(GetRunRequest(id=RUN_ID)))

    assert grpc.StatusCode.DEADLINE_EXCEEDED is error.code
    assert "SERVER_DEADLINE" == error.reason
    assert {"runId": RUN_ID} == error.metadata


async def test_own_deadline_is_logged_as_the_caller_s() -> None:
    """A call that ends at its own deadline is logged with that reason."""
    hanging = Hanging()
    with capture_logs() as events:
        async with serving(Scripted(hanging)) as channel:
            call = RunServiceStub(channel).GetRun(
                GetRunRequest(id=RUN_ID), timeout=0.05
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            await asyncio.wait_for(hanging.is_left.wait(), 5)

    assert grpc.StatusCode.DEADLINE_EXCEEDED is caught.value.code()
    assert [("DEADLINE_EXCEEDED", "CALLER_DEADLINE", RUN_ID)] == [
        (event["code"], event["reason"], event["runId"]) for event in events
    ]


@pytest.mark.guarantee("error-table")
@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(ValueError("canary"), id="value"),
        pytest.param(TimeoutError("canary"), id="a-timeout-of-its-own"),
        pytest.param(NotImplementedError("canary"), id="not-implemented"),
        pytest.param(KeyError("canary"), id="key"),
        pytest.param(OSError("canary"), id="os"),
        pytest.param(ValueError("canary \ud800\r\n\x1b"), id="unprintable"),
        pytest.param(ExceptionGroup("canary", [ValueError("canary")]), id="group"),
    ],
)
async def test_bug_of_a_source_is_reported_without_its_text(bug: Exception) -> None:
    """Any other exception is INTERNAL, with a constant text and the run's id."""
    error = await refusal(Scripted(bug), GetRunRequest(id=RUN_ID))

    assert grpc.StatusCode.INTERNAL is error.code
    assert "GATEWAY_INTERNAL" == error.reason
    assert "The gateway failed; report this with the request id." == error.message
    assert {"runId": RUN_ID} == error.metadata
    assert "-1" == error.trailers["grpc-retry-pushback-ms"]
    assert "canary" not in str(error.trailers)


async def test_answer_of_another_type_is_a_bug() -> None:
    """A source that returns something else is INTERNAL, not an answer."""

    async def reply(_query: RunQuery, _call: Call) -> Answer:
        return cast("Answer", None)

    error = await refusal(Scripted(reply), GetRunRequest(id=RUN_ID))

    assert "GATEWAY_INTERNAL" == error.reason


async def test_error_has_the_facts_of_its_source() -> None:
    """ErrorInfo has the attempts of a call and AWS's answer."""

    async def fail(_query: RunQuery, call: Call) -> Answer:
        call.upstream = UpstreamInfo("us-east-1", 2)
        raise failure(answer=AwsAnswer(AWS_REQUEST_ID, 500, "InternalFailure"))

    error = await refusal(Scripted(fail), GetRunRequest(id=RUN_ID))

    assert {
        "runId": RUN_ID,
        "attempts": "2",
        "region": "us-east-1",
        "awsErrorCode": "InternalFailure",
        "httpStatus": "500",
        "awsRequestId": AWS_REQUEST_ID,
    } == error.metadata
    assert AWS_REQUEST_ID == error.trailers["x-amzn-requestid"]


def run_of_size(size: int) -> Run:
    """Return a run with an encoding of so many bytes."""
    run = Run(id=RUN_ID, definition="x" * size)
    run.definition = "x" * (2 * size - run.ByteSize())
    assert size == run.ByteSize()
    return run


@pytest.mark.guarantee("stock-clients")
async def test_answer_of_4_mib_is_delivered() -> None:
    """A stock client receives an answer of exactly 4 MiB."""
    run = run_of_size(LIMIT)

    assert run == await send(Scripted(Answer(run, "")), GetRunRequest(id=RUN_ID))


async def test_answer_beyond_4_mib_is_refused_with_its_facts() -> None:
    """One byte more is RESPONSE_TOO_LARGE, with the facts of the call."""

    async def reply(_query: RunQuery, call: Call) -> Answer:
        call.upstream = UpstreamInfo("us-east-1", 1, AwsAnswer(AWS_REQUEST_ID))
        return Answer(run_of_size(LIMIT + 1), AWS_REQUEST_ID)

    error = await refusal(Scripted(reply), GetRunRequest(id=RUN_ID))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is error.code
    assert "RESPONSE_TOO_LARGE" == error.reason
    assert {
        "runId": RUN_ID,
        "region": "us-east-1",
        "attempts": "1",
        "awsRequestId": AWS_REQUEST_ID,
    } == error.metadata
    assert AWS_REQUEST_ID == error.trailers["x-amzn-requestid"]
    assert "-1" == error.trailers["grpc-retry-pushback-ms"]


async def test_answer_beyond_4_mib_is_delivered_in_part() -> None:
    """A mask without the large fields makes the answer fit."""
    source = Scripted(Answer(run_of_size(LIMIT + 1), ""))
    mask = FieldMask(paths=["id"])
    run = await send(source, GetRunRequest(id=RUN_ID, read_mask=mask))

    assert RUN_ID == run.id
    assert not run.HasField("definition")


async def test_withheld_member_is_in_no_answer() -> None:
    """A withheld member is left out, and the shared run stays as it is."""
    shared = answer(RUN_ID, session_policy="{}", name="mine")
    run = await send(
        Scripted(shared), GetRunRequest(id=RUN_ID), withheld={"sessionPolicy"}
    )

    assert ("mine", False) == (run.name, run.HasField("session_policy"))
    assert "{}" == shared.run.session_policy


async def test_facts_of_a_call_are_not_in_the_next() -> None:
    """After other calls, an error on their connection has none of their facts."""
    source = Scripted(answer(RUN_ID), failure(answer=AwsAnswer(AWS_REQUEST_ID)))
    async with serving(source) as channel:
        stub = RunServiceStub(channel)
        await get_run(stub, RUN_ID)
        await refused(get_run(stub, RUN_ID))
        malformed = await refused(channel.unary_unary(GET_RUN)(b"\xff", timeout=10))
        invalid = await refused(get_run(stub, "x"))
        unknown = await refused(channel.unary_unary(f"{GET_RUN}s")(b"", timeout=10))

    for error, reason in (
        (malformed, "MALFORMED_REQUEST"),
        (invalid, "INVALID_REQUEST"),
        (unknown, "METHOD_UNKNOWN"),
    ):
        assert (reason, {}) == (error.reason, error.metadata)
        assert "x-amzn-requestid" not in error.trailers


async def test_facts_of_concurrent_calls_are_kept_apart() -> None:
    """Concurrent calls on one connection each have the facts of their own run."""
    barrier = asyncio.Barrier(10)

    async def fail_together(query: RunQuery, call: Call) -> Answer:
        call.upstream = UpstreamInfo("us-east-1", int(query.id) + 1)
        await barrier.wait()
        raise failure()

    async with serving(Scripted(fail_together)) as channel:
        stub = RunServiceStub(channel)
        calls = [refused(get_run(stub, str(number))) for number in range(10)]
        error = await asyncio.gather(*calls)

    assert [
        {"runId": str(number), "region": "us-east-1", "attempts": str(number + 1)}
        for number in range(10)
    ] == [each.metadata for each in error]


async def test_cancelled_call_cancels_its_source() -> None:
    """If the client cancels a call, the work for it is cancelled."""
    hanging = Hanging()
    async with serving(Scripted(hanging)) as channel:
        call = RunServiceStub(channel).GetRun(GetRunRequest(id=RUN_ID), timeout=30)
        await hanging.is_asked.wait()
        call.cancel()
        await asyncio.wait_for(hanging.is_left.wait(), 5)


@pytest.mark.guarantee("hidden-runs")
@pytest.mark.parametrize("method", ["GetRun", "WatchRun"])
@pytest.mark.parametrize(
    ("step", "seconds", "left_after"),
    [
        pytest.param(answer(run_group_id="2"), 0.0, 0.5, id="not-allowed"),
        pytest.param(failure(Reason.RUN_NOT_FOUND), 0.0, 0.5, id="not-there"),
        pytest.param(
            failure(Reason.UPSTREAM_MALFORMED_RESPONSE), 0.2, 0.5, id="tried-twice"
        ),
        pytest.param(answer(run_group_id="2"), 0.4, 0.5, id="not-allowed-and-large"),
        pytest.param(answer(run_group_id="2"), 6.9, 7.0, id="not-allowed-and-slow"),
    ],
)
def test_refusal_of_a_run_comes_at_a_multiple_of_a_time(
    step: Answer | GatewayError, seconds: float, left_after: float, method: str
) -> None:
    """The time that a read takes isn't visible, whether the run exists or not."""
    assert ("CALLER_NOT_AUTHORIZED", pytest.approx(left_after)) == virtually(
        lambda: refused_after(step, method, seconds=seconds, deadline=None)
    )


@pytest.mark.guarantee("hidden-runs")
@pytest.mark.parametrize("method", ["GetRun", "WatchRun"])
@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.4])
def test_refusal_of_a_run_does_not_outlast_the_deadline(
    seconds: float, method: str
) -> None:
    """A call with an earlier deadline ends at its deadline, in each case."""
    step = answer(run_group_id="2")

    assert ("CALLER_DEADLINE", pytest.approx(0.3)) == virtually(
        lambda: refused_after(step, method, seconds=seconds, deadline=0.3)
    )


@pytest.mark.guarantee("hidden-runs")
@pytest.mark.parametrize("method", ["GetRun", "WatchRun"])
@pytest.mark.parametrize("is_own", [True, False], ids=["own", "server-s"])
def test_deadline_before_the_refusal_shows_nothing_of_the_run(
    method: str, *, is_own: bool
) -> None:
    """Nothing shows whether the run was hidden, missing, unreadable, or still read."""
    server_reason = "SERVER_DEADLINE" if method == "GetRun" else "WATCH_RENEW"
    steps: list[tuple[Answer | GatewayError, int, float]] = [
        (answer(run_group_id="2"), 1, 0.1),
        (answer(run_group_id="2"), 1, 9.0),
        (failure(Reason.RUN_NOT_FOUND, answer=AwsAnswer("aws-1", 404)), 1, 0.1),
        (failure(Reason.UPSTREAM_MALFORMED_RESPONSE), 2, 0.1),
    ]
    shown = [
        virtually(lambda s=each: ended(method, *s, is_own=is_own)) for each in steps
    ]

    reason = "CALLER_DEADLINE" if is_own else server_reason
    received = (reason, {"runId": RUN_ID}, (("x-request-id", "r-1"),))
    assert [received] * len(steps) == shown


async def ended(
    method: str,
    step: Answer | GatewayError,
    attempts: int,
    seconds: float,
    *,
    is_own: bool,
) -> tuple[str, dict[str, str], Any]:
    """Call as a restricted caller with 0.3 s; return what the client receives."""
    reply = replying(step, seconds)

    async def attempt(query: RunQuery, asked: Call) -> Answer:
        asked.upstream = UpstreamInfo("us-east-1", attempts)
        found = await reply(query, asked)
        asked.upstream = UpstreamInfo(
            "us-east-1", attempts, AwsAnswer(AWS_REQUEST_ID, 200)
        )
        return found

    service = service_of(
        Scripted(attempt),
        clock=asyncio.get_running_loop().time,
        max_deadline_seconds=0.3,
        max_stream_seconds=0.3,
    )
    call = under_way(0.299 if is_own else 9.0, BOUND)
    asked = (
        service.GetRun(GetRunRequest(id=RUN_ID), call)
        if method == "GetRun"
        else anext(service.WatchRun(WatchRunRequest(id=RUN_ID), call))
    )
    with pytest.raises(GatewayError) as end:
        await asked
    call.error = end.value
    return end.value.reason.name, call.metadata, call.trailing_ids()


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        pytest.param(0.299, "CALLER_DEADLINE", id="shorter"),
        pytest.param(0.3, "WATCH_RENEW", id="equal"),
        pytest.param(None, "WATCH_RENEW", id="none"),
    ],
)
def test_watch_ends_with_the_shorter_of_both_limits(
    seconds: float | None, reason: str
) -> None:
    """A deadline that is as long as the longest stream ends with WATCH_RENEW."""

    async def end() -> str:
        clock = asyncio.get_running_loop().time
        source = Scripted(replying(answer(), 9.0))
        stream = watched(source, seconds=seconds, clock=clock, max_stream_seconds=0.3)
        with pytest.raises(GatewayError) as error:
            await anext(stream)
        return error.value.reason.name

    assert reason == virtually(end)


async def refused_after(
    step: Answer | GatewayError, method: str, *, seconds: float, deadline: float | None
) -> tuple[str, float]:
    """Call as a restricted caller; return the reason and the time of the error."""
    reply = replying(step, seconds)
    clock = asyncio.get_running_loop().time
    begun = clock()
    asked = (
        ask(
            Scripted(reply),
            GetRunRequest(id=RUN_ID),
            seconds=deadline,
            access=BOUND,
            clock=clock,
        )
        if method == "GetRun"
        else anext(
            watched(Scripted(reply), seconds=deadline, access=BOUND, clock=clock)
        )
    )
    with pytest.raises(GatewayError) as refusal:
        await asked
    return refusal.value.reason.name, clock() - begun


def replying(
    step: Answer | GatewayError, seconds: float
) -> Callable[[RunQuery, Call], Awaitable[Answer]]:
    """Return a source that answers `step` after `seconds`."""

    async def reply(_query: RunQuery, _call: Call) -> Answer:
        await asyncio.sleep(seconds)
        if isinstance(step, GatewayError):
            raise step
        return step

    return reply


@pytest.mark.guarantee("heartbeats")
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(answer(run_group_id="1"), id="allowed"),
        pytest.param(answer(run_group_id="2"), id="not-allowed"),
        pytest.param(failure(Reason.RUN_NOT_FOUND), id="not-there"),
    ],
)
def test_restricted_watch_has_heartbeats_before_its_first_state(
    step: Answer | GatewayError,
) -> None:
    """It has heartbeats while its first fetch takes long."""

    async def silences() -> list[float]:
        clock = asyncio.get_running_loop().time
        begun, beat = clock(), Duration(seconds=2)
        source = Scripted(replying(step, 5.2))
        stream = watched(source, seconds=6.0, beat=beat, access=BOUND, clock=clock)
        came = []
        with contextlib.suppress(GatewayError, StopAsyncIteration):
            while await anext(stream) == b"":
                came.append(clock() - begun)
        return came

    assert [2.0, 4.0] == virtually(silences)
