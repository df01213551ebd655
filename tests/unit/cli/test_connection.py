"""The connection to a gateway by flags and variables, over real sockets."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics.v1.run_service_pb2 import (
    GetRunRequest,
    WatchRunRequest,
    WatchRunResponse,
)
from healthomics.v1.run_service_pb2_grpc import (
    RunServiceServicer,
    RunServiceStub,
    add_RunServiceServicer_to_server,
)
from healthomics_gateway.cli import client
from healthomics_gateway.cli.connection import Route, find_route, is_local
from healthomics_gateway.cli.credential_files import MAX_TOKEN_BYTES
from healthomics_gateway.cli.gateway_options import OPTIONS, PREFIX
from healthomics_gateway.cli.reconnect import RetryPolicy
from healthomics_gateway.cli.watch_view import JsonLines
from healthomics_gateway.configuration_error import ConfigurationError
from testkit.authorities import aged
from testkit.builders import aws_at, gateway

HOST = "127.0.0.1"
ELSEWHERE = "gateway.example.org:443"
TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
BY = pytest.mark.parametrize("by", ["flag", "variable"])
DURATION = timedelta(seconds=10)


class Callers(RunServiceServicer):
    """A gateway that records its callers; optionally it breaks the first watch."""

    def __init__(self, breaking: Callable[[], object] | None = None) -> None:
        """Call `breaking` before the first watch breaks."""
        self._breaking = breaking
        self.seen: list[str | None] = []

    def GetRun(  # noqa: N802  # gRPC's own name of the method
        self, request: GetRunRequest, context: Any
    ) -> Run:
        """Answer a run with only its id."""
        self._note(context)
        return Run(id=request.id)

    def WatchRun(  # noqa: N802  # gRPC's own name of the method
        self, request: WatchRunRequest, context: Any
    ) -> Iterator[WatchRunResponse]:
        """Send a final state, or break."""
        self._note(context)
        if self._breaking and len(self.seen) == 1:
            self._breaking()
            context.abort(grpc.StatusCode.UNAVAILABLE, "it broke")
        status = RunStatus.RUN_STATUS_COMPLETED
        yield WatchRunResponse(run=Run(id=request.id, status=status))

    def _note(self, context: Any) -> None:
        reported = [
            str(value)
            for name, value in context.invocation_metadata()
            if name == "authorization"
        ]
        assert len(reported) < 2
        self.seen.append(reported[0] if reported else None)


@contextmanager
def serving(
    callers: Callers, credentials: grpc.ServerCredentials | None = None
) -> Iterator[str]:
    """Serve it, over TLS with `credentials`; yield its address."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        add_RunServiceServicer_to_server(callers, server)
        if credentials:
            port = server.add_secure_port(f"{HOST}:0", credentials)
        else:
            port = server.add_insecure_port(f"{HOST}:0")
        server.start()
        try:
            yield f"{HOST}:{port}"
        finally:
            server.stop(None).wait()


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key."""

    cert: str
    key: str

    def credentials(self, *, trusted: str | None = None) -> grpc.ServerCredentials:
        """Return server credentials that require a certificate of an authority."""
        chain, key = Path(self.cert).read_bytes(), Path(self.key).read_bytes()
        root = Path(trusted).read_bytes() if trusted else None
        return grpc.ssl_server_credentials(
            [(key, chain)], root, require_client_auth=root is not None
        )


class Authority:
    """An authority whose certificates are files."""

    def __init__(self, folder: Path) -> None:
        """Write the files into a new directory."""
        folder.mkdir()
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = self._written("ca.pem", self._authority.cert_pem.bytes())

    def issue(self, name: str, not_after: datetime | None = None) -> Pair:
        """Issue a certificate with this name."""
        issued = self._authority.issue_cert(name, not_after=not_after)
        chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
        return Pair(
            self._written(f"{name}.pem", chain),
            self._written(f"{name}.key", issued.private_key_pem.bytes()),
        )

    def _written(self, name: str, content: bytes) -> str:
        file = self._folder / name
        file.write_bytes(content)
        return str(file)


def written(file: Path, content: str | bytes) -> str:
    """Write a file and return its path."""
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(file)


def route(*, by: str = "flag", **given: str) -> Route:
    """Return the route by flags or variables."""
    if by == "flag":
        return find_route(given, {}, default_address="nowhere:1")
    environ = {PREFIX + name.upper(): text for name, text in given.items()}
    return find_route({}, environ, default_address="nowhere:1")


def faults(*, by: str = "flag", **given: str) -> list[str]:
    """Return the faults of an invalid route."""
    with pytest.raises(ConfigurationError) as raised:
        route(by=by, **given)
    return list(raised.value.args)


def answered(found_route: Route) -> str:
    """Make a call that succeeds; return the id of the run."""
    with found_route.open() as channel:
        stub = RunServiceStub(channel)
        return stub.GetRun(
            GetRunRequest(id="7"), timeout=10, metadata=found_route.metadata()
        ).id


def advice_of(found_route: Route) -> str:
    """Make a call that reaches no gateway; return the advice."""
    answers, failures = io.StringIO(), io.StringIO()
    with found_route.open() as channel:
        code = client.get(
            *(channel, "7", client.Output(answers, failures)),
            timeout=DURATION,
            metadata=found_route.metadata,
            transport=found_route.transport,
        )
    first, hint = failures.getvalue().splitlines()
    assert (1, "") == (code, answers.getvalue())
    assert first.startswith("UNAVAILABLE failed to connect")
    return hint.strip()


def watched(found_route: Route) -> int:
    """Watch a run to its end, without waiting between two streams."""
    with found_route.open(client.WATCH_OPTIONS) as channel:
        return client.watch(
            *(channel, "7", JsonLines(io.StringIO(), io.StringIO()), io.StringIO()),
            policy=RetryPolicy(DURATION.total_seconds()),
            metadata=found_route.metadata,
            sleep=lambda _: None,
        )


# TLS


@BY
def test_tls_ca_is_trusted(by: str, tmp_path: Path) -> None:
    """A gateway with a certificate of that authority is called over TLS."""
    own = Authority(tmp_path / "own")
    with serving(Callers(), own.issue(HOST).credentials()) as address:
        assert "7" == answered(route(by=by, address=address, tls_ca=own.ca))


def test_untrusted_certificate_suggests_tls_ca(tmp_path: Path) -> None:
    """An untrusted certificate ends the call, and a flag is suggested."""
    own, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    with serving(Callers(), own.issue(HOST).credentials()) as address:
        hint = advice_of(route(address=address, tls_ca=other.ca))

    assert (
        "the gateway's certificate isn't trusted; name its authority with --tls-ca"
        == hint
    )


@BY
def test_tls_trusts_only_public_authorities(by: str, tmp_path: Path) -> None:
    """With `--tls` alone, a certificate of a private authority isn't trusted."""
    own = Authority(tmp_path / "own")
    with serving(Callers(), own.issue(HOST).credentials()) as address:
        found_route = route(by=by, address=address, tls="true")
        assert "--tls-ca" in advice_of(found_route)


