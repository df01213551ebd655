"""Translates the body of GetRun's response to a `Run`.

A typed field holds exactly what AWS sent. A member that has no typed field, or doesn't
fit it exactly, is kept in `unmodeled_json` as the JSON text that AWS sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.upstream.classify import bare_code
from healthomics_gateway.upstream.exact_json import (
    TooManyValuesError,
    member_spans,
    parse_object,
)
from healthomics_gateway.upstream.fields import Path, put_members, puts_of

_PUTS = puts_of(Run.DESCRIPTOR)
_STRUCTURES = {
    field.json_name
    for field in Run.DESCRIPTOR.fields
    if field.message_type
    and field.message_type.file.package == "healthomics.v1"
    and not field.is_repeated  # as a map is
}
_SURROGATE = re.compile("[\ud800-\udfff]")


class MalformedAnswerError(ValueError):
    """The body isn't one JSON object in UTF-8."""


class AnotherRunError(ValueError):
    """The body's `id` isn't that of the requested run."""


class ErrorAnswerError(ValueError):
    """The body of a response with status 200 describes an error."""

    def __init__(self, error_type: str) -> None:
        """Create an error with `error_type`, the body's `__type`."""
        super().__init__(error_type)
        self.error_type = error_type


def run_from_json(body: bytes, *, run_id: str) -> Run:
    """Return the run `run_id` from the body of GetRun's response.

    The function's caller sets `observe_time`. Raises MalformedAnswerError,
    AnotherRunError, ErrorAnswerError or TooManyValuesError.
    """
    try:
        text = body.decode()
        sent = dict(parse_object(text))  # the last of several equal names wins
    except TooManyValuesError:
        raise
    except ValueError as error:
        raise MalformedAnswerError from error
    error_type = sent.get("__type")  # an ordinary member if it holds no code
    if type(error_type) is str and bare_code(error_type):
        raise ErrorAnswerError(error_type)
    if type(sent.get("id")) is not str or sent["id"] != run_id:
        raise AnotherRunError
    run = Run()
    if untyped := put_members(run, sent, _PUTS):
        _keep_text(run, text, untyped)
    return run


def _keep_text(run: Run, text: str, untyped: list[Path]) -> None:
    @cache
    def spans(structure: Path) -> Mapping[str, tuple[int, int]]:
        """Return the span of each member; cached, as several may be kept."""
        start = spans(structure[:-1])[structure[-1]][0] if structure else 0
        return member_spans(text, start)

    for path in untyped:
        start, end = spans(path[:-1])[path[-1]]
        run.unmodeled_json[_entry(path)] = text[start:end]


def _entry(path: Path) -> str:
    """Return the member's name in `unmodeled_json`: its path, joined by dots.

    A name that contains a dot and could be taken for a path is written as a JSON
    string, and so is a name that begins with a quotation mark or has lone surrogates.
    """
    head, *below = path
    structure, dot, _ = head.partition(".")
    if dot and structure in _STRUCTURES:
        return json.dumps(head)
    return ".".join([_name(head), *map(_name, below)])


def _name(name: str) -> str:
    is_text = name.isascii() or not _SURROGATE.search(name)
    return name if is_text and not name.startswith('"') else json.dumps(name)
