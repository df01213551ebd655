"""Tests of translating an answer to a `Run`, exactly typed or kept as text."""

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.upstream.translate import (
    AnotherRunError,
    ErrorAnswerError,
    MalformedAnswerError,
    run_from_json,
)
from testkit.answers import HALVES, NAMES, ODD_TIMES, ODD_WORDS, RUN_ID
from testkit.rebuild import FIELDS, decodes, differences

REFUSALS = (AnotherRunError, ErrorAnswerError, MalformedAnswerError)


def answer(members: str = "") -> str:
    """Return the JSON text of an answer with the id and `members`."""
    return f'{{"id":"{RUN_ID}"{"," if members else ""}{members}}}'


def translated(members: str = "") -> Run:
    """Translate an answer, and check that a standard client decodes the result."""
    run = run_from_json(answer(members).encode(), run_id=RUN_ID)
    assert decodes(run)
    return run


def only(**fields: Any) -> Run:
    """Return a run with an id and `fields`."""
    return Run(id=RUN_ID, **fields)


def kept(**texts: str) -> Run:
    """Return a run with an id and `texts` in `unmodeled_json`."""
    return only(unmodeled_json=texts)


# ---- errors ----


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html><h1>403 Forbidden</h1></html>", id="html"),
        pytest.param(answer().encode()[:-1], id="truncated"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"x"', id="text"),
        pytest.param(answer().encode() + b"x", id="trailing"),
        pytest.param(answer().encode() * 2, id="twice"),
        pytest.param(b"\xef\xbb\xbf" + answer().encode(), id="byte-order-mark"),
        pytest.param(answer('"priority":NaN').encode(), id="nan"),
        pytest.param(answer('"parameters":[-Infinity]').encode(), id="infinity"),
        pytest.param(answer('"name":"\xff"').encode("latin-1"), id="not-utf-8"),
        pytest.param(answer('"name":"').encode() + b'\xed\xa0\x80"}', id="surrogate"),
        pytest.param(answer().encode("utf-16"), id="utf-16"),
        pytest.param(answer(f'"a":{"[" * 500}{"]" * 500}').encode(), id="501-levels"),
        pytest.param(
            answer(f'"parameters":{"[" * 10_000}{"]" * 10_000}').encode(),
            id="10,001-levels",
        ),
        pytest.param(b'{"id":' * 100_000, id="100,000-levels"),
    ],
)
def test_body_that_is_not_an_answer_is_malformed(body: bytes) -> None:
    """A body is malformed unless it is a JSON object in UTF-8 of at most 500 levels."""
    with pytest.raises(MalformedAnswerError):
        run_from_json(body, run_id=RUN_ID)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("{}", id="missing"),
        pytest.param('{"id":null}', id="null"),
        pytest.param('{"id":"7654321"}', id="other"),
        pytest.param('{"id":1234567}', id="number"),
        pytest.param('{"id":["1234567"]}', id="array"),
        pytest.param('{"id":"01234567"}', id="leading-zero"),
        pytest.param('{"id":" 1234567"}', id="space"),
        pytest.param('{"id":"1234567\\n"}', id="newline"),
        pytest.param('{"ID":"1234567","runId":"1234567"}', id="other-member"),
        pytest.param('{"id":"1234567","id":"7654321"}', id="other-last"),
        pytest.param('{"id":"1234567","id":null}', id="null-last"),
        pytest.param('{"x":{"id":"1234567"}}', id="inside"),
    ],
)
def test_answer_about_another_run_is_refused(body: str) -> None:
    """An answer without the requested `id` as text raises AnotherRunError."""
    with pytest.raises(AnotherRunError):
        run_from_json(body.encode(), run_id=RUN_ID)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(' {"id" : "1234567"}\r\n', id="space"),
        pytest.param('{"\\u0069d":"\\u0031234567"}', id="escaped"),
        pytest.param('{"id":7,"id":"1234567"}', id="last-of-two"),
    ],
)
def test_answer_about_the_run_is_translated(body: str) -> None:
    """The id may be escaped, and the last of duplicates is used."""
    assert only() == run_from_json(body.encode(), run_id=RUN_ID)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(answer('"__type":"ThrottlingException"'), id="beside-the-id"),
        pytest.param('{"__type":"ThrottlingException"}', id="without-id"),
        pytest.param('{"id":"1","__type":"ThrottlingException"}', id="another-id"),
    ],
)
def test_error_in_an_answer_is_raised(body: str) -> None:
    """A body with AWS's `__type` raises ErrorAnswerError."""
    with pytest.raises(ErrorAnswerError) as refusal:
        run_from_json(body.encode(), run_id=RUN_ID)

    assert "ThrottlingException" == refusal.value.error_type