def test_plaintext_to_a_tls_gateway_suggests_tls(tmp_path: Path) -> None:
    """A plaintext call to a gateway with TLS suggests `--tls`."""
    own = Authority(tmp_path / "own")
    with serving(Callers(), own.issue(HOST).credentials()) as address:
        hint = advice_of(route(address=address))

    assert "the server at this address may use TLS; add --tls or --tls-ca" == hint


def test_tls_to_a_plaintext_gateway_suggests_plaintext() -> None:
    """A TLS call to a plaintext gateway sends nothing and says so."""
    callers = Callers()
    with serving(callers) as address:
        hint = advice_of(route(address=address, tls="true"))

    assert [] == callers.seen
    advice = "remove --tls and the other TLS flags"
    assert f"the server at this address doesn't use TLS; {advice}" == hint


@BY
def test_server_name_is_expected(by: str, tmp_path: Path) -> None:
    """Behind a port-forward, `--server-name` is the name in the certificate."""
    own = Authority(tmp_path / "own")
    pair = own.issue("gateway.example.org")
    with serving(Callers(), pair.credentials()) as address:
        given = {"address": address, "tls_ca": own.ca}
        hint = advice_of(route(by=by, **given))
        found_route = route(by=by, server_name="gateway.example.org", **given)
        assert "7" == answered(found_route)

    assert (
        "the gateway's certificate has another name;"
        " if it is the right gateway, set --server-name"
    ) == hint


