"""Calls that are ended early, or that their clients cancel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.interceptors.eviction import Evictions

REFUSED = GatewayError(Reason.GATEWAY_DRAINING)


def this_task() -> asyncio.Task[Any]:
    """Return the task of the test."""
    task = asyncio.current_task()
    assert task
    return task


async def test_evicted_call_ends_with_its_error() -> None:
    """The cancellation becomes the error, and the task isn't cancelled any more."""
    evictions, task = Evictions(), this_task()
    evictions.evict(task, REFUSED)
    with pytest.raises(GatewayError) as caught, evictions.scope(task):
        await asyncio.sleep(0)

    assert REFUSED is caught.value
    assert not task.cancelling()


async def test_cancellation_by_the_client_stays_one() -> None:
    """A call that isn't evicted is cancelled as usual."""
    with pytest.raises(asyncio.CancelledError), Evictions().scope(this_task()):
        raise asyncio.CancelledError


async def test_error_of_a_call_that_ended_before_is_forgotten() -> None:
    """An eviction that comes too late changes neither this end nor a later one."""
    evictions, task = Evictions(), this_task()
    with evictions.scope(task):
        evictions.evict(task, REFUSED)  # the call ends before this cancellation
    with pytest.raises(asyncio.CancelledError), evictions.scope(task):
        await asyncio.sleep(0)
