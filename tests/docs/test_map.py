"""The maps of the repository agree with its files.

The maps are the docstring of `healthomics_gateway`, CONTRIBUTING.md, the guarantees and
the links between the pages.
"""

import ast
import pkgutil
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

import healthomics_gateway
from docs.guarantees import PAGE, marked_tests, promises_of, with_tests
from docs.package_graph import Layer, faults_of
from healthomics.v1.run_pb2 import Run
from healthomics_gateway.errors.reasons import Reason
from healthomics_gateway.settings.environment import (
    read_environment,
    unknown_variables,
    variable_of,
)
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.settings.sources import remove_invalid
from healthomics_gateway.upstream.classify import CODES
from healthomics_gateway.upstream.fields import put_members, puts_of
from mutants.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "server" / "healthomics_gateway"
MAP = healthomics_gateway.__doc__ or ""
PACKAGES, _, BEGINNINGS = MAP.partition("Where to begin:")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
GUARANTEES = PAGE.read_text()
MARKED = marked_tests()
WITHOUT_MUTANT = {  # by promise, the reason why no bug of the server breaks it
    "soak": "it is about every bug at once; `make soak` runs for ten minutes, and its"
    " test shows that its judge notices a wrong answer",
    "seeded-bugs": "it is about the bugs",
}
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

# The packages of each line, from the top of the map to its bottom.
LINES = [re.findall(r"`(\w+)`", line) for line in PACKAGES.split("\n* ")[1:]]
BEGIN = dict(re.findall(r"\* a new (.+): `(.+)`", BEGINNINGS))


def sources(*, of: Path = SERVER) -> Iterator[tuple[Path, ast.Module]]:
    """Return every module of a folder, parsed."""
    for file in sorted(of.rglob("*.py")):
        yield file, ast.parse(file.read_text())


def test_map_names_every_package_and_no_other() -> None:
    """The map lists each module and package of the gateway once."""
    found = {each.name for each in pkgutil.iter_modules(healthomics_gateway.__path__)}

    assert sorted(found - {"__main__"}) == sorted(chain(*LINES))


def test_map_names_files_to_begin_with() -> None:
    """Each file that the map names as a beginning exists."""
    assert [] == [file for file in BEGIN.values() if not (ROOT / file).is_file()]
    assert {"response field", "AWS error code", "error reason", "setting"} == set(BEGIN)


