"""A parser of replies that buffers no more than a bound."""

from __future__ import annotations

from typing import Any

from redis._parsers import _AsyncHiredisParser
from redis.exceptions import ConnectionError as RedisConnectionError

# The base is private because redis-py has neither a setting for this nor a public class
# of parsers. hiredis keeps a reply until all of it has arrived, and its `maxbuf` only
# bounds a buffer that isn't used: https://github.com/redis/hiredis/issues/1373


def bounded_parser(max_bytes: int) -> type[_AsyncHiredisParser]:
    """Return a class of parsers that refuse a reply of more than `max_bytes`.

    It counts as a broken connection, which is then closed: anybody with access to the
    server can publish a message of up to 512 MiB.
    """

    class BoundedParser(_AsyncHiredisParser):
        """Counts the bytes that have arrived since the last complete reply."""

        def on_connect(self, connection: Any) -> None:
            """Begin with a new connection."""
            self._unread = 0
            super().on_connect(connection)  # type: ignore[no-untyped-call]

        async def read_from_socket(self) -> bool:
            """Add what has arrived to the reply; it replaces the method of the base."""
            data = await self._stream.read(self._read_size)  # type: ignore[union-attr]
            self._unread += len(data)
            if not data or self._unread > max_bytes:
                raise RedisConnectionError("closed, or too long a reply")
            self._reader.feed(data)  # type: ignore[attr-defined]
            return True

        async def read_response(self, *args: Any, **kwargs: Any) -> Any:
            """Return the next reply."""
            reply = await super().read_response(*args, **kwargs)
            self._unread = 0
            return reply

    return BoundedParser
