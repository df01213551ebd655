"""Rebuilds what AWS sent from a `Run` by the contract alone, and compares the two.

Nothing here uses the gateway's translation, so that the two can disagree.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from healthomics.v1.run_pb2 import Run

OWN_FIELDS = 1000  # fields from this number on aren't AWS's
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_HOUR, LAST_MINUTE = 23, 59
LEVELS_TO_TYPE = 32  # every client decodes a document of at most this many levels

Path: TypeAlias = tuple[str, ...]  # a member's name, after that of its structure


class Number(str):
    """A JSON number in its spelling."""

    __slots__ = ()


class Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object: its names, also duplicates, with their values."""

    __slots__ = ()


class Instant(NamedTuple):
    """A point in time, in nanoseconds since the epoch."""

    nanos: int


@dataclass(frozen=True)
class Kept:
    """A member's JSON text."""

    text: str


class AmbiguousError(ValueError):
    """The answer is ambiguous, so that what was sent can't be rebuilt."""


class Field(NamedTuple):
    """The typed field of a member."""

    kind: str
    descriptor: FieldDescriptor


def _fields(message: Descriptor) -> Iterator[tuple[Path, Field]]:
    for field in message.fields:
        if field.number >= OWN_FIELDS:
            continue
        kind = _kind(field)
        yield (field.json_name,), Field(kind, field)
        if kind == "structure":
            for path, inner in _fields(field.message_type):
                yield (field.json_name, *path), inner


def _kind(field: FieldDescriptor) -> str:
    inner = field.message_type
    if inner is None:
        kinds = {
            FieldDescriptor.TYPE_INT32: "integer",
            FieldDescriptor.TYPE_ENUM: "enum",
        }
        kind = kinds.get(field.type, "text")
        return "list" if field.is_repeated else kind
    if inner.GetOptions().map_entry:
        return "map"
    well_known = {Timestamp.DESCRIPTOR: "timestamp", Value.DESCRIPTOR: "document"}
    return well_known.get(inner, "structure")


FIELDS: Mapping[Path, Field] = dict(_fields(Run.DESCRIPTOR))
STRUCTURES = {path[0] for path, field in FIELDS.items() if field.kind == "structure"}


def words_of(field: FieldDescriptor) -> dict[str, int]:
    """Return AWS's words of an enum field, with their numbers."""
    unspecified, *values = field.enum_type.values
    prefix = unspecified.name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix): value.number for value in values}


def differences(sent: str, run: Run) -> list[str]:
    """Return where an answer breaks *typed means exact*; empty if nowhere."""
    try:
        answered = rebuilt(run)
    except AmbiguousError as error:
        return [str(error)]
    asked = sent_members(sent)
    found = [f"{path}: was never sent" for path in answered.keys() - asked.keys()]
    for path, text in asked.items():
        fault = _fault(FIELDS.get(path), text, answered.get(path))
        if fault:
            found.append(f"{path}: {fault}: {text[:200]}")
    if not decodes(run):
        found.append("a stock client can't decode it")
    return found


def _fault(field: Field | None, text: str, answered: Any) -> str | None:
    if isinstance(answered, Kept):
        if answered.text != text:
            return f"kept as another text, {answered.text[:200]}"
        if field and _fits(field, read(text)):
            return "kept, though its field can hold it"
        return None
    value = read(text)
    if answered is None:
        is_empty = field and (field.kind, value) in (("map", Pairs()), ("list", []))
        return None if is_empty else "neither typed nor kept"
    if field and field.kind == "timestamp":
        return None if instant(value) == answered else f"typed as {answered}"
    return None if _same(value, answered) else f"typed as {str(answered)[:200]}"


# ---- what was sent ----

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def sent_members(text: str) -> dict[Path, str]:
    """Return each member's path in the text of an answer, with its JSON text.

    Of duplicates the last one counts, and null counts as absent.
    """
    sent: dict[Path, str] = {}
    for name, value in dict(_members(text)).items():
        if name in STRUCTURES and value.startswith("{"):
            inner = dict(_members(value))
            sent |= {(name, below): each for below, each in inner.items()}
        else:
            sent[(name,)] = value
    return {path: value for path, value in sent.items() if value != "null"}