def run_of_tomorrow() -> Descriptor:
    """Return a descriptor of `Run` with one more field and one more status."""
    file = FileDescriptorProto()
    Run.DESCRIPTOR.file.CopyToProto(file)
    run = next(each for each in file.message_type if each.name == "Run")
    status = next(each for each in file.enum_type if each.name == "RunStatus")
    run.field.add(
        name="new_member",
        number=999,
        type=FieldDescriptorProto.TYPE_STRING,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    status.value.add(name="RUN_STATUS_PAUSED", number=99)
    pool = DescriptorPool()
    for each in (struct_pb2, timestamp_pb2):
        pool.AddSerializedFile(each.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return pool.FindMessageTypeByName(Run.DESCRIPTOR.full_name)


def test_response_field_begins_in_the_proto_of_runs() -> None:
    """A member or a status becomes typed by a line in run.proto, and not before."""
    sent = {"newMember": "text", "status": "PAUSED"}
    descriptor = run_of_tomorrow()
    today, tomorrow = Run(), GetMessageClass(descriptor)()
    untyped = put_members(today, sent, puts_of(Run.DESCRIPTOR))

    assert "protos/" + Run.DESCRIPTOR.file.name == BEGIN["response field"]
    assert [("newMember",), ("status",)] == untyped
    assert [] == put_members(tomorrow, sent, puts_of(descriptor))
    assert 'new_member: "text"' in str(tomorrow)
    assert "status: RUN_STATUS_PAUSED" in str(tomorrow)


def defined_in(file: str) -> set[str]:
    """Return the names that a module defines at its top level."""
    names = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
    return names


def test_aws_error_code_begins_in_the_code_tables() -> None:
    """AWS's codes are in one module of the gateway only."""
    elsewhere = {
        (file.name, word)
        for file, tree in sources()
        if file != ROOT / BEGIN["AWS error code"] and "sandbox" not in file.parts
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for word in CODES.keys() & set(node.value.split())
    }

    assert "CODES" in defined_in(BEGIN["AWS error code"])
    assert set() == elsewhere


def test_error_reason_begins_in_the_table_of_reasons() -> None:
    """All rows of reasons are created in one module."""
    rows = [
        file
        for file, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Row"
    ]

    assert "Reason" in defined_in(BEGIN["error reason"])
    assert [ROOT / BEGIN["error reason"]] * len(Reason) == rows


def test_setting_begins_in_the_settings() -> None:
    """One line in the class makes a setting known to every source of settings."""

    class Tomorrow(Settings):
        new_one: int = 1

    environ = {"GATEWAY_NEW_ONE": "2"}

    assert "Settings" in defined_in(BEGIN["setting"])
    assert "GATEWAY_NEW_ONE" == variable_of("new_one")
    assert {"new_one": 2} == read_environment(Tomorrow, environ)
    assert [] == unknown_variables(Tomorrow, environ)
    assert [] == remove_invalid(Tomorrow, {"new_one": "2"}, variable_of)
    assert unknown_variables(Settings, environ)


def test_design_names_the_modules_of_each_package() -> None:
    """Each row of the design's packages names modules that the package has."""
    table = (ROOT / "docs/internals/design.md").read_text().split("| package |")[1]
    rows = re.findall(r"^\| `([\w/]+)` \| (.*) \|$", table, re.MULTILINE)
    unknown = {
        f"{package}/{name}"
        for package, cell in rows
        if (SERVER / package).is_dir()
        for name in re.findall(r"`([a-z0-9_]+)`", cell)
        if not (SERVER / package / f"{name}.py").is_file()
    }

    assert rows
    assert set() == unknown


@pytest.mark.parametrize(
    ("layer", "imports", "faults"),
    [
        pytest.param(Layer(1, is_open=True), {"b": ["a"]}, 0, id="below"),
        pytest.param(Layer(1, is_open=True), {"a": ["b"]}, 1, id="above"),
        pytest.param(Layer(0, is_open=True), {"b": ["a"]}, 0, id="beside"),
        pytest.param(Layer(0, is_open=False), {"b": ["a"]}, 1, id="independent"),
        pytest.param(Layer(0, is_open=True), {"a": ["b"], "b": ["a"]}, 1, id="cycle"),
    ],
)
def test_package_graph_reports_imports_that_are_not_allowed(
    layer: Layer, imports: dict[str, list[str]], faults: int
) -> None:
    """Imports upward, between independent packages and in a cycle are faults."""
    layers = {"a": layer, "b": layer._replace(number=0)}

    assert faults == len(faults_of(imports, layers))


def test_guarantees_have_tests() -> None:
    """Each promise has a unique id and a test, and each mark names a promise."""
    ids = [promise for promise, _ in promises_of(GUARANTEES)]

    assert ids
    assert sorted(MARKED) == sorted(ids)


def test_guarantees_list_the_marked_tests() -> None:
    """The page is what `make guarantees` writes."""
    assert with_tests(GUARANTEES, MARKED) == GUARANTEES


def test_guarantees_are_broken_by_mutants() -> None:
    """For each promise there is a seeded bug that one of its tests must find."""
    finders = {f"tests/{test}" for each in MUTANTS for test in each.tests}
    unproven = {
        promise for promise, tests in MARKED.items() if finders.isdisjoint(tests)
    }

    assert set(WITHOUT_MUTANT) == unproven


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]
)
def test_links_of_a_page_have_targets(page: Path) -> None:
    """Every link to a file or a heading of the repository has a target."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    prose = re.sub(r"`[^`]*`", lambda code: code[0].replace("](", ""), text)
    dead = [
        link
        for link in re.findall(r"\]\(([^)\s]+)\)", prose)
        if "://" not in link and not has_target(page, link)
    ]

    assert [] == dead


def has_target(page: Path, link: str) -> bool:
    """Return whether a relative link's file exists, and the heading in it."""
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    if not target.exists() or not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
    plain = [re.sub(r"[^\w -]", "", heading).lower() for heading in headings]
    return anchor in [each.replace(" ", "-") for each in plain]


def test_contributing_lists_the_targets_of_make() -> None:
    """Every target of `make help` is explained, and every named target exists."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    explained = re.findall(r"^\| `make ([a-z-]+)` \|", CONTRIBUTING, re.MULTILINE)
    named = re.findall(r"`make ([a-z-]+)`", CONTRIBUTING)

    assert sorted(targets) == sorted(explained)
    assert set(named) == set(targets)


def test_pre_commit_runs_targets_of_make() -> None:
    """Each hook of pre-commit runs a make target that CONTRIBUTING.md explains."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    commands = re.findall(r"^ +entry: (.*)$", hooks, re.MULTILINE)

    assert commands
    assert [] == [each for each in commands if f"| `{each}` |" not in CONTRIBUTING]


def test_contributing_names_files_that_exist() -> None:
    """Every path in CONTRIBUTING.md exists, except those that make writes."""
    words = re.findall(r"`([\w./-]+)`", CONTRIBUTING)
    paths = [each for each in words if re.search(r"/|\.(md|txt|toml|proto)$", each)]
    known = {each.name for each in SERVER.iterdir()} | {"error_reason.proto"}
    missing = [
        path
        for path in paths
        if not path.startswith("build/")
        and path.strip("/") not in known
        and not (ROOT / path).exists()
    ]

    assert paths
    assert [] == missing
