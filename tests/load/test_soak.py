"""The parts that decide a soak: what was served, the allowed results, the verdict."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.errors.status import status_of
from healthomics_gateway.upstream.translate import run_from_json
from load.soaking.judge import (
    CODES,
    DETAILS,
    LATE,
    SESSION_TOKEN,
    Asked,
    CallEnd,
    Judge,
)
from load.soaking.ledger import KEPT_SECONDS, Ledger, Served
from load.soaking.lies import lie
from load.soaking.process import (
    Log,
    connections_to,
    memory_and_threads,
    open_files,
)
from load.soaking.record import MAX_PRINTED, Record
from load.soaking.samples import Sample, verdict
from load.soaking.upstream import SoakUpstream
from testkit.fault_table import CASES

ID, OTHER = "1000007", "1000008"
BEGUN, ENDED = 100.0, 100.2  # of a usual call
CALL_ID, AWS_ID, OLD_AWS_ID = "soak-1", "aws-1", "aws-0"
TEXT = (
    f'{{"id": "{ID}", "name": "exome", "priority": 7, "novel": [1.50],'
    ' "logLocation": {"runLogStream": "stream", "engineLogStream": "engine"}}'
)

# ---- builders ----


def served(at: float = 100.1, **fields: Any) -> Served:
    """Return an answer of the upstream: the truth, unless `fields` make it a fault."""
    if "reasons" in fields:
        fields["reasons"] = frozenset(fields["reasons"])
        return Served(at, fields.pop("request_id", AWS_ID), **fields)
    return Served(at, fields.pop("request_id", AWS_ID), **{"text": TEXT, **fields})


def ledger_of(*answers: Served, run_id: str = ID) -> Ledger:
    """Return a ledger of answers about one run."""
    made = Ledger()
    for each in answers:
        made.serve(run_id, each)
    return made


def asked(**fields: Any) -> Asked:
    """Return a usual call."""
    return replace(Asked(BEGUN, 10.0, CALL_ID, ID), **fields)


def answered(
    text: str = TEXT,
    *,
    aws_id: str = AWS_ID,
    call_id: str = CALL_ID,
    observed: float = 100.1,
    without: str = "",
) -> CallEnd:
    """Return the end of a call that was answered, as the gateway answers."""
    run = run_from_json(text.encode(), run_id=json.loads(text)["id"])
    run.observe_time.FromNanoseconds(round(observed * 1e9))
    if without:
        run.ClearField(without)
    trailers = {"x-request-id": call_id, "x-amzn-requestid": aws_id}
    return CallEnd(ENDED, run, trailers)


def failed(
    reason: str,
    *,
    code: StatusCode | None = None,
    message: str = "It failed.",
    drop: str = "",
    call_id: str = CALL_ID,
    **metadata: str,
) -> CallEnd:
    """Return the end of a call that failed, without the detail whose name is `drop`."""
    error = GatewayError(Reason[reason])
    facts = {"runId": ID, **metadata}
    status = status_of(error, metadata=facts, request_id=call_id)
    status.message = message
    kept = [each for each in status.details if not drop or drop not in each.type_url]
    del status.details[:]
    status.details.extend(kept)
    if code:
        status.code = code.value[0]
    trailers = Metadata(
        ("x-request-id", CALL_ID),
        ("grpc-status-details-bin", status.SerializeToString()),
    )
    if error.pushback_ms is not None:
        trailers.add("grpc-retry-pushback-ms", str(error.pushback_ms))
    codes = {each.value[0]: each for each in StatusCode}
    answer = AioRpcError(codes[status.code], Metadata(), trailers, message)
    return CallEnd(ENDED, answer, {})


def bare(code: StatusCode, *, ended: float = ENDED, message: str = "") -> CallEnd:
    """Return the end of a call that gRPC itself ended."""
    return CallEnd(ended, AioRpcError(code, Metadata(), Metadata(), message), {})


def faults(ledger: Ledger, call: Asked, end: CallEnd) -> list[str]:
    """Judge the end of a call, with equal clocks."""
    return list(Judge(ledger, ahead_seconds=0.0).faults(call, end))


# ---- the ledger ----


def test_ledger_returns_what_was_served_about_a_run_in_a_time() -> None:
    """Neither earlier and later answers nor those about another run are returned."""
    ledger = ledger_of(served(99.9), served(100.1), served(100.3))
    ledger.serve(OTHER, served(100.1, request_id="aws-2"))

    assert [served(100.1)] == ledger.served(ID, BEGUN, ENDED)


def test_ledger_forgets_what_no_call_can_ask_for() -> None:
    """Nothing is kept for longer than a call lasts."""
    ledger = ledger_of(served(0.0), served(KEPT_SECONDS + 1.0))

    assert [served(KEPT_SECONDS + 1.0)] == ledger.served(ID, 0.0, 1000.0)


def test_ledger_knows_an_outage_that_goes_on() -> None:
    """An outage begins at its start, and is over after its end."""
    ledger = Ledger()
    ledger.outage(50.0)
    during = ledger.had_outage(BEGUN, ENDED)
    ledger.outage(50.0, 60.0)

    assert during
    assert ledger.had_outage(59.0, 61.0)
    assert not ledger.had_outage(BEGUN, ENDED)


# ---- answers ----


@pytest.mark.parametrize(
    ("mask", "end"),
    [
        pytest.param((), answered(), id="whole"),
        pytest.param(("name",), answered(f'{{"id":"{ID}","name":"exome"}}'), id="mask"),
        pytest.param(
            ("id", "log_location.run_log_stream"),
            answered(f'{{"id":"{ID}","logLocation":{{"runLogStream":"stream"}}}}'),
            id="mask-into-structure",
        ),
    ],
)
def test_judge_accepts_what_was_served(mask: tuple[str, ...], end: CallEnd) -> None:
    """An answer with the selected part of what was served is right."""
    assert isinstance(end.answer, Run)
    if "id" not in mask and mask:
        end.answer.ClearField("id")

    assert [] == faults(ledger_of(served()), asked(mask=mask), end)


@pytest.mark.parametrize(
    ("end", "named"),
    [
        pytest.param(answered(TEXT.replace("7", "8", 2)), "priority", id="number"),
        pytest.param(answered(without="name"), "name", id="member-missing"),
        pytest.param(answered(without="unmodeled_json"), "novel", id="novelty-missing"),
        pytest.param(answered(TEXT.replace("1.50", "1.5")), "novel", id="kept-text"),
        pytest.param(
            answered(f'{TEXT[:-1]}, "tags": {{"a": "b"}}}}'), "tags", id="never-sent"
        ),
        pytest.param(answered(TEXT.replace(ID, OTHER)), "id", id="another-run"),
        pytest.param(answered(aws_id="aws-9"), "aws-9", id="never-served"),
        pytest.param(answered(aws_id=OLD_AWS_ID), OLD_AWS_ID, id="before-the-call"),
        pytest.param(answered(aws_id="aws-2"), "aws-2", id="about-another"),
        pytest.param(answered(aws_id="aws-3"), "aws-3", id="fault"),
        pytest.param(answered(call_id="soak-2"), "call's id", id="call-id"),
        pytest.param(answered(observed=90.0), "observed", id="stale"),
        pytest.param(answered(without="observe_time"), "observed", id="time-missing"),
    ],
)
def test_judge_notices_a_wrong_answer(end: CallEnd, named: str) -> None:
    """An answer that isn't what was served during the call is a named fault."""
    ledger = ledger_of(served(99.5, request_id=OLD_AWS_ID), served())
    ledger.serve(ID, served(reasons=["RUN_NOT_FOUND"], request_id="aws-3"))
    ledger.serve(OTHER, served(request_id="aws-2"))

    assert any(named in fault for fault in faults(ledger, asked(), end))


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        pytest.param(("name",), "priority", id="more"),
        pytest.param(("log_location.run_log_stream",), "engineLogStream", id="inside"),
    ],
)
def test_judge_notices_more_than_the_mask(mask: tuple[str, ...], named: str) -> None:
    """A member outside the mask is a fault."""
    found = faults(ledger_of(served()), asked(mask=mask), answered())

    assert any(named in fault for fault in found)


