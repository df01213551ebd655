"""GetRun through grpcio-testing, and WatchRun over real streams."""

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
from healthomics_gateway.cli.reconnect import RetryPolicy
from healthomics_gateway.cli.run_view import STYLES
from healthomics_gateway.runs.watch_state import TERMINAL
from testkit.cutting_proxy import CUTS, proxy

SERVICE = run_service_pb2.DESCRIPTOR.services_by_name["RunService"]
NOW = datetime(2025, 11, 18, 10, 0, tzinfo=UTC)
TRAILERS = (("x-request-id", "call-7"), ("x-amzn-requestid", "aws-7"))


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one call."""

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
    """Make one call, end it as given, and return what it wrote."""
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
    """Make one call that the gateway refuses with error details."""
    trailers = rich_trailers(code, reason, message, *details)
    return call(code=code, message=message, trailers=trailers, **given)


def rich_trailers(
    code: grpc.StatusCode, reason: str, message: str, *details: Message
) -> tuple[tuple[str, str | bytes], ...]:
    """Return the trailers of a gateway's error."""
    status = Status(code=code.value[0], message=message)
    info = ErrorInfo(reason=reason, domain="healthomics-gateway")
    for each in (info, RequestInfo(request_id="call-7"), *details):
        status.details.add().Pack(each)
    return (*TRAILERS, ("grpc-status-details-bin", status.SerializeToString()))


def running(**more: Any) -> Run:
    """Return a run that has been running for an hour."""
    run = Run(id="7", status=RunStatus.RUN_STATUS_RUNNING, **more)
    run.start_time.FromJsonString("2025-11-18T09:00:00Z")
    return run


def test_get_sends_its_options() -> None:
    """The id, the exports and the staleness are sent as given."""
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


def test_get_leaves_options_unset() -> None:
    """Without options the gateway's defaults apply; a staleness of 0 is an option."""
    assert GetRunRequest(id="7") == call(answer=running()).request
    asked = call(answer=running(), max_staleness=timedelta(0)).request

    assert asked.HasField("max_staleness")


def test_get_sends_metadata() -> None:
    """The given metadata is sent with the request."""
    notes = call(answer=running(), metadata=lambda: [("authorization", "Bearer token")])

    assert "Bearer token" == notes.metadata["authorization"]
    assert "authorization" not in call(answer=running()).metadata


def test_get_writes_a_run_as_text() -> None:
    """The run goes to one stream, nothing to the other, and the code is 0."""
    done = call(answer=running(name="exome", run_output_uri="s3://bucket/" + "x" * 200))

    assert (0, "") == (done.code, done.failures)
    assert [
        "Run 7  RUNNING",
        "  name        exome",
        "  ran         1h 0m so far",
        f"  outputs     s3://bucket/{'x' * 200}",
    ] == done.answers.splitlines()


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/]", ":smile:", "[link=x]"])
def test_get_escapes_markup(name: str) -> None:
    """Markup in the text of a run is written as it is."""
    assert f"  name        {name}\n" in call(answer=running(name=name)).answers


def test_get_writes_json_on_one_line() -> None:
    """With `--json` the run is one line with AWS's names of its members."""
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


def test_failure_has_status_reason_message_and_request_id() -> None:
    """A refusal goes only to the stream of failures, and the code is 1."""
    done = refused(
        grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND", "There is no run with this id."
    )

    assert (1, "") == (done.code, done.answers)
    assert [
        "NOT_FOUND RUN_NOT_FOUND There is no run with this id.",
        "  request id: call-7",
    ] == done.failures.splitlines()


def test_failure_lists_field_violations() -> None:
    """Each field violation has its own line."""
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


def test_failure_shows_the_retry_delay() -> None:
    """A refusal with a retry delay shows it."""
    retry = RetryInfo(retry_delay=Duration(seconds=1, nanos=250_000_000))
    done = refused(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "UPSTREAM_THROTTLED", "Used up.", retry
    )

    assert "  retry in 1250ms" in done.failures.splitlines()


