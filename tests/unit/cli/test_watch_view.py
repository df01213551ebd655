"""A watched run as lines of text and of JSON."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.cli.run_view import run_text
from healthomics_gateway.cli.watch_view import (
    JsonLines,
    Lines,
    Observation,
    live_text,
    observation_of,
    state_text,
)

NOW = datetime(2025, 11, 18, 10, 0, tzinfo=UTC)


def run(word: str, at: str = "", /, **more: Any) -> Run:
    """Return a run with a status, observed at that time of the day."""
    number = RunStatus.Value(f"RUN_STATUS_{word}") if word else None
    times = {name: more.pop(name) for name in tuple(more) if name.endswith("_time")}
    made = Run(id="7", status=number, **more)
    for name, time in (times | ({"observe_time": at} if at else {})).items():
        getattr(made, name).FromJsonString(f"2025-11-18T{time}Z")
    return made


def observations(*runs: Run) -> list[Observation]:
    """Return the observations of consecutive states."""
    seen: list[Observation] = []
    for each in runs:
        seen.append(observation_of(each, seen[-1] if seen else None, now=NOW))
    return seen


def lines(*runs: Run) -> list[str]:
    """Return the line of each state."""
    seen = observations(*runs)
    formers = (None, *seen)
    return [
        state_text(each, former).plain
        for each, former in zip(seen, formers, strict=False)
    ]


def live(*runs: Run) -> str:
    """Return the live line after these states."""
    return live_text("7", observations(*runs)[-1], now=NOW).plain


def terminal() -> Console:
    """Return a terminal that keeps what is written to it."""
    environ = {"TERM": "xterm"}  # the environment may not set it
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        width=60,
        highlight=False,
        color_system="standard",
        _environ=environ,
    )


def sent(console: Console) -> str:
    """Return what was written to a console."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# The line of a state


def test_state_line_has_time_status_and_previous_status() -> None:
    """The duration of a status is the time between two observations."""
    assert [
        "2025-11-18 09:00:08 UTC  PENDING",
        "2025-11-18 09:00:13 UTC  STARTING   after 13s of PENDING",
        "2025-11-18 09:02:18 UTC  RUNNING    after 2m 5s of STARTING",
        "2025-11-18 09:59:00 UTC  COMPLETED  after 56m 42s of RUNNING",
    ] == lines(
        run("PENDING", "09:00:08", creation_time="09:00:00"),
        run("STARTING", "09:00:13"),
        run("RUNNING", "09:02:18"),
        run("COMPLETED", "09:59:00"),
    )


@pytest.mark.parametrize(
    "first", [run("PENDING", "09:00:00"), run("RUNNING", "09:00:00")]
)
def test_first_status_has_a_minimum_duration(first: Run) -> None:
    """A status that began before the watch has lasted at least that long."""
    word = RunStatus.Name(first.status).removeprefix("RUN_STATUS_")
    (_, line) = lines(first, run("STOPPING", "09:00:05"))

    assert line.endswith(f"  after at least 5s of {word}")


def test_state_without_a_time_is_dated_now() -> None:
    """A server that sends no time of observation causes no crash."""
    assert ["2025-11-18 10:00:00 UTC  RUNNING"] == lines(run("RUNNING"))


def test_state_line_has_the_reason_of_a_failure() -> None:
    """The line has the reason and the message."""
    failed = run(
        *("FAILED", "09:00:05"),
        failure_reason="WORKFLOW_RUN_FAILED",
        status_message="No.",
    )
    expected = (
        "2025-11-18 09:00:05 UTC  FAILED     after at least 5s of RUNNING;"
        " WORKFLOW_RUN_FAILED; No."
    )

    assert expected == lines(run("RUNNING", "09:00:00"), failed)[1]
    assert "  FAILED     WORKFLOW_RUN_FAILED; No." in lines(failed)[0]


def test_change_within_a_status_lists_the_members() -> None:
    """Added, removed and changed members are listed, unmodeled ones by AWS's name."""
    before = run("RUNNING", "09:00:00", name="a", priority=1, tags={"a": "b"})
    before.unmodeled_json["queuePosition"] = "7"
    after = run("RUNNING", "09:00:05", name="b", digest="d", tags={"a": "b"})
    after.unmodeled_json["queuePosition"] = "6"

    expected = "changed: digest, name, priority, queuePosition"
    assert lines(before, after)[1].endswith(f"  RUNNING    {expected}")
    assert live(before, after).startswith("Run 7 b  RUNNING for at least 1h 0m")


def test_change_of_an_unknown_member_is_shown() -> None:
    """It has no name here, but it is a change."""
    newer = run("RUNNING", "09:00:05")
    newer.MergeFromString(b"\xfa\xff\x7f\x01x")

    assert lines(run("RUNNING", "09:00:00"), newer)[1].endswith("  changed: unknown")


def test_status_has_the_same_colour_everywhere() -> None:
    """The state line, the live line and `get` have the same colours."""
    for word in RunStatus.keys()[1:]:
        (seen,) = observations(Run(status=word))
        shown = run_text(seen.run, now=NOW).spans[-1].style
        for text in (state_text(seen, None), live_text("7", seen, now=NOW)):
            assert shown == text.spans[-1].style


# The live line


def test_live_line_has_durations_and_next_status() -> None:
    """It has run, name, status, both durations and the next status."""
    pending = run("PENDING", "09:59:55", name="exome", creation_time="09:59:50")
    running = run(
        "RUNNING", "09:59:58", creation_time="09:59:50", start_time="09:59:57"
    )

    assert "Run 7 exome  PENDING for 10s, created 10s ago, then STARTING" == live(
        pending
    )
    assert "Run 7  RUNNING for 2s, started 3s ago, then STOPPING" == live(
        pending, running
    )


