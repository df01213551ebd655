"""Loading the settings: priority, origins, and all faults together."""

from __future__ import annotations

import copy
import json
import os
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from healthomics_gateway.settings.effective import rows, warnings
from healthomics_gateway.settings.environment import variable_of
from healthomics_gateway.settings.listener_settings import listeners_of
from healthomics_gateway.settings.load import Loaded, SettingsError, load
from healthomics_gateway.settings.schema import CallerRule, Settings
from healthomics_gateway.settings.sources import leaves, remove_invalid

PAIR = "tls.cert_file and tls.key_file"
NO_CERTIFICATE = "tls.cert_file: it contains no certificate in PEM"
NO_KEY = "tls.key_file: it contains no private key in PEM"
ALMOST_ALL = "0.0.0.0:50051"


def loaded(
    config_file: Path | None = None,
    environ: dict[str, str] | None = None,
    **flags: str | None,
) -> Loaded:
    """Load settings from a file, an environment and flags."""
    return load(flags=flags, environ=environ or {}, config_file=config_file)


def faults(
    config_file: Path | None = None,
    environ: dict[str, str] | None = None,
    **flags: str | None,
) -> list[str]:
    """Load invalid settings and return their faults."""
    with pytest.raises(SettingsError) as caught:
        loaded(config_file, environ, **flags)
    return list(caught.value.args)


def shown(of: Loaded) -> dict[str, tuple[str, str]]:
    """Return the value and the origin of each setting, as `settings` shows them."""
    return {name: (value, origin) for name, value, origin in rows(of)}


def config(folder: Path, text: str) -> Path:
    """Write a file of settings and return its path."""
    file = folder / "gateway.toml"
    file.write_text(text, encoding="utf-8")
    return file


@cache
def certificate(name: str) -> tuple[bytes, bytes]:
    """Create a certificate and its key, both PEM."""
    made = trustme.CA().issue_cert(name)
    return made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes()


def tls(folder: Path, cert: bytes, key: bytes) -> dict[str, str]:
    """Write a certificate and a key; return the environment that sets them."""
    (folder / "cert.pem").write_bytes(cert)
    (folder / "key.pem").write_bytes(key)
    return {
        "GATEWAY_TLS__CERT_FILE": str(folder / "cert.pem"),
        "GATEWAY_TLS__KEY_FILE": str(folder / "key.pem"),
    }


def test_defaults() -> None:
    """Without sources, every setting has its documented default."""
    assert {
        "listen": "127.0.0.1:50051",
        "admin_listen": "127.0.0.1:9464",
        "workers": "1",
        "default_deadline": "30s",
        "drain_time": "25s",
        "max_deadline": "5m",
        "max_in_flight": "8192",
        "withhold": "",
        "open_services": "Health,Reflection",
        "log.level": "info",
        "log.format": "auto",
        "errors.debug": "false",
        "upstream.attempt_timeout": "10s",
        "upstream.connect_timeout": "3s",
        "upstream.max_attempts": "3",
        "upstream.max_concurrent": "64",
        "upstream.max_body_bytes": "1048576",
        "quota.tps": "8",
        "quota.burst": "2",
        "cache.max_staleness": "0s",
        "cache.max_staleness_limit": "1m",
        "cache.max_bytes": "67108864",
        "watch.interval": "5s",
        "watch.min_interval": "1s",
        "watch.max_stream": "10m",
        "watch.quota_share": "0.5",
        "watch.max_open": "10000",
        "tls.cert_file": "",
        "tls.key_file": "",
        "tls.client_ca_file": "",
        "tls.client_auth": "none",
        "tls.insecure": "false",
        "jwt.issuer": "",
        "jwt.audience": "",
        "jwt.algorithms": "ES256,RS256",
        "jwt.jwks_url": "",
        "jwt.jwks_file": "",
        "jwt.ca_file": "",
        "jwt.jwks_token_file": "",
        "jwt.identity_claim": "sub",
        "jwt.audience_claim": "aud",
        "jwt.leeway": "30s",
        "shared.url": "",
        "shared.secret": "",
        "shared.replicas": "1",
        "statusz.identities": "true",
    } == {name: value for name, value, _ in rows(loaded())}
    assert {"default"} == {origin for _, _, origin in rows(loaded())}


@pytest.mark.parametrize(
    ("in_file", "in_environ", "in_flags"), list(product([False, True], repeat=3))
)
def test_flag_overrides_environment_overrides_file(
    tmp_path: Path, *, in_file: bool, in_environ: bool, in_flags: bool
) -> None:
    """The first source in this order applies, and is the origin."""
    file = config(tmp_path, 'listen = "127.0.0.1:3"\n' if in_file else "")
    environ = {"GATEWAY_LISTEN": "127.0.0.1:2"} if in_environ else {}
    found = loaded(file, environ, listen="127.0.0.1:1" if in_flags else None)

    in_order = [
        (in_flags, ("127.0.0.1:1", "--listen")),
        (in_environ, ("127.0.0.1:2", "GATEWAY_LISTEN")),
        (in_file, ("127.0.0.1:3", f"listen in {file}")),
        (True, ("127.0.0.1:50051", "default")),
    ]
    assert next(row for is_set, row in in_order if is_set) == shown(found)["listen"]


def test_tables_are_merged(tmp_path: Path) -> None:
    """A variable overrides one setting and keeps the others of its table."""
    file = config(
        tmp_path,
        'drain_time = "1m"\n'
        "[upstream]\n"
        "max_attempts = 1\n"
        "max_concurrent = 7\n"
        'attempt_timeout = "5s"\n',
    )
    found = loaded(file, {"GATEWAY_UPSTREAM__MAX_ATTEMPTS": "2"})
    upstream = found.settings.upstream

    assert (2, 7) == (upstream.max_attempts, upstream.max_concurrent)
    assert timedelta(seconds=5) == upstream.attempt_timeout
    assert timedelta(minutes=1) == found.settings.drain_time
    origins = {name: origin for name, _, origin in rows(found) if origin != "default"}
    assert {
        "drain_time": f"drain_time in {file}",
        "upstream.attempt_timeout": f"upstream.attempt_timeout in {file}",
        "upstream.max_attempts": "GATEWAY_UPSTREAM__MAX_ATTEMPTS",
        "upstream.max_concurrent": f"upstream.max_concurrent in {file}",
    } == origins


