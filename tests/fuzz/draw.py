"""Draws inputs in each target's format, which flipping bytes would rarely produce."""

import json
import re
from collections.abc import Callable, Mapping
from random import Random

from healthomics_gateway.upstream.reply import Failure
from testkit.answers import (
    HALVES,
    NAMES,
    ODD_TIMES,
    ODD_WORDS,
    RUN_ID,
    TEXTS,
    answer,
    any_json,
    nested,
    number,
)
from testkit.rebuild import FIELDS, words_of
from unit.upstream.test_classify import ROWS

MAX_BYTES = 4096  # of an input: larger numbers are beyond what the oracles can read

CODES = tuple(code for code, *_ in ROWS)
STATUSES = (200, 200, 206, 304, 400, 403, 404, 408, 429, 500, 503, 599, 100, 999)
WISHES = ("0", "1500", "-1", "abc", "9" * 400, "\u0661", "15 00", "")
IDS = ("0a1B-2c", "a" * 64, "a" * 65, "arn:aws:iam::1:role/canary_", "\x1b[31m")
SPELLINGS = ("{}", "aws.omics#{}", "{}:http://a.example/#b", " {} ", "a#b#{}:c", "{}\t")
ODD_CODES = ("", "#", ":", "Odd", "Odd_canary_", "A" * 65, "\u00d6dd", "404", "\udcff")
LITERAL = re.compile(rb'(?<=[:\[,])\s*("[^"\\]*"|[-0-9.eE+]+|true|false|null)')


def words(target: str) -> list[str]:
    """Return the words that the fuzzer may insert into any input of a target."""
    if target != "translate":
        return [*CODES, "x-amzn-errortype:", "x-amzn-requestid:", "x-amz-retry-after:"]
    names = {name for path in FIELDS for name in path}
    enums = {
        word
        for field in FIELDS.values()
        if field.kind == "enum"
        for word in words_of(field.descriptor)
    }
    texts = sorted({*names, *enums, *NAMES, *ODD_WORDS, *ODD_TIMES, *TEXTS, *HALVES})
    return [*map(json.dumps, texts), '"__type":', "null,", "[{", "1e400", "\\ud800"]


def changed(target: str, data: bytes, random: Random) -> bytes:
    """Replace one value in `data`, or draw another input."""
    literals = [*LITERAL.finditer(data)] if random.random() < 0.7 else []
    if target == "code" or not literals:
        return DRAWS[target](random)
    start, end = random.choice(literals).span(1)
    return data[:start] + a_value(random).encode() + data[end:]


def a_value(random: Random) -> str:
    """Return any JSON value, rarely a deep one."""
    kind = random.random()
    if kind < 0.3:
        return number(random)
    if kind < 0.6:
        return json.dumps(random.choice((*ODD_TIMES, *ODD_WORDS, *CODES, RUN_ID)))
    if kind < 0.95:
        return any_json(random)
    return nested(random, random.choice((31, 32, 33, 48, 49, 50, 98, 99, 100, 500)))


def a_code(random: Random) -> bytes:
    """Return a code as AWS spells it, or nearly so."""
    word = random.choice((*CODES, *ODD_CODES))
    return random.choice(SPELLINGS).format(word).encode("utf-8", "surrogateescape")


def a_reply(random: Random) -> bytes:
    """Return a reply: mostly an error of AWS, or nearly one."""
    head = [str(random.choice(STATUSES)).encode()]
    if random.random() < 0.15:
        head[0] += b" " + random.choice(list(Failure)).name.encode()
    if random.random() < 0.5:
        name = random.choice((b"x-amzn-errortype", b"X-Amzn-ErrorType"))
        head.append(name + b": " + a_code(random))
    if random.random() < 0.4:
        head.append(f"x-amz-retry-after: {random.choice(WISHES)}".encode())
    if random.random() < 0.4:
        head.append(f"x-amzn-requestid: {random.choice(IDS)}".encode())
    return b"\n".join(head) + b"\n\n" + a_body(random)


def a_body(random: Random) -> bytes:
    """Return the body of an error, of a run or of a proxy's page."""
    kind = random.random()
    if kind < 0.2:
        return random.choice((b"", b"<html>canary_</html>", b"[]", b"null", b"\xff{}"))
    if kind < 0.4:
        return answer(random)
    members = {
        name: random.choice(
            (a_code(random).decode("utf-8", "replace"), 5, None, "", [])
        )
        for name in ("__type", "code", "message", "Message", "canary_")
        if random.random() < 0.5
    }
    if random.random() < 0.5:
        members["id"] = RUN_ID
    return json.dumps(members).encode()


def a_text(random: Random) -> str:
    """Return one of AWS's words, or any text."""
    return random.choice((*TEXTS, "User: arn:aws:sts::1:role/canary_ is not allowed"))


DRAWS: Mapping[str, Callable[[Random], bytes]] = {
    "translate": answer,
    "classify": a_reply,
    "code": a_code,
}
