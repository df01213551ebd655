"""The kept corpus keeps the promises of the fuzzed parsers, and the program works."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from fuzz import fuzz
from fuzz.targets import TARGETS, classify, code, read_reply, translate
from healthomics.v1.run_pb2 import Run
from healthomics_gateway.errors.exceptions import Again, GatewayError
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.classify import answer_of, body_of
from healthomics_gateway.upstream.reply import Reply
from healthomics_gateway.upstream.translate import (
    AnotherRunError,
    ErrorAnswerError,
    MalformedAnswerError,
    run_from_json,
)

MAX_KEPT_BYTES = 2048  # bytes of an input, so that a person can read it
MAX_KEPT = 64  # inputs of a target, so that all of them run quickly


def kept(target: str) -> list[Path]:
    """Return the kept inputs of a target."""
    return sorted((fuzz.CORPUS / target).iterdir())


def broken_by(target: Callable[[bytes], None], files: list[Path]) -> dict[str, str]:
    """Run inputs and return the promise that each failing one breaks."""
    faults = {}
    for file in files:
        try:
            target(file.read_bytes())
        except AssertionError as fault:
            faults[file.name] = str(fault)
    return faults


# ---- the corpus ----


@pytest.mark.guarantee("fuzzed-readers")
@pytest.mark.parametrize("target", [pytest.param(name, id=name) for name in TARGETS])
def test_corpus_breaks_no_promise(target: str) -> None:
    """The parser keeps its promises for every kept input of a target."""
    files = kept(target)

    assert {} == broken_by(TARGETS[target], files)
    assert 0 < len(files) <= MAX_KEPT
    assert [] == [file for file in files if file.stat().st_size > MAX_KEPT_BYTES]


def test_corpus_has_a_folder_for_each_target() -> None:
    """The targets, the worker's targets and the corpus folders have the same names."""
    folders = {folder.name for folder in fuzz.CORPUS.iterdir()}

    assert set(TARGETS) == set(fuzz.TARGETS) == folders


# ---- planted bugs of the translation ----


def drop_unmodeled(body: bytes, *, run_id: str) -> Run:
    """Drop what isn't typed."""
    run = run_from_json(body, run_id=run_id)
    run.ClearField("unmodeled_json")
    return run


def normalize_json(body: bytes, *, run_id: str) -> Run:
    """Parse with Python's json, which rounds numbers and keeps each name once."""
    try:
        body = json.dumps(json.loads(body)).encode()
    except (ValueError, RecursionError):
        raise MalformedAnswerError from None
    return run_from_json(body, run_id=run_id)


def accept_any_run(body: bytes, *, run_id: str) -> Run:
    """Accept an answer about any run."""
    try:
        return run_from_json(body, run_id=run_id)
    except AnotherRunError:
        return Run(id=run_id)


def mistake_errors(body: bytes, *, run_id: str) -> Run:
    """Treat an error as an answer about another run."""
    try:
        return run_from_json(body, run_id=run_id)
    except ErrorAnswerError:
        raise AnotherRunError from None


def refuse_deep_json(body: bytes, *, run_id: str) -> Run:
    """Fail on deeply nested JSON."""
    if body.count(b"[") > 400:
        raise RecursionError
    return run_from_json(body, run_id=run_id)


def accept_invalid_utf8(body: bytes, *, run_id: str) -> Run:
    """Accept bytes that aren't UTF-8."""
    return run_from_json(body.decode(errors="replace").encode(), run_id=run_id)


def drop_fractions(body: bytes, *, run_id: str) -> Run:
    """Drop the fractions of seconds."""
    run = run_from_json(body, run_id=run_id)
    run.start_time.nanos = 0
    return run


# ---- planted bugs of the classification ----


def ignore_header(reply: Reply) -> bytes:
    """Ignore the header."""
    return read_reply(Reply(reply.status, CIMultiDict(), reply.body))


def accept_redirect(reply: Reply) -> bytes:
    """Treat a redirect as a success."""
    status = 200 if reply.status // 100 == 3 else reply.status
    return read_reply(Reply(status, reply.headers, reply.body))


def trust_bare_404(reply: Reply) -> bytes:
    """Treat every 404 as a run that doesn't exist."""
    if reply.status == 404:
        raise GatewayError(Reason.RUN_NOT_FOUND, answer=answer_of(reply))
    return read_reply(reply)


def report_odd_code(reply: Reply) -> bytes:
    """Report a code that isn't a plain word."""
    try:
        return read_reply(reply)
    except GatewayError as error:
        code = reply.headers.get("x-amzn-errortype", "")
        answer = replace(answer_of(reply), error_code=code)
        raise error.replace(answer=answer) from None


def reveal_message(reply: Reply) -> bytes:
    """Put AWS's message into the exception."""
    try:
        return read_reply(reply)
    except GatewayError as error:
        error.args = (error.debug or error.reason.name,)
        raise


def retry_all(reply: Reply) -> bytes:
    """Retry every failure."""
    try:
        return read_reply(reply)
    except GatewayError as error:
        raise error.replace(again=Again.YES) from None


