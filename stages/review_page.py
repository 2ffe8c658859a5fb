"""Writes the page on which people answer pairs of points: one HTML file, no network.

It shows no proposed answer. Answers are kept by the browser (localStorage) and exported as JSON,
which `python -m stages.merge_pairs` reads.
"""

import base64
import hashlib
import json
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dav2.annotation.answers import FORMAT
from dav2.data.files import written_whole

_TEMPLATES = Path(__file__).parent / "templates"


def write_review_pages(
    pairs: Sequence[Mapping[str, Any]],
    images: Sequence[str],
    folder: Path,
    *,
    name: str = "review",
    pairs_per_page: int,
    is_embedded: bool = False,
) -> list[Path]:
    """Writes as many pages as the pairs need; images without pairs are on the last one.

    Args:
        pairs: What reviewers may see of each: `id`, `image`, `point1`, `point2`.
        images: All images, `images/<scenario>/<file>` below `folder`: pairs can be added to each.
        folder: That of the pages.
        name: Of the pages, which get a number if they are several.
        pairs_per_page: Most pairs on a page.
        is_embedded: Whether images stand in the page; else it refers to the files beside it.

    Returns:
        The pages.
    """
    ordered = sorted(pairs, key=lambda pair: pair["id"])
    batches = [
        ordered[first : first + pairs_per_page] for first in range(0, len(ordered), pairs_per_page)
    ] or [[]]
    asked = {pair["image"] for pair in ordered}
    unasked = [image for image in images if image not in asked]
    paths = []
    for number, batch in enumerate(batches, start=1):
        shown = list(dict.fromkeys(pair["image"] for pair in batch))
        if number == len(batches):
            shown += unasked
        stem = name if len(batches) == 1 else f"{name}-{number:03d}"
        path = folder / f"{stem}.html"
        with written_whole(path) as written:
            text = _page(batch, shown, folder, title=stem, is_embedded=is_embedded)
            written.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _page(
    pairs: Sequence[Mapping[str, Any]],
    images: Sequence[str],
    folder: Path,
    *,
    title: str,
    is_embedded: bool,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    digest = hashlib.sha256(json.dumps([list(map(dict, pairs)), images]).encode()).hexdigest()
    data = {
        "format": FORMAT,
        "batch": digest[:16],
        "pairs": list(map(dict, pairs)),
        "images": {image: _address(folder, image, is_embedded) for image in images},
    }
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("review.html.jinja").render(
        title=title,
        # A script element ends at "</", whatever its type.
        data=json.dumps(data).replace("<", "\\u003c"),
        style=(_TEMPLATES / "review.css").read_text(encoding="utf-8"),
        script=(_TEMPLATES / "review.js").read_text(encoding="utf-8"),
    )


def _address(folder: Path, image: str, is_embedded: bool) -> str:
    if not is_embedded:
        from urllib.parse import quote

        return quote(image)
    kind = mimetypes.guess_type(image)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode((folder / image).read_bytes()).decode()}"
