"""The metrics over real sockets: each moves by what it measures."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from grpc_channelz.v1.channelz_pb2 import GetServersRequest
from grpc_channelz.v1.channelz_pb2_grpc import ChannelzStub
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from healthomics.v1.run_service_pb2 import GetRunRequest, WatchRunRequest
from healthomics_gateway.app.admin_server import MAX_CONNECTIONS
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.parts import Observability
from healthomics_gateway.settings.load import load
from healthomics_gateway.telemetry.log_writer import LogWriter
from load.attacks import FIRST_ID
from testkit.authorities import HOST, tls_settings
from testkit.blocking_clients import blocking
from testkit.builders import ANYWHERE, aws_at, calling, gateway, get_run, refused
from testkit.callers import (
    LIMS,
    OTHER,
    OURS,
    called,
    outcome,
    rule,
    settings_of_tokens,
    token,
    until,
)
from testkit.credential_server import CredentialSource, session
from testkit.lying_upstream import HANG, TRUE_ID, LyingUpstream, http, said, true_run
from testkit.metrics import OPENMETRICS, Scrape, page, parsed, scrape, settled
from testkit.sts_server import FakeSts
from testkit.sts_sessions import SessionUpstream
from testkit.tools import require

GET_RUN = {"grpc_service": "healthomics.v1.RunService", "grpc_method": "GetRun"}
WATCH_RUN = GET_RUN | {"grpc_method": "WatchRun"}
UNKNOWN = {"grpc_service": "unknown", "grpc_method": "unknown"}
HEALTH = {"grpc_service": "grpc.health.v1.Health"}
REFLECTION = "grpc.reflection.v1.ServerReflection"
STALE = {"GATEWAY_CACHE__MAX_STALENESS_LIMIT": "1h"}
QUICK = {"GATEWAY_WATCH__INTERVAL": "20ms", "GATEWAY_WATCH__MIN_INTERVAL": "10ms"}
HOUR = Duration(seconds=3600)
PATIENCE_SECONDS = 10.0


@asynccontextmanager
async def measured(
    **environ: str,
) -> AsyncIterator[tuple[Gateway, Any, LyingUpstream]]:
    """Serve a gateway over an upstream, and open a channel to it."""
    async with (
        LyingUpstream() as upstream,
        gateway(aws_at(upstream.url), **environ) as served,
        calling(served) as stub,
    ):
        yield served, stub, upstream


def handled(found: Scrape, code: str, **labels: str) -> float:
    """Return the number of calls that have ended with a code."""
    return found.value("grpc_server_handled_total", grpc_code=code, **labels)


async def unknown(channel: grpc.aio.Channel, path: str) -> None:
    """Call a method that doesn't exist."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(path)(b"", timeout=PATIENCE_SECONDS)
    assert StatusCode.UNIMPLEMENTED is caught.value.code()


async def watched(stub: Any, run_id: str) -> int:
    """Watch a run to its end; return the number of states."""
    request = WatchRunRequest(id=run_id)
    return len([each async for each in stub.WatchRun(request, timeout=10)])


