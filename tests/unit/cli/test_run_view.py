"""A run as text and as JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.cli.run_view import run_json, run_text
from healthomics_gateway.cli.usage import plain
from healthomics_gateway.sandbox import RUNS_HELP
from healthomics_gateway.sandbox.catalog import Catalog
from healthomics_gateway.sandbox.runs import DEFINITION
from healthomics_gateway.upstream.translate import run_from_json

NOW = datetime(2025, 11, 18, 10, 0, tzinfo=UTC)
IDS = [line[:7] for line in RUNS_HELP.splitlines() if line[0] in "1235"]
STATUSES = [line.split() for line in RUNS_HELP.splitlines() if line[0] == "1"]


def answer(run_id: str, **more: object) -> Run:
    """Return a run of the sandbox as the gateway answers it, with more members."""
    members = Catalog(now=lambda: NOW, monotonic=lambda: 0.0).run(run_id) | more
    return run_from_json(json.dumps(members).encode(), run_id=run_id)


def lines(run: Run) -> dict[str, str]:
    """Return the lines below the heading, by label."""
    _, *below = run_text(run, now=NOW).plain.splitlines()
    return {each[2:14].rstrip(): each[14:] for each in below}


def test_run_has_a_line_for_each_part() -> None:
    """Status, durations, outputs, logs and tags have a line each."""
    run = answer("1000005", workflowVersionName="2.3.0", definition=DEFINITION)
    run.observe_time.FromJsonString("2025-11-18T09:59:57Z")
    stream = (
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/omics/WorkflowLog"
        ":log-stream:run/1000005"
    )

    assert [
        "Run 1000005  COMPLETED",
        "  name        HG007-germline",
        "  created     15h 58m ago (2025-11-17 18:01:02 UTC)",
        "  waited      6m 37s",
        "  ran         4h 22m",
        "  stopped     11h 29m ago",
        "  workflow    4815162 2.3.0 PRIVATE",
        "  storage     1200 GiB",
        "  outputs     s3://example-genomics/results/1000005",
        f"  run log     {stream}",
        f"  engine log  {stream}/engine",
        "  tags        cost-center=4711, project=giab",
        "  uuid        3e8373be-ffd3-5218-b38e-a38b3f1cf2b4",
        "  definition  s3://example-genomics/workflows/germline-variant-calling-2.3.0.zip",
        "  read        3s ago",
    ] == run_text(run, now=NOW).plain.splitlines()


def test_run_without_members_has_no_lines_for_them() -> None:
    """A waiting run has no line for what isn't there yet."""
    assert [
        "Run 1000001  PENDING",
        "  name        HG003-germline",
        "  created     30m 0s ago (2025-11-18 09:30:00 UTC)",
        "  waited      30m 0s so far",
        "  workflow    4815162 PRIVATE",
        "  outputs     s3://example-genomics/results",
        "  uuid        084566b8-51a2-59da-a98b-5d62b2cbe3e6",
    ] == run_text(answer("1000001"), now=NOW).plain.splitlines()


def test_empty_run_is_a_heading() -> None:
    """A run without any member has only a heading."""
    assert "Run   no status" == run_text(Run(), now=NOW).plain


def test_failed_run_starts_with_its_reason() -> None:
    """The reason and the message of a failure are above the times."""
    shown = lines(answer("1000008"))

    assert ["name", "why", "message", "created"] == list(shown)[:4]
    assert "WORKFLOW_RUN_FAILED" == shown["why"]
    assert "failed with exit code 137" in shown["message"]


@pytest.mark.parametrize(("run_id", "status"), STATUSES)
def test_status_has_the_name_of_aws(run_id: str, status: str) -> None:
    """Each of the eight statuses is shown by AWS's name."""
    first = run_text(answer(run_id), now=NOW).plain.splitlines()[0]

    assert f"Run {run_id}  {status}" == first


def test_final_status_has_a_colour() -> None:
    """A success is green, a failure red, a cancelled or deleted run yellow."""
    colours = {}
    for run_id, status in STATUSES:
        spans = run_text(answer(run_id), now=NOW).spans
        start = len(f"Run {run_id}  ")
        colours[status] = next(str(each.style) for each in spans if each.start == start)

    assert {
        "COMPLETED": "bold green",
        "FAILED": "bold red",
        "CANCELLED": "bold yellow",
        "DELETED": "bold yellow",
    } == {status: colour for status, colour in colours.items() if "cyan" not in colour}
    assert len(STATUSES) == len(colours)