@pytest.mark.parametrize(
    ("staleness", "end", "is_right"),
    [
        pytest.param(5.0, answered(aws_id=OLD_AWS_ID, observed=96.1), True, id="old"),
        pytest.param(5.0, answered(), True, id="new"),
        pytest.param(0.0, answered(aws_id=OLD_AWS_ID), False, id="fresh"),
        pytest.param(
            2.0, answered(aws_id=OLD_AWS_ID, observed=96.1), False, id="too-old"
        ),
        pytest.param(
            5.0,
            answered(TEXT.replace("7", "8", 2), aws_id=OLD_AWS_ID),
            False,
            id="wrong",
        ),
    ],
)
def test_judge_allows_a_remembered_answer_of_its_age(
    staleness: float, end: CallEnd, *, is_right: bool
) -> None:
    """A call that allows an older answer gets a truth that is no older."""
    ledger = ledger_of(served(96.0, request_id=OLD_AWS_ID), served())
    call = asked(staleness_seconds=staleness)

    assert is_right == ([] == faults(ledger, call, end))


def test_judge_notices_an_answer_to_a_bad_request() -> None:
    """A call that must be refused before the upstream is called must not succeed."""
    call = asked(run_id="", expected="INVALID_REQUEST")

    assert ["OK where INVALID_REQUEST must come"] == faults(
        ledger_of(served()), call, answered()
    )


