"""The identity in a client's certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthomics_gateway.auth.client_certificates import ClientCertificates
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from testkit.svid import HOUR, Authority, Pair

LIMS = "spiffe://corp/ns/lims/sa/reader"
AUTHORITY = Authority()


def named(pair: Pair, **options: Any) -> str | Reason:
    """Return the identity in a certificate, or the reason of the error."""
    try:
        return ClientCertificates(**options).credential_of(pair.cert).identity
    except GatewayError as error:
        return error.reason


@pytest.mark.parametrize(
    ("what", "identity"),
    [
        pytest.param({"uris": [LIMS]}, LIMS, id="spiffe-id"),
        pytest.param(
            {"uris": [LIMS], "dns": ["lims.corp"], "subject": "lims"},
            LIMS,
            id="spiffe-id-before-all",
        ),
        pytest.param({"dns": ["Lims.Corp"]}, "lims.corp", id="dns-name"),
        pytest.param({"dns": ["a.corp", "b.corp"]}, "a.corp", id="first-dns-name"),
        pytest.param({"dns": ["a.corp"], "subject": "b"}, "a.corp", id="dns-first"),
        pytest.param({"subject": "lims"}, "CN=lims", id="subject"),
        pytest.param({"subject": "a,b=c"}, r"CN=a\,b=c", id="subject-is-quoted"),
        pytest.param(
            {"uris": ["https://corp/lims"], "subject": "b"}, "CN=b", id="other-uri"
        ),
        pytest.param({"subject": LIMS}, f"CN={LIMS}", id="subject-like-a-spiffe-id"),
    ],
)
def test_certificate_names_one_identity(what: Any, identity: str) -> None:
    """The identity is the SPIFFE ID, else the first DNS name, else the subject."""
    uris = what.pop("uris", ())

    assert identity == named(AUTHORITY.certify(*uris, **what))


@pytest.mark.guarantee("authentication")
@pytest.mark.parametrize(
    "what",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"uris": [LIMS, "spiffe://corp/other"]}, id="two-spiffe-ids"),
        pytest.param({"uris": [LIMS, "https://corp/other"]}, id="two-uris"),
        pytest.param({"uris": ["spiffe://Corp/lims"]}, id="domain-in-capitals"),
        pytest.param({"uris": ["SPIFFE://corp/lims"]}, id="scheme-in-capitals"),
        pytest.param({"uris": ["spiffe://corp/a/../lims"]}, id="dots"),
        pytest.param({"uris": ["spiffe://corp/lims/."]}, id="dot-at-the-end"),
        pytest.param({"uris": ["spiffe://corp/lims/"]}, id="slash-at-the-end"),
        pytest.param({"uris": ["spiffe://corp//lims"]}, id="empty-segment"),
        pytest.param({"uris": ["spiffe://corp/lims?x=y"]}, id="query"),
        pytest.param({"uris": ["spiffe://corp:443/lims"]}, id="port"),
        pytest.param({"uris": ["spiffe:///lims"]}, id="no-domain"),
        pytest.param({"dns": ["anonymous"]}, id="the-name-anonymous"),
        pytest.param({"uris": [f" {LIMS}"], "dns": ["a.corp"]}, id="space-before"),
        pytest.param({"dns": [LIMS]}, id="spiffe-id-as-a-dns-name"),
        pytest.param({"dns": ["system:serviceaccount:a:b"]}, id="no-host-s-name"),
        pytest.param({"dns": ["a..corp"]}, id="empty-label"),
    ],
)
def test_certificate_without_an_identity_is_refused(what: Any) -> None:
    """A certificate with no identity, two, or an invalid one is refused."""
    uris = what.pop("uris", ())
    pair = AUTHORITY.certify(*uris, **{"subject": "", **what})

    assert Reason.TOKEN_INVALID is named(pair)


@given(st.binary())
def test_bytes_that_are_no_certificate_are_refused(junk: bytes) -> None:
    """Bytes that can't be parsed are the caller's error, not a bug."""
    assert Reason.TOKEN_INVALID is named(Pair(junk, b""))


def test_certificate_that_expires_during_its_connection_is_refused() -> None:
    """The dates are checked for every call, also of a cached certificate."""
    made = time = datetime.now(UTC).timestamp()
    pair = AUTHORITY.certify(LIMS)
    identities = ClientCertificates(now=lambda: time)
    assert LIMS == identities.credential_of(pair.cert).identity

    time = made + 2 * HOUR.total_seconds()
    with pytest.raises(GatewayError, match="TOKEN_EXPIRED"):
        identities.credential_of(pair.cert)
    time = made - 2 * HOUR.total_seconds()
    with pytest.raises(GatewayError, match="TOKEN_INVALID"):
        identities.credential_of(pair.cert)


def test_certificate_is_valid_between_its_dates() -> None:
    """A certificate of yesterday has expired; one of tomorrow isn't valid yet."""
    expired = AUTHORITY.certify(LIMS, since=-2 * HOUR, until=-HOUR)
    premature = AUTHORITY.certify(LIMS, since=HOUR, until=2 * HOUR)

    assert Reason.TOKEN_EXPIRED is named(expired)
    assert Reason.TOKEN_INVALID is named(premature)
