"""Reloads of a gateway process: rules, withheld members, the log level, faults."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from testkit.builders import http
from testkit.callers import (
    GROUP,
    LIMS,
    OTHER,
    OURS,
    RUNS,
    Called,
    outcome,
    rule,
    settings_of_tokens,
    states,
    token,
)
from testkit.gateway_process import PROGRAM, Served, client, serving
from testkit.lying_upstream import Answer, Request, true_run
from testkit.sts_server import FakeSts
from testkit.sts_sessions import SessionUpstream

GROUPED = "spiffe://corp/ns/grouped/sa/reader"
ROLE = "arn:aws:iam::210987654321:role/omics-read"
SOON = {"GATEWAY_WATCH__INTERVAL": "50ms"}
OUTCOMES = "configuration_reloaded", "configuration_fault"
REFUSED = "CALLER_NOT_AUTHORIZED"
SIGNALLED = """
import os, signal, sys
class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == "uvloop":
            os.kill(os.getpid(), signal.SIGHUP)
sys.meta_path.insert(0, Signal())
from healthomics_gateway.__main__ import main
sys.exit(main())
"""


@dataclass
class Reloaded:
    """A gateway process, its file, and calls through it."""

    served: Served
    file: Path
    calls: Called
    members: dict[str, Any]  # of the run, as HealthOmics sends them

    async def reload(self, toml: str) -> dict[str, Any]:
        """Write the file and send SIGHUP; return the event that reports the outcome."""
        self.file.write_text(toml)
        self.served.process.send_signal(signal.SIGHUP)
        return await self.served.event(*OUTCOMES)

    async def ready(self) -> tuple[int, str]:
        """Return the status of `/readyz?verbose`, and its line of the configuration."""
        url = f"http://{self.served.admin_address}/readyz?verbose"
        async with aiohttp.request("GET", url) as response:
            text = await response.text()
        lines = [each for each in text.splitlines() if "configuration" in each]
        return response.status, "".join(lines)

    async def accounts(self) -> set[str]:
        """Return the accounts whose quota `/metrics` has."""
        url = f"http://{self.served.admin_address}/metrics"
        async with aiohttp.request("GET", url) as response:
            text = await response.text()
        return set(re.findall('quota_limit{account="(.*?)",', text))


@asynccontextmanager
async def reloading(
    folder: Path,
    toml: str,
    *,
    program: Sequence[str] = PROGRAM,
    sts: FakeSts | None = None,
) -> AsyncIterator[Reloaded]:
    """Serve a gateway process with this file; `sts` creates the sessions of roles."""
    members: dict[str, Any] = {**RUNS[OURS], "name": "first"}

    def truth(request: Request) -> Answer:
        return http(true_run(request.run_id, **members))

    file = folder / "gateway.toml"
    if not file.exists():
        file.write_text(toml)
    settings = settings_of_tokens(folder) | SOON
    if sts:
        settings["AWS_ENDPOINT_URL_STS"] = sts.url
    async with (
        SessionUpstream(sts.given if sts else {}, truth=truth) as upstream,
        serving(
            upstream.url,
            program=program,
            arguments=("--config", str(file)),
            **settings,
        ) as served,
        client(served) as stub,
    ):
        called: Any = None  # the gateway runs in another process
        yield Reloaded(served, file, Called(called, upstream, stub), members)


def verdict(seen: Any) -> str:
    """Return how a watch ended: a reason, or the name of its last state."""
    last = seen[-1]
    return getattr(last, "reason", None) or last.name


@pytest.mark.guarantee("reload-watches")
async def test_watches_are_checked_by_new_rules(tmp_path: Path) -> None:
    """A watch that they don't allow ends at once; the other one goes on to its end."""
    before = rule(LIMS) + rule(OTHER) + rule(GROUPED, run_groups=[GROUP])
    after = (
        rule(LIMS, methods=["GetRun"])
        + rule(OTHER, withhold=["parameters"])
        + rule(GROUPED, run_groups=["1"])
    )
    async with reloading(tmp_path, before) as gateway:
        callers = LIMS, OTHER, GROUPED
        watches = [gateway.calls.watch(OURS, token(each)) for each in callers]
        first = [(await each.read()).run for each in watches]
        event = await gateway.reload(after)
        denied, hidden = [await states(watches[at]) for at in (0, 2)]
        gateway.members["name"] = "second"
        second = (await watches[1].read()).run
        gateway.members["status"] = "COMPLETED"
        last = await states(watches[1])
        again = await outcome(gateway.calls.get(OURS, token(LIMS)))

    assert ("configuration_reloaded", ["callers"]) == (event["event"], event["changed"])
    assert [["first", True]] * 3 == [[r.name, r.HasField("parameters")] for r in first]
    assert [REFUSED] * 2 == [verdict(each) for each in (denied, hidden)]
    assert ("second", False) == (second.name, second.HasField("parameters"))
    assert "second" == verdict(last)
    assert "second" == again.name


