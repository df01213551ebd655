"""What the steps have found so far."""

from __future__ import annotations

import pytest

from healthomics_gateway.check.found import Found


def test_step_that_comes_first_is_named() -> None:
    """A step that uses what no step has found yet is a mistake in their order."""
    with pytest.raises(RuntimeError, match="the step settings comes first"):
        _ = Found(environ={}, log_file=-1).settings