@pytest.mark.guarantee("settings-faults")
def test_faults_of_all_sources_are_reported_together(tmp_path: Path) -> None:
    """Faults of file, environment and flags are reported, and contradictions."""
    file = config(
        tmp_path,
        'drain_time = "soon"\nbogus = 1\n[log]\nlevel = "loud"\ncolour = "red"\n',
    )
    environ = {
        "GATEWAY_UPSTREAM__MAX_ATTEMPTS": "4",
        "GATEWAY_UPSTREAM__CONNECT_TIMEOUT": "11s",
        "GATEWAY_DEFAULT_DEADLINE": "31s",
        "GATEWAY_MAX_DEADLINE": "30s",
        "GATEWAY_ERRORS__DEBUG": "perhaps",
        "GATEWAY_TEAPOT": "1",
        "GATEWAY_TLS__CERT_FILE": str(tmp_path / "missing.pem"),
    }

    assert {
        f"drain_time in {file}: write a duration like 250ms, 5s or 2m",
        f"bogus in {file}: there is no such setting",
        f"log.level in {file}: write 'debug', 'info', 'warning' or 'error'",
        f"log.colour in {file}: there is no such setting",
        "GATEWAY_UPSTREAM__MAX_ATTEMPTS: write at most 3",
        "GATEWAY_ERRORS__DEBUG: write true or false",
        "--listen: write an address like 127.0.0.1:50051 or [::1]:50051",
        "GATEWAY_TEAPOT: there is no such setting",
        "GATEWAY_TLS__CERT_FILE: no file can be read at this path",
        "tls.cert_file and tls.key_file: set both or neither",
        "upstream.connect_timeout 11s: write at most upstream.attempt_timeout, 10s",
        "default_deadline 31s: write at most max_deadline, 30s",
    } == set(faults(file, environ, listen="here"))


def test_invalid_value_is_a_fault_even_if_overridden(tmp_path: Path) -> None:
    """A value that a flag or a variable overrides must be valid too."""
    file = config(tmp_path, '[log]\nlevel = "loud"\n')
    environ = {"GATEWAY_LOG__LEVEL": "debug", "GATEWAY_LISTEN": "here"}

    assert [f"log.level in {file}", "GATEWAY_LISTEN"] == [
        fault.partition(": ")[0]
        for fault in faults(file, environ, listen="127.0.0.1:0")
    ]


@pytest.mark.parametrize(
    "name", ["GATEWAY_SERVICE_HOST", "GATEWAY_PORT", "GATEWAY_PORT_50051_TCP"]
)
def test_variables_of_kubernetes_are_ignored(name: str) -> None:
    """A Service named gateway doesn't keep its own pods from starting."""
    assert loaded(environ={name: "tcp://10.0.0.1:50051"}).settings == loaded().settings


def test_error_has_the_valid_settings(tmp_path: Path) -> None:
    """The error has the valid settings, unless the file couldn't be read."""
    file = config(tmp_path, 'drain_time = "1m"\n[log]\nlevel = "loud"\n')
    with pytest.raises(SettingsError) as caught:
        loaded(file)
    with pytest.raises(SettingsError) as unread:
        loaded(config(tmp_path, "listen ="))

    assert caught.value.loaded
    reported = shown(caught.value.loaded)
    assert ("1m", f"drain_time in {file}") == reported["drain_time"]
    assert ("info", f"default, log.level in {file} is refused") == reported["log.level"]
    assert unread.value.loaded is None


def test_file_name_disables_no_check(tmp_path: Path) -> None:
    """The name of a file has no influence on which values are refused."""
    file = tmp_path / "what is refused"
    file.write_text('listen = "0.0.0.0:50051"\n[tls]\ninsecure = false\n')
    (fault,) = faults(file)

    assert "other machines can reach this address" in fault


def test_each_missing_jwt_setting_is_a_fault(tmp_path: Path) -> None:
    """Each missing setting is one fault."""
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    issuer = {"GATEWAY_JWT__ISSUER": "https://issuer.example"}

    assert ["jwt: set jwt.audience too"] == faults(
        environ=issuer | {"GATEWAY_JWT__JWKS_FILE": str(keys)}
    )
    assert [
        "jwt: set jwt.audience too",
        "jwt: set jwt.jwks_url or jwt.jwks_file too",
    ] == faults(environ=issuer)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://me:canary@issuer/keys", "https://***@issuer/keys"),
        ("https://issuer/keys?key=canary", "https://issuer/keys?***"),
        ("me:canary@issuer/keys", "(not a URL)"),
    ],
)
def test_secret_in_a_url_is_not_shown(url: str, text: str) -> None:
    """The user, the password and the query may be secret."""
    with pytest.raises(SettingsError) as caught:
        loaded(environ={"GATEWAY_JWT__JWKS_URL": url})

    assert caught.value.loaded
    assert text == shown(caught.value.loaded)["jwt.jwks_url"][0]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://me:canary@store:6379/1", "redis://***@store:6379/1"),
        ("unix:///run/store?password=canary", "unix:///run/store?***"),
        ("canary", "***"),
    ],
)
def test_store_and_its_secret_are_not_shown(url: str, text: str) -> None:
    """Neither as settings, nor in the representation of an object, nor in a fault."""
    faulty = {"GATEWAY_LOG__LEVEL": "other"}  # so that there is an error
    given = {"GATEWAY_SHARED__URL": url, "GATEWAY_SHARED__SECRET": "canary" * 6}
    with pytest.raises(SettingsError) as caught:
        loaded(environ=given | faulty)
    found = caught.value.loaded
    assert found
    assert "canary" not in str(caught.value)

    assert text == shown(found)["shared.url"][0]
    assert "***" == shown(found)["shared.secret"][0]
    assert "canary" not in repr(found.settings)
    assert "canary" not in str(shown(found))


def test_store_needs_a_url_and_a_secret_that_are_valid() -> None:
    """The secret has at least 32 characters; alone it has no effect."""
    url = {"GATEWAY_SHARED__URL": "redis://localhost"}
    short = {"GATEWAY_SHARED__SECRET": "canary"}

    (fault,) = faults(environ=url)
    assert "shared.secret: set it too, the same for all replicas" in fault
    (fault,) = faults(environ=url | short)
    assert "GATEWAY_SHARED__SECRET: write at least 32 random characters" in fault
    assert "canary" not in fault
    (fault,) = faults(environ=url | {"GATEWAY_SHARED__SECRET": "\x07" * 32})
    assert fault.startswith("GATEWAY_SHARED__SECRET: ")
    secret = {"GATEWAY_SHARED__SECRET": "0123456789abcdef" * 2}
    assert loaded(environ=secret).settings.shared.url is None
    (fault,) = faults(environ=secret | {"GATEWAY_SHARED__URL": "redis://a,b"})
    assert "shared.url: write one host, or begin with redis+sentinel://" == fault


def test_store_that_is_set_only_in_part_is_a_warning() -> None:
    """Without its URL or the number of replicas, each may use the whole quota."""
    secret = {"GATEWAY_SHARED__SECRET": "0123456789abcdef" * 2}
    given = secret | {"GATEWAY_SHARED__REPLICAS": "2"}
    url = {"GATEWAY_SHARED__URL": "redis://localhost"}

    (warning,) = warnings(loaded(environ=given).settings)
    assert warning.startswith("shared.secret, shared.replicas: shared.url isn't set")
    (warning,) = warnings(loaded(environ=secret | url).settings)
    assert warning.startswith("shared.replicas is 1: until a gateway reaches the store")
    assert [] == list(warnings(loaded(environ=given | url).settings))
    assert [] == list(warnings(loaded().settings))


def test_identity_that_looks_like_a_url_is_shown(tmp_path: Path) -> None:
    """It is no secret, and an operator needs to see it whole."""
    identity = "https://issuer.example/users/#joe@example.org"
    file = config(
        tmp_path,
        f'listeners = [{{address = "unix:{tmp_path}/s", identity = "{identity}"}}]\n'
        f'[[callers]]\nidentity = "{identity}"\n',
    )
    found = shown(loaded(file))

    assert [identity] * 2 == [
        found[f"{each}[0].identity"][0] for each in ("callers", "listeners")
    ]