@pytest.mark.guarantee("reload-faults")
async def test_faulty_file_keeps_the_rules_and_says_so(tmp_path: Path) -> None:
    """The log and `/readyz?verbose` have the fault until the file is valid."""
    async with reloading(tmp_path, rule(LIMS)) as gateway:
        watch = gateway.calls.watch(OURS, token())
        await watch.read()
        fault = await gateway.reload(rule(OTHER, methods=["GetRuns"]))
        found = await gateway.ready()
        kept = await outcome(gateway.calls.get(OURS, token()))
        none = await gateway.reload("")
        await gateway.reload(rule(LIMS, calls_per_second=100))
        restored = await gateway.ready()
        gateway.members["name"] = "second"
        still = (await watch.read()).run.name

    assert "callers[0].methods" in fault["faults"][0]
    assert "error" == fault["level"]
    assert "restart" in none["faults"][0]
    assert 200 == found[0]
    assert found[1].startswith("configuration: faults in callers[0].methods;")
    assert (200, "configuration: ok") == restored
    assert ("first", "second") == (kept.name, still)


async def test_changed_file_is_found_without_a_signal(tmp_path: Path) -> None:
    """A swapped link is followed; what is withheld isn't in cached answers either."""
    for name, toml in (
        ("old", rule(LIMS)),
        ("new", "max_in_flight = 9\nwithhold = ['parameters']\n" + rule(LIMS)),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway.toml").write_text(toml)
    (tmp_path / "data").symlink_to("old")
    (tmp_path / "gateway.toml").symlink_to("data/gateway.toml")
    stale = {"max_staleness": {"seconds": 60}}
    async with reloading(tmp_path, "") as gateway:
        before = await gateway.calls.get(OURS, token(), **stale)
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").rename(tmp_path / "data")
        event = await gateway.served.event(*OUTCOMES)
        warned = await gateway.served.event("restart_needed")
        pending = await gateway.ready()
        after = await gateway.calls.get(OURS, token(), **stale)
        asked = gateway.calls.upstream.asked[OURS]

    assert ["withhold"] == event["changed"]
    assert ["max_in_flight"] == warned["settings"]
    assert (200, "configuration: restart needed for max_in_flight") == pending
    assert (True, False) == (
        before.HasField("parameters"),
        after.HasField("parameters"),
    )
    assert 1 == asked


@pytest.mark.guarantee("reload-watches")
async def test_rule_can_get_a_role(tmp_path: Path) -> None:
    """Watches of its callers end, and their next calls use sessions of the role.

    The gateway's account is looked up then, as it is at the start with such a rule, and
    not again later. The role's account is measured as long as a rule has it.
    """
    async with FakeSts() as sts, reloading(tmp_path, rule(LIMS), sts=sts) as gateway:
        watch = gateway.calls.watch(OURS, token())
        await watch.read()
        before = [each.action for each in sts.asked]
        await gateway.reload(rule(LIMS, aws_role=ROLE))
        ended = await states(watch)
        run = await gateway.calls.get(OURS, token())
        fault = gateway.calls.upstream.requests[-1].fault
        with_role = await gateway.accounts()
        await gateway.reload(rule(LIMS))
        without = await gateway.accounts()
        for toml in rule(LIMS), rule(LIMS, aws_role=ROLE):
            await gateway.reload(toml)

    assert [] == before
    assert REFUSED == verdict(ended)
    assert ("first", "") == (run.name, fault)
    assert ({"own", "210987654321"}, {"own"}) == (with_role, without)
    assert ["GetCallerIdentity", "AssumeRole"] == [each.action for each in sts.asked]


async def test_log_level_changes_at_once(tmp_path: Path) -> None:
    """Events below the new level aren't logged any more, until it changes again."""
    quiet = "withhold = ['name']\nlog.level = 'error'\n" + rule(LIMS)
    async with reloading(tmp_path, rule(LIMS)) as gateway:
        gateway.file.write_text(quiet)
        gateway.served.process.send_signal(signal.SIGHUP)
        while (await gateway.calls.get(OURS, token())).name:
            pass
        event = await gateway.reload(quiet.replace("error", "info"))

    assert ["log.level"] == event["changed"]  # the first reload isn't logged


async def test_sighup_during_the_start_ends_nothing(tmp_path: Path) -> None:
    """With a file, a reload that is requested before it is read has no effect."""
    async with reloading(tmp_path, rule(LIMS), program=("-c", SIGNALLED)) as gateway:
        assert "first" == (await gateway.calls.get(OURS, token())).name
