"""A run as a person reads it."""

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
    """Give a run of the sandbox as the gateway answers it, with more members."""
    members = Catalog(now=lambda: NOW, monotonic=lambda: 0.0).run(run_id) | more
    return run_from_json(json.dumps(members).encode(), run_id=run_id)


def lines(run: Run) -> dict[str, str]:
    """Give what is shown below the heading, by label."""
    _, *below = run_text(run, now=NOW).plain.splitlines()
    return {each[2:14].rstrip(): each[14:] for each in below}


def test_settled_run_is_shown_line_by_line() -> None:
    """Status, times as durations, where outputs and logs are, tags: a line each."""
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


def test_young_run_shows_what_there_is() -> None:
    """A run that waits has no line for what hasn't come."""
    assert [
        "Run 1000001  PENDING",
        "  name        HG003-germline",
        "  created     30m 0s ago (2025-11-18 09:30:00 UTC)",
        "  waited      30m 0s so far",
        "  workflow    4815162 PRIVATE",
        "  outputs     s3://example-genomics/results",
        "  uuid        084566b8-51a2-59da-a98b-5d62b2cbe3e6",
    ] == run_text(answer("1000001"), now=NOW).plain.splitlines()


def test_run_of_nothing_is_shown() -> None:
    """A run whose members were all left out is a heading alone."""
    assert "Run   no status" == run_text(Run(), now=NOW).plain


def test_failed_run_tells_why_first() -> None:
    """The reason and the message of a failure stand above the times."""
    shown = lines(answer("1000008"))

    assert ["name", "why", "message", "created"] == list(shown)[:4]
    assert "WORKFLOW_RUN_FAILED" == shown["why"]
    assert "failed with exit code 137" in shown["message"]


@pytest.mark.parametrize(("run_id", "status"), STATUSES)
def test_status_is_shown_in_aws_word(run_id: str, status: str) -> None:
    """Each of the eight statuses heads its run in AWS's own word."""
    first = run_text(answer(run_id), now=NOW).plain.splitlines()[0]

    assert f"Run {run_id}  {status}" == first


def test_ended_run_stands_out_by_its_colour() -> None:
    """A success is green, a failure red, what was called off yellow."""
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


def test_status_that_the_contract_does_not_know_is_shown() -> None:
    """A new status is shown in AWS's word, one of a newer gateway by its number."""
    assert "Run 3000002  ARCHIVING" in run_text(answer("3000002"), now=NOW).plain
    newer = Run(id="7", status=99, workflow_type=98)  # type: ignore[arg-type]  # open enums

    assert "Run 7  99\n  workflow    98" == run_text(newer, now=NOW).plain


def test_time_that_is_not_typed_is_not_reckoned_with() -> None:
    """A start or a stop that came, but isn't a time, doesn't count as not come."""
    no_start = lines(answer("1000003", startTime="2025-11-18T07:52:31"))
    no_stop = lines(answer("1000005", stopTime="yesterday"))
    never_started = lines(answer("1000002", stopTime="2025-11-18T09:30:00Z"))

    assert {"created"} == {"created", "waited", "ran", "stopped"} & no_start.keys()
    assert {"created", "waited"} == {"created", "waited", "ran"} & no_stop.keys()
    assert "30m 0s ago" == never_started["stopped"]
    assert not {"waited", "ran"} & never_started.keys()


def test_run_under_way_is_reckoned_up_to_now() -> None:
    """What a run has waited is over once it runs; what it runs goes on."""
    shown = lines(answer("1000003"))

    assert ("7m 21s", "2h 7m so far") == (shown["waited"], shown["ran"])


def test_clock_that_is_behind_shows_no_negative_time() -> None:
    """A run from the future was created just now."""
    run = answer("1000001", creationTime="2025-11-18T10:00:05Z")

    assert lines(run)["created"].startswith("0s ago")


@pytest.mark.parametrize("run_id", IDS)
def test_every_run_of_the_sandbox_can_be_shown(run_id: str) -> None:
    """Whatever the sandbox answers, the heading is the run and each line is full."""
    first, *below = run_text(answer(run_id), now=NOW).plain.splitlines()

    assert first.startswith(f"Run {run_id}  ")
    assert all(re.fullmatch(r"  \S.* \S.*", each) for each in below)


def test_tags_are_shown_in_order() -> None:
    """Tags are sorted by key, wherever they stood in the answer."""
    tags = dict.fromkeys("qwertyuiopasdfghjkl", "1")

    shown = lines(answer("1000001", tags=tags))["tags"]
    assert ", ".join(f"{key}=1" for key in sorted(tags)) == shown


def test_members_without_a_field_are_shown_under_their_names() -> None:
    """What the contract can't type is shown as AWS's JSON, apart from its name."""
    shown = run_text(answer("3000002"), now=NOW).plain.splitlines()

    assert "  queuePosition 7" in shown
    assert '  accelerators "NEUROMORPHIC"' in shown
    assert "  priority    1.5" in shown
    assert '  vpcConfig.edgeLocation "IAD89"' in shown


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text(), st.text())
def test_control_characters_do_not_reach_a_terminal(
    name: str, key: str, value: str
) -> None:
    """Whatever text a run holds, a terminal has nothing in it to obey."""
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
def test_plain_text_leaves_out_what_a_terminal_obeys(character: str) -> None:
    """Escapes, line breaks and what turns the direction of text become spaces."""
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
def test_whole_number_of_a_document_is_an_integer_in_json(
    number: float, text: str
) -> None:
    """What was sent as 20 isn't printed as 20.0, which many readers take for no Int."""
    run = Run(id="7")
    run.parameters.list_value.extend([number, {"n": number}])

    assert f'{{"id": "7", "parameters": [{text}, {{"n": {text}}}]}}' == run_json(run)
