"""A source of credentials over HTTP, as a container's, and it can lie too."""

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
from healthomics_gateway.upstream.credentials import ChainIdentity
from testkit.builders import aws_at, http

HOUR = timedelta(hours=1)
PATIENCE_SECONDS = 30.0  # longer than any test stalls, so that nothing is asked twice
PAUSE_SECONDS = 0.02  # where botocore, and the look-outs, would take seconds


def session(number: int, *, lasting: timedelta = HOUR) -> bytes:
    """Give the account's credentials under the session token of that number."""
    told = {
        "AccessKeyId": ACCESS_KEY_ID,
        "SecretAccessKey": SECRET_ACCESS_KEY,
        "Token": token(number),
        "Expiration": (datetime.now(UTC) + lasting).isoformat(),
    }
    return http(json.dumps(told), keep=False)


def token(number: int) -> str:
    """Name a session token."""
    return f"session-token-{number}"


NOTHING = http(b'{"message": "session-token of nobody"}', keep=False, status=404)


class CredentialSource:
    """Answers the n-th request with the n-th answer, the last for ever.

    While it is `stalled` it takes requests, and answers when it isn't any more.
    """

    def __init__(self, *answers: bytes) -> None:
        """Give `answers`, in that order."""
        self._answers = answers
        self._talks: set[asyncio.Task[None]] = set()
        self._is_flowing = asyncio.Event()
        self._is_flowing.set()
        self.asked = 0
        self.came = asyncio.Event()  # a request, since this was last cleared
        self.url = ""

    def answer(self, *answers: bytes) -> None:
        """Give other answers from now on."""
        self._answers = answers
        self.asked = 0

    def stall(self) -> None:
        """Answer nobody."""
        self._is_flowing.clear()

    def flow(self) -> None:
        """Answer again, those who wait too."""
        self._is_flowing.set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/credentials"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close every connection."""
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def aws(self, **options: Any) -> Callable[[str], Aws]:
        """Make the AWS of a gateway that has its credentials from here.

        They come by botocore's own provider; `options` are the identity's.
        """

        def identity(report: Any) -> ChainIdentity:
            return ChainIdentity(
                report,
                chain=self._provided,
                # The chain is looked at again at once, not every five seconds.
                **{"sleep": lambda _: asyncio.sleep(PAUSE_SECONDS)} | options,
            )

        return lambda url: replace(aws_at(url), identity=identity)

    def _provided(self) -> Any:
        """Blocks: read what this source gives, over HTTP."""
        return ContainerProvider(
            environ={ContainerProvider.ENV_VAR_FULL: self.url},
            fetcher=ContainerMetadataFetcher(
                session=URLLib3Session(timeout=PATIENCE_SECONDS),
                sleep=lambda _: threading.Event().wait(PAUSE_SECONDS),
            ),
        ).load()

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        talk = asyncio.create_task(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            answer = self._answers[min(self.asked, len(self._answers)) - 1]
            self.came.set()
            await self._is_flowing.wait()
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()
