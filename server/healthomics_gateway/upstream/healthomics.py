"""The source of runs that makes one attempt: it signs, sends and reads a GetRun."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import time_ns
from urllib.parse import urlsplit

from healthomics.v1.run_pb2 import Run, RunExport
from healthomics_gateway.errors.exceptions import Again, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import Answer, Call, RunQuery
from healthomics_gateway.upstream import classify
from healthomics_gateway.upstream.clock import Clock
from healthomics_gateway.upstream.endpoints import SERVICE
from healthomics_gateway.upstream.exact_json import TooManyValuesError
from healthomics_gateway.upstream.provider import AGENT, CredentialsProvider, Report
from healthomics_gateway.upstream.reply import Failure, Reply
from healthomics_gateway.upstream.sigv4 import Credentials, Signer
from healthomics_gateway.upstream.translate import (
    AnotherRunError,
    ErrorAnswerError,
    MalformedAnswerError,
    run_from_json,
)
from healthomics_gateway.upstream.transport import Transport, TransportError

EXPORT_PREFIX = "RUN_EXPORT_"
LOOP_BYTES = 16_384  # a larger body is parsed in a thread, so the loop isn't blocked
# Not asyncio's own threads, which may be blocked by other work.
READERS = 2
HTTP_OK = 200
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_readers = ThreadPoolExecutor(READERS, thread_name_prefix="answers")


class HealthOmics:
    """Sends one request to AWS for each call of `get_run`."""

    def __init__(
        self,
        transport: Transport,
        provider: CredentialsProvider,
        *,
        region: str,
        endpoint: str,
        report: Report,
        reached: Callable[[Reason | None], None] = lambda _: None,
        clock: Clock | None = None,
        depart: Callable[[RunQuery], Awaitable[None]] | None = None,
    ) -> None:
        """Create a source that sends requests to `endpoint`.

        It calls `report` with None when AWS accepts the identity, or with the reason
        why not. It calls `reached` with None after each answer, or with the reason why
        there was none. `clock`, which other signers may share, is set by AWS's answers.
        `depart` is awaited immediately before each request is sent.
        """
        self._transport = transport
        self._provider = provider
        self._region = region
        self._endpoint = endpoint
        self._report = report
        self._reached = reached
        self._clock = clock or Clock()
        self._depart = depart
        url = urlsplit(endpoint)
        self._host = url.netloc
        self._path = url.path
        self._signer = Signer(region=region, service=SERVICE)
        self._refused: Credentials | None = None  # the first since AWS accepted any

    def with_provider(self, provider: CredentialsProvider) -> HealthOmics:
        """Return a copy that signs with `provider`, and reports no identity."""
        return HealthOmics(
            self._transport,
            provider,
            region=self._region,
            endpoint=self._endpoint,
            report=lambda _: None,
            reached=self._reached,
            clock=self._clock,
            depart=self._depart,
        )

    @property
    def is_ready(self) -> bool:
        """Return whether a request can be signed without waiting for credentials."""
        return self._provider.is_usable

    async def ready(self) -> None:
        """Wait until a request can be signed; raise GatewayError if none can be."""
        await self._provider.credentials()

    async def close(self) -> None:
        """Stop the background task of the credentials."""
        await self._provider.close()

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Make one attempt; raise GatewayError, which says whether to try again."""
        credentials = await self._provider.credentials()
        call.upstream = call.upstream.next_attempt(self._region)
        skew = self._clock.skew
        try:
            depart = partial(self._depart, query) if self._depart else None
            reply = await self._transport.get(
                *self._signed(query, credentials), depart=depart
            )
        except TransportError as error:
            if error.failure is Failure.TLS_UNTRUSTED:
                self._report(Reason.UPSTREAM_TLS_UNTRUSTED)
            failure = classify.error_of_failure(error.failure)
            has_answered = error.failure in classify.ANSWERED
            self._reached(None if has_answered else failure.reason)
            raise failure from error
        self._reached(None)
        if call.span and reply.status == HTTP_OK and isinstance(reply.body, bytes):
            call.span.received_at = time_ns()  # the translation begins
        try:
            run = await _run_of(reply, query)
        except GatewayError as error:
            raise self._learn_from(error, reply, credentials, skew) from None
        if self._clock.skew:
            self._clock.learn(reply.headers.get("Date", ""))
        self._refused = None
        self._report(None)
        since = self._clock.now() - EPOCH
        time = run.observe_time
        time.seconds = since.days * 86400 + since.seconds
        time.nanos = since.microseconds * 1000
        answer = classify.answer_of(reply)
        call.upstream = replace(call.upstream, answer=answer)
        return Answer(run, answer.request_id)

    def _signed(
        self, query: RunQuery, credentials: Credentials
    ) -> tuple[str, dict[str, str]]:
        path = f"{self._path}/run/{query.id}"
        text = query_string(query)
        headers = self._signer.headers(
            credentials,
            host=self._host,
            path=path,
            query=text,
            now=self._clock.aws_now,
        )
        headers["accept-encoding"] = "identity"
        headers["user-agent"] = AGENT
        url = f"{self._endpoint}/run/{query.id}"
        return f"{url}?{text}" if text else url, headers

    def _learn_from(
        self,
        error: GatewayError,
        reply: Reply,
        credentials: Credentials,
        skew: timedelta,
    ) -> GatewayError:
        """Correct the clock if AWS refused the time, and report an accepted identity.

        Return the error, with whether to try again, or how to renew the credentials.
        """
        match error.reason:
            case Reason.GATEWAY_CLOCK_SKEW | Reason.GATEWAY_SIGNATURE_REJECTED:
                self._clock.learn(reply.headers.get("Date", ""))
                if self._clock.differs_from(skew):
                    return error.replace(again=Again.FIXED)
            case (
                Reason.GATEWAY_CREDENTIALS_EXPIRED | Reason.GATEWAY_CREDENTIALS_INVALID
            ):
                return error.replace(fix=partial(self._renew, credentials, error))
            case _ if error.answer and error.answer.error_code:
                self._report(None)
        return error

    async def _renew(self, refused: Credentials, error: GatewayError) -> GatewayError:
        """Renew the credentials; return the error with whether to try again.

        If AWS refuses renewed credentials too, before it has accepted any, there is no
        further attempt.
        """
        again = error.again
        try:
            is_renewed = await self._provider.renew(refused)
        except GatewayError:
            again = Again.NO
        else:
            self._refused = self._refused or refused
            if is_renewed and refused == self._refused:
                again = Again.FIXED
        is_invalid = error.reason is Reason.GATEWAY_CREDENTIALS_INVALID
        if is_invalid and again is not Again.FIXED:
            self._report(error.reason)
        return error.replace(again=again)


def query_string(query: RunQuery) -> str:
    """Return the query string of a query's URL; it may be empty."""
    words = [RunExport.Name(each) for each in query.export]
    return "&".join(f"export={word.removeprefix(EXPORT_PREFIX)}" for word in words)


async def _run_of(reply: Reply, query: RunQuery) -> Run:
    if isinstance(reply.body, bytes) and len(reply.body) > LOOP_BYTES:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_readers, _read, reply, query)
    return _read(reply, query)


def _read(reply: Reply, query: RunQuery) -> Run:
    try:
        return run_from_json(classify.body_of(reply), run_id=query.id)
    except ErrorAnswerError as error:
        raise classify.error_of_code(error.error_type, reply) from None
    except AnotherRunError:
        raise classify.error_of_failure(Failure.ANOTHER_RUN, reply) from None
    except TooManyValuesError:
        raise classify.error_of_failure(Failure.TOO_LARGE, reply) from None
    except MalformedAnswerError:
        raise classify.error_of_failure(Failure.MALFORMED, reply) from None
