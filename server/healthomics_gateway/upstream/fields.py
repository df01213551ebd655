"""Functions that put a parsed JSON value into a field, exactly or not at all.

The descriptor of the message is the table: a field's JSON name is the name of AWS's
member, and an enum value without the enum's prefix is AWS's word. So a member becomes
typed by adding its field to run.proto.
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

# Standard clients decode 100 levels of messages below the outermost one. One level is
# kept for the message of a stream around the Run.
MAX_MESSAGE_LEVELS = 99

Path: TypeAlias = tuple[
    str, ...
]  # of a member: the name of its structure, if any, then its own

# Puts a member's value into a message and returns the path of each part that didn't
# fit. Raises ValueError, and leaves the message unchanged, if it can't put it exactly.
Put: TypeAlias = Callable[[Any, Any], Sequence[Path]]


def puts_of(message: Descriptor) -> dict[str, Put]:
    """Return the table of a message: AWS's name of each member, and its function."""
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
    """Put the members that fit, and return the paths of the rest. Null is skipped."""
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
    """Return a function that puts text."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not str:
            raise ValueError("not text")
        if not value.isascii():
            value.encode()  # raises for a lone surrogate, before a structure is set
        setattr(message, name, value)
        return ()

    return put


def integer(name: str) -> Put:
    """Return a function that puts an integer of 32 bits."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not Number:
            raise ValueError("not a number")
        setattr(message, name, exact_int32(value))
        return ()

    return put


def enum(name: str, descriptor: EnumDescriptor) -> Put:
    """Return a function that puts one of the enum's words."""
    numbers = enum_numbers(descriptor)

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not str or value not in numbers:
            raise ValueError("not a word of the enum")
        setattr(message, name, numbers[value])
        return ()

    return put


def text_map(name: str) -> Put:
    """Return a function that puts an object of texts without duplicate keys."""

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
    """Return a function that puts an array of texts."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not list:
            raise ValueError("not a list")
        if texts := [_checked_text(each) for each in value]:
            getattr(message, name).extend(texts)
        return ()

    return put


def structure(name: str, puts: Mapping[str, Put]) -> Put:
    """Return a function that puts an object, each member by itself."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        if type(value) is not tuple:
            raise ValueError("not a structure")
        return put_members(getattr(message, name), dict(value), puts)

    return put


def timestamp(name: str) -> Put:
    """Return a function that puts an RFC 3339 timestamp."""

    def put(message: Any, value: Any) -> Sequence[Path]:
        seconds, nanos = exact_instant(_checked_text(value))
        time = getattr(message, name)
        time.seconds, time.nanos = seconds, nanos
        return ()

    return put


def document(name: str) -> Put:
    """Return a function that puts any JSON value that a `Value` represents exactly."""

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
        value.encode()  # raises UnicodeEncodeError, a ValueError, for a lone surrogate
    return value


def put_document(message: Value, value: Any, level: int = 1) -> None:
    """Put any parsed JSON value into a `Value` that is `level` levels below the Run.

    Raises ValueError, and leaves the message half filled, if that can't be exact.
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
        raise ValueError("nested deeper than standard clients decode")


def enum_numbers(enum: EnumDescriptor) -> dict[str, int]:
    """Return AWS's words of an enum with their numbers, without the unspecified one."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {each.name.removeprefix(prefix): each.number for each in enum.values[1:]}