@BY
def test_client_certificate_is_sent(by: str, tmp_path: Path) -> None:
    """A gateway that requires a client certificate gets it."""
    own = Authority(tmp_path / "own")
    asking, mine = own.issue(HOST).credentials(trusted=own.ca), own.issue("me")
    with serving(Callers(), asking) as address:
        given = {"address": address, "tls_ca": own.ca}
        found_route = route(by=by, tls_cert=mine.cert, tls_key=mine.key, **given)
        assert "7" == answered(found_route)


@pytest.mark.parametrize("has_another", [False, True])
def test_missing_client_certificate_suggests_the_flags(
    tmp_path: Path, *, has_another: bool
) -> None:
    """Without one, or with an untrusted one, the flags are suggested."""
    own, other = Authority(tmp_path / "own"), Authority(tmp_path / "other").issue("me")
    given = {"tls_cert": other.cert, "tls_key": other.key} if has_another else {}
    asking = own.issue(HOST).credentials(trusted=own.ca)
    with serving(Callers(), asking) as address:
        hint = advice_of(route(address=address, tls_ca=own.ca, **given))

    assert (
        "the gateway may require a client certificate that it trusts;"
        " set --tls-cert and --tls-key"
    ) == hint


@pytest.mark.parametrize("name", ["tls_ca", "tls_cert", "server_name"])
def test_each_tls_option_implies_tls(name: str, tmp_path: Path) -> None:
    """An option that needs TLS turns it on, and a variable can't turn it off."""
    own = Authority(tmp_path / "own")
    mine = own.issue("me")
    given = {
        "tls_ca": {"tls_ca": own.ca},
        "tls_cert": {"tls_cert": mine.cert, "tls_key": mine.key},
        "server_name": {"server_name": "gateway"},
    }[name]
    environ = {"HEALTHOMICS_GATEWAY_TLS": "false"}

    assert "tls" == find_route(given, environ, default_address=ELSEWHERE).transport


@pytest.mark.parametrize(
    ("text", "transport"), [("true", "tls"), ("False", "plaintext")]
)
def test_tls_variable_is_a_boolean(text: str, transport: str) -> None:
    """The variable turns TLS on or off."""
    assert transport == route(by="variable", tls=text).transport


# Priority


def test_flag_overrides_its_variable(tmp_path: Path) -> None:
    """Each flag overrides the variable in the environment."""
    own, token = Authority(tmp_path / "own"), written(tmp_path / "token", TOKEN)
    mine, callers = own.issue("me"), Callers()
    asking = own.issue("gateway").credentials(trusted=own.ca)
    environ = {PREFIX + name.upper(): "nonsense" for name in OPTIONS}
    with serving(callers, asking) as address:
        flags = {
            "address": address,
            "tls": "true",
            "tls_ca": own.ca,
            "tls_cert": mine.cert,
            "tls_key": mine.key,
            "server_name": "gateway",
            "token_file": token,
        }
        assert set(OPTIONS) == flags.keys()
        assert "7" == answered(find_route(flags, environ, default_address=ELSEWHERE))

    assert [f"Bearer {TOKEN}"] == callers.seen


def test_empty_variable_is_a_fault() -> None:
    """An empty variable may have been meant to turn TLS on."""
    names = [PREFIX + name.upper() for name in OPTIONS]
    with pytest.raises(ConfigurationError) as caught:
        route(by="variable", **dict.fromkeys(OPTIONS, ""))

    assert [f"{name}: it is empty; unset it" for name in names] == list(
        caught.value.args
    )


@pytest.mark.parametrize("address", ["localhost", "gateway.example", "::1", "[::1]"])
def test_address_without_a_port_is_a_fault(address: str) -> None:
    """GRPC would use port 443, where no gateway of the defaults serves."""
    fault = "it has no port, and gRPC would use 443; write HOST:PORT or unix:/PATH"

    assert [f"--address {address}: {fault}"] == faults(address=address)


