"""docs/guide/errors.md and error_reason.proto agree with the code."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.code_pb2 import Code
from grpc_health.v1.health_pb2 import HealthCheckRequest

from healthomics.v1.error_reason_pb2 import ErrorReason
from healthomics_gateway.errors.exceptions import Again, GatewayError
from healthomics_gateway.errors.reasons import Advice, Reason
from healthomics_gateway.errors.status import DOMAIN, status_of
from healthomics_gateway.upstream.classify import (
    CODES,
    ERROR_HEADER,
    body_of,
    error_of_failure,
)
from healthomics_gateway.upstream.reply import Failure, Reply
from testkit.builders import Upstream, aws_at, calling, gateway, get_run, http, refused

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "server" / "healthomics_gateway"
DOC = (ROOT / "docs" / "guide" / "errors.md").read_text()
PROTO = (ROOT / "protos" / "healthomics" / "v1" / "error_reason.proto").read_text()

OF_EVERY_ERROR = {"ErrorInfo", "RequestInfo"}
METADATA = {
    *("runId", "attempts", "region"),
    *("awsErrorCode", "httpStatus", "awsRequestId"),
    "local",
}
WORDS = {"again": Again.YES, "once": Again.ONCE, "no": Again.NO}  # the gateway retries
STATUSES = (300, 304, 399, 400, 404, 408, 429, 499, 500, 503, 599)
MAKERS = {"GatewayError", "Verdict"}  # calls that create an error
# What a refusal may contain besides its code: AWS's clock, or that the credential chain
# has no other credentials.
LEARNED = {
    Reason.GATEWAY_CREDENTIALS_EXPIRED: {Again.NO},
    Reason.GATEWAY_CREDENTIALS_INVALID: {Again.NO},
    Reason.GATEWAY_SIGNATURE_REJECTED: {Again.ONCE},
}


def table(first_column: str) -> list[list[str]]:
    """Return the rows of every table of the page whose first column has this title."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", DOC, re.MULTILINE):
        title, _, *rows = (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in block.splitlines()
        )
        found += rows if title[0] == first_column else []
    return found


def words(cell: str) -> list[str]:
    """Return the words that a cell writes in code font."""
    return re.findall(r"`([^`]+)`", cell)


ROWS = {words(row[0])[0]: row for row in table("reason")}


def test_reasons_have_exactly_one_row_each() -> None:
    """Every reason is in the code, in the contract and on the page."""
    in_page = [words(row[0])[0] for row in table("reason")]
    values = ErrorReason.DESCRIPTOR.values_by_name
    in_proto = {name.removeprefix("ERROR_REASON_") for name in values}

    assert sorted(reason.name for reason in Reason) == sorted(in_page)
    assert {reason.name for reason in Reason} == in_proto - {"UNSPECIFIED"}


@pytest.mark.guarantee("error-table")
@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_row_has_code_details_and_advice(reason: Reason) -> None:
    """The row of a reason agrees with the status that the gateway sends."""
    _, _, code, details, client, _ = ROWS[reason.name]
    error = GatewayError(reason)
    status = status_of(error, metadata={}, request_id="r-1")
    packed = {each.TypeName().rpartition(".")[2] for each in status.details}

    assert Code.Name(status.code) == code
    assert packed - OF_EVERY_ERROR == set(words(details))
    assert reason.value.advice is Advice[client.split()[0].rstrip(",").upper()]
    assert ("RetryInfo" in packed) == (error.retry_delay_ms is not None)


def classified() -> dict[Reason, set[Again]]:
    """Return the errors of all answers and failures, and which of them are retried."""
    failures = [error_of_failure(failure) for failure in Failure]
    for code in (*CODES, "BrandNewException", ""):
        for status in STATUSES:
            with pytest.raises(GatewayError) as failure:
                body_of(Reply(status, {ERROR_HEADER: code}, b""))
            failures.append(failure.value)
    found: dict[Reason, set[Again]] = defaultdict(set)
    for each in failures:
        found[each.reason].add(each.again)
    return {reason: LEARNED.get(reason, set()) | own for reason, own in found.items()}


# The last one comes from the credential chain, not from a response.
TRIED = classified() | {Reason.GATEWAY_CREDENTIALS_UNAVAILABLE: {Again.NO}}


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_row_lists_what_the_gateway_retries(reason: Reason) -> None:
    """The row of a reason lists what the gateway itself tries in these cases."""
    tries = re.findall(r"\b(again|once|no)\b", ROWS[reason.name][5])

    assert TRIED.get(reason, set()) == {WORDS[word] for word in tries}


