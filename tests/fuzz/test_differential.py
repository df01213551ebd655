"""The gateway agrees with what was sent, and with boto3, on random answers."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any

import boto3
import botocore.session
import pytest
from aiohttp import web
from botocore.config import Config

from fuzz import differential
from healthomics.v1.run_pb2 import Run
from healthomics_gateway.sandbox import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from testkit.answers import (
    HALVES,
    NAMES,
    RUN_ID,
    TEXTS,
    an_array,
    an_object,
    any_json,
    text,
)
from testkit.builders import aws_at, calling, gateway, get_run
from testkit.rebuild import (
    EPOCH,
    FIELDS,
    STRUCTURES,
    Instant,
    Kept,
    Number,
    Pairs,
    differences,
    rebuilt,
)

EXAMPLES = int(os.environ.get("EXAMPLES", "500"))
SECONDS = 60 + EXAMPLES // 100  # for this number of answers, on a slow machine
SEED = 20240501

# ---- against what was sent ----


@pytest.mark.guarantee("exact-answers", "stock-clients")
@pytest.mark.timeout(SECONDS)
def test_answers_are_rebuilt() -> None:
    """All random answers keep *typed means exact*, and all can be decoded."""
    for at in range(EXAMPLES):
        body = differential.answer_of(SEED, at)
        assert [] == differential.broken(body), body


def test_answers_have_every_member_typed_and_kept() -> None:
    """The random answers have each member both typed and as JSON text."""
    typed: set[tuple[str, ...]] = set()
    kept: set[tuple[str, ...]] = set()
    for at in range(500):
        run = differential.translate(differential.answer_of(SEED, at))
        for path, value in rebuilt(run).items():
            (kept if isinstance(value, Kept) else typed).add(path)

    of_structures = {(name,) for name in STRUCTURES}
    assert FIELDS.keys() - of_structures == typed
    assert FIELDS.keys() - {("id",)} <= kept
    assert {"newMember", '"status"', "\ud800"} <= {path[-1] for path in kept}


def sent(members: str) -> str:
    """Return an answer: the id, and `members` as JSON text."""
    return f'{{"id":"{RUN_ID}",{members}}}'


def deep(levels: int) -> dict[str, Any]:
    """Return nested arrays, as a Value."""
    value: dict[str, Any] = {"number_value": 1}
    for _ in range(levels):
        value = {"list_value": {"values": [value]}}
    return value


@pytest.mark.guarantee("exact-answers")
@pytest.mark.parametrize(
    ("members", "fields"),
    [
        pytest.param('"priority":1.5', {}, id="neither"),
        pytest.param('"priority":1.5', {"priority": 1}, id="rounded"),
        pytest.param('"x":1', {"unmodeled_json": {"x": "1.0"}}, id="another-text"),
        pytest.param(
            '"priority":1',
            {"priority": 1, "unmodeled_json": {"priority": "1"}},
            id="both",
        ),
        pytest.param(
            '"priority":1', {"unmodeled_json": {"priority": "1"}}, id="kept-in-vain"
        ),
        pytest.param('"x":null', {"name": ""}, id="never-sent"),
        pytest.param('"x":null', {"unmodeled_json": {"x": "null"}}, id="null-kept"),
        pytest.param('"x":{}', {}, id="unknown-empty-lost"),
        pytest.param('"tags":[]', {}, id="wrong-empty-lost"),
        pytest.param('"status":"NEW"', {"status": 3}, id="another-word"),
        pytest.param('"name":"a"', {"name": "b"}, id="another-text-typed"),
        pytest.param('"name":"a","name":"b"', {"name": "a"}, id="first-of-two"),
        pytest.param('"tags":{"a":"b","a":"b"}', {"tags": {"a": "b"}}, id="map-twice"),
        pytest.param(
            '"startTime":"1970-01-01T00:00:01.5Z"',
            {"start_time": {"seconds": 1}},
            id="fraction-cut",
        ),
        pytest.param(
            '"startTime":"1970-01-01T00:00:01"',
            {"start_time": {"seconds": 1}},
            id="no-offset",
        ),
        pytest.param(
            '"parameters":9007199254740993',
            {"parameters": {"number_value": 2.0**53}},
            id="document-rounded",
        ),
        pytest.param(
            '"parameters":true', {"parameters": {"number_value": 1}}, id="true-as-one"
        ),
        pytest.param(
            '"parameters":{"a":1,"a":1}',
            {"parameters": {"struct_value": {"fields": {"a": {"number_value": 1}}}}},
            id="document-twice",
        ),
        pytest.param(
            f'"parameters":{"[" * 50}1{"]" * 50}',
            {"parameters": deep(50)},
            id="document-too-deep",
        ),
        pytest.param('"logLocation":{}', {"log_location": {}}, id="empty-set"),
        pytest.param(
            '"logLocation":{"x":1}',
            {"unmodeled_json": {"logLocation": '{"x":1}'}},
            id="structure-kept-whole",
        ),
        pytest.param(
            '"logLocation":{"runLogStream":"r","x":1}',
            {
                "log_location": {"run_log_stream": "r"},
                "unmodeled_json": {"logLocation": '{"runLogStream":"r","x":1}'},
            },
            id="whole-and-in-parts",
        ),
        pytest.param(
            '"logLocation.x":1', {"unmodeled_json": {"logLocation.x": "1"}}, id="path"
        ),
        pytest.param(
            '"tags.x":1', {"unmodeled_json": {'"tags.x"': "1"}}, id="needless-literal"
        ),
    ],
)
def test_rebuilding_detects_an_inexact_run(
    members: str, fields: dict[str, Any]
) -> None:
    """A run that isn't exactly what was sent is reported."""
    run = Run(id=RUN_ID, **fields)

    assert [] != differences(sent(members), run)


