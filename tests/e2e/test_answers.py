"""Answers that callers receive over real sockets from a gateway with the sandbox."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from healthomics.v1.run_pb2 import Run, RunExport, RunStatus
from healthomics.v1.run_service_pb2 import GetRunRequest
from testkit.builders import Sandbox, aws_at, calling, gateway, get_run, sandboxed

STATUSES = {
    "1000001": "PENDING",
    "1000002": "STARTING",
    "1000003": "RUNNING",
    "1000004": "STOPPING",
    "1000005": "COMPLETED",
    "1000006": "DELETED",
    "1000007": "CANCELLED",
    "1000008": "FAILED",
}


def members_of(message: Message) -> list[tuple[Message, FieldDescriptor]]:
    """Return the fields of AWS's members, including those of structures."""
    found = []
    for field in message.DESCRIPTOR.fields:
        if field.number >= 1000:
            continue
        found.append((message, field))
        inner = field.message_type
        if inner and inner.file.package == "healthomics.v1" and not field.is_repeated:
            found += members_of(getattr(message, field.name))
    return found


def is_set(message: Message, field: FieldDescriptor) -> bool:
    """Return whether the field is set in the message."""
    return field in [each for each, _ in message.ListFields()]


async def test_answer_has_the_status_typed() -> None:
    """Each of the eight statuses is its enum value, in the run that was requested."""
    async with sandboxed() as (stub, _):
        runs = [await get_run(stub, run_id) for run_id in STATUSES]

    assert STATUSES == {
        run.id: RunStatus.Name(run.status).removeprefix("RUN_STATUS_") for run in runs
    }


@pytest.mark.guarantee("exact-answers", "complete-contract")
async def test_answer_has_every_member_in_its_field() -> None:
    """A run with all members sets every field, and `unmodeled_json` is empty."""
    async with sandboxed() as (stub, _):
        run = await get_run(stub, "3000001", export=[RunExport.RUN_EXPORT_DEFINITION])

    members = members_of(run)
    assert [] == [field.full_name for of, field in members if not is_set(of, field)]
    assert {} == dict(run.unmodeled_json)
    assert len(members) > 44


@pytest.mark.guarantee("stock-clients")
async def test_answer_decodes_with_a_stock_client() -> None:
    """An answer is unchanged after serializing and parsing it again."""
    async with sandboxed() as (stub, _):
        for run_id in ("3000001", "3000002"):
            run = await get_run(stub, run_id)
            assert run == Run.FromString(run.SerializeToString())


async def test_export_is_in_the_signed_query() -> None:
    """`export=DEFINITION` is in the signed query, and the definition is returned."""
    async with sandboxed() as (stub, sandbox):
        plain = await get_run(stub, "1000005")
        exported = await get_run(
            stub, "1000005", export=[RunExport.RUN_EXPORT_DEFINITION] * 2
        )

    assert ["", "export=DEFINITION"] == [each.query for each in sandbox.requests]
    assert not plain.HasField("definition")
    assert exported.definition.startswith("s3://")


@pytest.mark.guarantee("fresh-answers")
async def test_answer_is_fresh_unless_the_caller_allows_staleness() -> None:
    """Each call sends a request, unless its `max_staleness` allows a cached answer."""
    async with sandboxed() as (stub, sandbox):
        first = await get_run(stub, "1000003")
        second = await get_run(stub, "1000003")
        same = await get_run(stub, "1000003", max_staleness=Duration(seconds=60))

    assert 2 == sandbox.calls
    assert first.observe_time.ToNanoseconds() < second.observe_time.ToNanoseconds()
    assert second == same


