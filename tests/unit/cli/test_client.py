"""The calls of the command line: one through grpcio-testing, a watch over streams."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Semaphore
from typing import Any, Self

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
from healthomics.v1.run_service_pb2 import (
    GetRunRequest,
    WatchRunRequest,
    WatchRunResponse,
)
from healthomics.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    add_RunServiceServicer_to_server,
)
from healthomics_gateway.cli.client import ENDINGS, WATCH_OPTIONS, Output, get, watch
from healthomics_gateway.cli.run_view import STYLES
from healthomics_gateway.runs.watch import TERMINAL
from testkit.cutting_proxy import CUTS, proxy

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
    metadata: dict[str, str]


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
        metadata, request, rpc = channel.take_unary_unary(
            SERVICE.methods_by_name["GetRun"]
        )
        rpc.terminate(answer, trailers, code, message)
        return Done(
            exit_code.result(),
            answers.getvalue(),
            failures.getvalue(),
            request,
            dict(metadata or ()),
        )


def refused(
    code: grpc.StatusCode, reason: str, message: str, *details: Message, **given: Any
) -> Done:
    """Make one call that the gateway refuses with rich details."""
    trailers = rich_trailers(code, reason, message, *details)
    return call(code=code, message=message, trailers=trailers, **given)


def rich_trailers(
    code: grpc.StatusCode, reason: str, message: str, *details: Message
) -> tuple[tuple[str, str | bytes], ...]:
    """Give what a gateway's refusal ends with."""
    status = Status(code=code.value[0], message=message)
    info = ErrorInfo(reason=reason, domain="healthomics-gateway")
    for each in (info, RequestInfo(request_id="call-7"), *details):
        status.details.add().Pack(each)
    return (*TRAILERS, ("grpc-status-details-bin", status.SerializeToString()))


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


def test_call_brings_what_tells_who_calls() -> None:
    """The metadata that is handed in goes with the request."""
    told = call(answer=running(), metadata=lambda: [("authorization", "Bearer token")])

    assert "Bearer token" == told.metadata["authorization"]
    assert "authorization" not in call(answer=running()).metadata


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

    assert "  retry in 1250ms" in done.failures.splitlines()


def test_failure_without_an_answer_points_at_the_address() -> None:
    """Where no gateway answered, the person is told which option names another."""
    done = call(
        code=grpc.StatusCode.UNAVAILABLE, message="failed to connect", trailers=()
    )

    assert (1, "") == (done.code, done.answers)
    assert [
        "UNAVAILABLE failed to connect",
        "  no gateway answered; check --address",
    ] == done.failures.splitlines()


@pytest.mark.parametrize(
    ("transport", "words", "hint"),
    [
        pytest.param(
            *("tls", "Tls handshake failed: CERTIFICATE_VERIFY_FAILED: expired"),
            "the gateway's certificate isn't trusted; name its authority with --tls-ca",
            id="untrusted",
        ),
        pytest.param(
            *("tls", "CERTIFICATE_VERIFY_FAILED: certificate has expired"),
            "the gateway's certificate has expired; its operator must renew it",
            id="expired",
        ),
        pytest.param(
            *("tls", "UNAUTHENTICATED: Hostname Verification Check failed."),
            "the gateway's certificate has another name; if it is the right"
            " gateway, set --server-name",
            id="name",
        ),
        pytest.param(
            *("tls", "SSL_ERROR_SSL: WRONG_VERSION_NUMBER"),
            "the server at this address doesn't use TLS; remove --tls and the"
            " other TLS flags",
            id="plaintext",
        ),
        *(
            pytest.param(
                *("tls", words),
                "the gateway may require a client certificate that it trusts; set"
                " --tls-cert and --tls-key",
                id=name,
            )
            for name, words in {
                "closed": "Socket closed",
                "reset": "recvmsg:Connection reset by peer (104)",
                "broken": "sendmsg: Broken pipe (32)",
                "alert-of-tls-1.2": "SSL_ERROR_SSL: TLSV1_ALERT_UNKNOWN_CA: OK",
                "alert-of-tls-1.3": "Unwrap failed (TSI_DATA_CORRUPTED)",
            }.items()
        ),
        *(
            pytest.param(
                *("plaintext", words),
                "the server at this address may use TLS; add --tls or --tls-ca",
                id=name,
            )
            for name, words in {
                "closed-plaintext": "Socket closed",
                "reset-plaintext": "recvmsg:Connection reset by peer (104)",
                "http": "Failed parsing HTTP/2 (Expected SETTINGS frame)",
            }.items()
        ),
        pytest.param(
            *("unix", "Socket closed"),
            "no gateway answered; check --address",
            id="closed-socket-of-unix",
        ),
        *(
            pytest.param(
                *(over, "Failed to connect to remote host: Connection refused"),
                "no gateway answered; check --address",
                id=f"refused-{over}",
            )
            for over in ("plaintext", "tls")
        ),
    ],
)
def test_failure_to_connect_tells_what_to_try(
    words: str, hint: str, transport: str
) -> None:
    """What gRPC says of the connection decides which flag is named."""
    message = f"failed to connect to all addresses; last error: UNKNOWN: {words}"
    done = call(
        code=grpc.StatusCode.UNAVAILABLE,
        message=message,
        trailers=(),
        transport=transport,
    )

    assert [f"UNAVAILABLE {message}", f"  {hint}"] == done.failures.splitlines()


