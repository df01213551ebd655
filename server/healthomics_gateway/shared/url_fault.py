"""Checks the URL of a store, which needs the extra `shared`."""

from __future__ import annotations

EXTRA = "the extra shared isn't installed: pip install 'healthomics-gateway[shared]'"


def url_fault(url: str) -> str | None:
    """Return why a store can't be used by its URL, without the URL; None if it can."""
    try:
        from healthomics_gateway.shared.valkey.urls import (  # noqa: PLC0415  # an extra
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