def ignore_wait(reply: Reply) -> bytes:
    """Ignore the wait that AWS asks for."""
    try:
        return read_reply(reply)
    except GatewayError as error:
        error.aws_retry_after_seconds = None
        raise


def strip_body(reply: Reply) -> bytes:
    """Strip the body."""
    return read_reply(reply).strip()


def need_bytes(reply: Reply) -> bytes:
    """Fail unless the body is bytes."""
    return read_reply(Reply(reply.status, reply.headers, bytes(reply.body)))


# ---- planted bugs of the code's parser ----


def match_case(reply: Reply) -> bytes:
    """Look headers up in lower case only."""
    return body_of(Reply(reply.status, dict(reply.headers), reply.body))


def ignore_code(reply: Reply) -> bytes:
    """Ignore `code` in a body."""
    if isinstance(reply.body, bytes):
        body = reply.body.replace(b'"code"', b'"cod"')
        return body_of(Reply(reply.status, reply.headers, body))
    return body_of(reply)


def keep_namespace(reply: Reply) -> bytes:
    """Keep the namespace of a code."""
    headers = {name: each.replace("#", "") for name, each in reply.headers.items()}
    return body_of(Reply(reply.status, CIMultiDict(headers), reply.body))


@pytest.mark.guarantee("fuzzed-readers")
@pytest.mark.parametrize(
    ("target", "bug"),
    [
        *(
            pytest.param(translate, bug, id=bug.__name__)
            for bug in (
                *(drop_unmodeled, normalize_json, accept_any_run, mistake_errors),
                *(refuse_deep_json, accept_invalid_utf8, drop_fractions),
            )
        ),
        *(
            pytest.param(classify, bug, id=bug.__name__)
            for bug in (
                *(ignore_header, accept_redirect, trust_bare_404, report_odd_code),
                *(reveal_message, retry_all, ignore_wait, strip_body, need_bytes),
            )
        ),
        *(
            pytest.param(code, bug, id=bug.__name__)
            for bug in (match_case, ignore_code, keep_namespace)
        ),
    ],
)
def test_corpus_notices_a_planted_bug(
    target: Callable[..., None], bug: Callable[..., Any]
) -> None:
    """Some kept input finds each parser that breaks one promise."""
    assert broken_by(lambda data: target(data, bug), kept(target.__name__))


# ---- the program ----

# Fuzzes nothing, and reports a finding in one target.
WORKER = """
import sys
from pathlib import Path

target, dictionary, *options = sys.argv[1:]
print("INFO: nothing that anybody reads")
print("#512 NEW cov: 7 ft: 8 corp: 3/9b lim: 4 exec/s: 100", flush=True)
if target == "classify":
    [prefix] = [each[17:] for each in options if each.startswith("-artifact_prefix=")]
    Path(f"{prefix}crash-1").write_text("404")
    print("AssertionError: becomes another row")
    print(f"artifact_prefix='{prefix}'; Test unit written to {prefix}crash-1")
    sys.exit(77)
"""
FAKE = (sys.executable, "-c", WORKER)


def test_program_reports_a_finding_and_fuzzes_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finding is printed with its input and what to do with it; exit code 1."""
    found = tmp_path / "fuzz"
    arguments = ["classify", "translate"]

    assert 1 == fuzz.main(arguments, engine="json", worker=FAKE, found=found)

    output = capsys.readouterr().out
    crash = found / "classify/crash-1"
    assert crash.is_file()
    assert "AssertionError: becomes another row" in output
    assert "nothing that anybody reads" not in output
    assert f"{crash.name}'\nto keep it:" in output
    assert "tests/fuzz/corpus/classify/crash-1" in output
    assert output.index("classify: FOUND") < output.index("translate: 0 s, 512 inputs")
    assert output.endswith("broken: classify\n")


def test_program_reports_a_worker_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that fails without an input has found nothing; the exit code is 1."""
    failing = (sys.executable, "-c", "raise SystemExit('ImportError: no targets')")

    assert 1 == fuzz.main(["code"], engine="json", worker=failing, found=tmp_path)

    output = capsys.readouterr().out
    assert "code: FAILED, without an input (the worker ended with 1)" in output
    assert "ImportError: no targets" in output
    assert output.endswith("broken: code\n")


def test_program_reports_an_input_that_still_breaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An input that breaks a promise again ends with exit code 1 and the reason."""
    file = tmp_path / "code/crash-1"
    file.parent.mkdir()
    file.write_bytes(b"")
    failing = (sys.executable, "-c", "raise SystemExit('AssertionError: it breaks')")

    assert 1 == fuzz.main(["--replay", str(file)], replay=failing)

    output = capfd.readouterr()
    assert "AssertionError: it breaks\n" == output.err
    assert "code: crash-1 breaks a promise\n" == output.out


def test_program_reports_a_missing_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the engine nothing is fuzzed, and the program says how to install it."""
    missing = "no_such_engine"

    assert 2 == fuzz.main([], engine=missing, worker=FAKE, found=tmp_path)

    output = capsys.readouterr()
    assert "" == output.out
    assert f"fuzz: {missing} is missing: `make fuzz` installs it\n" == output.err
