"""Signature Version 4 of a request without headers of its own.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Credentials:
    """One set of AWS credentials; only the access key id may be shown."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)  # of temporary credentials


class Signer:
    """Signs requests to one service in one Region, and caches the day's key."""

    def __init__(self, *, region: str, service: str) -> None:
        """Create a signer for `region` and the signing name `service`."""
        self._region = region
        self._service = service
        self._key_of: tuple[str, str] = ("", "")  # day and secret key
        self._key = b""

    def headers(
        self,
        credentials: Credentials,
        *,
        host: str,
        path: str,
        query: str = "",
        now: datetime,
        method: str = "GET",
        body: bytes = b"",
    ) -> dict[str, str]:
        """Return the headers that sign `method path?query`, with `host` among them.

        `path` is encoded, without dot segments and empty ones. `query` is sorted and
        encoded. `now` is in UTC.
        """
        moment = now.isoformat(timespec="seconds")[:19]
        time = f"{moment.replace('-', '').replace(':', '')}Z"
        headers = {"host": host, "x-amz-date": time}
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        signed = ";".join(headers)
        lines = "".join(
            f"{name}:{' '.join(value.split())}\n" for name, value in headers.items()
        )
        twice_encoded = quote(path, safe="/~")
        content = hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256
        request = f"{method}\n{twice_encoded}\n{query}\n{lines}\n{signed}\n{content}"
        scope = f"{time[:8]}/{self._region}/{self._service}/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = hmac.digest(
            self._day_key(credentials.secret_key, time[:8]),
            f"{ALGORITHM}\n{time}\n{scope}\n{digest}".encode(),
            "sha256",
        ).hex()
        headers["authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _day_key(self, secret_key: str, day: str) -> bytes:
        if self._key_of != (day, secret_key):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key_of, self._key = (day, secret_key), key
        return self._key
