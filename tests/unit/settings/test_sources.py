"""Reading, validating and merging sources, with a schema of the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from healthomics_gateway.files import MAX_BYTES
from healthomics_gateway.settings.sources import (
    MAX_KEY_PARTS,
    leaves,
    merge,
    parse_file,
    read_file,
    remove_invalid,
)


class Kettle(BaseModel):
    """A table."""

    model_config = ConfigDict(extra="forbid")

    cups: Annotated[int, Field(ge=1, le=8, strict=True)] = 2
    whistle: Annotated[bool, Field(strict=True)] = True


class Kitchen(BaseSettings):
    """A schema."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", env_nested_delimiter="__", extra="forbid"
    )

    owner: str = "nobody"
    kettle: Kettle = Kettle()

    @classmethod
    def settings_customise_sources(cls, *_args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Take only the given values."""
        return (kwargs["init_settings"],)


def settings_in(file: Path | None) -> tuple[dict[str, Any], list[str]]:
    """Return the settings in a file, and the faults of reading and parsing it."""
    content, faults = read_file(file)
    values, more = parse_file(file, content)
    return values, faults + more


def config(folder: Path, content: str | bytes) -> Path:
    """Write a file of settings and return its path."""
    file = folder / "kitchen.toml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


DOTS = "a." * 100  # looks like a key with many parts


def faults_of(values: dict[str, Any]) -> list[str]:
    """Remove the invalid settings; return the faults, with `<name>` as origin."""
    return remove_invalid(Kitchen, values, lambda name: f"<{name}>")


def test_file_is_toml_in_utf_8(tmp_path: Path) -> None:
    """A TOML file is read with its tables, as UTF-8."""
    file = config(tmp_path, 'owner = "Zoë"\n[kettle]\ncups = 3\n')

    assert ({"owner": "Zoë", "kettle": {"cups": 3}}, []) == settings_in(file)


def test_file_may_start_with_a_byte_order_mark(tmp_path: Path) -> None:
    """The mark isn't part of the first key."""
    file = config(tmp_path, b'\xef\xbb\xbfowner = "ada"\n')

    assert ({"owner": "ada"}, []) == settings_in(file)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"owner = 'ada'\n", ({"owner": "ada"}, []), id="settings"),
        pytest.param(b"", "nothing could be read from this pipe", id="nothing"),
    ],
)
def test_file_may_be_a_pipe(content: bytes, expected: Any) -> None:
    """A pipe is read to its end; an empty pipe is a fault."""
    end, beginning = os.pipe()
    os.write(beginning, content)
    os.close(beginning)
    file = Path(f"/dev/fd/{end}")
    read = settings_in(file)
    os.close(end)

    if content:
        assert expected == read
    else:
        assert ({}, [f"--config {file}: {expected}"]) == read


def test_no_file_sets_nothing() -> None:
    """Without a file there are no settings and no faults."""
    assert ({}, []) == settings_in(None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("owner = ", "it isn't TOML", id="unfinished"),
        pytest.param('owner = "a"\nowner = "b"\n', "it isn't TOML", id="twice"),
        pytest.param('{"owner": "ada"}', "it isn't TOML", id="json"),
        pytest.param(b'owner = "\xff"', "it isn't TOML", id="not-utf-8"),
        pytest.param("owner = " + "[" * 50_000, "nested too deeply", id="too-deep"),
        pytest.param("a." * 5000 + "b = 1", "nested too deeply", id="too-deep-key"),
        pytest.param("#" * (MAX_BYTES + 1), "it is larger than 1 MiB", id="too-large"),
    ],
)
def test_invalid_toml_is_one_fault(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    """A file that can't be parsed is one fault, with flag and file."""
    file = config(tmp_path, content)
    values, (fault,) = settings_in(file)

    assert {} == values
    assert fault.startswith(f"--config {file}: ")
    assert words in fault


@pytest.mark.parametrize(
    "part", ["a", '"a.b"', "'a.b'", "''", '"\\"."'], ids=["bare", "1", "2", "3", "4"]
)
@pytest.mark.parametrize(
    "line",
    [
        pytest.param("{} = 1", id="key"),
        pytest.param("a = {{ {} = 1 }}", id="inline"),
        pytest.param("[{}]", id="table"),
        pytest.param("[[ {} ]]", id="tables"),
    ],
)
def test_number_of_parts_of_a_key_is_limited(
    tmp_path: Path, line: str, part: str
) -> None:
    """The parser's memory would grow with the square of the number."""
    most, more = (
        settings_in(config(tmp_path, line.format(" . ".join([*[part] * number, "b"]))))
        for number in (MAX_KEY_PARTS - 1, MAX_KEY_PARTS)
    )

    assert [] == most[1]
    assert ["a key has more than 32 parts"] == [each[-28:] for each in more[1]]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f'owner = "\\"{DOTS}"', id="string"),
        pytest.param(f"owner = '{DOTS}'", id="literal"),
        pytest.param(f'owner = """\n"{DOTS}\n"" \\""" {DOTS}"""', id="lines"),
        pytest.param(f"owner = '''\n'{DOTS}\n'' {DOTS}'''", id="literal-lines"),
        pytest.param(f"# {DOTS}\nowner = '' # \"{DOTS}", id="comment"),
    ],
)
def test_texts_may_have_many_dots(tmp_path: Path, text: str) -> None:
    """Only keys are limited."""
    values, faults = settings_in(config(tmp_path, text))

    assert (["owner"], []) == (list(values), faults)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('\\"' * 400_000, id="escaped"),
        pytest.param('"""' + '\\"""' * 200_000, id="escaped-in-lines"),
        pytest.param('a = """' + "\\" * 900_000, id="backslashes"),
        pytest.param("a" + " " * 900_000, id="spaces"),
        pytest.param("'" * 900_000, id="quotes"),
        pytest.param("a " * 400_000, id="words"),
    ],
)
@pytest.mark.timeout(10)
def test_odd_file_is_refused_in_time(tmp_path: Path, text: str) -> None:
    """The time doesn't grow with the square of its length."""
    _, (fault,) = settings_in(config(tmp_path, text))

    assert "it isn't TOML" in fault


