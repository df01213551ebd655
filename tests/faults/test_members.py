"""Members at the limits of their types, and the ID that must be the requested one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.errors.reasons import Reason
from testkit.builders import http
from testkit.lying_upstream import ARN, CANARY, true_run
from testkit.rebuild import differences

ID = "2000016"
STRUCTURES = ("logLocation", "configuration", "vpcConfig")
TIMES = {
    "creationTime": "creation_time",
    "startTime": "start_time",
    "stopTime": "stop_time",
}
MEMBERS = [field.json_name for field in Run.DESCRIPTOR.fields if field.number < 1000]


def with_id(text: str) -> str:
    """Return a run whose ID is this JSON text, or has none if it is empty."""
    id_ = f'"id": {text}, ' if text else ""
    return f'{{{id_}"name": "{CANARY}", "status": "RUNNING"}}'


@pytest.mark.guarantee("invalid-bodies", "own-run")
@pytest.mark.fault(12)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="missing"),
        pytest.param('"2000017"', id="other"),
        pytest.param(ID, id="number"),
        pytest.param("null", id="null"),
        pytest.param('""', id="empty"),
        pytest.param("true", id="true"),
        pytest.param(f'{{"id": "{ID}"}}', id="object"),
        pytest.param('" "', id="space-alone"),
        pytest.param(f'"{ID} "', id="space-behind"),
        pytest.param(rf'"{ID}\u0000"', id="nul-behind"),
        pytest.param(rf'"{ID}\ud800"', id="surrogate-behind"),
        pytest.param(f'"{ID[:-1]}"', id="shorter"),
        pytest.param(f'"{ID}", "id": null', id="twice-and-null"),
        pytest.param(f'null, "Id": "{ID}"', id="other-case"),
        pytest.param(f'null, "configuration": {{"id": "{ID}"}}', id="deep"),
        pytest.param(f'" {ID}"', id="space-before"),
        pytest.param(rf'"{ID}\n"', id="newline-behind"),
        pytest.param(f'"0{ID}"', id="zero-before"),
        pytest.param(f'["{ID}"]', id="list"),
        pytest.param(f'"{ID}", "id": "2000017"', id="twice"),
        pytest.param('"\uff12\uff10\uff10\uff10\uff10\uff11\uff16"', id="wide-digits"),
    ],
)
async def test_response_about_another_run_is_an_error(rigged: Any, text: str) -> None:
    """A response without the requested ID is an error, after one retry."""
    async with rigged() as rig:
        lie = http(with_id(text))
        rig.upstream.lie(ID, lie, lie, http(true_run(ID)))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_IDENTITY_MISMATCH)
        assert 2 == rig.upstream.asked[ID]
        run = await rig.run(ID)  # the error isn't cached

    assert ID == refusal.metadata["runId"]
    assert (ID, "germline") == (run.id, run.name)


async def exact_run(rigged: Any, sent: str) -> Run:
    """Return the run of an answer, after checking that it is exact."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(sent))
        run: Run = await rig.run(ID)
        assert 1 == rig.upstream.asked[ID]
    assert [] == differences(sent, run)
    return run


def with_member(name: str, text: str) -> str:
    """Return a run with a member that is this JSON text."""
    return json.dumps({"id": ID})[:-1] + f', "{name}": {text}}}'


