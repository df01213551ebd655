"""The interface of a credentials provider, and a provider of fixed credentials."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.upstream.sigv4 import Credentials
from healthomics_gateway.version import VERSION

AGENT = f"healthomics-gateway/{VERSION}"  # the User-Agent

# Called with None when the gateway's AWS identity works, else with the reason why not.
Report = Callable[[Reason | None], None]


class CredentialsProvider(Protocol):
    """Provides the credentials that sign a call."""

    @property
    def is_usable(self) -> bool:
        """Return whether there are credentials that haven't expired."""
        ...

    @property
    def expires_at(self) -> datetime | None:
        """Return when the credentials expire; None if that isn't known."""
        ...

    async def credentials(self) -> Credentials:
        """Return credentials, or raise GATEWAY_CREDENTIALS_UNAVAILABLE."""
        ...

    async def renew(self, refused: Credentials) -> bool:
        """Replace credentials that AWS refused; return whether there are others now."""
        ...

    def fault(self) -> str:
        """Return why the background task has failed, or an empty string."""
        ...

    async def close(self) -> None:
        """Stop the background task."""
        ...


class FixedCredentials:
    """A provider of credentials that never change."""

    is_usable = True
    expires_at = None

    def __init__(self, credentials: Credentials) -> None:
        """Create a provider that always returns `credentials`."""
        self._credentials = credentials

    async def credentials(self) -> Credentials:
        """Return the credentials."""
        return self._credentials

    async def renew(self, refused: Credentials) -> bool:
        """Return whether other credentials than these were refused."""
        return refused != self._credentials

    def fault(self) -> str:
        """Return an empty string: there is no background task."""
        return ""

    async def close(self) -> None:
        """Do nothing: there is no background task."""


class ChainError(Exception):
    """A credential chain has no credentials; it has the reason, and fields to log."""

    def __init__(
        self, reason: Reason, name: str, *, source: str = "", advice: str = ""
    ) -> None:
        """Create an error with `reason`; the other arguments are for the log.

        `name` is AWS's error code or the exception's class, never a message text.
        `source` is the provider that failed, and `advice` what an operator can do.
        """
        super().__init__(name)
        self.reason = reason
        self.name = name
        self.log_fields = {"error": name}
        if source:
            self.log_fields["source"] = source
        if advice:
            self.log_fields["advice"] = advice
