"""The promises that the parsers of upstream bytes keep for any bytes, as fuzz targets.

A target takes one input and raises AssertionError if a promise is broken. The oracles
are written from the contract and the error table; they don't use the parsers.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Protocol

from google.rpc.error_details_pb2 import DebugInfo
from multidict import CIMultiDict

from fuzz.due import Row, code_in, refusal_due, row_due, row_of_code
from healthomics.v1.run_pb2 import Run
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.status import MAX_STATUS_BYTES, status_of
from healthomics_gateway.upstream.classify import (
    body_of,
    error_of_code,
    error_of_failure,
    names_error,
)
from healthomics_gateway.upstream.reply import Failure, Reply
from healthomics_gateway.upstream.translate import (
    AnotherRunError,
    ErrorAnswerError,
    MalformedAnswerError,
    run_from_json,
)
from testkit.answers import RUN_ID
from testkit.rebuild import differences

MAX_GROWTH = 8  # bytes of a Run for each byte of the answer: `0,` takes eleven
SPARE_BYTES = 64  # for the smallest answers
DAY_SECONDS = 86_400.0  # an upper bound, whatever AWS asks for
CALL_ID = "fuzz"

Target = Callable[[bytes], None]


class Read(Protocol):
    """A function that parses an answer about a run."""

    def __call__(self, body: bytes, *, run_id: str) -> Run:
        """Return the run, or raise one of the three refusals."""


# ---- the answer ----


def translate(data: bytes, read: Read = run_from_json) -> None:
    """Any bytes are translated exactly, or refused with the right error."""
    run, refused_as = None, None
    try:
        run = read(data, run_id=RUN_ID)
    except (MalformedAnswerError, AnotherRunError, ErrorAnswerError) as refusal:
        refused_as = type(refusal)
    except Exception as bug:
        raise AssertionError(f"neither a run nor a refusal: {bug!r}") from bug
    due = refusal_due(data)
    assert due is refused_as, f"refused as {refused_as}, due is {due}"
    if not run:
        return
    faults = differences(data.decode(), run)
    assert not faults, faults
    assert not run.HasField("observe_time"), "the reader has no clock"
    size = run.ByteSize()
    assert size <= MAX_GROWTH * len(data) + SPARE_BYTES, f"grows to {size} bytes"


# ---- the reply ----


def read_reply(reply: Reply) -> bytes:
    """Read a reply as the gateway does and return the body to translate."""
    body = body_of(reply)
    try:
        run_from_json(body, run_id=RUN_ID)
    except ErrorAnswerError as error:
        raise error_of_code(error.error_type, reply) from None
    except AnotherRunError:
        raise error_of_failure(Failure.ANOTHER_RUN, reply) from None
    except MalformedAnswerError:
        raise error_of_failure(Failure.MALFORMED, reply) from None
    return body


def classify(data: bytes, read: Callable[[Reply], bytes] = read_reply) -> None:
    """Any reply becomes a success's own bytes or one row of the error table."""
    reply = reply_of(data)
    due, code = row_due(reply)
    try:
        body = read(reply)
    except GatewayError as error:
        found = Row(error.reason, error.again)
        assert due == found, f"becomes {found}, due is {due}"
        _check_clean(error, reply, code)
        return
    except Exception as bug:
        raise AssertionError(f"neither a body nor a row: {bug!r}") from bug
    assert due is None, f"is a success, due is {due}"
    assert reply.body == body, "the body isn't what was sent"


_HEAD_LINE = re.compile(rb"([0-9]{1,3})(?: ([A-Z_]+))?")


def reply_of(data: bytes) -> Reply:
    """Return a reply of any bytes, which are best in the form of an HTTP response.

    The first line is the status, and the failure that replaced the body, if any.
    Headers follow, one a line, then an empty line and the body. A status that is
    invalid counts as 200.
    """
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    status, failure = 200, None
    if match := _HEAD_LINE.fullmatch(first):
        status = int(match[1])
        failure = Failure.__members__.get((match[2] or b"").decode())
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, _, value = line.decode("utf-8", "surrogateescape").partition(":")
        headers.add(name, value.strip(" \t"))
    return Reply(status, headers, failure or body)


