"""The table "What bounds it" in the design has a row and a test for each method."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from docs.test_map import defined_in
from healthomics_gateway.services.reflection import served_descriptors
from healthomics_gateway.settings.schema import Settings
from testkit.builders import aws_at, gateway

ROOT = Path(__file__).parents[2]
BOUNDS = (
    (ROOT / "docs" / "internals" / "design.md")
    .read_text()
    .split("\n## What bounds it\n")[1]
)
BOUNDS = BOUNDS.split("\n## ")[0]
NOWHERE = "http://127.0.0.1:9"  # no request is sent to it


def rows(part: str = "") -> list[list[str]]:
    """Return the cells of each row of the tables, or of the table of one part."""
    text = BOUNDS.split(f"### {part}\n")[1].split("\n### ")[0] if part else BOUNDS
    lines = [each.strip("|") for each in text.splitlines() if each.startswith("| ")]
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return [each for each in cells if each[-1].strip() not in ("---", "test")]


def named(part: str) -> set[str]:
    """Return the names in code font in the first cells of a part's table."""
    return {name for each in rows(part) for name in re.findall("`([^`]+)`", each[0])}


async def served_methods() -> set[str]:
    """Return Service.Method of each method that a gateway's reflection lists."""
    async with (
        gateway(aws_at(NOWHERE)) as served,
        grpc.aio.insecure_channel(str(served.address)) as channel,
    ):
        request = ServerReflectionRequest(list_services="")
        stream = ServerReflectionStub(channel).ServerReflectionInfo(  # type: ignore[no-untyped-call]  # the stubs leave it out
            iter([request]), timeout=10
        )
        listed = (await stream.read()).list_services_response.service
    pool = served_descriptors()
    return {
        f"{service.name}.{method.name}"
        for service in (pool.FindServiceByName(each.name) for each in listed)
        for method in service.methods
    }


async def test_every_method_that_is_served_has_a_row() -> None:
    """Every method has a row that says how many of its calls are admitted."""
    assert await served_methods() <= named("Methods")


@pytest.mark.parametrize("column", [1, 2])
def test_every_method_is_bounded_for_callers_of_each_kind(column: int) -> None:
    """Each row says what applies to callers with an identity and without one."""
    assert all(each[column] for each in rows("Methods"))


def test_every_listener_has_a_row() -> None:
    """Every listener has a row that says how many connections it accepts."""
    listeners = {name for name in Settings.model_fields if "listen" in name}

    assert listeners
    assert listeners <= named("Listeners")


def test_every_row_is_whole() -> None:
    """Each row says what is bounded, how, what happens beyond it, and names a test."""
    assert [] == [each for each in rows() if len(each) != 4 or not all(each)]


def test_every_row_names_tests_that_exist() -> None:
    """The test that each row names exists."""
    tests = {
        each[0]: re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", each[-1])
        for each in rows()
    }

    assert [] == [name for name, found in tests.items() if not found]
    there = {
        file: defined_in(file)
        for file in {file for found in tests.values() for file, _ in found}
        if (ROOT / file).is_file()
    }
    assert [] == [
        f"{file}::{test}"
        for found in tests.values()
        for file, test in found
        if test not in there.get(file, ())
    ]
