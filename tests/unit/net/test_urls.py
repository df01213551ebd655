"""URLs are shown without what may be secret in them."""

from __future__ import annotations

import pytest

from healthomics_gateway.net.urls import masked_url


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://keys.test/a", "https://keys.test/a"),
        ("https://me:open@keys.test/a?key=sesame", "https://***@keys.test/a?***"),
        ("https://me:o/p@@keys.test", "https://***@keys.test"),
        ("https://me:o/p?e#n@@keys.test", "https://***"),
        ("https://keys.test/a?user=me@corp.test&key=sesame", "https://***"),
        ("https://keys.test/a#me@sesame", "https://***"),
        ("https://keys.test#sesame", "https://keys.test#***"),
        ("https://keys.test?a\nsesame", "https://keys.test?***"),
        ("what?", "what?"),
        ("joe@example.org", "joe@example.org"),
    ],
)
def test_url_is_shown_without_its_secrets(text: str, masked: str) -> None:
    """These are the user, the password, the query and the fragment."""
    assert masked == masked_url(text)
