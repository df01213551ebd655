"""Random answers of GetRun, as bytes that AWS could send, valid and unusual ones.

Everything is drawn from one `random.Random`, so that a seed reproduces an answer.
"""

import json
from collections.abc import Callable, Mapping
from random import Random

from testkit.rebuild import FIELDS, Field, Path, words_of

RUN_ID = "1234567"  # the run of all answers

HALVES = ("\ud800", "\udfff", "x\ud83dy", "\ude00\ud83d", "\ud800\U00010000")
TEXTS = (
    *("", "RUNNING", "s3://bucket/run", "arn:aws:omics:us-east-1:1:run/1", "0", "null"),
    *("Zoë exome, 第二次", "\U0001f9ec", "\x00", 'say "hi"', "C:\\temp"),
    *("a\tb\nc\r\x0c", "true"),
    *("\u2028\u2029", "\ufeff", "\ufffe\uffff", "\U0010ffff", "é", "e\u0301", "{}[],:"),
    *("2024-05-01T00:00:00Z", "x" * 300, "</script>", "\x7f", "\x1b[31m"),
)
NAMES = (
    *("newMember", "queuePosition", "log_level", "logLevel ", "Status", "", " ", "a.b"),
    *("unmodeledJson", "observeTime", "unmodeled_json", "observe_time", "0", "ключ"),
    *("logLocation.runLogStream", "logLocation.", "vpcConfig.a", "configuration", "."),
    *("tags.a", "status.x", 'vpcConfig."a"', '"', '"status"', "\\", "\x00"),
    *("__proto__", "message", "code", "\U0001f9ec", "logLocation", "tags"),
    *("parameters", "__types"),
)
PLAIN_NUMBERS = (
    *("0", "-0", "1", "-1", "7", "42", "100000", "2147483647", "-2147483648", "1.0"),
    *("1e2", "1E+2", "10e-1", "0.0", "-0.0", "0e5", "1200e-2", "12.50e1"),
)
DOUBLES = (
    *("0.1", "0.10", "1.5", "-2.75", "9007199254740991", "9007199254740992", "1e22"),
    *("1e23", "5e-324", "1.7976931348623157e308", "1e-7", "123456789012345", "3.14E0"),
    *("2147483648", "-2147483649", "0e99999999999999999999", "0.000e-9999999999"),
)
ODD_NUMBERS = (
    *("9007199254740993", "-9007199254740993", "18446744073709551616", "1e400"),
    *("-1e400", "123456789012345678901234567890", "1e-400", "4.9e-324"),
    *("0.1000000000000000055", "0.30000000000000001", "1e99999999999999999999"),
    *("1e-99999999999999999999", "3.141592653589793238", "2.2250738585072011e-308"),
    *("1e999999999", "0.1e-999999999"),
)
ODD_TIMES = (
    *("2024-05-01T00:00:00", "2024-05-01T00:00:60Z", "2024-05-01 00:00:00Z"),
    *("2024-05-01", "0000-05-01T00:00:00Z", "10000-01-01T00:00:00Z"),
    *("2024-05-01T24:00:00Z", "", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z"),
    *("2024-05-01T00:00:00+24:00", "2024-05-01T00:00:00+0100"),
    *("2024-05-01T00:00:00+01:60", "2024-05-01T00:00Z", "0001-01-01T00:00:00+00:01"),
    *("9999-12-31T23:59:59.999999999-00:01", "now", "2024-05-01T00:00:00.1234567890Z"),
    *("2024-05-01T00:00:00.Z", "2024-W18-3T00:00:00Z"),
    *("\uff12\uff10\uff12\uff14-05-01T00:00:00Z", "2024-05-01T00:00:00Z\n"),
    *(" 2024-05-01T00:00:00Z", "-2024-05-01T00:00:00Z", "2024-05-01T00:00:00,5Z"),
    *("2024-05-01T00:00:00ZZ", "2024-5-1T00:00:00Z", "2024-05-01T00:00:61Z"),
    *("1714521600", "2024-05-01T00:00:00 Z"),
)
ODD_WORDS = (
    *("ARCHIVING", "running", "UNSPECIFIED", "RUN_STATUS_RUNNING", "RUNNING ", "1"),
)

KNOWN: list[tuple[Path, Field]] = [
    each for each in FIELDS.items() if each[0] != ("id",)
]
TOP = [(path, field) for path, field in KNOWN if len(path) == 1]
NESTED = [(path, field) for path, field in KNOWN if len(path) > 1]


def answer(random: Random) -> bytes:
    """Return one answer about `RUN_ID`."""
    hostility = random.choice((0.0, 0.1, 0.1, 0.5, 1.0))
    fullness = random.choice((0.1, 0.4, 0.8))
    members = [
        (path[0], member(random, field, hostility))
        for path, field in TOP
        if random.random() < fullness
    ]
    members += others(random, hostility)
    random.shuffle(members)
    first = [("id", any_json(random))] if random.random() < hostility / 4 else []
    at = random.randint(0, len(members))
    members[at:at] = [*first, ("id", text(random, RUN_ID))]  # the last one counts
    return (blank(random) + an_object(random, members) + blank(random)).encode()


def member(random: Random, field: Field, hostility: float) -> str:
    """Return the value of a known member, of its type or of any other."""
    if random.random() >= hostility:
        return FRIENDLY[field.kind](random, field, hostility)
    if random.random() < 0.5:
        return any_json(random)
    return HOSTILE[field.kind](random, field)


def others(random: Random, hostility: float) -> list[tuple[str, str]]:
    """Return unknown members, and known ones a second time."""
    count = int(random.random() < 0.2 + hostility) * random.randint(0, 4)
    found = [(random.choice((*NAMES, *HALVES)), any_json(random)) for _ in range(count)]
    if random.random() < hostility / 2:
        path, field = random.choice(TOP)
        found.append((path[0], member(random, field, hostility)))
    if random.random() < hostility / 4:
        found.append(("__type", number(random)))  # a text would make it an error
    return found


# ---- of the right type ----


def a_text(random: Random, _field: Field, _hostility: float) -> str:
    """Return any text."""
    return text(random, random.choice(TEXTS))


def an_integer(random: Random, _field: Field, _hostility: float) -> str:
    """Return an integer of 32 bits, in one of its spellings."""
    return random.choice((*PLAIN_NUMBERS, str(random.randint(-(2**31), 2**31 - 1))))


def a_word(random: Random, field: Field, _hostility: float) -> str:
    """Return one of an enum's words."""
    return text(random, random.choice(list(words_of(field.descriptor))))


def a_time(random: Random, _field: Field, _hostility: float) -> str:
    """Return an RFC 3339 timestamp between the years 1 and 9999."""
    year = random.choice((2, 1969, 1970, 2024, random.randint(2, 9998), 9998))
    days = f"{year:04}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"
    clock = f"{random.randint(0, 23):02}:{random.choice(('00:00', '59:59', '07:42'))}"
    digits = random.choice((0, 0, 3, 6, random.randint(1, 9)))
    fraction = f".{random.randrange(10**digits):0{digits}}" if digits else ""
    zone = f"{random.choice('+-')}{random.randint(0, 23):02}:{random.randint(0, 59):02}"
    zone = random.choice(("Z", "Z", "z", "+00:00", "-00:00", zone))
    return text(random, f"{days}{random.choice('TTTt')}{clock}{fraction}{zone}")


def a_map(random: Random, _field: Field, _hostility: float) -> str:
    """Return a map of texts."""
    names = random.sample(TEXTS, random.choice((0, 1, 2, 5)))
    return an_object(random, [(each, text(random, each[::-1])) for each in names])


def a_list(random: Random, _field: Field, _hostility: float) -> str:
    """Return a list of texts."""
    texts = random.choices(TEXTS, k=random.choice((0, 1, 3)))
    return an_array(random, [text(random, each) for each in texts])


def a_structure(random: Random, field: Field, hostility: float) -> str:
    """Return a structure: known members, drawn like a run's, and some unknown ones."""
    outer = field.descriptor.json_name
    members = [
        (path[1], member(random, inner, hostility))
        for path, inner in NESTED
        if path[0] == outer and random.random() < 0.7
    ]
    members += others(random, hostility)
    random.shuffle(members)
    return an_object(random, members)


def a_document(random: Random, _field: Field, _hostility: float) -> str:
    """Return a document that a Value can represent."""
    return any_json(random, numbers=(*PLAIN_NUMBERS, *DOUBLES), texts=TEXTS)


FRIENDLY: Mapping[str, Callable[[Random, Field, float], str]] = {
    "text": a_text,
    "integer": an_integer,
    "enum": a_word,
    "timestamp": a_time,
    "map": a_map,
    "list": a_list,
    "structure": a_structure,
    "document": a_document,
}


# ---- of the right type at first sight ----


def an_odd_text(random: Random, _field: Field) -> str:
    """Return text that isn't Unicode."""
    return text(random, random.choice(HALVES))


def an_odd_integer(random: Random, _field: Field) -> str:
    """Return a number that isn't an integer of 32 bits, or just fits."""
    return random.choice(("1.5", "true", "2147483648", "-2147483649", number(random)))


def an_odd_word(random: Random, _field: Field) -> str:
    """Return a word that the enum doesn't have."""
    return text(random, random.choice(ODD_WORDS))


def an_odd_time(random: Random, _field: Field) -> str:
    """Return text that isn't a timestamp, or one that a Timestamp can't represent."""
    return random.choice((text(random, random.choice(ODD_TIMES)), number(random)))


def an_odd_map(random: Random, _field: Field) -> str:
    """Return a map with a value that isn't text, or with a duplicate name."""
    names = random.choices((*TEXTS, *HALVES), k=random.randint(1, 3))
    values = ("null", "1", "[]", text(random, random.choice(HALVES)))
    members = [(each, text(random, random.choice(TEXTS))) for each in names]
    members.append((random.choice(names), random.choice((*values, '"again"'))))
    return an_object(random, members)


def an_odd_list(random: Random, _field: Field) -> str:
    """Return a list with an entry that isn't text."""
    odd = (*("null", "1", "[]", "{}"), text(random, random.choice(HALVES)))
    values = [text(random, random.choice(TEXTS)), random.choice(odd)]
    return an_array(random, random.sample(values, 2))


def an_odd_document(random: Random, _field: Field) -> str:
    """Return a document that a Value can't represent, or a very deep one."""
    if random.random() < 0.5:
        return nested(random, random.choice((31, 32, 33, 34, 48, 49, 50, 51, 100, 400)))
    odd = (number(random), text(random, random.choice(HALVES)), '{"a":1,"a":1}')
    members = [(random.choice(TEXTS), random.choice(odd)) for _ in range(2)]
    return an_array(random, ["1", an_object(random, members)])


def an_odd_structure(random: Random, _field: Field) -> str:
    """Return a value that isn't a structure, or one without a known member."""
    unknown = an_object(random, [("newMember", any_json(random))])
    return random.choice(("[]", "{}", '""', "0", '{"runLogStream":null}', unknown))


HOSTILE: Mapping[str, Callable[[Random, Field], str]] = {
    "text": an_odd_text,
    "integer": an_odd_integer,
    "enum": an_odd_word,
    "timestamp": an_odd_time,
    "map": an_odd_map,
    "list": an_odd_list,
    "structure": an_odd_structure,
    "document": an_odd_document,
}


# ---- of any type ----


def any_json(
    random: Random,
    *,
    levels: int = 3,
    numbers: tuple[str, ...] | None = None,
    texts: tuple[str, ...] = (*TEXTS, *HALVES),
) -> str:
    """Return any JSON value of at most `levels` levels; names may be duplicates."""

    def value(levels: int) -> str:
        kind = random.random()
        if kind < 0.2:
            return random.choice(("null", "true", "false"))
        if kind < 0.4:
            return random.choice(numbers) if numbers else number(random)
        if kind < 0.7 or not levels:
            return text(random, random.choice(texts))
        values = [value(levels - 1) for _ in range(random.randint(0, 3))]
        if kind < 0.85:
            return an_array(random, values)
        names = random.sample(texts, len(values))
        return an_object(random, list(zip(names, values, strict=True)))

    return value(levels)


def number(random: Random) -> str:
    """Return any number, often one that is hard to represent."""
    if random.random() < 0.7:
        return random.choice((*PLAIN_NUMBERS, *DOUBLES, *ODD_NUMBERS))
    whole = str(random.randrange(10 ** random.randint(1, 40)))
    fraction = f".{random.randrange(10**9)}" if random.random() < 0.4 else ""
    sign, e = random.choice(("", "-")), random.choice(("e", "E", "e+", "e-"))
    power = f"{e}{random.randint(0, 330)}" if random.random() < 0.4 else ""
    return f"{sign}{whole}{fraction}{power}"


def nested(random: Random, levels: int) -> str:
    """Return a value inside this number of arrays and objects."""
    array, single = ("[", "]"), ('{"a":', "}")
    kinds = random.choice(((array, single), (array,), (single,)))
    brackets = random.choices(kinds, k=levels)
    opening, closing = zip(*brackets, strict=True)
    inmost = random.choice(("", "") if brackets[-1][0] == "[" else ("1", "null"))
    return "".join(opening) + inmost + "".join(reversed(closing))


# ---- spelling ----


def text(random: Random, value: str) -> str:
    """Return text in one of the spellings that JSON has."""
    style = random.random()
    if style < 0.5:
        return json.dumps(value)
    if style < 0.9 and value not in HALVES:
        slash = random.choice(("/", r"\/"))
        return json.dumps(value, ensure_ascii=False).replace("/", slash)
    units = value.encode("utf-16-be", "surrogatepass").hex(" ", 2).split()
    spelled = "".join(f"\\u{unit}" for unit in units)
    return f'"{spelled}"' if style < 0.95 else f'"{spelled.upper().replace("U", "u")}"'


def an_object(random: Random, members: list[tuple[str, str]]) -> str:
    """Return an object."""
    lines = [
        f"{blank(random)}{text(random, name)}{blank(random)}:{blank(random)}{value}"
        for name, value in members
    ]
    return f"{{{f'{blank(random)},'.join(lines)}{blank(random)}}}"


def an_array(random: Random, values: list[str]) -> str:
    """Return an array."""
    return f"[{f'{blank(random)},'.join(blank(random) + each for each in values)}]"


def blank(random: Random) -> str:
    """Return white space, mostly an empty string."""
    return random.choice((" ", "\n", "\t", "\r\n  ")) if random.random() < 0.1 else ""