def test_failure_of_a_connection_that_was_made_tells_nothing_of_tls() -> None:
    """A gateway that goes away in the midst of a call isn't one that wants TLS."""
    done = call(code=grpc.StatusCode.UNAVAILABLE, message="Socket closed", trailers=())

    assert "--tls" not in done.failures


@pytest.mark.parametrize(
    "reason", ["TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", ""]
)
def test_failure_to_tell_who_calls_names_what_does(reason: str) -> None:
    """Whoever isn't known learns how to be, by whatever speaks for the gateway."""
    done = refused(grpc.StatusCode.UNAUTHENTICATED, reason, "It is so.")

    assert [
        (
            "  send a valid token with --token-file, or a certificate with --tls-cert"
            " and --tls-key"
        ),
        "  request id: call-7",
    ] == done.failures.splitlines()[1:]


def test_caller_on_a_unix_socket_is_not_advised_to_use_tls() -> None:
    """A socket has no TLS, so that only a token can prove who calls."""
    code = grpc.StatusCode.UNAUTHENTICATED
    done = refused(code, "TOKEN_MISSING", "It is so.", transport="unix")

    assert "  send a valid token with --token-file" == done.failures.splitlines()[1]


def test_failure_in_time_points_at_the_timeout() -> None:
    """Where the time was up, the person is told which option gives more."""
    done = call(code=grpc.StatusCode.DEADLINE_EXCEEDED, trailers=())

    assert [
        "DEADLINE_EXCEEDED",
        "  the answer took too long; set a longer --timeout",
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


# watch


def state(word: str = "", **more: Any) -> Run:
    """Give a run in the status of AWS's word."""
    number = RunStatus.Value(f"RUN_STATUS_{word}") if word else None
    return Run(id="7", uuid="u-7", status=number, **more)


PENDING, RUNNING, COMPLETED = (
    state(word) for word in ("PENDING", "RUNNING", "COMPLETED")
)


@dataclass(frozen=True, slots=True)
class Break:
    """How a stream breaks."""

    code: grpc.StatusCode
    message: str
    trailers: Sequence[tuple[str, str | bytes]] = ()


def broken(
    reason: str,
    seconds: float | None = None,
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
) -> Break:
    """Break as a gateway does, for a reason; `seconds` are RetryInfo's."""
    retry = RetryInfo()
    if seconds is not None:
        retry.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    details = [] if seconds is None else [retry]
    return Break(code, "It is so.", rich_trailers(code, reason, "It is so.", *details))


RENEW = broken("WATCH_RENEW", 0.05)
UNREACHABLE = Break(grpc.StatusCode.UNAVAILABLE, "connection refused")

Step = Run | WatchRunResponse | Break | Callable[[], None]


class Streams(RunServiceServicer):
    """A gateway that does what a test wrote down for each stream, step by step."""

    def __init__(self, *streams: Sequence[Step]) -> None:
        """Do `streams` in that order; the last goes on for ever."""
        self._streams = streams
        self.requests: list[WatchRunRequest] = []
        self.callers: list[str] = []

    def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self, request: WatchRunRequest, context: Any
    ) -> Iterator[WatchRunResponse]:
        """Send runs and break, or end."""
        at = min(len(self.requests), len(self._streams) - 1)
        self.requests.append(request)
        metadata = dict(context.invocation_metadata())
        self.callers.append(metadata.get("authorization", ""))
        for step in self._streams[at]:
            if isinstance(step, Run):
                yield WatchRunResponse(run=step)
            elif isinstance(step, WatchRunResponse):
                yield step
            elif isinstance(step, Break):
                context.set_trailing_metadata(step.trailers)
                context.abort(step.code, step.message)
            else:
                step()


