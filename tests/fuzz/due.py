"""The expected result of any upstream bytes, by the contract and the error table.

Nothing of the gateway's parsers is used here, so that the two can disagree.
"""

import json
import re
from typing import Any, NamedTuple, NoReturn

from healthomics_gateway.errors.exceptions import Again
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.reply import Failure, Reply
from healthomics_gateway.upstream.translate import (
    AnotherRunError,
    ErrorAnswerError,
    MalformedAnswerError,
)
from testkit.answers import RUN_ID
from unit.upstream.test_classify import MISHAPS, ROWS

MAX_LEVELS = 500  # levels of nesting that are read


class Row(NamedTuple):
    """The expected result of a reply."""

    reason: Reason
    again: Again


def refusal_due(data: bytes) -> type[ValueError] | None:
    """Return the error with which a success's body must be refused, or None."""
    members = object_in(data)
    if members is None:
        return MalformedAnswerError
    if code_in(members.get("__type")):
        return ErrorAnswerError
    return None if members.get("id") == RUN_ID else AnotherRunError


_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')


def object_in(data: bytes) -> dict[str, Any] | None:
    """Return a UTF-8 JSON object of at most 500 levels, or None if it isn't one."""
    try:
        text = data.decode()
        value = json.loads(
            text, parse_int=float, parse_constant=_refuse, object_pairs_hook=dict
        )
    except (ValueError, RecursionError):
        return None
    depth = deepest = 0
    for bracket in re.findall(r"[][{}]", _TEXT.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return value if isinstance(value, dict) and deepest <= MAX_LEVELS else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


TABLE = {code: Row(reason, again) for code, reason, again in ROWS}
WITHOUT_BODY = {failure: Row(reason, again) for failure, reason, again in MISHAPS}
REDIRECTED = Row(Reason.UPSTREAM_UNEXPECTED_REDIRECT, Again.NO)
MALFORMED = Row(Reason.UPSTREAM_MALFORMED_RESPONSE, Again.ONCE)
ANOTHER_RUN = Row(Reason.UPSTREAM_IDENTITY_MISMATCH, Again.ONCE)
UNAVAILABLE = Row(Reason.UPSTREAM_UNAVAILABLE, Again.YES)
UNKNOWN_CODE = Row(Reason.UPSTREAM_UNRECOGNIZED, Again.NO)
BARE_4XX = {
    408: Row(Reason.UPSTREAM_TIMEOUT, Again.YES),
    429: Row(Reason.UPSTREAM_THROTTLED, Again.YES),
}
NO_CODE = Row(Reason.UPSTREAM_UNRECOGNIZED, Again.ONCE)


def row_due(reply: Reply) -> tuple[Row | None, str]:
    """Return the expected row and code of a reply; the row is None for a success."""
    kind = reply.status // 100
    if kind == 3:
        return REDIRECTED, ""
    code = code_in(reply.headers.get("x-amzn-errortype"))
    if kind == 2 and not code:
        return _success_due(reply)
    members = {}
    if isinstance(reply.body, bytes):
        members = object_in(reply.body) or {}
    code = code or code_in(members.get("__type")) or code_in(members.get("code"))
    return row_of_code(reply.status, code), code


def _success_due(reply: Reply) -> tuple[Row | None, str]:
    if isinstance(reply.body, Failure):
        return WITHOUT_BODY[reply.body], ""
    members = object_in(reply.body)
    if members is None:
        return MALFORMED, ""
    if code := code_in(members.get("__type")):
        return row_of_code(reply.status, code), code
    return (None if members.get("id") == RUN_ID else ANOTHER_RUN), ""


def row_of_code(status: int, code: str) -> Row:
    """Return the row of a code, which may be empty, with a status."""
    if code in TABLE:
        return TABLE[code]
    if status // 100 == 5:
        return UNAVAILABLE
    if code:
        return UNKNOWN_CODE
    return BARE_4XX.get(status, NO_CODE) if status // 100 == 4 else MALFORMED


_SPELLED = re.compile(r"(?:[^:]*#)?([^:#]*)(?::.*)?", re.DOTALL)


def code_in(spelled: Any) -> str:
    """Return the code in one of AWS's spellings; empty unless it is text."""
    match = _SPELLED.fullmatch(spelled) if isinstance(spelled, str) else None
    return match[1].strip() if match else ""
