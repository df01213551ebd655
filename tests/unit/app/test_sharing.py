"""What a gateway shares: its composition, its identity, its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.sharing import (
    Sharing,
    make_sharing,
)
from healthomics_gateway.runs.answer_values import MAX_VALUE_BYTES
from healthomics_gateway.settings.load import load
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.shared.store import StoreFullError
from healthomics_gateway.telemetry.quota_scope import ALL, GATEWAY
from testkit.builders import Sandbox, aws_at, gateway
from testkit.callers import until
from testkit.metrics import PREFIX, page, scrape
from testkit.valkey_server import ValkeyServer, valkey

SECRET = "0123456789abcdef0123456789abcdef"
ENDPOINT = "http://127.0.0.1:1"


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """Return a server that the test may kill."""
    with valkey() as running:
        yield running


def environ_of(url: str) -> dict[str, str]:
    """Return the variables of a gateway that shares."""
    return {"GATEWAY_SHARED__URL": url, "GATEWAY_SHARED__SECRET": SECRET}


def sharing_of(url: str = "redis://127.0.0.1:1") -> Sharing:
    """Return what a gateway with these settings shares."""
    settings = load(flags={}, environ=environ_of(url)).settings
    sharing = make_sharing(settings, aws_at(ENDPOINT))
    assert sharing
    return sharing


async def shared_line(served: Gateway) -> str:
    """Return the line of `/readyz?verbose` about the store."""
    text = await page(served.admin_address, path="/readyz?verbose")
    (line,) = [each for each in text.splitlines() if each.startswith("shared:")]
    return line


def test_nothing_is_shared_without_a_url() -> None:
    """A gateway by itself has no store."""
    assert make_sharing(Settings(), aws_at(ENDPOINT)) is None


async def test_gateway_shows_whether_its_store_is_used(server: ValkeyServer) -> None:
    """It serves without the store, is ready, and says what is wrong."""
    async with (
        Sandbox() as sandbox,
        gateway(aws_at(sandbox.url), **environ_of(server.url)) as served,
    ):
        sharing = served.parts.sharing
        assert sharing
        await until(lambda: sharing.replica.is_attached)
        await until(lambda: sharing.names.run("1", role="", caller="") is not None)
        assert "shared: ok" == await shared_line(served)
        attached = await scrape(served)
        server.kill()
        await until(lambda: not sharing.replica.is_attached)
        line = await shared_line(served)
        detached = await scrape(served)
        server.start()
        await until(lambda: sharing.replica.is_attached)
        await served.drain(0.0)
        assert not sharing.replica.is_attached

    assert line.startswith("shared: the shared store isn't used: ")
    for name in ("store_attached", "store_ok"):
        assert [1.0, 0.0] == [each.value(name) for each in (attached, detached)]
    assert 1.0 == attached.value("store_replicas")
    for name in ("quota_limit", "quota_rate"):
        assert [{ALL}, {GATEWAY}] == [
            set(each.sums(f"{PREFIX}{name}", by="scope"))
            for each in (attached, detached)
        ]
    assert detached.value("store_errors_total") > 0
    assert detached.value("store_seconds_count") > 0


async def test_gateway_without_a_store_has_no_values_about_it() -> None:
    """Nor does `/readyz?verbose` have a line."""
    async with Sandbox() as sandbox, gateway(aws_at(sandbox.url)) as served:
        metrics = await page(served.admin_address)
        text = await page(served.admin_address, path="/readyz?verbose")

    for name in ("attached", "ok"):
        assert f"\nhealthomics_gateway_store_{name}" not in metrics
    assert "shared" not in text


async def test_fault_says_what_isnt_shared() -> None:
    """The store may work while messages don't arrive, or AWS's identity is unknown."""
    sharing = sharing_of()
    assert "the shared store isn't used: it isn't reached yet" == sharing.fault()
    sharing.replica.fault = ""
    assert sharing.fault().startswith("answers and watches aren't shared: ")
    sharing.names.learn(account="", identity="own")
    assert "" == sharing.fault()
    sharing.replica.full = "it has no free memory"
    full = "the shared store takes no more answers: it has no free memory"
    assert full == sharing.fault()
    broken = replace(sharing, fault_of_messages=lambda: "it is gone")
    assert "the shared store sends no messages: it is gone" == broken.fault()


async def test_store_takes_no_larger_value_than_that_of_an_answer() -> None:
    """One that somebody else has written would delay the commands after it."""
    store = sharing_of().store
    with pytest.raises(StoreFullError, match="larger than a gateway stores"):
        await store.write(
            "e", "x", bytes(MAX_VALUE_BYTES + 1), age_seconds=0.0, keep_seconds=1.0
        )
