"""What each type of field takes, exactly: a parsed JSON value into a message.

The table of members and of enum words is the contract itself: a field is AWS's
member of the field's JSON name, an enum value is AWS's word behind the enum's
prefix. So a member becomes typed by adding its field to run.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.struct_pb2 import NullValue, Value

from healthomics_gateway.runs.source import FIRST_OWN_FIELD
from healthomics_gateway.upstream.exact_json import (
    Number,
    exact_double,
    exact_instant,
    exact_int32,
)

# Stock clients decode 100 levels of messages below the outermost one. One level
# is left to the message of a stream around the Run.
MAX_MESSAGE_LEVELS = 99

Path: TypeAlias = tuple[str, ...]  # of a member: its name, behind its structure's

# Puts a member's value into a message and answers the path of each part that it
# couldn't put. Raises ValueError, with the message as before, where it can't put
# the value exactly.
Put: TypeAlias = Callable[[Any, Any], Sequence[Path]]


def puts_of(message: Descriptor) -> dict[str, Put]:
    """Make the table of a message: AWS's name of each member, and how it is put."""
    return {
        field.json_name: _put_of(field)
        for field in message.fields
        if field.number < FIRST_OWN_FIELD
    }


def _put_of(field: FieldDescriptor) -> Put:
    name, message = field.name, field.message_type
    if field.enum_type:
        return enum(name, field.enum_type)
    if message is None and field.type == FieldDescriptor.TYPE_INT32:
        return integer(name)
    if message is None:
        return text_list(name) if field.is_repeated else text(name)
    if message.GetOptions().map_entry:
        return text_map(name)
    known = {
        "google.protobuf.Timestamp": timestamp,
        "google.protobuf.Value": document,
    }
    if message.full_name in known:
        return known[message.full_name](name)
    return structure(name, puts_of(message))


def put_members(
    message: Any, sent: Mapping[str, Any], puts: Mapping[str, Put]
) -> list[Path]:
    """Put what fits; answer the paths of the rest. Null counts as absent."""
    untyped: list[Path] = []
    for name, value in sent.items():
        if value is None:
            continue
        try:
            if rest := puts.get(name, _refuse)(message, value):
                untyped += [(name, *path) for path in rest]
        except ValueError:
            untyped.append((name,))
    return untyped


def _refuse(_message: Any, _value: Any) -> NoReturn:
    raise ValueError("not a member of the contract")


def text(name: str) -> Put:
    """Take text."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not str:
            raise ValueError("not text")
        if not value.isascii():
            value.encode()  # a lone surrogate raises before a structure is present
        setattr(message, name, value)
        return ()

    return put


def integer(name: str) -> Put:
    """Take an integer of 32 bits."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not Number:
            raise ValueError("not a number")
        setattr(message, name, exact_int32(value))
        return ()

    return put


def enum(name: str, descriptor: EnumDescriptor) -> Put:
    """Take one of the enum's words."""
    numbers = enum_numbers(descriptor)

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not str or value not in numbers:
            raise ValueError("not a word of the enum")
        setattr(message, name, numbers[value])
        return ()

    return put


def text_map(name: str) -> Put:
    """Take an object of texts without a duplicate key."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not tuple:
            raise ValueError("not a map")
        entries = {_checked_text(key): _checked_text(each) for key, each in value}
        if len(entries) < len(value):
            raise ValueError("a duplicate key")
        getattr(message, name).update(entries)
        return ()

    return put


def text_list(name: str) -> Put:
    """Take an array of texts."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not list:
            raise ValueError("not a list")
        if texts := [_checked_text(each) for each in value]:
            getattr(message, name).extend(texts)
        return ()

    return put


def structure(name: str, puts: Mapping[str, Put]) -> Put:
    """Take an object, member by member."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not tuple:
            raise ValueError("not a structure")
        return put_members(getattr(message, name), dict(value), puts)

    return put


def timestamp(name: str) -> Put:
    """Take an RFC 3339 timestamp."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        seconds, nanos = exact_instant(_checked_text(value))
        time = getattr(message, name)
        time.seconds, time.nanos = seconds, nanos
        return ()

    return put


def document(name: str) -> Put:
    """Take any JSON value that a `google.protobuf.Value` carries exactly."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        try:
            put_document(getattr(message, name), value)
        except ValueError:
            message.ClearField(name)
            raise
        return ()

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
    if type(value) is str:
        message.string_value = value
    elif type(value) is Number:
        message.number_value = exact_double(value)
    elif value is None:
        message.null_value = NullValue.NULL_VALUE
    elif type(value) is bool:
        message.bool_value = value
    elif type(value) is list:
        _put_array(message, value, level)
    else:
        _put_object(message, value, level)


def _put_array(message: Value, array: list[Any], level: int) -> None:
    _check_level(level + (2 if array else 1))
    message.list_value.SetInParent()
    values = message.list_value.values
    for each in array:
        put_document(values.add(), each, level + 2)


def _put_object(message: Value, members: tuple[Any, ...], level: int) -> None:
    _check_level(level + (3 if members else 1))
    message.struct_value.SetInParent()
    fields = message.struct_value.fields
    for key, each in members:
        if key in fields:
            raise ValueError("a duplicate key")
        put_document(fields[key], each, level + 3)


def _check_level(level: int) -> None:
    if level > MAX_MESSAGE_LEVELS:
        raise ValueError("nested deeper than stock clients decode")


def enum_numbers(enum: EnumDescriptor) -> dict[str, int]:
    """Give AWS's words of an enum with their numbers, the unspecified one left out."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {each.name.removeprefix(prefix): each.number for each in enum.values[1:]}