def _check_clean(error: GatewayError, reply: Reply, code: str) -> None:
    """Check that an error has nothing of a reply but two plain words and its status."""
    request_id = reply.headers.get("x-amzn-requestid", "")
    due = {
        "awsErrorCode": code if re.fullmatch(r"[A-Za-z0-9]{1,64}", code) else "",
        "httpStatus": str(reply.status),
        "awsRequestId": (
            request_id if re.fullmatch(r"[A-Za-z0-9-]{1,64}", request_id) else ""
        ),
    }
    known = error.answer.metadata if error.answer else {}
    assert due == known, f"the metadata is {known}, not {due}"
    assert error.reason.name == str(error), "the exception's text isn't its reason"
    status = status_of(error, metadata=due, request_id=CALL_ID)
    constant = status_of(GatewayError(error.reason), metadata=due, request_id=CALL_ID)
    assert constant == status, f"it has more than the metadata: {status}"
    _check_debug(error, due)
    _check_wait(
        error.aws_retry_after_seconds, reply.headers.get("x-amz-retry-after", "")
    )


def _check_debug(error: GatewayError, metadata: Mapping[str, str]) -> None:
    """Check that AWS's message, if it is included, is short and printable."""
    status = status_of(error, metadata=metadata, request_id=CALL_ID, debug=True)
    assert status.ByteSize() <= MAX_STATUS_BYTES, f"it has {status.ByteSize()} bytes"
    details = [
        DebugInfo.FromString(each.value).detail
        for each in status.details
        if each.Is(DebugInfo.DESCRIPTOR)
    ]
    assert bool(error.debug) == bool(details), "AWS's message is lost or made up"
    for text in details:
        assert re.fullmatch(r"[ -~]{1,1024}", text), f"AWS's message became {text!r}"


def _check_wait(seconds: float | None, wait: str) -> None:
    """Check that the wait that AWS asks for is a number of milliseconds, or absent."""
    if not re.fullmatch(r"[0-9]+", wait):
        assert seconds is None, f"{wait!r} is read as {seconds} s"
        return
    assert seconds is not None, f"{wait!r} is ignored"
    due = min(float(f"{wait}e-3"), DAY_SECONDS)
    assert isclose(due, min(seconds, DAY_SECONDS)), f"{wait!r} is read as {seconds} s"


# ---- the error's code ----


def code(data: bytes, read: Callable[[Reply], bytes] = body_of) -> None:
    """Any text is the same error wherever and however AWS spells it."""
    text = data.decode("utf-8", "surrogateescape")
    bare = code_in(text)
    headers = CIMultiDict({"X-Amzn-ErrorType": text})
    assert bool(bare) == names_error(headers), f"a code is seen or not: {text!r}"
    for status in (400, 503):
        for spelled in (text, f" a#aws.omics# {bare} :http://a.example/#b"):
            for reply in _replies(status, spelled):
                _check_code(_error_of(reply, read), reply, bare)
            reply = Reply(status, CIMultiDict(), b"{}")
            _check_code(error_of_code(spelled, reply), reply, bare)


def _replies(status: int, spelled: str) -> list[Reply]:
    """Return replies with a code in each of its places."""
    none: CIMultiDict[str] = CIMultiDict()
    return [
        Reply(status, CIMultiDict({"x-amzn-errortype": spelled}), b"<html>"),
        Reply(status, CIMultiDict({"X-AMZN-ErrorType": spelled}), Failure.COMPRESSED),
        *(
            Reply(status, none, json.dumps(members).encode())
            for members in (
                {"__type": spelled},
                {"code": spelled},
                {"__type": "aws.omics#", "code": spelled},
            )
        ),
    ]


def _error_of(reply: Reply, read: Callable[[Reply], bytes]) -> GatewayError:
    try:
        read(reply)
    except GatewayError as error:
        return error
    except Exception as bug:
        raise AssertionError(f"not a row: {bug!r}") from bug
    raise AssertionError(f"no error: {reply}")


def _check_code(error: GatewayError, reply: Reply, bare: str) -> None:
    due, found = row_of_code(reply.status, bare), Row(error.reason, error.again)
    assert due == found, f"{reply} becomes {found}, due is {due}"
    _check_clean(error, reply, bare)


TARGETS: Mapping[str, Target] = {
    "translate": translate,
    "classify": classify,
    "code": code,
}


def main(arguments: Sequence[str]) -> int:
    """Run the files of `arguments` on the target that comes first."""
    name, *files = arguments
    for file in files:
        TARGETS[name](Path(file).read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