def test_failure_without_a_gateway_suggests_the_address() -> None:
    """If no gateway has answered, `--address` is suggested."""
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
def test_failure_to_connect_suggests_a_flag(
    words: str, hint: str, transport: str
) -> None:
    """The flag depends on gRPC's message about the connection."""
    message = f"failed to connect to all addresses; last error: UNKNOWN: {words}"
    done = call(
        code=grpc.StatusCode.UNAVAILABLE,
        message=message,
        trailers=(),
        transport=transport,
    )

    assert [f"UNAVAILABLE {message}", f"  {hint}"] == done.failures.splitlines()


def test_failure_after_connecting_suggests_no_tls_flag() -> None:
    """A gateway that closes an open connection isn't taken for one with TLS."""
    done = call(code=grpc.StatusCode.UNAVAILABLE, message="Socket closed", trailers=())

    assert "--tls" not in done.failures


@pytest.mark.parametrize(
    "reason", ["TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED", ""]
)
def test_unauthenticated_call_suggests_credentials(reason: str) -> None:
    """An unauthenticated caller is shown the flags for credentials."""
    done = refused(grpc.StatusCode.UNAUTHENTICATED, reason, "It is so.")

    assert [
        (
            "  send a valid token with --token-file, or a certificate with --tls-cert"
            " and --tls-key"
        ),
        "  request id: call-7",
    ] == done.failures.splitlines()[1:]


def test_unauthenticated_call_on_a_unix_socket_suggests_no_certificate() -> None:
    """A Unix socket has no TLS, so only a token is suggested."""
    code = grpc.StatusCode.UNAUTHENTICATED
    done = refused(code, "TOKEN_MISSING", "It is so.", transport="unix")

    assert "  send a valid token with --token-file" == done.failures.splitlines()[1]


def test_failure_by_timeout_suggests_a_longer_one() -> None:
    """If the deadline has passed, `--timeout` is suggested."""
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
def test_failure_with_invalid_details_is_shown_without_them(rich: bytes) -> None:
    """Invalid details, as a proxy may send them, cause no crash."""
    done = call(
        code=grpc.StatusCode.NOT_FOUND,
        message="It is gone.",
        trailers=[("grpc-status-details-bin", rich)],
    )

    assert (1, "NOT_FOUND It is gone.") == (done.code, done.failures.splitlines()[0])


def test_failure_has_no_control_characters() -> None:
    """An error message can't send control characters to the terminal."""
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
    """Return a run with a status."""
    number = RunStatus.Value(f"RUN_STATUS_{word}") if word else None
    return Run(id="7", uuid="u-7", status=number, **more)


PENDING, RUNNING, COMPLETED = (
    state(word) for word in ("PENDING", "RUNNING", "COMPLETED")
)


@dataclass(frozen=True, slots=True)
class Break:
    """The error that breaks a stream."""

    code: grpc.StatusCode
    message: str
    trailers: Sequence[tuple[str, str | bytes]] = ()


def broken(
    reason: str,
    seconds: float | None = None,
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
) -> Break:
    """Return a break by a gateway with a reason; `seconds` are RetryInfo's."""
    retry = RetryInfo()
    if seconds is not None:
        retry.retry_delay.FromTimedelta(timedelta(seconds=seconds))
    details = [] if seconds is None else [retry]
    return Break(code, "It is so.", rich_trailers(code, reason, "It is so.", *details))


RENEW = broken("WATCH_RENEW", 0.05)
UNREACHABLE = Break(grpc.StatusCode.UNAVAILABLE, "connection refused")

Step = Run | WatchRunResponse | Break | Callable[[], None]


class Streams(RunServiceServicer):
    """A gateway that plays a script for each stream, step by step."""

    def __init__(self, *streams: Sequence[Step]) -> None:
        """Play `streams` in order; the last one repeats."""
        self._streams = streams
        self.requests: list[WatchRunRequest] = []
        self.callers: list[str] = []

    def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self, request: WatchRunRequest, context: Any
    ) -> Iterator[WatchRunResponse]:
        """Send runs, then break or end."""
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
    """Serve the streams; yield a channel to them."""
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
    """The result of a watch; it is also its view and its clock."""

    shown: list[Run] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ended: list[Run] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    requests: list[WatchRunRequest] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    failures: str = ""
    code: int = -1
    now: float = 1000.0
    is_open: bool = False

    def __enter__(self) -> Self:
        """Record that it is open."""
        self.is_open = True
        return self

    def __exit__(self, *_exc: object) -> None:
        """Record that it is closed."""
        self.is_open = False

    def show(self, run: Run) -> None:
        """Record it."""
        assert self.is_open
        self.shown.append(run)

    def note(self, line: str) -> None:
        """Record it."""
        assert self.is_open
        self.notes.append(line)

    def end(self, run: Run) -> None:
        """Record it."""
        assert not self.is_open
        self.ended.append(run)

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        """Advance the clock, and record the time."""
        self.slept.append(seconds)
        self.advance(seconds)


