"""The import graph of the project's own modules, read from their syntax."""

import ast
from collections.abc import Collection, Iterable
from pathlib import Path

PACKAGES = ("dav2", "stages")


def closure(
    modules: Iterable[str], root: Path = Path(), *, without: Collection[str] = ()
) -> dict[str, Path]:
    """Returns modules and all they import from this project, sorted, with their files.

    Imports inside functions count too. Those below `if __name__ == "__main__":` count in the named
    modules only: in a module that is imported that block never runs. The packages' own `__init__`
    hold a docstring only and are left out. A dataset's reader counts only where it is named itself:
    `dav2.data.open` imports each reader in a branch of its own, and manifests carry the fingerprint
    of the reader they came from.

    Args:
        modules: Dotted names, as `stages.report`.
        root: Folder that holds the packages.
        without: Modules to leave out, with what they alone import.

    Raises:
        FileNotFoundError: If a module has no file.
    """
    found: dict[str, Path] = {}
    named = frozenset(modules)
    waiting = list(named)
    while waiting:
        name = waiting.pop()
        if name in found or name in without:
            continue
        found[name] = _file(name, root)
        branches = name == "dav2.data.open"
        waiting.extend(imported(found[name], root, top_level_only=branches, is_run=name in named))
    return dict(sorted(found.items()))


def imported(
    path: Path, root: Path = Path(), *, top_level_only: bool = False, is_run: bool = True
) -> set[str]:
    """Returns the dotted names of the project's modules that a file imports.

    Args:
        path: The file.
        root: Folder that holds the packages.
        top_level_only: Leaves out what is imported inside functions and blocks.
        is_run: Whether the file is run as a program, and not only imported.
    """
    tree = ast.parse(path.read_bytes())
    statements = [node for node in tree.body if is_run or not _is_program(node)]
    names: set[str] = set()
    nodes = statements if top_level_only else [n for s in statements for n in ast.walk(s)]
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            if _is_module(node.module, root):
                names.add(node.module)
            else:
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _is_program(node: ast.stmt) -> bool:
    """Returns whether a statement is `if __name__ == "__main__":`, without an else."""
    return (
        isinstance(node, ast.If)
        and not node.orelse
        and ast.unparse(node.test) == "__name__ == '__main__'"
    )


def _is_ours(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def _is_module(name: str, root: Path) -> bool:
    return (root / Path(*name.split("."))).with_suffix(".py").is_file()


def _file(name: str, root: Path) -> Path:
    path = (root / Path(*name.split("."))).with_suffix(".py")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the module {name}, got no file")
    return path
