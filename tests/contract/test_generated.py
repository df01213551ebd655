"""The generated files in the repository are what the tools generate from the protos."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from healthomics.v1 import error_reason_pb2, run_pb2, run_service_pb2

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "generated"


def files_in(folder: Path) -> dict[str, bytes]:
    """Read every file below a folder, by its relative path, without caches."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def make(*words: str) -> None:
    """Run make."""
    subprocess.run(
        ["make", *words],  # noqa: S607  # make is found on the PATH, as usual
        cwd=ROOT,
        check=True,
        capture_output=True,
    )


@pytest.mark.skipif(
    sys.version_info >= (3, 13),
    reason="grpcio-tools 1.62.3, which generates the code, has no wheels for it",
)
def test_generated_is_fresh(tmp_path: Path) -> None:
    """`make generate` generates exactly the files in the repository, from nothing."""
    make("generate", f"OUT={tmp_path}")

    assert files_in(tmp_path / "healthomics") == files_in(GENERATED / "healthomics")


def without_json_names(file: FileDescriptorProto) -> FileDescriptorProto:
    """Return a descriptor without the JSON names, which protoc leaves out."""
    file.ClearField("source_code_info")
    for message in file.message_type:
        for each in (message, *message.nested_type):
            for field in each.field:
                field.ClearField("json_name")
    return file


def test_descriptor_holds_the_contract(tmp_path: Path) -> None:
    """`make descriptor` writes the three files with comments, and the error details."""
    make("descriptor", f"DESCRIPTOR={tmp_path / 'set.binpb'}")
    written = FileDescriptorSet.FromString((tmp_path / "set.binpb").read_bytes())
    files = {each.name: each for each in written.file}

    for module in (error_reason_pb2, run_pb2, run_service_pb2):
        expected = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        actual = files[expected.name]
        assert actual.source_code_info.location
        assert without_json_names(expected) == without_json_names(actual)
    assert {"google/rpc/status.proto", "google/rpc/error_details.proto"} <= files.keys()


def test_both_packages_have_one_version() -> None:
    """The gateway requires the package of its own stubs, at its own version."""
    gateway, stubs = (
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        for folder in (ROOT, GENERATED)
    )

    assert gateway["version"] == stubs["version"]
    assert f"{stubs['name']}=={stubs['version']}" in gateway["dependencies"]