@pytest.mark.parametrize("address", ["unix-abstract:a", "xds:///service", "h:http"])
def test_address_that_needs_no_port_is_accepted(address: str) -> None:
    """GRPC has schemes without ports, and ports have names."""
    assert address == route(address=address).address


def test_unprintable_address_is_a_fault() -> None:
    """Control characters and bytes that aren't UTF-8 would fail inside gRPC."""
    assert [
        "--address: write printable characters",
        "--server-name: write printable characters",
    ] == faults(address="\udcff:1", server_name="a\tb")


def test_token_file_may_be_a_pipe(tmp_path: Path) -> None:
    """A pipe is read once; later calls send the same token without waiting."""
    pipe = tmp_path / "token"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(pipe.write_text, TOKEN)
        found_route = route(token_file=str(pipe), address="127.0.0.1:1")
        writing.result(10)

    assert [(("authorization", f"Bearer {TOKEN}"),)] * 2 == [
        found_route.metadata(),
        found_route.metadata(),
    ]


def test_empty_flag_is_a_fault() -> None:
    """An empty flag is a mistake, such as a shell variable that isn't set."""
    names = [name for name in OPTIONS if name != "tls"]

    fault = "it is empty; write a value, or leave it out"
    assert [f"--{name.replace('_', '-')}: {fault}" for name in names] == faults(
        **dict.fromkeys(names, "")
    )


# The token


@BY
def test_token_is_sent_with_a_call(by: str, tmp_path: Path) -> None:
    """The token is the content of the file without whitespace around it."""
    callers, token = Callers(), written(tmp_path / "token", f"\n {TOKEN}\r\n")
    with serving(callers) as address:
        answered(route(by=by, address=address, token_file=token))
        watched(route(by=by, address=address, token_file=token))

    assert [f"Bearer {TOKEN}"] * 2 == callers.seen


def test_call_without_a_token_sends_none() -> None:
    """Without a token file no such metadata is sent."""
    callers = Callers()
    with serving(callers) as address:
        answered(route(address=address))

    assert [None] == callers.seen


def test_token_file_is_read_for_each_stream(tmp_path: Path) -> None:
    """A watch continues with the token that has replaced the first one."""
    file = tmp_path / "token"
    token = written(file, "first")
    callers = Callers(breaking=lambda: written(file, "second\n"))
    with serving(callers) as address:
        code = watched(route(address=address, token_file=token))

    assert (0, ["Bearer first", "Bearer second"]) == (code, callers.seen)


@pytest.mark.parametrize(
    "invalidate",
    [
        pytest.param(lambda file: file.unlink(), id="missing"),
        pytest.param(lambda file: written(file, ""), id="empty"),
        pytest.param(lambda file: written(file, "half a token"), id="bad"),
    ],
)
def test_last_valid_token_is_kept(
    invalidate: Callable[[Path], object], tmp_path: Path
) -> None:
    """A token file that becomes invalid during a watch doesn't end it."""
    file = tmp_path / "token"
    token = written(file, "first")
    callers = Callers(breaking=lambda: invalidate(file))
    with serving(callers) as address:
        code = watched(route(address=address, token_file=token))

    assert (0, ["Bearer first"] * 2) == (code, callers.seen)


@BY
@pytest.mark.parametrize(
    "address",
    [
        ELSEWHERE,
        "10.0.0.1:50051",
        "0.0.0.0:50051",
        "127.0.0.1.example.org:50051",
        "127.0.0.1:https",
        "127.1:50051",
        "127.0.0.1",
        "127.0.0.1:50051@example.org:50051",
        "localhost",
        "localhost.example.org:50051",
        "[::2]:50051",
        "[10.0.0.1]:50051",
        "[::ffff:10.0.0.1]:50051",
        "::1:50051",
        "dns://8.8.8.8/localhost:50051",
        "ipv4:127.0.0.1:50051,10.0.0.1:50051",
    ],
)
def test_token_in_plaintext_to_another_machine_is_a_fault(
    by: str, address: str, tmp_path: Path
) -> None:
    """The network could read it; the fault says what to add."""
    token = written(tmp_path / "token", TOKEN)
    name = {"flag": "--token-file", "variable": "HEALTHOMICS_GATEWAY_TOKEN_FILE"}[by]

    words = (
        f"{name}: no token is sent in plaintext to {address};"
        " add --tls, or --tls-ca with the gateway's authorities"
    )
    assert words == faults(by=by, address=address, token_file=token)[-1]


