"""Shows the results of `check`: a line for each step, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from healthomics_gateway.check.runner import Ended
from healthomics_gateway.check.step import Status, Step
from healthomics_gateway.cli.usage import plain
from healthomics_gateway.version import VERSION

STATUS_COLUMNS, TITLE_COLUMNS = 9, 15
STYLES: Mapping[str, str] = {
    Status.OK.value: "green",
    Status.FAILED.value: "bold red",
    Status.SKIPPED.value: "dim",
}


class View(Protocol):
    """Shows each step, and the whole at the end."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_exc: object) -> None:
        """Remove what shows the progress."""
        ...

    def began(self, step: Step) -> None:
        """Show that a step has begun."""
        ...

    def show(self, ended: Ended) -> None:
        """Show the result of a step."""
        ...

    def summarize(self) -> bool:
        """Show the result of all steps; return whether none has failed."""
        ...


def view_of(*, is_json: bool) -> View:
    """Return a view that writes to standard output."""
    return JsonObject() if is_json else Lines(Console(highlight=False))


@dataclass(slots=True)
class JsonObject:
    """Writes one JSON object at the end."""

    _steps: list[Ended] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Do nothing."""

    def began(self, _step: Step) -> None:
        """Do nothing."""

    def show(self, ended: Ended) -> None:
        """Keep the result."""
        self._steps.append(ended)

    def summarize(self) -> bool:
        """Write the object; return whether no step has failed."""
        is_ok = all(each.result.status is not Status.FAILED for each in self._steps)
        written = {
            "ok": is_ok,
            "version": VERSION,
            "steps": [_object_of(each) for each in self._steps],
        }
        sys.stdout.write(json.dumps(written) + "\n")
        return is_ok


def _object_of(ended: Ended) -> dict[str, object]:
    result = ended.result
    return {
        "step": ended.step.name,
        "status": result.status.value,
        "detail": result.detail,
        "problems": list(result.problems),
        "notes": list(result.notes),
        "seconds": round(ended.seconds, 3),
    }


class Lines:
    """Writes a line for each step, and on a terminal what it waits for."""

    def __init__(self, console: Console) -> None:
        """Write to `console`, in colour if it is a terminal."""
        self._console = console
        self._progress = console.status("") if console.is_terminal else None
        self._failed = 0

    def __enter__(self) -> Self:
        """Show the progress from now on."""
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Remove the progress."""
        if self._progress:
            self._progress.stop()

    def began(self, step: Step) -> None:
        """Show what is checked now."""
        if self._progress:
            self._progress.update(f"{step.title} ...")

    def show(self, ended: Ended) -> None:
        """Write the lines of a step."""
        result = ended.result
        self._failed += result.status is Status.FAILED
        texts = list(filter(None, (result.detail, *result.problems)))
        texts += [f"note: {each}" for each in result.notes]
        status, title = result.status.value, ended.step.title
        for text in map(plain, texts):
            if self._progress:
                self._console.print(_row(status, title, text))
            else:
                self._console.print(_line(status, title, text), soft_wrap=True)
            status = title = ""

    def summarize(self) -> bool:
        """Write how many steps have failed; return whether none has."""
        if self._progress:
            self._progress.stop()
        number = self._failed
        steps = "step has" if number == 1 else "steps have"
        self._console.print(f"{number or 'No'} {steps} failed.")
        return not number


def _line(status: str, title: str, text: str) -> Text:
    """Return one line, however long it is, for files and for `grep`."""
    return Text(f"{status:<{STATUS_COLUMNS}}{title:<{TITLE_COLUMNS}}{text}")


def _row(status: str, title: str, text: str) -> Table:
    """Return a row whose text is wrapped in a column of its own, for a terminal."""
    row = Table.grid()
    row.add_column(width=STATUS_COLUMNS)
    row.add_column(width=TITLE_COLUMNS)
    row.add_column(overflow="fold")
    row.add_row(Text(status, STYLES.get(status, "")), title, Text(text))
    return row
