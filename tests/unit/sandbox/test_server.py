"""The sandbox over real sockets, called by AWS's client for Python."""

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StructureShape

from healthomics_gateway.sandbox import (
    ACCESS_KEY_ID,
    REGION,
    RUNS_HELP,
    SECRET_ACCESS_KEY,
    Sandbox,
    environment,
)
from healthomics_gateway.sandbox.catalog import Catalog

SESSION = boto3.Session(region_name=REGION)
MODEL = SESSION.client("omics").meta.service_model
HELP = dict(line.split(maxsplit=1) for line in RUNS_HELP.splitlines()[:-1])


class Clock:
    """Both clocks of a sandbox, set by the test; they start now, as signatures do."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.began = datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the seconds."""
        return self.seconds

    def now(self) -> datetime:
        """Return the time of day."""
        return self.began + timedelta(seconds=self.seconds)


@contextlib.contextmanager
def omics(sandbox: Sandbox, **more: Any) -> Iterator[Any]:
    """Yield AWS's client for the sandbox, without retries."""
    client = SESSION.client(
        "omics",
        endpoint_url=sandbox.url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}),
        **more,
    )
    with contextlib.closing(client):
        yield client


async def get_run(sandbox: Sandbox, run_id: str, **query: Any) -> dict[str, Any]:
    """Return the run as AWS's client reads it."""
    with omics(sandbox) as client:
        return await asyncio.to_thread(client.get_run, id=run_id, **query)


async def refusal(sandbox: Sandbox, run_id: str, **query: Any) -> tuple[int, str]:
    """Return the HTTP status and the code of the error that the call raises."""
    with pytest.raises(ClientError) as caught:
        await get_run(sandbox, run_id, **query)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.mark.parametrize(
    ("run_id", "status"), [(i, s) for i, s in HELP.items() if i.startswith("1")]
)
async def test_sandbox_has_a_run_in_each_status(run_id: str, status: str) -> None:
    """AWS's client reads each listed run with the listed status."""
    async with Sandbox() as sandbox:
        run = await get_run(sandbox, run_id)

    assert (run_id, status) == (run["id"], run["status"])
    assert f"arn:aws:omics:us-east-1:123456789012:run/{run_id}" == run["arn"]


@pytest.mark.parametrize(
    ("run_id", "code"), [(i, c) for i, c in HELP.items() if i.startswith("9")]
)
async def test_sandbox_has_an_id_for_each_error(run_id: str, code: str) -> None:
    """AWS's client raises each listed error with its code, status and class."""
    async with Sandbox() as sandbox:
        assert (int(run_id) - 9000000, code) == await refusal(sandbox, run_id)
        with omics(sandbox) as client, pytest.raises(getattr(client.exceptions, code)):
            await asyncio.to_thread(client.get_run, id=run_id)


def test_list_has_all_statuses_and_errors() -> None:
    """The list has each status and each error of botocore's model."""
    operation = MODEL.operation_model("GetRun")

    assert set(MODEL.shape_for("RunStatus").enum) == {
        what for run_id, what in HELP.items() if run_id.startswith("1")
    }
    assert {shape.name for shape in operation.error_shapes} == {
        what for run_id, what in HELP.items() if run_id.startswith("9")
    }


async def test_complete_run_has_all_members() -> None:
    """Each member of botocore's model, nested ones too, is set and valid."""
    async with Sandbox() as sandbox:
        run = await get_run(sandbox, "3000001", export=["DEFINITION"])

    shape = MODEL.operation_model("GetRun").output_shape
    assert [] == list(faults(run, shape, "run"))


