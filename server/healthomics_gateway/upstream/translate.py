"""AWS's bytes to a `Run`: typed means exact, and what isn't typed is kept as text."""

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
    """The bytes aren't an answer: not one JSON object in UTF-8."""


class AnotherRunError(ValueError):
    """The answer doesn't say that it is about the run that was asked for."""


class ErrorAnswerError(ValueError):
    """The answer is an error in a success's clothes."""

    def __init__(self, error_type: str) -> None:
        """Tell AWS's `__type`."""
        super().__init__(error_type)
        self.error_type = error_type


def run_from_json(body: bytes, *, run_id: str) -> Run:
    """Translate the body of GetRun's answer about the run `run_id`.

    `observe_time` is left to the caller. Raises one of the three errors above, or
    TooManyValuesError.
    """
    try:
        text = body.decode()
        sent = dict(parse_object(text))  # of a duplicate member the last counts
    except TooManyValuesError:
        raise
    except ValueError as error:
        raise MalformedAnswerError from error
    error_type = sent.get("__type")  # without a code in it a member like any other
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
        """Look through a structure once, however many of its members are kept."""
        start = spans(structure[:-1])[structure[-1]][0] if structure else 0
        return member_spans(text, start)

    for path in untyped:
        start, end = spans(path[:-1])[path[-1]]
        run.unmodeled_json[_entry(path)] = text[start:end]


def _entry(path: Path) -> str:
    """Name a member by its path, and what could be misread as a JSON literal."""
    head, *below = path
    structure, dot, _ = head.partition(".")
    if dot and structure in _STRUCTURES:
        return json.dumps(head)
    return ".".join([_name(head), *map(_name, below)])


def _name(name: str) -> str:
    is_text = name.isascii() or not _SURROGATE.search(name)
    return name if is_text and not name.startswith('"') else json.dumps(name)
