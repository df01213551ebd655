"""The lines that a process writes to stderr."""

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

PRELUDE = """
import logging, sys, warnings
import structlog
from healthomics_gateway.telemetry.log_level import LogLevel
from healthomics_gateway.telemetry.log_setup import set_up_logging
level = LogLevel(sys.argv[1])
writer = set_up_logging(level=level, log_format=sys.argv[2])
log, library = structlog.get_logger("ours"), logging.getLogger("library")
"""
VALUES = {  # as they are logged, with what is read
    r"'a\nb\r\x1b[31m\x85\u2028c'": "a\nb\r\x1b[31m\x85\u2028c",
    r"'\ud800'": "\ud800",
    "2**70": 2**70,
    "b'x'": "b'x'",
    "ValueError('x')": "ValueError('x')",
    "{'a': [1, None]}": {"a": [1, None]},
    r"[2**70, b'x', '\ud800']": [2**70, "b'x'", "\ud800"],
}
EVENTS = f"""
log.warning("ours", code="OK", duration_ms=1.5)
library.warning("%s of %d", "theirs", 2)
log.info("ours\\nof two lines")
library.info("theirs\\nof two lines")
library.info("stack", stack_info=True)
warnings.warn("soon no more", UserWarning)
for each in [{", ".join(VALUES)}]:
    log.info("value", value=each)
def fail(secret):
    raise ValueError("it failed\\nin two lines")
for each in log, library:
    try:
        fail("canary" + "-of-a-local")
    except ValueError:
        each.exception("bug")
"""
LAST_WORDS = """
import threading
class Bad:
    def __del__(self):
        raise ValueError("in the end of an object")
Bad()
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
library.warning("%d", "no number")
raise KeyError("uncaught")
"""
LEVELS = """
for each in (log, library):
    each.debug("debug"); each.info("info"); each.warning("warning"); each.error("error")
for name in ("botocore", "botocore.auth", "boto3", "urllib3.connectionpool"):
    logging.getLogger(name).debug("canary")
    logging.getLogger(name).info("info of the SDK")
    logging.getLogger(name).warning("warning of the SDK")
"""
STALLED = """
from healthomics_gateway.interceptors import audit
for number in range(200):
    log.info("poll", number=number, text="x" * 8192)
for number in range(200):
    log.info("poll", number=number)
audit._log.info("call", text="x" * 8192)
print("stalled", flush=True)
writer.flush(20)
"""
FLOOD = """
for number in range(5000):
    log.info("poll", reason="METHOD_UNKNOWN", number=number)
    library.info("%d", number)
log.info("poll", reason="")
library.warning("another level")
"""


@cache
def written(script: str, *, level: str = "info", log_format: str = "json") -> str:
    """Run a script in a process of its own, and return its stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, level, log_format],
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert "" == done.stdout
    return done.stderr


def events(script: str = EVENTS, **how: str) -> list[dict[str, Any]]:
    """Return stderr, parsed as one JSON event a line."""
    *lines, rest = written(script, **how).split("\n")
    assert "" == rest
    return [json.loads(line) for line in lines]


def names(script: str = EVENTS, **how: str) -> list[str]:
    """Return the names of the events."""
    return [event["event"] for event in events(script, **how)]


def test_event_is_a_line_of_json() -> None:
    """An event has its name, its fields, its level and its time in UTC."""
    event = events()[0]
    time = datetime.fromisoformat(event["timestamp"])

    assert {
        "event": "ours",
        "level": "warning",
        "code": "OK",
        "duration_ms": 1.5,
        "timestamp": event["timestamp"],
    } == event
    assert timedelta(0) == time.utcoffset()
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=5)


def test_event_of_a_library_is_a_line_of_json() -> None:
    """Events that libraries log through `logging` have the same form."""
    event = events()[1]

    assert {"event", "level", "timestamp"} == event.keys()
    assert ("theirs of 2", "warning") == (event["event"], event["level"])


def test_event_of_two_lines_is_one_line_of_json() -> None:
    """A name that contains a newline is one event, a library's too."""
    assert ["ours\nof two lines", "theirs\nof two lines"] == names()[2:4]


def test_stack_of_a_library_stays_on_its_line() -> None:
    """A stack that a library logs is in its event."""
    (event,) = [each for each in events() if each["event"] == "stack"]

    assert event["stack_info"].startswith("Stack (most recent call last):\n")


