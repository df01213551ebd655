"""What `check` writes for people and for programs."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from healthomics_gateway.check.runner import Ended
from healthomics_gateway.check.step import Result, Step, failed, ok, skipped
from healthomics_gateway.cli.check_view import JsonObject, Lines

WIDTH = 60
LONG = "the certificate expired; renew it, and read the guide on how to renew it"


def ended(title: str, result: Result) -> Ended:
    """Return a step that has ended."""

    async def run(_found: object) -> Result:
        return result

    return Ended(Step(name="a", title=title, run=run, seconds=1), result, 0.12345)


def shown(*results: Result, is_terminal: bool = False) -> tuple[list[str], bool]:
    """Return the lines of these results, without escape sequences, and the verdict."""
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=is_terminal, width=WIDTH, highlight=False
    )
    with Lines(console) as view:
        for result in results:
            step = ended("clock", result)
            view.began(step.step)
            view.show(step)
        verdict = view.summarize()
    text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", file.getvalue())
    return [line.rstrip() for line in text.splitlines()], verdict


def test_step_has_a_line_for_each_problem_and_note() -> None:
    """The status and the title are written once, and no line is wrapped."""
    lines, verdict = shown(failed(LONG, "other", notes=("AWS says: \x1b",)), ok("fine"))

    assert [
        f"failed   clock          {LONG}",
        " " * 24 + "other",
        " " * 24 + "note: AWS says:",
        "ok       clock          fine",
        "1 step has failed.",
    ] == lines
    assert not verdict


def test_terminal_shows_progress_and_wraps_each_text() -> None:
    """A text is wrapped in its column."""
    lines, verdict = shown(failed(LONG), failed("b"), skipped("c"), is_terminal=True)

    assert any("clock ..." in line for line in lines)
    assert [
        "failed   clock          the certificate expired; renew it,",
        " " * 24 + "and read the guide on how to renew",
        " " * 24 + "it",
    ] == [line for line in lines if "certificate" in line or line.startswith(" " * 24)]
    assert "2 steps have failed." == lines[-1]
    assert not verdict


def test_json_has_all_steps_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The object has the verdict and each step's facts."""
    with JsonObject() as view:
        view.began(ended("clock", ok("")).step)
        view.show(ended("clock", ok("fine", "soon")))
        verdict = view.summarize()
    written = json.loads(capsys.readouterr().out)

    assert verdict is written["ok"] is True
    assert [
        {
            "step": "a",
            "status": "ok",
            "detail": "fine",
            "problems": [],
            "notes": ["soon"],
            "seconds": 0.123,
        }
    ] == written["steps"]
