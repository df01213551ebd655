"""JSON documents at the limits of what an answer can hold."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from healthomics.v1.run_pb2 import Run
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics_gateway.errors.reasons import Reason
from testkit.builders import http
from testkit.lying_upstream import true_run
from testkit.rebuild import differences
from testkit.serving import GET_RUN

ID = "2000015"
TYPED, KEPT = True, False
NAMES = ("parameters", "engineSettings", "brandNew")  # the last one isn't a field


def run_with(parameters: str, **members: object) -> str:
    """Return a run whose `parameters` are this JSON text."""
    return true_run(ID, parameters="HERE", **members).replace('"HERE"', parameters)


def nested(levels: int, *, opening: str = '{"a": ', closing: str = "}") -> str:
    """Return a document that is nested in itself."""
    return opening * levels + "1" + closing * levels


DOCUMENTS = {
    "2^53-1": ('{"n": 9007199254740991}', TYPED),
    "2^53": ('{"n": 9007199254740992}', TYPED),
    "2^53+1": ('{"n": 9007199254740993}', KEPT),
    "-2^53-1": ('{"n": -9007199254740993}', KEPT),
    "2^64": ('{"n": 18446744073709551616}', KEPT),
    "2^64+1": ('{"n": 18446744073709551617}', KEPT),
    "30-digits": ('{"n": 123456789012345678901234567890}', KEPT),
    "5000-digits": ('{"n": %s}' % ("7" * 5000), KEPT),
    "1e20": ('{"n": 100000000000000000000}', TYPED),
    "2^53-as-1.0": ('{"n": 9007199254740993.0}', KEPT),
    "1e400": ('{"n": 1e400}', KEPT),
    "-1e400": ('{"n": -1e400}', KEPT),
    "1e-400": ('{"n": 1e-400}', KEPT),
    "largest": ('{"n": 1.7976931348623157e308}', TYPED),
    "beyond-the-largest": ('{"n": 1.7976931348623159e308}', KEPT),
    "smallest": ('{"n": 5e-324}', TYPED),
    "below-the-smallest": ('{"n": 2e-324}', KEPT),
    "zero-with-a-sign": ('{"n": -0}', TYPED),
    "zero-with-an-exponent": ('{"n": 0e400}', TYPED),
    "one-with-zeros": ('{"n": 1.000}', TYPED),
    "exponent-with-a-sign": ('{"n": [1E+2, 1e-2]}', TYPED),
    "a-tenth": ('{"n": 0.1}', TYPED),
    "more-digits": ('{"n": 0.1000000000000000055511151231257827}', KEPT),
    "duplicate-keys": ('{"a": 1, "b": 2, "a": 3}', KEPT),
    "duplicate-keys-deep": ('{"x": [{"a": 1, "a": 1}]}', KEPT),
    "duplicate-keys-by-escape": (r'{"a": 1, "\u0061": 2}', KEPT),
    "keys-but-for-case": ('{"a": 1, "A": 2, "": 3}', TYPED),
    "space-kept-as-written": ('{ "n" :\t[9007199254740993 ,\r\n 1 ] }', KEPT),
    "escapes-kept-as-written": (r'{"\u0061\/": [9007199254740993, "\u00e9"]}', KEPT),
    "signs-of-json-in-text": (r'{"}],\"{": "]}\\"}', TYPED),
    "signs-of-json-in-kept-text": (r'{"}],\"{": ["]}\\", 1e400]}', KEPT),
    "lone-surrogate": (r'{"a": "\ud800"}', KEPT),
    "lone-surrogate-key": (r'{"\udc00": 1}', KEPT),
    "surrogates-in-wrong-order": (r'{"a": "\udd25\ud83d"}', KEPT),
    "surrogate-pair": (r'{"a": "\ud83d\udd25"}', TYPED),
    "no-characters": (r'{"a": "\uffff\ufffe"}', TYPED),
    "fire": ('{"\N{FIRE}": "\N{FIRE}"}', TYPED),
    "nul": (r'{"a": "\u0000"}', TYPED),
    "nul-key": (r'{"\u0000": 1}', TYPED),
    "controls": (r'{"a": "\u001b[31m\r\n"}', TYPED),
    "true": ("true", TYPED),
    "false": ("false", TYPED),
    "no-text": ('""', TYPED),
    "no-object": ("{}", TYPED),
    "no-list": ("[]", TYPED),
    "nulls-deep": ('{"a": null, "b": [null]}', TYPED),
    "text": ('"text"', TYPED),
    "number": ("-0.5", TYPED),
    "list": ('[1, "a", null, [], {}]', TYPED),
    "nesting-31": (nested(31), TYPED),
    "nesting-32": (nested(32), TYPED),
    "nesting-33": (nested(33), KEPT),
    "nesting-100": (nested(100), KEPT),
    "nesting-400": (nested(400), KEPT),
    "nesting-31-lists": (nested(31, opening="[", closing="]"), TYPED),
    "nesting-32-lists": (nested(32, opening="[", closing="]"), TYPED),
    "nesting-49-lists": (nested(49, opening="[", closing="]"), TYPED),
    "nesting-50-lists": (nested(50, opening="[", closing="]"), KEPT),
    "nesting-400-lists": (nested(400, opening="[", closing="]"), KEPT),
}


@pytest.mark.guarantee("exact-answers")
@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("document", "is_typed"),
    [pytest.param(*each, id=name) for name, each in DOCUMENTS.items()],
)
async def test_document_is_exact_or_kept_as_its_text(
    rigged: Any, document: str, *, is_typed: bool
) -> None:
    """A document can be rebuilt from its answer, and is typed if that is exact."""
    sent = {
        name: run_with(document).replace('"parameters"', f'"{name}"') for name in NAMES
    }
    async with rigged() as rig:
        rig.upstream.lie(ID, *map(http, sent.values()))
        runs = {name: await rig.run(ID) for name in NAMES}
        assert len(NAMES) == rig.upstream.asked[ID]

    assert [] == [
        each for name in NAMES for each in differences(sent[name], runs[name])
    ]
    assert document == runs["brandNew"].unmodeled_json["brandNew"]
    for name in ("parameters", "engineSettings"):
        assert is_typed == (name not in runs[name].unmodeled_json)


@pytest.mark.fault(15)
async def test_document_of_100_000_keys_is_exact(rigged: Any) -> None:
    """A document with many keys is exact, and doesn't block the event loop."""
    sent = run_with(json.dumps({f"key-{at}": at for at in range(100_000)}))
    async with rigged(GATEWAY_UPSTREAM__MAX_BODY_BYTES="4194304") as rig:
        rig.upstream.lie(ID, http(sent))
        async with grpc.aio.insecure_channel(str(rig.served.address)) as channel:
            request = GetRunRequest(id=ID).SerializeToString()
            answer = await channel.unary_unary(GET_RUN)(request, timeout=30)
        rig.tally.calls += 1
        rig.tally.outcomes["OK"] += 1
    run = Run.FromString(answer)  # parsing blocks only the client

    assert [] == differences(sent, run)
    assert 100_000 == len(run.parameters.struct_value.fields)


