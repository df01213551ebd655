"""The source that records each attempt as a span, by the conventions for HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.runs.span_records import end_with
from healthomics_gateway.telemetry import spans
from healthomics_gateway.telemetry.spans import Attributes, Span
from healthomics_gateway.upstream.healthomics import query_string

if TYPE_CHECKING:
    from healthomics_gateway.errors.exceptions import AwsAnswer
    from healthomics_gateway.runs.source import Answer, Call, RunQuery, RunSource

GET = "GET"
TEMPLATE = "/run/{id}"
PORTS = {"http": 80, "https": 443}


class TracedAttempts:
    """Records each attempt as the span of an HTTP client, and the translation.

    A fetch whose calls aren't recorded has no span, and is passed on. The request has
    no `traceparent`: AWS doesn't use it.
    """

    def __init__(self, runs: RunSource, *, endpoint: str) -> None:
        """Wrap `runs`, which sends its requests to `endpoint`."""
        self._runs = runs
        self._endpoint = endpoint
        url = urlsplit(endpoint)
        self._fixed: Attributes = {
            spans.HTTP_METHOD: GET,
            spans.URL_TEMPLATE: TEMPLATE,
            spans.SERVER_ADDRESS: url.hostname or "",
            spans.SERVER_PORT: url.port or PORTS[url.scheme],
        }

    async def get_run(self, query: RunQuery, *, call: Call) -> Answer:
        """Return the next source's answer, with the fetch that it is from."""
        fetch = call.span
        if fetch is None:
            return await self._runs.get_run(query, call=call)
        fetch.received_at = None
        span = fetch.child(spans.ATTEMPT, self._attributes(query, call), is_client=True)
        try:
            answer = await self._runs.get_run(query, call=call)
        except GatewayError as error:
            span.set(_facts(call, error.answer))
            _end(span, fetch, error)
            raise
        except asyncio.CancelledError as error:
            end_with(span, error)
            raise
        span.set(_facts(call, call.upstream.answer))
        _end(span, fetch)
        return replace(answer, origin=fetch.origin)

    def _attributes(self, query: RunQuery, call: Call) -> Attributes:
        resends = call.upstream.attempts
        url, text = f"{self._endpoint}/run/{query.id}", query_string(query)
        return {
            **self._fixed,
            spans.URL: f"{url}?{text}" if text else url,
            **({spans.HTTP_RESENDS: resends} if resends else {}),
        }


def _facts(call: Call, answer: AwsAnswer | None) -> Attributes:
    facts: dict[str, str | int] = {spans.CLOUD_REGION: call.upstream.region}
    if answer:
        known = {
            spans.AWS_REQUEST_ID: answer.request_id,
            spans.AWS_ERROR_CODE: answer.error_code,
            spans.HTTP_STATUS: answer.http_status,
        }
        facts |= {name: value for name, value in known.items() if value}
    return facts


def _end(span: Span, fetch: Span, error: GatewayError | None = None) -> None:
    """End the span of an attempt, and record the translation if there was one."""
    received = fetch.received_at
    if received is None:
        end_with(span, error, is_client=True)
        return
    span.end(at=received)
    end_with(fetch.child(spans.TRANSLATE, start=received), error)
