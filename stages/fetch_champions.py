"""Copies the tables of the registry's champions to `.work/champions`, for the report.

`stages.promote` does it for what it promotes; `python -m stages.fetch_champions` does it for all,
where another machine promoted.
"""

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

logger = logging.getLogger(__name__)


def main() -> None:
    """Copies the tables of every champion of the registry."""
    client = connect()
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


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run("fetch_champions", main, *sys.argv[1:])
