"""The status page as HTML: for a person, without scripts or anything from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib.resources import files

from healthomics_gateway.app.statusz.chart import chart
from healthomics_gateway.app.statusz.errors import reason
from healthomics_gateway.app.statusz.markup import Child, Markup, element, table
from healthomics_gateway.app.statusz.shape import Setting, Snapshot
from healthomics_gateway.app.statusz.tables import (
    certificate_rows,
    part_rows,
    rule_rows,
    worker_rows,
)
from healthomics_gateway.app.statusz.texts import (
    count,
    percent,
    size,
    span,
)
from healthomics_gateway.services.readiness import UPSTREAM

STYLE = files(__package__).joinpath("style.css").read_text(encoding="utf-8").strip()
_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
POLICY = (  # nothing is loaded, and only this style is applied
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
RUN_BOOK = "docs/guide/operations.md#not-ready"
WORKERS = "worker", "state", "calls", "watches", "memory", "up", "restarts"
DOCTYPE = "<!doctype html>\n"


def page(state: Snapshot) -> str:
    """Return the whole page."""
    title = f"{headline(state)} - HealthOmics gateway on {state.host}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("title", title),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("style", Markup(STYLE)),
    )
    body = element("body", _header(state), element("main", *_sections(state)))
    return f"{DOCTYPE}{element('html', head, body, lang='en')}\n"


def headline(state: Snapshot) -> str:
    """Return the state of the gateway in a few words."""
    if not state.live:
        return "No new calls arrive"
    if state.draining:
        return "Shutting down"
    return "Ready" if state.ready else "Not ready"


def _header(state: Snapshot) -> Markup:
    kind = "good" if state.ready else "bad"
    why = element("code", state.reason) if state.reason else None
    return element(
        "header",
        element("h1", "HealthOmics gateway ", element("small", state.version)),
        element("p", element("strong", headline(state)), why, class_=f"state {kind}"),
        None if state.ready else _advice(),
        element(
            "p",
            f"On {state.host}, up {span(state.uptime_seconds)}, since"
            f" {state.started:%Y-%m-%d %H:%M} UTC. This page shows"
            f" {state.time:%H:%M:%S} UTC; reload it for newer values.",
        ),
        element(
            "nav",
            element("a", "as JSON", href="?format=json"),
            element("a", "/readyz", href="/readyz?verbose"),
            element("a", "/livez", href="/livez?verbose"),
            element("a", "/metrics", href="/metrics"),
        ),
    )


def _advice() -> Markup:
    return element(
        "p",
        "What to do: Health, below, says what is wrong; the run book is ",
        element("code", RUN_BOOK),
        ".",
    )


def _sections(state: Snapshot) -> Iterator[Markup]:
    yield _section(
        "Health",
        table(("part", "state", "ok means"), part_rows(state), class_="parts"),
    )
    if state.workers:
        yield _section("Workers", table(WORKERS, worker_rows(state)))
    yield _section("Now", _tiles(state))
    figures = (chart(each, at=at) for at, each in enumerate(state.quota, start=1))
    yield _section("Quota", *figures, _left_out(state, "quota"), _unsent(state))
    yield _section("Errors", *_errors(state))
    yield _section(
        "Credentials and certificates",
        table(("what", "state", "expires"), certificate_rows(state)),
        _left_out(state, "certificates"),
    )
    yield _section("Rules", *_rules(state))
    yield _section("Settings", *_settings(state))
    yield _section("Versions", _versions(state))


def _section(title: str, *children: Child) -> Markup:
    name = title.lower().replace(" ", "-")
    return element(
        "section", element("h2", title, id=name), *children, aria_labelledby=name
    )


def _tiles(state: Snapshot) -> Markup:
    calls, watches, cache = state.calls, state.watches, state.cache
    looked_up = cache.hits + cache.misses
    tiles = (
        ("calls under way", f"{calls.open:,}", f"of at most {calls.max_open:,}"),
        (
            "watches",
            f"{watches.open:,}",
            f"of {count(watches.runs, 'run', 'runs')}; at most {watches.max_open:,}",
        ),
        (
            "answers from the cache",
            percent(cache.hits, looked_up),
            f"of {count(looked_up, 'look-up', 'look-ups')}",
        ),
        (
            "cache",
            size(cache.bytes),
            f"of {size(cache.max_bytes)}; {count(cache.runs, 'run', 'runs')}",
        ),
    )
    items = (
        element(
            "div", element("dt", name), element("dd", value, element("small", more))
        )
        for name, value, more in tiles
    )
    return element("dl", *items, class_="tiles")


def _errors(state: Snapshot) -> Iterator[Markup]:
    if not state.errors.by_reason:
        yield element("p", "No call has failed since the start.")
        return
    yield element("p", "The last 20 failed calls, by reason.")
    yield from (reason(each, state) for each in state.errors.by_reason)


def _unsent(state: Snapshot) -> Markup | None:
    """Return why the charts may show fewer requests than the calls that failed."""
    if not any(each.name == UPSTREAM and each.fault for each in state.parts):
        return None
    text = (
        "The last attempts had no answer, see Health. An attempt that gets no"
        " connection sends no request: it isn't in a chart, and AWS doesn't count it."
    )
    return element("p", text)


def _rules(state: Snapshot) -> Iterator[Markup | None]:
    if not state.rules:
        yield element("p", "No rules are set: every caller that is accepted may call.")
        return
    yield element("p", "The first rule that matches a caller decides.")
    yield table(("rule", "methods", "calls"), rule_rows(state))
    yield _left_out(state, "rules")


def _settings(state: Snapshot) -> Iterator[Markup | None]:
    changed = [each for each in state.settings if not each.is_default]
    defaults = [each for each in state.settings if each.is_default]
    yield _setting_list(changed) if changed else element("p", "All are defaults.")
    title = count(len(defaults), "setting with its default", "settings with defaults")
    yield element("details", element("summary", title), _setting_list(defaults))
    yield _left_out(state, "settings")


def _setting_list(settings: Iterable[Setting]) -> Markup:
    items = (
        element(
            "div",
            element("dt", element("code", each.name)),
            element("dd", each.value or "not set"),
        )
        for each in settings
    )
    return element("dl", *items, class_="settings")


def _left_out(state: Snapshot, name: str) -> Markup | None:
    more = state.left_out.get(name)
    return element("p", f"{more:,} more aren't shown.") if more else None


def _versions(state: Snapshot) -> Markup:
    return element(
        "p",
        f"Gateway {state.version}, Python {state.python_version}, gRPC"
        f" {state.grpc_version}. Serving {', '.join(state.addresses)}; admin pages at"
        f" {state.admin_address}. HealthOmics in {state.region} at {state.endpoint}.",
    )