def _members(text: str) -> Iterator[tuple[str, str]]:
    depth, begin, name, last = 0, 0, "", None
    for token in _TOKEN.finditer(text):
        mark = token[0]
        depth -= mark in ("}", "]")
        if last and mark == ":" and depth == 1:
            name, begin = last[0], token.end()
        elif last and name and (mark, depth) in ((",", 1), ("}", 0)):
            yield json.loads(name), text[begin : last.end()].lstrip()
            name = ""
        depth += mark in ("{", "[")
        last = token


def read(text: str) -> Any:
    """Parse JSON; numbers and objects keep their spelling."""
    return json.loads(
        text, parse_int=Number, parse_float=Number, object_pairs_hook=Pairs
    )


# ---- what was answered ----


def rebuilt(run: Run) -> dict[Path, Any]:
    """Return each member of the answer, typed as parsed from JSON or `Kept`.

    Raises AmbiguousError if a member is there twice.
    """
    members = dict(_typed(run, ()))
    outer = {path[:1] for path in members if len(path) > 1}
    for entry, text in run.unmodeled_json.items():
        path = path_of(entry)
        if text == "null":
            raise AmbiguousError(f"{entry} is null, and there all the same")
        if path in members:
            raise AmbiguousError(f"{entry} is there twice")
        members[path] = Kept(text)
    whole = {path for path, each in members.items() if isinstance(each, Kept)}
    outer |= {path[:1] for path in members if len(path) > 1}
    if whole & outer:
        raise AmbiguousError(f"{whole & outer} are there whole and in parts")
    return members


def path_of(entry: str) -> Path:
    """Parse a name in `unmodeled_json`. Raises AmbiguousError if it is malformed."""
    head, dot, below = entry.partition(".")
    structure = (head,) if dot and head in STRUCTURES else ()
    written = below if structure else entry
    if not written.startswith('"'):
        return (*structure, written)
    name: str = json.loads(written)
    is_like_path = not structure and name.partition(".")[0] in STRUCTURES
    if not (_is_broken(name) or name.startswith('"') or (is_like_path and "." in name)):
        raise AmbiguousError(f"{entry} is a literal without need")
    return (*structure, name)


def _typed(message: Any, outer: Path) -> Iterator[tuple[Path, Any]]:
    for descriptor, value in message.ListFields():
        path = (*outer, descriptor.json_name)
        if path not in FIELDS:
            continue
        kind = FIELDS[path].kind
        if kind != "structure":
            yield path, _TREES[kind](descriptor, value)
            continue
        if not value.ListFields():
            raise AmbiguousError(f"{path} is set, and empty")
        yield from _typed(value, path)


_TREES = {
    "text": lambda _, value: value,
    "integer": lambda _, value: Number(value),
    "enum": lambda field, value: {
        number: word for word, number in words_of(field).items()
    }[value],
    "timestamp": lambda _, value: Instant(value.seconds * 10**9 + value.nanos),
    "map": lambda _, value: Pairs(value.items()),
    "list": lambda _, value: list(value),
    "document": lambda _, value: _tree(value),
}


