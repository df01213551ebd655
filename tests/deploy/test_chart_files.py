"""The files of the chart are those that `make deploy-files` writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from chart_files import SCHEMA, files, main, schema_of
from deploy.tools import ROOT

WRITTEN = files()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_file_is_what_make_deploy_files_writes(path: Path) -> None:
    """A changed setting, alert or dashboard is also in the chart."""
    advice = f"run `make deploy-files` and commit {path.relative_to(ROOT)}"

    assert WRITTEN[path] == path.read_text(), advice


def test_all_files_are_written() -> None:
    """The program writes the schema and the copies."""
    written: dict[Path, str] = {}

    assert 0 == main(written.__setitem__)
    assert WRITTEN == written
    assert SCHEMA in written


def test_unknown_type_of_a_setting_is_reported() -> None:
    """A setting of a new type needs a row in the table of types."""
    with pytest.raises(KeyError):
        schema_of(complex)