@contextmanager
def streaming(streams: Streams) -> Iterator[grpc.Channel]:
    """Serve them; give a channel there."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        add_RunServiceServicer_to_server(streams, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        options = [("grpc.enable_http_proxy", 0), *WATCH_OPTIONS]
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
                yield channel
        finally:
            server.stop(None).wait()


@dataclass
class Watched:
    """What became of a watch: it is the view of it too, and its time."""

    shown: list[Run] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    ended: list[Run] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    requests: list[WatchRunRequest] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    failures: str = ""
    code: int = -1
    now: float = 1000.0
    is_open: bool = False

    def __enter__(self) -> Self:
        """Be open."""
        self.is_open = True
        return self

    def __exit__(self, *_exc: object) -> None:
        """Be closed."""
        self.is_open = False

    def show(self, run: Run) -> None:
        """Take note."""
        assert self.is_open
        self.shown.append(run)

    def note(self, line: str) -> None:
        """Take note."""
        assert self.is_open
        self.told.append(line)

    def end(self, run: Run) -> None:
        """Take note."""
        assert not self.is_open
        self.ended.append(run)

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass, and take note."""
        self.slept.append(seconds)
        self.pass_by(seconds)


def watched(
    *streams: Sequence[Step],
    view: Watched | None = None,
    jitter: float = 0.5,
    seconds: float = 30.0,
    **ask: Any,
) -> Watched:
    """Watch run 7 to its end, in time that passes at once."""
    served, done, failures = Streams(*streams), view or Watched(), io.StringIO()
    with streaming(served) as channel:
        done.code = watch(
            *(channel, "7", done, failures),
            timeout=timedelta(seconds=seconds),
            sleep=done.sleep,
            clock=lambda: done.now,
            jitter=lambda: jitter,
            **ask,
        )
    done.failures = failures.getvalue()
    done.requests, done.callers = served.requests, served.callers
    return done


def observed(run: Run, second: int) -> Run:
    """Give the same state as observed in that second."""
    copy = Run()
    copy.CopyFrom(run)
    copy.observe_time.FromSeconds(second)
    return copy


def test_watch_shows_each_state_and_then_the_last() -> None:
    """States come in order, the end is shown once all is over, and the code is 0."""
    done = watched([PENDING, RUNNING, COMPLETED])

    assert [PENDING, RUNNING, COMPLETED] == done.shown
    assert [COMPLETED] == done.ended
    assert (0, [], [], "") == (done.code, done.told, done.slept, done.failures)


@pytest.mark.parametrize(
    ("word", "code"),
    [("COMPLETED", 0), ("FAILED", 3), ("CANCELLED", 3), ("DELETED", 3)],
)
def test_watch_tells_by_its_code_how_the_run_ended(word: str, code: int) -> None:
    """A run that wasn't completed has a code of its own."""
    done = watched([state(word)])

    assert (code, [state(word)]) == (done.code, done.ended)


def test_watch_has_a_code_for_every_end() -> None:
    """Whatever ends a watch on the gateway's side has a code, and a colour."""
    assert TERMINAL == ENDINGS.keys() == STYLES.keys()


@pytest.mark.parametrize(
    ("runs", "last"), [([state(name="exome")], state(name="exome")), ([], Run(id="7"))]
)
def test_watch_of_a_withheld_status_ends_with_the_stream(
    runs: list[Run], last: Run
) -> None:
    """A stream that ends OK without a run's end is no success of the run."""
    done = watched(runs)

    assert (1, runs, [last]) == (done.code, done.shown, done.ended)
    assert "the final status of the run is unknown" in done.failures