def _tree(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "null_value":
            return None
        case "number_value":
            return Number(repr(value.number_value))
        case "struct_value":
            fields = value.struct_value.fields
            return Pairs((name, _tree(each)) for name, each in fields.items())
        case "list_value":
            return [_tree(each) for each in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            raise AmbiguousError("a document is set, and empty")


# ---- exactly ----


def _same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal as the contract defines it."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Number):
        return decimal(one) == decimal(other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Pairs):
        if len(one) != len(other) or dict(one).keys() != dict(other).keys():
            return False
        values = dict(other)
        return all(_same(each, values[name]) for name, each in one)
    return bool(one == other)


def decimal(number: Number) -> tuple[int, str, int]:
    """Return a number's sign, its digits without outer zeros, and their position."""
    mantissa, _, exponent = number.lower().removeprefix("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return 0, "", 0
    shift = int(exponent or "0") - len(fraction) + len(digits)
    return -1 if number.startswith("-") else 1, digits.rstrip("0"), shift


_RFC_3339 = re.compile(r"0000-00-00T00:00:00(\.0{1,9})?(Z|[+-]00:00)")  # in zeros


def instant(value: Any) -> Instant | None:
    """Parse RFC 3339, as far as a Timestamp can represent it."""
    if not isinstance(value, str):
        return None
    text = value.upper()
    match = _RFC_3339.fullmatch(re.sub("[0-9]", "0", text))
    if not match:
        return None
    numbers = [int(each) for each in re.findall("[0-9]+", text)]
    try:
        local = datetime(*numbers[:6], tzinfo=UTC)
        east = timedelta(hours=numbers[-2], minutes=numbers[-1])
        if match[2] == "Z":
            east = timedelta()
        elif numbers[-1] > LAST_MINUTE or numbers[-2] > LAST_HOUR:
            return None
        utc = local + east if text[-6] == "-" else local - east
    except (ValueError, OverflowError):  # no such day; before year 1, after 9999
        return None
    fraction = (match[1] and text[20 : 19 + len(match[1])]) or ""
    seconds = (utc - EPOCH) // timedelta(seconds=1)
    return Instant(seconds * 10**9 + int(fraction.ljust(9, "0")))


def _fits(field: Field, value: Any) -> bool:
    """Return whether a field can hold a value exactly, and therefore must."""
    if field.kind == "enum":
        return isinstance(value, str) and value in words_of(field.descriptor)
    return _FITS[field.kind](value)


def _is_carried(value: Any, levels: int) -> bool:
    """Return whether a Value represents a document exactly."""
    if isinstance(value, Number):
        double = float(value)
        return isfinite(double) and decimal(Number(repr(double))) == decimal(value)
    if isinstance(value, str):
        return _is_text(value)
    if not isinstance(value, list | Pairs):
        return True
    if not levels or not (isinstance(value, list) or _is_object(value)):
        return False
    values = value if isinstance(value, list) else [each for _, each in value]
    return all(_is_carried(each, levels - 1) for each in values)


def _is_object(value: Any) -> bool:
    """Return whether a value is an object whose names are text, without duplicates."""
    if not isinstance(value, Pairs):
        return False
    names = [name for name, _ in value]
    return all(map(_is_text, names)) and len(set(names)) == len(names)


def _is_text(value: Any) -> bool:
    return type(value) is str and not _is_broken(value)


def _is_broken(text: str) -> bool:
    """Return whether text has half a surrogate pair, so that it isn't Unicode."""
    return any("\ud800" <= each <= "\udfff" for each in text)


def _is_int32(number: Number) -> bool:
    sign, digits, shift = decimal(number)
    if shift > len(str(2**31)) or shift < len(digits):
        return False
    return -(2**31) <= sign * int(digits.ljust(shift, "0") or "0") < 2**31


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "text": _is_text,
    "integer": lambda value: isinstance(value, Number) and _is_int32(value),
    "timestamp": lambda value: instant(value) is not None,
    "map": lambda value: _is_object(value) and all(_is_text(text) for _, text in value),
    "list": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "document": lambda value: _is_carried(value, LEVELS_TO_TYPE),
    "structure": lambda value: isinstance(value, Pairs),
}


# ---- stock clients ----


def _message_around() -> type[Message]:
    file = FileDescriptorProto(
        name="around_run.proto", package="tests", dependency=[Run.DESCRIPTOR.file.name]
    )
    file.message_type.add(name="AroundRun").field.add(
        name="run",
        number=1,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=Run.DESCRIPTOR.full_name,
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    around = pool.FindMessageTypeByName("tests.AroundRun")
    return message_factory.GetMessageClass(around)


AroundRun: Any = _message_around()


def decodes(run: Run) -> bool:
    """Return whether a stock client decodes a run unchanged, also inside a message."""
    try:
        alone = Run.FromString(run.SerializeToString())
        inside = AroundRun.FromString(AroundRun(run=run).SerializeToString()).run
    except DecodeError:
        return False
    return alone == run == inside