def test_token_is_sent_over_tls_to_any_address(tmp_path: Path) -> None:
    """Over TLS the network can't read it."""
    token = written(tmp_path / "token", TOKEN)
    found_route = route(address=ELSEWHERE, tls="true", token_file=token)

    assert (("authorization", f"Bearer {TOKEN}"),) == found_route.metadata()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "[127.0.0.1]:50051",
        "127.8.8.8:1",
        "localhost:50051",
        "[::1]:50051",
        "[0:0:0:0:0:0:0:1]:50051",
        "unix:/run/gateway.sock",
    ],
)
def test_loopback_address_is_local(address: str) -> None:
    """These addresses can only be on this machine."""
    assert is_local(address)


def test_pem_file_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Only the PEM blocks are given to gRPC."""
    authority = trustme.CA()
    marked = b"\xef\xbb\xbf  " + authority.cert_pem.bytes()
    certificate = authority.issue_cert(HOST)
    credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())]
    )
    with serving(Callers(), credentials) as address:
        found_route = route(
            address=address, tls_ca=written(tmp_path / "ca.pem", marked)
        )
        found = answered(found_route)

    assert found


async def test_unix_socket_is_called() -> None:
    """The path may have any characters; a token may be sent there."""
    with TemporaryDirectory(prefix="hg-") as folder:
        address = f"unix:{folder}/a b%41#?"
        token = written(Path(folder, "token"), TOKEN)
        async with gateway(aws_at("http://127.0.0.1:9"), listen=address):
            found_route = route(address=address, token_file=token)
            with found_route.open() as channel:
                call = RunServiceStub(channel).GetRun
                with pytest.raises(grpc.RpcError) as caught:
                    await asyncio.to_thread(
                        call,
                        GetRunRequest(id="x"),
                        timeout=10,
                        metadata=found_route.metadata(),
                    )

    assert grpc.StatusCode.INVALID_ARGUMENT is caught.value.code()  # type: ignore[attr-defined]  # the error is a call


def test_tls_on_a_unix_socket_is_a_fault() -> None:
    """Options of TLS aren't ignored."""
    (fault,) = faults(address="unix:/run/a", tls="true")

    assert "unix:/run/a: a Unix socket has no TLS; remove the TLS options" == fault


# Faults


def encrypted(key: str) -> bytes:
    """Return the same key, encrypted with a passphrase."""
    read = serialization.load_pem_private_key(Path(key).read_bytes(), password=None)
    return read.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tls_ca", None, "No such file or directory"),
        ("tls_ca", "", "no certificates can be read from it"),
        ("tls_ca", "canary", "no certificates can be read from it"),
        (
            "tls_ca",
            "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n",
            "no certificates can be read from it",
        ),
        ("tls_cert", None, "No such file or directory"),
        ("tls_cert", "", "it contains no certificate in PEM"),
        ("tls_cert", "canary", "it contains no certificate in PEM"),
        ("tls_key", None, "No such file or directory"),
        ("tls_key", "", "it contains no private key in PEM"),
        ("tls_key", "canary", "it contains no private key in PEM"),
        ("token_file", None, "No such file or directory"),
        ("token_file", " \n", "it is empty"),
        (
            "token_file",
            "canary canary",
            "it must be one word of printable ASCII",
        ),
        (
            "token_file",
            "canary\x1b",
            "it must be one word of printable ASCII",
        ),
        (
            "token_file",
            "canary\xe9",
            "it must be one word of printable ASCII",
        ),
        (
            "token_file",
            "canary" + "x" * MAX_TOKEN_BYTES,
            "it is longer than 7 KiB",
        ),
    ],
)
@BY
def test_invalid_file_is_a_fault(
    by: str, name: str, content: str | None, words: str, tmp_path: Path
) -> None:
    """The fault names the option and what is needed, and never the content."""
    mine, file = Authority(tmp_path / "own").issue("me"), tmp_path / "file"
    if content is not None:
        written(file, content)
    given = {"address": f"{HOST}:1"}
    if name in ("tls_cert", "tls_key"):
        given |= {"tls_cert": mine.cert, "tls_key": mine.key}
    named = {
        "flag": "--" + name.replace("_", "-"),
        "variable": f"HEALTHOMICS_GATEWAY_{name.upper()}",
    }[by]

    assert [f"{named}: {words}"] == faults(by=by, **given | {name: str(file)})


