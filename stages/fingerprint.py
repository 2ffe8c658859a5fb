"""Names a stage's work by what decides its bytes: parameters, inputs and code."""

import ast
import hashlib
import json
from collections.abc import Collection, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.imports import closure

WORK = Path(".work")


def fingerprint(*parts: Any) -> str:
    """Returns 16 hexadecimal digits of a hash over JSON-able parts."""
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_fingerprint(
    modules: Iterable[str], root: Path = Path(), *, without: Collection[str] = ()
) -> str:
    """Returns a fingerprint of modules and of all they import from this project.

    Hashes syntax trees without docstrings: neither a comment nor a reformatting changes it.

    Args:
        modules: Dotted names, as `dav2.labeling.labeler`.
        root: Folder that holds the packages.
        without: Modules that decide nothing; they are left out, with what they alone import.
    """
    found = closure(modules, root, without=without)
    return fingerprint([[name, _tree(path)] for name, path in found.items()])


def library_versions(*distributions: str) -> dict[str, str]:
    """Returns the installed versions of libraries that decide bytes, without importing them.

    Args:
        distributions: Names as in `requirements.lock`, as `mitsuba-oidn`.

    Raises:
        PackageNotFoundError: If one is not installed.
    """
    return {name: version(name) for name in distributions}


def work_folder(stage: str, mark: str) -> Path:
    """Returns the folder of a stage's unfinished work, `.work/<stage>/<fingerprint>`, created."""
    folder = WORK / stage / mark
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _tree(path: Path) -> str:
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # A string that stands as a statement of its own documents and decides nothing.
            node.body = [entry for entry in node.body if not _is_text(entry)] or [ast.Pass()]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
