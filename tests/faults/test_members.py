"""Members at the edge of what can be typed, and the id that must be the run's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faults.lying import CANARY, true_run
from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.errors import Reason
from rebuild import differences
from support import http

ID = "2000016"
MEMBERS = [field.json_name for field in Run.DESCRIPTOR.fields if field.number < 1000]


def with_id(text: str) -> str:
    """Tell of a run under an id that is this JSON text; of none where it's empty."""
    id_ = f'"id": {text}, ' if text else ""
    return f'{{{id_}"name": "{CANARY}", "status": "RUNNING"}}'


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="missing"),
        pytest.param('"2000017"', id="other"),
        pytest.param(ID, id="number"),
        pytest.param("null", id="null"),
        pytest.param('""', id="empty"),
        pytest.param(f'" {ID}"', id="space-before"),
        pytest.param(rf'"{ID}\n"', id="newline-behind"),
        pytest.param(f'"0{ID}"', id="zero-before"),
        pytest.param(f'["{ID}"]', id="list"),
        pytest.param(f'"{ID}", "id": "2000017"', id="twice"),
        pytest.param('"\uff12\uff10\uff10\uff10\uff10\uff11\uff16"', id="wide-digits"),
    ],
)
async def test_answer_about_another_run_is_never_delivered(
    rigged: Any, text: str
) -> None:
    """Without the very id that was asked for it's an error, after one more call."""
    async with rigged() as rig:
        lie = http(with_id(text))
        rig.upstream.lie(ID, lie, lie, http(true_run(ID)))
        refusal = await rig.refusal(ID, Reason.UPSTREAM_IDENTITY_MISMATCH)
        assert 2 == rig.upstream.asked[ID]
        run = await rig.run(ID)  # and it isn't remembered

    assert ID == refusal.metadata["runId"]
    assert (ID, "germline") == (run.id, run.name)


async def exact(rigged: Any, sent: str) -> Run:
    """Give the run that an answer becomes, exact as the contract has it."""
    async with rigged() as rig:
        rig.upstream.lie(ID, http(sent))
        run: Run = await rig.run(ID)
        assert 1 == rig.upstream.asked[ID]
    assert [] == differences(sent, run)
    return run


def spliced(name: str, text: str) -> str:
    """Tell of a run with a member that is this JSON text."""
    return json.dumps({"id": ID})[:-1] + f', "{name}": {text}}}'


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    "text",
    [
        *("null", "true", "0", "-1", "1.5", "1e2", "2147483648", '""', '"x"', "[]"),
        *("{}", "[null]", '{"": null}', '["a", 1]', '{"a": 1}', r'"\ud800"'),
    ],
)
async def test_member_of_any_type_is_exact(rigged: Any, text: str) -> None:
    """Whatever AWS puts where, no member makes a call fail and each can be rebuilt."""
    others = [each for each in MEMBERS if each != "id"]
    sent = json.dumps({"id": ID})[:-1] + "".join(
        f', "{each}": {text}' for each in others
    )
    await exact(rigged, sent + "}")


@pytest.mark.fault(16)
async def test_unknown_members_and_values_are_kept(rigged: Any) -> None:
    """What is newer than the contract reaches the caller as its text."""
    sent = true_run(
        ID, status="HIBERNATING", storageType="TAPE", brandNew={"deep": [1, None]}
    )
    run = await exact(rigged, sent)

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
        *((each, None) for each in ("1.5", "true", "2147483648", '"1"', "1e400")),
    ],
)
async def test_priority_is_a_number_or_kept(
    rigged: Any, text: str, priority: int | None
) -> None:
    """A priority that is none of 32 bits stands in the texts, and zero isn't absent."""
    run = await exact(rigged, spliced("priority", text))

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
    """Nothing and null are no priority."""
    run = await exact(rigged, spliced("priority", absent) if absent else true_run(ID))

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
        pytest.param('{"a": "b", "a": "c"}', None, id="duplicate"),
        pytest.param(r'{"a": "\ud800"}', None, id="surrogate"),
    ],
)
async def test_tags_are_a_map_or_kept(
    rigged: Any, text: str, tags: dict[str, str] | None
) -> None:
    """Tags that aren't texts by name stand in the texts, whole."""
    run = await exact(rigged, spliced("tags", text))

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


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    ("text", "is_typed"),
    [pytest.param(*each, id=name) for name, each in INSTANTS.items()],
)
async def test_timestamp_is_an_instant_or_kept(
    rigged: Any, text: str, *, is_typed: bool
) -> None:
    """A time that is one instant to the nanosecond is typed, any other is kept."""
    run = await exact(rigged, spliced("startTime", text))

    assert is_typed == run.HasField("start_time")
    assert is_typed != ("startTime" in run.unmodeled_json)