# ---- errors ----


@pytest.mark.parametrize("reason", sorted(CODES.keys() - LATE - {"DEADLINE_TOO_SHORT"}))
def test_judge_accepts_a_fault_that_was_served(reason: str) -> None:
    """Every reason has its row, and the gateway's status of it is right."""
    ledger = ledger_of(served(reasons=[reason]))

    assert [] == faults(ledger, asked(), failed(reason, awsRequestId=AWS_ID))


@pytest.mark.guarantee("soak")
@pytest.mark.parametrize(
    ("end", "named"),
    [
        pytest.param(failed("RUN_NOT_FOUND"), "RUN_NOT_FOUND where", id="reason"),
        pytest.param(
            failed("UPSTREAM_TIMEOUT", code=StatusCode.INTERNAL), "INTERNAL", id="code"
        ),
        pytest.param(
            failed("UPSTREAM_TIMEOUT", drop="RetryInfo"), "details", id="no-detail"
        ),
        pytest.param(
            failed("UPSTREAM_TIMEOUT", drop="RequestInfo"), "malformed", id="no-id"
        ),
        pytest.param(
            failed("UPSTREAM_TIMEOUT", message="arn:aws:x"), "'arn:'", id="canary"
        ),
        pytest.param(
            failed("UPSTREAM_TIMEOUT", message=SESSION_TOKEN), "canary", id="token"
        ),
        pytest.param(failed("UPSTREAM_TIMEOUT", runId=OTHER), OTHER, id="another-run"),
        pytest.param(
            failed("UPSTREAM_TIMEOUT", awsRequestId="aws-9"), "aws-9", id="never-served"
        ),
        pytest.param(
            failed("UPSTREAM_TIMEOUT", call_id="soak-2"), "malformed", id="call-id"
        ),
        pytest.param(bare(StatusCode.UNAVAILABLE), "UNAVAILABLE", id="no-details"),
        pytest.param(bare(StatusCode.UNKNOWN, message="<class 'X'>"), "<class", id="x"),
    ],
)
def test_judge_notices_a_wrong_error(end: CallEnd, named: str) -> None:
    """An error other than the row of what was served is a named fault."""
    ledger = ledger_of(served(reasons=["UPSTREAM_TIMEOUT"]))

    assert any(named in fault for fault in faults(ledger, asked(), end))


