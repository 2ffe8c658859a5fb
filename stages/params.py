"""Reads a stage's section of params.yaml into its parameter class."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PARAMS_FILE = Path("params.yaml")


class Params(BaseModel):
    """Base of every parameter class: immutable, no unknown keys, no coercion, finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


P = TypeVar("P", bound=Params)


def load(section: str, model: type[P], path: Path = PARAMS_FILE) -> P:
    """Returns one section of a parameters file, validated.

    Args:
        section: Key of the section; a dot leads into a nested one, as in `render.studio`.
        model: Parameter class of the stage.
        path: Parameters file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the section is missing or does not fit `model`: one line that names the
            file, the parameter, what was expected and what stands there.
    """
    content: Any = read_document(path)
    for key in section.split("."):
        if not isinstance(content, dict) or key not in content:
            raise ValueError(f"{path}: expected a section {section!r}, got none")
        content = content[key]
    return validate(content, model, where=f"{path}: {section}")


def validate(content: Any, model: type[P], *, where: str) -> P:
    """Returns `content` as `model`; raises a one-line `ValueError` that starts with `where`."""
    try:
        # Through JSON, so that a YAML list may fill a strict tuple.
        text = json.dumps(content)
    except (TypeError, ValueError) as error:  # a date, binary data, a list that holds itself
        raise ValueError(
            f"{where}: expected numbers, text (dates in quotes), lists and maps, got: {error}"
        ) from None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(
            "; ".join(_describe(where, problem) for problem in error.errors())
        ) from None


def read_document(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Returns a whole parameters file as plain values, read as DVC reads it (YAML 1.2).

    Args:
        path: Parameters file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not YAML, or not a map of sections (empty, say).
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a parameters file, got nothing there")
    try:
        content = YAML(typ="safe").load(path)
    except YAMLError as error:
        raise ValueError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        got = "nothing" if content is None else type(content).__name__
        raise ValueError(f"{path}: expected a map of sections, got {got}")
    return content


def _describe(where: str, problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    got = "" if problem["type"] == "missing" else f", got {problem['input']!r}"
    return f"{where}.{name}: {problem['msg']}{got}"
