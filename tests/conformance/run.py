"""Build the clients, and run the cases of clients/conformance.json with each of them.

Without arguments, also generate the stubs of each language that has a template.

The clients call gateways whose HealthOmics is the sandbox. The number of calls that a
case makes is counted in the gateways' log. Ends with 0 if all outcomes are as listed,
with 1 otherwise. A client whose tools aren't on PATH is skipped, with a message; if the
variable CI is set, this is a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance import stubs
from conformance.cases import Case, Outcome, cases_for, differences
from conformance.driver import (
    ENVIRONMENT,
    FailedError,
    request_id,
    run_cases,
    run_tests,
    try_program,
)
from conformance.languages import Client, clients, page
from conformance.servers import Common, calls, common, servers_of, shut_down


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
    known = {client.language: client for client in (*clients(), page())}
    asked = _parser(list(known)).parse_args(arguments).clients
    names = asked or list(known)
    try:
        if not asked:
            _generate_stubs()
        built = [known[name] for name in names if _build(known[name])]
        results = asyncio.run(_run(built))
    except FailedError as failure:
        _say(str(failure))
        return 1
    _say(*_report(results))
    return 1 if any(result.wrong for result in results) else 0


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "clients",
        nargs="*",
        choices=[*names, []],  # [] is what argparse checks if there are none
        metavar="CLIENT",
        help=f"any of {', '.join(names)}; all if absent",
    )
    return parser


def _generate_stubs() -> None:
    """Generate the stubs of all languages."""
    for language in stubs.templates():
        is_optional = language in stubs.OPTIONAL
        if _has_tools(
            f"stubs of {language}", stubs.missing(language), is_optional=is_optional
        ):
            _say(f"stubs of {language}")
            if wrong := stubs.generate(language):
                raise FailedError(wrong)


def _has_tools(what: str, missing: Sequence[str], *, is_optional: bool = False) -> bool:
    """Return whether no program is missing; CI must have those that aren't optional."""
    if not missing:
        return True
    reason = f"{what}: not on PATH: {', '.join(missing)}"
    if os.environ.get("CI") and not is_optional:
        raise FailedError(f"{reason}; CI requires it")
    _say(f"{reason}; skipped")
    return False


def _build(client: Client) -> bool:
    """Build a client; return whether it can run."""
    if not _has_tools(client.language, client.missing()):
        return False
    for command in client.build:
        shown = " ".join(Path(part).name for part in map(str, command))
        _say(f"{client.language}: {shown}")
        done = subprocess.run(
            command,
            cwd=client.folder,
            env=ENVIRONMENT,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise FailedError(f"`{shown}` exited {done.returncode}:\n{done.stdout}")
    return True


async def _run(built: Sequence[Client]) -> list[Result]:
    """Run the cases with all clients at once; compare them when the log is complete."""
    with tempfile.TemporaryDirectory() as folder:
        async with common(Path(folder)) as shared:
            running = [_run_one(client, shared) for client in built]
            results = await asyncio.gather(*running)
            for served in shared.all:
                await shut_down(served)
            _assign_calls(
                [line for each in shared.all for line in calls(each)], results
            )
    for result in results:
        result.wrong += [
            f"{case.name}: {difference}"
            for case in result.cases
            if result.outcomes
            for difference in differences(case, result.outcomes)
        ]
    return results


async def _run_one(client: Client, shared: Common) -> Result:
    result = Result(client, cases_for(client.language) if client.driver else [])
    address = shared.plain.address
    try:
        if client.tests:
            result.wrong += await run_tests(client, address)
        if client.driver:
            async with servers_of(shared, client.language) as servers:
                result.outcomes = await run_cases(client, result.cases, servers)
                result.wrong += await try_program(client, address)
            _assign_calls(servers.calls, [result])
    except FailedError as failure:
        result.wrong.append(str(failure))
    _say(f"{client.language}: done")
    return result


def _assign_calls(logged: Sequence[dict[str, Any]], results: Sequence[Result]) -> None:
    """Add each call of the log to the outcome of its case."""
    outcomes = {
        request_id(result.client, case): result.outcomes[case.name]
        for result in results
        for case in result.cases
        if result.outcomes
    }
    for call in logged:
        if outcome := outcomes.get(call["request_id"]):
            outcome.logged.append(call)
            outcome.logged.sort(key=lambda line: line["timestamp"])


def _report(results: Sequence[Result]) -> Iterator[str]:
    """Yield a table of the clients, then each difference."""
    yield f"{'client':15}  cases  calls  library differs  wrong"
    for result in results:
        apart = sum(bool(case.why) for case in result.cases)
        yield (
            f"{result.client.language:15}{len(result.cases):>7}{result.calls:>7}"
            f"{apart:>17}{len(result.wrong):>7}"
        )
    reasons = Counter(
        (result.client.language, case.why)
        for result in results
        for case in result.cases
        if case.why
    )
    for (language, why), number in reasons.items():
        yield f"{language}, {number} cases: {why}"
    for result in results:
        for line in result.wrong:
            yield f"{result.client.language}: {line}"


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201  # output of a program


if __name__ == "__main__":
    sys.exit(main())