def test_aws_codes_are_listed_under_their_reason() -> None:
    """The page lists every AWS code that the gateway knows, and no other."""
    in_page = {
        code: words(reason)[0]
        for reason, *codes in table("becomes")
        for code in words(" ".join(codes))
    }

    assert {code: verdict.reason.name for code, verdict in CODES.items()} == in_page


def test_aws_codes_are_listed_once() -> None:
    """No code is listed under two reasons."""
    codes = [code for row in table("becomes") for code in words(" ".join(row[1:]))]

    assert sorted(set(codes)) == sorted(codes)


# One response of an upstream for each row of "Unusual answers".
RUN = '{"id": "1"}'
SHAPES = {
    "a code with another status than its usual one": (
        http('{"__type": "ConflictException"}', status=404),
        Reason.RUN_CONFLICT,
    ),
    "two codes, one in the header and one in the body": (
        http(
            '{"__type": "ValidationException"}',
            status=400,
            x_amzn_errortype="ConflictException",
        ),
        Reason.RUN_CONFLICT,
    ),
    "a 2xx with a code in the header or in `__type`": (
        http('{"__type": "ConflictException", "id": "1"}'),
        Reason.RUN_CONFLICT,
    ),
    "a 4xx with an unknown code, or a 2xx with one in the header or in `__type`": (
        http('{"code": "BrandNewException"}', status=400),
        Reason.UPSTREAM_UNRECOGNIZED,
    ),
    "a 4xx without a code, as of a proxy": (
        http("<html>", status=404),
        Reason.UPSTREAM_UNRECOGNIZED,
    ),
    "a 408 without a code": (http("{}", status=408), Reason.UPSTREAM_TIMEOUT),
    "a 429 without a code": (http("", status=429), Reason.UPSTREAM_THROTTLED),
    "a 5xx with an unknown code or none": (
        http("<html>", status=502),
        Reason.UPSTREAM_UNAVAILABLE,
    ),
    "a 3xx, 304 too, whatever its code": (
        http("", status=304, x_amzn_errortype="ConflictException"),
        Reason.UPSTREAM_UNEXPECTED_REDIRECT,
    ),
    "a 2xx that isn't one JSON object in UTF-8": (
        http(f"{RUN} {RUN}"),
        Reason.UPSTREAM_MALFORMED_RESPONSE,
    ),
    "a 2xx whose body is compressed": (
        http(RUN, content_encoding="gzip"),
        Reason.UPSTREAM_MALFORMED_RESPONSE,
    ),
    "bytes that aren't HTTP": (
        b"220 mail.example.com ESMTP\r\n\r\n",
        Reason.UPSTREAM_MALFORMED_RESPONSE,
    ),
    "a 2xx whose body exceeds `upstream.max_body_bytes`": (
        http(RUN + " " * 1_048_576),
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
    ),
    "a 2xx of more than 131,072 values, an empty object or array counted twice": (
        http(f'{RUN[:-1]}, "parameters": [{"{}," * 65_536}1]}}'),
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
    ),
    "a line of the head beyond 8,190 bytes": (
        http(RUN, x_long="x" * 8200),
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
    ),
    "a 2xx whose body is cut": (
        http(RUN, keep=False, content_length="400"),
        Reason.UPSTREAM_CONNECTION,
    ),
    "a 2xx without the `id` that was asked for": (
        http('{"id": "2"}'),
        Reason.UPSTREAM_IDENTITY_MISMATCH,
    ),
}
SHAPE_ROWS = {row[0]: row[1] for row in table("answer of HealthOmics")}


def test_shapes_of_the_page_have_an_example_each() -> None:
    """Every row about a malformed answer has an example below."""
    assert sorted(SHAPES) == sorted(SHAPE_ROWS)


@pytest.mark.parametrize("shape", SHAPES)
async def test_shape_becomes_the_reason_of_its_row(shape: str) -> None:
    """A malformed answer ends the call with the reason that the page names."""
    answer, expected = SHAPES[shape]
    async with (
        Upstream(answer) as upstream,
        gateway(aws_at(upstream.url), GATEWAY_UPSTREAM__MAX_ATTEMPTS="1") as served,
        calling(served) as stub,
    ):
        refusal = await refused(get_run(stub, "1"))

    assert expected.name == refusal.reason
    named = words(SHAPE_ROWS[shape])
    assert not named or [expected.name] == named


