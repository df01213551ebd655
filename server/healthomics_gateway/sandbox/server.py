"""The HTTP server of the sandbox: it checks a request and writes the answer."""

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Self
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

from aiohttp import web

from healthomics_gateway.sandbox.account import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
)
from healthomics_gateway.sandbox.catalog import Catalog
from healthomics_gateway.sandbox.errors import AwsError
from healthomics_gateway.sandbox.quota import TokenBucket
from healthomics_gateway.sandbox.runs import DEFINITION
from healthomics_gateway.sandbox.signature import ReceivedRequest, verify
from healthomics_gateway.sandbox.sts import action_of, sts_answer

_KEPT_REQUESTS = 1000
_SHUTDOWN_SECONDS = 0.1  # for answers under way
_MAX_EXPORTS = 32
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- the loopback address for each wildcard
_RUN_PATH = re.compile(r"/run/([^/]+)")
_RUN_ID = re.compile(r"[0-9]{1,18}")


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True, eq=False)
class Sandbox:
    """A fake HealthOmics that listens on `host` and `port` (0: any free port).

    It is also an STS that knows the caller's identity, and nothing else.
    Each answer is delayed by `latency_seconds`. The sandbox answers `quota_per_second`
    calls a second (0: no limit), and as many at once; it throttles all others. With
    `session_token` the credentials are temporary. Tests can replace the clocks and
    `sleep`.

    `calls` is the number of all requests received; `requests` are the latest.
    """

    host: str = "127.0.0.1"
    port: int = 0
    latency_seconds: float = 0.0
    quota_per_second: float = 10.0
    session_token: str | None = None
    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    calls: int = field(default=0, init=False)
    requests: deque[ReceivedRequest] = field(init=False)
    _catalog: Catalog = field(init=False, repr=False)
    _quota: TokenBucket = field(init=False, repr=False)
    _runner: web.ServerRunner = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Create the runs, the quota and the server."""
        self.requests = deque(maxlen=_KEPT_REQUESTS)
        self._catalog = Catalog(now=self.now, monotonic=self.monotonic)
        self._quota = TokenBucket(
            rate_per_second=self.quota_per_second,
            depth=max(1.0, self.quota_per_second),
            monotonic=self.monotonic,
        )
        self._runner = web.ServerRunner(
            web.Server(self._answer, access_log=None),
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )

    async def __aenter__(self) -> Self:
        """Start the server."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the server."""
        await self.stop()

    async def start(self) -> None:
        """Listen; raises OSError if the address can't be bound."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Return the URL for this machine, after `start`."""
        host, port = self._runner.addresses[0][:2]
        host = _LOOPBACK.get(host, host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def _answer(self, received: web.BaseRequest) -> web.Response:
        self.calls += 1
        request = await _read(received)
        self.requests.append(request)
        answer = self._answer_to(request)
        answer.headers["Date"] = format_datetime(self.now(), usegmt=True)
        answer.headers["x-amzn-requestid"] = str(uuid4())
        if self.latency_seconds:
            await self.sleep(self.latency_seconds)
        return answer

    def _answer_to(self, request: ReceivedRequest) -> web.Response:
        if action_of(request):
            token = self.session_token
            status, text = sts_answer(request, now=self.now(), session_token=token)
            return web.Response(status=status, text=text, content_type="text/xml")
        headers = {}
        try:
            status, body = 200, self._get_run(request)
        except AwsError as error:
            status, body = error.status, {"message": error.message}
            headers["x-amzn-errortype"] = error.code
        content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        return web.Response(
            status=status,
            headers=headers,
            body=content,
            content_type="application/json",
        )

    def _get_run(self, request: ReceivedRequest) -> Mapping[str, object]:
        """Check operation, signature, quota and input, in this order; return a run."""
        path = _RUN_PATH.fullmatch(request.path)
        if request.method != "GET" or path is None:
            raise AwsError("UnknownOperationException", "Unknown operation.")
        verify(request, now=self.now(), session_token=self.session_token)
        if not self._quota.take():
            raise AwsError("ThrottlingException", "Rate exceeded")
        run_id = _run_id(unquote(path[1]))
        exports = _exports(request.query)
        members = self._catalog.run(run_id)
        return members | {"definition": DEFINITION} if exports else members


def environment(sandbox: Sandbox) -> dict[str, str]:
    """Return the variables with which a gateway or the AWS CLI uses this sandbox."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        # Empty means no token: one set in the shell would belong to other credentials.
        "AWS_SESSION_TOKEN": sandbox.session_token or "",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL_OMICS": sandbox.url,
        "AWS_ENDPOINT_URL_STS": sandbox.url,
        # Otherwise the AWS CLI would connect to the host workflows-127.0.0.1.
        "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
    }


async def _read(received: web.BaseRequest) -> ReceivedRequest:
    path, _, query = received.raw_path.partition("?")
    return ReceivedRequest(
        method=received.method,
        path=path,
        query=query,
        headers=received.headers,
        body=await received.read() if received.can_read_body else b"",
    )


def _run_id(text: str) -> str:
    if not _RUN_ID.fullmatch(text):
        raise AwsError(
            "ValidationException",
            f"1 validation error detected: Value '{text}' at 'id' failed to satisfy "
            "constraint: Member must satisfy regular expression pattern: "
            "[0-9]+ and have length less than or equal to 18",
        )
    return text


def _exports(query: str) -> list[str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    exports = [value for name, value in pairs if name == "export"]
    if len(exports) > _MAX_EXPORTS or not set(exports) <= {"DEFINITION"}:
        raise AwsError(
            "ValidationException",
            f"1 validation error detected: Value '{exports}' at 'export' failed to "
            "satisfy constraint: Member must have length less than or equal to 32 and "
            "satisfy enum value set: [DEFINITION]",
        )
    return exports
