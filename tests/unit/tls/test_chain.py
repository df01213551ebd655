"""What clients look at in a certificate chain."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trustme
from cryptography import x509

from healthomics_gateway.tls.certificates import parse_chain
from healthomics_gateway.tls.chain import chain_faults, covers, names_of
from testkit.authorities import chain_of, own_pem, root_of

NOW = datetime.now(UTC)
LATER = datetime(3001, 1, 1, tzinfo=UTC)


def issued() -> tuple[trustme.CA, trustme.LeafCert]:
    """Return a root and a certificate that an authority below it has issued."""
    root = trustme.CA()
    return root, root.create_child_ca().issue_cert("a.example.org", "10.0.0.1")


def read(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a file."""
    return parse_chain(pem)


def test_complete_chain_has_no_fault() -> None:
    """The root may be part of it, and further issuers may be in any order."""
    root, leaf = issued()
    first, *others = read(chain_of(leaf) + root_of(root))

    assert [] == list(chain_faults([first], NOW))
    assert [] == list(chain_faults([first, *others], NOW))
    assert [] == list(chain_faults([first, *reversed(others)], NOW))


def test_foreign_certificate_is_a_fault() -> None:
    """Each certificate that didn't issue another is named by its number."""
    _, leaf = issued()
    foreign = own_pem(trustme.CA().issue_cert("b.example.org"))

    (fault,) = chain_faults(read(chain_of(leaf) + foreign), NOW)
    assert fault.startswith("certificate 3 isn't an issuer of the first")


def test_expired_issuer_is_a_fault() -> None:
    """Clients refuse the chain even if the server's certificate is valid."""
    _, leaf = issued()

    (fault,) = chain_faults(read(chain_of(leaf)), LATER)
    assert "certificate 2 expired on 3000-01-01T00:00:00Z; replace the chain" == fault


def test_names_are_those_of_the_extension() -> None:
    """A root has none."""
    root, leaf = issued()

    assert ("a.example.org", "10.0.0.1") == names_of(read(chain_of(leaf))[0])
    assert () == names_of(read(root_of(root))[0])


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        pytest.param(["a.example.org"], "A.example.org.", True, id="same"),
        pytest.param(["*.Example.org"], "a.example.org", True, id="wildcard"),
        pytest.param(["*.example.org"], "b.a.example.org", False, id="two-labels"),
        pytest.param(["*.example.org"], "example.org", False, id="no-label"),
        pytest.param(["b.example.org"], "a.example.org", False, id="other"),
    ],
)
def test_names_cover_a_host(names: list[str], host: str, *, expected: bool) -> None:
    """A wildcard stands for one label."""
    assert expected is covers(names, host)