def test_file_that_cannot_be_opened_is_one_fault(tmp_path: Path) -> None:
    """A missing file and a directory are reported as such."""
    missing = tmp_path / "missing.toml"

    assert ({}, [f"--config {missing}: No such file or directory"]) == settings_in(
        missing
    )
    assert ({}, [f"--config {tmp_path}: Is a directory"]) == settings_in(tmp_path)


TABLES = st.dictionaries(
    st.sampled_from("ab"),
    st.dictionaries(st.sampled_from("xyz"), st.integers(), min_size=1),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(TABLES, max_size=4))
def test_merge_overrides_each_setting(
    sources: list[dict[str, Any]],
) -> None:
    """The last source of each setting applies; no source is changed."""
    before = [dict(leaves(source)) for source in sources]
    merged: dict[str, Any] = {}
    for source in sources:
        merge(merged, source)

    expected: dict[str, Any] = {}
    for each in before:
        expected |= each
    assert expected == dict(leaves(merged))
    assert before == [dict(leaves(source)) for source in sources]


def test_invalid_settings_are_removed() -> None:
    """Each invalid value is reported with its origin, and removed."""
    values = {
        "owner": 5,
        "kettle": {"cups": 9, "whistle": "perhaps", "lid": "shut"},
        "teapot": {},
    }

    assert {
        "<teapot>: there is no such setting",
        "<owner>: write a text in quotes",
        "<kettle.cups>: write at most 8",
        "<kettle.whistle>: write true or false",
        "<kettle.lid>: there is no such setting",
    } == set(faults_of(values))
    assert {"kettle": {}} == values


@pytest.mark.parametrize(
    ("kettle", "fault"),
    [
        pytest.param("on", "<kettle>: write it as a table: [kettle]", id="text"),
        pytest.param(
            [{"cups": 2}], "<kettle>: write it as a table: [kettle]", id="list"
        ),
        pytest.param({"cups": 0}, "<kettle.cups>: write at least 1", id="too-few"),
        pytest.param({"cups": "x"}, "<kettle.cups>: write a whole number", id="word"),
        pytest.param({"cups": 1.5}, "<kettle.cups>: write a whole number", id="half"),
        pytest.param({"cups": 1.0}, "<kettle.cups>: write a whole number", id="float"),
        pytest.param({"cups": True}, "<kettle.cups>: write a whole number", id="bool"),
        pytest.param({"cups": []}, "<kettle.cups>: write a whole number", id="no-int"),
        pytest.param(
            {"cups": "5"},
            "<kettle.cups>: write a whole number, without quotes",
            id="quoted",
        ),
        pytest.param(
            {"cups": " "},
            "<kettle.cups>: it is empty; unset it, or write a whole number",
            id="blank",
        ),
        pytest.param(
            {"whistle": 1}, "<kettle.whistle>: write true or false", id="number"
        ),
        pytest.param(
            {"whistle": "true"},
            "<kettle.whistle>: write true or false, without quotes",
            id="quoted-bool",
        ),
        pytest.param(
            {"whistle": []}, "<kettle.whistle>: write true or false", id="no-bool"
        ),
    ],
)
def test_fault_describes_a_valid_value(kettle: Any, fault: str) -> None:
    """A fault describes a valid value, not the invalid one."""
    assert [fault] == faults_of({"kettle": kettle})


@pytest.mark.parametrize(
    "name",
    ["_env_file", "_cli_parse_args", "_secrets_dir", "__pydantic_self__", "self"],
)
def test_parameters_of_pydantic_are_unknown(name: str) -> None:
    """Names of pydantic's parameters are unknown, as any other."""
    values = {name: "/etc/hostname", "owner": "ada"}

    assert [f"<{name}>: there is no such setting"] == faults_of(values)
    assert {"owner": "ada"} == values


class Drawer(Kitchen):
    """A schema with a list."""

    spoons: list[Annotated[int, Field(strict=True)]] = []


def test_list_with_an_invalid_item_is_removed() -> None:
    """The fault of an item is that of its list, which is removed."""
    values = {"spoons": [1, "x"], "owner": "ada"}

    assert ["spoons: write a whole number"] == remove_invalid(Drawer, values, str)
    assert {"owner": "ada"} == values
