"""The command `serve` with more than one worker process."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from importlib import import_module
from secrets import token_bytes
from typing import Any, TypeAlias

from healthomics_gateway.app.reload import ConfigFile
from healthomics_gateway.cli.usage import DONE
from healthomics_gateway.net.addresses import Address, UnixPath
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.telemetry.log_lock import LogLock
from healthomics_gateway.upstream.config import Aws
from healthomics_gateway.workers.process import supervise
from healthomics_gateway.workers.program import Program
from healthomics_gateway.workers.supervisor import KILL_SECONDS
from healthomics_gateway.workers.worker_link import serve_worker
from healthomics_gateway.workers.zygote import Forked, start_zygote
from healthomics_gateway.workers.zygote_link import ZygoteLink

# Modules of the workers, without gRPC. The zygote loads them once, and all workers
# share their memory.
SHARED_MODULES = (
    "healthomics_gateway.auth.keyring",
    "healthomics_gateway.runs.watch",
    "healthomics_gateway.services.validation",
    "healthomics_gateway.telemetry.metrics.exposition",
    "healthomics_gateway.upstream.traced",
)

Run: TypeAlias = Callable[[Coroutine[Any, Any, Any]], Any]


def serve_with_workers(
    settings: Settings, aws: Aws | None, config: ConfigFile | None, *, run: Run
) -> int:
    """Serve until a signal; without `aws` use a sandbox.

    From here on this process is the supervisor, the zygote or a worker. `run` runs an
    event loop. Return the exit code.
    """
    for name in SHARED_MODULES:
        import_module(name)
    program = Program(
        settings=settings,
        config=config,
        aws=(lambda _: aws) if aws else _sandbox_aws,
        log_lock=LogLock(),
        secret=token_bytes(),
    )
    end_seconds = settings.drain_time.total_seconds() + KILL_SECONDS
    place = start_zygote(end_seconds=end_seconds)
    if isinstance(place, Forked):
        code: int = run(serve_worker(place, program))
        return code
    run(supervise(program, place) if aws else _supervise_with_sandbox(program, place))
    return DONE


def _sandbox_aws(url: str) -> Aws:
    from healthomics_gateway.cli.sandbox_aws import sandbox_aws  # only with a sandbox

    return sandbox_aws(url)


async def _supervise_with_sandbox(program: Program, link: ZygoteLink) -> None:
    """Serve by workers that use a sandbox in this process."""
    # Without `--sandbox`, neither is imported.
    from healthomics_gateway.cli.introduction import introduce
    from healthomics_gateway.sandbox import Sandbox

    async with Sandbox() as sandbox:

        async def started(address: Address | UnixPath, admin_address: Address) -> None:
            introduce(program.settings, address, admin_address)

        await supervise(program, link, sandbox=sandbox.url, started=started)
