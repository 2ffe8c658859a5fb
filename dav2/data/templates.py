"""Names of files as templates: `{scene}/rgb/{frame}.png` finds them and makes them."""

import re
from collections.abc import Mapping

from dav2.data.option_values import check_text

_ANY_FOLDERS = "path"


class NameTemplate:
    """A path with placeholders.

    `{name}` stands for one or more characters other than `/`, `{path}` also for those. Where a
    placeholder stands twice, both must be the same.
    """

    def __init__(self, text: str, *, name: str) -> None:
        """Takes a template apart.

        Args:
            text: The template, POSIX and relative to the root.
            name: The option that holds it, for messages.

        Raises:
            ValueError: If it is absolute or climbs, has no placeholder, or stray braces.
        """
        check_text(text, name=name)
        self._text = text
        self._parts = re.split(r"\{([a-z_]+)\}", text)  # literals at even places
        self.placeholders = frozenset(self._parts[1::2])
        literals = "".join(self._parts[::2])
        if not self.placeholders or "{" in literals or "}" in literals:
            raise ValueError(
                f"{name}: expected a path with placeholders in braces, as {{scene}}/{{frame}}.png, "
                f"got {text!r}"
            )
        if text.startswith("/") or ".." in text.split("/"):
            raise ValueError(f"{name}: expected a path relative to the root, got {text!r}")
        self._pattern = re.compile(self._regex(), re.DOTALL)

    def __str__(self) -> str:
        return self._text

    def match(self, path: str) -> dict[str, str] | None:
        """Returns what the placeholders stand for in a path, None if it does not fit."""
        found = self._pattern.fullmatch(path)
        return found.groupdict() if found else None

    def fill(self, values: Mapping[str, str]) -> str:
        """Returns the path in which placeholders stand for `values`."""
        pieces = [values[part] if place % 2 else part for place, part in enumerate(self._parts)]
        return "".join(pieces)

    def _regex(self) -> str:
        pieces = []
        seen: set[str] = set()
        for place, part in enumerate(self._parts):
            if place % 2 == 0:
                pieces.append(re.escape(part))
            elif part in seen:
                pieces.append(f"(?P={part})")
            else:
                seen.add(part)
                pieces.append(f"(?P<{part}>{'.+' if part == _ANY_FOLDERS else '[^/]+'})")
        return "".join(pieces)
