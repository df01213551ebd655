"""The status page as HTML: what it shows, escaped, valid, and from nowhere else."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from healthomics_gateway.app.statusz import shape
from healthomics_gateway.app.statusz.bounds import (
    MAX_ACCOUNTS,
    MAX_CERTIFICATES,
    MAX_ITEMS,
    MAX_TEXT,
)
from healthomics_gateway.app.statusz.chart import TICKS, ticks
from healthomics_gateway.app.statusz.markup import SHAPES, VOID
from healthomics_gateway.app.statusz.page import POLICY, RUN_BOOK, STYLE, headline, page
from healthomics_gateway.app.statusz.rendering import as_html, as_json
from healthomics_gateway.telemetry.recent import (
    MAX_ERRORS,
    MAX_REASONS,
    SLOTS,
    ReasonCount,
)
from testkit.snapshots import (
    HOSTILE,
    LIMS,
    at_rest,
    certificate,
    error,
    errors,
    hostile,
    loaded,
    quota,
    slot,
    with_faults,
)
from testkit.tools import require

STATES = {
    "rest": at_rest(),
    "load": loaded(),
    "faults": with_faults(),
    "hostile": hostile(),
}
LOADING = {"action", "background", "data", "href", "poster", "src", "srcset", "style"}

each_state = pytest.mark.parametrize(
    "state", [pytest.param(state, id=name) for name, state in STATES.items()]
)


class Reader(HTMLParser):
    """Reads a page strictly: each element ends where it must."""

    def __init__(self, text: str) -> None:
        """Read the text."""
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element without content, which only SVG has."""
        assert tag in SHAPES
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        """Check that it is the innermost element that ends."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.texts.append(data)

    @property
    def text(self) -> str:
        """The visible text, and that of the head, as one line."""
        return " ".join(" ".join(self.texts).split())


@each_state
def test_page_has_nothing_from_elsewhere(state: shape.Snapshot) -> None:
    """No element loads or runs anything, and no link leaves the admin address."""
    read = Reader(page(state))
    links = {value for name, value in read.attributes if name in LOADING}

    expected = {"?format=json", "/readyz?verbose", "/livez?verbose", "/metrics"}
    assert expected == links
    assert not {"script", "img", "link", "iframe", "object"} & set(read.names)
    assert [] == [name for name, _ in read.attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import|//", STYLE)


@pytest.mark.guarantee("status-page")
def test_every_text_is_escaped() -> None:
    """A hostile text is shown as it is, wherever it stands, and is never HTML."""
    text = page(hostile())
    read = Reader(text)

    assert "<script" not in text
    assert "<img" not in text
    assert 20 < read.text.count(HOSTILE)
    assert set(read.names) <= set(Reader(page(with_faults())).names) | {"ul", "li"}


def test_policy_allows_the_page_its_own_style_only() -> None:
    """The hash is that of the style as the page has it."""
    assert f"<style>{STYLE}</style>" in page(at_rest())
    assert POLICY.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in POLICY


def words_of(state: shape.Snapshot) -> str:
    """Return the text of a page."""
    return Reader(page(state)).text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({}, "Ready", id="ready"),
        pytest.param({"ready": False}, "Not ready", id="unready"),
        pytest.param({"ready": False, "draining": True}, "Shutting down", id="drain"),
        pytest.param(
            {"ready": False, "draining": True, "live": False},
            "No new calls arrive",
            id="dead",
        ),
    ],
)
def test_headline_is_the_state(changes: dict[str, bool], words: str) -> None:
    """The title and the first line say how the gateway is."""
    state = at_rest(**changes)

    assert words == headline(state)
    assert f"<title>{words} - HealthOmics gateway on pod-1</title>" in page(state)
    assert f"<strong>{words}</strong>" in page(state)


def test_gateway_at_rest_shows_that_nothing_has_failed() -> None:
    """Without calls, errors and rules the page says so."""
    text = words_of(at_rest())

    for words in (
        "up 2h 5m, since 2026-11-29 10:25 UTC",
        "No call has failed since the start.",
        "No rules are set",
        "All are defaults.",
        "no expiry known",
        "In the last 15s: 0 requests sent to HealthOmics, 0 % of what the quota",
    ):
        assert words in text


def test_gateway_at_work_shows_its_figures() -> None:
    """The page has the figures of each part."""
    text = words_of(loaded())

    for words in (
        "12 of at most 8,192",
        "1,200 of 40 runs; at most 10,000",
        "90 % of 100 look-ups",
        "5 MiB of 64 MiB; 1 run",
        "Quota of the gateway's own account",
        "Quota of account 210987654321",
        "AWS throttled 1 request.",
        "requests in each 15 s",
        "allowed (120 in 15 s: 8 a second)",
        "The rate is lowered to 5.6 a second at the moment.",
        "3 calls wait for a turn.",
        "1 poll waits for a turn.",
        "no rule applies, or the identity isn't proven denied 0",
        "in 1h 0m 13:30:00 UTC",
        "in 90d 0h 2027-02-27 12:30:00 UTC",
        "2 keys",
        "worker 1 process 4201 ready 12 1,200 90 MiB 2h 5m 0",
        "Other gateways share the quota; their requests aren't counted here.",
        "read 1m 0s ago; read again in 4m 0s",
        f"rule 1 (callers[0]): {LIMS} GetRun 1,234",
        "rule 2 (callers[1]) none 0",
        "1,000 more aren't shown.",
        "log.level debug",
        "jwt.issuer not set",
        "1 setting with its default",
    ):
        assert words in text


def test_single_process_has_no_section_of_workers() -> None:
    """Workers are shown only if there are several processes."""
    assert "restarts" not in words_of(at_rest())
    assert 'id="workers"' not in page(at_rest())


def test_errors_are_grouped_by_reason() -> None:
    """Each reason has its count and its calls, with time, method and request id."""
    older = error(request_id="older", method="")
    newest = (error(request_id="newer"), error("TOKEN_MISSING"), older)
    counts = [ReasonCount(count=7, last=newest[0])]
    counts += [ReasonCount(count=1, last=each) for each in newest[1:2]]
    counts.append(ReasonCount(count=3, last=error("RARE", request_id="rare")))
    state = shape.ErrorState(by_reason=counts, newest=newest)
    text = words_of(at_rest(errors=state))
    columns = "when method request id"

    first = text.index("RUN_NOT_FOUND NOT_FOUND, 7 since the start")
    second = text.index("TOKEN_MISSING NOT_FOUND, 1 since the start")
    assert (
        first
        < text.index(f"{columns} 5s ago 12:29:55 UTC GetRun newer")
        < text.index("unknown method older")
        < second
    )
    assert "GetRun rare" in text  # its last call, though it isn't among the newest


def test_errors_have_their_callers_if_these_are_shown() -> None:
    """Without identities there is no column of callers."""
    hidden, shown = (
        words_of(at_rest(errors=errors(error(identity=each)))) for each in (None, "me")
    )

    assert "request id caller 5s ago 12:29:55 UTC GetRun 0a1b2c me" in shown
    assert "caller 5s ago" not in hidden


def test_gateway_with_faults_shows_each() -> None:
    """Each part says what is wrong with it."""
    text = words_of(with_faults())

    for words in (
        "Not ready UPSTREAM_CONNECTION What to do: Health, below, says what is wrong",
        f"the run book is {RUN_BOOK} .",
        "An attempt that gets no connection sends no request",
        "not ready UPSTREAM_CONNECTION: no answer in 33 s",
        "fault 12 lines lost",
        "worker 1 process 4201 not ready UPSTREAM_CONNECTION 12",
        "worker 2 not running not ready is starting again (ended by SIGKILL) unknown",
        "worker 3 process 4203 fault hasn't answered for 7 s",
        "not usable",
        "expires soon",
        "expired",
        "tls.cert_file: it isn't PEM",
        "not read status 401",
    ):
        assert words in text


def test_old_keys_that_are_still_used_are_a_fault() -> None:
    """If the last read of the keys failed, the page says which keys are used."""
    keys = shape.KeyState(keys=2, age_seconds=1.0, due_seconds=1.0, fault="status 500")

    assert "fault status 500; 2 keys still used" in words_of(at_rest(keys=keys))


def test_chart_has_its_facts_as_text() -> None:
    """The drawing has a title and a description, and a bar for each slot with calls."""
    slots = slot(2, used=60), slot(1, throttled=2, rate=4.0), slot(0, used=240)
    text = page(at_rest(quota=[quota(*slots)]))

    assert 1 == text.count('<svg viewBox="0 0 60 100"')
    assert 'aria-labelledby="chart-1-title" aria-describedby="chart-1-text"' in text
    assert '<title id="chart-1-title">Quota of the gateway&#x27;s own account' in text
    assert '<desc id="chart-1-text">In the last 45s: 300 requests sent' in text
    assert [1, 1, 1] == [
        text.count(f'class="{kind}"/>') for kind in ("used", "now", "throttled")
    ]
    # 16 calls a second are the most; the top is a tenth above it.
    assert '<path d="M57 54.55H58V77.27H59V54.55H60" class="limit"' in text
    assert 1 == text.count('<svg class="scale" aria-hidden="true"><line x1="3rem"')
    # 264 requests in 15 s are the top: the mark of 200 is 64/264 below it.
    assert '<text x="2.6rem" y="24.24%">200</text>' in text
    assert '<rect x="59.1" y="9.09" width="0.8" height="90.91" class="now"/>' in text


def longest() -> shape.Snapshot:
    """Return a state with as many items as are shown, of the longest texts."""
    longest_text = "'" * MAX_TEXT  # as HTML six bytes each
    slots = [
        slot(at, used=at, throttled=1, rate=8.0 - at / 100)
        for at in reversed(range(SLOTS))
    ]
    accounts = [f"{at:012}" for at in range(MAX_ACCOUNTS)]
    rules = [
        shape.RuleState(
            rule=at, identity=longest_text, methods=["GetRun", "WatchRun"], calls=10**9
        )
        for at in range(MAX_ITEMS)
    ]
    settings = [
        shape.Setting(
            name=f"callers[{at}].identity", value=longest_text, is_default=False
        )
        for at in range(MAX_ITEMS)
    ]
    calls = [error(f"R{at}", identity=longest_text) for at in range(MAX_REASONS)]
    certificates = [
        replace(each, fault=longest_text)
        for each in list(loaded().certificates[:1]) * MAX_CERTIFICATES
    ]
    return loaded(
        certificates=certificates,
        quota=[quota(*slots, account=each) for each in accounts],
        rules=rules,
        settings=settings,
        errors=shape.ErrorState(
            by_reason=[ReasonCount(10**9, each) for each in calls],
            newest=calls[:MAX_ERRORS],
        ),
    )


def test_longest_page_is_bounded() -> None:
    """With everything that is shown, it is below 4 MiB in each format."""
    state = longest()

    assert len(as_html(state)) < 4 * 2**20
    assert len(as_json(state)) < 4 * 2**20


def test_page_is_valid_html(tmp_path: Path) -> None:
    """The Nu validator finds no error and no warning in HTML, SVG and style."""
    java, validator = require("java"), require("vnu.jar")
    files = [tmp_path / f"{name}.html" for name in STATES]
    for file, state in zip(files, STATES.values(), strict=True):
        file.write_text(page(state), encoding="utf-8")
    command = [java, "-jar", validator, "--also-check-css", *files]
    found = subprocess.run(command, capture_output=True, text=True, check=False)

    about = [each for each in found.stderr.splitlines() if str(tmp_path) in each]
    assert (0, []) == (found.returncode, about)


def test_certificate_is_due_two_weeks_before_its_end() -> None:
    """A certificate that should have been renewed stands out."""
    day = 86_400.0
    text = [
        words_of(at_rest(certificates=[certificate(days * day)])) for days in (13, 15)
    ]

    assert [True, False] == ["expires soon" in each for each in text]


@given(st.floats(1e-3, 1e6))
@example(132.0)
def test_scale_has_few_round_numbers(top: float) -> None:
    """There are two to four marks, none above the top, and none much below it."""
    found = ticks(top)

    assert 2 <= len(found) <= TICKS
    assert max(found) <= top < max(found) + 1.001 * found[0]