def test_judge_notices_an_error_where_the_truth_was_served() -> None:
    """An error is a fault if only the truth was served."""
    found = faults(ledger_of(served()), asked(), failed("UPSTREAM_CONNECTION"))

    assert ["UPSTREAM_CONNECTION where no error may come"] == found


def test_judge_allows_failed_connections_during_an_outage() -> None:
    """During an outage of the upstream the connection may fail."""
    ledger = Ledger()
    ledger.outage(99.0)

    assert [] == faults(ledger, asked(), failed("UPSTREAM_CONNECTION"))


# ---- the ends that callers make ----


@pytest.mark.parametrize(
    ("call", "end", "lasts", "is_right"),
    [
        pytest.param(
            asked(),
            bare(StatusCode.DEADLINE_EXCEEDED, ended=110.0),
            0.0,
            False,
            id="idle",
        ),
        pytest.param(
            asked(),
            bare(StatusCode.DEADLINE_EXCEEDED, ended=110.0),
            9.6,
            True,
            id="busy",
        ),
        pytest.param(
            asked(seconds=0.05), failed("DEADLINE_TOO_SHORT"), 0.0, True, id="short"
        ),
        pytest.param(asked(), failed("DEADLINE_TOO_SHORT"), 9.6, False, id="not-short"),
        pytest.param(
            asked(seconds=0.05), failed("GATEWAY_OVERLOADED"), 0.0, True, id="crowded"
        ),
        pytest.param(
            asked(), failed("GATEWAY_OVERLOADED"), 9.6, False, id="not-crowded"
        ),
        pytest.param(
            asked(leaves=True), CallEnd(ENDED, None, {}), 0.0, True, id="left"
        ),
        pytest.param(asked(), bare(StatusCode.CANCELLED), 0.0, False, id="cut-off"),
    ],
)
def test_judge_allows_late_ends_during_an_attempt(
    call: Asked, end: CallEnd, lasts: float, *, is_right: bool
) -> None:
    """A deadline passes only in an attempt; only a caller that leaves has no end."""
    found = faults(ledger_of(served(lasts_seconds=lasts)), call, end)

    assert is_right == (found == [])


@pytest.mark.parametrize(
    ("seconds", "is_right"),
    [
        pytest.param(1.5, True, id="within-the-wait"),
        pytest.param(10.0, False, id="long-after-it"),
    ],
)
def test_judge_allows_a_deadline_in_the_attempt_after_a_throttle(
    seconds: float, *, is_right: bool
) -> None:
    """The gateway waits up to a second before it retries."""
    ledger = ledger_of(served(reasons=["UPSTREAM_THROTTLED"]))
    end = bare(StatusCode.DEADLINE_EXCEEDED, ended=BEGUN + seconds)

    assert is_right == ([] == faults(ledger, asked(seconds=seconds), end))


@pytest.mark.parametrize(
    ("seconds", "reason", "is_right"),
    [
        pytest.param(0.05, "UPSTREAM_THROTTLED", True, id="of-a-short-call"),
        pytest.param(10.0, "UPSTREAM_THROTTLED", False, id="of-a-call-with-time"),
        pytest.param(0.05, "UPSTREAM_INTERNAL", False, id="without-a-throttle"),
    ],
)
def test_judge_allows_a_throttle_of_another_run(
    seconds: float, reason: str, *, is_right: bool
) -> None:
    """A throttle of any run empties the bucket, and a call may have no time to wait."""
    ledger = Ledger()
    ledger.serve("another", served(reasons=[reason]))
    found = faults(ledger, asked(seconds=seconds), failed("UPSTREAM_THROTTLED"))

    assert is_right == (found == [])


