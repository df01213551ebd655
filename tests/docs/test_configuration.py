"""docs/guide/configuration.md agrees with the settings."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import trustme
from pydantic import BaseModel

from healthomics_gateway.durations import duration_text, parse_duration
from healthomics_gateway.settings.effective import rows
from healthomics_gateway.settings.environment import OF_KUBERNETES, PREFIX, variable_of
from healthomics_gateway.settings.load import Loaded, SettingsError, load
from healthomics_gateway.settings.schema import CallerRule, Settings
from healthomics_gateway.settings.sources import leaves

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "guide" / "configuration.md").read_text()

SECRETS = "/etc/healthomics-gateway"  # the folder of the example's certificate
# What must also be set, because the setting's bound alone would contradict another.
COMPANIONS = {
    "upstream.attempt_timeout": {"GATEWAY_UPSTREAM__CONNECT_TIMEOUT": "100ms"},
    "upstream.connect_timeout": {"GATEWAY_UPSTREAM__ATTEMPT_TIMEOUT": "2m"},
    "cache.max_staleness": {"GATEWAY_CACHE__MAX_STALENESS_LIMIT": "1h"},
}


def table() -> dict[str, list[str]]:
    """Return the row of each setting: variable, default, range and meaning."""
    found = {}
    for line in DOC.splitlines():
        if re.match(rf"\| `[\w.]+` \| `{PREFIX}", line):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            found[name.strip("`")] = cells
    return found


def words(cell: str) -> list[str]:
    """Return the words that a cell writes in code font."""
    return re.findall(r"`([^`]+)`", cell)


def block(language: str) -> str:
    """Return the page's example in a language."""
    match = re.search(rf"```{language}\n(.*?)```", DOC, re.DOTALL)
    assert match
    return match[1]


def annotation_of(name: str) -> Any:
    """Return the declared type of a setting."""
    model: Any = Settings
    *outer, last = name.split(".")
    for each in outer:
        model = model.model_fields[each].annotation
    assert issubclass(model, BaseModel)
    return model.model_fields[last].annotation


def loaded(environ: Mapping[str, str]) -> Loaded:
    """Load settings from the environment alone."""
    return load(flags={}, environ=environ)


def faults_with(name: str, value: str) -> list[str]:
    """Return the faults of one setting's value, as an operator sees them."""
    try:
        loaded({variable_of(name): value, **COMPANIONS.get(name, {})})
    except SettingsError as error:
        return list(error.args)
    return []


TABLE = table()
NAMES = [name for name, value in leaves(Settings()) if type(value) is not tuple]
RANGED = [name for name in NAMES if annotation_of(name) in (int, float, timedelta)]
CHOSEN = [
    name
    for name in NAMES
    if get_origin(annotation_of(name)) is Literal or annotation_of(name) is bool
]


def test_settings_have_a_row_each() -> None:
    """The table lists every setting, in the order of the code, and nothing else."""
    assert NAMES == list(TABLE)


def test_settings_have_their_variables() -> None:
    """The table names each setting's variable."""
    variables = {name: words(cells[0]) for name, cells in TABLE.items()}

    assert {name: [variable_of(name)] for name in NAMES} == variables


def test_settings_have_their_defaults() -> None:
    """The table has each default as `healthomics-gateway settings` prints it."""
    defaults = {name: words(cells[1]) for name, cells in TABLE.items()}
    written = rows(loaded({}))

    assert {name: [value] if value else [] for name, value, _ in written} == defaults


@pytest.mark.parametrize("name", RANGED)
def test_setting_accepts_its_range_and_no_more(name: str) -> None:
    """A setting accepts both ends of the range in the table, and nothing beyond."""
    low, high = words(TABLE[name][2])
    if annotation_of(name) is int:
        below, above = str(int(low) - 1), str(int(high) + 1)
    elif annotation_of(name) is float:
        below, above = str(float(low) - 0.01), str(float(high) + 0.01)
    else:
        step = timedelta(milliseconds=1)
        below = duration_text(parse_duration(low) - step)
        above = duration_text(parse_duration(high) + step)

    assert [] == faults_with(name, low)
    assert [] == faults_with(name, high)
    for beyond in (below, above):
        faults = faults_with(name, beyond)
        assert [fault for fault in faults if fault.startswith(variable_of(name))]


