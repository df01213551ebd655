"""The contract agrees with the newest installed model of GetRun.

A failing test names the member, the word or the error that AWS has added.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session
import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from healthomics.v1 import run_pb2
from healthomics.v1.run_pb2 import Run, RunExport
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics_gateway.errors.exceptions import Again
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.runs.source import FIRST_OWN_FIELD
from healthomics_gateway.services.validation import MAX_EXPORTS
from healthomics_gateway.upstream import endpoints as aws
from healthomics_gateway.upstream import healthomics
from healthomics_gateway.upstream.classify import CODES

SERVICE = botocore.session.Session().get_service_model("omics")
OPERATION = SERVICE.operation_model("GetRun")
PACKAGE = "healthomics.v1"

# The members of AWS's reference page in the order of the field numbers.
REFERENCE_PAGE = (
    *("accelerators", "arn", "creationTime", "definition", "digest", "failureReason"),
    *("id", "logLevel", "logLocation", "name", "outputUri", "parameters", "priority"),
    *("resourceDigests", "retentionMode", "roleArn", "runGroupId", "runId"),
    *("runOutputUri", "startedBy", "startTime", "status", "statusMessage", "stopTime"),
    *("storageCapacity", "tags", "uuid", "workflowId", "workflowType"),
)
OWN_REQUEST_FIELDS = {"maxStaleness", "readMask"}  # not sent to HealthOmics


def modeled(shape: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return each member of a structure by its path, nested ones too, and its shape."""
    for name, member in shape.members.items():
        yield f"{prefix}{name}", member
        if member.type_name == "structure" and not member.is_document_type:
            yield from modeled(member, f"{prefix}{name}.")


def fields_of(
    message: Descriptor, prefix: str = ""
) -> Iterator[tuple[str, FieldDescriptor]]:
    """Return each field for a member of AWS's by the member's path, nested ones too."""
    for field in message.fields:
        if field.number >= FIRST_OWN_FIELD:
            continue
        yield f"{prefix}{field.json_name}", field
        inner = field.message_type
        if inner and inner.file.package == PACKAGE and not field.is_repeated:
            yield from fields_of(inner, f"{prefix}{field.json_name}.")


MEMBERS = dict(modeled(OPERATION.output_shape))
FIELDS = dict(fields_of(Run.DESCRIPTOR))


def kind_of_member(shape: Any) -> str:
    """Return the kind of a member in AWS's model."""
    match shape.type_name:
        case "string":
            return "enum" if shape.enum else "string"
        case "structure":
            return "document" if shape.is_document_type else "structure"
        case "list":
            return f"list of {kind_of_member(shape.member)}"
        case "map":
            of = (kind_of_member(each) for each in (shape.key, shape.value))
            return f"map of {' to '.join(of)}"
        case "timestamp":
            return f"timestamp as {shape.serialization['timestampFormat']}"
        case other:
            return str(other)


SCALARS = {FieldDescriptor.TYPE_STRING: "string", FieldDescriptor.TYPE_INT32: "integer"}
WELL_KNOWN = {
    "google.protobuf.Timestamp": "timestamp as iso8601",
    "google.protobuf.Value": "document",
}


def kind_of_field(field: FieldDescriptor) -> str:
    """Return the kind of member that a field is made for."""
    inner = field.message_type
    if inner and inner.GetOptions().map_entry:
        key, value = (SCALARS.get(each.type) for each in inner.fields)
        return f"map of {key} to {value}"
    if inner:
        kind = WELL_KNOWN.get(inner.full_name, "structure")
    else:
        kind = "enum" if field.enum_type else SCALARS.get(field.type, "unknown")
    if field.is_repeated:
        return f"list of {kind}"
    # An optional scalar can be absent or empty; an enum has a value for absent.
    return kind if field.has_presence or kind == "enum" else f"{kind} without presence"


def prefix_of(enum: EnumDescriptor) -> str:
    """Return the prefix of an enum's values: `RunStatus` has `RUN_STATUS_`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"


@pytest.mark.guarantee("complete-contract")
def test_members_of_the_model_have_a_field_each() -> None:
    """Every member of the answer has a field. Add a new one to run.proto."""
    missing = sorted(MEMBERS.keys() - FIELDS.keys())

    assert [] == missing, f"add to run.proto: {missing}"


def test_fields_stand_for_members_of_the_model() -> None:
    """Every field below 1000 is a member of AWS's answer."""
    surplus = sorted(FIELDS.keys() - MEMBERS.keys())

    assert [] == surplus, f"not in AWS's model: {surplus}"


def test_fields_have_the_types_of_their_members() -> None:
    """The type of a field agrees with its member in AWS's model."""
    wrong = [
        f"{path} is {kind_of_member(shape)}, not {kind_of_field(FIELDS[path])}"
        for path, shape in MEMBERS.items()
        if path in FIELDS and kind_of_member(shape) != kind_of_field(FIELDS[path])
    ]

    assert [] == wrong, f"wrong in run.proto: {wrong}"


def words() -> Iterator[tuple[EnumDescriptor, list[str]]]:
    """Return each enum of the contract with the words that AWS lists for it."""
    for path, shape in MEMBERS.items():
        if path in FIELDS and (enum := FIELDS[path].enum_type):
            yield enum, shape.enum
    yield RunExport.DESCRIPTOR, OPERATION.input_shape.members["export"].member.enum


