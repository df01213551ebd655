"""What the steps have found so far, for the steps that follow."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from healthomics_gateway.app.wiring import UpstreamParts, make_upstream
from healthomics_gateway.settings.load import Loaded
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.metrics.registry import Metrics
from healthomics_gateway.upstream.clock import utc_now
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.upstream.credential_chain import read_chain
from healthomics_gateway.upstream.credentials import ChainProvider
from healthomics_gateway.upstream.provider import ChainError, CredentialsProvider
from healthomics_gateway.upstream.reply import Reply

T = TypeVar("T")


class RecordedChain:
    """The credential chain of AWS's SDK; it keeps what it returned, or its error."""

    def __init__(self, read: Callable[..., Any] = read_chain) -> None:
        """Wrap `read`, which blocks, and raises ChainError if there is nothing."""
        self._read = read
        self._programs: list[subprocess.Popen[bytes]] = []
        self.credentials: Any = None  # botocore's
        self.error: ChainError | None = None

    def __call__(self) -> Any:
        """Return botocore's credentials, or raise ChainError. This blocks."""
        try:
            self.credentials = self._read(start=self._start)
        except ChainError as error:
            self.error = error
            raise
        return self.credentials

    def _start(self, *args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        program = subprocess.Popen(*args, **kwargs)  # noqa: S603  # as botocore would
        self._programs.append(program)
        return program

    def end_programs(self) -> None:
        """End the programs that have been asked for credentials and still run."""
        for program in self._programs:
            program.kill()


@dataclass(slots=True, kw_only=True, eq=False)
class Found:
    """What is checked, and what the steps have found; create it in an event loop."""

    environ: Mapping[str, str]
    config_file: Path | None = None
    run_id: str | None = None
    log_file: int  # the descriptor that the log is written to
    fake_keys: frozenset[str] = frozenset()  # access keys of the sandbox
    now: Callable[[], datetime] = utc_now
    chain: RecordedChain = field(default_factory=RecordedChain)
    provider: CredentialsProvider | None = None  # by default that of `chain`
    loaded: Loaded | None = None
    faults: tuple[str, ...] = ()  # of the settings
    aws: Aws | None = None
    reply: tuple[Reply, datetime] | None = None  # of the endpoint, and when it came
    _upstream: UpstreamParts | None = None

    @property
    def settings(self) -> Settings:
        """The gateway's settings; faulty ones have their defaults."""
        return known(self.loaded, "settings").settings

    @property
    def upstream(self) -> UpstreamParts:
        """The sources and clients that the gateway would use, made at first use."""
        if self._upstream is None:
            provider = self.own_provider()
            aws = replace(known(self.aws, "aws"), provider=lambda _: provider)
            self._upstream = make_upstream(
                self.settings, aws, report=_ignore, metrics=Metrics(is_on=False)
            )
        return self._upstream

    def own_provider(self) -> CredentialsProvider:
        """Return the provider of the gateway's credentials, made at first use."""
        if self.provider is None:
            self.provider = ChainProvider(_ignore, chain=self.chain, recovers=False)
        return self.provider

    @property
    def is_sandbox(self) -> bool:
        """Return whether the credentials are a sandbox's, and no other STS is set.

        A sandbox has no roles.
        """
        key = getattr(self.chain.credentials, "access_key", None)
        sts = self._endpoint("STS")
        return key in self.fake_keys and sts in ("", self._endpoint("OMICS"))

    @property
    def is_unknown_to_sts(self) -> bool:
        """Return whether the credentials are a sandbox's, but STS is that of AWS.

        They aren't sent there.
        """
        return self.is_sandbox and not self._endpoint("STS")

    def _endpoint(self, service: str) -> str:
        """Return the endpoint that the environment sets for a service, or nothing."""
        names = (f"AWS_ENDPOINT_URL_{service}", "AWS_ENDPOINT_URL")
        return next(filter(None, map(self.environ.get, names)), "")

    async def close(self) -> None:
        """Close all connections, and end the programs that were started."""
        self.chain.end_programs()
        if self._upstream:
            await self._upstream.close()
        elif self.provider:
            await self.provider.close()


def _ignore(_reason: object) -> None:
    """Take a report about readiness, which a check doesn't have."""


def known(value: T | None, step: str) -> T:
    """Return what a step has found; raise RuntimeError if it hasn't been run."""
    if value is None:
        raise RuntimeError(f"the step {step} comes first")
    return value
