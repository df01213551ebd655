"""The version of this gateway, looked up once: that reads files."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("healthomics-gateway")
