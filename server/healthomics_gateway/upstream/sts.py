"""The sessions that STS gives, one for each role and caller, and whose account it is.

It is asked by boto3's client, as the gateway's own identity. Its requests are signed as
those to HealthOmics are: by AWS's clock, with what signs at that moment.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
from botocore.exceptions import ClientError

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.quota import Gate, Quota
from healthomics_gateway.runs.source import Partition
from healthomics_gateway.threads import AtMost, in_thread
from healthomics_gateway.upstream.classify import CODES, SAFE_CODE
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.credential_chain import HEADER_VALUE, code_of
from healthomics_gateway.upstream.credentials import (
    ChainError,
    ChainIdentity,
    Identity,
)
from healthomics_gateway.upstream.sigv4 import Credentials, Signer

SERVICE = "sts"  # boto3's name of it, and its signing name
SESSION_SECONDS = 3600  # the most where one role assumes another
EARLY = timedelta(minutes=15)  # before its end another session is asked for
OWN_SECONDS = 15.0  # for the gateway's own credentials; they are given up before
ACCOUNT_SECONDS = 5.0  # for the gateway's own account, which is asked for once
MAX_THREADS = 16  # that ask STS, each with a connection of boto3's client
MAX_TPS = 50.0  # of requests to STS, which takes 600 a second of an account
MAX_NAME = 64  # characters of a session's name
DIGEST_DIGITS = 16

_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_DIGEST = re.compile(rf"-[0-9a-f]{{{DIGEST_DIGITS}}}\Z")

_RENEWED = {Reason.GATEWAY_CREDENTIALS_EXPIRED, Reason.GATEWAY_CREDENTIALS_INVALID}
_CLOCK = {Reason.GATEWAY_CLOCK_SKEW, Reason.GATEWAY_SIGNATURE_REJECTED}

_T = TypeVar("_T")

_log = structlog.get_logger("sts")

# What signs the request that a thread makes.
_own: ContextVar[Credentials] = ContextVar("_own")


def session_name(identity: str) -> str:
    """Name a caller to AWS, for CloudTrail: two identities never share a name.

    What AWS takes as it is stays, but for what looks like a name made here.
    """
    if _NAME.fullmatch(identity) and not _DIGEST.search(identity):
        return identity
    digest = sha256(identity.encode(errors="surrogatepass")).hexdigest()
    suffix = f"-{digest[:DIGEST_DIGITS]}"
    return _NOT_OF_A_NAME.sub("-", identity)[: MAX_NAME - len(suffix)] + suffix


@dataclass(frozen=True, slots=True)
class Session:
    """What STS gave; it answers as botocore's credentials do."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: datetime
    clock: Clock = field(repr=False)

    def get_frozen_credentials(self) -> Session:
        """Give itself: it never changes."""
        return self

    def refresh_needed(self, seconds: int | None = None) -> bool:
        """Tell whether it ends within so many seconds; None is early enough."""
        ahead = EARLY if seconds is None else timedelta(seconds=seconds)
        return self.expires_at - self.clock.aws_now <= ahead


