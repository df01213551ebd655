"""Run IDs and exports: which are sent to HealthOmics, and which are refused."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from healthomics.v1.run_pb2 import RunExport
from healthomics_gateway.errors.reasons import Reason
from testkit.builders import ALWAYS, Refusal
from testkit.lying_upstream import TRUE_ID
from testkit.serving import GET_RUN

ID = "2000017"
DEFINITION = RunExport.RUN_EXPORT_DEFINITION
UNSPECIFIED = RunExport.RUN_EXPORT_UNSPECIFIED
UNKNOWN = 99  # of a newer API


def bytes_of_id(text: bytes) -> bytes:
    """Return a serialized request whose ID has these bytes, at most 127."""
    return b"\x0a" + bytes([len(text)]) + text


def faults_of(refusal: Refusal) -> list[str]:
    """Return the fields of a refusal's violations; check that each has a sentence."""
    assert Reason.INVALID_REQUEST.value.message == refusal.message
    assert ALWAYS | {"BadRequest"} == set(refusal.details)
    violations = refusal.details["BadRequest"].field_violations
    assert all(each.description.endswith(".") for each in violations)
    return [each.field for each in violations]


@pytest.mark.guarantee("hostile-requests")
@pytest.mark.fault(17)
@pytest.mark.parametrize(
    "run_id",
    [
        pytest.param("", id="none"),
        pytest.param("1" * 19, id="19-digits"),
        pytest.param("123\n", id="newline"),
        pytest.param("١٢٣", id="arabic"),  # digits, but not ASCII's
        pytest.param("１２３", id="fullwidth"),  # noqa: RUF001  # digits, but not ASCII's
        pytest.param("²", id="superscript"),
        pytest.param("1/../2", id="parent"),
        pytest.param("1%2f", id="escape"),
        pytest.param("1?export=X", id="query"),
        pytest.param("1#2", id="fragment"),
        pytest.param(" 1", id="space"),
        pytest.param("+1", id="sign"),
        pytest.param("1\x00", id="nul"),
        pytest.param("1" * 60_000, id="60-kb"),
    ],
)
async def test_invalid_id_is_refused(rigged: Any, run_id: str) -> None:
    """An ID that isn't 1 to 18 ASCII digits is a fault of `id`; no request is sent."""
    async with rigged() as rig:
        refusal = await rig.refusal(run_id, Reason.INVALID_REQUEST)
        asked = set(rig.upstream.asked)

    assert ["id"] == faults_of(refusal)
    assert {} == refusal.metadata
    assert {TRUE_ID} == asked


@pytest.mark.fault(17)
@pytest.mark.parametrize("run_id", ["0", "007", "9" * 18])
async def test_extreme_id_is_sent_unchanged(rigged: Any, run_id: str) -> None:
    """Zero, leading zeros and 18 digits are valid IDs, and are sent unchanged."""
    async with rigged() as rig:
        run = await rig.run(run_id)
        (request,) = [each for each in rig.upstream.requests if each.run_id == run_id]

    assert run_id == run.id
    assert (f"/run/{run_id}", "") == (request.target, request.fault)


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"1\xed\xa0\x80", id="surrogate"),
        pytest.param(b"1\xc0\xaf", id="overlong"),
        pytest.param(b"1\xff", id="no-utf-8"),
    ],
)
async def test_id_that_is_not_utf_8_is_malformed(rigged: Any, text: bytes) -> None:
    """An ID that isn't UTF-8 can't be decoded, and no request is sent."""
    async with (
        rigged() as rig,
        grpc.aio.insecure_channel(str(rig.served.address)) as channel,
    ):
        call = channel.unary_unary(GET_RUN)(bytes_of_id(text), timeout=10)
        refusal = await rig.refused(call, Reason.MALFORMED_REQUEST)
        asked = set(rig.upstream.asked)

    assert ALWAYS == set(refusal.details)
    assert {} == refusal.metadata
    assert {TRUE_ID} == asked


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    ("export", "query"),
    [
        pytest.param([], "", id="none"),
        pytest.param([DEFINITION], "?export=DEFINITION", id="one"),
        pytest.param([DEFINITION] * 2, "?export=DEFINITION", id="twice"),
        pytest.param([DEFINITION] * 32, "?export=DEFINITION", id="32"),
    ],
)
async def test_export_is_sent_once(rigged: Any, export: list[int], query: str) -> None:
    """Up to 32 exports are sent without duplicates, with a valid signature."""
    async with rigged() as rig:
        run = await rig.run(ID, export=export)
        (request,) = [each for each in rig.upstream.requests if each.run_id == ID]

    assert ID == run.id
    assert (f"/run/{ID}{query}", "") == (request.target, request.fault)


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    ("export", "fields"),
    [
        pytest.param([DEFINITION] * 33, ["export"], id="33"),
        pytest.param([UNSPECIFIED], ["export[0]"], id="unspecified"),
        pytest.param([DEFINITION, UNKNOWN], ["export[1]"], id="unknown"),
        pytest.param([-1, 2**31 - 1], ["export[0]", "export[1]"], id="out-of-bounds"),
        pytest.param(
            [DEFINITION] * 32 + [UNKNOWN], ["export", "export[32]"], id="33-unknown"
        ),
    ],
)
async def test_invalid_export_is_refused(
    rigged: Any, export: list[int], fields: list[str]
) -> None:
    """Too many exports, and each invalid one, are faults; no request is sent."""
    async with rigged() as rig:
        refusal = await rig.refusal(ID, Reason.INVALID_REQUEST, export=export)
        asked = set(rig.upstream.asked)

    assert fields == faults_of(refusal)
    assert {"runId": ID} == refusal.metadata
    assert {TRUE_ID} == asked


@pytest.mark.fault(18)
async def test_thousands_of_invalid_exports_are_a_small_error(rigged: Any) -> None:
    """60,000 invalid exports are one error of at most 4 KiB."""
    async with rigged() as rig:
        refusal = await rig.refusal(
            ID, Reason.INVALID_REQUEST, export=[UNSPECIFIED] * 60_000
        )
        asked = set(rig.upstream.asked)

    fields = faults_of(refusal)
    faults = [f"export[{at}]" for at in range(len(fields) - 1)]
    assert ["export", *faults] == fields
    assert len(faults) > 8
    assert {TRUE_ID} == asked
