"""The generated files in the repository are what the tools generate from the protos."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from contract import wheels
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


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        pytest.param("", "", 0, id="unchanged"),
        pytest.param("string digest =", "string checksum =", 100, id="renamed-field"),
        pytest.param("com.healthomics.v1", "com.labs.v1", 100, id="java-package"),
    ],
)
def test_breaking_change_is_found(
    tmp_path: Path, old: str, new: str, code: int
) -> None:
    """`buf breaking` compares with the released contract, packages included."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    file = tmp_path / "protos/healthomics/v1/run.proto"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run(
        [buf, "breaking", "--against", ROOT / "protos/released.binpb"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )

    assert (code, bool(new)) == (done.returncode, "run.proto" in done.stdout)


def test_file_of_two_wheels_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check of the wheels names the files that are in both."""
    for wheel, own in (("a.whl", "a.py"), ("b.whl", "b.py")):
        with ZipFile(tmp_path / wheel, "w") as archive:
            for name in (own, "both.py"):
                archive.writestr(name, "")

    assert 1 == wheels.main([str(tmp_path / each) for each in ("a.whl", "b.whl")])
    assert "in more than one wheel: both.py\n" == capsys.readouterr().err
    assert 0 == wheels.main([str(tmp_path / "a.whl")])
