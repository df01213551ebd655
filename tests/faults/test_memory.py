"""The memory that HealthOmics' answers can use, measured from outside the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from healthomics_gateway.errors.reasons import Reason
from testkit.builders import assert_well_made, get_run, http, refused
from testkit.fault_table import Tally
from testkit.gateway_process import Served, client, serving
from testkit.lying_upstream import TRUE_ID, Answer, LyingUpstream, Wait, true_run

CAP_BYTES = 1 << 20  # upstream.max_body_bytes
PLACES = 64  # upstream.max_concurrent
OWN_MIB = 16.0  # beyond the memory of ordinary calls
SHARE_MIB = 2.0  # for each attempt: the parts of the body, and the whole
LARGE_BYTES = 50_000_000
ENDLESS_BYTES = 100_000_000  # the upstream's own limit
UNREAD_BYTES = 65_536  # tolerance: the limit isn't exact for unread bytes
WARM_ROUNDS = 4
FIRST_ID = 2_000_011
HELD_SECONDS = 1.0  # until all bodies have arrived so far
DEADLINE_SECONDS = 30.0

BLOCK = b"x" * 65_536
CHUNK = b"10000\r\n" + BLOCK + b"\r\n"
FIELD = b"x-filler: " + b"x" * 4096 + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
FORGET_PEAK = "5"  # what /proc/PID/clear_refs expects


def blocks(size: int) -> list[bytes]:
    """Return about this many bytes."""
    return [BLOCK] * (size // len(BLOCK))


def chunks(size: int) -> list[bytes]:
    """Return about this many bytes in chunks, without an end."""
    return [CHUNK] * (size // len(BLOCK))


# Each answer, and the reason that its call ends with.
WITHOUT_BOUNDS: dict[str, tuple[Answer, Reason]] = {
    "declared": (
        [OK + b"content-length: %d\r\n\r\n" % LARGE_BYTES, *blocks(LARGE_BYTES)],
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
    ),
    "chunked": (
        [CHUNKED, *chunks(LARGE_BYTES), b"0\r\n\r\n"],
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
    ),
    "endless": (
        [CHUNKED, *chunks(ENDLESS_BYTES)],
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
    ),
    "held": (  # so that all are at their maximum at the same time
        [
            *(CHUNKED, *chunks(CAP_BYTES - len(BLOCK))),
            *(Wait(HELD_SECONDS), *chunks(ENDLESS_BYTES)),
        ],
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
    ),
    "endless-header": (
        [OK + b"x-filler: ", *blocks(ENDLESS_BYTES)],
        Reason.UPSTREAM_RESPONSE_TOO_LARGE,
    ),
    "endless-headers": (
        [OK, *[FIELD] * (ENDLESS_BYTES // len(FIELD))],
        Reason.UPSTREAM_MALFORMED_RESPONSE,  # which is retried
    ),
}
ONCE = {"GATEWAY_UPSTREAM__MAX_ATTEMPTS": "1"}


@pytest.mark.guarantee("bounded-memory")
@pytest.mark.fault(11)
async def test_endless_responses_take_limited_memory(tally: Tally) -> None:
    """Little is read beyond the body limit, by one call and by many."""
    due = {
        name: ({(reason.name, reason.value.code)}, True)
        for name, (_, reason) in WITHOUT_BOUNDS.items()
    }
    async with (
        LyingUpstream() as upstream,
        serving(upstream.url, **ONCE) as served,
        client(served) as stub,
    ):
        peak = await memory_meter(served, stub)
        alone = await outcomes_of(stub, upstream, 1, tally)
        taken_alone = peak()
        many = await outcomes_of(stub, upstream, PLACES, tally)
        taken = peak()
        run = await get_run(stub, TRUE_ID)

    assert due == alone
    assert taken_alone <= OWN_MIB
    assert due == many
    assert taken <= OWN_MIB + SHARE_MIB * PLACES
    assert TRUE_ID == run.id


async def outcomes_of(
    stub: Any, upstream: LyingUpstream, calls: int, tally: Tally
) -> dict[str, tuple[set[tuple[str, int]], bool]]:
    """Make concurrent calls for each response and return their outcomes."""
    found = {}
    for name, (answer, _) in WITHOUT_BOUNDS.items():
        for run_id in ids_of(calls):
            upstream.lie(run_id, answer)  # resets the count
        ends = await reasons_of(stub, ids_of(calls), tally)
        found[name] = ends, asked_of(upstream, calls) == [1] * calls
    return found


@pytest.mark.guarantee("bounded-memory")
@pytest.mark.fault(11)
async def test_largest_responses_take_limited_memory(tally: Tally) -> None:
    """As many of the largest responses as there are places arrive at the same time."""
    name = "x" * (CAP_BYTES - UNREAD_BYTES)
    ids = ids_of(PLACES)
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(LyingUpstream())
        served = await stack.enter_async_context(serving(upstream.url))
        stubs = [await stack.enter_async_context(own_channel(served)) for _ in ids]
        peak = await memory_meter(served, *stubs)
        for run_id in ids:
            upstream.lie(run_id, http(true_run(run_id, name=name).ljust(CAP_BYTES)))
        runs = await asyncio.gather(
            *(
                get_run(stub, run_id, seconds=DEADLINE_SECONDS)
                for stub, run_id in zip(stubs, ids, strict=True)
            )
        )
        taken = peak()
    tally.calls += PLACES
    tally.outcomes["OK"] += PLACES

    assert [(run_id, name) for run_id in ids] == [(run.id, run.name) for run in runs]
    assert [1] * PLACES == asked_of(upstream, PLACES)
    assert taken <= OWN_MIB + SHARE_MIB * PLACES


# Measuring.


def ids_of(calls: int) -> list[str]:
    """Return a run ID for each call."""
    return [str(FIRST_ID + at) for at in range(calls)]


def asked_of(upstream: LyingUpstream, calls: int) -> list[int]:
    """Return the number of requests about each run."""
    return [upstream.asked[run_id] for run_id in ids_of(calls)]


def own_channel(served: Served) -> Any:
    """Open a channel with a connection of its own."""
    return client(served, **{"grpc.use_local_subchannel_pool": 1})


async def memory_meter(served: Served, *stubs: Any) -> Callable[[], float]:
    """Make ordinary calls; return a function for the growth of memory since, in MiB."""
    for _ in range(WARM_ROUNDS):
        calls = [get_run(stub, TRUE_ID) for stub in stubs * (PLACES // len(stubs))]
        await asyncio.gather(*calls)
    process = Path(f"/proc/{served.process.pid}")
    (process / "clear_refs").write_text(FORGET_PEAK)
    before = mib_of(process, "VmRSS")
    return lambda: mib_of(process, "VmHWM") - before


def mib_of(process: Path, name: str) -> float:
    """Return one of the sizes in a process's status."""
    lines = (process / "status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields[name].split()[0]) / 1024


async def reasons_of(stub: Any, ids: list[str], tally: Tally) -> set[tuple[str, int]]:
    """Make concurrent calls that must fail; return their reasons and codes."""
    failures = await asyncio.gather(
        *(refused(get_run(stub, each, seconds=DEADLINE_SECONDS)) for each in ids)
    )
    tally.calls += len(ids)
    for failure in failures:
        assert_well_made(failure)
        tally.outcomes[failure.reason] += 1
    return {(each.reason, each.code.value[0]) for each in failures}