def test_invalid_toml_hides_no_other_fault(tmp_path: Path) -> None:
    """An invalid file is reported together with other faults."""
    file = config(tmp_path, "listen =")
    in_file, of_variable = faults(file, {"GATEWAY_LISTEN": "here"})

    assert in_file.startswith(f"--config {file}: it isn't TOML")
    assert of_variable.startswith("GATEWAY_LISTEN: ")


@pytest.mark.parametrize(
    ("name", "below", "least", "most", "above"),
    [
        ("DEFAULT_DEADLINE", "99ms", "100ms", "1h", "3601s"),
        ("DRAIN_TIME", None, "0s", "10m", "601s"),
        ("MAX_DEADLINE", "99ms", "100ms", "1h", "3601s"),
        ("UPSTREAM__ATTEMPT_TIMEOUT", "99ms", "3s", "2m", "121s"),
        ("UPSTREAM__CONNECT_TIMEOUT", "99ms", "100ms", "10s", "121s"),
        ("UPSTREAM__MAX_ATTEMPTS", "0", "1", "3", "4"),
        ("UPSTREAM__MAX_CONCURRENT", "0", "1", "1024", "1025"),
        ("UPSTREAM__MAX_BODY_BYTES", "1023", "1024", "16777216", "16777217"),
        ("LISTEN", "127.0.0.1:-1", "127.0.0.1:0", "127.0.0.1:65535", "127.0.0.1:65536"),
    ],
)
def test_range_includes_both_ends(
    name: str, below: str | None, least: str, most: str, above: str
) -> None:
    """The minimum and the maximum are valid; values beyond them are faults."""
    variable = f"GATEWAY_{name}"
    for good in (least, most):
        loaded(environ={variable: good})
    for bad in filter(None, (below, above)):
        (fault,) = faults(environ={variable: bad})
        assert fault.startswith(f"{variable}: write ")


@pytest.mark.parametrize(
    ("name", "value", "deadlines"),
    [
        pytest.param("DEFAULT_DEADLINE", "10m", ("10m", "10m"), id="longer-default"),
        pytest.param("DEFAULT_DEADLINE", "1m", ("1m", "5m"), id="shorter-default"),
        pytest.param("MAX_DEADLINE", "10s", ("10s", "10s"), id="shorter-longest"),
        pytest.param("MAX_DEADLINE", "10m", ("30s", "10m"), id="longer-longest"),
    ],
)
def test_unset_deadline_follows_the_other(
    name: str, value: str, deadlines: tuple[str, str]
) -> None:
    """The default deadline never exceeds the maximum, unless both are set."""
    found = shown(loaded(environ={f"GATEWAY_{name}": value}))

    assert deadlines == (found["default_deadline"][0], found["max_deadline"][0])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("sessionPolicy", {"sessionPolicy"}, id="one"),
        pytest.param("b, a,a", {"a", "b"}, id="spaces-and-duplicates"),
        pytest.param("logLocation.runLogStream", {"logLocation.runLogStream"}, id="in"),
    ],
)
def test_list_in_a_variable_is_separated_by_commas(text: str, names: set[str]) -> None:
    """In the environment the items of a list are separated by commas."""
    environ = {"GATEWAY_WITHHOLD": text}

    assert names == loaded(environ=environ).settings.withhold


@pytest.mark.guarantee("empty-settings")
@pytest.mark.parametrize(
    "text",
    ["a b", "a.b.c", ".a", '["a"]', "a;b", "session-policy", "a,,b", "a,", ","],
)
def test_list_with_an_invalid_name_is_refused(text: str) -> None:
    """An invalid name of a member would withhold nothing."""
    (fault,) = faults(environ={"GATEWAY_WITHHOLD": text})

    assert "GATEWAY_WITHHOLD: write AWS's member names, such as sessionPolicy" == fault


def test_list_in_a_file_is_a_toml_list(tmp_path: Path) -> None:
    """A TOML list is read; a table instead of it is a fault."""
    good = config(tmp_path, 'withhold = ["sessionPolicy", "parameters"]\n')
    assert {"sessionPolicy", "parameters"} == loaded(good).settings.withhold

    bad = config(tmp_path, "[withhold]\nsessionPolicy = true\n")
    assert [f"withhold in {bad}: write a list of AWS's member names"] == faults(bad)


@pytest.mark.guarantee("no-plaintext")
def test_public_address_requires_certificates() -> None:
    """Without certificates it is a fault that says what can be set."""
    (fault,) = faults(listen=ALMOST_ALL)

    assert fault.startswith(f"listen {ALMOST_ALL}: ")
    for words in (
        *("tls.cert_file", "tls.key_file", "tls.insecure = true"),
        *("GATEWAY_TLS__CERT_FILE", "GATEWAY_TLS__KEY_FILE"),
        "GATEWAY_TLS__INSECURE=true",
    ):
        assert words in fault


def test_public_address_may_be_explicitly_insecure() -> None:
    """With `tls.insecure = true` it serves plaintext; with false it doesn't."""
    loaded(environ={"GATEWAY_TLS__INSECURE": "true"}, listen=ALMOST_ALL)

    (fault,) = faults(environ={"GATEWAY_TLS__INSECURE": "false"}, listen=ALMOST_ALL)
    assert fault.startswith(f"listen {ALMOST_ALL}: ")


def test_public_address_with_a_certificate_is_valid(tmp_path: Path) -> None:
    """A certificate and its key are accepted as paths."""
    environ = tls(tmp_path, *certificate("gateway.internal"))
    found = loaded(environ=environ, listen=ALMOST_ALL).settings.tls

    assert (tmp_path / "cert.pem", tmp_path / "key.pem") == (
        found.cert_file,
        found.key_file,
    )


@pytest.mark.parametrize("alone", ["CERT_FILE", "KEY_FILE"])
def test_certificate_without_a_key_is_a_fault(tmp_path: Path, alone: str) -> None:
    """One without the other is a fault."""
    variable = f"GATEWAY_TLS__{alone}"
    both = tls(tmp_path, *certificate("gateway.internal"))

    assert ["tls.cert_file and tls.key_file: set both or neither"] == faults(
        environ={variable: both[variable]}
    )


@pytest.mark.parametrize(
    ("refused", "beside"),
    [
        ("TLS__CERT_FILE", {"LISTEN": ALMOST_ALL}),
        ("TLS__INSECURE", {"LISTEN": ALMOST_ALL}),
        ("DEFAULT_DEADLINE", {"MAX_DEADLINE": "10s"}),
        ("UPSTREAM__ATTEMPT_TIMEOUT", {"UPSTREAM__CONNECT_TIMEOUT": "20s"}),
        ("JWT__JWKS_URL", {"JWT__ISSUER": "a", "JWT__AUDIENCE": "a"}),
        ("JWT__ISSUER", {"JWT__AUDIENCE": "a", "JWT__JWKS_URL": "https://a.example"}),
    ],
)
def test_invalid_value_causes_no_second_fault(
    tmp_path: Path, refused: str, beside: dict[str, str]
) -> None:
    """A fault that disappears with the correction isn't reported."""
    rule = '[[callers]]\nidentity = "lims"\n' if "JWKS_URL" in refused else ""
    environ = {refused: "", **beside}
    if "CERT" in refused:
        environ["TLS__KEY_FILE"] = __file__
    (fault,) = faults(
        config(tmp_path, rule),
        {f"GATEWAY_{name}": value for name, value in environ.items()},
    )

    assert fault.startswith(f"GATEWAY_{refused}: it is empty")