def watched(
    *streams: Sequence[Step],
    view: Watched | None = None,
    jitter: float = 0.5,
    seconds: float = 30.0,
    **ask: Any,
) -> Watched:
    """Watch run 7 to its end, with a simulated clock."""
    served, done, failures = Streams(*streams), view or Watched(), io.StringIO()
    with streaming(served) as channel:
        done.code = watch(
            *(channel, "7", done, failures),
            policy=RetryPolicy(seconds, clock=lambda: done.now, jitter=lambda: jitter),
            sleep=done.sleep,
            **ask,
        )
    done.failures = failures.getvalue()
    done.requests, done.callers = served.requests, served.callers
    return done


def observed(run: Run, second: int) -> Run:
    """Return the same state, observed at that second."""
    copy = Run()
    copy.CopyFrom(run)
    copy.observe_time.FromSeconds(second)
    return copy


def test_watch_shows_each_state_and_then_the_last() -> None:
    """States come in order, then the final one is shown, and the code is 0."""
    done = watched([PENDING, RUNNING, COMPLETED])

    assert [PENDING, RUNNING, COMPLETED] == done.shown
    assert [COMPLETED] == done.ended
    assert (0, [], [], "") == (done.code, done.notes, done.slept, done.failures)


@pytest.mark.parametrize(
    ("word", "code"),
    [("COMPLETED", 0), ("FAILED", 3), ("CANCELLED", 3), ("DELETED", 3)],
)
def test_watch_exits_with_the_code_of_the_final_status(word: str, code: int) -> None:
    """A run that wasn't completed has its own exit code."""
    done = watched([state(word)])

    assert (code, [state(word)]) == (done.code, done.ended)


def test_every_final_status_has_an_exit_code() -> None:
    """Every final status of the gateway has an exit code and a colour."""
    assert TERMINAL == ENDINGS.keys() == STYLES.keys()


@pytest.mark.parametrize(
    ("runs", "last"), [([state(name="exome")], state(name="exome")), ([], Run(id="7"))]
)
def test_watch_with_a_withheld_status_fails(runs: list[Run], last: Run) -> None:
    """A stream that ends OK without a final status isn't a success."""
    done = watched(runs)

    assert (1, runs, [last]) == (done.code, done.shown, done.ended)
    assert "the run's final status is unknown" in done.failures


def test_watch_sends_its_options() -> None:
    """The interval is sent as given; without options it isn't set, nor is a uuid."""
    requests = watched([COMPLETED], min_interval=timedelta(seconds=1.5)).requests
    default = watched([COMPLETED]).requests

    interval = Duration(seconds=1, nanos=500_000_000)
    beat = Duration(seconds=20)
    assert [
        WatchRunRequest(id="7", min_interval=interval, heartbeat_interval=beat)
    ] == requests
    assert [WatchRunRequest(id="7", heartbeat_interval=beat)] == default


def test_watch_resumes_with_the_uuid() -> None:
    """The next stream asks for the same uuid, with the same interval."""
    done = watched(
        [RUNNING, UNREACHABLE], [COMPLETED], min_interval=timedelta(seconds=2)
    )

    assert [("", 2), ("u-7", 2)] == [
        (each.uuid, each.min_interval.seconds) for each in done.requests
    ]
    assert (0, [RUNNING, COMPLETED]) == (done.code, done.shown)


def test_watch_reads_the_metadata_for_each_stream() -> None:
    """The token may have been replaced since the previous stream."""
    tokens = iter(["first", "second", "third"])
    done = watched(
        *([RUNNING, UNREACHABLE], [RENEW], [COMPLETED]),
        metadata=lambda: [("authorization", next(tokens))],
    )

    assert (0, ["first", "second", "third"]) == (done.code, done.callers)


