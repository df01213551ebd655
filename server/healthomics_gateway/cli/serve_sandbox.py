"""The command `serve --sandbox`: a gateway with a fake HealthOmics of its own."""

from __future__ import annotations

from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.process import serve
from healthomics_gateway.app.reload import ConfigFile
from healthomics_gateway.cli.introduction import introduce
from healthomics_gateway.cli.sandbox_aws import sandbox_aws
from healthomics_gateway.sandbox import Sandbox
from healthomics_gateway.settings.schema import Settings


async def serve_sandbox(settings: Settings, config: ConfigFile | None) -> None:
    """Serve the gateway and its sandbox until a signal stops them."""

    async def started(gateway: Gateway) -> None:
        introduce(settings, gateway.address, gateway.admin_address)

    async with Sandbox() as sandbox:
        aws = sandbox_aws(sandbox.url)
        await serve(settings, aws, config=config, started=started)