@pytest.mark.guarantee("empty-settings")
@pytest.mark.parametrize("text", ["", " "], ids=["nothing", "blank"])
def test_empty_text_is_a_fault(tmp_path: Path, text: str) -> None:
    """Every setting refuses an empty text, in a variable and in the file."""
    environ = {variable(name): text for name, _, _ in rows(loaded())}
    reported = [
        each for each in faults(environ=environ) if ": it is empty; unset it" in each
    ]
    file = config(tmp_path, "".join(in_toml(name, text) for name in dotted(Settings)))
    in_file = [each for each in faults(file) if ": it is empty; unset it" in each]

    assert set(environ) == {each.partition(":")[0] for each in reported}
    assert set(dotted(Settings)) == {each.partition(" in ")[0] for each in in_file}


def dotted(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Yield the dotted name of each setting of a schema."""
    names: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += dotted(kind, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def in_toml(name: str, value: object) -> str:
    """Return a setting as TOML; JSON's numbers, texts and lists are TOML's too."""
    return f"{name} = {json.dumps(value)}\n"


@pytest.mark.guarantee("empty-settings")
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("jwt.audience = []", "jwt.audience", id="audience"),
        pytest.param("jwt.algorithms = []", "jwt.algorithms", id="algorithms"),
        pytest.param("callers = []", "callers", id="rules"),
    ],
)
def test_empty_restricting_list_is_a_fault(
    tmp_path: Path, text: str, fault: str
) -> None:
    """An empty list is refused if it would allow more than it seems to."""
    file = config(tmp_path, text)

    assert f"{fault} in {file}: write at least one, or leave it out" in faults(file)


@pytest.mark.parametrize(
    "name",
    [
        "GATEWAY_LOG__LEVEL",
        "GATEWAY_LISTEN",
        "GATEWAY_TLS__CLIENT_AUTH",
        "GATEWAY_OPEN_SERVICES",
        "GATEWAY_JWT__ALGORITHMS",
        "GATEWAY_QUOTA__TPS",
    ],
)
def test_value_that_is_not_utf_8_is_a_fault(name: str) -> None:
    """Python reads other bytes of a variable as lone surrogates."""
    assert [name] == [
        each.partition(":")[0] for each in faults(environ={name: "\udcff"})
    ]


def test_empty_allowing_list_is_valid(tmp_path: Path) -> None:
    """No open service is stricter than the default; no withheld member equals it."""
    file = config(tmp_path, "open_services = []\nwithhold = []\n")
    found = loaded(file).settings

    assert (frozenset(), frozenset()) == (found.open_services, found.withhold)


@pytest.mark.parametrize(
    ("right", "begin", "prefix"),
    [
        pytest.param(dict(leaves(Settings())), "", "", id="settings"),
        pytest.param(
            {"calls_per_second": 1.0, "concurrent_calls": 1, "watches": 1},
            '[[callers]]\nidentity = "anonymous"\n',
            "callers[0].",
            id="rules",
        ),
    ],
)
def test_value_of_another_type_is_a_fault(
    tmp_path: Path, right: dict[str, object], begin: str, prefix: str
) -> None:
    """A boolean isn't a number, a number isn't a boolean, a text is neither."""
    wrong = {bool: [0, 1, 1.0, "true"], int: [True, 2.0, "2"], float: [True, "2"]}

    checked = 0
    for setting, value in right.items():
        for bad in wrong.get(type(value), []):
            file = config(tmp_path, begin + in_toml(setting, bad))
            assert faults(file)[0].startswith(f"{prefix}{setting} in {file}: write ")
            checked += 1
    assert checked >= len(wrong)


ODD = [True, 7, 2.5, float("nan"), "x", "", [], [1], [""], {}, {"a": 1}, [{}]]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_fault_always_has_advice(odd: object) -> None:
    """Every odd value of a setting or a rule has a fault with advice."""
    words = re.compile(
        r"write |it is empty; unset it, or write |it is missing"
        r"|there is no such setting"
    )
    values: dict[str, Any] = dict.fromkeys(Settings.model_fields, odd)
    rule = dict.fromkeys(CallerRule.model_fields, odd)
    sections = {
        name: dict.fromkeys(field.annotation.model_fields, odd)
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
    }
    for source in (values, {"callers": [rule, {}]}, sections):
        for reported in remove_invalid(Settings, copy.deepcopy(source), str):
            assert words.match(reported.partition(": ")[2])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(
            '[callers]\nidentity = "anonymous"\n',
            "callers in {file}: write it as a list of tables, each below [[callers]]"
            " instead of [callers]",
            id="one-bracket",
        ),
        pytest.param(
            '[[callers]]\nidentity = "anonymous"\nmethods = "GetRun"\n',
            'callers[0].methods in {file}: write a list in brackets, such as ["..."]',
            id="no-brackets",
        ),
        pytest.param(
            '[[callers]]\nmethods = ["GetRun"]\n',
            "callers[0].identity in {file}: it is missing",
            id="no-identity",
        ),
        pytest.param(
            '[[callers]]\nidentity = "anonymous"\ntags = {}\n',
            "callers[0].tags in {file}: write at least one, or leave it out",
            id="no-tags",
        ),
        pytest.param(
            '[[callers]]\nidentity = "anonymous"\nrun_groups = [1234567]\n',
            "callers[0].run_groups in {file}: write ids of run groups as texts in"
            " quotes",
            id="no-quotes",
        ),
        pytest.param(
            "[[log]]\n", "log in {file}: write it as a table: [log]", id="two-brackets"
        ),
        pytest.param(
            'quota.tps = "8"\n',
            "quota.tps in {file}: write a number, without quotes",
            id="quotes",
        ),
        pytest.param(
            'callers = ["x"]\n',
            "callers in {file}: write it as a list of tables, each below [[callers]]",
            id="list-of-texts",
        ),
        pytest.param(
            '[[callers]]\nidentity = "anonymous"\nmetods = ["GetRun"]\n',
            "callers[0].metods in {file}: there is no such setting; did you mean"
            " callers.methods?",
            id="misspelt",
        ),
        pytest.param(
            "quotas.tps = 8\n",
            "quotas in {file}: there is no such setting; did you mean quota?",
            id="misspelt-table",
        ),
    ],
)
def test_common_mistake_has_advice(tmp_path: Path, text: str, fault: str) -> None:
    """A common mistake is reported with the correct form."""
    file = config(tmp_path, text)

    assert [fault.format(file=file)] == faults(file)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device"])
def test_file_that_is_no_regular_file_is_a_fault(tmp_path: Path, kind: str) -> None:
    """It is reported at once, without waiting for a writer of a pipe."""
    os.mkfifo(tmp_path / "fifo")
    path = {
        "folder": tmp_path,
        "fifo": tmp_path / "fifo",
        "device": "/dev/zero",
    }[kind]
    file = config(tmp_path, f'[jwt]\njwks_file = "{path}"\n')

    assert faults(file)[0] == (
        f"jwt.jwks_file in {file}: it isn't a regular file; directories, pipes and"
        " devices aren't read"
    )


def test_large_file_is_a_fault(tmp_path: Path) -> None:
    """A file in a setting must not be larger than 1 MiB."""
    large = tmp_path / "large"
    large.write_bytes(b"x" * (2**20 + 1))
    names = {name: str(large) for name in dotted(Settings) if name.endswith("_file")}
    environ = {variable_of(name): path for name, path in names.items()}

    assert set(environ) == {
        fault.removesuffix(": it is larger than 1 MiB")
        for fault in faults(environ=environ)
        if fault.endswith(" MiB")
    }


def test_file_may_be_a_link(tmp_path: Path) -> None:
    """Kubernetes mounts secrets as links to files in a linked directory."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "keys.json").write_text("{}")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "keys.json").symlink_to("..data/keys.json")
    environ = without("GATEWAY_JWT__JWKS_URL")

    loaded(environ=environ | {"GATEWAY_JWT__JWKS_FILE": str(tmp_path / "keys.json")})


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("missing.pem", id="missing"),
        pytest.param("a\\u0000b", id="nul"),
        pytest.param("x" * 5000, id="too-long"),
    ],
)
def test_unreadable_certificate_is_a_fault(tmp_path: Path, path: str) -> None:
    """Each unreadable file is reported with its origin."""
    file = config(
        tmp_path,
        f'[tls]\ncert_file = "{tmp_path}/{path}"\nkey_file = "{tmp_path}/{path}"\n',
    )

    assert [
        f"tls.cert_file in {file}: no file can be read at this path",
        f"tls.key_file in {file}: no file can be read at this path",
    ] == faults(file)


