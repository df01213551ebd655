"""Splits PEM files (RFC 7468) into their blocks.

A byte order mark, indentation, CRLF and text between the blocks are accepted. OpenSSL
and BoringSSL each skip blocks that they find malformed. So each block is checked and
passed to them on its own.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLOCK = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]+)-----$([^-]*)^-----END \1-----$", re.MULTILINE
)
_PART_OF_A_BLOCK = re.compile(rb"^-|-----(BEGIN|END)", re.MULTILINE)


_ENCRYPTED = b"Proc-Type: 4,ENCRYPTED"  # RFC 1421, of a key in the traditional form


class Block(NamedTuple):
    """One block: its label, such as `CERTIFICATE`, and its text with its boundaries."""

    label: str
    pem: bytes


def blocks_of(content: bytes) -> list[Block]:
    """Return the blocks of a file; raise ValueError if one is unusable."""
    if _ENCRYPTED in content:
        raise ValueError("the key is encrypted; save it without a password")
    lines = content.replace(_BYTE_ORDER_MARK, b"").splitlines()
    text = b"\n".join(line.strip() for line in lines)
    if _PART_OF_A_BLOCK.search(_BLOCK.sub(b"", text)):
        raise ValueError("it contains an incomplete block")
    return [
        Block(match[1].decode(), match[0] + b"\n") for match in _BLOCK.finditer(text)
    ]
