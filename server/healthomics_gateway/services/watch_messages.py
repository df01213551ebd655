"""The messages of a watch besides its states, and the spans of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from healthomics.v1.run_pb2 import RunStatus
from healthomics_gateway.runs.source import Answer
from healthomics_gateway.runs.subscription import HEARTBEAT, Subscription
from healthomics_gateway.telemetry.message_spans import MessageSpans
from healthomics_gateway.threads import retrieve


def record(messages: MessageSpans, body: bytes, watch: Subscription) -> None:
    """Record what is about to be sent: a heartbeat or a state."""
    if body is HEARTBEAT:
        messages.heartbeat()
    else:
        status = RunStatus.Name(watch.status).removeprefix("RUN_STATUS_")
        messages.change(status, watch.origin)


async def heartbeats(
    fetching: asyncio.Task[Answer], seconds: float | None
) -> AsyncGenerator[bytes, None]:
    """Yield a heartbeat every `seconds` until a watch's first fetch has ended.

    Closing the generator cancels the fetch.
    """
    fetching.add_done_callback(retrieve)
    try:
        while not (await asyncio.wait([fetching], timeout=seconds))[0]:
            yield HEARTBEAT
    finally:
        fetching.cancel()