@pytest.mark.parametrize(
    ("cert", "key", "fault"),
    [
        pytest.param(
            *(certificate("a")[0], certificate("b")[1]),
            f"{PAIR}: the key isn't the certificate's",
            id="of-another",
        ),
        pytest.param(*reversed(certificate("a")), NO_KEY, id="swapped"),
        pytest.param(certificate("a")[0], b"", NO_KEY, id="empty-key"),
        pytest.param(b"no certificate", b"no key", NO_CERTIFICATE, id="no-pem"),
    ],
)
def test_certificate_and_key_must_match(
    tmp_path: Path, cert: bytes, key: bytes, fault: str
) -> None:
    """Files that aren't a certificate and its key are a fault."""
    assert fault in faults(environ=tls(tmp_path, cert, key))


def test_encrypted_key_is_a_fault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is refused at once, without asking for a password."""
    cert, key = certificate("gateway.internal")
    encrypted = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")
    )
    (fault,) = faults(environ=tls(tmp_path, cert, encrypted))

    assert "tls.key_file: the key is encrypted; save it without a password" == fault
    assert ("", "") == capfd.readouterr()


@pytest.mark.guarantee("settings-faults")
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        pytest.param("TLS__KEY_FILE", certificate("a")[1].decode(), id="key"),
        pytest.param("LISTEN", "canary", id="address"),
        pytest.param("WITHHOLD", "canary canary", id="list"),
        pytest.param("DRAIN_TIME", "canary", id="duration"),
        pytest.param("LOG__LEVEL", "canary", id="word"),
        pytest.param("UPSTREAM__MAX_ATTEMPTS", "canary", id="number"),
        pytest.param("SHARED__SECRET", "canary", id="secret"),
        pytest.param("CANARY", "canary", id="unknown"),
    ],
)
def test_fault_does_not_contain_the_value(setting: str, value: str) -> None:
    """A secret in the wrong setting isn't printed."""
    reported = "\n".join(faults(environ={f"GATEWAY_{setting}": value}))

    assert f"GATEWAY_{setting}: " in reported
    assert "canary" not in reported
    assert "PRIVATE KEY" not in reported


DURATIONS = st.integers(100_000, 10_000_000).map(lambda us: f"{us / 1000:.3f}ms")
NAMES = st.from_regex(r"[A-Za-z0-9_]{1,9}(\.[A-Za-z0-9_]{1,9})?", fullmatch=True)
LOOPBACK = st.sampled_from(["127.0.0.1", "[::1]", "localhost"])
VALUES = {
    # Two different addresses, neither the default of the other.
    "GATEWAY_LISTEN": st.builds("{}:{}".format, LOOPBACK, st.integers(0, 9000)),
    "GATEWAY_ADMIN_LISTEN": st.builds(
        "{}:{}".format, LOOPBACK, st.integers(50_052, 65_535)
    ),
    "GATEWAY_DEFAULT_DEADLINE": DURATIONS,
    "GATEWAY_DRAIN_TIME": DURATIONS,
    "GATEWAY_MAX_DEADLINE": st.just("1h"),
    "GATEWAY_MAX_IN_FLIGHT": st.integers(1, 65_536).map(str),
    "GATEWAY_WITHHOLD": st.lists(NAMES, min_size=1, max_size=4).map(",".join),
    "GATEWAY_LOG__LEVEL": st.sampled_from(["debug", "info", "warning", "error"]),
    "GATEWAY_LOG__FORMAT": st.sampled_from(["auto", "json", "text"]),
    "GATEWAY_ERRORS__DEBUG": st.sampled_from(["true", "false", "1", "0", "yes", "NO"]),
    "GATEWAY_UPSTREAM__ATTEMPT_TIMEOUT": st.sampled_from(["10s", "2m", "10.001s"]),
    "GATEWAY_UPSTREAM__CONNECT_TIMEOUT": DURATIONS,
    "GATEWAY_UPSTREAM__MAX_ATTEMPTS": st.sampled_from("123"),
    "GATEWAY_UPSTREAM__MAX_CONCURRENT": st.integers(1, 1024).map(str),
    "GATEWAY_UPSTREAM__MAX_BODY_BYTES": st.integers(1024, 2**24).map(str),
    "GATEWAY_QUOTA__TPS": st.floats(0.5, 10_000).map("{:g}".format),
    "GATEWAY_QUOTA__BURST": st.floats(1, 10_000).map("{:g}".format),
    "GATEWAY_CACHE__MAX_STALENESS": DURATIONS,
    "GATEWAY_CACHE__MAX_STALENESS_LIMIT": st.sampled_from(["10s", "1m", "1h"]),
    "GATEWAY_CACHE__MAX_BYTES": st.integers(0, 2**30).map(str),
    "GATEWAY_WATCH__INTERVAL": DURATIONS,
    "GATEWAY_WATCH__MIN_INTERVAL": DURATIONS,
    "GATEWAY_WATCH__MAX_STREAM": DURATIONS,
    "GATEWAY_WATCH__QUOTA_SHARE": st.floats(0.01, 1).map("{:g}".format),
    "GATEWAY_WATCH__MAX_OPEN": st.integers(1, 100_000).map(str),
    "GATEWAY_WORKERS": st.integers(1, 64).map(str),
    "GATEWAY_TLS__CLIENT_AUTH": st.just("none"),
    "GATEWAY_TLS__INSECURE": st.sampled_from(["true", "false"]),
    "GATEWAY_OPEN_SERVICES": st.sampled_from(["Health", "Channelz,Health"]),
    "GATEWAY_JWT__ALGORITHMS": st.sampled_from(["RS256", "EdDSA,ES384"]),
    "GATEWAY_JWT__IDENTITY_CLAIM": st.sampled_from(["sub", "email"]),
    "GATEWAY_JWT__AUDIENCE_CLAIM": st.sampled_from(["aud", "client_id"]),
    "GATEWAY_JWT__LEEWAY": st.sampled_from(["0s", "30s", "5m"]),
    "GATEWAY_SHARED__REPLICAS": st.integers(1, 1000).map(str),
    "GATEWAY_STATUSZ__IDENTITIES": st.sampled_from(["true", "false"]),
}


