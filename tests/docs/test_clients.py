"""The guide's code blocks are the clients' code, and the clients' files are short."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"
GUIDE = ROOT / "docs/guide"
PAGE = "".join(
    path.read_text()
    for path in (GUIDE / "clients.md", *sorted((GUIDE / "clients").glob("*.md")))
)
BROWSERS = (GUIDE / "browsers.md").read_text()
SOURCES = {  # the files that the page shows whole, by the language of a code block
    "go": ["go/client/client.go", "go/client/watch.go"],
    "java": [
        *("java/src/main/java/Client.java", "java/src/main/java/Watch.java"),
        *("java/src/main/java/TokenFile.java", "java/src/main/java/Example.java"),
        "java/src/main/java/Numbers.java",
    ],
    "json": ["service-config.json"],
    "python": ["python/client.py", "python/watch.py"],
    "rust": ["rust/src/client.rs", "rust/src/token.rs", "rust/src/watch.rs"],
    "typescript": [
        *("grpc-js/src/client.ts", "grpc-js/src/watch.ts", "grpc-js/src/example.ts"),
        *(
            "connect-node/src/client.ts",
            "connect-node/src/watch.ts",
            "connect-node/src/example.ts",
        ),
    ],
}
PARTLY = {  # the files of which it shows parts
    "go": ["go/main.go"],
    "python": ["python/main.py"],
    "xml": ["java/pom.xml"],
    "rust": [
        "rust/build.rs",
        "rust/src/lib.rs",
        "rust/src/main.rs",
        "rust/src/bin/example.rs",
    ],
    "toml": ["rust/Cargo.toml"],
}
FILES = [
    *(name for names in SOURCES.values() for name in names),
    *("web/src/runs.ts", "web/src/main.ts", "web/proxy/main.go", "web/proxy/hosts.go"),
]
READMES = ["connect-node", "go", "grpc-js", "java", "python", "rust", "web"]


def blocks(language: str, page: str = PAGE) -> list[str]:
    """Return a page's code blocks of a language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page)


@pytest.mark.parametrize("name", [name for names in SOURCES.values() for name in names])
def test_page_shows_a_whole_file(name: str) -> None:
    """The code blocks of the page are all parts of a file."""
    language = next(key for key, names in SOURCES.items() if name in names)
    rest = (CLIENTS / name).read_text()
    for block in blocks(language):
        rest = rest.replace(block, "", 1)
    assert not rest.strip()


@pytest.mark.parametrize("language", SOURCES | PARTLY)
def test_page_shows_only_code_of_clients(language: str) -> None:
    """Each code block is a part of a client's file."""
    names = SOURCES.get(language, []) + PARTLY.get(language, [])
    code = [(CLIENTS / name).read_text() for name in names]
    found = blocks(language)
    assert found
    for block in found:
        assert any(block in text for text in code), block


@pytest.mark.parametrize(
    ("language", "name"),
    [("typescript", "web/src/main.ts"), ("go", "web/proxy/main.go")],
)
def test_page_on_browsers_shows_parts_of_the_files(language: str, name: str) -> None:
    """Its code blocks are parts of the page and of the proxy."""
    found = blocks(language, BROWSERS)
    assert found
    assert all(block in (CLIENTS / name).read_text() for block in found)


def test_versions_in_commands_are_those_of_the_clients() -> None:
    """Commands with NAME@VERSION install what the clients are built with."""
    readmes = [(CLIENTS / name / "README.md").read_text() for name in READMES]
    text = "".join([PAGE, BROWSERS, *readmes])
    found = set(re.findall(r"([\w./@-]+)@v?(\d+\.\d+\.\d+)", text))
    known = {("github.com/bufbuild/buf/cmd/buf", pinned("buf-bin"))}
    for name in ("grpc-js", "connect-node"):
        package = json.loads((CLIENTS / name / "package.json").read_text())
        known |= {*package["dependencies"].items(), *package["devDependencies"].items()}
    assert found
    assert found <= known


def pinned(name: str) -> str:
    """Return the version of a package in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text()
    match = re.search(rf"(?m)^{name}==(\S+)$", text)
    assert match
    return match[1]


@pytest.mark.parametrize("name", FILES)
def test_client_is_short(name: str) -> None:
    """A file that readers copy has less than 100 lines."""
    assert len((CLIENTS / name).read_text().splitlines()) < 100


@pytest.mark.parametrize("name", READMES)
def test_readme_is_short(name: str) -> None:
    """The README of a client has at most 20 lines."""
    assert len((CLIENTS / name / "README.md").read_text().splitlines()) <= 20