def faults(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """Yield each member that is missing or violates its shape."""
    if isinstance(shape, StructureShape) and not shape.is_document_type:
        for name, member in shape.members.items():
            if name in value:
                yield from faults(value[name], member, f"{path}.{name}")
            else:
                yield f"{path}.{name} is missing"
    elif isinstance(shape, ListShape):
        for item in value:
            yield from faults(item, shape.member, f"{path}[]")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from faults(key, shape.key, f"{path}.key")
            yield from faults(item, shape.value, f"{path}[{key}]")
    elif not fits(value, shape.metadata):
        yield f"{path} breaks {shape.metadata}"
    if not value:
        yield f"{path} is empty"


def fits(value: Any, constraints: dict[str, Any]) -> bool:
    """Return whether a scalar has a valid length, enum value and pattern."""
    size = value if isinstance(value, int) else len(str(value))
    within = constraints.get("min", 0) <= size <= constraints.get("max", sys.maxsize)
    pattern = constraints.get("pattern", ".*")
    if r"\p" in pattern:  # `re` doesn't support this character class
        pattern = r"[^\x00-\x1f]+"
    named = value in constraints.get("enum", [value])
    return within and named and bool(re.fullmatch(pattern, str(value)))


async def test_changing_run_has_all_statuses() -> None:
    """From its first request it takes each status, with the same uuid."""
    clock = Clock()
    seen = []
    async with Sandbox(now=clock.now, monotonic=clock.monotonic) as sandbox:
        for seconds in (0, 2.9, 3, 7.9, 8, 24.9, 25, 29.9, 30, 200):
            clock.seconds = seconds
            seen.append(await get_run(sandbox, "2000001"))

    assert seen[0]["creationTime"] - clock.began < timedelta(seconds=1)
    assert [
        *("PENDING", "PENDING", "STARTING", "STARTING", "RUNNING", "RUNNING"),
        *("STOPPING", "STOPPING", "COMPLETED", "COMPLETED"),
    ] == [run["status"] for run in seen]
    assert 1 == len({run["uuid"] for run in seen})
    assert timedelta(seconds=8) == seen[-1]["startTime"] - seen[-1]["creationTime"]
    assert timedelta(seconds=30) == seen[-1]["stopTime"] - seen[-1]["creationTime"]
    assert not {"startTime", "logLocation", "stopTime"} & seen[0].keys()
    assert not {"stopTime"} & seen[-3].keys()


async def test_unmodeled_run_is_read_by_aws_client() -> None:
    """AWS's client reads the known members of a run with unknown ones."""
    async with Sandbox() as sandbox:
        run = await get_run(sandbox, "3000002")

    assert ("3000002", "ARCHIVING") == (run["id"], run["status"])
    assert "queuePosition" not in run


async def test_definition_is_returned_only_with_export() -> None:
    """The definition is there only with `export=DEFINITION`."""
    async with Sandbox() as sandbox:
        plain = await get_run(sandbox, "1000005")
        exported = await get_run(sandbox, "1000005", export=["DEFINITION"] * 32)

    assert {"definition"} == exported.keys() - plain.keys()


@pytest.mark.parametrize(
    ("run_id", "query"),
    [
        pytest.param("abc", {}, id="id-not-a-number"),
        pytest.param("1" * 19, {}, id="id-of-19-digits"),
        pytest.param("١٢٣", {}, id="id-in-other-digits"),
        pytest.param("1/2", {}, id="id-with-a-slash"),
        pytest.param("1000003\n", {}, id="id-with-a-newline"),
        pytest.param("1000003", {"export": ["TASKS"]}, id="unknown-export"),
        pytest.param("1000003", {"export": ["DEFINITION"] * 33}, id="33-exports"),
    ],
)
async def test_invalid_input_is_refused(run_id: str, query: dict[str, Any]) -> None:
    """An invalid id or export is a ValidationException."""
    async with Sandbox() as sandbox:
        assert (400, "ValidationException") == await refusal(sandbox, run_id, **query)


@pytest.mark.parametrize("run_id", ["1", "1000009", "02000001", "9" * 18])
async def test_any_other_id_is_not_found(run_id: str) -> None:
    """An id that isn't in the list is a ResourceNotFoundException."""
    async with Sandbox() as sandbox:
        found = await refusal(sandbox, run_id)

    assert (404, "ResourceNotFoundException") == found


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/run"), ("GET", "/run/1/task"), ("DELETE", "/run/1000001")],
)
async def test_other_operations_are_unknown(method: str, path: str) -> None:
    """All operations but GetRun are an UnknownOperationException."""
    async with (
        Sandbox() as sandbox,
        aiohttp.ClientSession() as session,
        session.request(method, sandbox.url + path) as response,
    ):
        body = await response.json()

    assert 404 == response.status
    assert "UnknownOperationException" == response.headers["x-amzn-errortype"]
    assert ["message"] == list(body)


async def test_quota_is_a_bucket_of_ten_that_refills_at_ten_a_second() -> None:
    """Ten calls at once pass, the next is throttled until 0.1 s later."""
    clock = Clock()
    async with Sandbox(now=clock.now, monotonic=clock.monotonic) as sandbox:
        await asyncio.gather(*(get_run(sandbox, "1000003") for _ in range(10)))
        assert (429, "ThrottlingException") == await refusal(sandbox, "1000003")
        clock.seconds = 0.125
        await get_run(sandbox, "1000003")
        assert (429, "ThrottlingException") == await refusal(sandbox, "1000003")