@pytest.mark.guarantee("bounded-staleness")
@pytest.mark.parametrize(
    ("settings", "asked", "calls"),
    [
        pytest.param({}, None, 2, id="fresh-by-default"),
        pytest.param({"GATEWAY_CACHE__MAX_STALENESS": "1m"}, None, 1, id="by-setting"),
        pytest.param(
            {"GATEWAY_CACHE__MAX_STALENESS": "1m"}, 0, 2, id="asked-for-fresh"
        ),
        pytest.param({"GATEWAY_CACHE__MAX_STALENESS_LIMIT": "0s"}, 60, 2, id="bounded"),
        pytest.param({"GATEWAY_CACHE__MAX_BYTES": "0"}, 60, 2, id="no-memory"),
    ],
)
async def test_settings_bound_the_staleness_of_answers(
    settings: dict[str, str], asked: int | None, calls: int
) -> None:
    """The settings have a default staleness and a limit for what callers ask for."""
    wish = {} if asked is None else {"max_staleness": Duration(seconds=asked)}
    async with sandboxed(**settings) as (stub, sandbox):
        for _ in range(2):
            await get_run(stub, "1000003", **wish)

    assert calls == sandbox.calls


async def test_changing_run_is_seen_in_each_status() -> None:
    """Calls for a run of the sandbox see each status that it goes through."""
    seconds = [0.0]
    async with (
        Sandbox(quota_per_second=0, monotonic=lambda: seconds[0]) as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        calling(served) as stub,
    ):
        seen = []
        for seconds[0] in (0.0, 4.0, 10.0, 26.0, 31.0):
            run = await get_run(stub, "2000001")
            seen.append(RunStatus.Name(run.status).removeprefix("RUN_STATUS_"))

    assert ["PENDING", "STARTING", "RUNNING", "STOPPING", "COMPLETED"] == seen


@pytest.mark.guarantee("field-mask")
async def test_mask_selects_fields_and_unmodeled_members() -> None:
    """A masked answer has the mask's fields, typed or as text, and observe_time."""
    mask = FieldMask(paths=["id", "status", "log_location.run_log_stream"])
    async with sandboxed() as (stub, _):
        run = await get_run(stub, "3000002", read_mask=mask)

    assert ["id", "log_location", "unmodeled_json", "observe_time"] == [
        field.name for field, _ in run.ListFields()
    ]
    assert {"status": '"ARCHIVING"'} == dict(run.unmodeled_json)
    assert not run.log_location.HasField("engine_log_stream")


@pytest.mark.guarantee("withheld-members")
async def test_withheld_members_are_in_no_answer() -> None:
    """A withheld member is neither in a field nor in `unmodeled_json`."""
    withheld = "sessionPolicy,vpcConfig.vpcId,priority"
    async with sandboxed(GATEWAY_WITHHOLD=withheld) as (stub, _):
        complete = await get_run(stub, "3000001")
        unmodeled = await get_run(stub, "3000002")

    assert not complete.HasField("session_policy")
    assert not complete.vpc_config.HasField("vpc_id")
    assert complete.vpc_config.subnet_ids
    assert "priority" not in unmodeled.unmodeled_json


async def trailers_of(stub: Any, *metadata: tuple[str, str]) -> dict[str, str]:
    """Make a call and return its trailers."""
    request = GetRunRequest(id="1000003")
    call = stub.GetRun(request, timeout=10, metadata=metadata)
    await call
    trailers = list(await call.trailing_metadata())
    assert len(trailers) == len(dict(trailers))
    return dict(trailers)


async def test_request_ids_are_in_the_trailers() -> None:
    """The trailers have the caller's request ID and AWS's."""
    async with sandboxed() as (stub, _):
        trailers = await trailers_of(stub, ("x-request-id", "lims-42.a_B"))

    assert "lims-42.a_B" == trailers["x-request-id"]
    assert 36 == len(trailers["x-amzn-requestid"])


@pytest.mark.guarantee("own-run")
async def test_concurrent_calls_on_one_connection_are_all_answered() -> None:
    """300 concurrent calls on one connection each return the requested run."""
    ids = [str(5000001 + at) for at in range(300)]
    async with sandboxed() as (stub, _):
        runs = await asyncio.gather(*(get_run(stub, each) for each in ids))

    assert ids == [run.id for run in runs]
