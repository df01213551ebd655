"""The memory that HealthOmics' bodies can take, measured from outside the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from faults.cases import Tally
from faults.lying import TRUE_ID, LyingUpstream, Part, true_run
from rpc.test_drain import Served, client, serving
from support import Refusal, assert_well_made, get_run, http, refused

CAP = 1 << 20  # upstream.max_body_bytes
PLACES = 64  # upstream.max_concurrent
OWN_MIB = 16.0  # beyond what it takes for ordinary calls
PER_BYTE = 2.0  # a body is put together, then handed on
LARGE = 50_000_000
ENDLESS = 100_000_000  # as far as it goes: nobody may read so much
WARM_CALLS = 200
FIRST_ID = 2000011
DEADLINE_SECONDS = 30.0

BLOCK = b"x" * 65_536
FIELD = b"x-filler: " + b"x" * 4096 + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def declared(size: int) -> list[Part]:
    """Answer a body of a size that is told first."""
    head = OK + f"content-length: {size}\r\n\r\n".encode()
    return [head, *[BLOCK] * (size // len(BLOCK)), BLOCK[: size % len(BLOCK)]]


def chunked(size: int, *, block: bytes = BLOCK, end: bytes = LAST_CHUNK) -> list[Part]:
    """Answer a body in chunks of one size, of about so many bytes in all."""
    chunk = f"{len(block):x}\r\n".encode() + block + b"\r\n"
    return [CHUNKED, *[chunk] * (size // len(block)), end]


def with_headers(size: int) -> list[Part]:
    """Answer headers of about so many bytes, and no body."""
    return [OK, *[FIELD] * (size // len(FIELD)), b"content-length: 0\r\n\r\n"]


def with_long_header(size: int) -> list[Part]:
    """Answer one header of about so many bytes."""
    return [OK + b"x-filler: ", *[BLOCK] * (size // len(BLOCK)), b"\r\n\r\n"]