@pytest.mark.parametrize(
    ("is_shared", "seconds", "is_right"),
    [
        pytest.param(True, 0.8, True, id="shared"),
        pytest.param(False, 0.8, False, id="own"),
        pytest.param(True, 10.0, False, id="with-time"),
    ],
)
def test_judge_allows_a_short_call_to_get_no_token_of_a_store(
    seconds: float, *, is_shared: bool, is_right: bool
) -> None:
    """A process that has lost the store has no tokens for a second."""
    judge = Judge(ledger_of(served()), ahead_seconds=0.0, is_shared=is_shared)
    found = list(judge.faults(asked(seconds=seconds), failed("UPSTREAM_THROTTLED")))

    assert is_right == (found == [])


@pytest.mark.parametrize(
    ("code", "is_right"),
    [
        pytest.param(StatusCode.RESOURCE_EXHAUSTED, True, id="refused"),
        pytest.param(StatusCode.UNAVAILABLE, True, id="connection-at-its-end"),
        pytest.param(StatusCode.CANCELLED, False, id="cancelled"),
    ],
)
def test_judge_allows_refusals_of_grpc_itself(
    code: StatusCode, *, is_right: bool
) -> None:
    """A call that gRPC itself refuses has its code, or that of a closing connection."""
    call = asked(run_id="", expected="RESOURCE_EXHAUSTED without details")

    assert is_right == ([] == faults(Ledger(), call, bare(code)))


def test_judge_notices_a_call_that_outlives_its_deadline() -> None:
    """A call that isn't answered a second after its deadline was forgotten."""
    ledger = ledger_of(served(lasts_seconds=10.0))
    late = bare(StatusCode.DEADLINE_EXCEEDED, ended=111.5)

    assert ["it ended after 11.50 s, its deadline being 10.0 s"] == faults(
        ledger, asked(), late
    )


def test_judge_ignores_times_while_the_soak_is_delayed() -> None:
    """A delay that the soak itself may have caused isn't the gateway's fault."""
    ledger = ledger_of(served())
    ledger.stall(100.0, 101.5)
    late = bare(StatusCode.DEADLINE_EXCEEDED, ended=111.5)

    assert [] == faults(ledger, asked(), late)


# ---- what is drawn ----


def test_lies_have_a_case_and_a_row() -> None:
    """Every fault has a number in the table, and becomes reasons of the table."""
    drawn = [lie(Random(seed), ID, TEXT) for seed in range(2000)]

    assert {each.fault for each in drawn} <= CASES.keys()
    assert {reason for each in drawn for reason in each.reasons} <= CODES.keys()
    assert all(each.reasons for each in drawn)
    assert DETAILS.keys() == CODES.keys()


# ---- the upstream ----


async def test_upstream_records_a_stray() -> None:
    """A request that isn't signed, or isn't GetRun of a known run, is recorded."""
    async with SoakUpstream(Ledger(), seed=1) as upstream:
        reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        writer.write(b"GET /elsewhere/1000001 HTTP/1.1\r\nhost: here\r\n\r\n")
        await reader.readline()
        writer.close()
        await writer.wait_closed()

    assert ["/elsewhere/1000001 MissingAuthenticationTokenException"] == upstream.strays


async def test_upstream_refuses_connections_during_an_outage() -> None:
    """During an outage connections fail and the ledger says so; then they succeed."""
    ledger = Ledger()
    begun = time.monotonic()
    async with SoakUpstream(ledger, seed=1) as upstream:
        outage = asyncio.create_task(upstream.outage(0.01))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", upstream.port)
        await outage
        _, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
        writer.close()
        await writer.wait_closed()

    assert ledger.had_outage(begun, time.monotonic())
    assert not ledger.had_outage(time.monotonic(), time.monotonic() + 1)


# ---- the process ----


