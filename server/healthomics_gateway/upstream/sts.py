"""Sessions of roles, one for each role and caller, and the gateway's own account."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

import structlog

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.quota import LocalQuota
from healthomics_gateway.runs.source import Partition
from healthomics_gateway.threads import AtMost, in_thread
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.credential_chain import HEADER_VALUE
from healthomics_gateway.upstream.credentials import ChainProvider
from healthomics_gateway.upstream.provider import ChainError, CredentialsProvider
from healthomics_gateway.upstream.sts_client import StsClient

SESSION_SECONDS = 3600  # the maximum if one role assumes another
EARLY = timedelta(minutes=15)  # before its expiry a session is renewed
ACCOUNT_SECONDS = 5.0  # for the request for the gateway's own account
MAX_THREADS = 16  # that send requests to STS, each on a connection of its own
MAX_TPS = 50.0  # requests a second to STS, which accepts 600 of an account
MAX_NAME = 64  # characters in a session's name
DIGEST_DIGITS = 16

_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_NOT_OF_A_NAME = re.compile(r"[^A-Za-z0-9_+=,.@-]")
_DIGEST = re.compile(rf"-[0-9a-f]{{{DIGEST_DIGITS}}}\Z")

_log = structlog.get_logger("sts")


def session_name(identity: str) -> str:
    """Return the session name of a caller, for CloudTrail; no two identities share one.

    It is the identity itself if AWS accepts it and it doesn't end like a name with a
    digest; otherwise it ends with a digest of the identity.
    """
    if _NAME.fullmatch(identity) and not _DIGEST.search(identity):
        return identity
    digest = sha256(identity.encode(errors="surrogatepass")).hexdigest()
    suffix = f"-{digest[:DIGEST_DIGITS]}"
    return _NOT_OF_A_NAME.sub("-", identity)[: MAX_NAME - len(suffix)] + suffix


@dataclass(frozen=True, slots=True)
class Session:
    """The credentials of a role, with the methods of botocore's credentials."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: datetime
    clock: Clock = field(repr=False)

    def get_frozen_credentials(self) -> Session:
        """Return the session itself: it never changes."""
        return self

    def refresh_needed(self, seconds: int | None = None) -> bool:
        """Return whether it expires within `seconds`; None stands for EARLY."""
        ahead = EARLY if seconds is None else timedelta(seconds=seconds)
        return self.expires_at - self.clock.aws_now <= ahead


class CallerIdentity(NamedTuple):
    """The identity that credentials belong to, by STS."""

    account: str
    arn: str


class Sts:
    """Assumes roles, in a limited number of threads and at a limited rate."""

    def __init__(
        self,
        own: CredentialsProvider,
        *,
        client: Callable[[], Any] | None,
        region: str,
        clock: Clock,
    ) -> None:
        """Send requests to STS with the credentials of `own`.

        Create it in the event loop of `own`. `client` creates boto3's client, which
        must not sign by itself. Without it no role can be assumed.
        """
        self.has_client = client is not None  # whether it can be used at all
        self._client = StsClient(own, client=client, region=region, clock=clock)
        self._clock = clock
        self._threads = AtMost(
            MAX_THREADS,
            "aws-credentials",
            begin=LocalQuota(tps=MAX_TPS, burst=MAX_THREADS).depart,
        )

    def provider(self, partition: Partition) -> ChainProvider:
        """Return the credentials provider of a role that is assumed for a caller.

        It doesn't report to readiness: the failure of a role concerns its callers only.
        """
        return ChainProvider(
            lambda _: None,
            chain=lambda: self.session(partition),
            run=self._threads.run,
            recovers=False,
        )

    def session(self, partition: Partition) -> Session:
        """Assume a role for a caller, or raise ChainError. This blocks."""
        name = session_name(partition.identity)
        response = self._client.request(
            "assume_role",
            RoleArn=partition.role,
            RoleSessionName=name,
            SourceIdentity=name,
            DurationSeconds=SESSION_SECONDS,
        )
        credentials = response["Credentials"]
        expires_at = credentials["Expiration"]
        if expires_at.tzinfo is None:  # boto3 keeps a text without a zone as it is
            expires_at = expires_at.replace(tzinfo=UTC)
        session = Session(
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials["SessionToken"],
            expires_at,
            self._clock,
        )
        values = (session.access_key, session.secret_key, session.token)
        if not all(map(HEADER_VALUE.fullmatch, values)):
            raise ChainError(
                Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, "MalformedCredentials"
            )
        return session

    async def caller(self) -> CallerIdentity:
        """Return who the gateway's own credentials are, or raise ChainError."""
        response = await in_thread(
            lambda: self._client.request("get_caller_identity"), name="aws-account"
        )
        try:
            return CallerIdentity(str(response["Account"]), str(response["Arn"]))
        except KeyError as error:
            name = type(error).__name__
            raise ChainError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, name) from None

    async def account(self) -> str | None:
        """Return the gateway's own account id, or None if it can't be read."""
        if not self.has_client:
            return None
        try:
            async with asyncio.timeout(ACCOUNT_SECONDS):
                return (await self.caller()).account
        except (ChainError, TimeoutError) as error:
            kind = type(error).__name__
            name = error.name if isinstance(error, ChainError) else kind
            _log.warning("account_unknown", error=name)
            return None
