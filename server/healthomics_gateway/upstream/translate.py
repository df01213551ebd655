"""Translation of AWS's answer to a `Run`: a member is typed exactly or kept as text."""

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
    and not field.is_repeated  # a map is repeated
}
_SURROGATE = re.compile("[\ud800-\udfff]")


class MalformedAnswerError(ValueError):
    """The bytes aren't a JSON object in UTF-8."""


class AnotherRunError(ValueError):
    """The answer isn't about the requested run."""


class ErrorAnswerError(ValueError):
    """The answer has a status of success and is an error."""

    def __init__(self, error_type: str) -> None:
        """Create an error with AWS's `__type`."""
        super().__init__(error_type)
        self.error_type = error_type


def run_from_json(body: bytes, *, run_id: str) -> Run:
    """Return the Run of GetRun's answer about `run_id`, without `observe_time`.

    Raises MalformedAnswerError, AnotherRunError, ErrorAnswerError or
    TooManyValuesError.
    """
    try:
        text = body.decode()
        sent = dict(parse_object(text))  # the last of duplicates is used
    except TooManyValuesError:
        raise
    except ValueError as error:
        raise MalformedAnswerError from error
    error_type = sent.get("__type")  # without a code it is a member like others
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
        """Scan each structure once, even if several of its members are kept."""
        start = spans(structure[:-1])[structure[-1]][0] if structure else 0
        return member_spans(text, start)

    for path in untyped:
        start, end = spans(path[:-1])[path[-1]]
        run.unmodeled_json[_entry(path)] = text[start:end]


def _entry(path: Path) -> str:
    """Return the key of a member: its path, as a JSON literal if it is ambiguous."""
    head, *below = path
    structure, dot, _ = head.partition(".")
    if dot and structure in _STRUCTURES:
        return json.dumps(head)
    return ".".join([_name(head), *map(_name, below)])


def _name(name: str) -> str:
    is_text = name.isascii() or not _SURROGATE.search(name)
    return name if is_text and not name.startswith('"') else json.dumps(name)
