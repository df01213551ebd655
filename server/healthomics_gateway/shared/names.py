"""Derives the names of what is shared, so that data of different owners isn't mixed."""

from __future__ import annotations

from hashlib import sha256

from healthomics.v1.run_pb2 import Run
from healthomics_gateway.shared.seal import Sealer

# Gateways with different contracts share no runs: the older one would pass on members
# that it doesn't know, also those that its settings withhold.
CONTRACT = sha256(Run.DESCRIPTOR.file.serialized_pb).hexdigest()


class Names:
    """Names for one Region and endpoint of HealthOmics.

    What belongs to the gateway's own AWS identity has a name only when that identity is
    known: gateways with different ones could use the same store and the same secret.
    """

    def __init__(
        self, sealer: Sealer, *, region: str, endpoint: str, contract: str = CONTRACT
    ) -> None:
        """Begin without an identity; runs are those of a `contract`."""
        self._sealer = sealer
        self._place = (region, endpoint)
        self._contract = contract
        self._account = self._identity = ""

    def learn(self, *, account: str, identity: str) -> None:
        """Set the gateway's own AWS account, and its identity there."""
        self._account, self._identity = account, identity

    @property
    def has_identity(self) -> bool:
        """Return whether the gateway's own AWS identity is known."""
        return bool(self._identity)

    def quota(self, account: str, kind: str) -> str:
        """Return the name of the quota of an account, or of the own one if empty.

        That of the own one doesn't depend on whether the account is known, because two
        names for one account would allow twice its rate.
        """
        return self._sealer.name("quota", *self._place, account, kind)

    def run(self, run_id: str, *, role: str, caller: str) -> str | None:
        """Return the name of a run as an AWS identity sees it; None if unknown.

        It is that of a role that is assumed for a caller, or the gateway's own one.
        """
        if not (role or self.has_identity):
            return None
        identity = () if role else (self._account, self._identity)
        place = (self._contract, *self._place)
        return self._sealer.name("run", *place, *identity, role, caller, run_id)

    def caller(self, kind: str, caller: str) -> str:
        """Return the name of what is counted of a caller."""
        return self._sealer.name(kind, *self._place, caller)
