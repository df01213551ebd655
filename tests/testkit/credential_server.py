"""A source of credentials over HTTP, like a container's, with scripted answers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from botocore.credentials import ContainerProvider
from botocore.httpsession import URLLib3Session
from botocore.utils import ContainerMetadataFetcher

from healthomics_gateway.sandbox import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.upstream.credentials import ChainProvider
from testkit.builders import aws_at, http
from testkit.connections import ConnectionServer

HOUR = timedelta(hours=1)
PATIENCE_SECONDS = 30.0  # longer than any stall, so that nothing is requested twice
PAUSE_SECONDS = 0.02  # the pauses of botocore and the provider take seconds


def session(number: int, *, lasting: timedelta = HOUR) -> bytes:
    """Return the account's credentials with the session token of that number."""
    members = {
        "AccessKeyId": ACCESS_KEY_ID,
        "SecretAccessKey": SECRET_ACCESS_KEY,
        "Token": token(number),
        "Expiration": (datetime.now(UTC) + lasting).isoformat(),
    }
    return http(json.dumps(members), keep=False)


def token(number: int) -> str:
    """Return the session token of that number."""
    return f"session-token-{number}"


NOTHING = http(b'{"message": "no session-token"}', keep=False, status=404)


class CredentialSource:
    """Answers request number n with answer number n; the last answer repeats.

    While it is `stalled` it accepts requests and answers them later.
    """

    def __init__(self, *answers: bytes) -> None:
        """Send `answers`, in that order."""
        self._answers = answers
        self._server = ConnectionServer(self._talk)
        self._is_flowing = asyncio.Event()
        self._is_flowing.set()
        self.asked = 0
        self.came = asyncio.Event()  # a request, since this was last cleared
        self.url = ""

    def answer(self, *answers: bytes) -> None:
        """Send other answers from now on."""
        self._answers = answers
        self.asked = 0

    def stall(self) -> None:
        """Stop answering."""
        self._is_flowing.clear()

    def flow(self) -> None:
        """Answer again, also the requests that wait."""
        self._is_flowing.set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self._server.listen()
        self.url = f"{self._server.url}/credentials"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        await self._server.stop()

    def aws(self, **options: Any) -> Callable[[str], Aws]:
        """Return the AWS of a gateway that reads its credentials from here.

        botocore's own provider reads them; `ChainProvider` has the `options`.
        """

        def provider(report: Any) -> ChainProvider:
            return ChainProvider(
                report,
                chain=self._provided,
                # The chain is read again at once, instead of every five seconds.
                **{"sleep": lambda _: asyncio.sleep(PAUSE_SECONDS)} | options,
            )

        return lambda url: replace(aws_at(url), provider=provider)

    def _provided(self) -> Any:
        """Read the credentials of this source over HTTP; this blocks."""
        return ContainerProvider(
            environ={ContainerProvider.ENV_VAR_FULL: self.url},
            fetcher=ContainerMetadataFetcher(
                session=URLLib3Session(timeout=PATIENCE_SECONDS),
                sleep=lambda _: threading.Event().wait(PAUSE_SECONDS),
            ),
        ).load()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        answer = self._answers[min(self.asked, len(self._answers)) - 1]
        self.came.set()
        await self._is_flowing.wait()
        writer.write(answer)
        await writer.drain()
