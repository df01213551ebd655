"""A step of the check, and its result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from healthomics_gateway.check.found import Found


class Status(Enum):
    """How a step has ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a step, as text for an operator."""

    status: Status
    detail: str = ""  # what was found, or why the step was skipped
    problems: tuple[str, ...] = ()  # each says what is wrong, and then what to do
    notes: tuple[str, ...] = ()  # what an operator may want to change
    is_usable: bool = True  # whether the steps that need this one can run


Run: TypeAlias = Callable[[Found], Awaitable[Result]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to check."""

    name: str
    title: str
    run: Run
    seconds: float  # its time limit
    needs: tuple[str, ...] = ()  # names of earlier steps


def ok(detail: str, *notes: str) -> Result:
    """Return the result of a step that found no fault."""
    return Result(status=Status.OK, detail=detail, notes=notes)


def failed(
    *problems: str, notes: tuple[str, ...] = (), is_usable: bool = False
) -> Result:
    """Return the result of a step that found problems."""
    return Result(
        status=Status.FAILED, problems=problems, notes=notes, is_usable=is_usable
    )


def skipped(why: str, *, is_usable: bool = True) -> Result:
    """Return the result of a step that was skipped."""
    return Result(status=Status.SKIPPED, detail=why, is_usable=is_usable)