def drop_unmodeled(body: bytes) -> Run:
    """Translate without `unmodeled_json`."""
    run = differential.translate(body)
    run.ClearField("unmodeled_json")
    return run


def raise_key_error(_body: bytes) -> Run:
    """Raise an unexpected exception."""
    raise KeyError("status")


@pytest.mark.parametrize(
    ("translate", "fault"),
    [
        pytest.param(drop_unmodeled, "neither typed nor kept", id="unmodeled"),
        pytest.param(raise_key_error, "KeyError: 'status'", id="exception"),
    ],
)
def test_program_stops_at_the_first_answer_that_breaks(
    translate: differential.Translate, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first failing answer is printed with its seed and the reason; exit code 1."""
    assert 1 == differential.main(["--answers", "20", "--seed", "7"], translate)

    output = capsys.readouterr().out
    assert fault in output
    [at] = re.findall("answer (.*) of seed 7 breaks:", output)
    assert output.endswith(f"\n{differential.answer_of(7, int(at))!r}\n")


# ---- against boto3 ----

SHAPE = botocore.session.Session().get_service_model("omics").operation_model("GetRun")
ANSWERS = 300


def drawn(random: Random, shape: Any) -> str:
    """Return a value of a shape of AWS's model that boto3 can read."""
    if getattr(shape, "is_document_type", False):
        return any_json(random, levels=4)
    return DRAWN.get(shape.type_name, drawn_text)(random, shape)


def drawn_text(random: Random, shape: Any) -> str:
    """Return any text, or a word of an enum, also a future one."""
    words = shape.enum and (*shape.enum, "NEWER")
    return text(random, random.choice(words or (*TEXTS, *HALVES)))


def drawn_integer(random: Random, shape: Any) -> str:
    """Return an integer in the range of the model."""
    return str(random.randint(shape.metadata["min"], shape.metadata["max"]))


def drawn_map(random: Random, shape: Any) -> str:
    """Return a map."""
    names = random.sample(TEXTS, random.choice((0, 1, 3)))
    return an_object(random, [(name, drawn(random, shape.value)) for name in names])


def drawn_list(random: Random, shape: Any) -> str:
    """Return a list."""
    count = random.choice((0, 1, 3))
    return an_array(random, [drawn(random, shape.member) for _ in range(count)])


def drawn_structure(random: Random, shape: Any) -> str:
    """Return a structure with some of its members and some unknown ones."""
    known = [name for name in shape.members if random.random() < 0.6]
    newer = [name for name in NAMES if name not in shape.members]
    members = [(name, drawn(random, shape.members[name])) for name in known]
    more = random.sample(newer, random.choice((0, 0, 1, 3)))
    members += [(name, any_json(random)) for name in more]
    random.shuffle(members)
    return an_object(random, members)


DRAWN: Mapping[str, Callable[[Random, Any], str]] = {
    "integer": drawn_integer,
    "list": drawn_list,
    "map": drawn_map,
    "structure": drawn_structure,
    "timestamp": lambda random, _: text(random, moment(random)),
}


def moment(random: Random) -> str:
    """Return a timestamp of the present era."""
    since = timedelta(seconds=random.randrange(4_000_000_000))
    time = (EPOCH + since).strftime("%Y-%m-%dT%H:%M:%S")
    digits = random.choice((0, 3, 6, 9))
    fraction = f".{random.randrange(10**digits):0{digits}}" if digits else ""
    return f"{time}{fraction}{random.choice(('Z', '+00:00', '+05:30', '-08:00'))}"


def drawn_answer(run_id: str) -> str:
    """Return a random answer about a run, the same for each request."""
    random = Random(f"{SEED} {run_id}")  # its seed must reproduce it
    answer = drawn(random, SHAPE.output_shape).rstrip()
    more = "" if answer.strip("{ \t\r\n") == "}" else ","
    return f'{answer[:-1]}{more}"id":"{run_id}"}}'


async def answered(request: web.Request) -> web.Response:
    """Answer GetRun."""
    body = drawn_answer(request.match_info["id"])
    return web.Response(text=body, content_type="application/json")


@asynccontextmanager
async def random_upstream() -> AsyncIterator[str]:
    """Serve random answers, a different one for each id, and return the URL."""
    app = web.Application()
    app.router.add_get("/run/{id}", answered)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def read_by_boto3(url: str, run_ids: list[str]) -> list[Mapping[str, Any]]:
    """Read runs with boto3."""
    client = boto3.client(
        "omics",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}),
    )
    try:
        return [client.get_run(id=run_id) for run_id in run_ids]
    finally:
        client.close()