async def reflect(channel: grpc.aio.Channel, requests: int) -> None:
    """Ask reflection for the list of services a number of times, in one stream."""
    stream = channel.stream_stream(
        f"/{REFLECTION}/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )(timeout=PATIENCE_SECONDS)
    for _ in range(requests):
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await stream.read()
    await stream.done_writing()
    assert grpc.aio.EOF is await stream.read()


# Calls


@pytest.mark.guarantee("measured-calls")
async def test_fetched_run_moves_the_metrics_of_its_call() -> None:
    """A call counts once as started, handled, attempted, queued, received and sent."""
    async with measured() as (served, stub, _):
        await get_run(stub, TRUE_ID)
        found = await settled(served, lambda it: handled(it, "OK", **GET_RUN) == 1)

    assert [1] * 7 == [
        found.value("grpc_server_started_total", grpc_type="unary", **GET_RUN),
        found.value("grpc_server_msg_received_total", **GET_RUN),
        found.value("grpc_server_msg_sent_total", **GET_RUN),
        found.value("grpc_server_handling_seconds_count", **GET_RUN),
        found.value("upstream_attempts_total", outcome="ok", reason=""),
        found.value("upstream_attempt_seconds_count", outcome="ok"),
        found.value("queue_wait_seconds_count", kind="call"),
    ]
    assert 0 < found.value("upstream_attempt_seconds_sum")
    assert found.value("upstream_attempt_seconds_sum") <= found.value(
        "grpc_server_handling_seconds_sum"
    )
    assert 1 == found.value("rule_calls_total", rule="")


async def test_cached_answer_counts_as_a_hit_with_its_age() -> None:
    """The first look-up is a miss, the second a hit; other requests are no look-up."""
    async with measured(**STALE) as (served, stub, _):
        await get_run(stub, TRUE_ID)
        await get_run(stub, "1000004", max_staleness=HOUR)
        await get_run(stub, TRUE_ID, max_staleness=HOUR)
        found = await scrape(served)

    assert (1, 1) == (
        found.value("cache_hits_total"),
        found.value("cache_misses_total"),
    )
    assert 1 == found.value("answer_age_seconds_count")
    assert 0 < found.value("answer_age_seconds_sum") < PATIENCE_SECONDS
    assert 2 == found.value("cache_entries")
    assert 0 < found.value("cache_bytes")


async def test_error_of_healthomics_is_an_attempt_and_no_refusal() -> None:
    """An error counts by its code and, as an attempt, by its reason."""
    async with measured() as (served, stub, upstream):
        upstream.lie(TRUE_ID, said(404, "ResourceNotFoundException"))
        await refused(get_run(stub, TRUE_ID))
        found = await settled(
            served, lambda it: handled(it, "NotFound", **GET_RUN) == 1
        )

    assert 1 == found.value(
        "upstream_attempts_total", outcome="error", reason="RUN_NOT_FOUND"
    )
    assert 1 == found.value("upstream_attempt_seconds_count", outcome="error")
    assert 0 == found.value("refusals_total")
    assert 0 == found.value("grpc_server_msg_sent_total", **GET_RUN)


async def test_attempt_that_nobody_waits_for_has_no_reason() -> None:
    """A call that its client cancels is Canceled, and its attempt an error."""
    async with measured() as (served, stub, upstream):
        upstream.lie(TRUE_ID, [HANG])
        call = asyncio.ensure_future(get_run(stub, TRUE_ID))
        await until(lambda: upstream.asked[TRUE_ID])
        call.cancel()
        found = await settled(
            served, lambda it: handled(it, "Canceled", **GET_RUN) == 1
        )

    assert 1 == found.value("upstream_attempts_total", outcome="error", reason="")
    assert 0 == found.value("refusals_total")


async def test_error_of_the_gateway_is_a_refusal() -> None:
    """An invalid request is refused without an attempt; unreachable AWS isn't that."""
    async with measured(GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as (served, stub, upstream):
        await refused(get_run(stub, "no id"))
        upstream.lie(TRUE_ID, said(500, "InternalServerException"))
        await refused(get_run(stub, TRUE_ID))
        found = await scrape(served)

    assert 1 == found.value("refusals_total", reason="INVALID_REQUEST")
    assert 1 == found.value("refusals_total")


async def test_call_that_ends_at_its_deadline_is_counted_so() -> None:
    """A deadline that passes counts as DeadlineExceeded, and as a refusal."""
    async with measured() as (served, stub, upstream):
        upstream.lie(TRUE_ID, [HANG])
        await refused_late(get_run(stub, TRUE_ID, seconds=0.2))
        found = await settled(
            served, lambda it: handled(it, "DeadlineExceeded", **GET_RUN) == 1
        )

    assert 1 == found.value("refusals_total", reason="CALLER_DEADLINE")


async def refused_late(call: Any) -> None:
    """Await a call that must end at its deadline, on either side."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert StatusCode.DEADLINE_EXCEEDED is caught.value.code()


@pytest.mark.guarantee("measured-calls")
async def test_unknown_methods_have_one_series() -> None:
    """Whatever a client calls them, methods that don't exist are `unknown`."""
    async with (
        measured() as (served, _, _),
        grpc.aio.insecure_channel(str(served.address)) as channel,
    ):
        for path in ("/no.Such/Method", "/healthomics.v1.RunService/Guess"):
            await unknown(channel, path)
        found = await settled(
            served, lambda it: handled(it, "Unimplemented", **UNKNOWN) == 2
        )

    assert 2 == found.value("grpc_server_started_total", **UNKNOWN)
    assert 2 == found.value("refusals_total", reason="METHOD_UNKNOWN")
    assert 0 == found.value("rule_calls_total")


@pytest.mark.guarantee("measured-calls")
async def test_health_and_reflection_are_counted_with_their_messages() -> None:
    """Open services have the series of other methods, also while a stream lasts."""
    async with (
        measured() as (served, _, _),
        grpc.aio.insecure_channel(str(served.address)) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        nowhere = health_pb2.HealthCheckRequest(service="nowhere")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Check(nowhere, timeout=10)
        stream = stub.Watch(health_pb2.HealthCheckRequest())
        await stream.read()
        await reflect(channel, 3)
        check, watch = (HEALTH | {"grpc_method": name} for name in ("Check", "Watch"))
        found = await settled(
            served,
            lambda it: (
                handled(it, "OK", grpc_service=REFLECTION) == 1
                and it.value("grpc_server_msg_sent_total", **watch) == 1
            ),
        )
        stream.cancel()
        await settled(served, lambda it: handled(it, "Canceled", **watch) == 1)

    assert (1, 1) == (
        handled(found, "OK", **check),
        handled(found, "NotFound", **check),
    )
    assert 2 == found.value("grpc_server_msg_received_total", **check)
    assert 1 == found.value("grpc_server_msg_sent_total", **check)
    assert 0 == found.value("grpc_server_handled_total", **watch)
    assert [3, 3] == [
        found.value(
            f"grpc_server_msg_{way}_total",
            grpc_type="bidi_stream",
            grpc_service=REFLECTION,
        )
        for way in ("received", "sent")
    ]


async def test_calls_count_for_the_rule_that_applied(tmp_path: Path) -> None:
    """A caller appears as its rule, even for a method that the rule doesn't allow."""
    rules = rule("spiffe://corp/ns/lims/*"), rule(OTHER, methods=["WatchRun"])
    async with called(tmp_path, *rules) as gateway_:
        for identity in (LIMS, LIMS, OTHER, "unlisted"):
            await outcome(gateway_.get(OURS, token(identity)))
        await outcome(gateway_.get(OURS))  # without a token
        found = await settled(
            gateway_.served,
            lambda it: it.value("grpc_server_handled_total", **GET_RUN) == 5,
        )

    assert {
        "1:spiffe://corp/ns/lims/*": 2,
        f"2:{OTHER}": 1,
        "none": 2,
    } == {
        dict(labels)["rule"]: value
        for (name, labels), value in found.values.items()
        if name == "healthomics_gateway_rule_calls_total"
    }
    assert 2 == found.value("refusals_total", reason="CALLER_NOT_AUTHORIZED")


# The quota


async def test_calls_that_queue_are_seen_and_those_that_share_a_fetch() -> None:
    """While calls wait the queue has a length, and then a wait; equal calls share."""
    slow = {"GATEWAY_QUOTA__TPS": "2", "GATEWAY_QUOTA__BURST": "1"}
    async with measured(**slow) as (served, stub, _):
        await get_run(stub, TRUE_ID)
        calls = [asyncio.ensure_future(get_run(stub, "1000004")) for _ in range(3)]
        waiting = await settled(
            served,
            lambda it: (
                it.value("shared_fetches_total") == 2 and it.value("queue_length") == 1
            ),
        )
        await asyncio.gather(*calls)
        found = await scrape(served)

    assert (1, 0) == tuple(
        waiting.value("queue_length", kind=kind) for kind in ("call", "poll")
    )
    assert 1 > waiting.value("quota_tokens", account="own")
    assert 2 == waiting.value("quota_limit", account="own")
    assert 0 == found.value("queue_length")
    assert 2 == found.value("queue_wait_seconds_count", kind="call")
    assert 0.1 < found.value("queue_wait_seconds_sum", kind="call")
    assert 2 == found.value("upstream_attempts_total")


async def test_throttle_lowers_the_rate() -> None:
    """After a throttle the rate at the moment is below the limit."""
    async with measured(GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as (served, stub, upstream):
        before = await scrape(served)
        upstream.lie(TRUE_ID, said(429, "ThrottlingException"))
        await refused(get_run(stub, TRUE_ID))
        found = await scrape(served)

    assert before.value("quota_rate") == found.value("quota_limit")
    assert found.value("quota_rate", account="own") < found.value("quota_limit")
    assert 1 == found.value("upstream_attempts_total", reason="UPSTREAM_THROTTLED")


async def test_each_account_of_a_role_has_a_quota(tmp_path: Path) -> None:
    """The account of a rule's role has its series before a call uses the role."""
    role = "arn:aws:iam::210987654321:role/omics-read-lims"
    async with (
        FakeSts() as sts,
        SessionUpstream(sts.given) as upstream,
        gateway(
            sts.aws(upstream.url),
            toml=rule(LIMS, aws_role=role),
            **settings_of_tokens(tmp_path),
        ) as served,
    ):
        found = await scrape(served)

    for name in ("quota_tokens", "quota_rate", "quota_limit"):
        accounts = ("own", "210987654321")
        assert [10_000, 10_000] == [
            found.value(name, account=each) for each in accounts
        ]


# Watches


async def test_watch_moves_polls_changes_and_messages() -> None:
    """A watch counts while it is open; its changes count when they are delivered."""
    statuses = ("PENDING", "STARTING", "STARTING", "RUNNING")
    async with measured(**QUICK) as (served, stub, upstream):
        lies = [http(true_run(TRUE_ID, status=each)) for each in statuses]
        upstream.lie(TRUE_ID, *lies)
        watch = stub.WatchRun(WatchRunRequest(id=TRUE_ID), timeout=10)
        for _ in range(3):
            await watch.read()
        during = await settled(served, lambda it: it.value("watch_changes_total") == 2)
        upstream.lie(TRUE_ID, http(true_run(TRUE_ID, status="COMPLETED")))
        assert "COMPLETED" in str((await watch.read()).run)
        assert grpc.aio.EOF is await watch.read()
        found = await settled(served, lambda it: it.value("watches") == 0)

    assert 1 == during.value("watches")
    assert 3 == during.value("grpc_server_msg_sent_total", **WATCH_RUN)
    assert 0 == during.value("grpc_server_handled_total", **WATCH_RUN)
    assert 3 == found.value("watch_changes_total")
    assert 3 == found.value("watch_change_delay_seconds_count")
    assert 0 < found.value("watch_change_delay_seconds_sum") < PATIENCE_SECONDS
    assert 4 <= found.value("watch_polls_total", outcome="ok")
    assert 0 < found.value("queue_wait_seconds_count", kind="poll")
    assert 1 == handled(found, "OK", **WATCH_RUN)


async def test_failed_poll_counts_as_an_error() -> None:
    """A poll that HealthOmics answers with an error counts as failed."""
    async with measured(**QUICK) as (served, stub, upstream):
        upstream.lie(TRUE_ID, said(404, "ResourceNotFoundException"))
        await refused(watched(stub, TRUE_ID))
        found = await scrape(served)

    assert (0, 1) == tuple(
        found.value("watch_polls_total", outcome=each) for each in ("ok", "error")
    )


async def test_bytes_that_a_client_does_not_read_are_seen() -> None:
    """The state of a run counts as unread while its client doesn't read it."""
    async with measured(**QUICK) as (served, _, upstream):
        run_id = str(FIRST_ID)
        upstream.lie(run_id, http(true_run(run_id, definition="x" * 50_000)))
        async with blocking(str(served.address), "watches-zero"):
            await settled(served, lambda it: it.value("unread_bytes") > 50_000)
        await settled(served, lambda it: it.value("unread_bytes") == 0)


# The process


async def test_lost_lines_of_the_log_are_counted() -> None:
    """Lines that nothing reads are counted by their kind."""
    reader, end = os.pipe()
    writer = LogWriter(end, report=lambda *_: "lost", audit_bytes=100, other_bytes=9)
    for _ in range(3):
        writer.put(b"x" * 101, is_audit=True)
    writer.put(b"y" * 10)
    flags = {"listen": ANYWHERE, "admin_listen": ANYWHERE}
    async with LyingUpstream() as upstream:
        settings = load(flags=flags, environ={}).settings
        served = Gateway(
            settings,
            aws_at(upstream.url),
            observability=Observability(lost_lines=writer.lost),
        )
        await served.start()
        found = await scrape(served)
        await served.stop()
    os.close(reader)

    assert (3, 1) == tuple(
        found.value("log_lines_lost_total", log=each) for each in ("audit", "events")
    )


async def test_readiness_and_drain_are_seen() -> None:
    """A gateway is ready until it drains."""
    async with measured() as (served, stub, _):
        await get_run(stub, TRUE_ID)
        before = await scrape(served)
        drain = asyncio.ensure_future(served.drain(PATIENCE_SECONDS))
        found = await settled(served, lambda it: it.value("draining") == 1)
        await drain

    assert (1, 0) == (before.value("ready"), before.value("draining"))
    assert 0 == found.value("ready")


async def test_expiries_of_credentials_certificate_and_keys_are_seen(
    tmp_path: Path,
) -> None:
    """Each is a time: an hour ahead, that of the certificate, and that of a read."""
    certificate = trustme.CA().issue_cert(HOST)
    async with (
        LyingUpstream(session_token="session-token-1") as upstream,  # a fake
        CredentialSource(session(1)) as source,
        gateway(
            source.aws()(upstream.url),
            **tls_settings(certificate, tmp_path),
            **settings_of_tokens(tmp_path),
        ) as served,
    ):
        found = await settled(
            served,
            lambda it: (
                it.value("credentials_expiry_timestamp_seconds") > 0
                and it.value("jwks_expiry_timestamp_seconds") > 0
            ),
        )
        address = str(served.address)

    now = time.time()
    left = found.value("credentials_expiry_timestamp_seconds") - now
    assert 3500 < left < 3600
    assert now < found.value("certificate_expiry_timestamp_seconds", listener=address)
    assert abs(found.value("jwks_expiry_timestamp_seconds") - now) < PATIENCE_SECONDS


async def test_expiries_that_do_not_exist_are_zero() -> None:
    """Without TLS, keys or temporary credentials there is nothing that expires."""
    async with measured() as (served, _, _):
        found = await scrape(served)

    assert [0] * 3 == [
        found.value(f"{name}_expiry_timestamp_seconds")
        for name in ("credentials", "certificate", "jwks")
    ]
    assert 1 == found.value("build_info")
    assert 1 == found.value("last_reload_ok")
    assert 0 < found.value("process_resident_memory_bytes")


# The page


@pytest.mark.guarantee("bounded-series")
async def test_no_call_adds_a_series(tmp_path: Path) -> None:
    """All series exist before the first call, whatever clients call and send."""
    settings = {**QUICK, **STALE, "GATEWAY_OPEN_SERVICES": "Health,Reflection,Channelz"}
    async with called(tmp_path, rule(LIMS), **settings) as gateway_:
        before = (await scrape(gateway_.served)).values
        for number in range(30):
            await outcome(gateway_.get(str(1_000_000 + number), token(f"a{number}")))
            await outcome(gateway_.get(OURS, token(LIMS), max_staleness=HOUR))
        await outcome(gateway_.watch(OURS, token(LIMS)).read())
        async with grpc.aio.insecure_channel(str(gateway_.served.address)) as channel:
            for number in range(3):
                await unknown(channel, f"/no.Such/Method{number}")
            stub = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
            await ChannelzStub(channel).GetServers(GetServersRequest(), timeout=10)
            await reflect(channel, 1)
        after = (await scrape(gateway_.served)).values

    assert set(before) == set(after)


async def test_openmetrics_have_exemplars_with_the_ids_of_calls() -> None:
    """A fetched run and an error leave the id that the log has; others don't."""
    async with measured(**STALE) as (served, stub, _):
        await named(stub, "first", TRUE_ID)
        await refused(named(stub, "second", "no id"))
        found = await scrape(served, accept=OPENMETRICS)
        text = parsed(await page(served.admin_address))

    assert {"first", "second"} == {each["request_id"] for each in found.exemplars}
    assert set(text.families) == set(found.families)


def named(stub: Any, request_id: str, run_id: str) -> Any:
    """Make a GetRun with a request id."""
    metadata = (("x-request-id", request_id),)
    return stub.GetRun(GetRunRequest(id=run_id), timeout=10, metadata=metadata)


async def test_page_is_served_like_the_others() -> None:
    """HEAD has no body, POST isn't allowed, and connections are bounded."""
    async with measured() as (served, _, _), aiohttp.ClientSession() as session_:
        url = f"http://{served.admin_address}/metrics"
        async with session_.head(url) as head, session_.post(url) as post:
            assert (200, 405) == (head.status, post.status)
            assert (
                "text/plain; version=0.0.4; charset=utf-8"
                == head.headers["Content-Type"]
            )
        pages = await asyncio.gather(
            *(page(served.admin_address) for _ in range(MAX_CONNECTIONS))
        )

    assert MAX_CONNECTIONS == sum("grpc_server_started_total" in each for each in pages)


async def test_promtool_accepts_the_page_under_load() -> None:
    """Prometheus' own program has no fault to find while calls are under way."""
    program = require("promtool")
    async with measured(**STALE) as (served, stub, _):
        load = asyncio.ensure_future(keep_calling(stub))
        for _ in range(3):
            text = await page(served.admin_address)
            checked = await asyncio.to_thread(
                subprocess.run,
                [program, "check", "metrics"],
                input=text.encode(),
                capture_output=True,
                check=False,
            )
            assert (0, b"", b"") == (
                checked.returncode,
                checked.stdout,
                checked.stderr,
            )
        load.cancel()


async def keep_calling(stub: Any) -> None:
    """Make calls of all kinds until cancelled."""
    while True:
        await asyncio.gather(
            get_run(stub, TRUE_ID, max_staleness=HOUR),
            get_run(stub, TRUE_ID),
            refused(get_run(stub, "no id")),
        )
