"""Removes what stages left for sources and models that params.yaml no longer names.

DVC depends on whole folders where lists of names cannot stand in dvc.yaml. What a withdrawn source
or model left in such a folder would reach the results, and give dvc.lock other hashes than a fresh
clone has; so the stage that depends on the folder removes it first.
"""

import logging
import shutil
from collections.abc import Collection
from pathlib import Path

logger = logging.getLogger(__name__)


def remove_withdrawn(parent: Path, kept: Collection[str]) -> None:
    """Deletes the folders in `parent` that are not named in `kept`, and says so."""
    for folder in sorted(parent.iterdir()) if parent.is_dir() else []:
        if folder.is_dir() and folder.name not in kept and not folder.name.startswith("."):
            logger.info("%s: removed, params.yaml names it no more", folder)
            shutil.rmtree(folder)
