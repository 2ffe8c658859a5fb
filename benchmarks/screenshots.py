"""Takes the pictures of docs/report.md from a finished rebuild, with the distribution's Chromium.

`python -m benchmarks.screenshots reports/index.html docs/images` writes `report.png` (desktop),
`report-dark.png` (a slider, dark) and `report-phone.png` (parts of the page on a phone).
"""

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from dav2.data.files import written_whole

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_DESKTOP = (1280, 1480)
_PHONE = (390, 844)
_PHONE_PARTS = ("summary", "results", "pictures", "worst")
_GAP_PX = 20
_COLOURS = 256


def main(page: Path, folder: Path) -> None:
    """Writes the pictures.

    Args:
        page: The report.
        folder: Where they are written.

    Raises:
        FileNotFoundError: If there is no page, or no Chromium.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if not page.is_file():
        raise FileNotFoundError(f"{page}: expected a report, got nothing there")
    if chromium is None:
        raise FileNotFoundError("expected chromium on the path, got none")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        light = _picture(browser, page, _DESKTOP, "light", "")
        dark = _picture(browser, page, (_DESKTOP[0], 1100), "dark", "pictures")
        phone = [_picture(browser, page, _PHONE, "light", part) for part in _PHONE_PARTS]
        browser.close()
    _write(light, folder / "report.png")
    _write(dark, folder / "report-dark.png")
    _write(_beside(phone), folder / "report-phone.png")


def _picture(
    browser: "Browser",
    page: Path,
    size: tuple[int, int],
    scheme: Literal["dark", "light"],
    part: str,
) -> Image.Image:
    """Returns what a window of that size shows of a part of the page."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
    )
    tab = context.new_page()
    tab.goto(page.resolve().as_uri() + (f"#{part}" if part else ""))
    tab.wait_for_timeout(500)  # what stands beside the page arrives by message
    taken = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    context.close()
    return taken


def _beside(pictures: list[Image.Image]) -> Image.Image:
    width, height = pictures[0].size
    whole = Image.new("RGB", (len(pictures) * (width + _GAP_PX) - _GAP_PX, height), "white")
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place * (width + _GAP_PX), 0))
    return whole


def _write(picture: Image.Image, path: Path) -> None:
    with written_whole(path) as written:
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=_COLOURS).save(
            written, format="PNG", optimize=True
        )


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