def test_warning_is_a_line_of_json() -> None:
    """A warning of Python is an event."""
    (event,) = [each for each in events() if "soon no more" in each["event"]]

    assert "warning" == event["level"]


@pytest.mark.parametrize(("at", "expected"), list(enumerate(VALUES.values())))
def test_value_of_any_kind_stays_on_its_line(at: int, expected: Any) -> None:
    """No value breaks its line or the logging."""
    values = [each["value"] for each in events() if each["event"] == "value"]

    assert expected == values[at]


def test_exception_is_a_field_of_its_event() -> None:
    """A traceback is in its event, the gateway's or a library's."""
    bugs = [each for each in events() if each["event"] == "bug"]

    assert ["error", "error"] == [each["level"] for each in bugs]
    for each in bugs:
        assert each["exception"].startswith("Traceback (most recent call last):\n")
        assert each["exception"].endswith("\nValueError: it failed\nin two lines")


def test_uncaught_exceptions_are_events() -> None:
    """Uncaught exceptions, and errors of libraries in logging, are events."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + LAST_WORDS, "info", "json"],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    logged = [json.loads(line) for line in done.stderr.splitlines()]
    ends = [event.get("exception", "").rpartition("\n")[2] for event in logged]

    assert 1 == done.returncode
    assert [
        "ValueError: in the end of an object",
        "ZeroDivisionError: division by zero",
        "",
        "KeyError: 'uncaught'",
    ] == ends
    assert "%d % ('no number',)" == logged[2]["event"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_traceback_shows_no_values(log_format: str) -> None:
    """Local variables, which can hold credentials, aren't logged."""
    text = written(EVENTS, log_format=log_format)

    assert 2 == text.count("ValueError: it failed")
    assert "canary-of-a-local" not in text


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        pytest.param("debug", ["debug", "info", "warning", "error"], id="debug"),
        pytest.param("info", ["info", "warning", "error"], id="info"),
        pytest.param("warning", ["warning", "error"], id="warning"),
        pytest.param("error", ["error"], id="error"),
    ],
)
def test_level_leaves_out_what_is_below(level: str, expected: list[str]) -> None:
    """Events below the level aren't logged, the gateway's and those of libraries."""
    logged = [each for each in names(LEVELS, level=level) if "SDK" not in each]

    assert expected * 2 == logged


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        pytest.param("debug", ["info of the SDK", "warning of the SDK"], id="debug"),
        pytest.param("info", ["info of the SDK", "warning of the SDK"], id="info"),
        pytest.param("warning", ["warning of the SDK"], id="warning"),
        pytest.param("error", [], id="error"),
    ],
)
def test_sdk_is_never_at_debug(level: str, expected: list[str]) -> None:
    """The SDK's DEBUG events, which have tokens and bodies, are logged at no level."""
    logged = names(LEVELS, level=level)

    assert "canary" not in logged
    assert expected * 4 == [each for each in logged if "SDK" in each]


def test_sources_of_what_the_sdk_uses_are_not_logged() -> None:
    """They are no events of the gateway, and `check` shows them."""
    script = (
        "for name in ('credentials', 'configprovider'):\n"
        "    logging.getLogger(f'botocore.{name}').info('source')\n"
        "    logging.getLogger(f'botocore.{name}').warning('fault')\n"
    )

    assert ["fault", "fault"] == names(script)


def test_level_can_be_changed() -> None:
    """A changed level holds at once, also for loggers that are in use."""
    script = (
        "log.info('before'); library.info('before')\n"
        "level.set('error')\n"
        "log.warning('during'); library.warning('during')\n"
        "level.set('debug')\n"
        "log.debug('after'); library.debug('after')\n"
    )

    assert ["before", "before", "after", "after"] == names(script)


def test_each_printed_line_is_an_event() -> None:
    """A printed traceback is logged, and not written to stderr directly."""
    script = (
        "import contextlib\n"
        "from healthomics_gateway.telemetry.log_setup import Printed\n"
        "with contextlib.redirect_stderr(Printed()):\n"
        "    print('first', 1, file=sys.stderr)\n"
        "    print('second\\nthird', file=sys.stderr)\n"
    )

    assert ["first 1", "second", "third"] == names(script)