@pytest.mark.parametrize(
    ("word", "next_"),
    [
        ("PENDING", ", then STARTING"),
        ("STARTING", ", then RUNNING"),
        ("RUNNING", ", then STOPPING"),
        ("STOPPING", ", then COMPLETED or FAILED"),
        ("COMPLETED", ""),
        ("FAILED", ""),
    ],
)
def test_live_line_has_the_next_status_if_known(word: str, next_: str) -> None:
    """Nothing comes after a final status."""
    assert f"Run 7  {word} for at least 5s{next_}" == live(run(word, "09:59:55"))


def test_live_line_of_an_unknown_status_has_no_next() -> None:
    """A status newer than the contract is shown by AWS's name."""
    unknown = run("", "09:59:55")
    unknown.unmodeled_json["status"] = '"ARCHIVING"'

    assert "Run 7  ARCHIVING for at least 5s" == live(unknown)
    assert "Run 7  no status for at least 5s" == live(run("", "09:59:55"))


def test_live_line_before_the_first_state() -> None:
    """Before the first state, the line says that it waits."""
    assert "Run 7  waiting for its state" == live_text("7", None, now=NOW).plain


@settings(max_examples=200, deadline=None)
@given(st.text(), st.text())
def test_watch_text_has_no_control_characters(text: str, key: str) -> None:
    """Text of a run can't send control characters to the terminal."""
    first = run("", "09:00:00", name=text, failure_reason=text, status_message=text)
    first.unmodeled_json["status"] = f'"{text}"'
    second = run("", "09:00:05", name=text)
    second.unmodeled_json.update({"status": f'"{text}x"', key: "1"})
    third = run("", "09:00:06", name=text)
    third.unmodeled_json.update({"status": f'"{text}x"'})

    for shown in (*lines(first, second, third), live(first, second), live(third)):
        assert shown.isprintable()
    assert live_text(text, None, now=NOW).plain.isprintable()


# The output


def test_lines_in_a_file_have_no_escapes() -> None:
    """A file gets a line for each state and then the run, without escapes."""
    answers, failures = io.StringIO(), io.StringIO()
    states = [run("RUNNING", "09:59:00", name="[red]"), run("FAILED", "10:00:00")]
    states[1].status_message = "x" * 200
    lines_ = Lines("7", Console(file=answers), failures, is_live=False, now=lambda: NOW)
    with lines_ as view:
        for each in states:
            view.show(each)
        view.note("it broke")
    view.end(states[0])

    assert "it broke\n" == failures.getvalue()
    assert [
        *lines(*states),
        "Run 7  RUNNING",
        "  name        [red]",
        "  read        1m 0s ago",
    ] == answers.getvalue().splitlines()


def test_live_line_is_below_other_lines() -> None:
    """States and notes are written in its place; then it is shown again."""
    console, failures = terminal(), io.StringIO()
    with Lines("7", console, failures, is_live=True, now=lambda: NOW) as view:
        view.show(run("RUNNING", "09:59:55"))
        shown = sent(console)
        view.note("it broke")
        reported = sent(console).removeprefix(shown)
    left = sent(console).removeprefix(shown + reported)

    hide, erase, restore = "\x1b[?25l", "\r\x1b[1A\x1b[2K", "\x1b[?25h"
    waiting, _, again = shown.partition(erase)
    assert waiting.startswith(hide)
    assert "waiting for its state" in waiting
    assert waiting.endswith(restore)
    assert again.startswith("2025-11-18 09:59:55 UTC  ")
    assert "then STOPPING" in again
    assert "it broke\n" == failures.getvalue()
    assert reported.partition(erase)[2].startswith(hide)
    assert left.endswith(restore + erase)


def test_live_line_is_removed_at_the_end() -> None:
    """However the watch ends, the cursor is back and the line is gone."""
    console = terminal()
    with (
        pytest.raises(KeyboardInterrupt),
        Lines("7", console, io.StringIO(), is_live=True, now=lambda: NOW),
    ):
        raise KeyboardInterrupt

    assert sent(console).endswith("\x1b[?25h\r\x1b[1A\x1b[2K")


def test_live_line_stays_one_line() -> None:
    """A long name is cut, and on a narrow terminal the whole line."""
    console = terminal()
    with Lines("7", console, io.StringIO(), is_live=True, now=lambda: NOW) as view:
        view.show(run("RUNNING", "09:59:55", name="x" * 128))
    line = sent(console).split("\n")[-2].rpartition("\r\x1b[2K")[2]

    assert f"Run 7 {'x' * 39}…  RUNNING for…" == Text.from_ansi(line).plain


class Pipe(io.StringIO):
    """A stream that records what was written before each flush."""

    def __init__(self) -> None:
        """Start without any."""
        super().__init__()
        self.flushed: list[str] = []

    def flush(self) -> None:
        """Record it."""
        self.flushed.append(self.getvalue())


def test_json_is_one_line_for_each_state() -> None:
    """Each state is a line that parses as the run, flushed at once."""
    pipe, failures = Pipe(), io.StringIO()
    states = [run("RUNNING", "09:59:00", name="Zoë\n"), run("FAILED", "10:00:00")]
    with JsonLines(pipe, failures) as view:
        for each in states:
            view.show(each)
        view.note("it broke")
    view.end(states[1])
    written = pipe.getvalue().splitlines()

    assert "it broke\n" == failures.getvalue()
    assert states == [json_format.Parse(line, Run()) for line in written]
    assert "RUN_STATUS_RUNNING" == json.loads(written[0])["status"]
    assert [f"{written[0]}\n", pipe.getvalue()] == pipe.flushed
