"""Runs a client's driver: it sends the cases, and reads what the client reports."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from conformance.cases import Case, Outcome
from conformance.clients import Client, clients
from conformance.commands import ENVIRONMENT, FailedError, end_group, run_command
from conformance.servers import ClientGateways
from healthomics.v1.run_pb2 import Run

DRIVER_SECONDS = 240.0  # for all cases: five wait for the end of a run
PROGRAM_SECONDS = 120.0
TESTS_SECONDS = 240.0
FIRST_FRESH = 2_000_001  # the sandbox's first id of a run that goes to COMPLETED
FIRST_OWN = 5_000_001  # the first id of a run that no other client reads
LINE_BYTES = 1 << 20

_fresh = itertools.count(FIRST_FRESH)


async def run_cases(
    client: Client, cases: Sequence[Case], servers: ClientGateways
) -> dict[str, Outcome]:
    """Run the cases with a client, and return their outcomes by name."""
    outcomes = {case.name: Outcome(request_id(client, case)) for case in cases}
    process = await asyncio.create_subprocess_exec(
        *client.driver,
        cwd=client.folder,
        env=ENVIRONMENT,
        stdin=PIPE,
        stdout=PIPE,
        limit=LINE_BYTES,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(DRIVER_SECONDS):
            process.stdin.write(_sent(client, cases, servers).encode())
            process.stdin.close()
            server_of = {case.name: case.server for case in cases}
            async for line in process.stdout:
                if name := _note(line, outcomes):
                    await servers.react(server_of[name])
            code = await process.wait()
    except ValueError as error:  # a line that is too long
        raise FailedError(f"its driver: {error}") from None
    except TimeoutError:
        running = (each for each in outcomes if outcomes[each].end is None)
        busy = next(running, "its end")
        raise FailedError(f"its driver is still busy with {busy}") from None
    finally:
        await end_group(process)
    if code:
        raise FailedError(f"its driver exited {code}")
    return outcomes


def _note(line: bytes, outcomes: dict[str, Outcome]) -> str:
    """Note what a line reports; return the name of a case whose first run it is."""
    try:
        event = json.loads(line)
        name: str = event["case"]
        outcome = outcomes[name]
        if "run" not in event:
            outcome.end = ended(event)
            return ""
        outcome.runs.append(Run.FromString(base64.b64decode(event["run"])))
        outcome.statuses.append(event["status"])
    except (ValueError, LookupError, TypeError, DecodeError):
        raise FailedError(f"its driver printed {line[:200]!r}") from None
    return name if len(outcome.runs) == 1 else ""


MEMBERS = {  # the types in an error
    "message": str,
    "reason": str,
    "domain": str,
    "metadata": dict,
    "retrySeconds": float | int | None,
    "fields": dict,
    "requestId": str,
}


def ended(event: dict[str, Any]) -> dict[str, Any]:
    """Return the end of a case; raise ValueError if it is malformed."""
    error = event["error"]
    if not (
        isinstance(event["code"], str | None)
        and isinstance(event.get("trailers", {}), dict)
        and (error is None or _has_members(error))
    ):
        raise ValueError("malformed")
    return event


def _has_members(error: Any) -> bool:
    """Return whether an error has all members, of the right types."""
    return isinstance(error, dict) and all(
        isinstance(error.get(name, ...), kind) for name, kind in MEMBERS.items()
    )


def _sent(client: Client, cases: Sequence[Case], servers: ClientGateways) -> str:
    """Return the document that a driver reads."""
    return json.dumps(
        {
            "servers": servers.addresses,
            "cases": [
                {
                    "name": case.name,
                    "server": case.server,
                    "method": case.method,
                    "request": _request(client, case),
                    "requestId": request_id(client, case),
                    **case.options,
                }
                for case in cases
            ],
        }
    )


def _request(client: Client, case: Case) -> dict[str, Any]:
    match case.request["id"]:
        case "fresh":
            return case.request | {"id": str(next(_fresh))}
        case "own":
            number = [each.name for each in clients()].index(client.name)
            return case.request | {"id": str(FIRST_OWN + number)}
    return case.request


def request_id(client: Client, case: Case) -> str:
    """Return the id by which the gateway's log shows the calls of a case."""
    return f"{client.name}.{case.name}"


async def try_program(client: Client, address: str) -> list[str]:
    """Call the client's program as a person would; return what went wrong."""
    wrong = []
    for arguments, expected, shown in (
        (("get", "1000003"), 0, "status: RUNNING"),
        (("get", "3000002"), 0, "status: ARCHIVING"),
        (("get", "9000404"), 1, "reason: RUN_NOT_FOUND"),
        (("get", "abc"), 1, "field id: Must be 1 to 18 ASCII digits."),
        (("watch", "1000005"), 0, "status: COMPLETED"),
        (("watch",), 2, ""),
    ):
        options = ("--address", address, *client.options)
        command = (*client.program, *arguments, *options)
        code, output = await run_command(
            command, cwd=client.folder, seconds=PROGRAM_SECONDS
        )
        if code != expected or shown not in output:
            wrong.append(f"`{' '.join(arguments)}` exited {code}, printed:\n{output}")
    return wrong


async def run_tests(client: Client, address: str) -> list[str]:
    """Run the client's own tests; return what went wrong."""
    code, output = await run_command(
        client.tests, cwd=client.folder, seconds=TESTS_SECONDS, GATEWAY=address
    )
    skipped = [line for line in output.splitlines() if "SKIP" in line]
    print(*skipped, sep="\n", end="\n" if skipped else "")  # noqa: T201  # the reason
    return [f"its tests exited {code}:\n{output}"] if code else []