@pytest.mark.fault(15)
@pytest.mark.parametrize("levels", [500, 501, 10_000, 100_000])
@pytest.mark.parametrize("opening", ['{"a": ', "["])
async def test_document_that_is_nested_too_deep_is_malformed(
    rigged: Any, levels: int, opening: str
) -> None:
    """A response with more than 500 levels is malformed, however it is nested."""
    closing = "}" if opening[0] == "{" else "]"
    sent = run_with(nested(levels, opening=opening, closing=closing))
    async with rigged() as rig:
        rig.upstream.lie(ID, http(sent))
        await rig.refusal(ID, Reason.UPSTREAM_MALFORMED_RESPONSE)
        assert 2 == rig.upstream.asked[ID]


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("opening", "closing", "times"),
    [
        pytest.param('{"a": ', "}", 499, id="objects"),
        pytest.param("[", "]", 499, id="lists"),
        pytest.param('[{"a": ', "}]", 249, id="both"),
    ],
)
async def test_document_of_the_maximum_depth_is_kept(
    rigged: Any, opening: str, closing: str, times: int
) -> None:
    """A response with 500 levels, including its outermost object, is read."""
    document = nested(times, opening=opening, closing=closing)
    async with rigged() as rig:
        rig.upstream.lie(ID, http(run_with(document)))
        run = await rig.run(ID)
        assert 1 == rig.upstream.asked[ID]

    assert [] == differences(run_with(document), run)
    assert document == run.unmodeled_json["parameters"]


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("first", "last", "is_typed"),
    [
        pytest.param("1e400", '{"a": 1}', TYPED, id="typed-last"),
        pytest.param('{"a": 1}', "1e400", KEPT, id="kept-last"),
        pytest.param('{"a": 1}', '{"b": 2}', TYPED, id="both-typed"),
        pytest.param("1e400", "1e500", KEPT, id="both-kept"),
    ],
)
async def test_duplicate_document_is_the_last_one(
    rigged: Any, first: str, last: str, *, is_typed: bool
) -> None:
    """Of two documents with the same name only the last is in the answer."""
    sent = run_with(f'{first}, "parameters": {last}')
    async with rigged() as rig:
        rig.upstream.lie(ID, http(sent))
        run = await rig.run(ID)

    assert [] == differences(sent, run)
    assert is_typed == ("parameters" not in run.unmodeled_json)


@pytest.mark.fault(15)
async def test_extreme_numbers_cost_no_time(rigged: Any) -> None:
    """A number with a million digits, or a huge exponent, is kept as text."""
    sent = run_with(f'{{"n": [{"9" * 500_000}, 1e{"9" * 300_000}, 0e99999999]}}')
    async with rigged() as rig:
        rig.upstream.lie(ID, http(sent))
        run = await rig.run(ID)

    assert [] == differences(sent, run)
    assert "parameters" in run.unmodeled_json