def test_watch_asks_as_it_is_told() -> None:
    """The interval reaches the gateway; unasked it isn't set, and neither is a uuid."""
    told = watched([COMPLETED], min_interval=timedelta(seconds=1.5)).requests
    default = watched([COMPLETED]).requests

    interval = Duration(seconds=1, nanos=500_000_000)
    beat = Duration(seconds=20)
    assert [
        WatchRunRequest(id="7", min_interval=interval, heartbeat_interval=beat)
    ] == told
    assert [WatchRunRequest(id="7", heartbeat_interval=beat)] == default


def test_watch_that_breaks_is_begun_again_with_the_uuid() -> None:
    """The next stream is asked for the same run, by its identity, as often."""
    done = watched(
        [RUNNING, UNREACHABLE], [COMPLETED], min_interval=timedelta(seconds=2)
    )

    assert [("", 2), ("u-7", 2)] == [
        (each.uuid, each.min_interval.seconds) for each in done.requests
    ]
    assert (0, [RUNNING, COMPLETED]) == (done.code, done.shown)


def test_watch_tells_each_stream_anew_who_calls() -> None:
    """A token may have been replaced since the last stream."""
    tokens = iter(["first", "second", "third"])
    done = watched(
        *([RUNNING, UNREACHABLE], [RENEW], [COMPLETED]),
        metadata=lambda: [("authorization", next(tokens))],
    )

    assert (0, ["first", "second", "third"]) == (done.code, done.callers)


def test_watch_shows_a_repeated_snapshot_once() -> None:
    """What differs in when it was observed alone is no new state."""
    done = watched(
        [observed(PENDING, 1), observed(RUNNING, 2), RENEW],
        [observed(RUNNING, 9), COMPLETED],
    )

    assert [observed(PENDING, 1), observed(RUNNING, 2), COMPLETED] == done.shown


def test_watch_shows_what_has_changed_while_it_was_away() -> None:
    """A snapshot that differs in any member is shown."""
    tagged = state("RUNNING", tags={"a": "b"})

    assert [RUNNING, tagged, COMPLETED] == watched(
        [RUNNING, RENEW], [tagged, COMPLETED]
    ).shown


def test_watch_is_renewed_at_once_and_without_a_word() -> None:
    """WATCH_RENEW is no outage, however often it comes and whatever the timeout."""
    done = watched(*[[RUNNING, RENEW]] * 3, [COMPLETED], seconds=0)

    assert (0, [0.05] * 3, []) == (done.code, done.slept, done.told)


def test_watch_is_renewed_where_no_state_came_in_time() -> None:
    """A gateway that can't tell the state yet has answered all the same."""
    view = Watched()
    wait = lambda: view.pass_by(600)  # noqa: E731  # a step
    done = watched([wait, RENEW], [wait, RENEW], [UNREACHABLE], [COMPLETED], view=view)

    assert (0, [0.05, 0.05, 0.5]) == (done.code, done.slept)


def test_watch_backs_off_until_a_state_comes() -> None:
    """Waits double up to 30 s, and begin anew after a success."""
    done = watched(
        *[[UNREACHABLE]] * 8, [RUNNING, UNREACHABLE], [COMPLETED], seconds=3600
    )

    assert [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5] == done.slept
    assert 0 == done.code


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 0.4), (0.99, 0.598)])
def test_watch_parts_those_who_come_back(jitter: float, seconds: float) -> None:
    """Not all clients of a gateway that is gone try again at the same time."""
    done = watched([UNREACHABLE], [COMPLETED], jitter=jitter)

    assert [pytest.approx(seconds)] == done.slept


