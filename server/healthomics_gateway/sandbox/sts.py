"""The sandbox's STS, which only says whose its credentials are."""

from datetime import datetime
from typing import NamedTuple
from urllib.parse import parse_qs
from uuid import uuid4
from xml.sax.saxutils import escape

from healthomics_gateway.sandbox.account import ACCESS_KEY_ID, ACCOUNT_ID
from healthomics_gateway.sandbox.errors import AwsError
from healthomics_gateway.sandbox.signature import ReceivedRequest, verify

SERVICE = "sts"  # its signing name
CALLER = {
    "Arn": f"arn:aws:iam::{ACCOUNT_ID}:user/sandbox",
    "UserId": ACCESS_KEY_ID.replace("AKID", "AIDA"),
    "Account": ACCOUNT_ID,
}
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
# Of the errors of a signature, those that STS calls differently.
_CODES = {
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "IncompleteSignature",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
}


class StsAnswer(NamedTuple):
    """The HTTP status and the XML of an answer."""

    status: int
    text: str


def action_of(request: ReceivedRequest) -> str:
    """Return the action that a request wants of STS; empty if it isn't one to STS."""
    if (request.method, request.path) != ("POST", "/"):
        return ""
    form = parse_qs(request.body.decode(errors="replace"))
    return form.get("Action", [""])[0]


def sts_answer(
    request: ReceivedRequest, *, now: datetime, session_token: str | None
) -> StsAnswer:
    """Return the answer to a request that has an action."""
    action = action_of(request)
    if action != "GetCallerIdentity":
        text = f"Could not find operation {action} for version 2011-06-15"
        return _error(400, "InvalidAction", text)
    try:
        verify(request, now=now, session_token=session_token, service=SERVICE)
    except AwsError as error:
        return _error(error.status, _CODES[error.code], error.message)
    result = "".join(f"<{name}>{value}</{name}>" for name, value in CALLER.items())
    return StsAnswer(
        200,
        f'<{action}Response xmlns="{_NAMESPACE}">'
        f"<{action}Result>{result}</{action}Result>"
        f"<ResponseMetadata><RequestId>{uuid4()}</RequestId></ResponseMetadata>"
        f"</{action}Response>",
    )


def _error(status: int, code: str, message: str) -> StsAnswer:
    return StsAnswer(
        status,
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        f"<RequestId>{uuid4()}</RequestId></ErrorResponse>",
    )
