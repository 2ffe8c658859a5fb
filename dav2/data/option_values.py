"""Checks of the values of readers' options: they come from YAML, whatever was written there."""

import math


def check_number(value: object, *, name: str, above: int | float | None = None) -> None:
    """Refuses what is no finite number, or not above a limit.

    Raises:
        ValueError: Names the option, what was expected and what it got.
    """
    limit = "" if above is None else f" above {above:g}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or (above is not None and value <= above):  # type: ignore[arg-type,operator]
        raise ValueError(f"{name}: expected a number{limit}, got {value!r}")


def check_numbers(value: object, *, name: str, count: int | None = None) -> None:
    """Refuses what is no list of finite numbers, or one of another length; raises as above."""
    length = "" if count is None else f"{count} "
    if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
        raise ValueError(f"{name}: expected a list of {length}numbers, got {value!r}")
    for number in value:
        check_number(number, name=name)


def check_flag(value: object, *, name: str) -> None:
    """Refuses what is neither true nor false; raises as above."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false, got {value!r}")


def check_text(value: object, *, name: str) -> None:
    """Refuses what is no text, or an empty one; raises as above."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: expected text, got {value!r}")


def check_texts(value: object, *, name: str) -> None:
    """Refuses what is no list of texts; raises as above."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name}: expected a list of texts, got {value!r}")
    for text in value:
        check_text(text, name=name)
