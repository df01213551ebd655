"""Tests of putting parsed values into fields."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics.v1.run_pb2 import Run, RunStatus, VpcConfig
from healthomics_gateway.upstream.exact_json import Number
from healthomics_gateway.upstream.fields import (
    enum_numbers,
    put_document,
    put_members,
    puts_of,
)
from testkit.answers import RUN_ID
from testkit.rebuild import FIELDS, decodes

PUTS = puts_of(Run.DESCRIPTOR)
STRUCTURES = {"logLocation", "configuration", "vpcConfig"}
TIME = "2024-05-01T00:00:00Z"


def test_table_has_the_members_of_the_contract() -> None:
    """The table has AWS's members and none of the gateway's own fields."""
    assert {path[0] for path in FIELDS} == set(PUTS)
    assert {"securityGroupIds", "subnetIds", "vpcId", "vpcOwnerAccountId"} == set(
        puts_of(VpcConfig.DESCRIPTOR)
    )


def test_words_of_an_enum_are_those_of_aws() -> None:
    """An enum's words have no prefix, and don't include the unspecified value."""
    assert {
        "PENDING": 1,
        "STARTING": 2,
        "RUNNING": 3,
        "STOPPING": 4,
        "COMPLETED": 5,
        "DELETED": 6,
        "CANCELLED": 7,
        "FAILED": 8,
    } == enum_numbers(RunStatus.DESCRIPTOR)


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        pytest.param("name", "", {"name": ""}, id="empty-text"),
        pytest.param("name", "é\x00", {"name": "é\x00"}, id="text"),
        pytest.param("priority", Number("0"), {"priority": 0}, id="zero"),
        pytest.param("status", "FAILED", {"status": 8}, id="word"),
        pytest.param(
            "tags", (("a", ""), ("", "b")), {"tags": {"a": "", "": "b"}}, id="map"
        ),
        pytest.param("tags", (), {}, id="empty-map"),
        pytest.param(
            "startTime", TIME, {"start_time": {"seconds": 1_714_521_600}}, id="time"
        ),
        pytest.param(
            "vpcConfig",
            (("subnetIds", ["b", "a", "b"]),),
            {"vpc_config": {"subnet_ids": ["b", "a", "b"]}},
            id="list",
        ),
        pytest.param("vpcConfig", (("subnetIds", []),), {}, id="empty-list"),
        pytest.param("vpcConfig", (), {}, id="empty-structure"),
        pytest.param(
            "parameters", False, {"parameters": Value(bool_value=False)}, id="document"
        ),
    ],
)
def test_put_sets_the_field(member: str, value: Any, expected: dict[str, Any]) -> None:
    """A value of the right type is put; an empty container sets nothing."""
    run = Run()

    assert [] == list(PUTS[member](run, value))
    assert Run(**expected) == run


@pytest.mark.parametrize(
    ("member", "value"),
    [
        *(
            ("name", value)
            for value in (Number("1"), True, [], (), "\ud800", "é\udfff")
        ),
        *(("priority", value) for value in ("1", True, Number("1.5"), Number("1e10"))),
        *(("status", value) for value in ("NEW", "UNSPECIFIED", "", Number("3"), [])),
        *(("startTime", value) for value in (Number("0"), "2024", "", [], False)),
        *(("tags", value) for value in ([], "", (("a", None),), (("a", Number("1")),))),
        *(("tags", value) for value in ((("a", "b"), ("a", "b")), (("a", "\ud800"),))),
        ("tags", (("\udfff", "a"),)),
        *(("vpcConfig", value) for value in ([], "", Number("0"), False)),
        *(("parameters", value) for value in (Number("1e400"), "\ud800", ["\udfff"])),
        *(
            ("parameters", value)
            for value in ((("a", "b"), ("a", "b")), (("\ud800", ""),))
        ),
    ],
)
def test_put_refuses_values_that_do_not_fit(member: str, value: Any) -> None:
    """A value that doesn't fit exactly raises ValueError and sets nothing."""
    run = Run()
    with pytest.raises(ValueError, match=r".+"):
        PUTS[member](run, value)

    assert Run() == run


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("\ud800", id="surrogate"),
        pytest.param(Number("1"), id="number"),
        pytest.param([None], id="array"),
    ],
)
@pytest.mark.parametrize("name", ["vpcId", "subnetIds", "new"])
def test_structure_without_a_member_that_fits_stays_unset(
    name: str, value: Any
) -> None:
    """A structure without a member that fits stays unset; the paths are returned."""
    run = Run()
    untyped = PUTS["vpcConfig"](run, ((name, value),))

    assert Run() == run
    assert [(name,)] == list(untyped)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(("0", "7", "1.5", "2147483648", "1e400", "9007199254740993")).map(
        Number
    )
    | st.sampled_from(("", "x", "RUNNING", "GPU", TIME, "\ud800")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(
            st.tuples(st.sampled_from(("a", "b", "vpcId", "\ud800")), inner), max_size=3
        ).map(tuple)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(PUTS.keys() - STRUCTURES)), JSON)