def variable(name: str) -> str:
    """Return the variable of a setting."""
    return "GATEWAY_" + name.upper().replace(".", "__")


def as_shown(found: Loaded) -> dict[str, str]:
    """Return the environment that sets each setting as it is shown."""
    return {variable(name): value for name, value, _ in rows(found) if value}


@settings(max_examples=50, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_shown_settings_can_be_set_again(environ: dict[str, str]) -> None:
    """Setting every value as it is shown results in the same settings."""
    found = loaded(environ=environ)
    again = loaded(environ=as_shown(found))

    assert found.settings == again.settings
    assert set(VALUES) == {variable("withhold")} | set(as_shown(loaded()))
    assert set(environ) == {
        origin for _, _, origin in rows(found) if origin != "default"
    }


def test_shown_certificates_can_be_set_again(tmp_path: Path) -> None:
    """Paths are shown as they are set, without any content."""
    cert, key = certificate("gateway.internal")
    found = loaded(environ=tls(tmp_path, cert, key))
    again = loaded(environ=as_shown(found))

    assert found.settings == again.settings
    assert str(tmp_path / "key.pem") == shown(again)["tls.key_file"][0]
    assert "PRIVATE KEY" not in str(shown(found))


# client certificates, tokens, rules


JWT = {
    "GATEWAY_JWT__ISSUER": "https://issuer.example",
    "GATEWAY_JWT__AUDIENCE": "healthomics-gateway",
    "GATEWAY_JWT__JWKS_URL": "https://issuer.example/keys",
}
RULE = """
[[callers]]
identity = "spiffe://corp/ns/lims/*"
methods = ["GetRun"]
run_groups = ["1234567"]
tags = { project = "wgs" }
withhold = ["parameters", "sessionPolicy"]
calls_per_second = 50
concurrent_calls = 20
watches = 500
aws_role = "arn:aws:iam::123456789012:role/omics-read-lims"
"""


def without(variable: str) -> dict[str, str]:
    """Return the settings of tokens without one of them."""
    return {name: value for name, value in JWT.items() if name != variable}


def test_rule_is_shown_as_written(tmp_path: Path) -> None:
    """Each part of a rule is shown, and only the parts that are set."""
    found = loaded(config(tmp_path, RULE), JWT)
    (rule,) = found.settings.callers
    reported = {name: value for name, (value, _) in shown(found).items()}

    assert frozenset({"GetRun"}) == rule.methods
    assert frozenset({"1234567"}) == rule.run_groups
    assert {"project": "wgs"} == rule.tags
    assert {
        "callers[0].identity": "spiffe://corp/ns/lims/*",
        "callers[0].methods": "GetRun",
        "callers[0].run_groups": "1234567",
        "callers[0].tags.project": "wgs",
        "callers[0].withhold": "parameters,sessionPolicy",
        "callers[0].calls_per_second": "50",
        "callers[0].concurrent_calls": "20",
        "callers[0].watches": "500",
        "callers[0].aws_role": "arn:aws:iam::123456789012:role/omics-read-lims",
    } == {name: value for name, value in reported.items() if name.startswith("callers")}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param("methods = ['Get']", "methods: write 'GetRun'", id="method"),
        pytest.param("run_groups = []", "run_groups: write at least one", id="group"),
        pytest.param("run_groups = ['x']", "run_groups: write ids of", id="groups"),
        pytest.param("tags = 'wgs'", "tags: write it as a table", id="tags"),
        pytest.param("tags = { a = 1 }", "tags.a: write a text in", id="tag"),
        pytest.param("withhold = ['a b']", "withhold: write AWS's", id="member"),
        pytest.param("calls_per_second = 0", "calls_per_second: write at", id="rate"),
        pytest.param("watches = 0", "watches: write at least 1", id="watches"),
        pytest.param("aws_role = 'reader'", "aws_role: write a role's ARN", id="role"),
        pytest.param("allow = true", "allow: there is no such", id="unknown"),
    ],
)
def test_fault_of_a_rule_has_its_index(tmp_path: Path, line: str, fault: str) -> None:
    """The fault has the index of the rule, and the invalid part."""
    file = config(tmp_path, f"{RULE}\n[[callers]]\nidentity = 'a'\n{line}\n")
    part, _, text = fault.partition(": ")
    (reported,) = faults(file, JWT)

    assert reported.startswith(f"callers[1].{part} in {file}: {text}")


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        pytest.param("a*b", "write * only at the end", id="star"),
        pytest.param("**", "write * only at the end", id="stars"),
        pytest.param("", "it is empty; unset it, or write a text", id="empty"),
        pytest.param(" a", "write it without spaces around it", id="space"),
        pytest.param("a\tb", "write printable characters", id="tab"),
    ],
)
def test_rule_with_an_invalid_identity_is_a_fault(
    tmp_path: Path, identity: str, text: str
) -> None:
    """An identity is printable, and may have a star only at its end."""
    written = identity.replace("\t", "\\t")
    file = config(tmp_path, f'[[callers]]\nidentity = "{written}"\n')
    (reported,) = faults(file, JWT)

    assert reported.startswith(f"callers[0].identity in {file}: {text}")


@pytest.mark.parametrize(
    ("earlier", "later", "is_dead"),
    [
        pytest.param("a", "a", True, id="twice"),
        pytest.param("a*", "ab", True, id="below-a-star"),
        pytest.param("a*", "ab*", True, id="star-below-a-star"),
        pytest.param("*", "a", True, id="below-everyone"),
        pytest.param("a*", "a", False, id="the-start-itself"),
        pytest.param("ab*", "a*", False, id="the-narrower-first"),
        pytest.param("*", "anonymous", False, id="the-name-anonymous"),
    ],
)
def test_rule_that_never_applies_is_a_fault(
    tmp_path: Path, earlier: str, later: str, *, is_dead: bool
) -> None:
    """The first matching rule applies, so an earlier one can hide it."""
    rules = "".join(f"[[callers]]\nidentity = '{each}'\n" for each in (earlier, later))
    file = config(tmp_path, rules)
    if is_dead:
        fault = "callers[0] already matches all of these callers"
        advice = "remove this rule, or move it up"
        assert [f"callers[1].identity {later}: {fault}; {advice}"] == faults(file, JWT)
    else:
        loaded(file, JWT)


