"""Tests that signatures equal botocore's, byte for byte."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote

import pytest
from botocore import auth, credentials
from botocore.awsrequest import AWSRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthomics_gateway.upstream.sigv4 import Credentials, Signer

REGION, SERVICE = "us-east-1", "omics"
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
HOST = "workflows-omics.us-east-1.amazonaws.com"


class Get(NamedTuple):
    """One request to sign, by default a GET."""

    credentials: Credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG")
    host: str = HOST
    path: str = "/run/1234567"
    query: str = ""
    now: datetime = NOON
    method: str = "GET"
    body: bytes = b""


def signed(get: Get, signer: Signer | None = None) -> dict[str, str]:
    """Sign a request, with a new signer by default."""
    signer = signer or Signer(region=REGION, service=SERVICE)
    return signer.headers(
        get.credentials,
        host=get.host,
        path=get.path,
        query=get.query,
        now=get.now,
        method=get.method,
        body=get.body,
    )


def signed_by_botocore(
    get: Get, *, region: str = REGION, service: str = SERVICE
) -> dict[str, str]:
    """Sign a request with the functions of botocore."""
    caller = get.credentials
    keys = credentials.Credentials(caller.access_key, caller.secret_key, caller.token)
    signer = auth.SigV4Auth(keys, service, region)
    url = f"https://{get.host}{get.path}" + (f"?{get.query}" if get.query else "")
    request = AWSRequest(get.method, url, data=get.body)
    request.context["timestamp"] = get.now.strftime(auth.SIGV4_TIMESTAMP)
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    if caller.token:
        request.headers["X-Amz-Security-Token"] = caller.token
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    headers = signer.headers_to_sign(request)
    request.headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={signer.scope(request)},"
        f" SignedHeaders={signer.signed_headers(headers)},"
        f" Signature={signer.signature(to_sign, request)}"
    )
    named = {name.lower(): value for name, value in request.headers.items()}
    return {"host": headers["host"], **named}


WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
HOSTS = st.builds(
    "{}.{}{}".format, WORDS, WORDS, st.sampled_from(("", ":8443", ":80", ":50051"))
)
SEGMENTS = st.text(min_size=1, max_size=8).filter(lambda text: text not in (".", ".."))
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(
    lambda segments: "".join(f"/{quote(each, safe='~')}" for each in segments)
)
PAIRS = st.tuples(WORDS, st.text(max_size=8).map(lambda text: quote(text, safe="~")))
QUERIES = st.lists(PAIRS, max_size=4).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in sorted(pairs))
)
SECRETS = st.text(min_size=1, max_size=40)
TOKENS = st.none() | st.text(max_size=40) | st.sampled_from((" a  b\tc ", "a\u00a0b"))
GETS = st.builds(
    Get,
    st.builds(Credentials, WORDS, SECRETS, TOKENS),
    HOSTS,
    PATHS,
    QUERIES,
    st.datetimes(
        datetime.fromisoformat("2000-01-01"),
        datetime.fromisoformat("2100-01-01"),
        timezones=st.just(UTC),
    ),
    method=st.just("GET"),
    body=st.just(b""),
)
POSTS = st.builds(
    lambda get, body: get._replace(method="POST", body=body),
    GETS,
    st.binary(max_size=60),
)


@pytest.mark.guarantee("signatures")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(GETS | POSTS, WORDS, WORDS)
def test_headers_are_those_of_botocore(get: Get, region: str, service: str) -> None:
    """The headers of any request equal botocore's."""
    signer = Signer(region=region, service=service)

    assert signed_by_botocore(get, region=region, service=service) == signed(
        get, signer
    )


@pytest.mark.parametrize(
    "get",
    [
        pytest.param(Get(), id="plain"),
        pytest.param(Get(query="export=DEFINITION"), id="query"),
        pytest.param(Get(credentials=Credentials("A", "s", "t" * 900)), id="token"),
        pytest.param(Get(credentials=Credentials("A", "s", "  t   u ")), id="spaces"),
        pytest.param(Get(credentials=Credentials("A", "s", "")), id="empty-token"),
        pytest.param(Get(host="127.0.0.1:4010"), id="port"),
        pytest.param(Get(host="[::1]:4010"), id="ipv6"),
        pytest.param(Get(path="/a%20b/run/1"), id="encoded-path"),
        pytest.param(Get(path="/~stage/run/1"), id="tilde"),
        pytest.param(Get(now=datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC)), id="eve"),
        pytest.param(Get(now=datetime(2025, 1, 1, tzinfo=UTC)), id="new-year"),
        pytest.param(Get(path="/", method="POST", body=b"Action=A&B=c"), id="post"),
    ],
)
def test_headers_of_a_run_are_those_of_botocore(get: Get) -> None:
    """The headers of a GetRun request equal botocore's."""
    assert signed_by_botocore(get) == signed(get)


@pytest.mark.guarantee("signatures")
def test_headers_are_what_botocore_itself_adds() -> None:
    """The headers that these tests compare with are those of botocore's own signer."""
    request = AWSRequest("GET", f"https://{HOST}/run/1234567?export=DEFINITION")
    keys = credentials.Credentials("AKID", "secret", "the token")
    auth.SigV4Auth(keys, SERVICE, REGION).add_auth(request)
    stamp = request.headers["X-Amz-Date"]
    now = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    get = Get(
        Credentials("AKID", "secret", "the token"), query="export=DEFINITION", now=now
    )

    added = {name.lower(): value for name, value in request.headers.items()}
    assert {"host": HOST, **added} == signed(get)


MOMENTS = st.integers(-3, 3).map(lambda hours: NOON + timedelta(hours=12 * hours))
FEW = st.builds(
    Credentials,
    st.sampled_from(("AKID1", "AKID2")),
    st.sampled_from(("secret", "secret1", "20240501", "20240502", "")),
    st.sampled_from((None, "token")),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(FEW, MOMENTS), min_size=2, max_size=8))
def test_cached_key_is_used_for_its_day_and_secret_only(
    calls: list[tuple[Credentials, datetime]],
) -> None:
    """A signer that is used for several days and secrets signs as botocore does."""
    signer = Signer(region=REGION, service=SERVICE)

    for caller, now in calls:
        get = Get(caller, now=now)
        assert signed_by_botocore(get) == signed(get, signer)


def test_secrets_are_not_shown() -> None:
    """The repr of credentials has neither the secret key nor the session token."""
    shown = repr(Credentials("AKIDEXAMPLE", "the-secret", "the-token"))

    assert "AKIDEXAMPLE" in shown
    assert "the-secret" not in shown
    assert "the-token" not in shown