def test_endless_printed_line_takes_little_memory() -> None:
    """A part that is longer than a line is logged, and then forgotten."""
    script = (
        "import contextlib, sys\n"
        "from healthomics_gateway.telemetry.log_lines import MAX_LINE\n"
        "from healthomics_gateway.telemetry.log_setup import Printed\n"
        "with contextlib.redirect_stderr(Printed()):\n"
        "    print('x' * MAX_LINE, end='', file=sys.stderr)\n"
        "    print('yz', end='', file=sys.stderr)\n"
        "    print('end', file=sys.stderr)\n"
    )

    first, last = names(script)

    assert ("x", "end") == (first[0], last)


def test_traceback_of_the_sdk_is_not_written() -> None:
    """A refresh that fails repeatedly is one line each, without ARNs and paths."""
    script = (
        "import logging\n"
        "try:\n"
        "    raise ValueError('canary')\n"
        "except ValueError:\n"
        "    logging.getLogger('botocore.credentials').warning('x', exc_info=True)\n"
    )

    assert ["x"] == names(script)
    assert "canary" not in written(script)


def test_errors_of_clients_inside_grpc_are_not_logged() -> None:
    """A traceback of gRPC, which any client can cause, isn't logged."""
    script = (
        "import logging\n"
        "logging.getLogger('grpc._cython.cygrpc').error('Invalid encoding')\n"
        "logging.getLogger('other').error('other')\n"
    )

    assert ["other"] == names(script)


def test_text_is_readable() -> None:
    """The text format has level, event and fields, and no colours in a file."""
    text = written(LEVELS + "log.info('call', code='OK')", log_format="text")

    assert "[info     ] call" in text
    assert "code=OK" in text
    assert "\x1b" not in text


def test_auto_is_json_without_a_terminal() -> None:
    """In a pipe, `auto` is JSON."""
    assert names(LEVELS) == names(LEVELS, log_format="auto")


def test_auto_is_text_on_a_terminal() -> None:
    """On a terminal, `auto` is text."""
    ours, theirs = os.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", f"{PRELUDE}log.info('call')", "info", "auto"],
            stderr=theirs,
            check=True,
        )
        text = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert "call" in text
    assert not text.startswith("{")


@pytest.mark.guarantee("audit-log")
def test_audit_has_no_line_limit() -> None:
    """The event of every call is logged, at any number and any level."""
    audit = """
from healthomics_gateway.interceptors import audit
log = audit._log.bind()
for _ in range(5000):
    log.info("call", reason="TOKEN_MISSING")
"""
    written = events(audit, level="error")

    assert ["call"] * 5000 == [event["event"] for event in written]
    assert not any("left_out" in event for event in written)


def test_audit_waits_apart_from_other_lines() -> None:
    """Other lines that nothing reads don't take the audit log's space."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + STALLED, "info", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as program:
        assert program.stdout
        assert "stalled\n" == program.stdout.readline()
        _, err = program.communicate()
    events = [json.loads(line) for line in err.splitlines()]
    kinds = Counter(event["event"] for event in events)
    reports = [each for each in events if each["event"] == "log_lines_lost"]

    assert 1 == kinds["call"]
    assert 0 < sum(each["lost"] for each in reports) == 400 - kinds["poll"]
    assert {("warning", 0)} == {(each["level"], each["lost_audit"]) for each in reports}


@pytest.mark.guarantee("log-floods")
def test_flood_hides_no_other_kind() -> None:
    """A flood of one kind drops no line of another kind."""
    *flood, ours, theirs = events(FLOOD)
    kept = Counter(event["event"] == "poll" for event in flood)

    assert 0 < kept[True] <= 4000  # the flood may lie in two seconds
    assert 0 < kept[False] <= 4000
    assert ("poll", "", "another level") == (
        ours["event"],
        ours["reason"],
        theirs["event"],
    )
    left_out = sum(event.get("left_out", 0) for event in [*flood, ours])
    assert 10_000 == len(flood) + left_out


def test_line_that_is_too_long_has_its_values_cut() -> None:
    """The values of a long line are cut, and it remains one JSON event."""
    long = 'log.info("long", text="x" * 50_000, each=["y"] * 20_000, number=7)'
    (event,) = events(long)

    assert ("long", 7, "x" * 2048) == (event["event"], event["number"], event["text"])
    assert 2048 == len(event["each"])
    assert 16_384 >= len(written(long))
