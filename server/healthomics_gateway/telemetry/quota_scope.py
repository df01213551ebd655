"""Whose requests a quota limits: the values of the label `scope`."""

from __future__ import annotations

WORKER = "worker"  # one worker's share; the shares of all workers are summed
GATEWAY = "gateway"  # one gateway alone, with all of its workers
ALL = "all"  # all gateways with the same store; each of them reports the same
