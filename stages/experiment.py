"""Makes a parameters file of `experiments/` the current one (`make experiment E=...`).

A file is complete, or it names with `base` the file it changes and holds nothing but what differs.
A file with `variants` is an ablation: each variant changes what the file says once more.
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dav2.data.files import written_whole
from stages.params import PARAMS_FILE, read_document
from stages.sections import document_problems
from stages.sections import main as validate

_OWN = ("base", "remove", "ablation", "variants")
"""Keys that say how files go together, and are no parameters."""


def main(experiment: Path, params: Path = PARAMS_FILE, *, variant: str | None = None) -> None:
    """Validates an experiment as a whole and writes it to `params`, whole and complete.

    Args:
        experiment: Parameters file, complete or short.
        params: File to write.
        variant: Which one, of an ablation.

    Raises:
        SystemExit: If it does not fit; `params` is left as it was. One line a problem.
    """
    try:
        document = resolve(experiment, variant)
        if document == read_document(experiment):
            validate(experiment)
            with written_whole(params) as written:
                shutil.copyfile(experiment, written)  # with its comments
            return
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    write(document, params, name=" ".join([experiment.as_posix(), *filter(None, [variant])]))


def resolve(path: Path, variant: str | None = None, *, base: Path | None = None) -> dict[str, Any]:
    """Returns the complete parameters that an experiment means; not validated yet.

    Args:
        path: Parameters file, complete or short.
        variant: Which one, of an ablation.
        base: What the file changes, in place of what it names itself.

    Raises:
        FileNotFoundError: If the file or one it builds on is missing.
        ValueError: If one of them is no YAML, names itself as its base, removes what is not there,
            or if the variant is missing or unknown.
    """
    content = read_document(path)
    variants = content.get("variants", {})
    if variant not in (variants or {None: None}):
        choices = f"a variant of {', '.join(variants)}" if variants else "no variant"
        raise ValueError(f"{path}: expected {choices}, got {variant or 'no name'}")
    document = _over_base(path, content, base, [])
    if variant is None:
        return document
    return _changed(document, variants[variant] or {}, where=f"{path}: {variant}")


def write(document: Mapping[str, Any], params: Path, *, name: str) -> None:
    """Validates complete parameters and writes them.

    Args:
        document: From `resolve`.
        params: File to write.
        name: Of the experiment, for messages and for the file's first line.

    Raises:
        SystemExit: If they do not fit; `params` is left as it was. One line a problem.
    """
    if problems := document_problems(document, where=name):
        raise SystemExit("\n".join(problems))
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    with written_whole(params) as written, written.open("w", encoding="utf-8") as stream:
        stream.write(f"# {name}, written by stages.experiment: edit that file instead.\n")
        yaml.dump(dict(document), stream)


def _over_base(
    path: Path, content: Mapping[str, Any], base: Path | None, above: list[Path]
) -> dict[str, Any]:
    """Returns what a file means without its variants: itself, or its base changed."""
    if base is None and "base" not in content:
        return dict(content)
    below = base or path.parent / str(content["base"])
    above = [*above, path.resolve()]
    if below.resolve() in above:
        raise ValueError(f"{path}: expected a base that does not build on it, got {below}")
    whole = _over_base(below, read_document(below), None, above)
    return _changed(whole, content, where=str(path))


def _changed(
    document: Mapping[str, Any], changes: Mapping[str, Any], *, where: str
) -> dict[str, Any]:
    """Returns parameters without what `remove` names and with everything else put over them."""
    for name in changes.get("remove") or ():
        document = _without(document, str(name).split("."), where=f"{where}: remove {name}")
    return _merged(document, {key: changes[key] for key in changes if key not in _OWN})


def _without(document: Mapping[str, Any], keys: list[str], *, where: str) -> dict[str, Any]:
    first, *rest = keys
    if not isinstance(document, Mapping) or first not in document:
        raise ValueError(f"{where}: expected something of that name below, got none")
    kept = {key: value for key, value in document.items() if key != first or rest}
    return {**kept, first: _without(kept[first], rest, where=where)} if rest else kept


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns maps merged into each other; anything else is replaced."""
    both = [
        key for key in above if isinstance(above[key], dict) and isinstance(below.get(key), dict)
    ]
    return {**below, **above, **{key: _merged(below[key], above[key]) for key in both}}


if __name__ == "__main__":
    main(Path(sys.argv[1]), variant=next(iter(sys.argv[2:]), None))