@pytest.mark.parametrize(
    ("line", "named"),
    [
        pytest.param(b"Traceback (most recent call last):", "one event", id="text"),
        pytest.param(b'{"event": "call"}', "one event", id="no-level"),
        pytest.param(b"[]", "one event", id="list"),
        pytest.param(b'{"event": "bug", "level": "error"}', "bug", id="bug"),
        pytest.param(
            f'{{"event": "x", "level": "info", "t": "{SESSION_TOKEN}"}}'.encode(),
            "secret",
            id="secret",
        ),
    ],
)
def test_log_reports_an_invalid_line(line: bytes, named: str) -> None:
    """A line that isn't one event, reports a bug or has a secret is a fault."""
    log = Log()
    log.take(b'{"event": "call", "level": "info"}\n')
    log.take(line)

    assert 1 == len(log.faults)
    assert named in log.faults[0]
    assert 1 == log.events["info call"]


def test_process_is_measured_from_outside(tmp_path: Path) -> None:
    """Open files, memory and threads are those of the process."""
    before = open_files(os.getpid())
    with (tmp_path / "more").open("w"):
        during = open_files(os.getpid())
    memory_mib, threads = memory_and_threads(os.getpid())

    assert before + 1 == during
    assert 10 < memory_mib < 10_000
    assert threads >= 1


def test_connections_are_those_to_the_port() -> None:
    """Only open connections that were accepted on the port are counted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        before = connections_to(port)
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            during = connections_to(port)
            accepted.close()

    assert (0, 1) == (before, during)


# ---- the verdict ----


def samples(seconds: int, **late: float) -> list[Sample]:
    """Return a flat run whose last fifth has other values."""
    flat = {"memory_mib": 100.0, "files": 30, "threads": 13, "connections": 6}
    return [
        Sample(at=float(at), **{**flat, **(late if at >= seconds * 0.8 else {})})  # type: ignore[arg-type]  # counts are integers
        for at in range(1, seconds + 1)
    ]


@pytest.mark.parametrize(
    ("late", "fails"),
    [
        pytest.param({}, [], id="flat"),
        pytest.param({"memory_mib": 104.9}, [], id="a-little-memory"),
        pytest.param({"memory_mib": 105.1}, ["memory"], id="memory"),
        pytest.param({"files": 38}, [], id="a-few-files"),
        pytest.param({"files": 39}, ["open files"], id="files"),
        pytest.param({"threads": 16}, ["threads"], id="threads"),
        pytest.param({"connections": 15}, ["upstream connections"], id="connections"),
        pytest.param(
            {"memory_mib": 200, "threads": 20}, ["memory", "threads"], id="two"
        ),
    ],
)
def test_verdict_compares_the_last_fifth_with_the_second(
    late: dict[str, float], fails: list[str]
) -> None:
    """A value that exceeds its bound at the end fails the run, by name."""
    found = [each for each in verdict(samples(600, **late)) if each.fails]

    assert fails == [each.sentence.partition(":")[0] for each in found]


def test_verdict_forgives_a_peak() -> None:
    """A peak of a few seconds isn't growth: medians are compared."""
    seen = samples(600)
    seen[550:560] = [replace(each, memory_mib=900.0) for each in seen[550:560]]

    assert not any(each.fails for each in verdict(seen))


def test_verdict_leaves_out_the_warming_up() -> None:
    """The first fifth of a run isn't compared."""
    seen = samples(600)
    seen[:115] = [replace(each, memory_mib=10.0, files=1) for each in seen[:115]]

    assert not any(each.fails for each in verdict(seen))


def test_record_counts_every_disagreement_and_prints_the_first() -> None:
    """All disagreements are counted, some are printed, and one fails the run."""
    record = Record()
    for number in range(MAX_PRINTED + 5):
        record.disagree(f"call {number}", "it is wrong")
    *printed, count = record.findings()

    assert MAX_PRINTED == len(printed)
    assert "call 0: it is wrong" == printed[0].sentence
    assert f"{MAX_PRINTED + 5} disagreements in 0 calls" == count.sentence
    assert count.fails
    assert not Record().findings()[0].fails
