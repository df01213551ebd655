"""The seeded bugs fit the server's sources, and a run reports those that survive."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from mutants.mutants import MUTANTS, Mutant
from mutants.mutation import SHORT
from mutants.mutation import TESTS as MODULES
from mutants.run import PACKAGE, SERVER, TESTS, Suite, main, mutated

FOUND = "tests/unit/test_durations.py::test_it"
TOY = Mutant(
    "toy",
    "durations.py",
    '"ms": 1000}',
    '"ms": 1001}',
    "test_durations.py::test_it",
)
BROKEN = Mutant("broken", "durations.py", "import re\n", "import no_re\n", TOY.test)
ELSEWHERE = Mutant("elsewhere", "durations.py", "no such text", "", TOY.test)


def text_of(mutant: Mutant) -> str:
    """Return the text of the file that a bug is seeded into."""
    return (SERVER / PACKAGE / mutant.file).read_text()


def suite_that_finds(*, named: bool = False, whole: bool = False) -> Suite:
    """Return a suite that passes without a bug and may find the toy bug."""

    def suite(tests: Sequence[str], source: Path) -> str:
        text = (source / PACKAGE / TOY.file).read_text()
        finds = named if tests else whole
        return FOUND if finds and TOY.new in text else ""

    return suite


def suite_that_fails(*, of_named: int) -> Suite:
    """Return a suite that finds the toy bug, but finally fails without it too."""
    calls: Counter[bool] = Counter()

    def suite(tests: Sequence[str], _source: Path) -> str:
        calls[bool(tests)] += 1
        return "" if tests and calls[True] < of_named else FOUND

    return suite


@pytest.mark.guarantee("seeded-bugs")
@pytest.mark.parametrize(
    "mutant", [pytest.param(each, id=each.name) for each in MUTANTS]
)
def test_mutant_has_one_place_and_compiles(mutant: Mutant) -> None:
    """A bug fits exactly one place of its file, changes it, and is valid Python."""
    text = text_of(mutant)
    changed = mutated(mutant, text)

    assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(changed))


def test_mutants_name_tests_that_exist() -> None:
    """The tests that each bug names exist."""
    named = {test.partition("::")[::2] for each in MUTANTS for test in each.tests}
    known = {
        (file, node.name)
        for file in {file for file, _ in named}
        for node in ast.parse((TESTS / file).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert set() == named - known


def test_mutation_names_modules_and_tests_that_exist() -> None:
    """Each module of mutation testing exists, and so do its unit tests."""
    files = {SERVER / PACKAGE / module for module in MODULES}
    files |= {
        TESTS / "unit" / each for names in MODULES.values() for each in names.split()
    }

    assert set(SHORT) <= MODULES.keys()
    assert [] == [each for each in files if not each.with_suffix(".py").is_file()]


def test_mutants_have_unique_names() -> None:
    """No two bugs have the same name or the same change."""
    names = Counter(each.name for each in MUTANTS)
    bugs = Counter((each.file, each.old, each.new) for each in MUTANTS)

    assert [] == [name for name, count in names.items() if count > 1]
    assert [] == [bug for bug, count in bugs.items() if count > 1]


@pytest.mark.parametrize(
    ("suite", "code", "end"),
    [
        pytest.param(suite_that_finds(named=True), 0, "1 of 1", id="named"),
        pytest.param(suite_that_finds(whole=True), 0, "1 of 1", id="whole-suite"),
        pytest.param(suite_that_finds(), 1, "0 of 1", id="survivor"),
    ],
)
def test_run_reports_how_many_are_caught(
    suite: Suite, code: int, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run succeeds only if each bug is found, by a named test or the whole suite."""
    before = text_of(TOY)

    assert code == main([], mutants=[TOY], suite=suite)
    lines = capsys.readouterr().out.splitlines()
    assert f"{end} mutants caught" == lines[-1]
    assert code == ("survived: toy" in lines)
    assert before == text_of(TOY)


@pytest.mark.guarantee("seeded-bugs")
@pytest.mark.parametrize(
    ("mutant", "suite", "words"),
    [
        pytest.param(
            BROKEN, suite_that_finds(), "broken: it can't be imported", id="no-import"
        ),
        pytest.param(
            ELSEWHERE, suite_that_finds(), "its place is 0 times", id="no-place"
        ),
        pytest.param(
            TOY, suite_that_fails(of_named=1), "fails already", id="fails-at-first"
        ),
        pytest.param(
            TOY, suite_that_fails(of_named=3), "fails already", id="fails-in-the-end"
        ),
    ],
)
def test_run_that_goes_wrong_catches_nothing(
    mutant: Mutant, suite: Suite, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug that can't be seeded, or a test that fails without it, is an error."""
    assert 2 == main([], mutants=[mutant], suite=suite)
    said = capsys.readouterr().out
    assert words in said
    assert "mutants caught" not in said
