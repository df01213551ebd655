"""Calls a HealthOmics gateway: copy this file, and watch.py to watch runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from grpc_status import rpc_status

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics.v1.run_service_pb2 import GetRunRequest
from healthomics.v1.run_service_pb2_grpc import RunServiceStub

# Finds a dead connection within 80 s, also while a watch is silent.
KEEPALIVE = (("grpc.keepalive_time_ms", 60_000), ("grpc.keepalive_timeout_ms", 20_000))


def connect(
    address: str, config: Path, ca: Path | None = None, token: Path | None = None
) -> grpc.Channel:
    """Return a channel with a service config; `ca` is for TLS, `token` needs TLS.

    Raises OSError for a file that can't be read, and ValueError for one whose content
    is wrong.
    """
    options = [("grpc.service_config", config.read_text()), *KEEPALIVE]
    if token and not ca:
        raise ValueError("a token needs TLS")
    if ca is None:
        return grpc.insecure_channel(address, options)
    authorities = ca.read_bytes()
    if b"-----BEGIN CERTIFICATE-----" not in authorities:  # it would trust its own
        raise ValueError(f"{ca}: there is no certificate in it")
    credentials = grpc.ssl_channel_credentials(authorities)
    if token is not None:
        read_token(token)  # or the first call would wait for its deadline
        call = grpc.metadata_call_credentials(TokenFile(token))
        credentials = grpc.composite_channel_credentials(credentials, call)
    return grpc.secure_channel(address, credentials, options)


class TokenFile(grpc.AuthMetadataPlugin):
    """Sends the token in a file, which is read for each call, as it may be renewed."""

    def __init__(self, file: Path) -> None:
        """Read the token from `file`."""
        self._file = file

    def __call__(self, _context: Any, callback: Any) -> None:
        """Call `callback` with the metadata, or with the error."""
        try:
            callback([("authorization", f"Bearer {read_token(self._file)}")], None)
        except (OSError, ValueError) as error:
            callback([], error)


def read_token(file: Path) -> str:
    """Return the token in a file; raise ValueError if metadata can't have it."""
    text = file.read_bytes().decode("ascii", errors="replace").strip()
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"{file}: a token has only visible ASCII characters")
    return text


def get_run(channel: grpc.Channel, request: GetRunRequest, seconds: float) -> Any:
    """Return the call: result() waits for the run, and cancel() cancels."""
    return RunServiceStub(channel).GetRun.future(request, timeout=seconds)


def details_of(error: Any) -> dict[Any, Any]:
    """Return an error's details by type: none if no gateway sent it."""
    kinds = (BadRequest, ErrorInfo, RequestInfo, RetryInfo)
    try:
        status = rpc_status.from_call(error)
        pairs = [(d, k) for d in (status.details if status else ()) for k in kinds]
        return {k: k.FromString(d.value) for d, k in pairs if d.Is(k.DESCRIPTOR)}
    except (DecodeError, ValueError):  # a proxy has changed them
        return {}


def status_of(run: Run) -> str:
    """Return AWS's word for the status, even if it is newer than the stubs."""
    newer = run.unmodeled_json.get("status")
    if newer is None:
        names = {number: name for name, number in RunStatus.items()}
        return names.get(run.status, str(run.status)).replace("RUN_STATUS_", "", 1)
    word = json.loads(newer)
    return word if isinstance(word, str) else newer