def test_members_that_only_look_like_an_error_are_kept() -> None:
    """A `code`, or a `__type` without a code, is an unmodeled member."""
    assert kept(code='"ThrottlingException"', message='"Rate exceeded"') == translated(
        '"code":"ThrottlingException","message":"Rate exceeded"'
    )
    assert only(unmodeled_json={"__type": "5"}) == translated('"__type":5')
    assert only(unmodeled_json={"__type": '"#"'}) == translated('"__type":"#"')


# ---- typed ----


def test_answer_with_only_an_id_sets_nothing_else() -> None:
    """Members that AWS didn't send are unset, and so is `observe_time`."""
    assert only() == translated()


def test_members_fill_their_fields() -> None:
    """Each kind of member is typed."""
    run = translated(
        '"name":"Zo\\u00eb \\ud83e\\uddec \\u0000","status":"RUNNING",'
        '"accelerators":"GPU","workflowType":"READY2RUN","priority":0,'
        '"storageCapacity":1200,"creationTime":"2024-05-01T02:00:00.25+02:00",'
        '"tags":{"":"","project":"giab"},"parameters":{"a":[1,"x",null,true,0.1]},'
        '"logLocation":{"engineLogStream":"log/e"},"engineSettings":[],'
        '"vpcConfig":{"securityGroupIds":["sg-1","sg-1"],"vpcId":"vpc-1"}'
    )

    assert {
        "id": RUN_ID,
        "name": "Zoë \U0001f9ec \x00",
        "status": "RUN_STATUS_RUNNING",
        "accelerators": "ACCELERATORS_GPU",
        "workflowType": "WORKFLOW_TYPE_READY2RUN",
        "priority": 0,
        "storageCapacity": 1200,
        "creationTime": "2024-05-01T00:00:00.250Z",
        "tags": {"": "", "project": "giab"},
        "parameters": {"a": [1, "x", None, True, 0.1]},
        "logLocation": {"engineLogStream": "log/e"},
        "engineSettings": [],
        "vpcConfig": {"securityGroupIds": ["sg-1", "sg-1"], "vpcId": "vpc-1"},
    } == MessageToDict(run)


@pytest.mark.parametrize("digits", range(10))
def test_timestamp_is_typed_with_up_to_nine_digits(digits: int) -> None:
    """A timestamp with up to nine fractional digits is typed exactly."""
    fraction = f".{'123456789'[:digits]}" if digits else ""
    run = translated(
        f'"startTime":"1970-01-01T00:00:00{fraction}Z","stopTime":"1970-01-01T00:00:00Z"'
    )

    nanos = int("123456789"[:digits].ljust(9, "0"))
    assert (0, nanos) == (run.start_time.seconds, run.start_time.nanos)
    assert run.HasField("start_time")
    assert run.HasField("stop_time")
    assert {} == dict(run.unmodeled_json)


def test_empty_text_is_present() -> None:
    """An empty text is set, unlike an absent one."""
    run = translated('"name":"","logLocation":{"runLogStream":""}')

    assert run.HasField("name")
    assert run.log_location.HasField("run_log_stream")


def test_last_of_duplicate_members_is_used() -> None:
    """The last of duplicate members is used, also in structures."""
    run = translated(
        '"name":"first","name":"last","status":1,"status":"FAILED","priority":1,'
        '"priority":"high","arn":"x","arn":null,"vpcConfig":{"vpcId":"gone"},'
        '"vpcConfig":{"subnetIds":["a"],"subnetIds":["b"]},'
        '"newMember":1,"newMember":2'
    )

    assert (
        only(
            name="last",
            status=RunStatus.RUN_STATUS_FAILED,
            vpc_config={"subnet_ids": ["b"]},
            unmodeled_json={"priority": '"high"', "newMember": "2"},
        )
        == run
    )