async def test_quota_is_not_spent_on_unsigned_requests() -> None:
    """Requests with an invalid signature use no tokens."""
    clock = Clock()
    async with (
        Sandbox(now=clock.now, monotonic=clock.monotonic) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(20):
            async with session.get(f"{sandbox.url}/run/1000003") as response:
                assert 403 == response.status
        await get_run(sandbox, "1000003")


async def test_quota_of_zero_is_unlimited() -> None:
    """With a quota of 0 no call is throttled."""
    clock = Clock()
    async with Sandbox(quota_per_second=0, monotonic=clock.monotonic) as sandbox:
        await asyncio.gather(*(get_run(sandbox, "1000003") for _ in range(30)))

    assert 30 == sandbox.calls


async def test_latency_delays_every_answer() -> None:
    """Answers and errors are delayed by the given time."""
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async with Sandbox(latency_seconds=0.25, sleep=sleep) as sandbox:
        await get_run(sandbox, "1000003")
        await refusal(sandbox, "9000404")

    assert [0.25, 0.25] == waited


async def test_answer_has_a_request_id_and_the_time() -> None:
    """`x-amzn-requestid` is a new uuid; `Date` is the sandbox's clock."""
    clock = Clock()
    clock.seconds = -120
    async with Sandbox(now=clock.now) as sandbox:
        answers = [await get_run(sandbox, "1000003") for _ in range(2)]

    metadata = [answer["ResponseMetadata"] for answer in answers]
    assert 2 == len({UUID(each["RequestId"]) for each in metadata})
    for each in metadata:
        assert "application/json" == each["HTTPHeaders"]["content-type"]
        assert f"{clock.now():%a, %d %b %Y %H:%M:%S GMT}" == each["HTTPHeaders"]["date"]


async def test_requests_are_counted_and_the_latest_are_kept() -> None:
    """Tests can read method, path, query and headers of the requests."""
    async with Sandbox() as sandbox:
        await get_run(sandbox, "1000003", export=["DEFINITION"])

    (request,) = sandbox.requests
    assert 1 == sandbox.calls
    assert ("GET", "/run/1000003") == (request.method, request.path)
    assert "export=DEFINITION" == request.query
    assert "x-amz-date" in request.headers


async def test_stop_ends_answers_under_way() -> None:
    """A sandbox that stops doesn't wait for a delayed answer."""
    asleep = asyncio.Event()

    async def sleep(_: float) -> None:
        asleep.set()
        await asyncio.Event().wait()

    async with aiohttp.ClientSession() as session:
        async with Sandbox(latency_seconds=1, sleep=sleep) as sandbox:
            call = asyncio.ensure_future(session.get(f"{sandbox.url}/run/1000003"))
            await asleep.wait()
        with pytest.raises(aiohttp.ClientConnectionError):
            await call


async def test_url_of_a_wildcard_address_is_loopback() -> None:
    """The URL of a sandbox on a wildcard address can be called."""
    async with Sandbox(host="0.0.0.0") as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert "RUNNING" == (await get_run(sandbox, "5000001"))["status"]


async def test_start_fails_if_the_port_is_in_use() -> None:
    """A second sandbox on the port raises OSError; the first goes on."""
    async with Sandbox() as sandbox:
        port = int(sandbox.url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            await Sandbox(port=port).start()
        assert "RUNNING" == (await get_run(sandbox, "1000003"))["status"]


async def test_environment_configures_boto3() -> None:
    """A boto3 program in the environment reads a run from the sandbox."""
    program = (
        "import boto3; print(boto3.client('omics').get_run(id='1000008')['status'])"
    )
    async with Sandbox() as sandbox:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", program),
            env=environment(sandbox),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()

    assert b"FAILED\n" == output


async def test_text_is_sent_in_utf_8() -> None:
    """Text outside ASCII isn't escaped."""
    async with Sandbox() as sandbox:
        run = await get_run(sandbox, "3000002")
        length = run["ResponseMetadata"]["HTTPHeaders"]["content-length"]
        members = Catalog(now=sandbox.now, monotonic=sandbox.monotonic).run("3000002")

    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    assert "Zoë exome, 第二次" == run["name"]
    assert len(text.encode()) == int(length)
