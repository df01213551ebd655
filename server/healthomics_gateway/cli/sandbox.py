"""The command `sandbox`."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from contextlib import AsyncExitStack

from healthomics_gateway.cli.usage import DONE
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.sandbox import Sandbox, environment


def sandbox(options: Namespace) -> int:
    """Serve only the fake HealthOmics, until Ctrl-C."""
    try:
        asyncio.run(_serve_sandbox_alone(options))
    except KeyboardInterrupt:
        return DONE
    return DONE


async def _serve_sandbox_alone(options: Namespace) -> None:
    async with AsyncExitStack() as stack:
        try:
            sandbox = await stack.enter_async_context(
                Sandbox(
                    host=options.listen.host,
                    port=options.listen.port,
                    latency_seconds=options.latency.total_seconds(),
                    quota_per_second=options.quota,
                )
            )
        except OSError:
            raise ConfigurationError(
                f"--listen {options.listen}: the address can't be bound; is it in use?"
            ) from None
        for name, value in environment(sandbox).items():
            print(f"export {name}={value}", flush=True)
        await asyncio.Event().wait()
