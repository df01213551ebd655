"""Checks that the store of the replicas can be used, and is fast enough."""

from __future__ import annotations

import asyncio
import secrets
import time
from statistics import median
from typing import TYPE_CHECKING

from healthomics_gateway.app.sharing import make_store
from healthomics_gateway.check.found import Found
from healthomics_gateway.check.step import Result, failed, ok, skipped
from healthomics_gateway.shared.replica import COMMAND_SECONDS
from healthomics_gateway.shared.store import Rate, Store, StoreError

if TYPE_CHECKING:
    from healthomics_gateway.shared.valkey.store import ValkeyStore

FAULTY = ("shared", "GATEWAY_SHARED")  # how a fault of its settings begins
SAMPLES = 9  # commands whose time is measured
WRITES, WRITE_SECONDS = 30, 0.1  # until a message arrives, and between two
ENTRY, FIELD = "check", "value"
# They may evict what is in use instead of what isn't: a quota, or who is a replica.
UNFIT_POLICIES = frozenset({"allkeys-random", "volatile-random", "volatile-ttl"})
_NO_MESSAGE = "a message that was published there doesn't arrive"


async def check_shared(found: Found) -> Result:
    """Use the store as a gateway does, at keys of its own."""
    if any(fault.startswith(FAULTY) for fault in found.faults):
        return skipped("needs the settings of shared without a fault")
    url = found.settings.shared.url
    if url is None:
        return skipped("shared.url is unset: replicas of this gateway share nothing")
    name = f"shared.url {_shown(url.get_secret_value())}"
    store = make_store(url.get_secret_value(), deployment=secrets.token_hex(8))
    try:
        await _command_seconds(store)  # connects, which may need more time
        seconds = median([await _command_seconds(store) for _ in range(SAMPLES)])
        took = f"{seconds * 1000:.1f} ms a command"
        if seconds > COMMAND_SECONDS:
            limit = f"a gateway waits {COMMAND_SECONDS * 1000:g} ms"
            advice = "use a store that is nearer, or less busy"
            return failed(f"{name}: {took}, but {limit}; {advice}")
        if fault := await _fault_of_messages(store):
            return failed(f"{name}: {store.fault_of_messages or fault}")
        return ok(f"{store.servers.version}, {took}", *await _notes(store))
    except StoreError as error:
        return failed(f"{name}: {error}")
    finally:
        await store.close()


def _shown(url: str) -> str:
    """Return a URL without its secrets, and with the port of each host."""
    from healthomics_gateway.shared.valkey.urls import (  # noqa: PLC0415  # its libraries, an extra, may be missing
        shown_url,
    )

    return shown_url(url)


async def _command_seconds(store: Store) -> float:
    begun = time.perf_counter()
    await store.take(ENTRY, Rate(1.0, 1.0), wanted=1)
    return time.perf_counter() - begun


async def _fault_of_messages(store: Store) -> str:
    """Return why values that are written don't arrive; empty if they do."""
    arrived = asyncio.Event()
    store.deliver_to(lambda _name, _value: arrived.set())
    await store.subscribe(ENTRY)
    for _ in range(WRITES):
        await store.write(ENTRY, FIELD, b"check", age_seconds=0.0, keep_seconds=1.0)
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await arrived.wait()
        except TimeoutError:
            continue
        return ""
    return _NO_MESSAGE


async def _notes(store: ValkeyStore) -> tuple[str, ...]:
    """Return what an operator may want to change of the store."""
    try:
        policy = (await store.info()).get("maxmemory_policy", "")
    except StoreError:
        return ("its user may not read INFO, so its memory policy isn't known",)
    if policy in UNFIT_POLICIES:
        advice = "set noeviction, allkeys-lru or volatile-lru"
        return (f"its maxmemory-policy {policy} may remove what is in use; {advice}",)
    return ()
