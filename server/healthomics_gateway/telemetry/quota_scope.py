"""Who uses a quota: the values of the label `scope`."""

from __future__ import annotations

GATEWAY = "gateway"  # one gateway alone, with all of its workers
ALL = "all"  # all gateways with the same store; each of them reports the same
