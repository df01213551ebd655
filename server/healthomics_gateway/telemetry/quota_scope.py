"""The values of the label `scope`: whose requests a quota limits."""

from __future__ import annotations

GATEWAY = "gateway"  # one gateway, with all of its workers: its own, or its share
ALL = "all"  # all gateways with the same store; each of them reports the same
