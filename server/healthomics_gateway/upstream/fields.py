"""What each type of field takes, exactly: a parsed JSON value into a message.

The table of members and of enum words is the contract itself: a field is AWS's
member of the field's JSON name, an enum value is AWS's word behind the enum's
prefix. So a member becomes typed by adding its field to run.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.struct_pb2 import NullValue, Value

from healthomics_gateway.upstream.jsontext import (
    Number,
    exact_double,
    exact_instant,
    exact_int32,
)

FIRST_GATEWAY_FIELD = 1000  # of Run: from here on the gateway's own fields
# Stock clients decode 100 levels of messages below the outermost one. One level
# is left to the message of a stream around the Run.
MAX_MESSAGE_LEVELS = 99

Path: TypeAlias = tuple[str, ...]  # of a member: its name, behind its structure's

# Puts a member's value into a message and answers the path of each part that it
# couldn't put. Raises ValueError, with the message as before, where it can't put
# the value exactly.
Put: TypeAlias = Callable[[Any, Any], list[Path]]


def puts_of(message: Descriptor) -> dict[str, Put]:
    """Make the table of a message: AWS's name of each member, and how it is put."""
    return {
        field.json_name: kind_of(field)(field)
        for field in message.fields
        if field.number < FIRST_GATEWAY_FIELD
    }


def kind_of(field: FieldDescriptor) -> Callable[[FieldDescriptor], Put]:
    """Tell how a field's type takes a value."""
    if field.type == FieldDescriptor.TYPE_ENUM:
        return enum
    if field.type == FieldDescriptor.TYPE_INT32:
        return integer
    if field.type == FieldDescriptor.TYPE_STRING:
        return text_list if field.is_repeated else text
    if field.message_type.GetOptions().map_entry:
        return text_map
    messages = {
        "google.protobuf.Timestamp": timestamp,
        "google.protobuf.Value": document,
    }
    return messages.get(field.message_type.full_name, structure)


def put_members(
    message: Any, sent: Mapping[str, Any], puts: Mapping[str, Put]
) -> list[Path]:
    """Put what fits; answer the paths of the rest. Null counts as absent."""
    untyped: list[Path] = []
    for name, value in sent.items():
        if value is None:
            continue
        put = puts.get(name)
        if put is None:
            untyped.append((name,))
            continue
        try:
            untyped.extend((name, *path) for path in put(message, value))
        except ValueError:
            untyped.append((name,))
    return untyped


def text(field: FieldDescriptor) -> Put:
    """Take text."""
    name = field.name

    def put(message: Any, value: Any) -> list[Path]:
        setattr(message, name, _checked_text(value))
        return []

    return put


def integer(field: FieldDescriptor) -> Put:
    """Take an integer of 32 bits."""
    name = field.name

    def put(message: Any, value: Any) -> list[Path]:
        if type(value) is not Number:
            raise ValueError("not a number")
        setattr(message, name, exact_int32(value))
        return []

    return put


def enum(field: FieldDescriptor) -> Put:
    """Take one of the enum's words."""
    name, numbers = field.name, enum_numbers(field.enum_type)

    def put(message: Any, value: Any) -> list[Path]:
        if type(value) is not str or value not in numbers:
            raise ValueError("not a word of the enum")
        setattr(message, name, numbers[value])
        return []

    return put


def text_map(field: FieldDescriptor) -> Put:
    """Take an object of texts without a duplicate key."""
    name = field.name

    def put(message: Any, value: Any) -> list[Path]:
        if type(value) is not tuple:
            raise ValueError("not a map")
        entries = {_checked_text(key): _checked_text(each) for key, each in value}
        if len(entries) < len(value):
            raise ValueError("a duplicate key")
        getattr(message, name).update(entries)
        return []

    return put


def text_list(field: FieldDescriptor) -> Put:
    """Take an array of texts."""
    name = field.name

    def put(message: Any, value: Any) -> list[Path]:
        if type(value) is not list:
            raise ValueError("not a list")
        if texts := [_checked_text(each) for each in value]:
            getattr(message, name).extend(texts)
        return []

    return put


def structure(field: FieldDescriptor) -> Put:
    """Take an object, member by member."""
    name, puts = field.name, puts_of(field.message_type)

    def put(message: Any, value: Any) -> list[Path]:
        if type(value) is not tuple:
            raise ValueError("not a structure")
        return put_members(getattr(message, name), dict(value), puts)

    return put


def timestamp(field: FieldDescriptor) -> Put:
    """Take an RFC 3339 timestamp."""
    name = field.name

    def put(message: Any, value: Any) -> list[Path]:
        seconds, nanos = exact_instant(_checked_text(value))
        time = getattr(message, name)
        time.seconds, time.nanos = seconds, nanos
        return []

    return put


def document(field: FieldDescriptor) -> Put:
    """Take any JSON value that a `google.protobuf.Value` carries exactly."""
    name = field.name

    def put(message: Any, value: Any) -> list[Path]:
        try:
            put_document(getattr(message, name), value)
        except ValueError:
            message.ClearField(name)
            raise
        return []

    return put


def _checked_text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("not text")
    if not value.isascii():
        value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    return value


def put_document(message: Value, value: Any, level: int = 1) -> None:
    """Put any parsed JSON value into a `Value` that stands `level` below the Run.

    Raises ValueError, with the message half filled, where it can't be exact.
    """
    if level > MAX_MESSAGE_LEVELS:
        raise ValueError("nested deeper than stock clients decode")
    if type(value) is str:
        message.string_value = value
    elif type(value) is Number:
        message.number_value = exact_double(value)
    elif value is None:
        message.null_value = NullValue.NULL_VALUE
    elif type(value) is bool:
        message.bool_value = value
    elif level == MAX_MESSAGE_LEVELS:
        raise ValueError("nested deeper than stock clients decode")
    elif type(value) is list:
        message.list_value.SetInParent()
        values = message.list_value.values
        for each in value:
            put_document(values.add(), each, level + 2)
    else:
        message.struct_value.SetInParent()
        fields = message.struct_value.fields
        for key, each in value:
            if key in fields:
                raise ValueError("a duplicate key")
            put_document(fields[key], each, level + 3)


def enum_numbers(enum: EnumDescriptor) -> dict[str, int]:
    """Give AWS's words of an enum with their numbers, the unspecified one left out."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {each.name.removeprefix(prefix): each.number for each in enum.values[1:]}