def test_watch_shows_a_repeated_snapshot_once() -> None:
    """A state that differs only in its time of observation isn't new."""
    done = watched(
        [observed(PENDING, 1), observed(RUNNING, 2), RENEW],
        [observed(RUNNING, 9), COMPLETED],
    )

    assert [observed(PENDING, 1), observed(RUNNING, 2), COMPLETED] == done.shown


def test_watch_shows_changes_after_reconnecting() -> None:
    """A snapshot that differs in any member is shown."""
    tagged = state("RUNNING", tags={"a": "b"})

    assert [RUNNING, tagged, COMPLETED] == watched(
        [RUNNING, RENEW], [tagged, COMPLETED]
    ).shown


def test_watch_renews_silently() -> None:
    """WATCH_RENEW isn't an outage, however often it comes, at any timeout."""
    done = watched(*[[RUNNING, RENEW]] * 3, [COMPLETED], seconds=0)

    assert (0, [0.05] * 3, []) == (done.code, done.slept, done.notes)


def test_watch_renews_without_a_state() -> None:
    """WATCH_RENEW counts as an answer even if no state has come."""
    view = Watched()
    wait = lambda: view.advance(600)  # noqa: E731  # a step
    done = watched([wait, RENEW], [wait, RENEW], [UNREACHABLE], [COMPLETED], view=view)

    assert (0, [0.05, 0.05, 0.5]) == (done.code, done.slept)


def test_watch_backs_off_until_a_state_comes() -> None:
    """The waits double up to 30 s, and start again after a success."""
    done = watched(
        *[[UNREACHABLE]] * 8, [RUNNING, UNREACHABLE], [COMPLETED], seconds=3600
    )

    assert [0.5, 1, 2, 4, 8, 16, 30, 30, 0.5] == done.slept
    assert 0 == done.code


@pytest.mark.parametrize(("jitter", "seconds"), [(0.0, 0.4), (0.99, 0.598)])
def test_watch_retries_with_jitter(jitter: float, seconds: float) -> None:
    """Not all clients of a failed gateway retry at the same time."""
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
def test_watch_waits_for_the_retry_delay(break_: Break) -> None:
    """RetryInfo's delay replaces the back-off."""
    done = watched([break_], [break_], [RUNNING, break_], [COMPLETED])

    assert (0, [1.5, 1.5, 1.5]) == (done.code, done.slept)


def test_watch_reports_each_outage_once() -> None:
    """Each broken connection has one line: the cause and the next attempt."""
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
    ] == done.notes


@pytest.mark.parametrize(
    ("transport", "flags"),
    [("plaintext", "--tls or --tls-ca"), ("tls", "--tls-cert and --tls-key")],
)
def test_watch_suggests_a_flag_at_once(flags: str, transport: str) -> None:
    """A TLS error is reported before the timeout."""
    message = "failed to connect to all addresses; last error: UNKNOWN: Socket closed"
    cut = Break(grpc.StatusCode.UNAVAILABLE, message)
    done = watched([cut], transport=transport, seconds=1)
    _, hint = done.failures.splitlines()

    assert flags in hint
    assert [f"{hint.strip()}; trying again in 0.5 s"] == done.notes


def test_watch_has_no_control_characters() -> None:
    """The reason of an outage can't send control characters to the terminal."""
    done = watched([broken("RED\x1b[31m", 1)], [COMPLETED])

    assert ["RED [31m It is so. Trying again in 1 s"] == done.notes


def test_watch_fails_without_a_gateway() -> None:
    """After the timeout and one last attempt, the failure is written."""
    done = watched([UNREACHABLE])

    assert [0.5, 1, 2, 4, 8, 14.5] == done.slept
    assert (1, [], []) == (done.code, done.shown, done.ended)
    assert [
        "UNAVAILABLE connection refused",
        "  no gateway answered; check --address",
    ] == done.failures.splitlines()


def test_watch_fails_after_a_long_outage() -> None:
    """An outage starts when the stream breaks, not at its last state."""
    view = Watched()
    done = watched(
        [RUNNING, lambda: view.advance(7200), UNREACHABLE], [UNREACHABLE], view=view
    )

    assert [0.5, 1, 2, 4, 8, 14.5] == done.slept
    assert (1, [RUNNING], []) == (done.code, done.shown, done.ended)