# ---- absent ----


@pytest.mark.parametrize(
    "text",
    [
        *(f'"{path[0]}":null' for path in FIELDS if path != ("id",)),
        *('"newMember":null', '"tags":{}', '"resourceDigests":{ }', '"logLocation":{}'),
        *('"vpcConfig":{}', '"vpcConfig":{"subnetIds":[]}', '"vpcConfig":{"a":null}'),
        '"vpcConfig":{"securityGroupIds":[],"subnetIds":null,"vpcId":null}',
    ],
)
def test_null_and_empty_are_the_same_as_absent(text: str) -> None:
    """Null and an empty map, list or structure are the same as absent."""
    assert only() == translated(text)


# ---- kept ----


@pytest.mark.parametrize(
    ("member", "text"),
    [
        *(("priority", text) for text in ("1.5", "true", '"1"', "2147483648", "[1]")),
        *(("priority", text) for text in ("-2147483649", "1e99999999999999999999")),
        *(("name", text) for text in ("1", "false", "[]", "{}", '"\\ud800"', '["a"]')),
        *(("status", json.dumps(word)) for word in (*ODD_WORDS, "", "\ud800")),
        *(("status", text) for text in ("3", "true", "[]", '{"a":1}')),
        *(("startTime", json.dumps(time)) for time in ODD_TIMES),
        *(("startTime", text) for text in ("1714521600", "1.7145216e9", "{}", "[]")),
        *(("tags", text) for text in ("[]", '""', "0", '{"a":null}', '{"a":1}')),
        *(("tags", text) for text in ('{"a":"1","a":"1"}', '{"a":"\\udfff"}')),
        *(("tags", text) for text in ('{"\\ud800":"1"}', '{"a":"1","b":["2"]}')),
        *(("logLocation", text) for text in ("[]", '"x"', "0", "true", "[{}]")),
        *(("newMember", text) for text in ("{}", "[]", "0", '""', "false", "[ null ]")),
        ("newMember", '{"a" : [1, 1.50, {"a":1,"a":2}], "\\u0061" : "\\/\\ud800"}'),
    ],
)
def test_member_that_has_no_field_for_it_is_kept(member: str, text: str) -> None:
    """Unknown members, words and types are kept as their JSON text."""
    expected = only(unmodeled_json={member: text})

    assert expected == translated(f'"{member}" :\t{text}\n')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            '"logLocation":{"taskLogStreams":["a"],"runLogStream":"r"}',
            {
                "log_location": {"run_log_stream": "r"},
                "unmodeled_json": {"logLocation.taskLogStreams": '["a"]'},
            },
            id="new-member",
        ),
        pytest.param(
            '"vpcConfig":{"vpcId":7,"subnetIds":["a",null],"vpcOwnerAccountId":"\\ud800"}',
            {
                "unmodeled_json": {
                    "vpcConfig.vpcId": "7",
                    "vpcConfig.subnetIds": '["a",null]',
                    "vpcConfig.vpcOwnerAccountId": '"\\ud800"',
                }
            },
            id="wrong-types",
        ),
        pytest.param(
            '"vpcConfig":{"subnetIds":"a","securityGroupIds":["\\ud800"]}',
            {
                "unmodeled_json": {
                    "vpcConfig.subnetIds": '"a"',
                    "vpcConfig.securityGroupIds": '["\\ud800"]',
                }
            },
            id="wrong-lists",
        ),
        pytest.param(
            '"configuration":{"name":"a","x":{"y":{"z":1}}}',
            {
                "configuration": {"name": "a"},
                "unmodeled_json": {"configuration.x": '{"y":{"z":1}}'},
            },
            id="new-structure",
        ),
        pytest.param(
            '"configuration":{"a.b":1,"":2,"name":"n"}',
            {
                "configuration": {"name": "n"},
                "unmodeled_json": {"configuration.a.b": "1", "configuration.": "2"},
            },
            id="odd-names",
        ),
        pytest.param(
            '"logLocation":{"a":1,"a":2},"x":1,"logLocation" : { "a" : 3 , "a":4 }',
            {"unmodeled_json": {"logLocation.a": "4", "x": "1"}},
            id="duplicates",
        ),
    ],
)
def test_member_of_a_structure_is_kept_by_its_path(
    text: str, expected: dict[str, Any]
) -> None:
    """In a structure known members are typed, and others are kept by their path."""
    run = translated(text)

    assert only(**expected) == run
    assert run.HasField("log_location") == ("log_location" in expected)
    assert run.HasField("vpc_config") == ("vpc_config" in expected)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        *((name, name) for name in ("newMember", "", " ", "a.b", ".", "log_level")),
        *((name, name) for name in ("unmodeledJson", "observeTime", "observe_time")),
        *(
            (name, name)
            for name in ("tags.a", "status.x", "parameters.a", "\x00", "ключ")
        ),
        *((name, name) for name in ("logLocations.a", "loglocation.a", 'a"b', "\\")),
        ('"', r'"\""'),
        ('"status"', r'"\"status\""'),
        ("\ud800", r'"\ud800"'),
        ("x\ude00\ud83d", r'"x\ude00\ud83d"'),
        ("logLocation.runLogStream", '"logLocation.runLogStream"'),
        ("logLocation.", '"logLocation."'),
        ('vpcConfig."a"', r'"vpcConfig.\"a\""'),
        ("configuration.\ud800", r'"configuration.\ud800"'),
    ],
)
def test_name_that_could_be_misread_is_kept_as_a_literal(name: str, entry: str) -> None:
    """A name is its own key unless it is ambiguous or not valid Unicode."""
    run = translated(f"{json.dumps(name)}:1")

    assert {entry: "1"} == dict(run.unmodeled_json)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("new", "vpcConfig.new"),
        ("vpcConfig.new", "vpcConfig.vpcConfig.new"),
        ('"a"', r'vpcConfig."\"a\""'),
        ("\udfff", r'vpcConfig."\udfff"'),
    ],
)
def test_name_in_a_structure_is_kept_behind_the_structure(
    name: str, entry: str
) -> None:
    """In a structure a name is a literal if it isn't Unicode or begins with `"`."""
    run = translated(f'"vpcConfig":{{{json.dumps(name)}:1}}')

    assert {entry: "1"} == dict(run.unmodeled_json)