def test_rule_with_an_unprovable_identity_is_a_fault(
    tmp_path: Path,
) -> None:
    """Without certificates and tokens all callers are anonymous."""
    (reported,) = faults(config(tmp_path, RULE))
    anonymous = RULE.replace("spiffe://corp/ns/lims/*", "anonymous")

    assert reported.startswith("callers[0].identity spiffe://corp/ns/lims/*: no caller")
    loaded(config(tmp_path, anonymous))


@pytest.mark.parametrize(
    ("table", "most"),
    [
        ('[[callers]]\nidentity = "a{}"\n', 10_000),
        ('[[listeners]]\naddress = "127.0.0.1:{}"\n', 1000),
    ],
    ids=["callers", "listeners"],
)
def test_numbers_of_tables_have_a_limit(tmp_path: Path, table: str, most: int) -> None:
    """A number that a start accepts can also be reloaded in time."""
    tables = [table.format(at) for at in range(1, most + 2)]
    name = table[2:].partition("]")[0]
    loaded(config(tmp_path, "".join(tables[:most])), JWT)

    file = config(tmp_path, "".join(tables))

    assert [f"{name} in {file}: write at most {most} tables"] == faults(file, JWT)


@pytest.mark.parametrize("name", ["callers", "listeners"])
def test_long_list_of_no_tables_is_one_fault(tmp_path: Path, name: str) -> None:
    """Its items aren't even looked at, as each would be a fault."""
    (fault,) = faults(config(tmp_path, f"{name} = [{'1,' * 400_000}]"))

    assert "write at most" in fault


def test_rules_can_be_set_only_in_the_file(tmp_path: Path) -> None:
    """A reviewer of the file would not see rules in a variable."""
    assert ["GATEWAY_CALLERS: there is no such setting"] == faults(
        config(tmp_path, RULE), {**JWT, "GATEWAY_CALLERS": "[]"}
    )


@pytest.mark.parametrize("alone", sorted(JWT))
def test_tokens_need_issuer_audience_and_keys(alone: str) -> None:
    """Without one of them, no token could be verified or accepted."""
    assert faults(environ=without(alone))
    assert faults(environ={alone: JWT[alone]})


@pytest.mark.guarantee("token-algorithms")
@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        pytest.param(
            {"GATEWAY_JWT__ALGORITHMS": "HS256"},
            "GATEWAY_JWT__ALGORITHMS: write 'RS256'",
            id="a-secret-shared",
        ),
        pytest.param(
            {"GATEWAY_JWT__ALGORITHMS": "none"},
            "GATEWAY_JWT__ALGORITHMS: write 'RS256'",
            id="no-signature",
        ),
        pytest.param(
            {"GATEWAY_JWT__JWKS_URL": "http://issuer.example/keys"},
            "jwt.jwks_url: write an https URL",
            id="keys-in-plaintext",
        ),
        pytest.param(
            {"GATEWAY_JWT__JWKS_FILE": __file__},
            "jwt.jwks_url and jwt.jwks_file: set one of them",
            id="two-sources",
        ),
        pytest.param(
            {"GATEWAY_JWT__IDENTITY_CLAIM": ""},
            "GATEWAY_JWT__IDENTITY_CLAIM: it is empty; unset it, or write a text",
            id="no-claim",
        ),
    ],
)
def test_insecure_jwt_settings_are_faults(environ: dict[str, str], fault: str) -> None:
    """Settings with which any caller could prove any identity are refused."""
    (reported,) = faults(environ=JWT | environ)

    assert reported.startswith(fault)


def test_ca_file_of_jwt_requires_a_url(tmp_path: Path) -> None:
    """A file of keys isn't fetched, so its authorities would be unused."""
    file = tmp_path / "keys.json"
    file.write_text("{}")
    environ = without("GATEWAY_JWT__JWKS_URL") | {
        "GATEWAY_JWT__JWKS_FILE": str(file),
        "GATEWAY_JWT__CA_FILE": str(file),
    }

    url_only = "it is used only with jwt.jwks_url; set that too, or remove this"
    unread = "jwt.ca_file: no certificates can be read from it"
    assert [f"jwt.ca_file: {url_only}", unread] == faults(environ=environ)
    token = {"GATEWAY_JWT__CA_FILE": "", "GATEWAY_JWT__JWKS_TOKEN_FILE": str(file)}
    assert [f"jwt.jwks_token_file: {url_only}"] == faults(
        environ={name: value for name, value in (environ | token).items() if value}
    )
    assert [unread] == faults(environ=JWT | {"GATEWAY_JWT__CA_FILE": str(file)})
    file.write_bytes(trustme.CA().cert_pem.bytes())
    loaded(environ=JWT | {"GATEWAY_JWT__CA_FILE": str(file)})


def test_client_auth_requires_certificate_and_authorities(
    tmp_path: Path,
) -> None:
    """`tls.client_auth` needs the server certificate and the authorities."""
    environ = {"GATEWAY_TLS__CLIENT_AUTH": "required"}
    cert, key = certificate("gateway.internal")
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    ca = {"GATEWAY_TLS__CLIENT_CA_FILE": str(tmp_path / "ca.pem")}
    pair = tls(tmp_path, cert, key)

    for short in ({}, ca, pair):
        assert "tls.client_auth required: set tls.cert_file, tls.key_file and" in str(
            faults(environ=environ | short)
        )
    loaded(environ=environ | ca | pair)
    unused = "tls.client_ca_file: set client_auth to required, in [tls] or a listener"
    assert [unused] == faults(environ=ca | pair)


@pytest.mark.guarantee("authentication")
def test_optional_client_certificates_are_a_fault(
    tmp_path: Path,
) -> None:
    """The fault says what to write instead."""
    (fault,) = faults(environ={"GATEWAY_TLS__CLIENT_AUTH": "optional"})
    (of_listener,) = faults(
        config(
            tmp_path,
            '[[listeners]]\naddress = "127.0.0.1:1"\nclient_auth = "optional"\n',
        )
    )

    assert fault.startswith("GATEWAY_TLS__CLIENT_AUTH: write ")
    assert of_listener.startswith("listeners[0].client_auth in ")
    for words in ('"required"', "[[listeners]]", 'client_auth = "none"'):
        assert words in fault
        assert words in of_listener


@pytest.mark.parametrize(
    ("written", "number"),
    [("auto", min(len(os.sched_getaffinity(0)), 64)), ("2", 2), (3, 3)],
)
def test_workers_may_be_a_number_or_auto(written: int | str, number: int) -> None:
    """In the environment it is a text; `auto` is one for each core."""
    flags = {"workers": written} if isinstance(written, int) else {}
    environ = {} if flags else {"GATEWAY_WORKERS": str(written)}

    assert number == load(flags=flags, environ=environ).settings.workers


def test_workers_of_another_word_are_a_fault() -> None:
    """The fault names the word that is possible."""
    fault = "GATEWAY_WORKERS: write a whole number, or auto"

    assert [fault] == faults(environ={"GATEWAY_WORKERS": "all"})