@pytest.mark.guarantee("exact-answers")
@pytest.mark.fault(16)
@pytest.mark.parametrize(
    "text",
    [
        *("null", "true", "0", "-1", "1.5", "1e2", "2147483648", '""', '"x"', "[]"),
        *("{}", "[null]", '{"": null}', '["a", 1]', '{"a": 1}', r'"\ud800"'),
    ],
)
async def test_member_of_any_type_is_exact(rigged: Any, text: str) -> None:
    """Whatever JSON a member is, the call succeeds and the member can be rebuilt."""
    others = [each for each in MEMBERS if each != "id"]
    sent = json.dumps({"id": ID})[:-1] + "".join(
        f', "{each}": {text}' for each in others
    )
    await exact_run(rigged, sent + "}")


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    "text", ["null", "true", "0", '""', '"x"', "[]", "[null]", "{}", r'"\ud800"']
)
async def test_member_within_a_structure_of_any_type_is_exact(
    rigged: Any, text: str
) -> None:
    """Members of structures are as exact as members of the run."""
    sent = json.dumps({"id": ID})[:-1]
    for name in STRUCTURES:
        fields = Run.DESCRIPTOR.fields_by_camelcase_name[name].message_type.fields
        members = [field.json_name for field in fields] + ["brandNew", "a.b", ""]
        inner = ", ".join(f'"{each}": {text}' for each in members)
        sent += f', "{name}": {{{inner}}}'
    await exact_run(rigged, sent + "}")


@pytest.mark.fault(16)
async def test_member_that_is_null_is_absent(rigged: Any) -> None:
    """A run of nulls is an empty run: nothing is typed, nothing is unmodeled."""
    members = dict.fromkeys([*MEMBERS, "brandNew"]) | {"id": ID}
    run = await exact_run(rigged, json.dumps(members))

    assert ["id", "observe_time"] == [field.name for field, _ in run.ListFields()]


@pytest.mark.fault(16)
async def test_member_of_a_structure_is_kept_by_its_path(rigged: Any) -> None:
    """Only the members that a structure can't hold are kept as text, by path."""
    log = {"runLogStream": ARN, "engineLogStream": 5, "brandNew": None, "newer": [1]}
    run = await exact_run(rigged, true_run(ID, logLocation=log, vpcConfig="none"))

    assert ARN == run.log_location.run_log_stream
    assert {
        "logLocation.engineLogStream": "5",
        "logLocation.newer": "[1]",
        "vpcConfig": '"none"',
    } == dict(run.unmodeled_json)


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(r"a.b", id="dot"),
        pytest.param(r"logLocation.runLogStream", id="like-a-path"),
        pytest.param(r"\"quoted\"", id="quotes"),
        pytest.param(r"", id="empty"),
        pytest.param(r"\u0000", id="nul"),
        pytest.param(r"\ud800", id="surrogate"),
        pytest.param(r"observeTime", id="ours"),
        pytest.param(r"unmodeledJson", id="ours-too"),
        pytest.param(r"log_location", id="our-spelling"),
        pytest.param(r"ID", id="case"),
        pytest.param("\N{FIRE}", id="fire"),
        pytest.param("n" * 100_000, id="long"),
    ],
)
async def test_unknown_member_of_any_name_is_kept(rigged: Any, name: str) -> None:
    """A member without a field is kept as text, whatever its name is."""
    run = await exact_run(rigged, with_member(name, '{"a": 1.50}'))

    assert ['{"a": 1.50}'] == list(run.unmodeled_json.values())


@pytest.mark.fault(16)
async def test_duplicate_member_is_the_last_one(rigged: Any) -> None:
    """Of duplicate members only the last is in the answer, typed or as text."""
    sent = with_member("priority", '"high", "priority": 7, "name": "a", "name": 5')
    run = await exact_run(
        rigged, sent[:-1] + ', "new": 1, "new": 2, "uuid": 1, "uuid": ""}'
    )

    assert (7, "") == (run.priority, run.name)
    assert {"name": "5", "new": "2"} == dict(run.unmodeled_json)


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    "word",
    ["", "running", "UNSPECIFIED", "RUN_STATUS_RUNNING", " RUNNING", "RUNNING\n", "4"],
)
async def test_unknown_status_is_kept(rigged: Any, word: str) -> None:
    """Only AWS's exact values are a status; enum names and numbers are kept as text."""
    run = await exact_run(rigged, true_run(ID, status=word))

    assert RunStatus.RUN_STATUS_UNSPECIFIED == run.status
    assert json.dumps(word) == run.unmodeled_json["status"]