def test_names_are_kept_apart() -> None:
    """No two names have the same key, at the top or in structures."""
    names = sorted({*NAMES, *HALVES} - {"logLocation", "tags", "parameters"})
    members = ",".join(f"{json.dumps(name)}:1" for name in names)
    structures = ("logLocation", "configuration", "vpcConfig")
    inside = ",".join(f'"{each}":{{{members}}}' for each in structures)
    top = {name for name in names if name not in structures}

    run = translated(f"{members},{inside}")

    assert len(top) + 3 * len(names) == len(run.unmodeled_json)
    assert [] == differences(answer(f"{members},{inside}"), run)


# ---- documents ----


def arrays(levels: int) -> str:
    """Return nested arrays."""
    return "[" * levels + "]" * levels


def objects(levels: int) -> str:
    """Return nested objects, of which the innermost has a member."""
    return '{"a":' * levels + "1" + "}" * levels


def mixed(levels: int) -> str:
    """Return objects and arrays that are nested in turn."""
    return '{"a":[' * (levels // 2) + "]}" * (levels // 2)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("0", id="zero"),
        pytest.param('""', id="empty-text"),
        pytest.param("false", id="false"),
        pytest.param("{}", id="empty-object"),
        pytest.param("[]", id="empty-array"),
        pytest.param("[null]", id="null-inside"),
        pytest.param('{"":{"":[]}}', id="empty-names"),
        pytest.param('{"a":"1","A":1,"a ":[1,[2,{}]]}', id="structure"),
        pytest.param('["\\u0000","\\ud83e\\uddec","\u2028"]', id="text"),
        pytest.param("[9007199254740991,9007199254740992,1e22,0.10,1.0]", id="doubles"),
        pytest.param("[-0,5e-324,1.7976931348623157e308,0e999]", id="limits"),
        pytest.param(arrays(31), id="31-arrays"),
        pytest.param(arrays(49), id="49-arrays"),
        pytest.param(objects(31), id="31-objects"),
        pytest.param(objects(32), id="32-objects"),
        pytest.param(mixed(38), id="38-mixed"),
    ],
)
@pytest.mark.parametrize("member", ["parameters", "engineSettings"])
def test_document_is_typed_if_a_value_represents_it(member: str, document: str) -> None:
    """A document that a Value represents exactly is typed."""
    text = f'"{member}":{document}'
    run = translated(text)

    assert {} == dict(run.unmodeled_json)
    assert run.HasField("parameters" if member == "parameters" else "engine_settings")
    assert [] == differences(answer(text), run)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param("9007199254740993", id="2^53+1"),
        pytest.param("[-9007199254740993]", id="-2^53-1"),
        pytest.param("18446744073709551616", id="2^64"),
        pytest.param('{"a":123456789012345678901234567890}', id="30-digits"),
        pytest.param("[1e400]", id="1e400"),
        pytest.param("[1e-400]", id="1e-400"),
        pytest.param("0.30000000000000001", id="17-digits"),
        pytest.param('{"a":1,"a":1}', id="duplicate"),
        pytest.param('[{"b":{"a":1,"\\u0061":2}}]', id="escaped-duplicate"),
        pytest.param('"\\ud800"', id="surrogate"),
        pytest.param('{"\\udfff":1}', id="surrogate-name"),
        pytest.param('[[["\\ude00\\ud83d"]]]', id="surrogates"),
        pytest.param(arrays(50), id="50-arrays"),
        pytest.param(arrays(100), id="100-arrays"),
        pytest.param(objects(33), id="33-objects"),
        pytest.param(objects(400), id="400-objects"),
        pytest.param(mixed(40), id="40-mixed"),
    ],
)
@pytest.mark.parametrize("member", ["parameters", "engineSettings"])
def test_document_is_kept_if_a_value_would_change_it(
    member: str, document: str
) -> None:
    """A document that a Value can't represent exactly is kept as text."""
    text = f"{document[:1]} {document[1:]}" if document[0] in "[{" else document

    expected = only(unmodeled_json={member: text})

    assert expected == translated(f'"{member}":{text}')