@pytest.mark.guarantee("complete-contract")
def test_words_of_the_model_are_enum_values() -> None:
    """Every word that AWS lists is an enum value. Add a new one to run.proto."""
    missing = [
        f"{enum.name}: {prefix_of(enum)}{word}"
        for enum, listed in words()
        for word in listed
        if prefix_of(enum) + word not in enum.values_by_name
    ]

    assert [] == missing, f"add to run.proto: {missing}"


def test_enums_have_no_value_that_the_model_lacks() -> None:
    """Every enum value is a word that AWS lists."""
    surplus = [
        f"{enum.name}: {value.name}"
        for enum, listed in words()
        for value in enum.values[1:]
        if value.name.removeprefix(prefix_of(enum)) not in listed
    ]

    assert [] == surplus, f"not in AWS's model: {surplus}"


def test_enums_are_all_compared_with_the_model() -> None:
    """Each enum of run.proto has the words of a member."""
    compared = {enum.name for enum, _ in words()}

    assert set(run_pb2.DESCRIPTOR.enum_types_by_name) == compared


@pytest.mark.parametrize(
    "enum",
    [
        pytest.param(each, id=name)
        for name, each in run_pb2.DESCRIPTOR.enum_types_by_name.items()
    ],
)
def test_enum_is_named_by_its_prefix(enum: EnumDescriptor) -> None:
    """An enum's value 0 is unspecified, and all values have the same prefix."""
    names = [value.name for value in enum.values]
    prefix = prefix_of(enum)

    assert f"{prefix}UNSPECIFIED" == enum.values_by_number[0].name
    assert [] == [name for name in names if not name.startswith(prefix)]


@pytest.mark.guarantee("complete-contract")
def test_errors_of_the_model_are_classified() -> None:
    """Every error of GetRun has a reason. Add a new one to classify.py."""
    unknown = sorted({each.name for each in OPERATION.error_shapes} - CODES.keys())

    assert [] == unknown, f"add to upstream/classify.py: {unknown}"


def test_errors_of_the_model_are_spelled_as_their_shapes_are() -> None:
    """AWS sends an error's name as its code, which the gateway looks up."""
    codes = {shape.name: shape.error_code for shape in OPERATION.error_shapes}

    assert {name: name for name in codes} == codes


def test_retryable_errors_are_tried_again() -> None:
    """The gateway retries the errors that AWS's model marks retryable."""
    marked: Mapping[str, Any] = {
        shape.name: shape.metadata["retryable"]
        for shape in OPERATION.error_shapes
        if "retryable" in shape.metadata
    }
    throttles = [name for name, trait in marked.items() if trait.get("throttling")]

    assert marked
    assert {Again.YES} == {CODES[name].again for name in marked}
    assert {Reason.UPSTREAM_THROTTLED} == {CODES[name].reason for name in throttles}


def test_request_has_the_members_of_the_model() -> None:
    """Every member of the request is in the contract. Add a new one to the proto."""
    names = {field.json_name for field in GetRunRequest.DESCRIPTOR.fields}
    members = set(OPERATION.input_shape.members)
    missing = sorted(members - names)

    assert [] == missing, f"add to run_service.proto: {missing}"
    assert OWN_REQUEST_FIELDS == names - members


def test_request_is_checked_by_the_rules_of_the_model() -> None:
    """Ids and exports have the limits of AWS's model."""
    run_id, export = (OPERATION.input_shape.members[name] for name in ("id", "export"))

    assert {"min": 1, "max": 18, "pattern": "[0-9]+"} == run_id.metadata
    assert {"min": 0, "max": MAX_EXPORTS} == export.metadata


def test_request_goes_where_the_model_says() -> None:
    """The gateway sends requests to the path that AWS's model has for GetRun."""
    places = {
        name: (shape.serialization["location"], shape.serialization["name"])
        for name, shape in OPERATION.input_shape.members.items()
    }

    assert ("GET", "/run/{id}") == tuple(
        OPERATION.http[name] for name in ("method", "requestUri")
    )
    assert {"id": ("uri", "id"), "export": ("querystring", "export")} == places
    assert {"hostPrefix": aws.HOST_PREFIX} == OPERATION.endpoint
    assert SERVICE.signing_name == healthomics.SERVICE
    assert "v4" == SERVICE.metadata["signatureVersion"]


def test_members_of_the_reference_page_have_the_first_numbers() -> None:
    """The fields 1 to 29 are the members of AWS's reference page, in its order."""
    by_number = Run.DESCRIPTOR.fields_by_number
    numbered = tuple(by_number[number].json_name for number in range(1, 30))

    assert REFERENCE_PAGE == numbered


def test_fields_have_the_names_of_their_members() -> None:
    """A field's name is its member's in snake_case, without exception."""
    named = {path: path.rpartition(".")[2] for path in FIELDS}
    snake = {
        path: re.sub(r"(?=[A-Z])", "_", name).lower() for path, name in named.items()
    }

    assert snake == {path: field.name for path, field in FIELDS.items()}
