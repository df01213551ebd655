"""The status page over real sockets, as HTML and as JSON."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration

from healthomics.v1.run_service_pb2 import WatchRunRequest
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.statusz.page import POLICY
from healthomics_gateway.sandbox import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from testkit.builders import (
    Sandbox,
    Upstream,
    aws_at,
    calling,
    gateway,
    get_run,
    http,
    refused,
)
from testkit.callers import (
    LIMS,
    OURS,
    called,
    outcome,
    rule,
    settings_of_tokens,
    states,
    token,
)

NOWHERE = "http://127.0.0.1:9"  # no request is sent to it
UNRULED_CALLER = "spiffe://corp/ns/unruled/sa/x"
PATIENCE_SECONDS = 5.0  # for what must happen soon


async def fetched(
    served: Gateway, query: str = "", method: str = "GET", page: str = "statusz"
) -> tuple[int, dict[str, str], str]:
    """Return the status, the headers and the text of a page."""
    url = f"http://{served.admin_address}/{page}{query}"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url) as response,
    ):
        return response.status, dict(response.headers), await response.text()


async def state_of(served: Gateway) -> dict[str, Any]:
    """Return the status page as JSON."""
    state: dict[str, Any] = json.loads((await fetched(served, "?format=json"))[2])
    return state


@pytest.mark.parametrize(
    ("query", "kind", "beginning"),
    [
        pytest.param("", "text/html", "<!doctype html>", id="html"),
        pytest.param("?format=html", "text/html", "<!doctype html>", id="as-html"),
        pytest.param("?format=json", "application/json", '{"host":', id="as-json"),
    ],
)
async def test_page_has_its_headers(query: str, kind: str, beginning: str) -> None:
    """Browsers keep no copy, load nothing else, and take it for what it is."""
    async with gateway(aws_at(NOWHERE)) as served:
        status, headers, text = await fetched(served, query)

    assert (200, True) == (status, text.startswith(beginning))
    assert {
        "Cache-Control": "no-store",
        "Content-Security-Policy": POLICY,
        "Content-Type": f"{kind}; charset=utf-8",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }.items() <= headers.items()


async def test_other_formats_and_methods_are_refused() -> None:
    """Another format is 400, another method 405."""
    async with gateway(aws_at(NOWHERE)) as served:
        other, _, text = await fetched(served, "?format=xml")
        posted, _, _ = await fetched(served, method="POST")

    assert (400, "format is html or json\n") == (other, text)
    assert 405 == posted


async def test_page_follows_the_calls() -> None:
    """Calls, errors, the cache, the quota and watches appear in the page."""
    minute = Duration(seconds=60)
    async with (
        Sandbox(quota_per_second=0) as sandbox,
        gateway(aws_at(sandbox.url)) as served,
        calling(served) as stub,
    ):
        await get_run(stub, "1000003", max_staleness=minute)
        await get_run(stub, "1000003", max_staleness=minute)
        failure = await refused(get_run(stub, "9000404"))
        await states(stub.WatchRun(WatchRunRequest(id="1000005"), timeout=10))
        watch = stub.WatchRun(WatchRunRequest(id="1000003"), timeout=10)
        await watch.read()
        state = await state_of(served)
        _, _, text = await fetched(served)
        watch.cancel()

    (quota,) = state["quota"]
    (error,) = state["errors"]["newest"]
    assert ("own", 4, 10_000.0) == (
        quota["account"],
        quota["used"],
        quota["limit_per_second"],
    )
    assert 4 == sum(each["used"] for each in quota["slots"])
    assert {"runs": 2, "hits": 1, "misses": 1}.items() <= state["cache"].items()
    assert {"open": 1, "runs": 1}.items() <= state["watches"].items()
    assert {
        "reason": "RUN_NOT_FOUND",
        "code": "NOT_FOUND",
        "method": "/healthomics.v1.RunService/GetRun",
        "request_id": failure.trailers["x-request-id"],
        "identity": "anonymous",
    }.items() <= error.items()
    assert failure.trailers["x-request-id"] in text
    assert (True, "", True) == (state["ready"], state["reason"], state["live"])


@pytest.mark.guarantee("status-page")
@pytest.mark.parametrize("are_shown", [True, False])
async def test_identities_are_shown_only_if_the_setting_says_so(
    tmp_path: Path, *, are_shown: bool
) -> None:
    """Without the setting, no rule, error, setting or metric shows an identity."""
    rules = rule(LIMS), rule("spiffe://corp/ns/board/*", methods=["GetRun"])
    async with called(
        tmp_path, *rules, GATEWAY_STATUSZ__IDENTITIES=str(are_shown).lower()
    ) as c:
        await c.get(OURS, token(LIMS))
        await outcome(c.get(OURS, token(UNRULED_CALLER)))
        state = await state_of(c.served)
        _, _, text = await fetched(c.served)
        _, _, metrics = await fetched(c.served, page="metrics")

    both, pattern = f"{state} {text}", "spiffe://corp/ns/board/*"
    assert [are_shown] * 3 == [each in both for each in (LIMS, UNRULED_CALLER, pattern)]
    assert [are_shown] * 2 == [
        f'rule="{each}"' in metrics for each in (f"1:{LIMS}", f"2:{pattern}")
    ]
    assert are_shown is not ('rule="1"' in metrics)
    assert are_shown is ("spiffe" in metrics)
    assert [1, 0] == [each["calls"] for each in state["rules"]]
    assert 1 == state["calls_without_rule"]
    assert "rule 1 (callers[0])" in text
    assert {"keys": 1, "fault": ""}.items() <= state["keys"].items()


@pytest.mark.guarantee("status-page")
async def test_page_has_no_credentials() -> None:
    """The keys that sign requests appear nowhere, and neither does a URL's query."""
    settings = {
        "GATEWAY_JWT__ISSUER": "https://issuer.test",
        "GATEWAY_JWT__AUDIENCE": "gateway",
        "GATEWAY_JWT__JWKS_URL": "http://127.0.0.1:9/keys?key=sesame",
    }
    async with gateway(aws_at(NOWHERE), **settings) as served:
        html, as_json = [
            (await fetched(served, each))[2] for each in ("", "?format=json")
        ]

    for secret in (SECRET_ACCESS_KEY, ACCESS_KEY_ID, "sesame"):
        assert secret not in html
        assert secret not in as_json
    assert "http://127.0.0.1:9/keys?***" in html