def test_document_of_very_many_members_is_typed() -> None:
    """A document with 100,000 names is typed."""
    members = ",".join(f'"name {at}":{at}.5' for at in range(100_000))
    run = translated(f'"parameters":{{{members}}}')

    fields = run.parameters.struct_value.fields
    assert 100_000 == len(fields)
    assert 99_999.5 == fields["name 99999"].number_value
    assert {} == dict(run.unmodeled_json)


# ---- any input ----

_TEXTS = st.text(max_size=5) | st.sampled_from(
    (*HALVES, "RUNNING", "1970-01-01T00:00:00Z")
)
_SCALARS = (
    st.none() | st.booleans() | st.integers() | _TEXTS | st.floats(allow_nan=False)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3)
    ),
    max_leaves=6,
)
_MEMBERS = st.sampled_from([path[-1] for path in FIELDS if path != ("id",)]) | _TEXTS
_STRUCTURES = st.dictionaries(_MEMBERS, _VALUES, max_size=3)
_ANSWERS = st.dictionaries(_MEMBERS, _VALUES | _STRUCTURES, max_size=4)


@pytest.mark.guarantee("exact-answers")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(_ANSWERS)
def test_any_json_at_any_member_is_rebuilt(members: dict[str, Any]) -> None:
    """Any JSON at any member can be rebuilt from the answer."""
    text = json.dumps({**members, "id": RUN_ID}).replace("Infinity", "1e999")

    run = run_from_json(text.encode(), run_id=RUN_ID)

    assert [] == differences(text, run)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.binary(max_size=40)
    | st.text('{}[]",:\\u019eE+-.tfn ', max_size=40).map(str.encode)
    | st.tuples(st.integers(0, 80), st.binary(max_size=2)).map(
        lambda cut: (
            answer('"tags":{"a":"b"},"vpcConfig":{"x":[1,2]}').encode()[: cut[0]]
            + cut[1]
        )
    )
)
def test_any_bytes_are_translated_or_refused(body: bytes) -> None:
    """Any bytes are translated, or raise one of the three errors."""
    try:
        run = run_from_json(body, run_id=RUN_ID)
    except REFUSALS:
        return
    assert [] == differences(body.decode(), run)
