"""Compares what was evaluated here with the champions whose tables are kept in `.work/champions`.

The registry knows who is champion; the copy (`stages.fetch_champions`) is for the report, which
shows the comparison beside its page.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from stages.digests import locked_outputs
from stages.evidence import check_evaluation
from stages.params import load
from stages.promotion import POLICY, Finding, PromotionParams, compare

CHAMPIONS = Path(".work/champions")
"""A folder a registered model with a folder an alias: the tables of its evaluation, and `ABOUT`."""
ABOUT = "version.json"
CHAMPION, PREVIOUS = "champion", "previous"


@dataclass(frozen=True, slots=True)
class Standing:
    """A model of this rebuild against a champion of its family."""

    name: str
    """Registered model."""
    version: str
    alias: str
    """`champion`, or `previous` where the model is champion itself."""
    model: str
    """Its name in params.yaml."""
    is_champion: bool
    doubt: str
    """Why the numbers may not be comparable; empty if nothing speaks against it."""
    findings: list[Finding]


def standings(evaluation: Path) -> list[Standing]:
    """Returns how the models evaluated here stand against the champions that are kept.

    By the rules of mlflow/promotion.yaml; of each family the model that the champion is called.

    Args:
        evaluation: Folder with a folder a model.

    Raises:
        ValueError: If the policy does not fit.
    """
    if not CHAMPIONS.is_dir() or not POLICY.is_file():
        return []
    policy = load("promotion", PromotionParams, POLICY)
    found = []
    for folder in sorted(CHAMPIONS.iterdir()):
        standing = _standing(folder, evaluation, policy)
        if standing is not None:
            found.append(standing)
    return found


def _standing(folder: Path, evaluation: Path, policy: PromotionParams) -> Standing | None:
    kept = {
        alias: json.loads((folder / alias / ABOUT).read_bytes())
        for alias in (CHAMPION, PREVIOUS)
        if (folder / alias / ABOUT).is_file()
    }
    if CHAMPION not in kept:
        return None
    model = kept[CHAMPION]["model"]
    if not (evaluation / model / "metrics.json").is_file():
        return None
    locked = locked_outputs().get(f"models/{model}.safetensors", {})
    is_champion = bool(locked) and locked.get("md5") == kept[CHAMPION]["weights.md5"]
    alias = PREVIOUS if is_champion and PREVIOUS in kept else CHAMPION
    return Standing(
        name=folder.name,
        version=kept[alias]["version"],
        alias=alias,
        model=model,
        is_champion=is_champion,
        doubt=_doubt(model, kept[alias]["evaluation"]),
        findings=compare(
            policy, folder.name, challenger=evaluation / model, champion=folder / alias
        ),
    )


def _doubt(model: str, expected: str) -> str:
    try:
        check_evaluation(model, expected)
    except (FileNotFoundError, ValueError):
        return (
            "It was evaluated by other code, protocol or images, or dvc.lock does not tell: "
            "a promotion would evaluate it anew."
        )
    return ""
