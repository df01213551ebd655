"""Prints which packages of the gateway import which, in the order of the layers.

The layers are those of an import contract in pyproject.toml. Ends with 1 if a package
imports one that its layer doesn't allow, or if packages import each other in a cycle.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "healthomics_gateway"
CONTRACT = "Each package imports only from the packages below it"


class Layer(NamedTuple):
    """The layer of a package."""

    number: int  # counted from the top
    is_open: bool  # whether its packages may import each other


def read_layers() -> dict[str, Layer]:
    """Return the layer of each package, from the top down."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["name"] == CONTRACT)
    return {
        name: Layer(number, is_open=" | " not in layer)
        for number, layer in enumerate(layers)
        for name in re.split(r" [|:] ", layer)
    }


def read_imports(packages: Sequence[str]) -> dict[str, list[str]]:
    """Return the packages that each package imports, both in the order given."""
    graph = grimp.build_graph(PACKAGE)
    for each in packages:
        graph.squash_module(f"{PACKAGE}.{each}")
    return {
        importer: [
            each
            for each in packages
            if each != importer
            and graph.direct_import_exists(
                importer=f"{PACKAGE}.{importer}", imported=f"{PACKAGE}.{each}"
            )
        ]
        for importer in packages
    }


def faults_of(
    imports: Mapping[str, Sequence[str]], layers: Mapping[str, Layer]
) -> list[str]:
    """Return a sentence for each import that isn't allowed, and for the first cycle."""
    faults = [
        f"{importer} imports {each}, which isn't below it"
        for importer, imported in imports.items()
        for each in imported
        if layers[each].number < layers[importer].number
        or (layers[each] == layers[importer] and not layers[importer].is_open)
    ]
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        faults.append(f"cycle: {' imports '.join(reversed(error.args[1]))}")
    return faults


def mermaid(imports: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a flowchart, without the imports that others imply."""
    reached: dict[str, set[str]] = {}
    for importer in TopologicalSorter(imports).static_order():
        reached[importer] = set(imports[importer]).union(
            *(reached[each] for each in imports[importer])
        )
    return ["flowchart TD"] + [
        f"    {importer} --> {each}"
        for importer, imported in imports.items()
        for each in imported
        if not any(each in reached[other] for other in imported)
    ]


def main() -> int:
    """Print the graph and return the exit code."""
    parser = argparse.ArgumentParser(prog="package-graph", description=__doc__)
    parser.add_argument(
        "--mermaid",
        action="store_true",
        help="print a Mermaid flowchart, without the imports that others imply",
    )
    options = parser.parse_args()
    layers = read_layers()
    imports = read_imports(list(layers))
    if faults := faults_of(imports, layers):
        say("\n".join(faults))
        return 1
    if options.mermaid:
        say("\n".join(mermaid(imports)))
        return 0
    for name, layer in layers.items():
        say(f"{layer.number + 1} {name:12} {', '.join(imports[name]) or '-'}")
    say("each import is allowed; there is no cycle")
    return 0


def say(text: str) -> None:
    """Print a text."""
    print(text)  # noqa: T201  # output of a program


if __name__ == "__main__":
    sys.exit(main())
