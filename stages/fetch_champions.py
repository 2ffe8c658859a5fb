"""Fetches what the registry's champions measured: for the report, and for `flows.rebuild`.

`stages.promote` copies the tables of what it promotes to `.work/champions`; `python -m
stages.fetch_champions` does it for all champions, where another machine promoted, and `python -m
stages.fetch_champions champions.json` writes their numbers alone.
"""

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from dav2.data.files import write_json, written_whole
from stages.champions import ABOUT, CHAMPIONS
from stages.evidence import TABLES
from stages.program import run
from stages.registry import CHAMPION, PREVIOUS, aliases, connect

_PREFIX = "metrics."

logger = logging.getLogger(__name__)


def main(measured: Path | None = None) -> None:
    """Copies the tables of every champion of the registry; or writes what they measured.

    Args:
        measured: File to write in place of the tables: `{model of params.yaml: {"version": ...,
            "metrics": {"<set>.<measure>": number}}}`.
    """
    client = connect()
    if measured is not None:
        write_json(measures(client), measured)
        return
    found = sorted(model.name for model in client.search_registered_models())
    for name in found:
        keep(client, name)
    logger.info("%s: %d registered models", CHAMPIONS, len(found))


def keep(client: Any, name: str) -> None:
    """Copies the tables of a registered model's champion and of the one before, if there are any.

    Args:
        client: From `stages.registry.connect`.
        name: Registered model.
    """
    current = aliases(client, name)
    with written_whole(CHAMPIONS / name) as folder:
        folder.mkdir()
        for alias in (CHAMPION, PREVIOUS):
            if alias not in current:
                continue
            version = client.get_model_version(name, current[alias])
            (folder / alias).mkdir()
            tables = Path(
                client.download_artifacts(
                    version.tags["evidence.run_id"], "evidence", str(folder / alias)
                )
            )
            for table in TABLES:
                shutil.move(tables / table, folder / alias / table)
            shutil.rmtree(tables)
            about = {key: version.tags.get(key, "") for key in ("model", "weights.md5")}
            about |= {"version": current[alias], "evaluation": version.tags["evaluation.hash"]}
            write_json(about, folder / alias / ABOUT)


def measures(client: Any) -> dict[str, dict[str, Any]]:
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
                "metrics": _numbers(tags),
            }
    return found


def _numbers(tags: dict[str, str]) -> dict[str, float]:
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
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("fetch_champions", main, *(Path(argument) for argument in sys.argv[1:]))