@pytest.mark.guarantee("unknown-members")
@pytest.mark.fault(16)
async def test_unknown_members_and_values_are_kept(rigged: Any) -> None:
    """Members and values that the contract doesn't have are kept as text."""
    sent = true_run(
        ID, status="HIBERNATING", storageType="TAPE", brandNew={"deep": [1, None]}
    )
    run = await exact_run(rigged, sent)

    assert (RunStatus.RUN_STATUS_UNSPECIFIED, '"HIBERNATING"', '"TAPE"') == (
        run.status,
        run.unmodeled_json["status"],
        run.unmodeled_json["storageType"],
    )
    assert '{"deep": [1, null]}' == run.unmodeled_json["brandNew"]


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    ("text", "priority"),
    [
        *(("0", 0), ("1e2", 100), ("1.0", 1), ("-1", -1), ("2147483647", 2**31 - 1)),
        *(("-0", 0), ("0e400", 0), ("10e-1", 1), ("-2147483648", -(2**31))),
        *((each, None) for each in ("1.5", "true", "2147483648", '"1"', "1e400")),
        *((each, None) for each in ("-2147483649", "1e-400", "18446744073709551617")),
        *((each, None) for each in ("1.0000000000000000000001", "[1]", "{}", "false")),
    ],
)
async def test_priority_is_an_int32_or_kept(
    rigged: Any, text: str, priority: int | None
) -> None:
    """A priority that isn't a 32-bit integer is kept as text, and zero is present."""
    run = await exact_run(rigged, with_member("priority", text))

    if priority is None:
        assert not run.HasField("priority")
        assert text == run.unmodeled_json["priority"]
    else:
        assert (True, priority) == (run.HasField("priority"), run.priority)
        assert {} == run.unmodeled_json


@pytest.mark.fault(16)
@pytest.mark.parametrize("absent", [None, "null"])
async def test_priority_that_is_absent_is_unset(
    rigged: Any, absent: str | None
) -> None:
    """An absent or null priority is unset."""
    run = await exact_run(
        rigged, with_member("priority", absent) if absent else true_run(ID)
    )

    assert not run.HasField("priority")


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    ("text", "tags"),
    [
        pytest.param("{}", {}, id="empty"),
        pytest.param("null", {}, id="null"),
        pytest.param('{"a": ""}', {"a": ""}, id="empty-value"),
        pytest.param('{"": "a"}', {"": "a"}, id="empty-name"),
        pytest.param('{"a": "b", "c": "d"}', {"a": "b", "c": "d"}, id="two"),
        pytest.param('{"a": null}', None, id="null-value"),
        pytest.param('{"a": "b", "A": ""}', {"a": "b", "A": ""}, id="case"),
        pytest.param(r'{"\u0000": "\u0000"}', {"\0": "\0"}, id="nul"),
        pytest.param('{"a": 1}', None, id="number-value"),
        pytest.param('{"a": {"b": "c"}}', None, id="object-value"),
        pytest.param("[]", None, id="list"),
        pytest.param('[{"key": "a", "value": "b"}]', None, id="list-of-pairs"),
        pytest.param('"a=b"', None, id="text"),
        pytest.param('{"a": "b", "a": "b"}', None, id="duplicate-alike"),
        pytest.param(r'{"\udc00": "a"}', None, id="surrogate-name"),
        pytest.param('{"a": "b", "a": "c"}', None, id="duplicate"),
        pytest.param(r'{"a": "\ud800"}', None, id="surrogate"),
    ],
)
async def test_tags_are_a_map_or_kept(
    rigged: Any, text: str, tags: dict[str, str] | None
) -> None:
    """Tags that aren't a map of strings are kept as text."""
    run = await exact_run(rigged, with_member("tags", text))

    assert (tags or {}) == dict(run.tags)
    assert (tags is None) == ("tags" in run.unmodeled_json)