@pytest.mark.parametrize(
    "break_",
    [
        broken("GATEWAY_DRAINING", 1.5),
        broken("GATEWAY_OVERLOADED", 1.5),
        broken("UPSTREAM_THROTTLED", 1.5, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["draining", "overloaded", "throttled"],
)
def test_watch_waits_as_long_as_the_gateway_asks(break_: Break) -> None:
    """RetryInfo's delay is kept to, whatever the backoff would be."""
    done = watched([break_], [break_], [RUNNING, break_], [COMPLETED])

    assert (0, [1.5, 1.5, 1.5]) == (done.code, done.slept)


def test_watch_tells_each_outage_once() -> None:
    """One line a broken connection: what is wrong, and when it tries again."""
    done = watched(
        *([RUNNING, UNREACHABLE], [UNREACHABLE], [UNREACHABLE]),
        [RUNNING, broken("GATEWAY_DRAINING", 1.5)],
        [RENEW],
        *([UNREACHABLE], [COMPLETED]),
    )

    assert [
        "the gateway can't be reached; trying again in 0.5 s",
        "GATEWAY_DRAINING It is so. Trying again in 1.5 s",
        "the gateway can't be reached; trying again in 0.5 s",
    ] == done.told


@pytest.mark.parametrize(
    ("transport", "flags"),
    [("plaintext", "--tls or --tls-ca"), ("tls", "--tls-cert and --tls-key")],
)
def test_watch_tells_at_once_what_to_try(flags: str, transport: str) -> None:
    """Nobody waits for the timeout to learn that TLS is in the way."""
    message = "failed to connect to all addresses; last error: UNKNOWN: Socket closed"
    cut = Break(grpc.StatusCode.UNAVAILABLE, message)
    done = watched([cut], transport=transport, seconds=1)
    _, hint = done.failures.splitlines()

    assert flags in hint
    assert [f"{hint.strip()}; trying again in 0.5 s"] == done.told


def test_watch_keeps_control_characters_from_a_terminal() -> None:
    """A gateway's reason for an outage can't send the terminal an order."""
    done = watched([broken("RED\x1b[31m", 1)], [COMPLETED])

    assert ["RED [31m It is so. Trying again in 1 s"] == done.told


def test_watch_gives_up_where_no_gateway_answers() -> None:
    """After the timeout, and one last try at its end, the failure is told."""
    done = watched([UNREACHABLE])

    assert [0.5, 1, 2, 4, 8, 14.5] == done.slept
    assert (1, [], []) == (done.code, done.shown, done.ended)
    assert [
        "UNAVAILABLE connection refused",
        "  no gateway answered; check --address",
    ] == done.failures.splitlines()


def test_watch_gives_up_after_a_long_outage() -> None:
    """An outage counts from when the stream broke, not from its last state."""
    view = Watched()
    done = watched(
        [RUNNING, lambda: view.pass_by(7200), UNREACHABLE], [UNREACHABLE], view=view
    )

    assert [0.5, 1, 2, 4, 8, 14.5] == done.slept
    assert (1, [RUNNING], []) == (done.code, done.shown, done.ended)


def test_watch_gives_up_where_it_is_asked_to_wait_too_long() -> None:
    """A wait beyond the timeout isn't begun; the failure tells how long it is."""
    done = watched([RUNNING, broken("GATEWAY_OVERLOADED", 60)])

    assert (1, []) == (done.code, done.slept)
    assert [
        "UNAVAILABLE GATEWAY_OVERLOADED It is so.",
        "  retry in 1m",
        "  request id: call-7",
    ] == done.failures.splitlines()


@pytest.mark.parametrize(
    "break_",
    [
        broken("RUN_NOT_FOUND", code=grpc.StatusCode.NOT_FOUND),
        broken("RUN_REPLACED", code=grpc.StatusCode.NOT_FOUND),
        broken("GATEWAY_INTERNAL", 1, grpc.StatusCode.INTERNAL),
        broken("RESPONSE_TOO_LARGE", code=grpc.StatusCode.RESOURCE_EXHAUSTED),
        broken("TOKEN_MISSING", code=grpc.StatusCode.UNAUTHENTICATED),
        broken("CALLER_NOT_AUTHORIZED", code=grpc.StatusCode.PERMISSION_DENIED),
    ],
    ids=[
        *("not-found", "replaced", "internal", "too-large"),
        *("no-token", "not-authorized"),
    ],
)
def test_watch_ends_by_what_does_not_pass(break_: Break) -> None:
    """A failure that another try can't mend is told, also after states."""
    done = watched([RUNNING, break_])

    assert (1, [RUNNING], [], []) == (done.code, done.shown, done.ended, done.slept)
    assert done.failures.startswith(f"{break_.code.name} ")
    assert done.failures.endswith("  request id: call-7\n")


class Seeing(Watched):
    """A view that says when it has shown a state."""

    def __init__(self, seen: Semaphore) -> None:
        """Release `seen` for each."""
        super().__init__()
        self._seen = seen

    def show(self, run: Run) -> None:
        """Take note, and say so."""
        super().show(run)
        self._seen.release()


@pytest.mark.parametrize("cut", CUTS)
def test_watch_resumes_after_a_stream_that_a_proxy_ends(cut: str) -> None:
    """However a stream is ended on its way, the next goes on from what was seen."""
    failures = io.StringIO()
    states = [RUNNING, state("RUNNING", name="b"), state("STOPPING"), COMPLETED]
    with (
        proxy([CUTS[cut]] * 3, states) as (address, cutting),
        grpc.insecure_channel(
            address, options=[("grpc.enable_http_proxy", 0), *WATCH_OPTIONS]
        ) as channel,
    ):
        view = Seeing(cutting.seen)
        code = watch(
            *(channel, "7", view, failures),
            timeout=timedelta(seconds=30),
            sleep=view.sleep,
            clock=lambda: view.now,
            jitter=lambda: 0.5,
        )

    assert (0, "", states) == (code, failures.getvalue(), view.shown)
    assert ["", "u-7", "u-7", "u-7"] == [each.uuid for each in cutting.requests]
    assert [0.5] * 3 == view.slept


def cut(code: grpc.StatusCode) -> Break:
    """Break as something does that is no gateway."""
    return Break(code, "Stream removed")


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    ],
)
def test_watch_tells_of_cuts_only_where_they_go_on(code: grpc.StatusCode) -> None:
    """A stream that is cut now and then is resumed quietly, and given up in time."""
    quiet = watched([RUNNING, cut(code)], [RUNNING, cut(code)], [COMPLETED])
    lasting = watched([RUNNING, cut(code)], [cut(code)])

    assert (0, []) == (quiet.code, quiet.told)
    assert (1, [0.5, 1, 2, 4, 8, 14.5]) == (lasting.code, lasting.slept)
    assert ["the connection was cut; trying again in 1 s"] == lasting.told


