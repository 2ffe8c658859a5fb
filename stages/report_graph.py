"""Reads the stages and what they need from dvc.yaml, and places them for drawing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


@dataclass(frozen=True, slots=True)
class Node:
    """One stage; a `foreach` or `matrix` is one node."""

    name: str
    says: str
    note: str
    """What it is repeated over; empty for a single stage."""
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class Graph:
    """Stages and, for each, what it needs directly."""

    nodes: list[Node]
    edges: list[tuple[str, str]]


def read_graph(parameters: Mapping[str, Any], path: Path = Path("dvc.yaml")) -> Graph:
    """Returns the graph of a pipeline, without edges that follow from others.

    Paths with variables are compared as patterns, so a stage needs at most what the file lists
    before it. Stages that are repeated over an empty list are left out.

    Args:
        parameters: Content of params.yaml.
        path: The pipeline.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a pipeline, got nothing there")
    written = YAML(typ="safe").load(path)["stages"]
    stages = {name: stage for name, stage in written.items() if _occurs(stage, parameters)}
    order = list(stages)
    needs = {name: _needs(stages[name], stages, order[:i]) for i, name in enumerate(order)}
    edges = [
        (need, name)
        for name in stages
        for need in needs[name]
        if not any(need in _all_needs(other, needs) for other in needs[name])
    ]
    columns: dict[str, int] = {}
    for name in stages:
        latest = max((columns.get(need, 0) for need in needs[name]), default=-1)
        # A gate stands below what it judges.
        columns[name] = latest if name.startswith("gate_") else latest + 1
    taken: dict[int, int] = {}
    nodes = []
    for name, stage in stages.items():
        column = columns[name]
        row = taken.get(column, 0)
        taken[column] = row + 1
        body = stage.get("do", stage)
        nodes.append(Node(name, body.get("desc", name), _note(stage), column, row))
    return Graph(nodes, edges)


def _occurs(stage: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    for over in (*stage.get("matrix", {}).values(), stage.get("foreach")):
        if isinstance(over, str):
            value: Any = parameters
            for key in over.strip("${}").split("."):
                value = value[key]
            if not value:
                return False
    return True


def _needs(stage: Mapping[str, Any], stages: Mapping[str, Any], before: list[str]) -> list[str]:
    deps = [_pattern(dep) for dep in stage.get("do", stage).get("deps") or []]
    return [
        other
        for other in before
        for outs in [_outputs(stages[other].get("do", stages[other]))]
        if any(_meet(dep, out) for dep in deps for out in outs)
    ]


def _outputs(stage: Mapping[str, Any]) -> list[str]:
    entries = [*(stage.get("outs") or []), *(stage.get("metrics") or [])]
    return [_pattern(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]


def _pattern(path: str) -> str:
    return re.sub(r"\$\{[^}]*\}", "*", path)


def _meet(dep: str, out: str) -> bool:
    """Returns whether a dependency and an output, both patterns, may be or hold the same file."""
    if dep == "*":  # a source's listing: of the built-in sets a rendered folder
        return out.startswith("data/raw/")
    shorter, longer = sorted((dep.split("/"), out.split("/")), key=len)
    pairs = zip(shorter, longer, strict=False)
    return all(fnmatchcase(one, other) or fnmatchcase(other, one) for one, other in pairs)


def _all_needs(name: str, needs: Mapping[str, list[str]]) -> set[str]:
    found = set(needs[name])
    for need in needs[name]:
        found |= _all_needs(need, needs)
    return found


def _note(stage: Mapping[str, Any]) -> str:
    if "matrix" in stage:
        return " by ".join(stage["matrix"])
    items = stage.get("foreach")
    if items is None:
        return ""
    if isinstance(items, str):
        return "each " + items.strip("${}").split(".")[-1].removesuffix("s")
    return f"{len(items)} sets"