def test_put_that_fails_leaves_the_message_unchanged(member: str, value: Any) -> None:
    """Any value is put, or raises ValueError and leaves the message unchanged."""
    run = Run()
    try:
        PUTS[member](run, value)
    except ValueError:
        assert Run() == run
    else:
        assert Run() != run or value in ((), [])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(STRUCTURES)), JSON)
def test_structure_is_set_only_with_a_member(member: str, value: Any) -> None:
    """A structure is set if and only if one of its members was put."""
    run = Run()
    try:
        PUTS[member](run, value)
    except ValueError:
        assert Run() == run
    assert all(structure.ListFields() for _, structure in run.ListFields())


def test_paths_of_members_that_do_not_fit_are_returned() -> None:
    """The paths of members that don't fit are returned, without nulls."""
    run = Run()
    sent = {
        "name": "n",
        "new": "x",
        "arn": None,
        "priority": "1",
        "vpcConfig": (("vpcId", Number("1")), ("subnetIds", ["a"]), ("new", ())),
        "logLocation": [],
    }

    untyped = put_members(run, sent, PUTS)

    assert Run(name="n", vpc_config={"subnet_ids": ["a"]}) == run
    assert {
        ("new",),
        ("priority",),
        ("vpcConfig", "vpcId"),
        ("vpcConfig", "new"),
        ("logLocation",),
    } == set(untyped)
    assert 5 == len(untyped)


def arrays(levels: int) -> Any:
    """Return nested arrays, as parsed."""
    return [arrays(levels - 1)] if levels else Number("1")


def objects(levels: int) -> Any:
    """Return nested objects, as parsed."""
    return (("a", objects(levels - 1)),) if levels else Number("1")


def plain(value: Any) -> Any:
    """Convert a parsed value to that of the standard library."""
    match value:
        case list():
            return [plain(each) for each in value]
        case tuple():
            return {name: plain(each) for name, each in value}
        case _:
            return float(value)


@pytest.mark.parametrize(
    ("nest", "most"),
    [pytest.param(arrays, 49, id="arrays"), pytest.param(objects, 32, id="objects")],
)
def test_document_is_put_as_deep_as_standard_clients_decode(
    nest: Callable[[int], Any], most: int
) -> None:
    """The maximum depth is the maximum that a standard client decodes."""
    run = Run(id=RUN_ID)
    put_document(run.parameters, nest(most))
    deeper = ParseDict(plain(nest(most + 1)), Value(), max_recursion_depth=500)
    beyond = Run(id=RUN_ID, parameters=deeper)

    assert decodes(run)
    assert not decodes(beyond)
    with pytest.raises(ValueError, match="deeper than standard clients decode"):
        put_document(Value(), nest(most + 1))


@pytest.mark.parametrize(
    ("value", "most"),
    [
        pytest.param([], 98, id="empty-array"),
        pytest.param((), 98, id="empty-object"),
        pytest.param([Number("1")], 97, id="array"),
        pytest.param((("a", Number("1")),), 96, id="object"),
        pytest.param([[]], 96, id="array-in-array"),
        pytest.param((("a", ()),), 95, id="object-in-object"),
    ],
)
def test_document_counts_the_levels_above_it(value: Any, most: int) -> None:
    """The levels above a document reduce its maximum depth."""
    put_document(Value(), value, level=most)
    with pytest.raises(ValueError, match="deeper than standard clients decode"):
        put_document(Value(), value, level=most + 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(None, Value(null_value=0), id="null"),
        pytest.param(True, Value(bool_value=True), id="true"),
        pytest.param(Number("-0.10"), Value(number_value=-0.1), id="number"),
        pytest.param("1", Value(string_value="1"), id="text"),
        pytest.param([], Value(list_value={}), id="empty-array"),
        pytest.param((), Value(struct_value={}), id="empty-object"),
        pytest.param(
            [None], Value(list_value={"values": [Value(null_value=0)]}), id="array"
        ),
        pytest.param(
            (("", "x"),),
            Value(struct_value={"fields": {"": Value(string_value="x")}}),
            id="object",
        ),
    ],
)
def test_document_has_the_kind_that_was_sent(value: Any, expected: Value) -> None:
    """Each kind of JSON value sets its kind of Value, also if it is empty."""
    message = Value()
    put_document(message, value)

    assert expected == message
    assert expected.WhichOneof("kind") == message.WhichOneof("kind")