async def test_path_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    """No page fails because it shows a byte that UTF-8 can't encode."""
    folder = tmp_path / os.fsdecode(b"j\xff")
    folder.mkdir()
    async with gateway(aws_at(NOWHERE), **settings_of_tokens(folder)) as served:
        html, as_json, metrics, lines = [
            await fetched(served, query, page=page)
            for page, query in (
                ("statusz", ""),
                ("statusz", "?format=json"),
                ("metrics", ""),
                ("readyz", "?verbose"),
            )
        ]

    assert {200} == {status for status, _, _ in (html, as_json, metrics, lines)}
    settings = {
        each["name"]: each["value"] for each in json.loads(as_json[2])["settings"]
    }
    assert str(tmp_path / "j\\udcff/jwks.json") == settings["jwt.jwks_file"]
    assert settings["jwt.jwks_file"] in html[2]


async def test_root_leads_to_the_page() -> None:
    """A person who knows only the address gets the status page."""
    async with gateway(aws_at(NOWHERE)) as served, aiohttp.ClientSession() as session:
        url = f"http://{served.admin_address}/"
        async with session.get(url, allow_redirects=False) as response:
            redirect = response.status, response.headers["Location"]
        async with session.get(url) as response:
            found = response.status, response.url.path

    assert ((302, "statusz"), (200, "/statusz")) == (redirect, found)


async def test_certificate_and_its_expiry_are_shown(tmp_path: Path) -> None:
    """A served certificate is listed with its end; a new fault of its files too."""
    pair = trustme.CA().issue_cert("127.0.0.1")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    async with gateway(
        aws_at(NOWHERE),
        GATEWAY_TLS__CERT_FILE=str(tmp_path / "cert.pem"),
        GATEWAY_TLS__KEY_FILE=str(tmp_path / "key.pem"),
    ) as served:
        (certificate,) = (await state_of(served))["certificates"]

    assert ("tls", "", 64) == (
        certificate["section"],
        certificate["fault"],
        len(certificate["fingerprint"]),
    )
    assert certificate["expires"].endswith("Z")
    assert 0 < certificate["expires_in_seconds"]


@pytest.mark.guarantee("upstream-readiness")
async def test_unreached_upstream_is_a_fault_until_an_answer_comes() -> None:
    """Attempts without an answer are counted; an answer of any kind ends that."""
    hung_up = b"HTTP/1.1 "  # then the connection is closed
    refusal = http(status=500, x_amzn_errortype="InternalServerException")
    once = {"GATEWAY_UPSTREAM__MAX_ATTEMPTS": "1"}
    async with (
        Upstream(hung_up, hung_up, refusal) as upstream,
        gateway(aws_at(upstream.url), **once) as served,
        calling(served) as stub,
    ):
        lines = []
        for _ in range(3):
            await refused(get_run(stub, "1234567"))
            lines.append((await fetched(served, "?verbose", page="readyz"))[2])

    assert ["attempts in a row: 1" in lines[0], "attempts in a row: 2" in lines[1]]
    assert "upstream: ok\n" in lines[2]
    assert [] == [each for each in lines if not each.startswith("listeners: ok\n")]


async def test_page_is_served_while_the_gateway_is_not_ready() -> None:
    """The page is 200 whatever the state is, and says what it is."""
    async with gateway(aws_at(NOWHERE)) as served:
        draining = asyncio.create_task(served.drain(PATIENCE_SECONDS))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (state := await state_of(served))["draining"]:
                pass
        status, _, text = await fetched(served)
        draining.cancel()

    assert (False, "GATEWAY_DRAINING") == (state["ready"], state["reason"])
    assert 200 == status
    assert "Shutting down" in text


async def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    """More than 500 rules and settings are counted, but not shown."""
    rules = [rule(f"caller-{at}") for at in range(501)]
    async with called(tmp_path, *rules) as c:
        state = await state_of(c.served)
        _, _, text = await fetched(c.served)

    assert [500, 500] == [len(state[each]) for each in ("rules", "settings")]
    assert 1 == state["left_out"]["rules"]
    assert "1 more aren&#x27;t shown." in text