@pytest.mark.parametrize("name", CHOSEN)
def test_setting_accepts_its_words_and_no_more(name: str) -> None:
    """A setting accepts each of its words, and the table lists them all."""
    listed = words(TABLE[name][2])
    declared = get_args(annotation_of(name)) or ("true", "false")

    def faults_of(word: str) -> list[str]:
        faults = faults_with(name, word)
        return [fault for fault in faults if fault.startswith(variable_of(name))]

    assert list(declared) == listed
    assert {word: [] for word in listed} == {word: faults_of(word) for word in listed}
    assert faults_of("other")


def test_settings_of_a_bounded_kind_have_a_range() -> None:
    """Settings other than numbers, durations and choices have a range in words."""
    unbounded = {name: TABLE[name][2] for name in NAMES if name not in RANGED + CHOSEN}

    assert {
        *("an address", "AWS's member names", "a file", "a text", "audiences"),
        TABLE["open_services"][2],
        TABLE["jwt.algorithms"][2],
    } == set(unbounded.values())


@pytest.mark.parametrize("name", ["open_services", "jwt.algorithms"])
def test_list_of_words_accepts_each_and_no_more(name: str) -> None:
    """The table lists all words of a list, and the gateway accepts no other."""
    listed = words(TABLE[name][2])

    assert {word: [] for word in listed} == {
        word: [fault for fault in faults_with(name, word) if name in fault]
        for word in listed
    }
    (fault,) = faults_with(name, "other")
    assert fault.endswith(" or ".join(["", repr(listed[-1])]))
    assert all(repr(word) in fault for word in listed)


def test_rules_have_a_row_for_each_key() -> None:
    """The page explains every key of a rule, in the order of the code."""
    found = re.search(r"\| key \| default.*?\n\n", DOC, re.DOTALL)
    assert found
    keys = re.findall(r"^\| `(\w+)`", found[0], re.MULTILINE)

    assert list(CallerRule.model_fields) == keys


def test_example_rule_is_accepted(tmp_path: Path) -> None:
    """The page's example rule is accepted and sets every key."""
    file = tmp_path / "gateway.toml"
    example = re.search(r"```toml\n(\[\[callers.*?)```", DOC, re.DOTALL)
    assert example
    file.write_text(example[1].replace("spiffe://corp/ns/lims/*", "anonymous"))
    (rule,) = load(flags={}, environ={}, config_file=file).settings.callers

    assert set(CallerRule.model_fields) == rule.model_fields_set


def test_example_file_loads(tmp_path: Path) -> None:
    """The gateway accepts the page's TOML, and every setting in it takes effect."""
    authority = trustme.CA()
    pair = authority.issue_cert("gateway.example.com")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")
    pair.private_key_pem.write_to_path(tmp_path / "tls.key")
    file = tmp_path / "gateway.toml"
    file.write_text(block("toml").replace(SECRETS, str(tmp_path)))

    settings = load(flags={}, environ={}, config_file=file)

    changed = [name for name, _, origin in rows(settings) if origin != "default"]
    defaults = dict(leaves(Settings()))
    values = dict(leaves(settings.settings))
    assert len(block("toml").split("=")) - 1 == len(changed)
    assert [] == [name for name in changed if values[name] == defaults[name]]


def test_example_environment_says_what_the_example_file_says(tmp_path: Path) -> None:
    """The page's variables set the same values as its file."""
    environ = dict(line.split("=", 1) for line in block("sh").splitlines())
    file = tmp_path / "gateway.toml"
    file.write_text(block("toml").partition("[tls]")[0])
    insecure = {"GATEWAY_TLS__INSECURE": "true"}

    from_file = load(flags={}, environ=insecure, config_file=file)
    named = {name for name in NAMES if variable_of(name) in environ}
    both = [
        {name: value for name, value, _ in rows(each) if name in named}
        for each in (loaded({**environ, **insecure}), from_file)
    ]

    assert len(environ) == len(named)
    assert both[0] == both[1]


def test_variables_of_the_page_exist() -> None:
    """The gateway accepts every variable that the page names."""
    named = set(re.findall(r"\bGATEWAY_[A-Z]+(?:_+[A-Z]+)*\b", DOC))
    known = {variable_of(name) for name in NAMES}
    reasons = {
        *("GATEWAY_CREDENTIALS_UNAVAILABLE", "GATEWAY_CREDENTIALS_INVALID"),
        *("GATEWAY_DRAINING", "GATEWAY_OVERLOADED"),
    }
    left_alone = {name for name in named if OF_KUBERNETES.fullmatch(name)}

    assert known <= named
    assert left_alone
    assert reasons == named - known - left_alone