def test_workers_need_a_tcp_address(tmp_path: Path) -> None:
    """A Unix socket can't be shared; one beside a TCP address is served by a worker."""
    file = config(tmp_path, 'listen = "unix:/run/a.sock"\nworkers = 2\n')
    fault = "a Unix socket can't be shared; add a listener with a TCP address"
    assert [f"workers 2: {fault}"] == faults(file)

    listener = '[[listeners]]\naddress = "127.0.0.1:1"\n'
    file.write_text(file.read_text() + listener)
    assert 2 == loaded(file).settings.workers


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ('address = "unix:run/a"', "write a Unix socket by its absolute path"),
        (f'address = "unix:/{"a" * 107}"', "write a path of at most 107 bytes"),
        ('mode = "0600"', "listeners[0].address in FILE: it is missing"),
        ('address = "unix:/a"\nmode = 384', "write a text in quotes"),
        ('address = "unix:/a"\nmode = "0888"', "write the mode of a file as text"),
        (
            'address = "unix:/a"\nmode = "0000"',
            "write a mode with write permission for the owner",
        ),
        (
            'address = "unix:/a"\nmode = "0566"',
            "write a mode with write permission for the owner",
        ),
        (
            'address = "unix:/a"\nclient_auth = "none"',
            "a Unix socket can't have client_auth",
        ),
        (
            'address = "unix:/a"\nidentity = "anonymous"',
            "write another name than anonymous",
        ),
        (
            'address = "127.0.0.1:1"\nidentity = "a"',
            "a TCP address can't have identity",
        ),
        (
            'address = "127.0.0.1:1"\nservices = []',
            "write at least one, or leave it out",
        ),
        ('address = "127.0.0.1:1"\nservices = ["All"]', "write 'RunService'"),
        ('address = "127.0.0.1:1"\nclient_auth = "required"', "set tls.client_ca_file"),
        ('address = "127.0.0.1:1"\ncert_file = "FILE"', "set both or neither"),
        ('address = "127.0.0.1:1"\ncert_file = "/none"\nkey_file = "/none"', "no file"),
        ('address = "127.0.0.1:50051"', "listen has the same address"),
        ('address = "127.0.0.1:9464"', "admin_listen has the same address"),
        (f'address = "{ALMOST_ALL}"', "other machines can reach this address"),
    ],
)
def test_invalid_listener_is_a_fault(tmp_path: Path, lines: str, fault: str) -> None:
    """The fault has the index of the listener, and advice."""
    written = lines.replace("FILE", str(tmp_path / "gateway.toml"))
    file = config(tmp_path, f"[[listeners]]\n{written}\n")
    found = [each.replace(str(file), "FILE") for each in faults(file)]

    assert found
    assert all(each.startswith("listeners[0]") for each in found)
    assert fault in found[0]


def test_listener_has_the_certificate_of_tls_or_its_own(tmp_path: Path) -> None:
    """Its default is that of [tls]; a Unix socket has no certificate."""
    cert, key = certificate("gateway.internal")
    environ = tls(tmp_path, cert, key) | {
        "GATEWAY_TLS__CLIENT_AUTH": "required",
        "GATEWAY_TLS__CLIENT_CA_FILE": str(tmp_path / "ca.pem"),
    }
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    (tmp_path / "own.pem").write_bytes(cert)
    (tmp_path / "own_key.pem").write_bytes(key)
    file = config(
        tmp_path,
        f"""
[[listeners]]
address = "0.0.0.0:1"
[[listeners]]
address = "0.0.0.0:2"
client_auth = "none"
cert_file = "{tmp_path}/own.pem"
key_file = "{tmp_path}/own_key.pem"
services = ["Health"]
[[listeners]]
address = "unix:/run/a"
identity = "lims"
mode = "0660"
""",
    )
    found = loaded(file, environ)
    listen, same, own, unix = listeners_of(found.settings)

    assert listen.files
    assert (listen.files, "required") == (same.files, same.client_auth)
    assert own.files
    assert (tmp_path / "own.pem", "none") == (own.files.cert_file, own.client_auth)
    assert {"Health"} == own.services
    assert (None, "none", "lims", 0o660) == (
        *(unix.files, unix.client_auth, unix.identity, unix.mode),
    )
    assert ("unix:/run/a", f"listeners in {file}") == shown(found)[
        "listeners[2].address"
    ]
    assert ("0660", f"listeners in {file}") == shown(found)["listeners[2].mode"]


def test_rule_may_match_the_identity_of_a_socket(tmp_path: Path) -> None:
    """The identity of a socket needs no certificate and no token."""
    file = config(
        tmp_path,
        '[[listeners]]\naddress = "unix:/run/a"\nidentity = "lims"\n'
        '[[callers]]\nidentity = "lims"\n[[callers]]\nidentity = "other"\n',
    )
    (fault,) = faults(file)

    assert fault.startswith(
        "callers[1].identity other: no caller can prove this identity"
    )


def test_expired_certificate_is_a_fault(tmp_path: Path) -> None:
    """The check before a deployment finds it."""
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    made = trustme.CA().issue_cert("a", not_before=long_ago, not_after=long_ago)
    pair = made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes()

    assert ["tls.cert_file: the certificate expired on 2020-01-01T00:00:00Z"] == faults(
        environ=tls(tmp_path, *pair)
    )


MIXED = f"""
[[listeners]]
address = "{ALMOST_ALL}"
[[listeners]]
address = "unix:/run/a"
"""


def test_reflection_is_open_on_loopback_only(tmp_path: Path) -> None:
    """Reflection isn't open on addresses that other machines can reach."""
    insecure = {"GATEWAY_TLS__INSECURE": "true"}
    near, far = loaded(), loaded(environ=insecure, listen=ALMOST_ALL)
    chosen = loaded(
        environ=insecure | {"GATEWAY_OPEN_SERVICES": "Reflection"}, listen=ALMOST_ALL
    )

    mixed = loaded(config(tmp_path, MIXED), environ=insecure)
    assert [{"Health", "Reflection"}, {"Health"}, {"Health", "Reflection"}] == [
        each.open_services for each in listeners_of(mixed.settings)
    ]
    assert ("Health,Reflection", "default") == shown(near)["open_services"]
    assert ("Health", "default") == shown(far)["open_services"]
    assert ("Reflection", "GATEWAY_OPEN_SERVICES") == shown(chosen)["open_services"]


def test_unknown_withheld_member_is_a_warning(tmp_path: Path) -> None:
    """AWS may add members, so an unknown one isn't a fault."""
    rule = '[[callers]]\nidentity = "anonymous"\nwithhold = ["tag", "name"]\n'
    loaded = load(flags={}, environ={}, config_file=config(tmp_path, rule))

    assert [
        (
            "callers[0].withhold tag: GetRun isn't known to return this member; did you"
            " mean tags?"
        )
    ] == list(warnings(loaded.settings))


@pytest.mark.parametrize(("workers", "number"), [("1", 0), ("4", 0), ("5", 1)])
def test_more_workers_than_cores_are_a_warning(workers: str, number: int) -> None:
    """They work, but the gateway isn't faster than with one for each core."""
    settings = loaded(environ={"GATEWAY_WORKERS": workers}).settings
    warning = (
        "workers 5: more than the cores that this process may use (4), so some only"
        " cost memory; write auto, or a smaller number"
    )

    assert number * [warning] == list(warnings(settings, cores=lambda: 4))
