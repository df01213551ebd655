"""Invalid settings: the process reports every fault and ends before it serves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trustme

from healthomics_gateway.upstream.config import OF_ENDPOINT
from testkit.authorities import tls_settings
from testkit.fault_table import Tally
from testkit.lying_upstream import CANARY
from unit.cli.test_main import free_port, program, taken_port

NAME = "healthomics-gateway: "
REGION = {"AWS_DEFAULT_REGION": "us-east-1"}
SECRETS = {
    "AWS_ACCESS_KEY_ID": f"AKIA{CANARY}",
    "AWS_SECRET_ACCESS_KEY": f"secret/{CANARY}",
    "AWS_SESSION_TOKEN": f"token/{CANARY}",
}
PASTED_KEY = f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n"
FAULTY_FILE = f"""\
drain_time = "11m"
default_deadline = "{CANARY}"
bogus = "{CANARY}"
[log]
level = "{CANARY}"
colour = "{CANARY}"
[aws]
secret_access_key = "{CANARY}"
"""


def faults_at_start(
    tally: Tally, *arguments: str, files: int | None = None, **environ: str
) -> list[str]:
    """Start a gateway that must end before it serves; return the reported faults."""
    done = program("serve", *arguments, files=files, **(SECRETS | environ))
    tally.outcomes[f"exit {done.returncode}"] += 1
    tally.leaked += CANARY in done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert (2, "") == (done.returncode, done.stdout)
    lines = done.stderr.splitlines()
    events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
    assert "serving" not in events
    faults = [line for line in lines if not line.startswith("{")]
    assert all(line.startswith(NAME) for line in faults), faults  # and no traceback
    return [line.removeprefix(NAME) for line in faults]


@pytest.mark.fault(36)
def test_start_reports_every_fault_at_once(tally: Tally, tmp_path: Path) -> None:
    """Faults in file, variables, flags and AWS settings are reported once, together."""
    file = tmp_path / "gateway.toml"
    file.write_text(FAULTY_FILE, encoding="utf-8")
    reported = faults_at_start(
        tally,
        *("--config", str(file), "--listen", CANARY),
        files=100,
        GATEWAY_ADMIN_LISTEN="127.0.0.1:65536",
        GATEWAY_UPSTREAM__MAX_ATTEMPTS="0",
        GATEWAY_UPSTREAM__ATTEMPT_TIMEOUT="2s",
        GATEWAY_TEAPOT=CANARY,
        GATEWAY_TLS__KEY_FILE=PASTED_KEY,
        AWS_ENDPOINT_URL_OMICS=f"http://{CANARY}:{CANARY}@omics.example.org",
        AWS_CA_BUNDLE=str(tmp_path / "missing.pem"),
    )

    assert [
        "--listen: write an address like 127.0.0.1:50051 or [::1]:50051",
        "AWS Region: none is set; set AWS_DEFAULT_REGION or AWS_REGION",
        f"{OF_ENDPOINT}: write only scheme, host, port and a plain path",
        "AWS_CA_BUNDLE: no file can be read at this path",
        "GATEWAY_ADMIN_LISTEN: write an address like 127.0.0.1:50051 or [::1]:50051",
        "GATEWAY_TEAPOT: there is no such setting",
        "GATEWAY_TLS__KEY_FILE: no file can be read at this path",
        "GATEWAY_UPSTREAM__MAX_ATTEMPTS: write at least 1",
        f"aws in {file}: there is no such setting",
        f"bogus in {file}: there is no such setting",
        f"default_deadline in {file}: write a duration like 250ms, 5s or 2m",
        f"drain_time in {file}: write 0s to 10m",
        (
            "limit on open files 100: at least 176 are needed with"
            " upstream.max_concurrent 64, better 1024 more; set it with ulimit -n, or"
            " with LimitNOFILE= in a unit of systemd"
        ),
        f"log.colour in {file}: there is no such setting",
        f"log.level in {file}: write 'debug', 'info', 'warning' or 'error'",
        "tls.cert_file and tls.key_file: set both or neither",
        "upstream.connect_timeout 3s: write at most upstream.attempt_timeout, 2s",
    ] == sorted(reported)


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        pytest.param(
            {},
            "AWS Region: none is set; set AWS_DEFAULT_REGION or AWS_REGION",
            id="aws",
        ),
        pytest.param(
            REGION | {"GATEWAY_UPSTREAM__MAX_ATTEMPT": "3"},
            "GATEWAY_UPSTREAM__MAX_ATTEMPT: there is no such setting; did you mean"
            " GATEWAY_UPSTREAM__MAX_ATTEMPTS?",
            id="unknown",
        ),
    ],
)
def test_start_fails_for_one_fault(
    tally: Tally, environ: dict[str, str], fault: str
) -> None:
    """A single fault is enough to fail, and is the only one reported."""
    assert [fault] == faults_at_start(tally, **environ)


@pytest.mark.fault(36)
def test_start_fails_for_another_certificates_key(tally: Tally, tmp_path: Path) -> None:
    """A key that isn't the certificate's is reported."""
    authority = trustme.CA()
    made, other = [authority.issue_cert(f"{name}.example.org") for name in "ab"]
    files = tls_settings(made, tmp_path)
    other.private_key_pem.write_to_path(tmp_path / "key.pem")
    fault = "tls.cert_file and tls.key_file: the key isn't the certificate's"

    assert [fault] == faults_at_start(tally, **REGION, **files)


@pytest.mark.fault(36)
@pytest.mark.parametrize("taken", ["listen", "admin_listen"])
def test_start_fails_on_a_port_in_use(tally: Tally, taken: str) -> None:
    """One address in use is enough to fail, even if the other is free."""
    with taken_port() as port:
        addresses = {
            name: f"127.0.0.1:{port if name == taken else free_port()}"
            for name in ("listen", "admin_listen")
        }
        reported = faults_at_start(
            tally,
            GATEWAY_LISTEN=addresses["listen"],
            GATEWAY_ADMIN_LISTEN=addresses["admin_listen"],
            **REGION,
        )

    assert [f"{taken} {addresses[taken]}: it can't be bound; is it in use?"] == reported
