"""Requests to STS by boto3's client, signed by the gateway with AWS's time.

boto3 signs with the machine's clock, and with credentials that are fixed when a client
is created, so its signing is switched off.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.classify import CODES, SAFE_CODE
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.credential_chain import code_of
from healthomics_gateway.upstream.provider import ChainError, CredentialsProvider
from healthomics_gateway.upstream.sigv4 import Credentials, Signer

SERVICE = "sts"  # the signing name
OWN_SECONDS = 15.0  # for the gateway's own credentials, longer than their own timeout

_CREDENTIALS = {
    Reason.GATEWAY_CREDENTIALS_EXPIRED,
    Reason.GATEWAY_CREDENTIALS_INVALID,
}
_CLOCK = {Reason.GATEWAY_CLOCK_SKEW, Reason.GATEWAY_SIGNATURE_REJECTED}

_T = TypeVar("_T")

# The credentials that sign the request of a thread.
_credentials: ContextVar[Credentials] = ContextVar("_credentials")


class StsClient:
    """Sends requests to STS; its methods block, so they run in threads."""

    def __init__(
        self,
        own: CredentialsProvider,
        *,
        client: Callable[[], Any] | None,
        region: str,
        clock: Clock,
    ) -> None:
        """Create a client that signs with the credentials of `own`, in its event loop.

        `client` creates boto3's client, which must not sign by itself. Without it every
        request fails.
        """
        self._own = own
        self._new_client = client
        self._region = region
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._client: Any = None

    def request(self, operation: str, **parameters: Any) -> Any:
        """Return the response to a boto3 operation, or raise ChainError.

        If AWS refuses the credentials or the time, the request is sent once more with
        other credentials or a corrected time.
        """
        try:
            method = getattr(self._client_once(), operation)
            credentials, skew = self._own_credentials(), self._clock.skew
            try:
                return _call_signed(credentials, method, parameters)
            except ClientError as error:
                if not self._correct(error, credentials, skew):
                    raise
            return _call_signed(self._own_credentials(), method, parameters)
        except ClientError as error:
            raise _refusal(code_of(error)) from None
        except GatewayError as error:
            raise ChainError(error.reason, error.reason.name) from None
        except Exception as error:  # noqa: BLE001  # boto3 may raise anything
            name = type(error).__name__
            raise ChainError(Reason.GATEWAY_CREDENTIALS_UNAVAILABLE, name) from None

    def _client_once(self) -> Any:
        """Return the client, which the first call creates."""
        with self._lock:
            if self._client is None:
                if self._new_client is None:
                    raise LookupError("no endpoint of STS")
                self._client = self._new_client()
                self._client.meta.events.register("request-created.sts", self._sign)
            return self._client

    def _own_credentials(self) -> Credentials:
        return self._on_loop(self._own.credentials())

    def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(OWN_SECONDS)

    def _sign(self, request: Any, **_: Any) -> None:
        """Sign a request of boto3, each time that it is sent."""
        url = urlsplit(request.url)
        headers = Signer(region=self._region, service=SERVICE).headers(
            _credentials.get(),
            host=url.netloc,
            path=url.path or "/",
            now=self._clock.aws_now,
            method=request.method,
            body=request.body,
        )
        for name, value in headers.items():
            request.headers[name] = value

    def _correct(
        self, error: ClientError, credentials: Credentials, skew: timedelta
    ) -> bool:
        """Renew the credentials or correct the clock; return whether that succeeded."""
        verdict = CODES.get(code_of(error))
        if verdict and verdict.reason in _CREDENTIALS:
            return self._on_loop(self._own.renew(credentials))
        if verdict and verdict.reason in _CLOCK:
            headers = error.response["ResponseMetadata"]["HTTPHeaders"]
            self._clock.learn(headers.get("date", ""))
            return self._clock.differs_from(skew)
        return False


def _call_signed(
    credentials: Credentials, method: Callable[..., Any], parameters: dict[str, Any]
) -> Any:
    token = _credentials.set(credentials)
    try:
        return method(**parameters)
    finally:
        _credentials.reset(token)


def _refusal(code: str) -> ChainError:
    """Return the error of an STS code: access to the role is denied, or any other."""
    verdict = CODES.get(code)
    is_denied = verdict and verdict.reason is Reason.UPSTREAM_ACCESS_DENIED
    return ChainError(
        Reason.UPSTREAM_ACCESS_DENIED
        if is_denied
        else Reason.GATEWAY_CREDENTIALS_UNAVAILABLE,
        code if SAFE_CODE.fullmatch(code) else ClientError.__name__,
    )