def test_watch_fails_if_the_retry_delay_is_too_long() -> None:
    """It doesn't wait beyond the timeout; the failure shows the delay."""
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
def test_watch_fails_by_a_permanent_error(break_: Break) -> None:
    """An error that a retry can't fix ends the watch, also after states."""
    done = watched([RUNNING, break_])

    assert (1, [RUNNING], [], []) == (done.code, done.shown, done.ended, done.slept)
    assert done.failures.startswith(f"{break_.code.name} ")
    assert done.failures.endswith("  request id: call-7\n")


class SignallingView(Watched):
    """A view that signals when it has shown a state."""

    def __init__(self, seen: Semaphore) -> None:
        """Release `seen` for each state."""
        super().__init__()
        self._seen = seen

    def show(self, run: Run) -> None:
        """Record it, and signal that."""
        super().show(run)
        self._seen.release()


@pytest.mark.parametrize("cut", CUTS)
def test_watch_resumes_after_a_proxy_ends_the_stream(cut: str) -> None:
    """However the stream is cut, the next one continues from the last state."""
    failures = io.StringIO()
    states = [RUNNING, state("RUNNING", name="b"), state("STOPPING"), COMPLETED]
    with (
        proxy([CUTS[cut]] * 3, states) as (address, cutting),
        grpc.insecure_channel(
            address, options=[("grpc.enable_http_proxy", 0), *WATCH_OPTIONS]
        ) as channel,
    ):
        view = SignallingView(cutting.seen)
        code = watch(
            *(channel, "7", view, failures),
            policy=RetryPolicy(30.0, clock=lambda: view.now, jitter=lambda: 0.5),
            sleep=view.sleep,
        )

    assert (0, "", states) == (code, failures.getvalue(), view.shown)
    assert ["", "u-7", "u-7", "u-7"] == [each.uuid for each in cutting.requests]
    # As no time passes between two streams, the channel may not have noticed yet that
    # its connection was closed: then one more stream fails, and waits longer.
    again = 1.0 if cut in ("go-away", "hang-up") else None
    assert [0.5] * 3 == [each for each in view.slept if each != again]


def cut(code: grpc.StatusCode) -> Break:
    """Return a break without error details, as by a proxy."""
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
def test_watch_reports_only_repeated_cuts(code: grpc.StatusCode) -> None:
    """A single cut is resumed silently; repeated ones end the watch in time."""
    quiet = watched([RUNNING, cut(code)], [RUNNING, cut(code)], [COMPLETED])
    lasting = watched([RUNNING, cut(code)], [cut(code)])

    assert (0, []) == (quiet.code, quiet.notes)
    assert (1, [0.5, 1, 2, 4, 8, 14.5]) == (lasting.code, lasting.slept)
    assert ["the connection was cut; trying again in 1 s"] == lasting.notes


def test_watch_requests_heartbeats_and_hides_them() -> None:
    """A heartbeat shows that the connection works, and nothing about the run."""
    view = Watched()
    heartbeat = WatchRunResponse()
    done = watched(
        [RUNNING, heartbeat, UNREACHABLE],
        [heartbeat, lambda: view.advance(7200), UNREACHABLE],
        [heartbeat, COMPLETED],
        view=view,
    )

    assert (0, [RUNNING, COMPLETED]) == (done.code, done.shown)


def test_watch_reports_a_missing_state_once() -> None:
    """Before the first state, a heartbeat is the only sign of the gateway."""
    heartbeat = WatchRunResponse()
    done = watched([heartbeat, heartbeat, COMPLETED, heartbeat])

    assert ["no state of the run yet; run `get 7` to find out why"] == done.notes
    assert [COMPLETED] == done.shown


def test_watch_resumes_with_a_new_token() -> None:
    """An expired token is read again; if it is the same, the watch fails."""
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
def test_watch_ignores_errors_after_the_final_state(break_: Break) -> None:
    """After the final state, an error of the stream doesn't matter."""
    done = watched([state("FAILED"), break_])

    assert (3, "", [state("FAILED")]) == (done.code, done.failures, done.ended)
