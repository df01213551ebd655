"""The tables of the status page."""

from __future__ import annotations

import asyncio
from pathlib import Path

import trustme

from healthomics_gateway.app.aggregation.readiness import WORKERS
from healthomics_gateway.app.gateway import Gateway
from healthomics_gateway.app.reload import ConfigFile, Reload
from healthomics_gateway.app.statusz.tables import MEANINGS
from healthomics_gateway.settings.load import load
from testkit.authorities import HOST, tls_settings
from testkit.builders import aws_at
from testkit.callers import settings_of_tokens


async def test_each_part_has_its_meaning(tmp_path: Path) -> None:
    """The table has all parts of a gateway that has everything, and no other."""
    certificate = trustme.CA().issue_cert(HOST)
    environ = {
        **settings_of_tokens(tmp_path),
        **tls_settings(certificate, tmp_path),
        "GATEWAY_SHARED__URL": "redis://127.0.0.1:9",
        "GATEWAY_SHARED__SECRET": "0" * 32,
    }
    settings = load(flags={}, environ=environ, config_file=None).settings
    file = ConfigFile(tmp_path / "gateway.toml", b"", lambda _: settings)
    served = Gateway(
        settings,
        aws_at("http://127.0.0.1:9"),
        reload=Reload(
            file=file, requested=asyncio.Event(), set_log_level=lambda _: None
        ),
        fault_of_log=str,
    )
    names = {each.name for each in served.parts.readiness.parts}
    await served.stop()

    assert {*names, WORKERS} == set(MEANINGS)
