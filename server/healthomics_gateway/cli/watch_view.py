"""Shows a watched run as lines of text or of JSON."""

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
NAME_COLUMNS = 40  # of the name in the live line, to leave room for the rest
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
        """Do nothing."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Do nothing."""

    def show(self, run: Run) -> None:
        """Write a state and flush it, because a program waits for it."""
        self._answers.write(run_json(run) + "\n")
        self._answers.flush()

    def note(self, line: str) -> None:
        """Write a line to the other stream."""
        self._failures.write(f"{line}\n")

    def end(self, _run: Run) -> None:
        """Do nothing: the final state is already written."""


class Lines:
    """Writes a line for each state, and on a terminal a live line below."""

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
        self._last: Observation | None = None  # of the last state
        self._live = Live(
            console=console,
            get_renderable=self._live_text,
            refresh_per_second=1,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        """Start the live line."""
        if self._is_live:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Remove the live line."""
        self._live.stop()

    def show(self, run: Run) -> None:
        """Write a line for a new state."""
        with self._aside():
            previous = self._last
            self._last = observation_of(run, previous, now=self._now())
            self._console.print(state_text(self._last, previous), soft_wrap=True)

    def note(self, line: str) -> None:
        """Write a line to the other stream, which may be the same terminal."""
        with self._aside():
            self._failures.write(f"{line}\n")
            self._failures.flush()

    def end(self, run: Run) -> None:
        """Show the run as `get` does."""
        self._console.print(run_text(run, now=self._now()), soft_wrap=True)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Remove the live line while other lines are written."""
        self._live.stop()
        yield
        self.__enter__()

    def _live_text(self) -> Text:
        return live_text(self._run_id, self._last, now=self._now())


@dataclass(frozen=True, slots=True)
class Observation:
    """A state of a run, and since when the run has this status."""

    run: Run
    at: datetime
    since: datetime
    is_exact: bool  # False: the status was there before `since`

    @property
    def status(self) -> str:
        """Return AWS's name of the status."""
        return status_text(self.run).plain

    def lasted_text(self, until: datetime) -> str:
        """Return how long the run has had its status."""
        least = "" if self.is_exact else "at least "
        return least + elapsed_text(until - self.since)


def observation_of(
    run: Run, previous: Observation | None, *, now: datetime
) -> Observation:
    """Return the observation of a state; its time is that of the state, or now."""
    at = time_of(run.observe_time) if run.HasField("observe_time") else now
    if previous and previous.status == status_text(run).plain:
        return Observation(run, at, previous.since, previous.is_exact)
    if previous:
        return Observation(run, at, at, is_exact=True)
    if run.status == RunStatus.RUN_STATUS_PENDING and run.HasField("creation_time"):
        return Observation(run, at, time_of(run.creation_time), is_exact=True)
    return Observation(run, at, at, is_exact=False)


def state_text(seen: Observation, previous: Observation | None) -> Text:
    """Return the time, the status, and what has changed."""
    text = Text(f"{seen.at:%Y-%m-%d %H:%M:%S} UTC  ")
    text.append(status_text(seen.run))
    details = "; ".join(_details(seen, previous))
    if details:
        text.append(" " * (STATUS_COLUMNS - len(seen.status)) + "  ")
        text.append(plain(details))
    return text


def _details(seen: Observation, previous: Observation | None) -> Iterator[str]:
    if previous and previous.status != seen.status:
        yield f"after {previous.lasted_text(seen.at)} of {previous.status}"
    elif previous:
        # A field that only a newer version knows has no name here.
        yield f"changed: {', '.join(_changes(seen.run, previous.run)) or 'unknown'}"
    yield from filter(None, [seen.run.failure_reason, seen.run.status_message])


def _changes(run: Run, previous: Run) -> list[str]:
    """Return the names of the members that differ: of fields, or AWS's own."""
    new, old = _members(run), _members(previous)
    return sorted(name for name in new | old if new.get(name) != old.get(name))


def _members(run: Run) -> dict[str, Any]:
    members = {field.name: value for field, value in run.ListFields()}
    members |= members.pop("unmodeled_json", {})
    members.pop("observe_time", None)
    return members


def live_text(run_id: str, seen: Observation | None, *, now: datetime) -> Text:
    """Return one line with the current status and the next one."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"Run {plain(run_id)}", style="bold")
    if not seen:
        return text.append("  waiting for its state")
    run = seen.run
    if run.name:
        name = Text(plain(run.name))
        name.truncate(NAME_COLUMNS, overflow="ellipsis")
        text.append(" ").append(name)
    text.append("  ").append(status_text(run)).append(f" for {seen.lasted_text(now)}")
    if run.HasField("start_time"):
        text.append(f", started {elapsed_text(now - time_of(run.start_time))} ago")
    elif run.HasField("creation_time"):
        text.append(f", created {elapsed_text(now - time_of(run.creation_time))} ago")
    if run.status in NEXT:
        text.append(f", then {NEXT[run.status]}")
    return text
