"""A run that is watched, as a person or a program reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.cli.run_view import run_json, run_text, status_text, time_of
from healthomics_gateway.cli.usage import plain
from healthomics_gateway.durations import elapsed_text

STATUS_COLUMNS = 9  # of the longest
NAME_COLUMNS = 40  # of the line that lives, which must keep room for the rest
NEXT = {
    RunStatus.RUN_STATUS_PENDING: "STARTING",
    RunStatus.RUN_STATUS_STARTING: "RUNNING",
    RunStatus.RUN_STATUS_RUNNING: "STOPPING",
    RunStatus.RUN_STATUS_STOPPING: "COMPLETED or FAILED",
}


class JsonLines:
    """Writes each state as one JSON object, on a line of its own."""

    def __init__(self, answers: TextIO, failures: TextIO) -> None:
        self._answers = answers
        self._failures = failures

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """End."""

    def show(self, run: Run) -> None:
        """Write a state at once: a program waits for it."""
        self._answers.write(run_json(run) + "\n")
        self._answers.flush()

    def tell(self, line: str) -> None:
        """Write a line beside the answers."""
        self._failures.write(f"{line}\n")

    def end(self, _run: Run) -> None:
        """Write nothing: the last state has been written."""


class Lines:
    """Writes a line a state, and on a terminal one more that lives."""

    def __init__(
        self,
        run_id: str,
        console: Console,
        failures: TextIO,
        *,
        is_live: bool,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._run_id = run_id
        self._console = console
        self._failures = failures
        self._is_live = is_live
        self._now = now
        self._sight: Sight | None = None  # the last
        self._live = Live(
            console=console,
            get_renderable=self._live_text,
            refresh_per_second=1,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        """Begin to show the line that lives."""
        if self._is_live:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def show(self, run: Run) -> None:
        """Write what is new."""
        with self._aside():
            former = self._sight
            self._sight = sight_of(run, former, now=self._now())
            self._console.print(state_text(self._sight, former), soft_wrap=True)

    def tell(self, line: str) -> None:
        """Write a line beside the answers, which may go to the same terminal."""
        with self._aside():
            self._failures.write(f"{line}\n")
            self._failures.flush()

    def end(self, run: Run) -> None:
        """Show the run as `get` does."""
        self._console.print(run_text(run, now=self._now()), soft_wrap=True)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Take the line that lives away for a moment."""
        self._live.stop()
        yield
        self.__enter__()

    def _live_text(self) -> Text:
        return live_text(self._run_id, self._sight, now=self._now())


@dataclass(frozen=True, slots=True)
class Sight:
    """A state of a run, and since when its status is known."""

    run: Run
    at: datetime
    since: datetime
    is_since_begin: bool  # the status was seen to begin, or tells when it began

    @property
    def status(self) -> str:
        """AWS's word."""
        return status_text(self.run).plain

    def lasted_text(self, until: datetime) -> str:
        """Tell how long the run has had its status."""
        least = "" if self.is_since_begin else "at least "
        return least + elapsed_text(until - self.since)


def sight_of(run: Run, former: Sight | None, *, now: datetime) -> Sight:
    """Date a state by when it was observed."""
    at = time_of(run.observe_time) if run.HasField("observe_time") else now
    if former and former.status == status_text(run).plain:
        return Sight(run, at, former.since, former.is_since_begin)
    if former:
        return Sight(run, at, at, is_since_begin=True)
    if run.status == RunStatus.RUN_STATUS_PENDING and run.HasField("creation_time"):
        return Sight(run, at, time_of(run.creation_time), is_since_begin=True)
    return Sight(run, at, at, is_since_begin=False)


def state_text(sight: Sight, former: Sight | None) -> Text:
    """Tell when, which status, and what has changed."""
    text = Text(f"{sight.at:%Y-%m-%d %H:%M:%S} UTC  ")
    text.append(status_text(sight.run))
    news = "; ".join(_news(sight, former))
    if news:
        text.append(" " * (STATUS_COLUMNS - len(sight.status)) + "  ")
        text.append(plain(news))
    return text


def _news(sight: Sight, former: Sight | None) -> Iterator[str]:
    if former and former.status != sight.status:
        yield f"after {former.lasted_text(sight.at)} of {former.status}"
    elif former:
        # A member that only a newer gateway knows has no name here.
        yield f"changed: {', '.join(_changes(sight.run, former.run)) or 'unknown'}"
    yield from filter(None, [sight.run.failure_reason, sight.run.status_message])


def _changes(run: Run, former: Run) -> list[str]:
    """Name the members that differ; what has no field goes by AWS's name."""
    new, old = _members(run), _members(former)
    return sorted(name for name in new | old if new.get(name) != old.get(name))


def _members(run: Run) -> dict[str, Any]:
    members = {field.name: value for field, value in run.ListFields()}
    members |= members.pop("unmodeled_json", {})
    members.pop("observe_time", None)
    return members


def live_text(run_id: str, sight: Sight | None, *, now: datetime) -> Text:
    """Tell in one line how the run stands now, and what comes next."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"Run {plain(run_id)}", style="bold")
    if not sight:
        return text.append("  waiting for its state")
    run = sight.run
    if run.name:
        name = Text(plain(run.name))
        name.truncate(NAME_COLUMNS, overflow="ellipsis")
        text.append(" ").append(name)
    text.append("  ").append(status_text(run)).append(f" for {sight.lasted_text(now)}")
    if run.HasField("start_time"):
        text.append(f", started {elapsed_text(now - time_of(run.start_time))} ago")
    elif run.HasField("creation_time"):
        text.append(f", created {elapsed_text(now - time_of(run.creation_time))} ago")
    if run.status in NEXT:
        text.append(f", then {NEXT[run.status]}")
    return text