def members_of(answer: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return boto3's members by path, without empty ones, which equal absent ones."""
    members: dict[tuple[str, ...], Any] = {}
    for name, value in answer.items():
        if name in STRUCTURES:
            members |= {(name, inner): each for inner, each in value.items()}
        elif name != "ResponseMetadata":
            members[(name,)] = value
    return {
        path: plain(value)
        for path, value in members.items()
        if value not in ({}, []) or FIELDS[path].kind == "document"
    }


def members_in(run: Run) -> dict[tuple[str, ...], Any]:
    """Return the gateway's members by path as boto3 has them, without unknown ones."""
    return {
        path: plain(value) for path, value in rebuilt(run).items() if path in FIELDS
    }


def plain(value: Any) -> Any:
    """Return a comparable value: 1 and true differ, times are in microseconds."""
    if isinstance(value, Instant):
        return EPOCH + timedelta(microseconds=value.nanos // 1000)
    if isinstance(value, Kept | Number):
        value = json.loads(value.text if isinstance(value, Kept) else value)
    if isinstance(value, Pairs | dict):
        return {name: plain(each) for name, each in dict(value).items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return f"<{value}>" if isinstance(value, bool) else value


@pytest.mark.guarantee("exact-answers")
async def test_members_are_those_that_boto3_reads() -> None:
    """The gateway and boto3 return the same members of random answers."""
    run_ids = [str(at) for at in range(1, ANSWERS + 1)]
    async with (
        random_upstream() as url,
        gateway(aws_at(url)) as served,
        calling(served) as stub,
    ):
        by_boto3 = await asyncio.to_thread(read_by_boto3, url, run_ids)
        runs = await asyncio.gather(*(get_run(stub, each) for each in run_ids))

    for answer, run in zip(by_boto3, runs, strict=True):
        assert members_of(answer) == members_in(run), drawn_answer(run.id)
    compared = {path for answer in by_boto3 for path in members_of(answer)}
    assert {path for path, field in FIELDS.items() if field.kind != "structure"} == (
        compared
    )