# The client's part, for the rows of "What gRPC refuses by itself" that one call can
# cause: the method, the request's bytes and the metadata.
GET_RUN = "/healthomics.v1.RunService/GetRun"
BY_ITSELF = {
    "a request message beyond 64 KiB, decompressed": (GET_RUN, b"\n" * 65_537, ()),
    "request metadata beyond 8 KiB": (GET_RUN, b"", (("x-long", "x" * 9000),)),
    "the standard health service is asked about a service that it doesn't know": (
        "/grpc.health.v1.Health/Check",
        HealthCheckRequest(service="other").SerializeToString(),
        (),
    ),
}


@pytest.mark.parametrize("what", BY_ITSELF)
async def test_refusal_of_grpc_has_the_code_of_its_row(what: str) -> None:
    """A call that gRPC itself refuses has the page's code, and no details."""
    method, request, metadata = BY_ITSELF[what]
    code = {row[0]: row[1] for row in table("what happened")}[what]
    async with (
        Upstream(http(RUN)) as upstream,
        gateway(aws_at(upstream.url)) as served,
        grpc.aio.insecure_channel(str(served.address)) as channel,
    ):
        refusal = await refused(
            channel.unary_unary(method, request_serializer=bytes)(
                request, metadata=metadata, timeout=10
            )
        )

    assert grpc.StatusCode[code] is refusal.code
    assert {} == refusal.details


def test_page_names_reasons_and_keys_that_exist() -> None:
    """Every reason and every metadata key on the page exists."""
    named = {word for word in words(DOC) if re.fullmatch(r"[A-Z]+_[A-Z_]+", word)}
    keys = {words(row[0])[0] for row in table("metadata key")}

    assert named <= {*Reason.__members__, "RUN_STATE"}
    assert METADATA == keys


def proto_values() -> Iterator[tuple[str, str, str]]:
    """Return each reason of the proto: its name, its meaning and its example."""
    for comment, name in re.findall(
        r"((?:^ +//.*\n)+) +ERROR_REASON_(\w+) = [1-9]", PROTO, re.MULTILINE
    ):
        text = re.sub(r"^ +// ?", "", comment, flags=re.MULTILINE)
        meaning, _, example = text.partition("Example:")
        yield name, meaning, example


VALUES = [pytest.param(*each, id=each[0]) for each in proto_values()]


def test_reasons_of_the_proto_have_a_comment_each() -> None:
    """The tests below cover every reason of the contract."""
    assert [reason.name for reason in Reason] == [each.id for each in VALUES]


@pytest.mark.parametrize(("name", "meaning", "example"), VALUES)
def test_reason_of_the_proto_has_an_example(
    name: str, meaning: str, example: str
) -> None:
    """A reason's comment ends with an ErrorInfo as clients receive it."""
    info = json.loads(example)
    metadata = info.pop("metadata", {})
    aws_code = metadata.get("awsErrorCode")

    assert {"reason": name, "domain": DOMAIN} == info
    assert metadata.keys() <= METADATA
    assert all(re.fullmatch(r"[a-z]+([A-Z][a-z]*)*", key) for key in metadata)
    assert all(isinstance(value, str) for value in metadata.values())
    assert not aws_code or CODES[aws_code].reason.name == name
    assert "Example" not in meaning


@pytest.mark.parametrize(("name", "meaning", "example"), VALUES)
def test_reason_of_the_proto_names_its_code(
    name: str, meaning: str, example: str
) -> None:
    """A reason's comment names the gRPC code of the reason."""
    codes = Code.DESCRIPTOR.values_by_name
    named = [word for word in re.findall(r"\b[A-Z_]+\b", meaning) if word in codes]

    assert [Code.Name(Reason[name].value.code)] == named
    assert name in example


def made(tree: ast.AST) -> set[str]:
    """Return the reasons of the errors and verdicts that a module creates."""
    values: dict[str, list[ast.expr]] = defaultdict(list)  # of each variable
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id].append(node.value)
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in MAKERS
        for given in [node.args[0], *values[ast.unparse(node.args[0])]]
        for name in re.findall(r"\bReason\.(\w+)", ast.unparse(given))
    }


def test_reasons_are_reachable() -> None:
    """Some module creates an error of every reason."""
    trees = [ast.parse(file.read_text()) for file in SERVER.rglob("*.py")]

    assert set(Reason.__members__) == set().union(*map(made, trees))
