"""Certificates of an upstream: valid ones, and each kind that must not be trusted."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from healthomics_gateway.upstream.config import Aws
from testkit.builders import aws_at

HOST = "localhost"  # host of a lying upstream over TLS
DAY = timedelta(days=1)


class Certified:
    """An upstream's TLS: its certificate, and the number of handshakes.

    The certificate can be replaced while it listens.
    """

    def __init__(self) -> None:
        """Begin with a valid certificate."""
        self._ca = trustme.CA()
        self.handshakes = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._count
        self.show()

    def show(self, host: str = HOST, *, is_known: bool = True, **dates: Any) -> None:
        """Use a certificate for `host`, by a known authority or by another."""
        ca = self._ca if is_known else trustme.CA()
        ca.issue_cert(host, **dates).configure_cert(self.context)

    def show_self_signed(self, folder: Path) -> None:
        """Use a certificate that only its own key has signed."""
        self_signed = trustme.CA()
        file = folder / "self-signed.pem"
        self_signed.private_key_pem.write_to_path(file)
        self_signed.cert_pem.write_to_path(file, append=True)
        self.context.load_cert_chain(file)

    def show_expired(self) -> None:
        """Use a certificate that expired yesterday."""
        self.show(not_before=datetime.now(UTC) - 2 * DAY, not_after=_days_off(-1))

    def show_premature(self) -> None:
        """Use a certificate that becomes valid tomorrow."""
        self.show(not_before=_days_off(1), not_after=_days_off(2))

    def trusted_by(self, folder: Path) -> Callable[[str], Aws]:
        """Return the AWS of a gateway that trusts the known authority alone."""
        file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(file)
        return lambda url: replace(aws_at(url), ca_file=str(file))

    def _count(self, *_of_this_handshake: object) -> None:
        self.handshakes += 1


def _days_off(days: int) -> datetime:
    return datetime.now(UTC) + days * DAY
