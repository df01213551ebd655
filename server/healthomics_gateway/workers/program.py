"""What all processes of a gateway with workers have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from healthomics_gateway.app.reload import ConfigFile
from healthomics_gateway.settings.reloading import reloaded
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.log_lock import LogLock
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.workers.ports import Ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The settings, as they were read and checked before the zygote was forked."""

    settings: Settings
    config: ConfigFile | None
    # Returns AWS's settings; the URL is that of the sandbox, empty without one.
    aws: Callable[[str], Aws]
    log_lock: LogLock
    secret: bytes  # that authenticates what the workers share

    def with_ports(self, ports: Ports) -> Program:
        """Return the same with the ports that the supervisor holds."""
        config = self.config
        if config:
            load = config.load
            config = replace(
                config, load=lambda content: ports.applied_to(load(content))
            )
        return replace(self, settings=ports.applied_to(self.settings), config=config)

    def with_content(self, content: bytes) -> Program:
        """Return the same with what a reload of this content of the file changes.

        Raises ConfigurationError with all faults.
        """
        if self.config is None or content == self.config.content:
            return self
        settings = reloaded(self.settings, self.config.load(content))
        return replace(
            self, settings=settings, config=replace(self.config, content=content)
        )