def test_watch_asks_for_heartbeats_and_does_not_show_them() -> None:
    """A heartbeat tells that the way is open, and nothing about the run."""
    view = Watched()
    heartbeat = WatchRunResponse()
    done = watched(
        [RUNNING, heartbeat, UNREACHABLE],
        [heartbeat, lambda: view.pass_by(7200), UNREACHABLE],
        [heartbeat, COMPLETED],
        view=view,
    )

    assert (0, [RUNNING, COMPLETED]) == (done.code, done.shown)


def test_watch_without_a_state_says_so_once() -> None:
    """Until the first state comes, a heartbeat is the only sign of the gateway."""
    heartbeat = WatchRunResponse()
    done = watched([heartbeat, heartbeat, COMPLETED, heartbeat])

    assert ["no state of the run yet; run `get 7` to find out why"] == done.told
    assert [COMPLETED] == done.shown


def test_watch_is_begun_again_with_the_next_token_once_the_last_has_expired() -> None:
    """A token that ends during a watch is read anew; one that stays is a failure."""
    expired = broken("TOKEN_EXPIRED", code=grpc.StatusCode.UNAUTHENTICATED)
    tokens = iter(["a", "b"])
    done = watched(
        [RUNNING, expired],
        [COMPLETED],
        metadata=lambda: [("authorization", next(tokens))],
    )
    stale = watched([RUNNING, expired], [expired])

    assert (0, ["a", "b"], [0.5]) == (done.code, done.callers, done.slept)
    assert (1, [0.5]) == (stale.code, stale.slept)


@pytest.mark.parametrize("break_", [UNREACHABLE, broken("RUN_NOT_FOUND", None)])
def test_watch_that_breaks_after_the_end_is_done(break_: Break) -> None:
    """Once the run's end is known, it makes no difference how the stream ends."""
    done = watched([state("FAILED"), break_])

    assert (3, "", [state("FAILED")]) == (done.code, done.failures, done.ended)