INSTANTS = {
    **{
        f"{digits}-digits": (f'"2026-01-02T03:04:05.{"123456789"[:digits]}Z"', True)
        for digits in range(1, 10)
    },
    "0-digits": ('"2026-01-02T03:04:05Z"', True),
    "10-digits": ('"2026-01-02T03:04:05.1234567891Z"', False),
    "10-digits-the-last-0": ('"2026-01-02T03:04:05.1234567890Z"', False),
    "offset": ('"2026-01-02T03:04:05+01:30"', True),
    "offset-of-zero": ('"2026-01-02T03:04:05+00:00"', True),
    "offset-unknown": ('"2026-01-02T03:04:05-00:00"', True),
    "offset-of-a-day": ('"2026-01-02T03:04:05+24:00"', False),
    "offset-of-60-minutes": ('"2026-01-02T03:04:05+01:60"', False),
    "offset-without-colon": ('"2026-01-02T03:04:05+0130"', False),
    "offset-of-hours": ('"2026-01-02T03:04:05+01"', False),
    "offset-and-digits": ('"2026-01-02T03:04:05.000000001-23:59"', True),
    "before-year-1": ('"0001-01-01T00:00:00+00:01"', False),
    "after-year-9999": ('"9999-12-31T23:59:59-00:01"', False),
    "last-instant": ('"9999-12-31T23:59:59.999999999Z"', True),
    "before-the-epoch": ('"1969-12-31T23:59:59.999999999Z"', True),
    "epoch": ('"1970-01-01T00:00:00Z"', True),
    "small-letters": ('"2026-01-02t03:04:05z"', True),
    "space-for-t": ('"2026-01-02 03:04:05Z"', False),
    "space-behind": ('"2026-01-02T03:04:05Z "', False),
    "newline-behind": (r'"2026-01-02T03:04:05Z\n"', False),
    "no-digits": ('"2026-01-02T03:04:05.Z"', False),
    "comma": ('"2026-01-02T03:04:05,5Z"', False),
    "no-seconds": ('"2026-01-02T03:04Z"', False),
    "date": ('"2026-01-02"', False),
    "week": ('"2026-W01-5T03:04:05Z"', False),
    "no-dashes": ('"20260102T030405Z"', False),
    "hour-24": ('"2026-01-02T24:00:00Z"', False),
    "minute-60": ('"2026-01-02T03:60:00Z"', False),
    "leap-day": ('"2024-02-29T00:00:00Z"', True),
    "no-leap-day": ('"2026-02-29T00:00:00Z"', False),
    "month-13": ('"2026-13-01T00:00:00Z"', False),
    "minus": ('"-2026-01-02T03:04:05Z"', False),
    "http": ('"Fri, 02 Jan 2026 03:04:05 GMT"', False),
    "arabic-digits": ('"\u0662\u0660\u0662\u0666-01-02T03:04:05Z"', False),
    "no-offset": ('"2026-01-02T03:04:05"', False),
    "second-60": ('"2026-01-02T23:59:60Z"', False),
    "year-0": ('"0000-01-01T00:00:00Z"', False),
    "year-1": ('"0001-01-01T00:00:00Z"', True),
    "year-9999": ('"9999-12-31T23:59:59Z"', True),
    "year-10000": ('"10000-01-01T00:00:00Z"', False),
    "february-30": ('"2026-02-30T00:00:00Z"', False),
    "epoch-number": ("1767323045", False),
    "epoch-fraction": ("1767323045.25", False),
    "epoch-text": ('"1767323045"', False),
    "text": ('"yesterday"', False),
    "empty": ('""', False),
}


@pytest.mark.guarantee("exact-answers")
@pytest.mark.fault(16)
@pytest.mark.parametrize(
    ("text", "is_typed"),
    [pytest.param(*each, id=name) for name, each in INSTANTS.items()],
)
async def test_timestamp_is_an_instant_or_kept(
    rigged: Any, text: str, *, is_typed: bool
) -> None:
    """A time that is exact to the nanosecond is typed, any other is kept as text."""
    times = "".join(f', "{name}": {text}' for name in TIMES)
    run = await exact_run(rigged, json.dumps({"id": ID})[:-1] + times + "}")

    for name, field in TIMES.items():
        assert is_typed == run.HasField(field)
        assert (None if is_typed else text) == run.unmodeled_json.get(name)