class Sts:
    """Asks STS. What blocks is for a thread beside the event loop."""

    def __init__(
        self,
        own: Identity,
        *,
        client: Callable[[], Any] | None,
        region: str,
        clock: Clock,
    ) -> None:
        """Ask as `own`, inside its event loop.

        `client` makes boto3's client, which signs nothing itself; without one no role
        can be assumed.
        """
        self._own = own
        self._make_client = client
        self._region = region
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._threads = AtMost(
            MAX_THREADS,
            "aws-credentials",
            begin=Gate(Quota(tps=MAX_TPS, burst=MAX_THREADS)).depart,
        )
        self._making = threading.Lock()
        self._client: Any = None

    def identity(self, partition: Partition) -> ChainIdentity:
        """Give the identity of a role that is assumed for a caller.

        Readiness isn't told of it: a role that fails is its callers' matter.
        """
        return ChainIdentity(
            lambda _: None,
            chain=lambda: self.session(partition),
            run=self._threads.run,
            looks_out=False,
        )

    def session(self, partition: Partition) -> Session:
        """Blocks: assume a role for a caller, or raise ChainError."""
        name = session_name(partition.identity)
        answer = self._ask(
            "assume_role",
            RoleArn=partition.role,
            RoleSessionName=name,
            SourceIdentity=name,
            DurationSeconds=SESSION_SECONDS,
        )
        given = answer["Credentials"]
        expires_at = given["Expiration"]
        if expires_at.tzinfo is None:  # boto3 takes the text as it is
            expires_at = expires_at.replace(tzinfo=UTC)
        session = Session(
            given["AccessKeyId"],
            given["SecretAccessKey"],
            given["SessionToken"],
            expires_at,
            self._clock,
        )
        values = (session.access_key, session.secret_key, session.token)
        if not all(map(HEADER_VALUE.fullmatch, values)):
            raise ChainError(
                Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, "MalformedCredentials"
            )
        return session

    async def account(self) -> str | None:
        """Tell the gateway's own account id, or None where that can't be told."""
        if self._make_client is None:
            return None
        try:
            async with asyncio.timeout(ACCOUNT_SECONDS):
                answer = await in_thread(
                    lambda: self._ask("get_caller_identity"), name="aws-account"
                )
            return str(answer["Account"])
        except (ChainError, KeyError, TimeoutError) as error:
            kind = type(error).__name__
            name = error.name if isinstance(error, ChainError) else kind
            _log.warning("account_unknown", error=name)
            return None

    def _ask(self, operation: str, **asked: Any) -> Any:
        try:
            ask = getattr(self._made_client(), operation)
            credentials, skew = self._own_credentials(), self._clock.skew
            try:
                return self._signed(credentials, ask, asked)
            except ClientError as error:
                if not self._mend(error, credentials, skew):
                    raise
            return self._signed(self._own_credentials(), ask, asked)
        except ClientError as error:
            raise _refusal(code_of(error)) from None
        except GatewayError as error:
            raise ChainError(error.reason, error.reason.name) from None
        except Exception as error:  # noqa: BLE001  # of what boto3 may raise
            name = type(error).__name__
            raise ChainError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, name) from None

    def _made_client(self) -> Any:
        with self._making:
            if self._client is None:
                if self._make_client is None:
                    raise LookupError("no place to assume a role")
                self._client = self._make_client()
                self._client.meta.events.register("request-created.sts", self._sign)
            return self._client

    def _own_credentials(self) -> Credentials:
        return self._on_loop(self._own.credentials())

    def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(OWN_SECONDS)

    def _signed(
        self, credentials: Credentials, ask: Callable[..., Any], asked: dict[str, Any]
    ) -> Any:
        token = _own.set(credentials)
        try:
            return ask(**asked)
        finally:
            _own.reset(token)

    def _sign(self, request: Any, **_: Any) -> None:
        """Sign one request of boto3's, each time that it is sent."""
        url = urlsplit(request.url)
        headers = Signer(region=self._region, service=SERVICE).headers(
            _own.get(),
            host=url.netloc,
            path=url.path or "/",
            now=self._clock.aws_now,
            method=request.method,
            body=request.body,
        )
        for name, value in headers.items():
            request.headers[name] = value

    def _mend(
        self, error: ClientError, credentials: Credentials, skew: timedelta
    ) -> bool:
        """Take what a refusal says of the gateway's clock and credentials, as ever."""
        verdict = CODES.get(code_of(error))
        if verdict and verdict.reason in _RENEWED:
            return self._on_loop(self._own.renew(credentials))
        if verdict and verdict.reason in _CLOCK:
            headers = error.response["ResponseMetadata"]["HTTPHeaders"]
            self._clock.learn(headers.get("date", ""))
            return self._clock.differs_from(skew)
        return False


def _refusal(code: str) -> ChainError:
    """Tell whether STS refuses the role, or fails the gateway in some other way."""
    verdict = CODES.get(code)
    is_denied = verdict and verdict.reason is Reason.UPSTREAM_ACCESS_DENIED
    return ChainError(
        Reason.UPSTREAM_ACCESS_DENIED
        if is_denied
        else Reason.GATEWAY_CREDENTIALS_UNAVAILABLE,
        code if SAFE_CODE.fullmatch(code) else ClientError.__name__,
    )
