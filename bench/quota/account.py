"""A fake AWS account: any signed `GET /run/{id}` takes a token from a token bucket.

If the bucket is empty, it answers 429 ThrottlingException as AWS does. `GET /record`
returns a pair for each request: the time in seconds of the system's monotonic clock,
and `true` if the request was throttled.
"""

import argparse
import asyncio
import time

from aiohttp import web

from common import canned_run

TPS = 10.0
DEPTH = 10.0
LATENCY_SECONDS = 0.05  # of all answers

_ALGORITHM = "AWS4-HMAC-SHA256 "


class Account:
    """The token bucket of an account, and a record of all requests."""

    def __init__(self) -> None:
        self._tokens = DEPTH
        self._filled = time.monotonic()
        self._record: list[tuple[float, bool]] = []

    async def get_run(self, request: web.Request) -> web.Response:
        """Return a run, or AWS's error if the request isn't signed or is throttled."""
        if not request.headers.get("authorization", "").startswith(_ALGORITHM):
            return _error(403, "MissingAuthenticationTokenException", "Not signed")
        is_throttled = not self._take()
        self._record.append((self._filled, is_throttled))
        await asyncio.sleep(LATENCY_SECONDS)
        if is_throttled:
            return _error(429, "ThrottlingException", "Rate exceeded")
        body = canned_run.answer(request.match_info["id"])
        return web.Response(body=body, content_type="application/json")

    async def record(self, _request: web.Request) -> web.Response:
        """Return the time of each request, and whether it was throttled."""
        return web.json_response(self._record)

    def _take(self) -> bool:
        now = time.monotonic()
        gained = (now - self._filled) * TPS
        self._tokens, self._filled = min(self._tokens + gained, DEPTH), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _error(status: int, code: str, message: str) -> web.Response:
    headers = {"x-amzn-errortype": code}
    return web.json_response({"message": message}, status=status, headers=headers)


def serve(port: int) -> None:
    """Serve on loopback until the process is terminated."""
    account, application = Account(), web.Application()
    application.router.add_get(r"/run/{id:\d{1,18}}", account.get_run)
    application.router.add_get("/record", account.record)
    web.run_app(application, host="127.0.0.1", port=port, access_log=None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    serve(parser.parse_args().port)
