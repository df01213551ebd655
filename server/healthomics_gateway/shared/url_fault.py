"""Checks the URL of a store, which needs the extra `shared`."""

from __future__ import annotations

# Not by the distribution's name alone: it may be another's in a public index.
EXTRA = "the extra shared isn't installed: install it as docs/guide/sharing.md says"


def url_fault(url: str) -> str | None:
    """Return why a store can't be used by its URL, without the URL; None if it can."""
    try:
        from healthomics_gateway.shared.valkey.urls import (  # noqa: PLC0415  # its libraries, an extra, may be missing
            StoreUrlError,
            parse_store_url,
        )
    except ImportError:
        return EXTRA
    try:
        parse_store_url(url)
    except StoreUrlError as error:
        return str(error)
    return None
