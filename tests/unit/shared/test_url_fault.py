"""Faults of a store's URL, which never quote it."""

from __future__ import annotations

import pytest

from healthomics_gateway.shared.url_fault import url_fault
from healthomics_gateway.shared.valkey.urls import shown_url

PASSWORD = "sesame"


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:sesame@localhost:6380/3",
        "rediss://[::1]:6379?ssl_ca_certs=/ca.pem&ssl_certfile=/c&ssl_keyfile=/k",
        "rediss://localhost?ssl_check_hostname=false&ssl_min_version=772",
        "unix:///run/valkey.sock?db=1",
        "redis+sentinel://:sesame@a:26379,b/store/2?sentinel_password=sesame",
        "redis+cluster://a:7000,b:7001,[::1]:7002",
        "rediss+cluster://a:7000?ssl_ca_certs=/ca.pem",
    ],
)
def test_url_of_a_store_has_no_fault(url: str) -> None:
    """Nothing is connected to find that out."""
    assert url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1", "redis://127.0.0.1:6379"),
        ("rediss://:sesame@a/2?db=1", "rediss://***@a:6379/2?***"),
        (
            "redis+sentinel://:sesame@a,[::1]/s",
            "redis+sentinel://***@a:26379,[::1]:26379/s",
        ),
        ("redis+cluster://a:1,b", "redis+cluster://a:1,b:6379"),
        ("unix:///run/s?password=sesame", "unix:///run/s?***"),
        ("redis://a?password=sesame@b", "redis://***"),
    ],
)
def test_url_is_shown_with_its_ports(url: str, shown: str) -> None:
    """The default ones are what a reader may not know."""
    assert shown == shown_url(url)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("sesame", "begins with one of redis, rediss, unix"),
        ("http://sesame@localhost", "begins with one of redis, rediss, unix"),
        ("redis://:sesame@", "write a host"),
        ("redis://:sesame@localhost:port", "write a port from 1 to 65535"),
        ("redis://:sesame@localhost:99999", "write a port from 1 to 65535"),
        ("redis://user:sesame/1@localhost", "a / in a password as %2F"),
        ("redis://:sesame@a,b", "begin with redis+sentinel://"),
        ("redis+sentinel://:sesame@a:26379", "write the name of the service"),
        ("redis+cluster://:sesame@a/3", "a cluster has only 0"),
        ("redis://:sesame@a/sesame", "write the database as a number"),
        ("redis+sentinel://:sesame@a/name/sesame", "write the database as a number"),
        ("redis://:sesame@a?timeout=3", "remove the option timeout"),
        ("redis://:sesame@a?decode_responses=1", "remove the option decode_responses"),
        ("redis://:sesame@a?db=sesame", "it isn't valid"),
        ("redis://:sesame@a?poll=1", "remove the option poll, which redis-py doesn't"),
        ("redis://a?sesame=1@b", "it has an option which redis-py doesn't know"),
        ("redis://a?SESAME=1", "it has an option which redis-py doesn't know"),
        ("redis://:sesame@a?ssl_ca_certs=/c", "ssl_ca_certs is one of TLS: begin with"),
        ("rediss://:sesame@a?ssl_cert_reqs=sesame", "it isn't valid"),
        ("redis://:sesame@a?retry=1", "remove the option retry, which redis-py"),
        ("redis://:sesame@a?encoding=sesame", "remove the option encoding"),
        ("redis://:sesame@a?credential_provider=x", "or a gateway doesn't use"),
    ],
)
def test_fault_says_what_to_write_without_the_url(url: str, advice: str) -> None:
    """A URL has a password."""
    fault = url_fault(url)

    assert fault is not None
    assert advice in fault
    assert PASSWORD not in fault
