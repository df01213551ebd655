"""A fake STS over real sockets: it creates sessions of roles, or refuses, or stalls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Self
from urllib.parse import parse_qsl
from uuid import uuid4
from xml.sax.saxutils import escape

from multidict import CIMultiDict, CIMultiDictProxy

from healthomics_gateway.sandbox import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from healthomics_gateway.upstream.config import Aws, fixed
from testkit.builders import http
from testkit.connections import ConnectionServer
from testkit.lying_upstream import Request
from testkit.sts_sessions import ACCOUNT, Given, key_of, signature_fault

HOUR = timedelta(hours=1)
XML = "text/xml"
SAID = f"User: arn:aws:sts::{ACCOUNT}:assumed-role/gateway/canary-5f1d isn't allowed"


@dataclass(frozen=True, slots=True)
class Asked:
    """A received request; `fault` is AWS's code if its signature is invalid."""

    action: str
    role: str
    name: str
    source_identity: str
    seconds: str
    agent: str
    token: str | None
    fault: str


class FakeSts:
    """Creates the sessions that the gateway asks for, and records each request.

    Refusals and stalls apply to one role each.
    """

    def __init__(
        self,
        *,
        lasting: timedelta = HOUR,
        own_token: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Create sessions of this duration. `own_token` is the gateway's token."""
        self._answers: dict[str, bytes] = {}  # by role
        self._stalled: dict[str, asyncio.Event] = {}  # by role
        self._server = ConnectionServer(self._talk)
        self.lasting = lasting
        self.own_token = own_token
        self.now = now
        self.asked: list[Asked] = []
        self.came = asyncio.Semaphore(0)  # once for each request
        self.given: dict[str, Given] = {}  # by access key
        self.url = ""

    def refuse(self, role: str, answer: bytes) -> None:
        """Answer requests for this role with these bytes from now on."""
        self._answers[role] = answer

    def allow(self, role: str) -> None:
        """Stop refusing this role."""
        del self._answers[role]

    def stall(self, role: str) -> None:
        """Stop answering requests for this role."""
        self._stalled[role] = asyncio.Event()

    def flow(self, role: str) -> None:
        """Answer again, also the requests that wait."""
        self._stalled.pop(role).set()

    def aws(self, url: str) -> Aws:
        """Return the AWS of a gateway that uses HealthOmics at `url` and this STS."""
        return fixed(
            region=REGION,
            endpoint=url,
            access_key=ACCESS_KEY_ID,
            secret_key=SECRET_ACCESS_KEY,
            sts_endpoint=self.url or None,
        )

    @property
    def assumed(self) -> list[Asked]:
        """The requests for a session, in the order of their arrival."""
        return [each for each in self.asked if each.action == "AssumeRole"]

    @property
    def names(self) -> Counter[str]:
        """The number of requests for each session name."""
        return Counter(each.name for each in self.assumed)

    def name_of(self, request: Request) -> str:
        """Return the session that signed a request; empty for the gateway's own."""
        given = self.given.get(key_of(request.headers))
        return given.name if given else ""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self._server.listen()
        self.url = self._server.url
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        await self._server.stop()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = _headers(head)
        body = await reader.readexactly(int(headers["content-length"]))
        asked = self._recorded(head, headers, body)
        if waited := self._stalled.get(asked.role):
            await waited.wait()
        writer.write(self._answer(asked))
        await writer.drain()

    def _recorded(
        self, head: str, headers: CIMultiDictProxy[str], body: bytes
    ) -> Asked:
        form = dict(parse_qsl(body.decode(), strict_parsing=True))
        fault = signature_fault(
            head.split(" ", 2)[:2],
            headers,
            body,
            keys={ACCESS_KEY_ID: (SECRET_ACCESS_KEY, self.own_token)},
            service="sts",
            now=self.now(),
        )
        asked = Asked(
            form["Action"],
            form.get("RoleArn", ""),
            form.get("RoleSessionName", ""),
            form.get("SourceIdentity", ""),
            form.get("DurationSeconds", ""),
            headers["user-agent"],
            headers.get("x-amz-security-token"),
            fault,
        )
        self.asked.append(asked)
        self.came.release()
        return asked

    def _answer(self, asked: Asked) -> bytes:
        if asked.fault:
            return refusing(asked.fault, date=format_datetime(self.now(), usegmt=True))
        if asked.role in self._answers:
            return self._answers[asked.role]
        if asked.action == "GetCallerIdentity":
            return _success(asked.action, Account=ACCOUNT, UserId="A", Arn="arn")
        number = len(self.given) + 1
        given = Given(
            f"ASIASESSION{number}",
            f"secret-{number}",
            f"session-token-{number}/+=",
            asked.role,
            asked.name,
        )
        self.given[given.access_key] = given
        return _success(
            asked.action,
            Credentials={
                "AccessKeyId": given.access_key,
                "SecretAccessKey": given.secret_key,
                "SessionToken": given.token,
                "Expiration": f"{self.now() + self.lasting:%Y-%m-%dT%H:%M:%SZ}",
            },
            SourceIdentity=asked.source_identity,
        )


def granting(*, access_key: str = "ASIAODD", expiration: str = "2099-01-01") -> bytes:
    """Return a session in STS's format, with values that STS never returns."""
    return _success(
        "AssumeRole",
        Credentials={
            "AccessKeyId": access_key,
            "SecretAccessKey": "secret",
            "SessionToken": "token",
            "Expiration": expiration,
        },
    )


def identified(**members: str) -> bytes:
    """Return the response of GetCallerIdentity."""
    return _success("GetCallerIdentity", **members)


def refusing(code: str, *, status: int = 403, **headers: str) -> bytes:
    """Return an error in STS's format; its text is a canary."""
    text = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
        f"<Message>{SAID}</Message></Error><RequestId>{uuid4()}</RequestId>"
        "</ErrorResponse>"
    )
    return _xml(text, status=status, **headers)


def _headers(head: str) -> CIMultiDictProxy[str]:
    lines = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
    return CIMultiDictProxy(CIMultiDict(lines))


def _success(action: str, **members: Any) -> bytes:
    return _xml(
        f"<{action}Response><{action}Result>{_elements(members)}</{action}Result>"
        f"<ResponseMetadata><RequestId>{uuid4()}</RequestId></ResponseMetadata>"
        f"</{action}Response>"
    )


def _elements(members: Mapping[str, Any]) -> str:
    return "".join(
        f"<{name}>{_elements(v) if isinstance(v, Mapping) else escape(v)}</{name}>"
        for name, v in members.items()
    )


def _xml(text: str, *, status: int = 200, **headers: str) -> bytes:
    return http(text, status=status, keep=False, content_type=XML, **headers)
