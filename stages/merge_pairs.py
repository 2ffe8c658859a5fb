"""Merges what reviewers exported into annotations as DA-2K has them, with their agreement.

`python -m stages.merge_pairs pairs anna.json ben.json` writes `annotations.json` and
`agreement.json` to the folder of the proposals, and `again.html` with what is not decided: pairs
that a reviewer added or too few have answered, and those without a majority.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dav2.annotation.agreement import agreement
from dav2.annotation.answers import annotations, judge, read_pairs, read_review
from dav2.data.da2k import Da2k
from dav2.data.files import write_json
from stages.program import run
from stages.propose_pairs import PROPOSALS
from stages.review_page import write_review_pages

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> None:
    """Writes annotations, agreement and a page of what is left.

    Args:
        arguments: Of the command line.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If one does not fit, or there are fewer reviewers than must answer.
    """
    options = _parse(arguments)
    path = options.folder / PROPOSALS
    pairs = read_pairs(path)
    reviews = [read_review(review) for review in options.reviews]
    reviewers = sorted({review.reviewer for review in reviews})
    if len(reviewers) < options.min_answers:
        raise ValueError(
            f"expected at least {options.min_answers} reviewers (--min-answers), "
            f"got {', '.join(reviewers)}"
        )
    judged = judge(pairs, reviews, min_answers=options.min_answers)
    found = agreement(judged)
    proposed = {entry["id"]: entry for entry in json.loads(path.read_bytes())["pairs"]}
    decided = [entry for entry in judged if entry.closer and entry.pair.pair_id in proposed]
    same = [entry.closer == proposed[entry.pair.pair_id]["proposed"] for entry in decided]
    found["as_proposed"] = round(sum(same) / len(same), 6) if same else None
    write_json(annotations(judged), options.folder / "annotations.json")
    write_json(found, options.folder / "agreement.json")
    _check(options.folder)
    left = [entry.pair.asked() for entry in judged if entry.closer is None]
    again = options.folder / "again.html"
    if left:
        write_review_pages(left, [], options.folder, name="again", pairs_per_page=len(left))
    else:
        again.unlink(missing_ok=True)
    counts = found["num_pairs"]
    logger.info(
        "%d pairs decided, %d without a majority, %d answered by too few; Fleiss' kappa %s",
        counts["decided"],
        counts["without_majority"],
        counts["unfinished"],
        "not defined" if found["fleiss_kappa"] is None else f"{found['fleiss_kappa']:.3f}",
    )
    for entry in judged:
        if entry.closer is None and entry.is_finished:
            logger.info("without a majority: %s %s", entry.pair.pair_id, dict(entry.answers))


def _check(folder: Path) -> None:
    """Reads what was written as an evaluation will: points inside images, pairs in each."""
    content = json.loads((folder / "annotations.json").read_bytes())
    if content:
        reader = Da2k(folder)
        for files in reader.list_samples("test"):
            reader.read(files)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.merge_pairs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="that stages.propose_pairs wrote")
    parser.add_argument("reviews", type=Path, nargs="+", help="exports of the page")
    parser.add_argument("--min-answers", type=int, default=2, help="reviewers of each pair (2)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    run("merge_pairs", main, sys.argv[1:])
