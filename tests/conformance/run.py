"""Build the clients, and run the cases of clients/conformance.json with each of them.

Without arguments, also generate the stubs of each language that has a template.

The clients call gateways whose HealthOmics is the sandbox. The number of calls that a
case makes is counted in the gateways' log. Ends with 0 if all outcomes are as listed,
with 1 otherwise. A client whose tools aren't on PATH is skipped, with a message; this
is a failure if the client was named, or if the variable CI is set.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance import stubs
from conformance.cases import Case, Outcome, cases_for, differences
from conformance.clients import Client, clients, page
from conformance.commands import FailedError, run_command, shown
from conformance.driver import request_id, run_cases, run_tests, try_program
from conformance.servers import SharedGateways, calls, common, servers_of, shut_down


@dataclass(slots=True)
class Result:
    """The outcomes of one client."""

    client: Client
    cases: list[Case]
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Return the number of calls that the gateways logged."""
        return sum(len(each.logged) for each in self.outcomes.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    known = {client.name: client for client in (*clients(), page())}
    asked = _asked(list(known), arguments)
    try:
        return asyncio.run(_conform([known[name] for name in asked], [*known.values()]))
    except FailedError as failure:
        _say(str(failure))
        return 1
    except TimeoutError:
        _say("a gateway didn't start in time: this machine is too busy; try again")
        return 1
    except KeyboardInterrupt:
        return 130


async def _conform(asked: Sequence[Client], known: Sequence[Client]) -> int:
    """Build and run the clients that were named, or all; return the exit code."""
    if not asked:
        await _generate_stubs()
    is_required = bool(asked or os.environ.get("CI"))
    built = [
        client
        for client in asked or known
        if await _build(client, is_required=is_required)
    ]
    results, strays = await _run(built)
    _say(*_report(results), *strays)
    return 1 if strays or any(result.wrong for result in results) else 0


def _asked(known: Sequence[str], arguments: Sequence[str] | None) -> list[str]:
    """Return the clients named on the command line."""
    parser = argparse.ArgumentParser(
        prog="make clients",
        usage='%(prog)s [ARGS="CLIENT ..."]',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(known)
    parser.add_argument(
        "clients",
        nargs="*",
        metavar="CLIENT",
        help=f"any of {names}; all if absent",
    )
    asked: list[str] = parser.parse_args(arguments).clients
    if unknown := [name for name in asked if name not in known]:
        parser.error(f"no client {unknown[0]!r}; there are {names}")
    return asked


async def _generate_stubs() -> None:
    """Generate the stubs of all languages."""
    for language in stubs.templates():
        is_required = bool(os.environ.get("CI")) and language not in stubs.OPTIONAL
        if _has_tools(
            f"stubs of {language}", stubs.missing(language), is_required=is_required
        ):
            _say(f"stubs of {language}")
            if wrong := await stubs.generate(language):
                raise FailedError(wrong)


def _has_tools(what: str, missing: Sequence[str], *, is_required: bool) -> bool:
    """Return whether no program is missing; raise FailedError if they are required."""
    if not missing:
        return True
    reason = f"{what}: not on PATH: {', '.join(missing)}"
    if is_required:
        raise FailedError(reason)
    _say(f"{reason}; skipped")
    return False


async def _build(client: Client, *, is_required: bool) -> bool:
    """Build a client; return whether it can run."""
    if not _has_tools(client.name, client.missing(), is_required=is_required):
        return False
    for command in client.build:
        _say(f"{client.name}: {shown(command)}")
        code, output = await run_command(command, cwd=client.folder)
        if code:
            raise FailedError(f"`{shown(command)}` exited {code}:\n{output}")
    return True


async def _run(built: Sequence[Client]) -> tuple[list[Result], list[str]]:
    """Run the cases with all clients at once; compare them when the log is complete.

    Also return the calls in the log that belong to no case.

    A page's tests run after them: a browser needs all cores to stay within the
    deadlines that the page sets.
    """
    with tempfile.TemporaryDirectory() as folder:
        async with common(Path(folder)) as shared:
            running = [_run_one(each, shared) for each in built if each.driver]
            results = await asyncio.gather(*running)
            results += [await _run_one(each, shared) for each in built if each.tests]
            for served in shared.all:
                await shut_down(served)
            counted = [each for each in shared.all if each is not shared.trial]
            logged = [line for each in counted for line in calls(each)]
            logged += shared.scripted.calls
            strays = _assign_calls(logged, results)
    for result in results:
        result.wrong += [
            f"{case.name}: {difference}"
            for case in result.cases
            if result.outcomes
            for difference in differences(case, result.outcomes)
        ]
    return results, strays


async def _run_one(client: Client, shared: SharedGateways) -> Result:
    result = Result(client, cases_for(client.name) if client.driver else [])
    address = shared.trial.address
    try:
        if client.tests:
            result.wrong += await run_tests(client, address)
        if client.driver:
            async with servers_of(shared, client.name) as servers:
                result.outcomes = await run_cases(client, result.cases, servers)
                result.wrong += await try_program(client, address)
            result.wrong += _assign_calls(servers.calls, [result])
    except FailedError as failure:
        result.wrong.append(str(failure))
    _say(f"{client.name}: done")
    return result


def _assign_calls(
    logged: Sequence[dict[str, Any]], results: Sequence[Result]
) -> list[str]:
    """Add each call of the log to the outcome of its case; return those of no case."""
    outcomes = {  # None for the cases of a client that has failed
        request_id(result.client, case): result.outcomes.get(case.name)
        for result in results
        for case in result.cases
    }
    strays = []
    for call in sorted(logged, key=lambda line: line["timestamp"]):
        if outcome := outcomes.get(call["request_id"]):
            outcome.logged.append(call)
        elif call["request_id"] not in outcomes:
            strays.append(f"a call of no case: {call['method']} {call['request_id']}")
    return strays


def _report(results: Sequence[Result]) -> Iterator[str]:
    """Yield a table of the clients, then each difference."""
    yield f"{'client':15}  cases  calls  library differs  wrong"
    for result in results:
        apart = sum(bool(case.why) for case in result.cases)
        yield (
            f"{result.client.name:15}{len(result.cases):>7}{result.calls:>7}"
            f"{apart:>17}{len(result.wrong):>7}"
        )
    reasons = Counter(
        (result.client.name, case.why)
        for result in results
        for case in result.cases
        if case.why
    )
    for (name, why), number in reasons.items():
        yield f"{name}, {number} cases: {why}"
    for result in results:
        for line in result.wrong:
            yield f"{result.client.name}: {line}"


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201  # output of a program


if __name__ == "__main__":
    sys.exit(main())
