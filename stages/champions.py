"""Writes what the champions of the registry measured, for comparison: `flows.rebuild` shows it.

`python -m stages.champions champions.json`
"""

import json
import sys
from pathlib import Path
from typing import Any

from dav2.data.files import written_whole
from stages.program import run as run_program
from stages.registry import CHAMPION, aliases, connect

_PREFIX = "metrics."


def main(output: Path) -> None:
    """Writes `{model of params.yaml: {"version": ..., "metrics": {"<set>.<measure>": number}}}`."""
    content = json.dumps(champions(connect()), indent=1, sort_keys=True) + "\n"
    with written_whole(output) as path:
        path.write_text(content, encoding="utf-8")


def champions(client: Any) -> dict[str, dict[str, Any]]:
    """Returns version and measures of every champion, by the model of params.yaml that it is.

    Args:
        client: From `stages.registry.connect`.
    """
    found = {}
    for family in client.search_registered_models():
        number = aliases(client, family.name).get(CHAMPION)
        if number is not None:
            tags = client.get_model_version(family.name, number).tags
            found[tags["model"]] = {
                "version": f"{family.name}/{number}",
                "metrics": measures(tags),
            }
    return found


def measures(tags: dict[str, str]) -> dict[str, float]:
    """Returns the numbers in a version's tags, named as in `metrics.json`."""
    sets = {
        key.removeprefix(_PREFIX).replace("/", "."): json.loads(value)
        for key, value in tags.items()
        if key.startswith(_PREFIX)
    }
    return {
        f"{name}.{measure}": value
        for name, numbers in sorted(sets.items())
        for measure, value in sorted(numbers.items())
        if isinstance(value, int | float)
    }


if __name__ == "__main__":
    run_program("champions", main, Path(sys.argv[1]))