def test_unknown_status_is_shown() -> None:
    """A status unknown to the contract is AWS's name; an unknown enum its number."""
    assert "Run 3000002  ARCHIVING" in run_text(answer("3000002"), now=NOW).plain
    newer = Run(id="7", status=99, workflow_type=98)  # type: ignore[arg-type]  # open enums

    assert "Run 7  99\n  workflow    98" == run_text(newer, now=NOW).plain


def test_time_without_a_type_is_not_used() -> None:
    """A start or stop that isn't a valid time doesn't count as missing."""
    no_start = lines(answer("1000003", startTime="2025-11-18T07:52:31"))
    no_stop = lines(answer("1000005", stopTime="yesterday"))
    never_started = lines(answer("1000002", stopTime="2025-11-18T09:30:00Z"))

    assert {"created"} == {"created", "waited", "ran", "stopped"} & no_start.keys()
    assert {"created", "waited"} == {"created", "waited", "ran"} & no_stop.keys()
    assert "30m 0s ago" == never_started["stopped"]
    assert not {"waited", "ran"} & never_started.keys()


def test_duration_under_way_ends_now() -> None:
    """Waiting ends when the run starts; running goes on until now."""
    shown = lines(answer("1000003"))

    assert ("7m 21s", "2h 7m so far") == (shown["waited"], shown["ran"])


def test_durations_are_never_negative() -> None:
    """A run with a creation time in the future was created just now."""
    run = answer("1000001", creationTime="2025-11-18T10:00:05Z")

    assert lines(run)["created"].startswith("0s ago")


@pytest.mark.parametrize("run_id", IDS)
def test_every_run_of_the_sandbox_can_be_shown(run_id: str) -> None:
    """Each run of the sandbox has its heading and no empty line."""
    first, *below = run_text(answer(run_id), now=NOW).plain.splitlines()

    assert first.startswith(f"Run {run_id}  ")
    assert all(re.fullmatch(r"  \S.* \S.*", each) for each in below)


def test_tags_are_sorted() -> None:
    """Tags are sorted by key."""
    tags = dict.fromkeys("qwertyuiopasdfghjkl", "1")

    shown = lines(answer("1000001", tags=tags))["tags"]
    assert ", ".join(f"{key}=1" for key in sorted(tags)) == shown


def test_unmodeled_members_are_shown_by_name() -> None:
    """Members without a field are shown as AWS's JSON, by AWS's names."""
    shown = run_text(answer("3000002"), now=NOW).plain.splitlines()

    assert "  queuePosition 7" in shown
    assert '  accelerators "NEUROMORPHIC"' in shown
    assert "  priority    1.5" in shown
    assert '  vpcConfig.edgeLocation "IAD89"' in shown


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.text())
def test_run_text_has_no_control_characters(name: str, key: str, value: str) -> None:
    """Text of a run can't send control characters to the terminal."""
    run = Run(id=name, name=name + "x", tags={key: value}, uuid=value)
    run.unmodeled_json[key] = value
    run.unmodeled_json["status"] = f'"{value}"'
    shown = run_text(run, now=NOW).plain.split("\n")

    assert all(each.isprintable() for each in shown)
    labels = ["Run", "name", "tags", *({"uuid"} if value else {}), *{key, "status"}]
    assert len(labels) == len(shown)


@pytest.mark.parametrize(
    "character",
    ["\x1b", "\n", "\r", "\t", "\x00", "\x7f", "\x9b", "\u202e", "\u2028"],
)
def test_plain_replaces_control_characters(character: str) -> None:
    """Escapes, line breaks and direction marks become spaces."""
    assert "a b" == plain(f"a{character}b")
    assert "Zoë, 第二次" == plain("Zoë, 第二次")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        pytest.param(20.0, "20", id="whole"),
        pytest.param(-3.0, "-3", id="negative"),
        pytest.param(0.1, "0.1", id="fraction"),
        pytest.param(2.0**53, "9007199254740992", id="largest-exact"),
        pytest.param(1e21, "1000000000000000000000", id="exponent"),
        pytest.param(1e23, "1" + "0" * 23, id="shortest-decimal"),
        pytest.param(1e-7, "1e-07", id="small"),
    ],
)
def test_whole_number_is_an_integer_in_json(number: float, text: str) -> None:
    """The number 20 isn't printed as 20.0."""
    run = Run(id="7")
    run.parameters.list_value.extend([number, {"n": number}])

    assert f'{{"id": "7", "parameters": [{text}, {{"n": {text}}}]}}' == run_json(run)