def test_unusual_certificate_is_accepted(tmp_path: Path) -> None:
    """An old serial number or a comment causes no fault and no warning."""
    own = Authority(tmp_path / "own")
    mine = own.issue("me")
    ca = written(tmp_path / "ca", "# Zo\xeb's\n" + aged(own.ca))
    cert = written(tmp_path / "cert", "# Zo\xeb's\n" + aged(mine.cert))

    assert "tls" == route(tls_ca=ca, tls_cert=cert, tls_key=mine.key).transport


def test_encrypted_key_is_a_fault(tmp_path: Path) -> None:
    """No passphrase is asked for, because gRPC can't use one."""
    mine = Authority(tmp_path / "own").issue("me")
    key = written(tmp_path / "key", encrypted(mine.key))

    assert ["--tls-key: the key is encrypted; save it without a password"] == faults(
        tls_cert=mine.cert, tls_key=key
    )


@BY
def test_key_of_another_certificate_is_a_fault(by: str, tmp_path: Path) -> None:
    """A key that doesn't match is found before gRPC gets it."""
    own = Authority(tmp_path / "own")
    told_faults = faults(
        by=by, tls_cert=own.issue("me").cert, tls_key=own.issue("you").key
    )

    key, cert = {
        "flag": ("--tls-key", "--tls-cert"),
        "variable": ("HEALTHOMICS_GATEWAY_TLS_KEY", "HEALTHOMICS_GATEWAY_TLS_CERT"),
    }[by]
    assert [f"{key}: it isn't the key of {cert}'s certificate"] == told_faults


def test_expired_client_certificate_is_a_fault(tmp_path: Path) -> None:
    """The gateway would end the handshake without a reason."""
    mine = Authority(tmp_path / "own").issue("me", datetime(2026, 1, 2, tzinfo=UTC))
    (fault,) = faults(tls_cert=mine.cert, tls_key=mine.key)

    expired = "the certificate expired on 2026-01-02T00:00:00Z; use a valid one"
    assert f"--tls-cert: {expired}" == fault


def test_certificate_without_its_key_is_a_fault(tmp_path: Path) -> None:
    """A certificate needs its key, and a key its certificate."""
    mine = Authority(tmp_path / "own").issue("me")

    assert ["--tls-cert: set --tls-key too"] == faults(tls_cert=mine.cert)
    assert ["--tls-key: set --tls-cert too"] == faults(tls_key=mine.key)


def test_faults_are_reported_together(tmp_path: Path) -> None:
    """Each invalid flag and variable has one line."""
    pem = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"
    flags = {
        "address": ELSEWHERE,
        "tls_ca": str(tmp_path),
        "tls_key": written(tmp_path / "key", pem),
    }
    environ = {
        "HEALTHOMICS_GATEWAY_TLS": "canary",
        "HEALTHOMICS_GATEWAY_TLS_CERT": pem,  # the content instead of the path
        "HEALTHOMICS_GATEWAY_TOKEN_FILE": f"canary.{TOKEN}",
    }
    with pytest.raises(ConfigurationError) as raised:
        find_route(flags, environ, default_address=ELSEWHERE)

    assert (
        "HEALTHOMICS_GATEWAY_TLS: write true or false",
        "--tls-ca: Is a directory",
        "HEALTHOMICS_GATEWAY_TLS_CERT: No such file or directory",
        "--tls-key: it contains no private key in PEM",
        "HEALTHOMICS_GATEWAY_TOKEN_FILE: No such file or directory",
    ) == raised.value.args


def test_plaintext_and_an_invalid_token_are_reported_together(tmp_path: Path) -> None:
    """Both faults of the same option are reported."""
    file = written(tmp_path / "token", "")
    first, second = faults(address=ELSEWHERE, token_file=file)

    assert "no token is sent in plaintext" in first
    assert "--token-file: it is empty" == second
